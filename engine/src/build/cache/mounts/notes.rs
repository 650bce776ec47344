//! What is remembered of a mount's files between exports: a file that its inode says is unchanged is not read again.
//!
//! Kept beside the directory and removed with it; losing it costs one reading.

use oci::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const LIMIT: u64 = 512 << 20;
/// What the kernel's clock of file times advances by at most, doubled, in nanoseconds (`CONFIG_HZ=100`). A change that
/// was older than this when it was looked at is followed by none with the same time.
const TICK: i64 = 20_000_000;
/// The same where a file system keeps whole seconds, or every other one.
const COARSE: i64 = 3_000_000_000;

/// What identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl State {
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        let nanos = |value: u64| i64::try_from(value).unwrap_or(0);
        Self {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
        }
    }

    /// Whether a later change must have another time, as it is known at this moment: before the file is read.
    pub(super) fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let changed = self.changed.0.saturating_mul(1_000_000_000).saturating_add(self.changed.1);
        let needed = if self.changed.1 == 0 { COARSE } else { TICK };
        now.saturating_sub(changed) > needed
    }
}

/// Chunks of files by their paths.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Notes {
    files: HashMap<String, (State, Vec<(Digest, u32)>)>,
}

impl Notes {
    pub(super) fn read(path: &Path) -> Self {
        let bytes = sys::fs::read_limited(path, LIMIT).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path) {
        if let Ok(bytes) = serde_json::to_vec(self) {
            let _ = sys::fs::write_atomic(path, &bytes, 0o600, sys::fs::Sync::None);
        }
    }

    pub(super) fn get(&self, path: &str, state: &State) -> Option<&Vec<(Digest, u32)>> {
        self.files.get(path).filter(|(known, _)| known == state).map(|(_, chunks)| chunks)
    }

    pub(super) fn put(&mut self, path: String, state: State, chunks: Vec<(Digest, u32)>) {
        self.files.insert(path, (state, chunks));
    }
}
