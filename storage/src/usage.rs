//! How much space things take, from recorded sizes.

use crate::error::Result;
use crate::store::Store;
use oci::{ChainId, Digest};
use std::collections::BTreeMap;

/// Space used by a store, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Per image: its size, and how much of it no other image shares.
    pub images: BTreeMap<Digest, ImageUsage>,
    /// Files of the layers, each counted once.
    pub layers: u64,
    /// Blobs, each counted once.
    pub blobs: u64,
    /// Active snapshots, as recorded or measured.
    pub active: u64,
    /// Committed snapshots that belong to no layer (build cache).
    pub cache: u64,
    /// Unfinished blobs, working directories and trash.
    pub unfinished: u64,
    /// What a sweep would free.
    pub reclaimable: u64,
}

/// Space used by an image, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// All its layers' files.
    pub size: u64,
    /// Its layers' files that no other image has.
    pub unique: u64,
}

impl Store {
    /// Adds up recorded sizes; only active snapshots are measured.
    pub fn usage(&self) -> Result<Usage> {
        todo!()
    }

    /// Size in bytes of the files of a stack of layers, from its top.
    pub fn chain_size(&self, top: &ChainId) -> Result<u64> {
        let _ = top;
        todo!()
    }
}
