//! Artifacts: files in registries, under manifests that are no image's. One file a verb.
//!
//! They are kept as they came, and nothing of them is unpacked. A name is an artifact's or an image's, each in its own place.

mod add;
mod ends;
mod extract;
mod media;

pub use add::ArtifactAddRequest;
pub use ends::{ArtifactPullRequest, ArtifactPushRequest};
pub use extract::ArtifactExtractRequest;

use crate::images::lookup::local_reference;
use crate::time::Instant;
use crate::{Engine, Error, Result};
use oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, ManifestOrIndex, Raw};
use registry::Name;
use serde::Serialize;
use storage::{ArtifactRecord, SweepOptions};

/// Annotation with the name of a file.
const TITLE: &str = "org.opencontainers.image.title";

/// The artifacts of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts<'a> {
    engine: &'a Engine,
}

/// An artifact in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactSummary {
    /// Its full name.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
    /// When it was made, seconds since 1970, where the manifest says so.
    pub created: Option<i64>,
    /// Bytes of its files.
    pub size: u64,
}

/// What an artifact is, in Podman's JSON shape.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArtifactInspect {
    /// The manifest as it is.
    pub manifest: serde_json::Value,
    /// Its full name.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
}

impl Engine {
    /// The artifacts.
    pub fn artifacts(&self) -> Artifacts<'_> {
        Artifacts { engine: self }
    }
}

impl Artifacts<'_> {
    /// All artifacts, a row for each name.
    pub fn list(&self) -> Result<Vec<ArtifactSummary>> {
        let all = self.engine.store()?.artifacts().all();
        let row = |record: ArtifactRecord| ArtifactSummary {
            digest: record.manifest.digest.to_string(),
            created: record.created.as_deref().and_then(Instant::parse_rfc3339).map(Instant::seconds),
            size: record.size,
            name: record.reference,
        };
        Ok(all.map_err(crate::error::storage("list artifacts"))?.into_iter().map(row).collect())
    }

    /// Describes an artifact.
    pub fn inspect(&self, name: &str) -> Result<ArtifactInspect> {
        let record = self.find(name)?;
        let raw = self.manifest(&record)?;
        let manifest = serde_json::from_slice(raw.bytes()).map_err(|error| {
            Error::os(format!("read the manifest of {name}"), std::io::Error::from(error))
        })?;
        Ok(ArtifactInspect { manifest, name: record.reference, digest: record.manifest.digest.to_string() })
    }

    /// Removes artifacts and frees what only they needed. Returns the digests of those that are gone, and what failed.
    pub fn remove(&self, names: &[String], all: bool) -> (Vec<String>, Vec<Error>) {
        let mut failures = Vec::new();
        let mut removed = Vec::new();
        let mut remove = |record: &ArtifactRecord| -> Result<()> {
            let failed = crate::error::storage(format!("remove artifact {}", record.reference));
            if self.engine.store()?.artifacts().remove(&record.reference).map_err(failed)? {
                removed.push(record.manifest.digest.hex().to_owned());
            }
            Ok(())
        };
        let records: Vec<Result<ArtifactRecord>> = match all {
            true => match self.records() {
                Ok(records) => records.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            },
            false => names.iter().map(|name| self.find(name)).collect(),
        };
        for record in records {
            if let Err(error) = record.and_then(|record| remove(&record)) {
                failures.push(error);
            }
        }
        if !removed.is_empty()
            && let Err(error) = self.sweep()
        {
            failures.push(error);
        }
        (removed, failures)
    }

    fn sweep(&self) -> Result<()> {
        let freed = self.engine.store()?.sweep(SweepOptions::default());
        freed.map(drop).map_err(crate::error::storage("free what nothing needs"))
    }

    fn records(&self) -> Result<Vec<ArtifactRecord>> {
        self.engine.store()?.artifacts().all().map_err(crate::error::storage("list artifacts"))
    }

    /// Finds an artifact by its name, or by the digest of its manifest or the beginning of it.
    fn find(&self, text: &str) -> Result<ArtifactRecord> {
        let store = self.engine.store()?;
        let (bare, is_digest) = text.strip_prefix("sha256:").map_or((text, false), |hex| (hex, true));
        if !is_digest && let Ok(name) = Name::parse(text) {
            for candidate in self.engine.candidates(&name)? {
                let digest = candidate.digest().cloned();
                let full = match &digest {
                    None => candidate.with_default_tag(),
                    Some(_) => candidate.without_target(),
                };
                let failed = crate::error::storage(format!("look up artifact {text}"));
                match &digest {
                    None => {
                        if let Some(record) = store.artifacts().get(&full.to_string()).map_err(failed)? {
                            return Ok(record);
                        }
                    }
                    Some(digest) => {
                        let is_it = |record: &ArtifactRecord| {
                            record.manifest.digest == *digest
                                && registry::Reference::parse(&record.reference)
                                    .is_ok_and(|name| name.without_target() == full)
                        };
                        if let Some(record) = self.records()?.into_iter().find(is_it) {
                            return Ok(record);
                        }
                    }
                }
            }
        }
        // as for images: three digits are enough where only one manifest begins so
        let hex = bare.len() >= 3 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found: Vec<ArtifactRecord> = match hex {
            true => self.records()?,
            false => Vec::new(),
        };
        found.retain(|record| record.manifest.digest.hex().starts_with(&bare.to_ascii_lowercase()));
        let first = found.first().cloned();
        if found
            .iter()
            .any(|record| Some(&record.manifest.digest) != first.as_ref().map(|one| &one.manifest.digest))
        {
            return Err(Error::Ambiguous {
                what: "artifact",
                name: text.to_owned(),
                matches: found.iter().map(|record| record.manifest.digest.short().to_owned()).collect(),
            });
        }
        first.ok_or_else(|| Error::NotFound { what: "artifact", name: text.to_owned() })
    }

    fn manifest(&self, record: &ArtifactRecord) -> Result<Raw<ManifestOrIndex>> {
        let store = self.engine.store()?;
        let what = || format!("read the manifest of {}", record.reference);
        let digest = &record.manifest.digest;
        let bytes =
            store.content().read(digest, MAX_MANIFEST_BYTES).map_err(crate::error::storage(what()))?;
        Raw::parse_verified(bytes, Some(&record.manifest.media_type), digest)
            .map_err(crate::error::document(what()))
    }

    /// The files of an artifact.
    fn layers(&self, record: &ArtifactRecord) -> Result<Vec<Descriptor>> {
        match self.manifest(record)?.value() {
            ManifestOrIndex::Manifest(manifest) => Ok(manifest.layers.clone()),
            ManifestOrIndex::Index(_) => Ok(Vec::new()),
        }
    }
}

/// The record of an artifact under a full name.
fn record(reference: String, raw: &Raw<ManifestOrIndex>) -> ArtifactRecord {
    let mut blobs: Vec<Digest> = Vec::new();
    let (mut size, mut created) = (0_u64, None);
    if let ManifestOrIndex::Manifest(manifest) = raw.value() {
        blobs.push(manifest.config.digest.clone());
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        size = manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size));
        created = manifest.annotations.get(oci::annotation::CREATED).cloned();
    }
    ArtifactRecord {
        reference,
        manifest: raw.descriptor(),
        blobs,
        size,
        created,
        updated: Instant::now().rfc3339(),
    }
}

/// The full name of an artifact that is made here: one without a registry is local.
fn local_name(text: &str) -> Result<String> {
    let reference = local_reference(text)?;
    if reference.digest().is_some() {
        return Err(Error::invalid(format!("name {text}"), "an artifact is named by a tag, not by a digest"));
    }
    Ok(reference.to_string())
}
