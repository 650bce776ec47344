//! Kernel parameters, masked and read-only paths, the read-only root: after the pivot.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use sys::mount::{Attributes, Mount};

use crate::error::Stage;
use crate::plan::RootfsPlan;
use crate::wire::{At, Failure};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Whether a file is in procfs.
pub(super) fn is_procfs(descriptor: &OwnedFd) -> bool {
    rustix::fs::fstatfs(descriptor)
        .is_ok_and(|status| u64::try_from(status.f_type).ok() == Some(PROC_SUPER_MAGIC))
}

/// Writes kernel parameters; what is mounted at /proc must really be procfs.
pub(super) fn write_sysctls(all: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in all {
        let path = format!("/proc/sys/{name}");
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = sys::beneath::open_in_root(root()?, Path::new(&path), flags, 0).at(Stage::Sysctl, name)?;
        if !is_procfs(&file) {
            return Err(rustix::io::Errno::XDEV).at(Stage::Sysctl, name);
        }
        rustix::io::write(&file, value.as_bytes()).at(Stage::Sysctl, name)?;
    }
    Ok(())
}

fn root() -> Result<OwnedFd, Failure> {
    sys::beneath::open_root(Path::new("/")).at(Stage::Rootfs, "/")
}

pub(super) fn apply(plan: &RootfsPlan) -> Result<(), Failure> {
    for path in &plan.read_only_paths {
        let Some(place) = open(path)? else { continue };
        let subject = path.display().to_string();
        let copy = sys::mount::clone_tree(&place, Path::new(""), true).at(Stage::Mask, &*subject)?;
        // Adds to the flags that the mount has; below it nothing becomes writable either.
        sys::mount::set_attributes(&copy, Attributes::READ_ONLY, Attributes::NONE, true)
            .at(Stage::Mask, &*subject)?;
        sys::mount::attach(&copy, &place, Path::new("")).at(Stage::Mask, &*subject)?;
    }
    mask_all(plan)?;
    if plan.read_only_dev
        && let Some(dev) = open(Path::new("/dev"))?
    {
        sys::mount::set_attributes(&dev, Attributes::READ_ONLY, Attributes::NONE, false)
            .at(Stage::Mask, "/dev")?;
    }
    if plan.read_only {
        let root = sys::beneath::open_root(Path::new("/")).at(Stage::Rootfs, "/")?;
        sys::mount::set_attributes(root, Attributes::READ_ONLY, Attributes::NONE, false)
            .at(Stage::Rootfs, "/")?;
    }
    Ok(())
}

fn mask_all(plan: &RootfsPlan) -> Result<(), Failure> {
    let mut empty: Option<OwnedFd> = None;
    for path in &plan.masked {
        let Some(place) = open(path)? else { continue };
        let subject = path.display().to_string();
        let status = rustix::fs::fstat(&place).at(Stage::Mask, &*subject)?;
        let cover = if FileType::from_raw_mode(status.st_mode).is_dir() {
            // One empty tmpfs covers all of them.
            if empty.is_none() {
                let mut mount = Mount::tmpfs(0o755, None).with_option("nr_inodes", "2");
                mount.attributes =
                    Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
                let mount = sys::mount::detached(&mount).at(Stage::Mask, &*subject)?;
                sys::mount::attach(&mount, &place, Path::new("")).at(Stage::Mask, &*subject)?;
                empty = Some(mount);
                continue;
            }
            empty.as_ref()
        } else {
            None
        };
        let copy = match cover {
            Some(empty) => sys::mount::clone_tree(empty, Path::new(""), false).at(Stage::Mask, &*subject)?,
            None => {
                let null = null_device().at(Stage::Mask, "/dev/null")?;
                sys::mount::clone_tree(&null, Path::new(""), false).at(Stage::Mask, &*subject)?
            }
        };
        sys::mount::attach(&copy, &place, Path::new("")).at(Stage::Mask, &*subject)?;
    }
    Ok(())
}

/// The container's /dev/null, which must be the null device: the image may have put anything there.
fn null_device() -> rustix::io::Result<OwnedFd> {
    let null =
        rustix::fs::open("/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let status = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == rustix::fs::makedev(1, 3);
    if is_null { Ok(null) } else { Err(rustix::io::Errno::NODEV) }
}

/// Opens a path that may be missing.
fn open(path: &Path) -> Result<Option<OwnedFd>, Failure> {
    match rustix::fs::openat(CWD.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(place) => Ok(Some(place)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::ACCESS) => Ok(None),
        Err(errno) => Err(errno).at(Stage::Mask, path.display().to_string()),
    }
}
