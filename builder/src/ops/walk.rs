//! The walk of a tree, however deep: directories on the way are kept on the heap, and only the nearest stay open.

use super::Error;
use super::beneath;
use super::tree::{Entry, Tree, Verdict, Visit};
use rustix::fs::{AtFlags, OFlags, Stat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories that stay open: fewer than a process may have, with as many of a destination beside them.
pub(super) const KEPT_OPEN: usize = 128;

/// Bytes of a path that the kernel takes, without the zero at its end. What lies deeper cannot be named.
const MAX_PATH: usize = 4095;

/// A directory that was entered.
struct Frame {
    /// Closed when many others were entered since; opened again by its path.
    directory: Option<OwnedFd>,
    names: std::vec::IntoIter<OsString>,
    name: OsString,
    stat: Stat,
    /// Hidden directories that waited to be told when this one was met, if it is hidden itself.
    hidden_at: Option<usize>,
}

/// A hidden directory that was entered and not told of yet.
struct Pending {
    path: PathBuf,
    stat: Stat,
}

struct Walk<'a> {
    tree: &'a Tree,
    base: &'a Path,
    visit: &'a mut dyn FnMut(&Entry<'_>, Visit) -> Result<(), Error>,
    frames: Vec<Frame>,
    pending: Vec<Pending>,
    /// Path below the start.
    path: PathBuf,
}

/// See [`Tree::walk`].
pub(super) fn walk(
    tree: &Tree,
    base: &Path,
    stat: &Stat,
    visit: &mut dyn FnMut(&Entry<'_>, Visit) -> Result<(), Error>,
) -> Result<(), Error> {
    let (parent, name) = beneath::split(base);
    let above =
        beneath::open_directory(tree.root(), parent).map_err(|error| failed("open", parent, error))?;
    let mut walk = Walk { tree, base, visit, frames: Vec::new(), pending: Vec::new(), path: PathBuf::new() };
    walk.meet(above.as_fd(), name, stat)?;
    while let Some(frame) = walk.frames.last_mut() {
        let Some(name) = frame.names.next() else {
            walk.leave(above.as_fd())?;
            continue;
        };
        // Taken out for the time of the call, which may need all of the walk.
        let directory = match frame.directory.take() {
            Some(directory) => directory,
            None => walk.open_again(&walk.path)?,
        };
        walk.path.push(&name);
        let index = walk.frames.len() - 1;
        let result = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed("stat", &walk.path, error.into()))
            .and_then(|stat| walk.meet(directory.as_fd(), &name, &stat));
        let entered = walk.frames.len() > index + 1;
        walk.frames[index].directory = Some(directory);
        result?;
        if !entered {
            walk.path.pop();
        } else if let Some(far) = walk.frames.len().checked_sub(KEPT_OPEN) {
            walk.frames[far].directory = None;
        }
    }
    Ok(())
}

impl Walk<'_> {
    /// Tells of an entry, and enters it if it is a directory.
    fn meet(&mut self, directory: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), Error> {
        let whole = self.base.join(&self.path);
        if whole.as_os_str().len() > MAX_PATH {
            let shown = Path::new(OsStr::from_bytes(&whole.as_os_str().as_bytes()[..200])).join("...");
            return Err(failed("enter", &shown, Errno::NAMETOOLONG.into()));
        }
        let start = self.path.as_os_str().is_empty();
        let verdict = if start { Verdict::Keep } else { self.tree.verdict(&whole) };
        let is_directory = beneath::is_directory(stat);
        if verdict == Verdict::Drop || (verdict == Verdict::DropButLook && !is_directory) {
            return Ok(());
        }
        let hidden_at = (verdict == Verdict::DropButLook).then_some(self.pending.len());
        if hidden_at.is_some() {
            self.pending.push(Pending { path: self.path.clone(), stat: *stat });
        } else {
            self.tell_pending()?;
            (self.visit)(&Entry { directory, name, path: &self.path, stat }, Visit::Enter)?;
        }
        if is_directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(directory, name, flags, rustix::fs::Mode::empty())
                .map_err(|error| failed("open", &self.path, error.into()))?;
            let names = beneath::read_names(fd.as_fd()).map_err(|error| failed("read", &self.path, error))?;
            self.frames.push(Frame {
                directory: Some(fd),
                names: names.into_iter(),
                name: name.to_owned(),
                stat: *stat,
                hidden_at,
            });
        }
        Ok(())
    }

    /// Ends the innermost directory; `above` holds the walk's start.
    fn leave(&mut self, above: BorrowedFd<'_>) -> Result<(), Error> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        if let Some(waiting) = frame.hidden_at
            && self.pending.len() > waiting
        {
            self.pending.truncate(waiting);
        } else {
            let opened;
            let directory = match self.frames.last() {
                None => above,
                Some(Frame { directory: Some(directory), .. }) => directory.as_fd(),
                Some(Frame { directory: None, .. }) => {
                    opened = self.open_again(self.path.parent().unwrap_or(Path::new("")))?;
                    opened.as_fd()
                }
            };
            let entry = Entry { directory, name: &frame.name, path: &self.path, stat: &frame.stat };
            (self.visit)(&entry, Visit::Leave)?;
        }
        self.path.pop();
        Ok(())
    }

    fn tell_pending(&mut self) -> Result<(), Error> {
        for Pending { path, stat } in std::mem::take(&mut self.pending) {
            let directory = self.open_again(path.parent().unwrap_or(Path::new("")))?;
            let name = path.file_name().unwrap_or(OsStr::new("."));
            let entry = Entry { directory: directory.as_fd(), name, path: &path, stat: &stat };
            (self.visit)(&entry, Visit::Enter)?;
        }
        Ok(())
    }

    /// Opens a directory by its path below the start; links are not followed, so it lies in the tree whatever was
    /// moved meanwhile.
    fn open_again(&self, path: &Path) -> Result<OwnedFd, Error> {
        let whole = self.base.join(path);
        beneath::open_beneath(self.tree.root(), &whole, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|error| failed("open", path, error))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.into(), source }
}
