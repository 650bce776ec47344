//! The store as either end of a copy.
//!
//! As a destination it takes layers in one pass (received, verified, inflated, unpacked) in parallel and puts them onto
//! each other when the manifest comes; the image's record is the last thing written. As a source it gives the very
//! bytes that came; what was built here is compressed once, and its manifest is made, when it first leaves.

use super::lookup::Found;
use crate::time::Instant;
use crate::{Engine, Error, Result};
use oci::{
    ChainId, Compression, Descriptor, Digest, ImageConfig, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest,
    ManifestOrIndex, Raw, media_type,
};
use registry::{Blob, BlobRole, Destination, Placement, Reference, Source, Which};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use storage::diff::{export_layer, layer_blob};
use storage::ingest::{LayerReader, LayerSource, StagedLayer, commit_chain, ingest_layer};
use storage::tar::Skipped;
use storage::{Claim, Hold, Image, ImageRecord, Lease, ManifestForm, Store};

type Copied<T> = registry::Result<T>;

fn external<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> registry::Error {
    let what = what.into();
    move |error| registry::Error::external(what, error)
}

/// Receives one image.
pub(super) struct StoreDestination<'a> {
    store: &'a Store,
    lease: &'a Lease,
    /// Whether the manifest is the image's own, and not one that the source made up.
    authentic: bool,
    /// Bytes of a blob that have arrived.
    advanced: &'a (dyn Fn(&Digest, u64) + Sync),
    state: Mutex<Received>,
}

#[derive(Default)]
struct Received {
    config: Option<(Descriptor, Raw<ImageConfig>)>,
    chains: Vec<ChainId>,
    staged: BTreeMap<usize, StagedLayer>,
    /// Blobs that needed no transfer.
    existed: BTreeSet<Digest>,
    record: Option<ImageRecord>,
    warnings: Vec<String>,
}

impl<'a> StoreDestination<'a> {
    pub(super) fn new(
        store: &'a Store,
        lease: &'a Lease,
        authentic: bool,
        advanced: &'a (dyn Fn(&Digest, u64) + Sync),
    ) -> Self {
        Self { store, lease, authentic, advanced, state: Mutex::new(Received::default()) }
    }

    fn state(&self) -> MutexGuard<'_, Received> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob was in the store before.
    pub(super) fn existed(&self, digest: &Digest) -> bool {
        self.state().existed.contains(digest)
    }

    /// The record of the image, once its manifest has come.
    pub(super) fn finish(self) -> Result<(ImageRecord, Vec<String>)> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let record = state.record.ok_or_else(|| {
            Error::os("receive an image", std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
        })?;
        Ok((record, state.warnings))
    }

    fn set_config(&self, descriptor: &Descriptor, bytes: Vec<u8>) -> Copied<()> {
        let what = || format!("config {}", descriptor.digest);
        let raw: Raw<ImageConfig> =
            Raw::parse_verified(bytes, Some(&descriptor.media_type), &descriptor.digest)
                .map_err(external(what()))?;
        let mut state = self.state();
        state.chains = ChainId::chain(raw.value().diff_ids());
        state.config = Some((descriptor.clone(), raw));
        Ok(())
    }

    fn put_layer(&self, blob: &Blob<'_>, position: usize) -> Copied<()> {
        let descriptor = blob.descriptor();
        let what = || format!("layer {}", descriptor.digest);
        let (diff_id, chain) = {
            let state = self.state();
            let diff_id = state
                .config
                .as_ref()
                .and_then(|(_, config)| config.value().diff_ids().get(position).cloned());
            (diff_id, state.chains.get(position).cloned())
        };
        let (Some(diff_id), Some(chain)) = (diff_id, chain) else {
            return Err(external(what())("the manifest has more layers than the config"));
        };
        if self.store.layers().hold(self.lease, &chain).map_err(external(what()))?.is_some() {
            if self.lease.hold(Hold::Blob(descriptor.digest.clone())).map_err(external(what()))? {
                self.state().existed.insert(descriptor.digest.clone());
                return Ok(());
            }
            // unpacked already, from other bytes: these are kept for a push
            self.keep_blob(blob)?;
            return self.store.layers().add_blob(&chain, descriptor).map_err(external(what()));
        }
        if self.store.content().has(&descriptor.digest).map_err(external(what()))? {
            self.state().existed.insert(descriptor.digest.clone());
        }
        let progress = |done: u64| (self.advanced)(&descriptor.digest, done);
        let source = LayerSource {
            descriptor: Some(descriptor.clone()),
            diff_id: Some(diff_id),
            open: Box::new(|offset| {
                let reader = blob.open(offset).map_err(std::io::Error::other)?;
                Ok(LayerReader { offset, reader })
            }),
            progress: &progress,
        };
        let staged = ingest_layer(self.store, self.lease, source).map_err(external(what()))?;
        self.state().staged.insert(position, staged);
        Ok(())
    }

    fn keep_blob(&self, blob: &Blob<'_>) -> Copied<()> {
        let descriptor = blob.descriptor();
        let what = || format!("blob {}", descriptor.digest);
        let claimed = self.store.content().claim(self.lease, &descriptor.digest, Some(descriptor.size));
        let mut writer = match claimed.map_err(external(what()))? {
            Claim::Present => return Ok(()),
            Claim::Writer(writer) => writer,
        };
        // where a killed writer had all of it, nothing is asked for
        if writer.offset() != descriptor.size {
            let mut reader = blob.open(writer.offset())?;
            std::io::copy(&mut reader, &mut writer).map_err(external(what()))?;
        }
        writer.finish().map_err(external(what()))?;
        Ok(())
    }

    fn record(&self, raw: &Raw<ManifestOrIndex>) -> Copied<()> {
        let what = || format!("image {}", raw.digest());
        let Some(manifest) = raw.value().manifest() else {
            return Err(external(what())("an index cannot be unpacked"));
        };
        let (config_descriptor, config, chains, mut staged) = {
            let mut state = self.state();
            let Some((descriptor, config)) = state.config.take() else {
                return Err(external(what())("no config came before the manifest"));
            };
            (descriptor, config, std::mem::take(&mut state.chains), std::mem::take(&mut state.staged))
        };
        if manifest.layers.len() != chains.len() {
            return Err(external(what())(format!(
                "the manifest has {} layers, the config {}",
                manifest.layers.len(),
                chains.len()
            )));
        }
        // layers that are known are a prefix: a layer's record implies those below it
        let mut known = 0;
        while known < chains.len()
            && !staged.contains_key(&known)
            && self.store.layers().hold(self.lease, &chains[known]).map_err(external(what()))?.is_some()
        {
            known += 1;
        }
        let mut layers = Vec::new();
        for (position, descriptor) in manifest.layers.iter().enumerate().skip(known) {
            let layer = match staged.remove(&position) {
                Some(layer) => layer,
                // it occurs twice and was sent once: its bytes are here
                None => ingest_layer(
                    self.store,
                    self.lease,
                    LayerSource {
                        descriptor: Some(descriptor.clone()),
                        diff_id: config.value().diff_ids().get(position).cloned(),
                        open: Box::new(|_| Err(std::io::Error::from(std::io::ErrorKind::NotFound))),
                        progress: &|_| {},
                    },
                )
                .map_err(external(what()))?,
            };
            if let Some(text) = describe_skipped(&layer.skipped) {
                self.state().warnings.push(format!("layer {}: {text}", descriptor.digest.short()));
            }
            layers.push(layer);
        }
        let base = known.checked_sub(1).map(|below| &chains[below]);
        let made = commit_chain(self.store, self.lease, base, layers).map_err(external(what()))?;
        if made != chains[known..] {
            return Err(external(what())("the layers are not those of the config"));
        }
        let manifest = if self.authentic {
            self.store.content().put(self.lease, raw.bytes()).map_err(external(what()))?;
            Some(raw.descriptor())
        } else {
            // one that the image has already stays
            let known = self.store.images().get(config.digest()).map_err(external(what()))?;
            known.and_then(|known| known.manifest)
        };
        let record = image_record(self.store, &config, config_descriptor, chains, manifest)
            .map_err(external(what()))?;
        self.store.images().put(self.lease, &record).map_err(external(what()))?;
        self.state().record = Some(record);
        Ok(())
    }
}

/// What could not be unpacked here, in one line; `None` when nothing was left out.
pub(super) fn describe_skipped(skipped: &Skipped) -> Option<String> {
    let mut parts = Vec::new();
    for (count, what) in [
        (skipped.devices, "devices could not be made"),
        (skipped.owners, "owners could not be kept"),
        (skipped.xattrs, "extended attributes could not be kept"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    if parts.is_empty() {
        return None;
    }
    let first = skipped.named.first().map(|name| format!(" (first: {name})")).unwrap_or_default();
    Some(format!("{}{first}", parts.join(", ")))
}

/// The record of an image whose layers are in the store.
pub(crate) fn image_record(
    store: &Store,
    config: &Raw<ImageConfig>,
    config_descriptor: Descriptor,
    layers: Vec<ChainId>,
    manifest: Option<Descriptor>,
) -> storage::Result<ImageRecord> {
    let mut size = config.size() + manifest.as_ref().map_or(0, |manifest| manifest.size);
    if let Some(top) = layers.last() {
        size += store.chain_size(top)?;
    }
    let value = config.value();
    Ok(ImageRecord {
        id: config.digest().clone(),
        manifest,
        config: config_descriptor,
        layers,
        created: value.created.clone(),
        added: Instant::now().rfc3339(),
        size,
        platform: value.platform(),
        labels: value.config.labels.clone(),
        other_manifests: Vec::new(),
        parent: None,
        names_history: Vec::new(),
        annotations: None,
    })
}

impl Destination for StoreDestination<'_> {
    fn describe(&self) -> String {
        "the local store".to_owned()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Copied<bool> {
        // the config comes first and alone; whether a layer is here depends on its position, which put_blob knows
        if self.state().config.is_some() {
            return Ok(false);
        }
        let what = || format!("config {}", descriptor.digest);
        if !self.lease.hold(Hold::Blob(descriptor.digest.clone())).map_err(external(what()))? {
            return Ok(false);
        }
        let bytes =
            self.store.content().read(&descriptor.digest, MAX_CONFIG_BYTES).map_err(external(what()))?;
        self.set_config(descriptor, bytes)?;
        Ok(true)
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Copied<()> {
        match blob.role() {
            BlobRole::Layer(position) => self.put_layer(blob, position),
            BlobRole::Config => {
                let descriptor = blob.descriptor();
                let what = || format!("config {}", descriptor.digest);
                if descriptor.size > MAX_CONFIG_BYTES {
                    return Err(external(what())(format!(
                        "it has {} bytes, too many for a config",
                        descriptor.size
                    )));
                }
                self.keep_blob(blob)?;
                let content = self.store.content();
                let bytes = content.read(&descriptor.digest, MAX_CONFIG_BYTES).map_err(external(what()))?;
                self.set_config(descriptor, bytes)
            }
        }
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Copied<()> {
        match placement {
            Placement::Root => self.record(raw),
            Placement::Entry => Err(external("image")("the store takes one image of an index")),
        }
    }
}

/// In which form an image leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The manifest that it came with; for one that was built here a new one, with this compression for layers that
    /// have none yet.
    Registry(Compression),
    /// As `Registry` with gzip, but never with layers that are plain.
    Packed,
    /// Plain layers named by diffID, as Docker archives have them. Nothing is stored for it.
    Plain,
}

/// Gives one image.
#[derive(Debug)]
pub(crate) struct StoreSource {
    store: Store,
    manifest: Raw<ManifestOrIndex>,
    config: Raw<ImageConfig>,
    /// Plain streams by their digest.
    plain: BTreeMap<Digest, ChainId>,
    repository: Option<Reference>,
    name: String,
    pub(super) warnings: Vec<String>,
}

/// Which of an image's manifests is meant.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// The one with this digest, if all its blobs are here.
    pub(super) manifest: Option<&'a Digest>,
    /// Else one of this form, which is made when there is none.
    pub(super) form: Option<&'a ManifestForm>,
}

impl<'a> Wanted<'a> {
    /// That of the name that led to the image.
    pub(super) fn named(found: &'a Found) -> Self {
        match found.tag() {
            Some(tag) => Self { manifest: tag.manifest.as_ref(), form: tag.form.as_ref() },
            None => Self::default(),
        }
    }
}

impl StoreSource {
    /// Prepares an image to leave. A manifest that had to be made is remembered.
    pub(super) fn new(
        engine: &Engine,
        lease: &Lease,
        image: &Image,
        wanted: Wanted<'_>,
        form: Form,
    ) -> Result<Self> {
        let own = wanted.form.cloned().or_else(|| image.record.form());
        let store = engine.store()?.clone();
        let config = engine.image_config(image)?;
        let name = image.record.id.short().to_owned();
        let failed = || crate::error::storage(format!("prepare image {name}"));
        lease.hold(Hold::Image(image.record.id.clone())).map_err(failed())?;
        let mut source = Self {
            store,
            manifest: empty_manifest(&config)?,
            config,
            plain: BTreeMap::new(),
            repository: None,
            name: name.clone(),
            warnings: Vec::new(),
        };
        match form {
            Form::Plain => source.make_plain(image)?,
            Form::Registry(_) | Form::Packed => {
                let compression =
                    if let Form::Registry(compression) = form { compression } else { Compression::Gzip };
                let kept = source.kept_manifest(image, wanted.manifest, own.as_ref())?;
                let kept = kept.filter(|kept| form != Form::Packed || is_packed(kept));
                match kept {
                    Some(manifest) => {
                        if wanted.manifest.is_none() && own.is_some() {
                            source.remember(image, own.as_ref(), manifest.digest())?;
                        }
                        source.manifest = manifest;
                    }
                    None => {
                        // one of another form is none of what is wanted
                        if image.record.manifest.is_some()
                            && own == image.record.form()
                            && form != Form::Packed
                        {
                            source.warnings.push(
                            "blobs of the image's own manifest are gone: a new manifest is made, with another digest"
                                .to_owned(),
                        );
                        }
                        source.make_manifest(lease, image, own, compression)?;
                    }
                }
            }
        }
        Ok(source)
    }

    /// The manifest.
    pub(super) fn root(&self) -> &Raw<ManifestOrIndex> {
        &self.manifest
    }

    /// Whether a blob is one of the image's.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.config.digest() == digest
            || self
                .manifest
                .value()
                .manifest()
                .is_some_and(|manifest| manifest.layers.iter().any(|layer| layer.digest == *digest))
    }

    /// Lets a registry mount blobs from the repository that the image has there.
    pub(super) fn in_repository(mut self, repository: Option<Reference>) -> Self {
        self.repository = repository;
        self
    }

    /// The manifest that the image came with, if all its blobs are still here.
    fn kept_manifest(
        &self,
        image: &Image,
        wanted: Option<&Digest>,
        form: Option<&ManifestForm>,
    ) -> Result<Option<Raw<ManifestOrIndex>>> {
        let record = &image.record;
        let candidates = record
            .manifest
            .iter()
            .chain(&record.other_manifests)
            .filter(|manifest| wanted == Some(&manifest.digest))
            .chain(&record.manifest)
            .chain(&record.other_manifests);
        let failed = || crate::error::storage(format!("read the manifest of image {}", self.name));
        for descriptor in candidates {
            if !self.store.content().has(&descriptor.digest).map_err(failed())? {
                continue;
            }
            let bytes = self.store.content().read(&descriptor.digest, MAX_MANIFEST_BYTES).map_err(failed())?;
            let raw: Raw<ManifestOrIndex> =
                Raw::parse_verified(bytes, Some(&descriptor.media_type), &descriptor.digest)
                    .map_err(crate::error::document(format!("read the manifest of image {}", self.name)))?;
            let Some(manifest) = raw.value().manifest() else { continue };
            let mut complete = true;
            for layer in &manifest.layers {
                complete &= self.store.content().has(&layer.digest).map_err(failed())?;
            }
            // one of other annotations or another format is only right for a name that was given to it
            let alike = match form {
                Some(form) if wanted != Some(&descriptor.digest) => {
                    manifest.annotations == form.annotations
                        && (manifest.config.media_type == media_type::DOCKER_CONFIG) == form.docker
                }
                _ => true,
            };
            if complete && alike {
                return Ok(Some(raw));
            }
        }
        Ok(None)
    }

    fn make_manifest(
        &mut self,
        lease: &Lease,
        image: &Image,
        form: Option<ManifestForm>,
        compression: Compression,
    ) -> Result<()> {
        let failed =
            || crate::error::storage(format!("compress the layers of image {}", image.record.id.short()));
        let docker = form.as_ref().is_some_and(|form| form.docker);
        if docker && compression != Compression::Gzip {
            return Err(Error::unsupported(
                "compression zstd of an image in docker's format",
                "its manifest can name layers with gzip only",
            ));
        }
        let mut layers = Vec::new();
        for chain in &image.record.layers {
            let layer = self
                .store
                .layers()
                .hold(lease, chain)
                .map_err(failed())?
                .ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?;
            // a layer that came compressed goes as it came, whatever its compression
            let mut kept = None;
            for blob in &layer.blobs {
                let packed = Compression::from_media_type(&blob.media_type).filter(|packed| {
                    *packed != Compression::None && !(docker && *packed != Compression::Gzip)
                });
                if let Some(packed) = packed
                    && kept.is_none()
                    && lease.hold(Hold::Blob(blob.digest.clone())).map_err(failed())?
                {
                    kept = Some(Descriptor::new(packed.oci_layer(), blob.digest.clone(), blob.size));
                }
            }
            layers.push(match kept {
                Some(blob) => blob,
                None => layer_blob(&self.store, lease, chain, compression).map_err(failed())?,
            });
        }
        let mut manifest = Manifest::new(config_of(&self.config), layers);
        if let Some(form) = &form {
            manifest.annotations = form.annotations.clone();
        }
        if docker {
            media_type::DOCKER_CONFIG.clone_into(&mut manifest.config.media_type);
            manifest.media_type = Some(media_type::DOCKER_MANIFEST.to_owned());
            for layer in &mut manifest.layers {
                media_type::DOCKER_LAYER_GZIP.clone_into(&mut layer.media_type);
            }
        }
        let raw = Raw::from_value(ManifestOrIndex::Manifest(manifest))
            .map_err(crate::error::document("write the manifest"))?;
        self.store.content().put(lease, raw.bytes()).map_err(failed())?;
        // remembered, so that the next push sends the same bytes
        let mut record = image.record.clone();
        if form == record.form() {
            record.manifest = Some(raw.descriptor());
        } else {
            record.other_manifests.push(raw.descriptor());
        }
        self.store.images().put(lease, &record).map_err(failed())?;
        self.remember(image, form.as_ref(), raw.digest())?;
        self.manifest = raw;
        Ok(())
    }

    /// Names of the image that have no manifest yet and want one of this form have this one.
    fn remember(&self, image: &Image, form: Option<&ManifestForm>, manifest: &Digest) -> Result<()> {
        let failed = || crate::error::storage(format!("remember the manifest of image {}", self.name));
        let own = image.record.form();
        for tag in image.tags.iter().filter(|tag| tag.manifest.is_none()) {
            // the name of a list is none of the image's own
            let of_list = self.store.lists().get(&tag.reference).map_err(failed())?.is_some();
            if !of_list && form == tag.form.as_ref().or(own.as_ref()) {
                let tag = storage::TagRecord { manifest: Some(manifest.clone()), ..tag.clone() };
                self.store.images().tag(&tag).map_err(failed())?;
            }
        }
        Ok(())
    }

    fn make_plain(&mut self, image: &Image) -> Result<()> {
        let mut layers = Vec::new();
        for chain in &image.record.layers {
            let layer = self
                .store
                .layers()
                .get(chain)
                .map_err(crate::error::storage(format!("read the layers of image {}", self.name)))?
                .ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?;
            let digest = layer.diff_id.digest().clone();
            layers.push(Descriptor::new(media_type::OCI_LAYER, digest.clone(), layer.tar_size));
            self.plain.insert(digest, chain.clone());
        }
        self.manifest =
            Raw::from_value(ManifestOrIndex::Manifest(Manifest::new(config_of(&self.config), layers)))
                .map_err(crate::error::document("write the manifest"))?;
        Ok(())
    }
}

/// Whether all layers of a manifest are compressed.
fn is_packed(raw: &Raw<ManifestOrIndex>) -> bool {
    let plain =
        |layer: &Descriptor| Compression::from_media_type(&layer.media_type) == Some(Compression::None);
    raw.value().manifest().is_some_and(|manifest| !manifest.layers.iter().any(plain))
}

fn config_of(config: &Raw<ImageConfig>) -> Descriptor {
    Descriptor::new(media_type::OCI_CONFIG, config.digest().clone(), config.size())
}

fn empty_manifest(config: &Raw<ImageConfig>) -> Result<Raw<ManifestOrIndex>> {
    Raw::from_value(ManifestOrIndex::Manifest(Manifest::new(config_of(config), Vec::new())))
        .map_err(crate::error::document("write the manifest"))
}

impl Source for StoreSource {
    fn describe(&self) -> String {
        format!("image {} of the local store", self.name)
    }

    fn manifest(&self, which: Which<'_>) -> Copied<Raw<ManifestOrIndex>> {
        match which {
            Which::Root => Ok(self.manifest.clone()),
            Which::Entry(entry) if entry.digest == *self.manifest.digest() => Ok(self.manifest.clone()),
            Which::Entry(entry) => {
                Err(external(format!("manifest {}", entry.digest))("not in the local store"))
            }
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Copied<Box<dyn Read + Send + '_>> {
        use std::io::{Seek, SeekFrom};
        let what = || format!("blob {}", descriptor.digest);
        if descriptor.digest == *self.config.digest() {
            let mut reader = std::io::Cursor::new(self.config.bytes().to_vec());
            reader.set_position(offset);
            return Ok(Box::new(reader));
        }
        if !self.store.content().has(&descriptor.digest).map_err(external(what()))?
            && let Some(chain) = self.plain.get(&descriptor.digest)
        {
            return self.plain_stream(chain.clone(), offset).map_err(external(what()));
        }
        let mut file = self.store.content().open(&descriptor.digest).map_err(external(what()))?;
        file.seek(SeekFrom::Start(offset)).map_err(external(what()))?;
        Ok(Box::new(file))
    }

    fn repository(&self) -> Option<&Reference> {
        self.repository.as_ref()
    }
}

impl StoreSource {
    /// The plain stream of a layer, written by a thread. One that fails ends early, which the receiver sees: it
    /// checks size and digest.
    fn plain_stream(&self, chain: ChainId, offset: u64) -> std::io::Result<Box<dyn Read + Send>> {
        let (mut reader, writer) = std::io::pipe()?;
        let store = self.store.clone();
        std::thread::Builder::new().name("export-layer".to_owned()).spawn(move || {
            // a receiver that has gone away is no failure of ours
            let _ = export_layer(&store, &chain, Compression::None, writer);
        })?;
        std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink())?;
        Ok(Box::new(reader))
    }
}
