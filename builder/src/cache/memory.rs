//! What is remembered of files that were hashed: a file that its inode says is unchanged is not read again.
//!
//! One binary file for each file system's device, replaced as a whole, never synced: losing it costs one hashing.
//! ```text
//! "davit stat memory 2\n"  then entries of 76 bytes, little endian:
//! inode u64, size u64, mtime s i64, mtime ns u32, ctime s i64, ctime ns u32, age u32, digest 32 bytes
//! ```
//! The change time cannot be set from user space, so a file that was written keeps no old entry alive. A file whose
//! change time is so young that a later write could carry the same one is hashed, but not remembered.

use oci::Digest;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: &[u8] = b"davit stat memory 2\n";
const ENTRY: usize = 76;
/// Saves after which an entry that nobody asked for is dropped.
const MAX_AGE: u32 = 16;
const MAX_BYTES: u64 = 512 << 20;

/// What identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

#[derive(Debug, Clone, Copy)]
struct Known {
    state: State,
    age: u32,
    digest: [u8; 32],
}

/// The memory of one device.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<u64, Known>,
    dirty: bool,
}

impl State {
    pub(crate) fn of(stat: &Stat) -> Self {
        let nanos = |value: u64| u32::try_from(value).unwrap_or(0);
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
        }
    }

    /// Whether a write from now on certainly shows in the change time. File systems with whole seconds, and kernels
    /// that take the time from their last tick, need some distance.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = std::time::Duration::new(u64::try_from(self.changed.0).unwrap_or(0), self.changed.1);
        let distance = if self.changed.1 == 0 { 2_500 } else { 50 };
        now > changed + std::time::Duration::from_millis(distance)
    }
}

impl Memory {
    /// Reads what is remembered; a missing or damaged file is an empty memory.
    pub(crate) fn read(path: PathBuf) -> Self {
        let known = sys::fs::read_limited(&path, MAX_BYTES).ok().and_then(|bytes| decode(&bytes));
        Self { path, inner: Mutex::new(Inner { known: known.unwrap_or_default(), dirty: false }) }
    }

    /// The digest of a file in this state.
    pub(crate) fn get(&self, state: &State) -> Option<Digest> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = inner.known.get_mut(&state.inode)?;
        if known.state != *state {
            return None;
        }
        known.age = 0;
        Some(Digest::from_sha256(known.digest))
    }

    /// Remembers the digest of a file in this state, if it is old enough to be trusted.
    pub(crate) fn put(&self, state: &State, digest: &Digest) {
        let Some(bytes) = decode_hex(digest.hex()) else { return };
        if !state.is_settled(SystemTime::now()) {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.known.insert(state.inode, Known { state: *state, age: 0, digest: bytes });
        inner.dirty = true;
    }

    /// Writes the memory if it learnt something.
    pub(crate) fn write(&self) -> Result<(), sys::fs::Error> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !inner.dirty {
            return Ok(());
        }
        inner.dirty = false;
        if let Some(parent) = self.path.parent() {
            sys::fs::create_dir_all(parent, 0o700)?;
        }
        sys::fs::write_atomic(&self.path, &encode(&inner.known), 0o600, sys::fs::Sync::None)
    }

    /// Where it lies below the cache's directory.
    pub(crate) fn path_for(directory: &Path, stat: &Stat) -> PathBuf {
        directory.join(format!("stat-{:x}", stat.st_dev))
    }
}

fn encode(known: &HashMap<u64, Known>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + known.len() * ENTRY);
    bytes.extend_from_slice(MAGIC);
    for entry in known.values().filter(|entry| entry.age < MAX_AGE) {
        let state = &entry.state;
        bytes.extend_from_slice(&state.inode.to_le_bytes());
        bytes.extend_from_slice(&state.size.to_le_bytes());
        bytes.extend_from_slice(&state.modified.0.to_le_bytes());
        bytes.extend_from_slice(&state.modified.1.to_le_bytes());
        bytes.extend_from_slice(&state.changed.0.to_le_bytes());
        bytes.extend_from_slice(&state.changed.1.to_le_bytes());
        bytes.extend_from_slice(&(entry.age + 1).to_le_bytes());
        bytes.extend_from_slice(&entry.digest);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<HashMap<u64, Known>> {
    let entries = bytes.strip_prefix(MAGIC)?;
    if entries.len() % ENTRY != 0 {
        return None;
    }
    let mut known = HashMap::with_capacity(entries.len() / ENTRY);
    for entry in entries.chunks_exact(ENTRY) {
        let long = |at: usize| entry[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
        let signed = |at: usize| entry[at..at + 8].try_into().map(i64::from_le_bytes).unwrap_or(0);
        let short = |at: usize| entry[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or(0);
        let state = State {
            inode: long(0),
            size: long(8),
            modified: (signed(16), short(24)),
            changed: (signed(28), short(36)),
        };
        let digest = entry[44..76].try_into().ok()?;
        known.insert(state.inode, Known { state, age: short(40), digest });
    }
    Some(known)
}

fn decode_hex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn survives_a_write_and_forgets_changed_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        let state = State { inode: 7, size: 3, modified: (1_000, 5), changed: (1_000, 6) };
        let memory = Memory::read(path.clone());
        assert_eq!(memory.get(&state), None);
        memory.put(&state, &Digest::of(b"abc"));
        memory.write().unwrap();
        let memory = Memory::read(path.clone());
        assert_eq!(memory.get(&state), Some(Digest::of(b"abc")));
        assert_eq!(memory.get(&State { changed: (1_001, 6), ..state }), None);
        assert_eq!(memory.get(&State { size: 4, ..state }), None);
        std::fs::write(&path, b"damaged").unwrap();
        assert_eq!(Memory::read(path).get(&state), None);
    }

    #[test]
    fn young_files_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let state = State::of(&rustix::fs::stat(dir.path().join("file")).unwrap());
        assert!(!state.is_settled(SystemTime::now()));
        assert!(state.is_settled(SystemTime::now() + std::time::Duration::from_secs(5)));
        let memory = Memory::read(dir.path().join("memory"));
        memory.put(&state, &Digest::of(b"x"));
        assert_eq!(memory.get(&state), None);
    }
}
