//! Layer records: a chain ID, the snapshot that has its files and the blobs that it is known to be.

use crate::error::Result;
use crate::leases::Lease;
use crate::store::Store;
use oci::{ChainId, Descriptor, DiffId};
use serde::{Deserialize, Serialize};

/// A layer on the layers below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Identity of the stack up to this layer.
    pub chain_id: ChainId,
    /// Digest of the layer's plain tar.
    pub diff_id: DiffId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Name of the committed snapshot that has the stack's files.
    pub snapshot: String,
    /// Compressed or plain forms of the layer's tar: those in the store and those known from registries.
    #[serde(default)]
    pub blobs: Vec<Descriptor>,
    /// Size of the plain tar in bytes.
    pub tar_size: u64,
    /// Size of the layer's files in bytes.
    pub unpacked_size: u64,
    /// When it came into the store, RFC 3339.
    pub created: String,
}

/// The layer records of a store.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    pub(crate) store: &'a Store,
}

impl Layers<'_> {
    /// The layer, if it is there. Hold it by a lease before relying on it.
    pub fn get(&self, chain_id: &ChainId) -> Result<Option<Layer>> {
        let _ = chain_id;
        todo!()
    }

    /// The layer, held by the lease, if it is there.
    pub fn hold(&self, lease: &Lease, chain_id: &ChainId) -> Result<Option<Layer>> {
        let _ = (lease, chain_id);
        todo!()
    }

    /// Records a layer whose snapshot is committed and holds it. Where the chain ID is known already, the record stays,
    /// gains the blobs, and is returned: its snapshot may be another one.
    pub fn put(&self, lease: &Lease, layer: &Layer) -> Result<Layer> {
        let _ = (lease, layer);
        todo!()
    }

    /// Adds a form of the layer's tar; one with the same digest replaces the old.
    pub fn add_blob(&self, chain_id: &ChainId, blob: &Descriptor) -> Result<()> {
        let _ = (chain_id, blob);
        todo!()
    }

    /// Removes a record; its snapshot and blobs are left to the sweep.
    pub fn remove(&self, chain_id: &ChainId) -> Result<bool> {
        let _ = chain_id;
        todo!()
    }

    /// All layers, in no order.
    pub fn list(&self) -> Result<Vec<Layer>> {
        todo!()
    }

    /// Layers that have this diff ID, whatever lies below them.
    pub fn with_diff_id(&self, diff_id: &DiffId) -> Result<Vec<Layer>> {
        let _ = diff_id;
        todo!()
    }
}
