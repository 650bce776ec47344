//! The contents of one directory into another.
//!
//! One thread walks the source and makes directories, links and devices; regular files are copied by others, a few
//! dozen at a time. A directory gets its mode and times when the last file in it is there.
//!
//! Below a directory that this layer made, everything is written into the driver's own directory of the layer
//! ([`Destination::fresh`]): no file of the layers below can show through there, and the kernel does each call once
//! instead of twice.

use super::beneath;
use super::tree::{Entry, Tree, Visit};
use super::write::{self, Content, Destination, Links, Meta, rooted};
use super::{Error, io_error};
use crate::ports::Cancel;
use crate::solver::Broken;
use rustix::fs::{FileType, Stat};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Files that one thread copies in a row, and their bytes together.
const BATCH_FILES: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;
/// Smaller copies start no threads.
const INLINE_FILES: usize = 32;
/// More threads than this wait for the file system's journal.
const MOST_THREADS: usize = 4;

/// What is poured where, and how.
pub(crate) struct Pour<'a> {
    pub(crate) destination: &'a Destination<'a>,
    pub(crate) meta: &'a dyn Fn(&Stat) -> Meta,
    /// Copies what is neither a directory nor a regular file with one name; the flag says whether the directory is
    /// one of the layer's own.
    #[allow(clippy::type_complexity)]
    pub(crate) special: &'a dyn Fn(&Directory, &Path, &Entry<'_>, &mut Links) -> Result<(), Error>,
    pub(crate) cancel: &'a Cancel,
}

/// A directory that is being filled.
pub(crate) struct Directory {
    fd: OwnedFd,
    /// Whether this layer made it, and the descriptor is of the layer's own directory.
    pub(crate) fresh: bool,
    /// The directory that it is a copy of; opened when the first file comes.
    source: OnceLock<OwnedFd>,
    /// What it gets at the end; not for the one that was there before.
    last: OnceLock<(PathBuf, Meta)>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    fn new(fd: OwnedFd, fresh: bool) -> Arc<Self> {
        Arc::new(Self { fd, fresh, source: OnceLock::new(), last: OnceLock::new() })
    }

    /// Lets go of it; whoever does so last finishes it.
    fn release(self: Arc<Self>) -> Result<(), Error> {
        let Some(directory) = Arc::into_inner(self) else { return Ok(()) };
        let Some((shown, meta)) = directory.last.get() else { return Ok(()) };
        write::finish_directory(&directory.fd, directory.source.get().map(AsFd::as_fd), shown, meta)
    }
}

struct File {
    name: OsString,
    shown: PathBuf,
    size: u64,
    meta: Meta,
}

/// Regular files of one directory.
struct Batch {
    directory: Arc<Directory>,
    files: Vec<File>,
}

impl Batch {
    fn copy(self, cancel: &Cancel) -> Result<(), Error> {
        let Self { directory, files } = self;
        if let Some(source) = directory.source.get() {
            for file in &files {
                if cancel.is_cancelled() {
                    return Err(Broken::Cancelled.into());
                }
                let mut from =
                    write::open_regular(source.as_fd(), &file.name).map_err(io_error("open", &file.shown))?;
                let mut content = Content::File(&mut from, file.size);
                write::put_file(directory.as_fd(), &file.name, &file.shown, &file.meta, &mut content)?;
            }
        }
        directory.release()
    }
}

/// A directory on the way to the current entry, and its files that no thread has yet.
struct Level {
    directory: Arc<Directory>,
    files: Vec<File>,
    bytes: u64,
}

impl Pour<'_> {
    /// Copies what is in `source` into an open directory, which is `target` of the destination.
    pub(crate) fn run(
        &self,
        tree: &Tree,
        source: &beneath::Canonical,
        directory: OwnedFd,
        target: &Path,
    ) -> Result<(), Error> {
        let top = match self.destination.fresh(target) {
            Some(own) => Directory::new(own, true),
            None => Directory::new(directory, false),
        };
        let failure = Mutex::new(None);
        let cancel = self.cancel;
        let walked = std::thread::scope(|scope| {
            let mut workers = None;
            let start = || start(scope, cancel, &failure);
            let mut walk =
                Walk { pour: self, target, stack: vec![Level::new(top)], links: Links::new(), seen: 0 };
            let walked =
                tree.walk(source, &mut |entry, visit| walk.visit(entry, visit, &mut workers, &start));
            let last = match (walked, walk.stack.pop()) {
                (Ok(()), Some(mut level)) => {
                    walk.pass_on(&mut level, &mut workers, &start).and_then(|()| level.directory.release())
                }
                (walked, _) => walked,
            };
            // The threads end when nobody can send any more.
            drop(walk);
            drop(workers);
            last
        });
        // Where a thread failed, the walk ended because of it.
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(walked, Err)
    }
}

impl Level {
    fn new(directory: Arc<Directory>) -> Self {
        Self { directory, files: Vec::new(), bytes: 0 }
    }
}

/// Starts the threads that copy files.
fn start<'scope, 'env>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    cancel: &'env Cancel,
    failure: &'scope Mutex<Option<Error>>,
) -> SyncSender<Batch> {
    let threads =
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(MOST_THREADS);
    let (sender, receiver) = sync_channel::<Batch>(threads * 2);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..threads {
        let receiver = receiver.clone();
        scope.spawn(move || {
            while let Some(batch) = next(&receiver) {
                let mut failed = failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                if !failed && let Err(error) = batch.copy(cancel) {
                    failed = true;
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
                if failed {
                    return;
                }
            }
        });
    }
    sender
}

fn next(receiver: &Mutex<Receiver<Batch>>) -> Option<Batch> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

struct Walk<'a> {
    pour: &'a Pour<'a>,
    target: &'a Path,
    stack: Vec<Level>,
    links: Links,
    /// Regular files met so far.
    seen: usize,
}

impl Walk<'_> {
    fn visit(
        &mut self,
        entry: &Entry<'_>,
        visit: Visit,
        workers: &mut Option<SyncSender<Batch>>,
        start: &dyn Fn() -> SyncSender<Batch>,
    ) -> Result<(), Error> {
        if self.pour.cancel.is_cancelled() {
            return Err(Broken::Cancelled.into());
        }
        if entry.path.as_os_str().is_empty() {
            return Ok(());
        }
        let shown = self.target.join(entry.path);
        let kind = beneath::file_type(entry.stat);
        match (kind, visit) {
            (FileType::Directory, Visit::Leave) => {
                let Some(mut level) = self.stack.pop() else { return Ok(()) };
                self.pass_on(&mut level, workers, start)?;
                let directory = level.directory;
                if directory.source.get().is_none() {
                    let source = super::copy::write_source(entry).map_err(io_error("open", entry.path))?;
                    let _ = directory.source.set(source);
                }
                let _ = directory.last.set((shown, (self.pour.meta)(entry.stat)));
                directory.release()
            }
            (FileType::Directory, Visit::Enter) => {
                let Some(parent) = self.stack.last() else { return Ok(()) };
                let made = self.enter(&parent.directory, entry, &shown)?;
                self.stack.push(Level::new(made));
                Ok(())
            }
            (FileType::RegularFile, _) if entry.stat.st_nlink == 1 => {
                let meta = (self.pour.meta)(entry.stat);
                let Some(mut level) = self.stack.pop() else { return Ok(()) };
                self.seen += 1;
                if level.directory.source.get().is_none() {
                    let source = rustix::io::fcntl_dupfd_cloexec(entry.directory, 3)
                        .map_err(|error| io_error("open", entry.path)(error.into()))?;
                    let _ = level.directory.source.set(source);
                }
                let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
                level.files.push(File { name: entry.name.to_owned(), shown, size, meta });
                level.bytes += size;
                let full = level.files.len() >= BATCH_FILES || level.bytes >= BATCH_BYTES;
                let passed = if full { self.pass_on(&mut level, workers, start) } else { Ok(()) };
                self.stack.push(level);
                passed
            }
            _ => {
                let Some(parent) = self.stack.last() else { return Ok(()) };
                (self.pour.special)(&parent.directory, &shown, entry, &mut self.links)
            }
        }
    }

    /// Makes a directory, or takes the one that is there.
    fn enter(
        &self,
        parent: &Arc<Directory>,
        entry: &Entry<'_>,
        shown: &Path,
    ) -> Result<Arc<Directory>, Error> {
        let existing = write::stat_name(parent.as_fd(), entry.name).map_err(io_error("stat", shown))?;
        if existing.as_ref().is_some_and(|stat| !beneath::is_directory(stat)) {
            return Err(Error::NotADirectory { path: rooted(shown) });
        }
        let made = write::make_directory(parent.as_fd(), entry.name).map_err(io_error("create", shown))?;
        if parent.fresh {
            return Ok(Directory::new(made, true));
        }
        if existing.is_none() {
            self.pour.destination.note_fresh(shown);
        }
        Ok(match self.pour.destination.fresh(shown) {
            Some(own) => Directory::new(own, true),
            None => Directory::new(made, false),
        })
    }

    /// Gives a level's files to a thread, or copies them here where there are few.
    fn pass_on(
        &self,
        level: &mut Level,
        workers: &mut Option<SyncSender<Batch>>,
        start: &dyn Fn() -> SyncSender<Batch>,
    ) -> Result<(), Error> {
        if level.files.is_empty() {
            return Ok(());
        }
        level.bytes = 0;
        let batch = Batch { directory: level.directory.clone(), files: std::mem::take(&mut level.files) };
        if workers.is_none() && self.seen <= INLINE_FILES {
            return batch.copy(self.pour.cancel);
        }
        // All threads ended because one of them failed; its error is the one that is told.
        workers.get_or_insert_with(start).send(batch).map_err(|_| Broken::Cancelled.into())
    }
}
