//! /dev: nodes, links, terminal and console.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};

use crate::error::Stage;
use crate::plan::DevicePlan;
use crate::wire::{At, Descriptors, Failure};

/// Links that programs rely on; `core` as the peers have it.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

pub(super) fn populate(
    root: &OwnedFd,
    devices: &[DevicePlan],
    descriptors: &mut Descriptors,
) -> Result<(), Failure> {
    for device in devices {
        create(root, device, descriptors).at(Stage::Device, device.path.display().to_string())?;
    }
    let stage = Stage::Device;
    let dev = sys::beneath::create_dir_all_in_root(root, Path::new("/dev"), 0o755, None).at(stage, "/dev")?;
    for (name, link) in LINKS {
        match rustix::fs::symlinkat(link, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno).at(stage, format!("/dev/{name}")),
        }
    }
    if rustix::fs::statat(&dev, "pts/ptmx", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        match rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno).at(stage, "/dev/ptmx"),
        }
        rustix::fs::symlinkat("pts/ptmx", &dev, "ptmx").at(stage, "/dev/ptmx")?;
    }
    Ok(())
}

fn create(root: &OwnedFd, device: &DevicePlan, descriptors: &mut Descriptors) -> io::Result<()> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err(rustix::io::Errno::INVAL.into());
    };
    let parent = sys::beneath::create_dir_all_in_root(root, parent, 0o755, None)?;
    if let Some(index) = device.bind {
        let create = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, create, Mode::from_raw_mode(0o600))?;
        let place = rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        return sys::mount::attach(descriptors.take(index)?, &place, Path::new(""))
            .map_err(|error| error.source);
    }
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number = if device.kind == 'p' { 0 } else { rustix::fs::makedev(device.major, device.minor) };
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(&parent, name, kind, mode, number) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(found.st_mode) != kind || found.st_rdev != number {
                return Err(rustix::io::Errno::EXIST.into());
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(parent.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    // The umask took its part of the mode.
    rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?;
    Ok(())
}

/// Opens a terminal of the container's own devpts, of the host's where it has none. Without `root` the current root
/// directory is the container's.
pub(super) fn open_terminal(root: Option<&OwnedFd>) -> io::Result<sys::pty::Pair> {
    let own;
    let root = match root {
        Some(root) => root,
        None => {
            own = sys::beneath::open_root(Path::new("/"))?;
            &own
        }
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match sys::beneath::open_in_root(root, Path::new("/dev/pts"), flags, 0) {
        Ok(pts) => sys::pty::open_in(pts.as_fd()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => sys::pty::open(),
        Err(error) => Err(error),
    }
}

/// Puts the terminal at /dev/console.
pub(super) fn bind_console(root: &OwnedFd, slave: &OwnedFd) -> Result<(), Failure> {
    let stage = Stage::Console;
    let subject = "/dev/console";
    let dev =
        sys::beneath::create_dir_all_in_root(root, Path::new("/dev"), 0o755, None).at(stage, subject)?;
    let create = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(&dev, "console", create, Mode::from_raw_mode(0o600)).at(stage, subject)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::openat(&dev, "console", flags, Mode::empty()).at(stage, subject)?;
    let mount = sys::mount::clone_tree(slave, Path::new(""), false).at(stage, subject)?;
    sys::mount::attach(&mount, &place, Path::new("")).at(stage, subject)
}
