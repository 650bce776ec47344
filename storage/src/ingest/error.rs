//! What can go wrong with a layer.

use std::io;
use std::path::PathBuf;

use oci::DiffId;

/// A failure to receive, unpack, compare or write a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The source of the blob failed.
    #[error("receive layer {layer}")]
    Receive {
        /// Digest of the blob, or `(new)`.
        layer: String,
        /// What the source said.
        source: io::Error,
    },
    /// The blob cannot be stored.
    #[error("store layer {layer}")]
    Store {
        /// Digest of the blob, or `(new)`.
        layer: String,
        /// What the store said.
        source: io::Error,
    },
    /// The blob is no valid stream of its compression.
    #[error("inflate layer {layer}")]
    Inflate {
        /// Digest of the blob, or `(new)`.
        layer: String,
        /// What the decoder said.
        source: io::Error,
    },
    /// The tar stream is refused or cannot be unpacked.
    #[error("unpack layer {layer}")]
    Unpack {
        /// Digest of the blob, or `(new)`.
        layer: String,
        /// What is wrong.
        source: crate::tar::Error,
    },
    /// The plain stream is not what the image's config says.
    #[error("layer {layer}: content has diffID {actual}, the config says {expected}")]
    WrongDiffId {
        /// Digest of the blob, or `(new)`.
        layer: String,
        /// From the config.
        expected: DiffId,
        /// Of what came.
        actual: DiffId,
    },
    /// The files of a snapshot cannot be read as a layer.
    #[error("read changes of snapshot {snapshot}")]
    Diff {
        /// Its name or key.
        snapshot: String,
        /// What is wrong.
        source: crate::tar::Error,
    },
    /// The files of a snapshot no longer give the layer that they were.
    #[error("snapshot {snapshot} gives diffID {actual}, its record says {expected}")]
    Damaged {
        /// Its name.
        snapshot: String,
        /// From the record.
        expected: DiffId,
        /// Of its files now.
        actual: DiffId,
    },
    /// A layer's stream cannot be written to where it is wanted.
    #[error("write layer {layer}")]
    Write {
        /// Its chain ID.
        layer: String,
        /// What the sink said.
        source: io::Error,
    },
    /// A file of a snapshot cannot be adjusted.
    #[error("{action} {}", path.display())]
    File {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}
