//! Verifies the store: blobs against their digests, unpacked files against blobs, records against what they name.

mod files;

use crate::error::{Error, Result};
use crate::records::Record;
use crate::store::Store;
use crate::{ArtifactRecord, CacheRecord, ImageRecord, Layer, TagRecord};
use oci::{ChainId, Digest, Digester};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io::Read;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A blob's content has another digest.
    Blob {
        /// The blob.
        digest: Digest,
    },
    /// An image names a blob that is not there.
    MissingBlob {
        /// The image.
        image: Digest,
        /// The blob.
        digest: Digest,
    },
    /// An artifact names a blob that is not there.
    MissingPart {
        /// The artifact's name.
        artifact: String,
        /// The blob.
        digest: Digest,
    },
    /// An image names a layer that is not there.
    MissingLayer {
        /// The image.
        image: Digest,
        /// The layer.
        chain_id: ChainId,
    },
    /// A layer names a snapshot that is not there.
    MissingSnapshot {
        /// The layer.
        chain_id: ChainId,
        /// The snapshot.
        snapshot: String,
    },
    /// A name leads to no image.
    DanglingName {
        /// The name.
        reference: String,
    },
    /// A file of a layer is not what the layer's blob has.
    File {
        /// The layer.
        chain_id: ChainId,
        /// Its path within the layer.
        path: Vec<u8>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The files of a layer that was built here are not those that it was made of.
    Layer {
        /// The layer.
        chain_id: ChainId,
    },
    /// A record cannot be read.
    Record {
        /// Where it lies.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs that were read.
    pub blobs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, records first.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Checks all records, and with `content` reads every blob and every file of a layer too, on all cores.
    pub fn check(&self, content: bool) -> Result<Report> {
        let mut report = Report::default();
        let layers: HashMap<ChainId, Layer> = self
            .readable("layers", &mut report)?
            .into_iter()
            .map(|layer: Layer| (layer.chain_id.clone(), layer))
            .collect();
        for layer in layers.values() {
            if self.snapshots().stat(&layer.snapshot)?.is_none() {
                let (chain_id, snapshot) = (layer.chain_id.clone(), layer.snapshot.clone());
                report.damage.push(Damage::MissingSnapshot { chain_id, snapshot });
            }
        }
        let images: Vec<ImageRecord> = self.readable("images", &mut report)?;
        for image in &images {
            for blob in std::iter::once(&image.config).chain(&image.manifest) {
                if !self.content().has(&blob.digest)? {
                    let (image, digest) = (image.id.clone(), blob.digest.clone());
                    report.damage.push(Damage::MissingBlob { image, digest });
                }
            }
            for chain_id in image.layers.iter().filter(|id| !layers.contains_key(*id)) {
                let (image, chain_id) = (image.id.clone(), chain_id.clone());
                report.damage.push(Damage::MissingLayer { image, chain_id });
            }
        }
        let known: HashSet<&Digest> = images.iter().map(|image| &image.id).collect();
        let tags: Vec<TagRecord> = self.readable("tags", &mut report)?;
        let dangling = tags.into_iter().filter(|tag| !known.contains(&tag.image));
        report.damage.extend(dangling.map(|tag| Damage::DanglingName { reference: tag.reference }));
        let artifacts: Vec<ArtifactRecord> = self.readable("artifacts", &mut report)?;
        for artifact in artifacts {
            for digest in artifact.blobs.iter().chain([&artifact.manifest.digest]) {
                if !self.content().has(digest)? {
                    let (artifact, digest) = (artifact.reference.clone(), digest.clone());
                    report.damage.push(Damage::MissingPart { artifact, digest });
                }
            }
        }
        for directory in ["cache", "cache/pending"] {
            self.readable::<CacheRecord>(directory, &mut report)?;
        }
        if content {
            self.check_blobs(&mut report)?;
            let mut layers: Vec<&Layer> = layers.values().collect();
            layers.sort_by(|one, other| one.chain_id.cmp(&other.chain_id));
            let found = layers.par_iter().map(|layer| files::check_layer(self, layer));
            report.damage.extend(found.collect::<Result<Vec<_>>>()?.into_iter().flatten());
        }
        Ok(report)
    }

    /// Puts damaged files of layers back from the blobs that are kept; gives how many.
    pub fn repair_files(&self, lease: &crate::Lease, damage: &[Damage]) -> Result<usize> {
        let mut by_layer: std::collections::BTreeMap<&ChainId, Vec<&[u8]>> = Default::default();
        for damage in damage {
            if let Damage::File { chain_id, path, .. } = damage {
                by_layer.entry(chain_id).or_default().push(path);
            }
        }
        let mut repaired = 0;
        for (chain_id, paths) in by_layer {
            if let Some(layer) = self.layers().hold(lease, chain_id)? {
                repaired += files::repair(self, lease, &layer, &paths)?;
            }
        }
        Ok(repaired)
    }

    /// Removes what is damaged and the records that need it, so that a pull can bring it back; then sweeps.
    pub fn repair(&self, report: &Report) -> Result<()> {
        let mut lost_layers: HashSet<ChainId> = HashSet::new();
        let mut lost_images: HashSet<Digest> = HashSet::new();
        let mut lost_blobs: HashSet<Digest> = HashSet::new();
        for damage in &report.damage {
            match damage {
                Damage::Blob { digest } => {
                    self.content().remove(digest)?;
                    lost_blobs.insert(digest.clone());
                }
                Damage::MissingBlob { image, .. } | Damage::MissingLayer { image, .. } => {
                    lost_images.insert(image.clone());
                }
                Damage::MissingSnapshot { chain_id, .. } => {
                    lost_layers.insert(chain_id.clone());
                }
                Damage::Layer { chain_id } | Damage::File { chain_id, .. } => {
                    lost_layers.insert(chain_id.clone());
                }
                Damage::MissingPart { artifact, .. } => {
                    self.artifacts().remove(artifact)?;
                }
                Damage::DanglingName { reference } => {
                    self.images().untag(reference)?;
                }
                Damage::Record { path, .. } => {
                    crate::records::remove(path)?;
                }
            }
        }
        for chain_id in &lost_layers {
            self.layers().remove(chain_id)?;
        }
        // Records that could not be read are gone by now.
        for image in self.images().list()? {
            let record = image.record;
            let mut needed = std::iter::once(&record.config).chain(&record.manifest);
            let is_lost = needed.any(|blob| lost_blobs.contains(&blob.digest))
                || record.layers.iter().any(|layer| lost_layers.contains(layer));
            if is_lost || lost_images.contains(&record.id) {
                self.images().remove(&record.id)?;
            }
        }
        for artifact in self.artifacts().all()? {
            if artifact.blobs.iter().chain([&artifact.manifest.digest]).any(|blob| lost_blobs.contains(blob))
            {
                self.artifacts().remove(&artifact.reference)?;
            }
        }
        self.sweep(crate::SweepOptions::default()).map(|_| ())
    }

    /// The records of a directory that can be read; the others are reported.
    fn readable<T: Record>(&self, directory: &str, report: &mut Report) -> Result<Vec<T>> {
        let directory = self.path(directory);
        let mut found = Vec::new();
        for name in crate::records::names(&directory)? {
            let path = directory.join(name);
            match crate::records::read(&path) {
                Ok(record) => found.extend(record),
                Err(Error::MalformedRecord { path, source }) => {
                    report.damage.push(Damage::Record { path, reason: source.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn check_blobs(&self, report: &mut Report) -> Result<()> {
        let blobs = self.content().list()?;
        let checked: Vec<Option<(u64, Option<Digest>)>> =
            blobs.par_iter().map(|(digest, _)| self.check_blob(digest)).collect::<Result<_>>()?;
        for (bytes, damaged) in checked.into_iter().flatten() {
            report.blobs += 1;
            report.bytes += bytes;
            report.damage.extend(damaged.map(|digest| Damage::Blob { digest }));
        }
        Ok(())
    }

    /// Size in bytes of a blob, and its digest if it is damaged. `None` where it was removed meanwhile.
    fn check_blob(&self, digest: &Digest) -> Result<Option<(u64, Option<Digest>)>> {
        let mut file = match self.content().open(digest) {
            Err(Error::BlobNotFound { .. }) => return Ok(None),
            other => other?,
        };
        let mut digester = Digester::for_digest(digest);
        let mut buffer = vec![0u8; 256 << 10];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    digester.update(&buffer[..length]);
                    bytes += u64::try_from(length).unwrap_or(0);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A block that the disk cannot read is damage, too.
                Err(_) => return Ok(Some((bytes, Some(digest.clone())))),
            }
        }
        Ok(Some((bytes, (digester.finish() != *digest).then(|| digest.clone()))))
    }
}
