//! What can go wrong in the store.

use oci::{ChainId, Digest};
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on a file failed.
    #[error(transparent)]
    File(#[from] sys::fs::Error),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] sys::mount::Error),
    /// A layer cannot be received, unpacked, compared or written.
    #[error(transparent)]
    Layer(#[from] crate::ingest::LayerError),
    /// A record cannot be understood.
    #[error("read record {}", path.display())]
    MalformedRecord {
        /// The record.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A record was written by a newer davit.
    #[error("record {} has version {found}, known is {known}", path.display())]
    NewerRecord {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood.
        known: u32,
    },
    /// A value cannot be written as JSON.
    #[error("write record {}", path.display())]
    UnwritableRecord {
        /// The record.
        path: PathBuf,
        /// What the writer said.
        source: serde_json::Error,
    },
    /// The store was made by a newer davit.
    #[error("store {} has version {found}, known is {known}", root.display())]
    NewerStore {
        /// The store.
        root: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is understood.
        known: u32,
    },
    /// No blob of this digest.
    #[error("no blob {digest}")]
    BlobNotFound {
        /// Its digest.
        digest: Digest,
    },
    /// A blob is not what its digest or its size says.
    #[error("blob {digest}: content has digest {actual}")]
    DigestMismatch {
        /// The digest that was expected.
        digest: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// A blob is longer or shorter than announced.
    #[error("blob {digest}: {actual} bytes instead of {expected}")]
    SizeMismatch {
        /// Its digest.
        digest: Digest,
        /// The size that was announced, in bytes.
        expected: u64,
        /// The size of what came, in bytes.
        actual: u64,
    },
    /// A blob is longer than the caller wants to read.
    #[error("blob {digest} has {size} bytes, more than {limit}")]
    BlobTooLarge {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// What the caller wants at most, in bytes.
        limit: u64,
    },
    /// No layer of this chain ID.
    #[error("no layer {chain_id}")]
    LayerNotFound {
        /// Its chain ID.
        chain_id: ChainId,
    },
    /// No image of this ID.
    #[error("no image {id}")]
    ImageNotFound {
        /// Its ID.
        id: Digest,
    },
    /// No snapshot of this name or key.
    #[error("no snapshot {name}")]
    SnapshotNotFound {
        /// Its name or key.
        name: String,
    },
    /// A snapshot of this name or key exists.
    #[error("snapshot {name} exists")]
    SnapshotExists {
        /// Its name or key.
        name: String,
    },
    /// A name is no valid snapshot name or key: letters, digits, `-`, `_` and `.`, at most 128.
    #[error("invalid snapshot name {name:?}")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// Something needs what was to be removed.
    #[error("{subject} is in use by {user}")]
    InUse {
        /// What was to be removed.
        subject: String,
        /// What needs it.
        user: String,
    },
    /// A driver does not offer this.
    #[error("driver {driver} cannot {what}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// What was asked for.
        what: &'static str,
    },
    /// No driver works on this file system.
    #[error("no snapshot driver works in {}: {reason}", root.display())]
    NoDriver {
        /// The store.
        root: PathBuf,
        /// What the last candidate said.
        reason: String,
    },
    /// A store with snapshots is to be opened with another driver.
    #[error("store {} has snapshots of the driver {driver}", root.display())]
    DriverInUse {
        /// The store.
        root: PathBuf,
        /// Its driver.
        driver: String,
    },
    /// Random bytes could not be had.
    #[error("get random bytes: {reason}")]
    Random {
        /// What the kernel said.
        reason: String,
    },
    /// A clean-up met several failures; it went on after each.
    #[error("clean up: {} failures, the first: {first}", others.len() + 1)]
    Several {
        /// The first.
        first: Box<Error>,
        /// The others.
        others: Vec<Error>,
    },
}

impl Error {
    /// Whether the thing that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::BlobNotFound { .. }
            | Error::LayerNotFound { .. }
            | Error::ImageNotFound { .. }
            | Error::SnapshotNotFound { .. } => true,
            Error::File(error) => error.is_not_found(),
            _ => false,
        }
    }
}

/// Collects the failures of a clean-up that goes on.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<Error>);

impl Failures {
    pub(crate) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    pub(crate) fn into_result(mut self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let first = self.0.remove(0);
        if self.0.is_empty() {
            Err(first)
        } else {
            Err(Error::Several { first: Box::new(first), others: self.0 })
        }
    }
}
