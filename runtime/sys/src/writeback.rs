//! Writing to the disk that begins early, so that a sync which comes later finds little left to do.

use std::os::fd::{AsFd, AsRawFd};

/// Bytes after which what was written is sent on its way.
const STRIDE: u64 = 8 << 20;
/// Smaller files are left to the sync: a request each would cost more than it saves.
const SMALL: u64 = 128 << 10;

/// Sends a file's bytes to the disk while it is written, or read.
#[derive(Debug, Default)]
pub struct Writeback {
    position: u64,
    begun: u64,
}

impl Writeback {
    /// At the beginning of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the file was written, or read, so many bytes further.
    pub fn advance(&mut self, file: impl AsFd, bytes: u64) {
        self.position += bytes;
        if self.position - self.begun >= STRIDE {
            self.begin(file);
        }
    }

    /// Sends what is left of the file on its way; a small file is left alone.
    pub fn finish(mut self, file: impl AsFd) {
        if self.position >= SMALL && self.position > self.begun {
            self.begin(file);
        }
    }

    fn begin(&mut self, file: impl AsFd) {
        let (offset, length) = (self.begun, self.position - self.begun);
        if let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) {
            // No safe wrapper exists for sync_file_range(2). It is a hint: the sync that counts comes later, and
            // tells of errors.
            // SAFETY: the call takes a descriptor that is open during it, and integers.
            unsafe {
                libc::sync_file_range(file.as_fd().as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
            }
        }
        self.begun = self.position;
    }
}
