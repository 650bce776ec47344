//! The sweep: removes what no image, container snapshot, lease or cache record needs.

use crate::error::Result;
use crate::store::Store;

/// What a sweep removes besides garbage.
#[derive(Debug, Clone, Copy, Default)]
pub struct SweepOptions {
    /// Also unfinished blobs that nobody is receiving now: the next pull of them begins at the start.
    pub partial_blobs: bool,
    /// Also blobs whose layer is unpacked. A push then compresses again, with the same digests only for layers that
    /// were built here.
    pub unpacked_blobs: bool,
    /// Only says what would be removed.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes: recorded sizes.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Layer records.
    pub layers: u64,
    /// Snapshots.
    pub snapshots: u64,
}

impl Store {
    /// Removes what nothing needs. Safe beside running operations of this and other processes.
    pub fn sweep(&self, options: SweepOptions) -> Result<Freed> {
        let _ = options;
        todo!()
    }
}
