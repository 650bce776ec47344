//! Waking up when files change.

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// A set of watched files and directories.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
}

impl Watch {
    pub(crate) fn new() -> Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| Error::os("watch files", error))?;
        Ok(Self { inotify })
    }

    /// Entries that come into a directory or leave it. False when it cannot be watched (it is not there).
    pub(crate) fn directory(&self, path: &Path) -> bool {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::DELETE_SELF;
        inotify::add_watch(&self.inotify, path, flags).is_ok()
    }

    /// Growth of a file.
    pub(crate) fn file(&self, path: &Path) -> bool {
        inotify::add_watch(&self.inotify, path, WatchFlags::MODIFY).is_ok()
    }

    /// Waits for changes, or until the time is over; gives the names of the directory entries that changed.
    pub(crate) fn wait(&self, seconds: Option<i64>) -> Result<Vec<OsString>> {
        let failed = |error: Errno| Error::os("watch files", error);
        let limit = seconds.map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
        let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                    names.extend(name);
                }
                Err(Errno::WOULDBLOCK) => return Ok(names),
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}
