//! A root file system whose files are given to the outer IDs of a user namespace, where the kernel cannot map owners on
//! the way: an ordinary user's, or one of an old kernel. Every file is copied into the container's own layer.

use super::view;
use crate::{Error, IdMaps, Result};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::mount::{Filesystem, Mount};

/// Deepest directory that is walked.
const DEPTH: usize = 2000;
const CAPABILITY: &str = "security.capability";

/// Gives every file of a writable snapshot to the outer IDs of its owner and group.
pub(crate) fn shift(mounts: &[Mount], maps: &IdMaps) -> Result<()> {
    let failed = |error: std::io::Error| Error::os("give the files to the IDs of the user namespace", error);
    let root = view::open_writable(mounts)?;
    // in an overlay every name is copied up by itself, elsewhere two names may be one file
    let once = matches!(mounts, [Mount { filesystem: Filesystem::Bind { .. }, .. }]);
    let mut walk = Walk { maps, seen: once.then(std::collections::BTreeSet::new) };
    walk.directory(&root, 0).map_err(failed)?;
    walk.entry(root.as_fd(), c"").map_err(failed)
}

/// The same for a directory of the host, open for reading.
pub(crate) fn shift_directory(root: &OwnedFd, maps: &IdMaps) -> Result<()> {
    let failed = |error: std::io::Error| Error::os("give the files to the IDs of the user namespace", error);
    let mut walk = Walk { maps, seen: Some(std::collections::BTreeSet::new()) };
    walk.directory(root, 0).map_err(failed)?;
    walk.entry(root.as_fd(), c"").map_err(failed)
}

struct Walk<'a> {
    maps: &'a IdMaps,
    /// Inodes with several names that are done.
    seen: Option<std::collections::BTreeSet<u64>>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &OwnedFd, depth: usize) -> std::io::Result<()> {
        if depth > DEPTH {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&readable)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        for name in names {
            let found = rustix::fs::statat(&readable, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(found.st_mode).is_dir() {
                let below = rustix::fs::openat(&readable, &name, flags, Mode::empty())?;
                self.directory(&below, depth + 1)?;
            }
            self.entry(readable.as_fd(), &name)?;
        }
        Ok(())
    }

    fn entry(&mut self, directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> std::io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let found = rustix::fs::statat(directory, name, flags)?;
        let is_directory = FileType::from_raw_mode(found.st_mode).is_dir();
        if let Some(seen) = self.seen.as_mut().filter(|_| !is_directory && found.st_nlink > 1)
            && !seen.insert(found.st_ino)
        {
            return Ok(());
        }
        let (uid, gid) = self.maps.outside(found.st_uid, found.st_gid);
        if (uid, gid) == (found.st_uid, found.st_gid) {
            return Ok(());
        }
        let is_file = FileType::from_raw_mode(found.st_mode).is_file();
        let path = |name: &std::ffi::CStr| {
            use std::os::fd::AsRawFd;
            format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), name.to_string_lossy())
        };
        // a change of the owner takes set-ID bits and capabilities away
        let mut capability = [0; 64];
        let length = match is_file {
            true => rustix::fs::lgetxattr(path(name), CAPABILITY, &mut capability).unwrap_or(0),
            false => 0,
        };
        let owners = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(directory, name, owners.0, owners.1, flags)?;
        if is_file && found.st_mode & 0o6000 != 0 {
            rustix::fs::chmodat(
                directory,
                name,
                Mode::from_raw_mode(found.st_mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        if length > 0 {
            rustix::fs::lsetxattr(path(name), CAPABILITY, &capability[..length], XattrFlags::empty())?;
        }
        Ok(())
    }
}
