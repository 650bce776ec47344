//! Layer records: a chain ID, the snapshot that has its files and the blobs that it is known to be.

use crate::error::{Error, Result};
use crate::leases::{Hold, Lease};
use crate::records::{self, Record, Sync};
use crate::snapshot::directory;
use crate::store::Store;
use oci::{ChainId, Descriptor, DiffId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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

impl Record for Layer {
    const VERSION: u32 = 1;
}

/// The layer records of a store.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    pub(crate) store: &'a Store,
}

impl Layers<'_> {
    /// The layer, if it is there. Hold it by a lease before relying on it.
    pub fn get(&self, chain_id: &ChainId) -> Result<Option<Layer>> {
        records::read(&self.path(chain_id))
    }

    /// The layer, held by the lease, if it is there.
    pub fn hold(&self, lease: &Lease, chain_id: &ChainId) -> Result<Option<Layer>> {
        if lease.hold(Hold::Layer(chain_id.clone()))? { self.get(chain_id) } else { Ok(None) }
    }

    /// Records a layer whose snapshot is committed and holds it. Where the chain ID is known already, the record stays,
    /// gains the blobs, and is returned: its snapshot may be another one.
    pub fn put(&self, lease: &Lease, layer: &Layer) -> Result<Layer> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        let root = self.store.root();
        lease.inner().note(Hold::Layer(layer.chain_id.clone()))?;
        let known = match self.get(&layer.chain_id)? {
            // A record whose snapshot is gone is replaced.
            Some(known) if sys::fs::exists(&directory::committed(root, &known.snapshot))? => Some(known),
            _ => None,
        };
        let result = match known {
            Some(mut known) => {
                let mut changed = false;
                for blob in &layer.blobs {
                    changed |= add_blob(&mut known, blob);
                }
                if !changed {
                    return Ok(known);
                }
                known
            }
            None if sys::fs::exists(&directory::committed(root, &layer.snapshot))? => layer.clone(),
            None => return Err(Error::SnapshotNotFound { name: layer.snapshot.clone() }),
        };
        records::write(&self.path(&layer.chain_id), &result, Sync::None)?;
        Ok(result)
    }

    /// Adds a form of the layer's tar; one with the same digest replaces the old.
    pub fn add_blob(&self, chain_id: &ChainId, blob: &Descriptor) -> Result<()> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        let mut layer =
            self.get(chain_id)?.ok_or_else(|| Error::LayerNotFound { chain_id: chain_id.clone() })?;
        if add_blob(&mut layer, blob) {
            records::write(&self.path(chain_id), &layer, Sync::None)?;
        }
        Ok(())
    }

    /// Removes a record; its snapshot and blobs are left to the sweep.
    pub fn remove(&self, chain_id: &ChainId) -> Result<bool> {
        records::remove(&self.path(chain_id))
    }

    /// All layers, in no order.
    pub fn list(&self) -> Result<Vec<Layer>> {
        records::list(&self.store.path("layers"))
    }

    /// Layers that have this diff ID, whatever lies below them.
    pub fn with_diff_id(&self, diff_id: &DiffId) -> Result<Vec<Layer>> {
        let mut layers = self.list()?;
        layers.retain(|layer| layer.diff_id == *diff_id);
        Ok(layers)
    }

    pub(crate) fn path(&self, chain_id: &ChainId) -> PathBuf {
        self.store.path("layers").join(format!("{}.json", chain_id.hex()))
    }
}

/// Adds or replaces a blob by digest; says whether the layer changed.
fn add_blob(layer: &mut Layer, blob: &Descriptor) -> bool {
    match layer.blobs.iter_mut().find(|known| known.digest == blob.digest) {
        Some(known) if known == blob => false,
        Some(known) => {
            *known = blob.clone();
            true
        }
        None => {
            layer.blobs.push(blob.clone());
            true
        }
    }
}
