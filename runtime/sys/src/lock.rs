//! Locks on files that the kernel releases when their owner dies.
//!
//! A `flock` belongs to the open file: it ends when the last copy of the descriptor is closed, also in a child that
//! inherited it, so descriptors are close-on-exec and holders do not fork after locking.

use crate::fs::{self, Error, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A held lock; dropping it releases the lock.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The locked file, still locked until it is closed.
    pub fn into_file(self) -> File {
        self.file
    }

    /// Whether `path` still names the locked file: it may have been removed between open and lock.
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        let here = self.file.metadata().map_err(|source| Error::new("stat", path, source))?;
        let there = fs::optional(fs::symlink_metadata(path))?;
        Ok(there.is_some_and(|there| there.ino() == here.ino() && there.dev() == here.dev()))
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Waits for the exclusive lock of a file, which is created if missing.
pub fn exclusive(path: &Path) -> Result<FileLock> {
    acquire(path, FlockOperation::LockExclusive)
}

/// Waits for a shared lock of a file, which is created if missing.
pub fn shared(path: &Path) -> Result<FileLock> {
    acquire(path, FlockOperation::LockShared)
}

/// Takes the exclusive lock, or returns `None` while another one is held.
pub fn try_exclusive(path: &Path) -> Result<Option<FileLock>> {
    try_acquire(path, FlockOperation::NonBlockingLockExclusive)
}

/// Takes a shared lock, or returns `None` while the exclusive one is held.
pub fn try_shared(path: &Path) -> Result<Option<FileLock>> {
    try_acquire(path, FlockOperation::NonBlockingLockShared)
}

/// Waits at most `limit` for the exclusive lock; `None` if it is still held then.
pub fn exclusive_within(path: &Path, limit: Duration) -> Result<Option<FileLock>> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(lock) = try_exclusive(path)? {
            return Ok(Some(lock));
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()) else { return Ok(None) };
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Takes the exclusive lock of an open file, or returns it unlocked in `Err(Some(file))` while another one is held.
pub fn try_lock_file(file: File) -> std::result::Result<FileLock, Option<File>> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(FileLock { file }),
        Err(Errno::WOULDBLOCK) => Err(Some(file)),
        Err(_) => Err(None),
    }
}

/// Whether somebody holds a lock on the file. A missing file is held by nobody.
///
/// The answer is about the moment of the call. Takes no lasting lock and creates nothing.
pub fn is_held(path: &Path) -> Result<bool> {
    let Some(file) = fs::optional(fs::open(path))? else { return Ok(false) };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(Error::new("lock", path, errno)),
    }
}

/// A lock of a byte range that belongs to the open file (`F_OFD_SETLK`), held until `file` is closed or unlocked.
/// Returns whether it was taken; `false` while another open file holds an overlapping one.
pub fn try_lock_range(file: &impl AsFd, start: u64, length: u64, exclusive: bool) -> std::io::Result<bool> {
    let convert = |number: u64| {
        i64::try_from(number).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))
    };
    let kind = if exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    let lock = libc::flock {
        l_type: i16::try_from(kind).expect("lock types are small"),
        l_whence: i16::try_from(libc::SEEK_SET).expect("seek origins are small"),
        l_start: convert(start)?,
        l_len: convert(length)?,
        l_pid: 0,
    };
    let fd = file.as_fd();
    // nix wraps this too, but only for its own flock type on an owned descriptor.
    // SAFETY: `lock` is a valid `struct flock` for the call and is not written by F_OFD_SETLK; `fd` is open.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

fn acquire(path: &Path, operation: FlockOperation) -> Result<FileLock> {
    let file = fs::open_or_create(path, 0o600)?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(FileLock { file }),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new("lock", path, errno)),
        }
    }
}

fn try_acquire(path: &Path, operation: FlockOperation) -> Result<Option<FileLock>> {
    let file = fs::open_or_create(path, 0o600)?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(FileLock { file })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(Error::new("lock", path, errno)),
    }
}
