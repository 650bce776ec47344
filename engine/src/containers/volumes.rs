//! The mounts of a new container: what other containers have, patterns, images.

use super::{Containers, CreateRequest};
use crate::options::{Mount, MountKind};
use crate::state::ContainerRecord;
use crate::{Error, Result};

impl Containers<'_> {
    /// The request with the mounts of `--volumes-from` and those that patterns stand for.
    pub(super) fn with_volumes(&self, request: &CreateRequest) -> Result<CreateRequest> {
        let mut request = request.clone();
        request.mounts = crate::volumes::expand(std::mem::take(&mut request.mounts))?;
        for text in &request.volumes_from {
            let (name, words) = text.split_once(':').unwrap_or((text, ""));
            let other = self.engine.state().find(name)?;
            for mut mount in other.settings.mounts {
                let lasts = matches!(mount.kind, MountKind::Bind { .. } | MountKind::Volume { .. });
                if !lasts || request.mounts.iter().any(|known| known.destination == mount.destination) {
                    continue;
                }
                for word in words.split(',').filter(|word| !word.is_empty()) {
                    match word {
                        "ro" | "rw" => {
                            mount.options.retain(|option| option != "ro" && option != "rw");
                            mount.options.push(word.to_owned());
                        }
                        // nothing to do where SELinux is off
                        "z" | "Z" => {}
                        other => {
                            return Err(Error::invalid(
                                format!("volumes-from {text}"),
                                format!("unknown option {other}; expected CONTAINER[:ro|rw|z]"),
                            ));
                        }
                    }
                }
                if let MountKind::Volume { anonymous, .. } = &mut mount.kind {
                    // it goes with the container that it was made for
                    *anonymous = false;
                }
                request.mounts.push(mount);
            }
        }
        Ok(request)
    }

    /// The top layers of the images that are mounted, with the numbers of their mounts; `None` for one without layers.
    pub(super) fn mounted_images(
        &self,
        settings: &mut CreateRequest,
    ) -> Result<Vec<(usize, Option<oci::ChainId>)>> {
        let mut images = Vec::new();
        for (number, mount) in settings.mounts.iter_mut().enumerate() {
            let MountKind::Image { reference, writable } = &mount.kind else { continue };
            let found = self.engine.find_image(reference)?;
            images.push((number, found.image.record.layers.last().cloned()));
            if !writable && !mount.has("ro") {
                mount.options.push("ro".to_owned());
            }
        }
        Ok(images)
    }

    /// Removes what only a container had that is gone: the snapshots of its image mounts, and with `volumes` its anonymous
    /// volumes.
    pub(super) fn forget(&self, record: &ContainerRecord, volumes: bool) -> Result<()> {
        for (number, mount) in record.settings.mounts.iter().enumerate() {
            match &mount.kind {
                MountKind::Image { .. } => self
                    .engine
                    .store()?
                    .snapshots()
                    .remove(&crate::volumes::image_snapshot_key(&record.id, number))
                    .map_err(crate::error::storage("remove an image mount"))?,
                MountKind::Volume { name, anonymous: true, .. } if volumes => {
                    match self.engine.volumes().remove_unused(name) {
                        Ok(_) | Err(Error::InUse { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a container has an anonymous volume.
    pub(super) fn has_anonymous(record: &ContainerRecord) -> bool {
        let anonymous = |mount: &Mount| matches!(mount.kind, MountKind::Volume { anonymous: true, .. });
        record.settings.mounts.iter().any(anonymous)
    }
}
