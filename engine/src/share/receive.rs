//! Manifests that are pushed: from blobs of the store to images and lists.

use super::{Share, lock, names, shared};
use crate::{Error, Result};
use oci::{Descriptor, Manifest, ManifestOrIndex, Platform, Raw};
use registry::trust::{Gate, Policy};
use registry::{Source, Which};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use storage::{ArtifactRecord, Hold, Store};

/// A manifest whose blobs are in the store.
struct Pushed<'a> {
    store: &'a Store,
    raw: &'a Raw<ManifestOrIndex>,
    shown: String,
}

impl Source for Pushed<'_> {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn manifest(&self, _which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        Ok(self.raw.clone())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        let failed =
            |error| registry::Error::external(format!("blob {} that was pushed", descriptor.digest), error);
        let mut file = self.store.content().open(&descriptor.digest).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| {
            registry::Error::external(format!("blob {} that was pushed", descriptor.digest), error)
        })?;
        Ok(Box::new(file))
    }
}

impl Share {
    /// Takes a manifest or an index whose parts were pushed before; `target` is a tag or its digest. Gives the digest.
    pub fn put_manifest(
        &self,
        repository: &str,
        target: &str,
        media_type: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<String> {
        let what = || format!("manifest {repository}:{target}");
        let raw: Raw<ManifestOrIndex> =
            Raw::parse(bytes, media_type).map_err(|error| Error::invalid(what(), error.to_string()))?;
        let tag = if target.contains(':') {
            if raw.digest().to_string() != target {
                return Err(Error::invalid(what(), format!("the content has {}", raw.digest())));
            }
            None
        } else {
            let reference = names::references(repository, target).into_iter().next();
            let reference =
                reference.ok_or_else(|| Error::invalid(what(), "repository and tag make no name"))?;
            Some(reference.to_string())
        };
        match raw.value() {
            ManifestOrIndex::Index(_) => self.put_index(&raw, tag.as_deref())?,
            ManifestOrIndex::Manifest(manifest) if is_image(manifest) => {
                self.put_image(&raw, tag.as_deref(), &what())?;
            }
            ManifestOrIndex::Manifest(manifest) => self.put_artifact(&raw, manifest, repository, tag)?,
        }
        Ok(shared(&raw).digest)
    }

    fn put_image(&self, raw: &Raw<ManifestOrIndex>, name: Option<&str>, what: &str) -> Result<()> {
        let store = self.store()?;
        self.hold_parts(raw.value().manifest().expect("the caller looked"))?;
        let source = Pushed { store, raw, shown: what.to_owned() };
        let names: Vec<String> = name.iter().map(|name| (*name).to_owned()).collect();
        let (record, ..) = self.engine.receive_pushed(&source, &names)?;
        self.engine.tell(crate::events::Event::image("pull", record.id.hex(), name.unwrap_or_default()));
        Ok(())
    }

    /// Holds what a manifest names, all of which was pushed before.
    fn hold_parts(&self, manifest: &Manifest) -> Result<()> {
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let held = self.lease.hold(Hold::Blob(part.digest.clone()));
            if !held.map_err(crate::error::storage("look for a blob"))? && part.urls.is_empty() {
                return Err(Error::NotFound { what: "blob", name: part.digest.to_string() });
            }
        }
        Ok(())
    }

    /// Keeps what is no image, as signatures are, under its tag or its digest; nothing of it is unpacked.
    fn put_artifact(
        &self,
        raw: &Raw<ManifestOrIndex>,
        manifest: &Manifest,
        repository: &str,
        tag: Option<String>,
    ) -> Result<()> {
        self.hold_parts(manifest)?;
        let store = self.store()?;
        let kept = store.content().put(&self.lease, raw.bytes());
        kept.map_err(crate::error::storage("keep the manifest"))?;
        let reference = match tag {
            Some(tag) => tag,
            None => {
                let name = names::references(repository, "latest").into_iter().next();
                let name = name.ok_or_else(|| Error::invalid(repository.to_owned(), "no repository"))?;
                name.with_digest(raw.digest().clone()).to_string()
            }
        };
        let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
        let record = ArtifactRecord {
            reference,
            manifest: raw.descriptor(),
            blobs: parts.map(|part| part.digest.clone()).collect(),
            size: manifest.layers.iter().map(|layer| layer.size).sum(),
            created: manifest.annotations.get("org.opencontainers.image.created").cloned(),
            updated: crate::time::Instant::now().rfc3339(),
        };
        let done = store.artifacts().put(&self.lease, &record, |_| true);
        done.map(drop).map_err(crate::error::storage(format!("record {}", record.reference)))
    }

    fn put_index(&self, raw: &Raw<ManifestOrIndex>, name: Option<&str>) -> Result<()> {
        let images = self.engine.images();
        match name {
            Some(name) => images.record_index(&self.lease, raw, name)?,
            None => images.index_entries(raw).map(drop)?,
        }
        lock(&self.made).insert(raw.digest().clone(), raw.clone());
        Ok(())
    }
}

/// Whether a manifest is an image's: its config is one, and its layers are archives.
fn is_image(manifest: &Manifest) -> bool {
    manifest.artifact_type.is_none()
        && oci::media_type::is_config(&manifest.config.media_type)
        && manifest.layers.iter().all(|layer| oci::Compression::from_media_type(&layer.media_type).is_some())
}

impl crate::Engine {
    /// Receives an image that somebody pushed here, who was let in: no policy of pulls applies.
    fn receive_pushed(
        &self,
        source: &dyn Source,
        names: &[String],
    ) -> Result<(storage::ImageRecord, oci::Digest, Vec<String>)> {
        let gate = Gate::new(Arc::new(Policy::accept_anything()));
        self.receive(source, &Platform::host(), names, true, &gate, &|_| {})
    }
}
