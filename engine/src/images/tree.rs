//! `image tree`: the layers of an image, what each takes, and what it hides of those below.

use super::Images;
use crate::{Error, Result};
use storage::Layer;

/// The layers of an image.
#[derive(Debug, Clone)]
pub struct ImageTree {
    /// 64 hex digits.
    pub id: String,
    /// Names.
    pub tags: Vec<String>,
    /// Bytes of all layers.
    pub size: u64,
    /// The layers, the lowest first.
    pub layers: Vec<TreeLayer>,
}

/// A layer.
#[derive(Debug, Clone)]
pub struct TreeLayer {
    /// Its chain ID, 64 hex digits.
    pub id: String,
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of lower layers' files that it replaces or removes.
    pub shadows: u64,
    /// Bytes of its files that a lower layer has with the same content: owner, mode or time alone changed.
    pub duplicates: u64,
    /// Names of the images whose uppermost layer it is.
    pub top_of: Vec<String>,
}

/// A layer that is made on another one.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its chain ID, 64 hex digits.
    pub id: String,
    /// Bytes of its files.
    pub size: u64,
    /// How many layers are between it and the image that was asked about: 0 = none.
    pub depth: usize,
    /// Names of the images whose uppermost layer it is.
    pub top_of: Vec<String>,
}

impl Images<'_> {
    /// Describes the layers of an image.
    pub fn tree(&self, name: &str) -> Result<ImageTree> {
        let found = self.engine.find_image(name)?;
        let store = self.engine.store()?;
        let failed = || crate::error::storage(format!("read the layers of {name}"));
        let record = &found.image.record;
        let mut layers: Vec<Layer> = Vec::new();
        for chain in &record.layers {
            let layer = store.layers().get(chain).map_err(failed())?;
            layers.push(layer.ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?);
        }
        let shares = store.layer_shares(&layers).map_err(failed())?;
        let tops = self.tops()?;
        let layers: Vec<TreeLayer> = layers
            .iter()
            .zip(shares)
            .map(|(layer, share)| TreeLayer {
                id: layer.chain_id.digest().hex().to_owned(),
                size: share.size,
                shadows: share.shadows,
                duplicates: share.duplicates,
                top_of: tops_of(&tops, &layer.chain_id),
            })
            .collect();
        Ok(ImageTree {
            id: found.id().hex().to_owned(),
            tags: found.image.tags.iter().map(|tag| tag.reference.clone()).collect(),
            size: layers.iter().map(|layer| layer.size).sum(),
            layers,
        })
    }

    /// The layers that are made on an image, each behind the one that it is made on.
    pub fn children(&self, name: &str) -> Result<Vec<Child>> {
        let found = self.engine.find_image(name)?;
        let store = self.engine.store()?;
        let all = store.layers().list().map_err(crate::error::storage("list the layers"))?;
        let tops = self.tops()?;
        let mut children = Vec::new();
        let mut open: Vec<(Option<oci::ChainId>, usize)> =
            vec![(found.image.record.layers.last().cloned(), 0)];
        while let Some((parent, depth)) = open.pop() {
            let mut next: Vec<&Layer> = all.iter().filter(|layer| layer.parent == parent).collect();
            next.sort_by(|one, other| one.chain_id.cmp(&other.chain_id));
            if depth > 0
                && let Some(layer) = all.iter().find(|layer| Some(&layer.chain_id) == parent.as_ref())
            {
                children.push(Child {
                    id: layer.chain_id.digest().hex().to_owned(),
                    size: layer.unpacked_size,
                    depth: depth - 1,
                    top_of: tops_of(&tops, &layer.chain_id),
                });
            }
            open.extend(next.into_iter().rev().map(|layer| (Some(layer.chain_id.clone()), depth + 1)));
        }
        Ok(children)
    }

    /// The uppermost layer of each image, with the image's names.
    fn tops(&self) -> Result<Vec<(oci::ChainId, Vec<String>)>> {
        let images = self.engine.store()?.images().list().map_err(crate::error::storage("list images"))?;
        let top = |image: storage::Image| {
            let names = image.tags.into_iter().map(|tag| tag.reference).collect();
            Some((image.record.layers.last()?.clone(), names))
        };
        Ok(images.into_iter().filter_map(top).collect())
    }
}

fn tops_of(tops: &[(oci::ChainId, Vec<String>)], chain: &oci::ChainId) -> Vec<String> {
    tops.iter().filter(|(top, _)| top == chain).flat_map(|(_, names)| names.iter().cloned()).collect()
}
