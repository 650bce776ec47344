//! Records of the build cache: what a step led to, and which content the record keeps alive.

use crate::error::Result;
use crate::leases::Lease;
use crate::store::Store;
use oci::{ChainId, Digest};
use serde::{Deserialize, Serialize};

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

impl Cache<'_> {
    /// The record of a key, with all that it keeps held by the lease. `None` where there is none, or where something
    /// that it needs is gone, in which case the record is removed.
    pub fn hold(&self, lease: &Lease, key: &str) -> Result<Option<CacheRecord>> {
        let _ = (lease, key);
        todo!()
    }

    /// The record of a key. What it names may be gone unless held; see [`Cache::hold`].
    pub fn get(&self, key: &str) -> Result<Option<CacheRecord>> {
        let _ = key;
        todo!()
    }

    /// Writes or replaces a record. It survives a killed process at once, and a power failure after the next
    /// [`Store::sync`].
    pub fn put(&self, record: &CacheRecord) -> Result<()> {
        let _ = record;
        todo!()
    }

    /// Removes a record; what it kept is left to the sweep.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let _ = key;
        todo!()
    }

    /// All records, in no order.
    pub fn list(&self) -> Result<Vec<CacheRecord>> {
        todo!()
    }
}
