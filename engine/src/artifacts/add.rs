//! `artifact add`.

use super::media::{LOOKED_AT, media_type};
use super::{Artifacts, TITLE, local_name, record};
use crate::time::Instant;
use crate::{Error, Result};
use oci::{Descriptor, Manifest, ManifestOrIndex, Raw, annotation, media_type as types};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use storage::{ArtifactRecord, Hold, Lease, Store};

/// What an artifact is of that nobody gave a type.
const UNKNOWN: &str = "application/vnd.unknown.artifact.v1";

/// Make an artifact of files, or add files to one.
#[derive(Debug, Clone, Default)]
pub struct ArtifactAddRequest {
    /// Its name; without a registry it is local.
    pub name: String,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Add to the artifact that is there.
    pub append: bool,
    /// Take the place of an artifact that is there.
    pub replace: bool,
    /// Type of the artifact.
    pub artifact_type: Option<String>,
    /// Media type of the files; `None` = told from how each begins.
    pub file_type: Option<String>,
    /// Annotations of the files.
    pub annotations: BTreeMap<String, String>,
}

impl Artifacts<'_> {
    /// Makes an artifact, or a new version of one that is there; returns the digest of its manifest.
    pub fn add(&self, request: &ArtifactAddRequest) -> Result<String> {
        let name = local_name(&request.name)?;
        let refused = |what: &str, reason: &str| Err(Error::invalid(what.to_owned(), reason));
        if request.append && request.replace {
            return refused("--append with --replace", "an artifact is either extended or replaced");
        }
        if request.append && request.artifact_type.is_some() {
            return refused("--append with --type", "the artifact has its type already");
        }
        if request.files.len() > 1 && request.annotations.contains_key(TITLE) {
            return refused(TITLE, "several files would have the same title: add them one by one");
        }
        let store = self.engine.store()?;
        let what = || format!("add to artifact {name}");
        let known = store.artifacts().get(&name).map_err(crate::error::storage(what()))?;
        match &known {
            Some(_) if !request.append && !request.replace => {
                return Err(Error::Taken { what: "artifact", name });
            }
            None if request.append => return Err(Error::NotFound { what: "artifact", name }),
            _ => {}
        }
        let lease = store.lease(&what()).map_err(crate::error::storage(what()))?;
        let mut manifest = match &known {
            Some(known) if request.append => self.extended(known, &lease)?,
            _ => new_manifest(store, &lease, request.artifact_type.as_deref())
                .map_err(crate::error::storage(what()))?,
        };
        for file in &request.files {
            let layer = add_file(store, &lease, file, request)?;
            let title = layer.annotations.get(TITLE);
            if manifest.layers.iter().any(|known| known.annotations.get(TITLE) == title) {
                return Err(Error::Taken { what: "file", name: title.cloned().unwrap_or_default() });
            }
            manifest.layers.push(layer);
        }
        let raw =
            Raw::from_value(ManifestOrIndex::Manifest(manifest)).map_err(crate::error::document(what()))?;
        if raw.size() > oci::MAX_MANIFEST_BYTES {
            return Err(Error::invalid(
                format!("artifact {name}"),
                "it has more files than a manifest can name",
            ));
        }
        store.content().put(&lease, raw.bytes()).map_err(crate::error::storage(what()))?;
        let expected = known.map(|known| known.manifest.digest);
        let unchanged = |now: Option<&ArtifactRecord>| {
            request.replace || now.map(|now| &now.manifest.digest) == expected.as_ref()
        };
        let record = record(name.clone(), &raw);
        if !store.artifacts().put(&lease, &record, unchanged).map_err(crate::error::storage(what()))? {
            // somebody was faster: nothing of theirs is overwritten
            return Err(Error::State {
                attempt: "add to",
                what: "artifact",
                name,
                state: "changed by another command meanwhile".to_owned(),
            });
        }
        if request.replace {
            self.sweep()?;
        }
        Ok(raw.digest().to_string())
    }

    /// The manifest of an artifact that gets further files; the lease holds what it names.
    fn extended(&self, known: &ArtifactRecord, lease: &Lease) -> Result<Manifest> {
        let what = || format!("add to artifact {}", known.reference);
        for digest in &known.blobs {
            if !lease.hold(Hold::Blob(digest.clone())).map_err(crate::error::storage(what()))? {
                return Err(Error::NotFound { what: "blob", name: digest.to_string() });
            }
        }
        let (_, value) = self.manifest(known)?.into_parts();
        match value {
            ManifestOrIndex::Manifest(manifest) => Ok(manifest),
            ManifestOrIndex::Index(_) => Err(Error::unsupported(
                format!("artifact {}", known.reference),
                "it is an index: make a new one",
            )),
        }
    }
}

fn new_manifest(store: &Store, lease: &Lease, kind: Option<&str>) -> storage::Result<Manifest> {
    let empty = b"{}";
    store.content().put(lease, empty)?;
    let config = Descriptor { data: Some(empty.to_vec()), ..Descriptor::of(types::OCI_EMPTY, empty) };
    let mut manifest = Manifest::new(config, Vec::new());
    manifest.artifact_type = Some(kind.filter(|kind| !kind.is_empty()).unwrap_or(UNKNOWN).to_owned());
    manifest.annotations.insert(annotation::CREATED.to_owned(), Instant::now().rfc3339());
    Ok(manifest)
}

/// Stores a file; the descriptor says what it is.
fn add_file(store: &Store, lease: &Lease, path: &Path, request: &ArtifactAddRequest) -> Result<Descriptor> {
    let failed = |error| Error::os(format!("read {}", path.display()), error);
    let mut file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(Error::invalid(
            path.display().to_string(),
            "a directory is no file: give its files, or an archive of it",
        ));
    }
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(LOOKED_AT as u64).read_to_end(&mut first).map_err(failed)?;
    let what = || format!("keep {}", path.display());
    let mut blob = store.content().create(lease).map_err(crate::error::storage(what()))?;
    blob.write_all(&first).map_err(|error| Error::os(what(), error))?;
    std::io::copy(&mut file, &mut blob).map_err(|error| Error::os(what(), error))?;
    let (digest, size) = blob.finish().map_err(crate::error::storage(what()))?;
    let kind = request.file_type.as_deref().filter(|kind| !kind.is_empty());
    let mut descriptor = Descriptor::new(kind.unwrap_or_else(|| media_type(&first)), digest, size);
    let title = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let title = title.ok_or_else(|| Error::invalid(path.display().to_string(), "it has no name"))?;
    descriptor.annotations.insert(TITLE.to_owned(), title);
    descriptor.annotations.extend(request.annotations.clone());
    Ok(descriptor)
}
