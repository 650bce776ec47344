//! `system check`: what of the store is damaged, and bringing it back: files from kept blobs, blobs from their registries.

use crate::images::RegistryOptions;
use crate::{Engine, Result};
use oci::{Descriptor, Digest};
use registry::{Client, Reference};
use std::collections::BTreeMap;
use storage::check::{Damage, Report};
use storage::{Claim, Layer, Lease, Store};

/// How to check.
#[derive(Debug, Clone, Default)]
pub struct CheckRequest {
    /// Records alone: no content is read.
    pub quick: bool,
    /// Bring back what is damaged, from what is here or by asking its registry again.
    pub repair: bool,
    /// With `repair`: remove what cannot be brought back, with the images that need it.
    pub force: bool,
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What was wrong and is mended or removed.
    pub repaired: Vec<String>,
    /// What is wrong.
    pub damage: Vec<String>,
}

impl Engine {
    /// Verifies the store, and repairs it where that is asked for.
    pub fn check(&self, request: &CheckRequest) -> Result<CheckReport> {
        let store = self.store()?;
        let look = || store.check(!request.quick).map_err(crate::error::storage("check the store"));
        let before = look()?;
        if before.damage.is_empty() || !request.repair {
            return Ok(CheckReport { damage: self.told(&before)?, ..CheckReport::default() });
        }
        let lease = store.lease("repair the store").map_err(crate::error::storage("repair the store"))?;
        let texts = self.told(&before)?;
        let failed = || crate::error::storage("repair the store");
        // files that only a whole blob can tell of are found now
        let files = if self.fetch_again(store, &lease, &before)? { look()? } else { before };
        store.repair_files(&lease, &files.damage).map_err(failed())?;
        let mut after = look()?;
        if request.force && !after.damage.is_empty() {
            drop(lease);
            store.repair(&after).map_err(failed())?;
            after = look()?;
        }
        let damage = self.told(&after)?;
        let repaired = texts.into_iter().filter(|text| !damage.contains(text)).collect();
        Ok(CheckReport { repaired, damage })
    }

    /// Takes damaged and missing blobs from where they came, where a name says so. Says whether any was asked for.
    fn fetch_again(&self, store: &Store, lease: &Lease, report: &Report) -> Result<bool> {
        let failed = || crate::error::storage("repair the store");
        let mut wanted: Vec<Digest> = Vec::new();
        for damage in &report.damage {
            if let Damage::Blob { digest }
            | Damage::MissingBlob { digest, .. }
            | Damage::MissingPart { digest, .. } = damage
            {
                wanted.push(digest.clone());
            }
        }
        if wanted.is_empty() {
            return Ok(false);
        }
        let known = self.known_blobs(store)?;
        let client = self.client(&RegistryOptions::default())?;
        for digest in wanted {
            let Some((blob, names)) = known.get(&digest) else { continue };
            // what is there is not what its name says
            store.content().remove(&digest).map_err(failed())?;
            for name in names {
                if fetch(&client, store, lease, name, blob).is_ok() {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// The blobs that images and artifacts are made of, with the names of registries that have them.
    fn known_blobs(&self, store: &Store) -> Result<BTreeMap<Digest, (Descriptor, Vec<Reference>)>> {
        let failed = || crate::error::storage("list images");
        let mut known: BTreeMap<Digest, (Descriptor, Vec<Reference>)> = BTreeMap::new();
        for image in store.images().list().map_err(failed())? {
            let names: Vec<Reference> = image
                .tags
                .iter()
                .filter_map(|tag| Reference::parse(&tag.reference).ok())
                .filter(|name| name.registry() != "localhost")
                .collect();
            let record = &image.record;
            let mut blobs: Vec<Descriptor> =
                std::iter::once(&record.config).chain(&record.manifest).cloned().collect();
            for chain in &record.layers {
                let layer: Option<Layer> = store.layers().get(chain).map_err(failed())?;
                blobs.extend(layer.into_iter().flat_map(|layer| layer.blobs));
            }
            for blob in blobs {
                let entry = known.entry(blob.digest.clone()).or_insert_with(|| (blob, Vec::new()));
                entry.1.extend(names.iter().cloned());
            }
        }
        for artifact in store.artifacts().all().map_err(failed())? {
            let Ok(name) = Reference::parse(&artifact.reference) else { continue };
            let mut blobs = vec![artifact.manifest.clone()];
            // without its manifest nothing more is known of it
            let manifest = store.content().read_verified(&artifact.manifest.digest, oci::MAX_MANIFEST_BYTES);
            if let Ok(bytes) = manifest
                && let Ok(raw) = oci::Raw::<oci::Manifest>::parse(bytes, Some(&artifact.manifest.media_type))
            {
                blobs.push(raw.value().config.clone());
                blobs.extend(raw.value().layers.iter().cloned());
            }
            for blob in blobs {
                let entry = known.entry(blob.digest.clone()).or_insert_with(|| (blob, Vec::new()));
                entry.1.extend((name.registry() != "localhost").then(|| name.clone()));
            }
        }
        Ok(known)
    }

    /// Findings in words, with the images that they concern.
    fn told(&self, report: &Report) -> Result<Vec<String>> {
        if report.damage.is_empty() {
            return Ok(Vec::new());
        }
        // records that cannot be read are findings of their own
        let images = self.store()?.images().list().unwrap_or_default();
        let users = |uses: &dyn Fn(&storage::ImageRecord) -> bool| {
            let names: Vec<String> = images
                .iter()
                .filter(|image| uses(&image.record))
                .map(|image| match image.tags.first() {
                    Some(tag) => tag.reference.clone(),
                    None => image.record.id.short().to_owned(),
                })
                .collect();
            if names.is_empty() { String::new() } else { format!(" (used by {})", names.join(", ")) }
        };
        let of_layer = |chain: &oci::ChainId| users(&|record| record.layers.contains(chain));
        let text = |damage: &Damage| match damage {
            Damage::Blob { digest } => {
                let used = users(&|record| {
                    record.config.digest == *digest
                        || record.manifest.as_ref().is_some_and(|manifest| manifest.digest == *digest)
                });
                format!("blob {digest}: its content has another digest{used}")
            }
            Damage::MissingBlob { image, digest } => {
                format!("image {}: blob {digest} is missing", image.short())
            }
            Damage::MissingPart { artifact, digest } => {
                format!("artifact {artifact}: blob {digest} is missing")
            }
            Damage::MissingLayer { image, chain_id } => {
                format!("image {}: layer {chain_id} is missing", image.short())
            }
            Damage::MissingSnapshot { chain_id, snapshot } => {
                format!("layer {chain_id}: snapshot {snapshot} is missing{}", of_layer(chain_id))
            }
            Damage::File { chain_id, path, what } => {
                let path = String::from_utf8_lossy(path);
                format!("layer {chain_id}: /{path}: {what}{}", of_layer(chain_id))
            }
            Damage::Layer { chain_id } => {
                format!("layer {chain_id}: its files are not those that it was made of{}", of_layer(chain_id))
            }
            Damage::DanglingName { reference } => format!("name {reference}: its image is missing"),
            Damage::Record { path, reason } => format!("record {}: {reason}", path.display()),
            other => format!("{other:?}"),
        };
        Ok(report.damage.iter().map(text).collect())
    }
}

/// Receives one blob, or a manifest, from a repository.
fn fetch(
    client: &Client,
    store: &Store,
    lease: &Lease,
    name: &Reference,
    blob: &Descriptor,
) -> registry::Result<()> {
    let failed = |error| registry::Error::external(format!("keep {}", blob.digest), error);
    let is_manifest = blob.media_type == oci::media_type::OCI_MANIFEST
        || blob.media_type == oci::media_type::DOCKER_MANIFEST;
    if is_manifest {
        let raw = client.manifest(&name.with_digest(blob.digest.clone()))?;
        return store.content().put(lease, raw.bytes()).map(drop).map_err(failed);
    }
    let mut writer = match store.content().claim(lease, &blob.digest, Some(blob.size)).map_err(failed)? {
        Claim::Present => return Ok(()),
        Claim::Writer(writer) => writer,
    };
    if writer.offset() != blob.size {
        let mut reader = client.blob(name, blob, writer.offset())?;
        std::io::copy(&mut reader, &mut *writer)
            .map_err(|error| registry::Error::external(format!("receive {}", blob.digest), error))?;
    }
    writer.finish().map(drop).map_err(failed)
}
