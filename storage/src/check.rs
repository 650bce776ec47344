//! Verifies the store: blobs against their digests, records against what they name.

use crate::error::Result;
use crate::store::Store;
use oci::{ChainId, Digest};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A blob's content has another digest.
    Blob {
        /// The blob.
        digest: Digest,
    },
    /// An image names a blob that is not there.
    MissingBlob {
        /// The image.
        image: Digest,
        /// The blob.
        digest: Digest,
    },
    /// An image names a layer that is not there.
    MissingLayer {
        /// The image.
        image: Digest,
        /// The layer.
        chain_id: ChainId,
    },
    /// A layer names a snapshot that is not there.
    MissingSnapshot {
        /// The layer.
        chain_id: ChainId,
        /// The snapshot.
        snapshot: String,
    },
    /// A name leads to no image.
    DanglingName {
        /// The name.
        reference: String,
    },
    /// A record cannot be read.
    Record {
        /// Where it lies.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Blobs that were read.
    pub blobs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, records first.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Checks all records, and with `content` reads every blob too.
    pub fn check(&self, content: bool) -> Result<Report> {
        let _ = content;
        todo!()
    }

    /// Removes what is damaged and all that needs it, so that a pull can bring it back.
    pub fn repair(&self, report: &Report) -> Result<()> {
        let _ = report;
        todo!()
    }
}
