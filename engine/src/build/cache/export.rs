//! A build's results to a cache elsewhere: only what is not there is sent.

use super::format::{ARTIFACT, CONFIG, Config, LayerEntry, MountEntry};
use super::import::{Imports, Loaded};
use super::mounts;
use super::place::{CacheMode, CacheTo, Place};
use crate::build::{BuildEvent, BuildProgress};
use crate::images::{RegistryOptions, TransferEvent};
use crate::{Engine, Error, Result};
use builder::build::{Built, CacheEntry};
use builder::secrets::Search;
use oci::{ChainId, Compression, Descriptor, Digest, Manifest, ManifestOrIndex, Platform, Raw, media_type};
use registry::{CopyOptions, Selection, Source, Which, copy};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::time::{Duration, Instant};
use storage::diff::layer_blob;
use storage::{Layer, Lease, MountUse, Store};

/// What a cache gets of a build: of all its platforms together.
#[derive(Debug, Default)]
pub(in crate::build) struct Results {
    entries: Vec<CacheEntry>,
    foreign_layers: Vec<ChainId>,
    cache_mounts: BTreeSet<String>,
}

impl Results {
    /// Adds what was built for one platform.
    pub(in crate::build) fn add(&mut self, built: &Built) {
        let known: BTreeSet<Digest> = self.entries.iter().map(|entry| entry.key.clone()).collect();
        let new = built.cache.iter().filter(|entry| !known.contains(&entry.key));
        self.entries.extend(new.cloned());
        self.foreign_layers.extend(built.foreign_layers.iter().cloned());
        self.cache_mounts.extend(built.cache_mounts.iter().cloned());
    }
}

/// A build whose results are sent.
pub(in crate::build) struct Export<'a> {
    pub(in crate::build) engine: &'a Engine,
    pub(in crate::build) lease: &'a Lease,
    pub(in crate::build) results: &'a Results,
    /// The caches that were read.
    pub(in crate::build) imports: &'a Imports<'a>,
    pub(in crate::build) options: &'a RegistryOptions,
    /// Values that must not leave.
    pub(in crate::build) secrets: Option<&'a Search>,
    pub(in crate::build) progress: BuildProgress<'a>,
}

/// Sends the results of a build to all places that were asked for; returns warnings.
pub(in crate::build) fn export(export: &Export<'_>, to: &[CacheTo]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for to in to.iter().filter(|to| !to.is_inline()) {
        match export_one(export, to) {
            Ok(()) => {}
            Err(error) if to.ignore_error => {
                warnings.push(format!(
                    "cache {}: {}",
                    to.place.describe(),
                    builder::diagnostic::with_causes(&error)
                ));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(warnings)
}

fn export_one(export: &Export<'_>, to: &CacheTo) -> Result<()> {
    let Export { engine, lease, results, imports, options, secrets, progress } = *export;
    let store = engine.store()?;
    let known = match to.mounts.is_empty() {
        true => None,
        false => known(engine, &to.place, options),
    };
    let mut collection = Collection {
        store,
        lease,
        imports,
        secrets,
        foreign: results.foreign_layers.iter().collect(),
        config: Config::default(),
        known: HashMap::new(),
        elsewhere: BTreeMap::new(),
        blobs: Vec::new(),
        small: Vec::new(),
        packs: mounts::NewPacks::new(),
    };
    let entries: Vec<&CacheEntry> =
        results.entries.iter().filter(|entry| to.mode == CacheMode::Max || entry.in_image).collect();
    collection.compress(&entries)?;
    for entry in entries {
        collection.add(entry)?;
    }
    for id in mount_ids(results, to) {
        if let Some(text) = collection.add_mount(&id, known.as_ref())? {
            progress(BuildEvent::Warning { text });
        }
    }
    let package = collection.finish()?;
    let place = to.place.describe();
    if current(engine, &to.place, options)?.as_ref() == Some(package.manifest.digest()) {
        return Ok(());
    }
    let Some(destination) = to.place.destination(engine, options)? else { return Ok(()) };
    let tell = |event: TransferEvent| progress(BuildEvent::Transfer { event });
    let forward = crate::images::transfer::forwarder(&tell);
    let options = CopyOptions { selection: Selection::All, progress: &forward, ..CopyOptions::default() };
    copy(&package, &*destination, &options)
        .map_err(crate::error::registry(format!("write the cache {place}")))?;
    Ok(())
}

/// The digest of what is at a place now.
fn current(engine: &Engine, place: &Place, options: &RegistryOptions) -> Result<Option<Digest>> {
    match place {
        Place::Registry(reference) => {
            let client = engine.client(options)?;
            let head = client
                .head_manifest(reference)
                .map_err(crate::error::registry(format!("ask for the cache {reference}")))?;
            Ok(head.map(|descriptor| descriptor.digest))
        }
        // a layout without such a tag has nothing yet
        place => Ok(match place.source(engine, options) {
            Ok(Some(source)) => source.manifest(Which::Root).ok().map(|raw| raw.digest().clone()),
            _ => None,
        }),
    }
}

/// What is at the place, where that is a cache: what it has need not be sent.
fn known(engine: &Engine, place: &Place, options: &RegistryOptions) -> Option<Loaded> {
    let source = place.source(engine, options).ok()??;
    // what may not be used is as good as nothing
    let gate = engine.gate(options).ok()?;
    Loaded::read(source, &Platform::host(), &gate).ok()
}

/// Names of the mounts that travel.
fn mount_ids(results: &Results, to: &CacheTo) -> BTreeSet<String> {
    let mut ids: BTreeSet<String> = to.mounts.iter().filter(|id| *id != "*").cloned().collect();
    if to.mounts.iter().any(|id| id == "*") {
        ids.extend(results.cache_mounts.iter().cloned());
    }
    ids
}

/// Results on their way into a config.
struct Collection<'a> {
    store: &'a Store,
    lease: &'a Lease,
    imports: &'a Imports<'a>,
    secrets: Option<&'a Search>,
    foreign: BTreeSet<&'a ChainId>,
    config: Config,
    /// Positions of layers.
    known: HashMap<ChainId, usize>,
    /// Blobs that are not here, by the cache that has them.
    elsewhere: BTreeMap<Digest, &'a dyn Source>,
    /// Blobs of cache mounts.
    blobs: Vec<Descriptor>,
    small: Vec<Vec<u8>>,
    packs: mounts::NewPacks,
}

impl<'a> Collection<'a> {
    fn layer(&self, chain: &ChainId) -> Result<Option<Layer>> {
        let failed = crate::error::storage("read the layers of the build cache");
        self.store.layers().hold(self.lease, chain).map_err(failed)
    }

    /// Compresses what has no blob yet, several at once.
    fn compress(&self, entries: &[&CacheEntry]) -> Result<()> {
        use rayon::prelude::*;
        let mut wanted: BTreeSet<ChainId> = BTreeSet::new();
        for entry in entries {
            let mut next = entry.chain.clone();
            while let Some(chain) = next.take() {
                if self.foreign.contains(&chain) || wanted.contains(&chain) {
                    break;
                }
                let Some(layer) = self.layer(&chain)? else { break };
                wanted.insert(chain);
                next = layer.parent;
            }
        }
        let wanted: Vec<ChainId> = wanted.into_iter().collect();
        wanted
            .par_iter()
            .map(|chain| layer_blob(self.store, self.lease, chain, Compression::Gzip).map(drop))
            .collect::<storage::Result<()>>()
            .map_err(crate::error::storage("compress the layers of the build cache"))
    }

    fn add(&mut self, entry: &CacheEntry) -> Result<()> {
        let here = match &entry.chain {
            Some(chain) => self.add_chain(chain)?,
            None => None,
        };
        // a result that was not needed here stays in the cache that has it
        let Some(top) = here.or_else(|| self.add_imported(&entry.key)) else { return Ok(()) };
        self.config.results.push((entry.key.clone(), top));
        if let Some(cheap) = &entry.cheap {
            self.config.aliases.push((cheap.clone(), entry.key.clone()));
        }
        Ok(())
    }

    /// Adds a stack of layers; `None` where one of them is not here.
    fn add_chain(&mut self, chain: &ChainId) -> Result<Option<usize>> {
        let mut above = Vec::new();
        let mut next = Some(chain.clone());
        let mut parent = None;
        while let Some(chain) = next.take() {
            if let Some(known) = self.known.get(&chain) {
                parent = Some(*known);
                break;
            }
            let Some(layer) = self.layer(&chain)? else { return Ok(None) };
            next.clone_from(&layer.parent);
            above.push(layer);
        }
        for layer in above.into_iter().rev() {
            let foreign = self.foreign.contains(&layer.chain_id);
            let blob = match foreign {
                true => None,
                false => Some(
                    layer_blob(self.store, self.lease, &layer.chain_id, Compression::Gzip)
                        .map_err(crate::error::storage("compress the layers of the build cache"))?,
                ),
            };
            let created = (!foreign).then_some(layer.created);
            let entry = LayerEntry { parent, diff_id: layer.diff_id, blob, created };
            parent = Some(self.push(layer.chain_id, entry));
        }
        Ok(parent)
    }

    fn add_imported(&mut self, key: &Digest) -> Option<usize> {
        let loaded = self.imports.known(key)?;
        let mut parent = None;
        for position in loaded.table.result(key)? {
            let chain = &loaded.table.chains[position];
            if let Some(known) = self.known.get(chain) {
                parent = Some(*known);
                continue;
            }
            let layer = &loaded.table.layers[position];
            if let Some(blob) = &layer.blob {
                self.elsewhere.insert(blob.digest.clone(), &*loaded.source);
            }
            parent = Some(self.push(chain.clone(), LayerEntry { parent, ..layer.clone() }));
        }
        parent
    }

    fn push(&mut self, chain: ChainId, entry: LayerEntry) -> usize {
        self.config.layers.push(entry);
        let position = self.config.layers.len() - 1;
        self.known.insert(chain, position);
        position
    }

    /// Adds a cache mount. One that is not here, or in use, stays as it is at the destination; what the
    /// user should know of that is returned.
    fn add_mount(&mut self, id: &str, known: Option<&'a Loaded>) -> Result<Option<String>> {
        let failed = || crate::error::storage(format!("take the cache mount {id}"));
        let old = known.and_then(|known| known.table.mounts.iter().find(|entry| entry.id == id));
        let previous = match (known, old) {
            (Some(known), Some(old)) => known.index(&old.index).ok(),
            _ => None,
        };
        if let (Some(known), Some(index)) = (known, &previous) {
            for blob in index.blobs() {
                self.elsewhere.insert(blob.digest.clone(), &*known.source);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut mount = None;
        while mount.is_none() && Instant::now() < deadline {
            mount = self.store.cache_mounts().try_take(id, 0, MountUse::Alone).map_err(failed())?;
            if mount.is_none() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let present = match &mount {
            Some(mount) => mount.exists().map_err(failed())?,
            None => false,
        };
        let (index, warning) = match (mount, previous) {
            (Some(mount), previous) if present => {
                let saved = mounts::save(self.lease, &mount, previous.as_ref(), self.secrets)?;
                self.packs.extend(saved.packs);
                (saved.index, None)
            }
            (Some(_), Some(previous)) => (previous, None),
            (None, Some(previous)) => {
                (previous, Some(format!("cache mount {id} is in use: the cache keeps what it has of it")))
            }
            (None, None) => return Ok(Some(format!("cache mount {id} is in use: it was not exported"))),
            (Some(_), None) => {
                return Ok(Some(format!("cache mount {id} is neither here nor in the cache")));
            }
        };
        let bytes = index.encode()?;
        let descriptor = Descriptor::of(mounts::INDEX, &bytes);
        self.blobs.extend(index.blobs().cloned());
        self.blobs.push(descriptor.clone());
        self.small.push(bytes);
        self.config.mounts.push(MountEntry { id: id.to_owned(), index: descriptor });
        Ok(warning)
    }

    fn finish(self) -> Result<Package<'a>> {
        let mut layers: Vec<Descriptor> = Vec::new();
        let mut seen = BTreeSet::new();
        for blob in self.config.layers.iter().filter_map(|layer| layer.blob.as_ref()) {
            if seen.insert(blob.digest.clone()) {
                layers.push(Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size));
            }
        }
        for blob in self.blobs {
            if seen.insert(blob.digest.clone()) {
                layers.push(blob);
            }
        }
        if layers.is_empty() {
            // registries want at least one
            layers.push(Descriptor::of(media_type::OCI_EMPTY, EMPTY));
        }
        // strings and numbers only
        let config = serde_json::to_vec(&self.config)
            .map_err(|error| Error::invalid("the config of a cache", error.to_string()))?;
        let mut manifest = Manifest::new(Descriptor::of(CONFIG, &config), layers);
        manifest.artifact_type = Some(ARTIFACT.to_owned());
        let manifest = Raw::from_value(ManifestOrIndex::Manifest(manifest))
            .map_err(crate::error::document("write the manifest of a cache"))?;
        let mut small = self.small;
        small.extend([config, EMPTY.to_vec()]);
        Ok(Package { store: self.store, small, packs: self.packs, manifest, elsewhere: self.elsewhere })
    }
}

const EMPTY: &[u8] = b"{}";
/// How long an export waits for users of a cache mount.
const PATIENCE: Duration = Duration::from_secs(5);

/// A cache as the source of a copy.
struct Package<'a> {
    store: &'a Store,
    /// Blobs that are in no store.
    small: Vec<Vec<u8>>,
    packs: mounts::NewPacks,
    manifest: Raw<ManifestOrIndex>,
    elsewhere: BTreeMap<Digest, &'a dyn Source>,
}

impl Source for Package<'_> {
    fn describe(&self) -> String {
        "the build cache".to_owned()
    }

    fn manifest(&self, _which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        Ok(self.manifest.clone())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        use std::io::{Seek, SeekFrom};
        if let Some(bytes) = self.small.iter().find(|bytes| Digest::of(bytes) == descriptor.digest) {
            let mut reader = std::io::Cursor::new(bytes);
            reader.set_position(offset);
            return Ok(Box::new(reader));
        }
        let what = || format!("blob {}", descriptor.digest);
        let opened = match self.packs.get(&descriptor.digest) {
            Some(path) => sys::fs::open(path).map_err(storage::Error::from),
            None => self.store.content().open(&descriptor.digest),
        };
        match opened {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(offset))
                    .map_err(|error| registry::Error::external(what(), error))?;
                Ok(Box::new(file))
            }
            Err(error) => match self.elsewhere.get(&descriptor.digest) {
                Some(source) => source.blob(descriptor, offset),
                None => Err(registry::Error::external(what(), error)),
            },
        }
    }
}
