//! Records of the build cache: what a step led to, and which content the record keeps alive.
//!
//! A record lies in `cache/pending/` until the content that it names is known to be on the disk, then in `cache/`. The
//! first writer after a boot drops what is pending: its content may have been lost with the power.

use crate::error::{Error, Result};
use crate::leases::{Hold, Lease};
use crate::records::{self, Record, Sync};
use crate::store::Store;
use oci::{ChainId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const PENDING: &str = "cache/pending";
const DURABLE: &str = "cache";
/// The newer first.
const DIRECTORIES: [&str; 2] = [PENDING, DURABLE];

/// A known result of a build step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The key under which it is found.
    pub key: String,
    /// Layers that it keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<ChainId>,
    /// Committed snapshots that it keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
    /// Blobs that it keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When a build last used it, RFC 3339.
    pub last_used: String,
    /// What it costs in bytes, as far as the builder knows.
    #[serde(default)]
    pub size: u64,
    /// The builder's own part.
    #[serde(default)]
    pub data: serde_json::Value,
}

/// The build cache's records of a store.
#[derive(Debug, Clone, Copy)]
pub struct Cache<'a> {
    pub(crate) store: &'a Store,
}

impl Record for CacheRecord {
    const VERSION: u32 = 1;
}

impl Cache<'_> {
    /// The record of a key, with all that it keeps held by the lease. `None` where there is none, or where something
    /// that it needs is gone, in which case the record is removed.
    pub fn hold(&self, lease: &Lease, key: &str) -> Result<Option<CacheRecord>> {
        let Some(record) = self.get(key)? else { return Ok(None) };
        let holds = record
            .layers
            .iter()
            .cloned()
            .map(Hold::Layer)
            .chain(record.snapshots.iter().cloned().map(Hold::Snapshot))
            .chain(record.blobs.iter().cloned().map(Hold::Blob));
        for hold in holds {
            if !lease.hold(hold)? {
                self.remove(key)?;
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// The record of a key. What it names may be gone unless held; see [`Cache::hold`].
    pub fn get(&self, key: &str) -> Result<Option<CacheRecord>> {
        let name = records::file_name(key);
        for directory in DIRECTORIES {
            match records::read(&self.store.path(directory).join(&name)) {
                Ok(None) => {}
                // A record that cannot be read is a result that is not known; it would be in the way of every sweep.
                Err(Error::MalformedRecord { path, .. }) => {
                    records::remove(&path)?;
                }
                other => return other,
            }
        }
        // Made durable between the two looks.
        records::read(&self.store.path(DURABLE).join(&name))
    }

    /// Writes or replaces a record. It survives a killed process at once, and a power failure after the next
    /// [`Store::sync`]; replacing a durable one whose content is the same keeps it durable.
    pub fn put(&self, record: &CacheRecord) -> Result<()> {
        let name = records::file_name(&record.key);
        let _lock = self.store.lock_shared()?;
        let durable = self.store.path(DURABLE).join(&name);
        let known: Option<CacheRecord> = records::read(&durable).unwrap_or_default();
        let is_same = known.is_some_and(|known| {
            known.layers == record.layers
                && known.snapshots == record.snapshots
                && known.blobs == record.blobs
        });
        if is_same {
            return records::write(&durable, record, Sync::None);
        }
        records::write(&self.store.path(PENDING).join(&name), record, Sync::None)
    }

    /// Removes a record; what it kept is left to the sweep.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let name = records::file_name(key);
        let pending = records::remove(&self.store.path(PENDING).join(&name))?;
        Ok(records::remove(&self.store.path(DURABLE).join(&name))? || pending)
    }

    /// All records, in no order.
    pub fn list(&self) -> Result<Vec<CacheRecord>> {
        let mut all = BTreeMap::new();
        // In this order a record that is made durable meanwhile is seen at least once.
        for directory in DIRECTORIES {
            for record in records::list::<CacheRecord>(&self.store.path(directory))? {
                all.entry(record.key.clone()).or_insert(record);
            }
        }
        Ok(all.into_values().collect())
    }

    /// Moves records whose content is on the disk now to where a reboot leaves them.
    pub(crate) fn make_durable(&self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let _lock = self.store.lock_shared()?;
        for name in names {
            let (from, to) = (self.store.path(PENDING).join(name), self.store.path(DURABLE).join(name));
            sys::fs::optional(sys::fs::rename(&from, &to))?;
        }
        Ok(())
    }
}
