//! The `dir` form: `version`, `manifest.json` and blobs named by their hex digits in one directory.

use super::oci_layout::store_file;
use super::{Blob, Destination, Placement, Source, Which, check_manifest};
use crate::trust::{
    Budget, Kind, MAX_SIGNATURE, MAX_SIGNATURES, Origin, Signature, Signatures, add_signature,
};
use crate::{Error, Result, files};
use oci::{Descriptor, Digest, ManifestOrIndex, Raw};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";

/// An image in a directory.
#[derive(Debug, Clone)]
pub struct DirSource {
    path: PathBuf,
}

impl DirSource {
    /// Opens a directory that has a `manifest.json`.
    pub fn open(path: &Path) -> Result<Self> {
        if files::read_optional(&path.join("manifest.json"), oci::MAX_MANIFEST_BYTES)?.is_none() {
            return Err(Error::Archive {
                path: path.display().to_string(),
                message: "manifest.json is missing".into(),
            });
        }
        Ok(Self { path: path.to_owned() })
    }

    /// What the names of signatures of a manifest begin with: nothing for the one that the directory is for.
    fn prefix(&self, manifest: &Digest) -> Result<String> {
        let root = files::read(&self.path.join("manifest.json"), oci::MAX_MANIFEST_BYTES)?;
        Ok(if manifest.verify(&root).is_ok() { String::new() } else { format!("{}.", manifest.hex()) })
    }
}

impl Source for DirSource {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        match which {
            Which::Root => {
                let bytes = files::read(&self.path.join("manifest.json"), oci::MAX_MANIFEST_BYTES)?;
                Raw::parse(bytes, None)
                    .map_err(Error::document(format!("manifest.json of {}", self.describe())))
            }
            Which::Entry(entry) => {
                let path = self.path.join(format!("{}.manifest.json", entry.digest.hex()));
                check_manifest(files::read(&path, oci::MAX_MANIFEST_BYTES)?, entry, &self.describe())
            }
        }
    }

    fn origin(&self) -> Origin {
        Origin::path("dir", &self.path, None)
    }

    fn signatures(&self, manifest: &Digest) -> Result<Signatures> {
        let prefix = self.prefix(manifest)?;
        let mut list = Vec::new();
        let mut budget = Budget::default();
        for number in 1..=MAX_SIGNATURES {
            let path = self.path.join(format!("{prefix}signature-{number}"));
            let Some(bytes) = files::read_optional(&path, MAX_SIGNATURE)? else { break };
            budget.take(bytes.len() as u64, &self.describe())?;
            let invalid = |message| Error::Signing { what: path.display().to_string(), message };
            list.push(Signature::parse(&bytes).map_err(invalid)?);
        }
        Ok(Signatures { list, note: None })
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let path = self.path.join(descriptor.digest.hex());
        let mut file = std::fs::File::open(&path).map_err(Error::file("open", &path))?;
        file.seek(SeekFrom::Start(offset)).map_err(Error::file("seek", &path))?;
        Ok(Box::new(file.take(descriptor.size.saturating_sub(offset).saturating_add(1))))
    }
}

/// A directory to write one image to.
#[derive(Debug, Clone)]
pub struct DirDestination {
    path: PathBuf,
}

impl DirDestination {
    /// Creates the directory; one that has files of anything else is refused.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::file("create directory", path))?;
        let version = path.join("version");
        match files::read_optional(&version, 4096)? {
            Some(text) if text.starts_with(b"Directory Transport Version:") => {}
            _ => {
                let mut entries = std::fs::read_dir(path).map_err(Error::file("read directory", path))?;
                if entries.next().is_some() {
                    return Err(Error::Archive {
                        path: path.display().to_string(),
                        message: "the directory is not empty and holds no image".into(),
                    });
                }
                files::write_atomic(&version, VERSION, 0o644)?;
            }
        }
        Ok(Self { path: path.to_owned() })
    }
}

impl Destination for DirDestination {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let path = self.path.join(descriptor.digest.hex());
        Ok(std::fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size))
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Result<()> {
        store_file(blob, &self.path.join(blob.descriptor().digest.hex()))
    }

    fn takes_signatures(&self, _kind: Kind) -> Result<()> {
        Ok(())
    }

    fn put_signatures(
        &self,
        manifest: &Digest,
        placement: Placement,
        signatures: &[Signature],
    ) -> Result<()> {
        let prefix = match placement {
            Placement::Root => String::new(),
            Placement::Entry => format!("{}.", manifest.hex()),
        };
        signatures.iter().try_for_each(|signature| add_signature(&self.path, &prefix, &signature.to_bytes()))
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Result<()> {
        let name = match placement {
            Placement::Root => "manifest.json".to_owned(),
            Placement::Entry => format!("{}.manifest.json", raw.digest().hex()),
        };
        files::write_atomic(&self.path.join(name), raw.bytes(), 0o644)
    }
}
