//! `COPY --link`: a layer that was made on an empty root becomes the top of another root file system.
//!
//! Its files are not copied: the new snapshot gets hard links to them, which is sound because committed snapshots are
//! never written. Directories are made anew and get what the layer's have; what stands in the way of one, or of a
//! file, is covered, links too.

use super::beneath::{self, Canonical};
use super::snapshot::{Rootfs, Workspace};
use super::tree::{Entry, Tree, Visit};
use super::write::{self, Meta};
use super::{Error, io_error, owner::Owner};
use crate::ports::Cancel;
use crate::solver::Broken;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Puts the top layer of `layer` on `below`.
pub(crate) fn stack(
    workspace: &Workspace<'_>,
    below: &Rootfs,
    layer: &Rootfs,
    cancel: &Cancel,
) -> Result<Rootfs, Error> {
    let Some(name) = workspace.snapshot(layer)? else { return Ok(below.clone()) };
    let snapshots = workspace.store.snapshots();
    let source = snapshots.layer_directory(&name)?;
    let source = Tree::new(sys::fs::open_dir(&source).map_err(storage::Error::from)?, None);
    let parent = workspace.snapshot(below)?;
    let active = workspace.prepare(parent.as_deref())?;
    let target = sys::fs::open_dir(&active.any_directory()?).map_err(storage::Error::from)?;
    link_tree(&source, &target, cancel)?;
    active.commit(below)
}

/// Links all of one tree into another.
fn link_tree(source: &Tree, target: &OwnedFd, cancel: &Cancel) -> Result<(), Error> {
    let start: Canonical =
        beneath::canonical(source.root(), Path::new(""), true).map_err(io_error("open", "/"))?;
    let root = beneath::open_beneath(target.as_fd(), Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(io_error("open", "/"))?;
    let mut stack = vec![root];
    source.walk(&start, &mut |entry, visit| {
        if cancel.is_cancelled() {
            return Err(Broken::Cancelled.into());
        }
        if entry.path.as_os_str().is_empty() {
            return Ok(());
        }
        let is_directory = beneath::is_directory(entry.stat);
        if is_directory && visit == Visit::Leave {
            let Some(made) = stack.pop() else { return Ok(()) };
            return finish(&made, entry);
        }
        let Some(parent) = stack.last() else { return Ok(()) };
        if is_directory {
            let existing =
                write::stat_name(parent.as_fd(), entry.name).map_err(io_error("stat", entry.path))?;
            if existing.is_some_and(|stat| !beneath::is_directory(&stat)) {
                remove(parent.as_fd(), entry.name, entry.path)?;
            }
            let made =
                write::make_directory(parent.as_fd(), entry.name).map_err(io_error("create", entry.path))?;
            stack.push(made);
            return Ok(());
        }
        remove(parent.as_fd(), entry.name, entry.path)?;
        rustix::fs::linkat(entry.directory, entry.name, parent, entry.name, AtFlags::empty())
            .map_err(|error| io_error("link", entry.path)(error.into()))
    })
}

/// Gives a directory what the layer's has.
fn finish(made: &OwnedFd, entry: &Entry<'_>) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(entry.directory, entry.name, flags, Mode::empty())
        .map_err(|error| io_error("open", entry.path)(error.into()))?;
    let meta = Meta {
        owner: Owner { uid: entry.stat.st_uid, gid: entry.stat.st_gid },
        mode: entry.stat.st_mode & 0o7777,
        mtime: write::mtime(entry.stat),
    };
    write::finish_directory(made, Some(source.as_fd()), entry.path, &meta)
}

/// Removes what has the name, a directory with all that is in it.
fn remove(directory: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<(), Error> {
    let Some(stat) = write::stat_name(directory, name).map_err(io_error("stat", shown))? else {
        return Ok(());
    };
    if beneath::file_type(&stat) != FileType::Directory {
        return rustix::fs::unlinkat(directory, name, AtFlags::empty())
            .map_err(|error| io_error("replace", shown)(error.into()));
    }
    let below = beneath::open_beneath(directory, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(io_error("open", shown))?;
    for child in beneath::read_names(below.as_fd()).map_err(io_error("read", shown))? {
        remove(below.as_fd(), &child, &shown.join(&child))?;
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
        .map_err(|error| io_error("replace", shown)(error.into()))
}
