//! `system df`, `system reset`: what lies on the disk, and its end.

use crate::containers::{ContainerListRequest, ContainerSummary, RemoveRequest, Selection};
use crate::images::{ImageListRequest, ImageRemoveRequest, ImageSummary};
use crate::volumes::{VolumeRemoveRequest, VolumeUsage};
use crate::{Engine, Error, Result};
use oci::ChainId;
use std::collections::BTreeMap;

/// What images and containers take on the disk. Layers that several images have count once.
#[derive(Debug, Clone, Default)]
pub struct DiskUsage {
    /// The images.
    pub images: Vec<ImageUsage>,
    /// Bytes of all layers of images.
    pub image_bytes: u64,
    /// Bytes of those layers that no container needs.
    pub image_reclaimable: u64,
    /// The containers, with sizes.
    pub containers: Vec<ContainerSummary>,
    /// The volumes.
    pub volumes: Vec<VolumeUsage>,
}

/// What an image takes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub image: ImageSummary,
    /// Bytes of its layers.
    pub size: u64,
    /// Bytes of layers that other images have too.
    pub shared: u64,
}

impl Engine {
    /// Adds up what lies on the disk: sizes of images from their records, those of containers by looking at their layers.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        struct Use {
            bytes: u64,
            images: usize,
            needed: bool,
        }
        let store = self.store()?;
        let failed = || crate::error::storage("measure images");
        let used = self.image_uses()?;
        let records = store.images().list().map_err(failed())?;
        let mut layers: BTreeMap<String, Use> = BTreeMap::new();
        let size = |chain: &ChainId| -> Result<u64> {
            let layer = store.layers().get(chain).map_err(failed())?;
            Ok(layer.map_or(0, |layer| layer.unpacked_size))
        };
        for image in &records {
            let needed = used.contains_key(image.record.id.hex());
            for chain in &image.record.layers {
                let key = chain.to_string();
                let layer = match layers.get_mut(&key) {
                    Some(layer) => layer,
                    None => {
                        let new = Use { bytes: size(chain)?, images: 0, needed: false };
                        layers.entry(key).or_insert(new)
                    }
                };
                layer.images += 1;
                layer.needed |= needed;
            }
        }
        let mut usage = DiskUsage {
            image_bytes: layers.values().map(|layer| layer.bytes).sum(),
            image_reclaimable: layers.values().filter(|layer| !layer.needed).map(|layer| layer.bytes).sum(),
            ..DiskUsage::default()
        };
        for image in self.images().list(&ImageListRequest::default())? {
            let chains = records
                .iter()
                .find(|record| record.record.id.hex() == image.id)
                .map_or(&[][..], |record| record.record.layers.as_slice());
            let (mut size, mut shared) = (0, 0);
            for layer in chains.iter().filter_map(|chain| layers.get(&chain.to_string())) {
                size += layer.bytes;
                shared += if layer.images > 1 { layer.bytes } else { 0 };
            }
            usage.images.push(ImageUsage { image, size, shared });
        }
        let request = ContainerListRequest { all: true, size: true, ..ContainerListRequest::default() };
        usage.containers = self.containers().list(&request)?;
        usage.volumes = self.volumes().usage()?;
        Ok(usage)
    }

    /// Removes all containers, images, lists and the build cache; gives what could not be removed.
    pub fn reset(&self) -> Result<Vec<Error>> {
        let mut errors = Vec::new();
        let everything = RemoveRequest {
            selection: Selection { all: true, ..Selection::default() },
            force: true,
            timeout: Some(0),
            volumes: true,
            depend: false,
        };
        errors
            .extend(self.containers().remove(&everything)?.into_iter().filter_map(|done| done.result.err()));
        let volumes = VolumeRemoveRequest { all: true, force: true, ..VolumeRemoveRequest::default() };
        errors.extend(self.volumes().remove(&volumes)?.into_iter().filter_map(|done| done.result.err()));
        let request = ImageRemoveRequest { all: true, force: true, ..ImageRemoveRequest::default() };
        errors.extend(self.images().remove(&request).1);
        for list in self.store()?.lists().all().map_err(crate::error::storage("list manifest lists"))? {
            if let Err(error) = self.images().list_remove(&list.reference) {
                errors.push(error);
            }
        }
        self.prune_builds()?;
        self.tell(crate::events::Event::system("reset"));
        Ok(errors)
    }
}
