//! Results from caches elsewhere: the config when something is not known here, layers when a result hits.

use super::format::{CONFIG, CONFIG_LIMIT, Table};
use super::mounts;
use super::place::{CacheFrom, Place};
use crate::build::{BuildEvent, BuildProgress};
use crate::images::{RegistryOptions, TransferEvent};
use crate::{Engine, Error, ErrorKind, Result};
use builder::ports::RemoteCache;
use oci::{ChainId, Descriptor, Digest, ImageConfig, MAX_CONFIG_BYTES, ManifestOrIndex, Platform, Raw};
use registry::transport::read_blob;
use registry::trust::Gate;
use registry::{Source, Which};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use storage::ingest::{LayerReader, LayerSource, StagedLayer, commit_chain, ingest_layer};
use storage::{Lease, Store};

/// Layers that are fetched at the same time.
const PARALLEL: usize = 6;

/// All caches of a build that are read.
pub(in crate::build) struct Imports<'a> {
    engine: &'a Engine,
    store: &'a Store,
    lease: &'a Lease,
    options: &'a RegistryOptions,
    platform: Platform,
    progress: BuildProgress<'a>,
    caches: Vec<(CacheFrom, OnceLock<Option<Loaded>>)>,
    /// One fetch at a time: results share layers.
    fetching: Mutex<()>,
}

/// A cache whose config was read.
pub(super) struct Loaded {
    pub(super) source: Box<dyn Source>,
    pub(super) table: Table,
}

impl<'a> Imports<'a> {
    pub(in crate::build) fn new(
        engine: &'a Engine,
        lease: &'a Lease,
        caches: &[CacheFrom],
        options: &'a RegistryOptions,
        platform: &Platform,
        progress: BuildProgress<'a>,
    ) -> Result<Self> {
        Ok(Self {
            engine,
            store: engine.store()?,
            lease,
            options,
            platform: platform.clone(),
            progress,
            caches: caches.iter().map(|from| (from.clone(), OnceLock::new())).collect(),
            fetching: Mutex::default(),
        })
    }

    fn warn(&self, text: String) {
        (self.progress)(BuildEvent::Warning { text });
    }

    /// The caches whose configs can be read; each is tried once.
    fn loaded(&self) -> impl Iterator<Item = &Loaded> {
        self.caches.iter().filter_map(|(from, cell)| {
            let load = || match self.load(from) {
                Ok(loaded) => loaded,
                Err(error) => {
                    // a cache that is not there yet is how every cache begins
                    self.warn(format!(
                        "cache {}: {}",
                        from.place.describe(),
                        builder::diagnostic::with_causes(&error)
                    ));
                    None
                }
            };
            cell.get_or_init(load).as_ref()
        })
    }

    fn load(&self, from: &CacheFrom) -> Result<Option<Loaded>> {
        let gate = self.engine.gate(self.options)?;
        let read = |place: &Place| match place.source(self.engine, self.options)? {
            Some(source) => Loaded::read(source, &self.platform, &gate).map(Some),
            None => Ok(None),
        };
        match (read(&from.place), &from.otherwise) {
            (Err(error), Some(place)) if error.kind() == ErrorKind::NotFound => {
                // the name's first meaning is the one to tell of
                read(place).map_err(|_| error)
            }
            (result, _) => result,
        }
    }

    /// The cache that has the result of a key.
    pub(super) fn known(&self, key: &Digest) -> Option<&Loaded> {
        self.loaded().find(|loaded| loaded.table.has(key))
    }

    /// Brings the layers of a result; `None` where its base is not here and not in the cache.
    fn fetch_from(&self, loaded: &Loaded, key: &Digest) -> Result<Option<ChainId>> {
        let failed = || crate::error::storage("import a result of the build cache");
        let Some(positions) = loaded.table.result(key) else { return Ok(None) };
        let mut known = positions.len();
        while known > 0 {
            let chain = &loaded.table.chains[positions[known - 1]];
            if self.store.layers().hold(self.lease, chain).map_err(failed())?.is_some() {
                break;
            }
            known -= 1;
        }
        let mut wanted: Vec<(usize, &Descriptor)> = Vec::new();
        for position in &positions[known..] {
            match &loaded.table.layers[*position].blob {
                Some(blob) => wanted.push((*position, blob)),
                None => return Ok(None),
            }
        }
        let staged = self.ingest(loaded, &wanted)?;
        let base = known.checked_sub(1).map(|below| &loaded.table.chains[positions[below]]);
        let made = commit_chain(self.store, self.lease, base, staged).map_err(failed())?;
        debug_assert_eq!(made.len(), wanted.len());
        Ok(positions.last().map(|top| loaded.table.chains[*top].clone()))
    }

    fn ingest(&self, loaded: &Loaded, wanted: &[(usize, &Descriptor)]) -> Result<Vec<StagedLayer>> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let results: Vec<OnceLock<storage::Result<StagedLayer>>> =
            wanted.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some((position, blob)) = wanted.get(at) else { return };
                // each position is taken once
                let _ = results[at].set(self.ingest_one(loaded, *position, blob));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..wanted.len().min(PARALLEL) {
                scope.spawn(work);
            }
        });
        let mut staged = Vec::new();
        for result in results {
            let layer = result.into_inner().ok_or_else(|| {
                Error::os("import a layer", std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
            })?;
            staged.push(layer.map_err(crate::error::storage("import a layer of the build cache"))?);
        }
        Ok(staged)
    }

    fn ingest_one(
        &self,
        loaded: &Loaded,
        position: usize,
        blob: &Descriptor,
    ) -> storage::Result<StagedLayer> {
        let entry = &loaded.table.layers[position];
        let digest = blob.digest.to_string();
        let tell = |event| (self.progress)(BuildEvent::Transfer { event });
        tell(TransferEvent::Started {
            digest: digest.clone(),
            what: crate::images::BlobKind::Layer,
            size: blob.size,
        });
        let progress = |done: u64| tell(TransferEvent::Advanced { digest: digest.clone(), done });
        let source = LayerSource {
            descriptor: Some(blob.clone()),
            diff_id: Some(entry.diff_id.clone()),
            open: Box::new(|offset| {
                let reader = loaded.source.blob(blob, offset).map_err(std::io::Error::other)?;
                Ok(LayerReader { offset, reader })
            }),
            progress: &progress,
        };
        let mut staged = ingest_layer(self.store, self.lease, source)?;
        // a time that is none would make every image of it malformed
        let created = entry.created.as_ref().filter(|text| text.parse::<jiff::Timestamp>().is_ok());
        staged.created = created.cloned();
        tell(TransferEvent::Finished { digest, how: crate::images::BlobDone::Copied });
        Ok(staged)
    }
}

impl RemoteCache for Imports<'_> {
    fn alias(&self, cheap: &Digest) -> Option<Digest> {
        self.loaded().find_map(|loaded| loaded.table.alias(cheap)).cloned()
    }

    fn has(&self, key: &Digest) -> bool {
        self.loaded().any(|loaded| loaded.table.has(key))
    }

    fn chain(&self, key: &Digest) -> Option<ChainId> {
        let loaded = self.known(key)?;
        loaded.table.result(key)?.last().map(|top| loaded.table.chains[*top].clone())
    }

    fn fetch(&self, key: &Digest) -> Option<ChainId> {
        let _one = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        self.loaded().filter(|loaded| loaded.table.has(key)).find_map(|loaded| {
            match self.fetch_from(loaded, key) {
                Ok(chain) => chain,
                Err(error) => {
                    let place = loaded.source.describe();
                    self.warn(format!(
                        "cache {place}: {}; the step runs instead",
                        builder::diagnostic::with_causes(&error)
                    ));
                    None
                }
            }
        })
    }

    fn fill_mount(&self, id: &str, directory: &Path) -> bool {
        for loaded in self.loaded() {
            let Some(entry) = loaded.table.mounts.iter().find(|entry| entry.id == id) else { continue };
            let filled = loaded
                .index(&entry.index)
                .and_then(|index| mounts::restore(&*loaded.source, &index, directory));
            match filled {
                Ok(()) => return true,
                Err(error) => {
                    self.warn(format!(
                        "cache mount {id}: {}; it begins empty",
                        builder::diagnostic::with_causes(&error)
                    ));
                    if empty(directory).is_err() {
                        return false;
                    }
                }
            }
        }
        false
    }
}

impl Loaded {
    /// Reads a cache at a place.
    pub(super) fn read(source: Box<dyn Source>, platform: &Platform, gate: &Gate) -> Result<Self> {
        let place = source.describe();
        let failed = || crate::error::registry(format!("read the cache {place}"));
        let top = source.manifest(Which::Root).map_err(failed())?;
        let raw = registry::copy::select(&*source, &top, platform).map_err(failed())?;
        let ManifestOrIndex::Manifest(manifest) = raw.value() else {
            return Err(Error::unsupported(place, "it is an index within an index"));
        };
        // what it holds becomes part of images, as a base does
        gate.may_be_used(&*source, &raw, Some(&top)).map_err(failed())?;
        let table = if manifest.config.media_type == CONFIG {
            Table::parse(&read_blob(&*source, &manifest.config, CONFIG_LIMIT).map_err(failed())?)?
        } else {
            let bytes = read_blob(&*source, &manifest.config, MAX_CONFIG_BYTES).map_err(failed())?;
            let config: Raw<ImageConfig> = Raw::parse(bytes, Some(&manifest.config.media_type))
                .map_err(crate::error::document(format!("read the config of {place}")))?;
            Table::inline(config.value(), manifest)?
        };
        Ok(Self { source, table })
    }

    /// Reads the index of a cache mount.
    pub(super) fn index(&self, descriptor: &Descriptor) -> Result<mounts::Index> {
        let attempt = format!("read a cache mount of {}", self.source.describe());
        let bytes = read_blob(&*self.source, descriptor, mounts::INDEX_LIMIT)
            .map_err(crate::error::registry(attempt))?;
        mounts::Index::decode(&bytes)
    }
}

/// Removes all that is in a directory.
fn empty(directory: &Path) -> std::result::Result<(), sys::fs::Error> {
    for name in sys::fs::read_names(directory)? {
        let path = directory.join(name);
        if sys::fs::symlink_metadata(&path)?.is_dir() {
            sys::fs::remove_tree(&path)?;
        } else {
            sys::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
