//! A root file system whose owners are seen through the container's user namespace.
//!
//! On disk files belong to the IDs that they have inside, whatever the namespace; each layer is joined through a mount
//! that maps them (Linux 5.19 for layers of an overlay). A layer's own directory is thus the same for every container,
//! and nothing is copied or changed. Made here because a user namespace is made by a process, which a caller with
//! threads cannot fork.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use sys::idmap::Range;
use sys::mount::{Filesystem, Mount, Overlay, Propagation};

use crate::error::Stage;
use crate::plan::BirthPlan;
use crate::wire::{At, Descriptors, Failure};

/// Makes the mounts of the plan in the places that were kept for them.
pub(super) fn make(plan: &BirthPlan, descriptors: &mut Descriptors) -> Result<(), Failure> {
    if plan.mapped_rootfs.is_empty() {
        return Ok(());
    }
    let joined = plan.join.iter().find(|(_, flag)| *flag == nix::libc::CLONE_NEWUSER);
    let namespace = match joined {
        Some((index, _)) => descriptors.get(*index).and_then(|namespace| namespace.try_clone_to_owned()),
        None => sys::process::user_namespace(&plan.uid_map, &plan.gid_map),
    };
    let namespace = namespace.at(Stage::IdMap, "user namespace for owners")?;
    // what the kernel itself makes in the upper layer belongs to root of the container
    let root = |map: &[Range]| {
        let range = map.iter().find(|range| range.inside == 0).or(map.first());
        range.map_or(0, |range| range.outside)
    };
    for (index, mount) in &plan.mapped_rootfs {
        let made = sys::user::with_file_ids(root(&plan.uid_map), root(&plan.gid_map), || {
            mapped(mount, &namespace).map_err(io::Error::other)
        });
        descriptors.replace(*index, made.at(Stage::IdMap, "root file system with mapped owners")?);
    }
    Ok(())
}

fn mapped(mount: &Mount, namespace: &OwnedFd) -> sys::mount::Result<OwnedFd> {
    let Filesystem::Overlay(overlay) = &mount.filesystem else {
        let made = sys::mount::detached(mount)?;
        sys::mount::set_id_map(&made, namespace, false)?;
        sys::mount::set_propagation(&made, Propagation::Private, true)?;
        return Ok(made);
    };
    let mut held = Vec::new();
    let mut through = |path: &Path| -> sys::mount::Result<PathBuf> {
        let layer = sys::mount::clone_tree(CWD, path, false)?;
        sys::mount::set_id_map(&layer, namespace, false)?;
        let path = format!("/proc/self/fd/{}", layer.as_raw_fd());
        held.push(layer);
        Ok(path.into())
    };
    let lower = overlay.lower.iter().map(|path| through(path)).collect::<sys::mount::Result<Vec<_>>>()?;
    // the kernel wants both below one mount
    let (upper, work) = match (&overlay.upper, &overlay.work) {
        (Some(upper), Some(work)) => {
            let parent = upper.parent().unwrap_or(Path::new("/"));
            let place = through(parent)?;
            let below = |path: &Path| path.strip_prefix(parent).map(|rest| place.join(rest)).ok();
            (below(upper), below(work))
        }
        _ => (None, None),
    };
    let joined = Overlay { lower, upper, work, options: overlay.options.clone() };
    let made = sys::mount::detached(&Mount { filesystem: Filesystem::Overlay(joined), ..mount.clone() })?;
    sys::mount::set_propagation(&made, Propagation::Private, true)?;
    Ok(made)
}
