//! Artifacts: manifests that are no image's, kept by name with all their blobs.
//!
//! Nothing is unpacked for them. The record repeats the digests of all that the manifest names, so that the sweep reads
//! no manifest.

use crate::error::Result;
use crate::leases::Lease;
use crate::records::{self, Record, Sync};
use crate::store::Store;
use oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An artifact under one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// The full reference that is its name.
    pub reference: String,
    /// The manifest, in the content store.
    pub manifest: Descriptor,
    /// Config and layers, in the content store.
    #[serde(default)]
    pub blobs: Vec<Digest>,
    /// Bytes of the layers.
    pub size: u64,
    /// When it was made, RFC 3339, where the manifest says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it got this name, RFC 3339.
    pub updated: String,
}

impl Record for ArtifactRecord {
    const VERSION: u32 = 1;
}

/// The artifacts of a store.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts<'a> {
    pub(crate) store: &'a Store,
}

impl Artifacts<'_> {
    /// The artifact of this full reference.
    pub fn get(&self, reference: &str) -> Result<Option<ArtifactRecord>> {
        records::read(&self.path(reference))
    }

    /// All artifacts, sorted by reference.
    pub fn all(&self) -> Result<Vec<ArtifactRecord>> {
        let mut all: Vec<ArtifactRecord> = records::list(&self.store.path("artifacts"))?;
        all.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(all)
    }

    /// Records an artifact whose blobs the lease holds: syncs the content first. `may_replace` is asked under the records'
    /// lock with what has the name now; says whether the record was written.
    pub fn put(
        &self,
        _lease: &Lease,
        record: &ArtifactRecord,
        may_replace: impl FnOnce(Option<&ArtifactRecord>) -> bool,
    ) -> Result<bool> {
        // before the locks: this is the wait for the disk
        self.store.sync()?;
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        if !may_replace(self.get(&record.reference)?.as_ref()) {
            return Ok(false);
        }
        // a store of an earlier version has no such directory
        sys::fs::create_dir_all(&self.store.path("artifacts"), 0o700)?;
        records::write(&self.path(&record.reference), record, Sync::Data)?;
        Ok(true)
    }

    /// Takes a name from an artifact; what it needed is left to the sweep. Says whether it was there.
    pub fn remove(&self, reference: &str) -> Result<bool> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        records::remove(&self.path(reference))
    }

    fn path(&self, reference: &str) -> PathBuf {
        self.store.path("artifacts").join(records::file_name(reference))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Driver, StoreOptions, SweepOptions};

    #[test]
    fn a_sweep_keeps_what_an_artifact_names_and_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let store = Store::open(StoreOptions { root, driver: Driver::Vfs, user_namespace: false }).unwrap();
        let lease = store.lease("test").unwrap();
        let (manifest, blob) = (b"manifest".as_slice(), b"blob".as_slice());
        let digests =
            [store.content().put(&lease, manifest).unwrap(), store.content().put(&lease, blob).unwrap()];
        let record = ArtifactRecord {
            reference: "localhost/a:1".to_owned(),
            manifest: Descriptor::of(oci::media_type::OCI_MANIFEST, manifest),
            blobs: vec![digests[1].clone()],
            size: 4,
            created: None,
            updated: "2026-01-01T00:00:00Z".to_owned(),
        };
        // an older store has no directory for it
        let _ = std::fs::remove_dir(store.path("artifacts"));
        assert!(store.artifacts().all().unwrap().is_empty());
        assert!(store.artifacts().put(&lease, &record, |known| known.is_none()).unwrap());
        assert!(!store.artifacts().put(&lease, &record, |known| known.is_none()).unwrap());
        drop(lease);
        store.sweep(SweepOptions::default()).unwrap();
        for digest in &digests {
            assert!(store.content().has(digest).unwrap(), "{digest}");
        }
        assert_eq!(store.artifacts().get("localhost/a:1").unwrap(), Some(record));
        assert!(store.artifacts().remove("localhost/a:1").unwrap());
        assert!(!store.artifacts().remove("localhost/a:1").unwrap());
        store.sweep(SweepOptions::default()).unwrap();
        for digest in &digests {
            assert!(!store.content().has(digest).unwrap(), "{digest}");
        }
    }
}
