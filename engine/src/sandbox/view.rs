//! Looking into a root file system without giving it a place in any mount namespace.

use crate::{Error, Result};
use rustix::fs::{FileType, OFlags};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use sys::mount::{Filesystem, Mount, Overlay};

/// A root file system to read from. Paths stay inside, whatever its links say.
#[derive(Debug)]
pub(crate) struct View {
    root: OwnedFd,
}

impl View {
    /// A view of a snapshot's mounts. An overlay is joined from its directories read-only, so that neither its work
    /// directory nor a mark of an earlier mount is touched; it must not be mounted writable elsewhere meanwhile.
    pub(crate) fn of_mounts(mounts: &[Mount]) -> Result<Self> {
        let failed = |error: std::io::Error| Error::os("look into the root file system", error);
        let root = match mounts {
            [Mount { filesystem: Filesystem::Overlay(overlay), .. }] => {
                let directories: Vec<PathBuf> = overlay.upper.iter().chain(&overlay.lower).cloned().collect();
                match directories.as_slice() {
                    [only] => sys::beneath::open_root(only).map_err(failed)?,
                    _ => {
                        let mut options = overlay.options.clone();
                        options.retain(|(key, _)| key != "volatile");
                        let view = Mount::new(Filesystem::Overlay(Overlay {
                            lower: directories,
                            upper: None,
                            work: None,
                            options,
                        }));
                        sys::mount::detached(&view).map_err(|error| {
                            Error::os("look into the root file system", std::io::Error::other(error))
                        })?
                    }
                }
            }
            [Mount { filesystem: Filesystem::Bind { source, .. }, .. }] => {
                sys::beneath::open_root(source).map_err(failed)?
            }
            _ => storage::snapshot::open_detached(mounts)
                .map_err(crate::error::storage("look into the root file system"))?,
        };
        Ok(Self { root })
    }

    /// A directory of this host.
    pub(crate) fn of_directory(path: &Path) -> Result<Self> {
        let root = sys::beneath::open_root(path)
            .map_err(|error| Error::os(format!("open {}", path.display()), error))?;
        Ok(Self { root })
    }

    /// A view of a snapshot's mounts that can be written to.
    pub(crate) fn writable(mounts: &[Mount]) -> Result<Self> {
        Ok(Self { root: open_writable(mounts)? })
    }

    /// The root as a directory whose entries can be read.
    pub(crate) fn tree(&self) -> Result<OwnedFd> {
        storage::snapshot::readable(&self.root).map_err(crate::error::storage("read the root file system"))
    }

    /// The root itself.
    pub(crate) fn into_root(self) -> Result<OwnedFd> {
        Ok(self.root)
    }

    /// The root, to resolve paths from.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// A view of a running process's root.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/root"));
        let root = sys::beneath::open_root(&path)
            .map_err(|error| Error::os(format!("look into the root file system of process {pid}"), error))?;
        Ok(Self { root })
    }

    /// Reads a regular file of at most `max` bytes; `None` when there is none.
    pub(crate) fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
        let failed =
            |error: std::io::Error| Error::os(format!("read {} of the image", path.display()), error);
        // O_NONBLOCK: a FIFO of this name must not hold us up
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match sys::beneath::open_in_root(&self.root, path, flags, 0) {
            Ok(fd) => fd,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| failed(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        std::fs::File::from(fd).take(max).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        sys::beneath::open_in_root(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, 0)
            .is_ok()
    }
}

/// The mounts of a snapshot that will be mounted again: without `volatile`, whose mark would forbid the next mount.
pub(super) fn lasting(mounts: &[Mount]) -> Vec<Mount> {
    let mut mounts = mounts.to_vec();
    for mount in &mut mounts {
        if let Filesystem::Overlay(overlay) = &mut mount.filesystem {
            overlay.options.retain(|(key, _)| key != "volatile");
        }
    }
    mounts
}

/// Mounts a snapshot writable and nowhere.
pub(crate) fn open_writable(mounts: &[Mount]) -> Result<OwnedFd> {
    let mounts = lasting(mounts);
    storage::snapshot::open_detached(&mounts).map_err(crate::error::storage("mount the root file system"))
}
