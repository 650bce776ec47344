//! `tmpcopyup`: an empty tmpfs receives what the image has at its place.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};

/// Copies the content of the directory `from`, and its owner and mode, to the directory `to`.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // The target of a mount is open without access to its entries.
    let from =
        rustix::fs::openat(from, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let to =
        rustix::fs::openat(to, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    copy_entries(&from, &to, 0)
}

fn copy_entries(from: &OwnedFd, to: &OwnedFd, depth: u32) -> io::Result<()> {
    // Each level holds two descriptors.
    if depth > 128 {
        return Err(rustix::io::Errno::NAMETOOLONG.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> io::Result<()> {
    let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let source = rustix::fs::openat(from, name, flags | OFlags::DIRECTORY, Mode::empty())?;
            let target = rustix::fs::openat(to, name, flags | OFlags::DIRECTORY, Mode::empty())?;
            copy_entries(&source, &target, depth + 1)?;
        }
        FileType::RegularFile => {
            let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let target = rustix::fs::openat(to, name, create, Mode::from_raw_mode(0o600))?;
            io::copy(&mut std::fs::File::from(source), &mut std::fs::File::from(target))?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&link, to, name)?;
        }
        other => rustix::fs::mknodat(to, name, other, mode, status.st_rdev)?,
    }
    keep_attributes(to, name, &status, mode)
}

fn keep_attributes(to: &OwnedFd, name: &CStr, status: &Stat, mode: Mode) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    rustix::fs::chownat(to.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
        // After the owner: changing it clears the set-id bits.
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    let time = Timespec { tv_sec: status.st_mtime, tv_nsec: status.st_mtime_nsec.cast_signed() };
    let times = Timestamps { last_access: time, last_modification: time };
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    Ok(rustix::fs::utimensat(to, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
