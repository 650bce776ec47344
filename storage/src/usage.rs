//! How much space things take, from recorded sizes.

use crate::error::{Error, Result};
use crate::snapshot::directory;
use crate::store::Store;
use oci::{ChainId, Digest};
use std::collections::{BTreeMap, HashMap, HashSet};

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

/// Bytes that a directory takes on the disk with all that is in it; files with several names count once.
pub fn tree_size(directory: &std::path::Path) -> Result<u64> {
    Ok(directory::measure(directory)?.bytes)
}

impl Store {
    /// Adds up recorded sizes; only active snapshots and unfinished work are measured.
    pub fn usage(&self) -> Result<Usage> {
        let (contents, garbage) = self.survey()?;
        let mut users: HashMap<&ChainId, u32> = HashMap::new();
        for image in contents.images.values() {
            for layer in &image.layers {
                *users.entry(layer).or_default() += 1;
            }
        }
        let layer_size = |id: &ChainId| contents.layers.get(id).map_or(0, |layer| layer.unpacked_size);
        let images = contents.images.values().map(|image| {
            let size = image.layers.iter().map(&layer_size).sum();
            let own = image.layers.iter().filter(|layer| users.get(layer).copied() == Some(1));
            (image.id.clone(), ImageUsage { size, unique: own.map(&layer_size).sum() })
        });
        let images = images.collect();
        let of_layers: HashSet<&str> =
            contents.layers.values().map(|layer| layer.snapshot.as_str()).collect();
        let recorded = |in_layer: bool| {
            let snapshots =
                contents.snapshots.iter().filter(|(name, _)| of_layers.contains(name.as_str()) == in_layer);
            snapshots.filter_map(|(_, record)| record.usage).map(|usage| usage.bytes).sum::<u64>()
        };
        let (layers, cache) = (recorded(true), recorded(false));
        let active = contents.active.iter().map(|(key, _)| {
            // One that is removed meanwhile takes nothing.
            directory::measure(&directory::active(self.root(), key).join("fs")).map_or(0, |usage| usage.bytes)
        });
        let active = active.sum();
        let unfinished = ["ingest", "trash"]
            .iter()
            .map(|place| directory::measure(&self.path(place)).map_or(0, |usage| usage.bytes))
            .sum();
        Ok(Usage {
            images,
            layers,
            blobs: contents.blobs.iter().map(|(_, size)| size).sum(),
            active,
            cache,
            unfinished,
            reclaimable: garbage.bytes,
        })
    }

    /// Size in bytes of the files of a stack of layers, from its top.
    pub fn chain_size(&self, top: &ChainId) -> Result<u64> {
        let mut size = 0;
        let mut next = Some(top.clone());
        while let Some(chain_id) = next {
            let layer = self.layers().get(&chain_id)?.ok_or(Error::LayerNotFound { chain_id })?;
            size += layer.unpacked_size;
            next = layer.parent;
        }
        Ok(size)
    }
}
