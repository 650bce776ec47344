//! Image data types of the OCI specifications, as plain data: this crate does no I/O of its own.
//!
//! - [`Digest`], [`DiffId`], [`ChainId`]: names of content; [`Digester`] computes them while bytes pass.
//! - [`Descriptor`], [`Manifest`], [`Index`], [`ManifestOrIndex`], [`ImageConfig`]: the documents.
//! - [`Raw`]: a document together with the very bytes it was received as. A foreign document is never
//!   serialised again, so digests survive any number of hops.
//! - [`Platform`]: parsing, normalising and ranked matching.
//!
//! Everything that is serialised here comes out the same every time: maps are ordered, empty fields are left
//! out, and keys stand in the order in which Docker and `BuildKit` write them.
#![forbid(unsafe_code)]

mod config;
mod descriptor;
mod digest;
mod manifest;
pub mod media_type;
mod platform;
mod raw;
pub mod xz;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, annotation};
pub use digest::{Algorithm, ChainId, DiffId, Digest, Digester};
pub use manifest::{Index, Manifest, ManifestOrIndex};
pub use media_type::Compression;
pub use platform::Platform;
pub use raw::{Document, Raw};

/// Most bytes that a manifest or an index may have (distribution-spec: registries must accept 4 MiB).
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Most bytes that an image config may have.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// Most layers that one image may have; overlayfs itself takes 500 lower directories.
pub const MAX_LAYERS: usize = 500;
/// Most entries that an index may have.
pub const MAX_INDEX_ENTRIES: usize = 4096;
/// Most history entries that a config may have.
pub const MAX_HISTORY: usize = 8192;

/// Why a value is not a valid image-spec value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not `algorithm:hex` with a known algorithm and the right number of lower-case hex digits.
    #[error("invalid digest {text:?}: {reason}")]
    InvalidDigest {
        /// What was given, cut to a readable length.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bytes have another digest than the one they were asked for by.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// The digest that names the content.
        expected: Digest,
        /// The digest of the bytes that came.
        actual: Digest,
    },
    /// The text is not `os/arch[/variant]`.
    #[error("invalid platform {text:?}: {reason}")]
    InvalidPlatform {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The document is not JSON of the expected shape.
    #[error("invalid {what}: {message}")]
    InvalidDocument {
        /// Which kind of document.
        what: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The document has more bytes or entries than is allowed.
    #[error("{what} is too large: {actual} {unit}, at most {limit} are allowed")]
    TooLarge {
        /// Which document or which list.
        what: &'static str,
        /// `bytes` or `entries`.
        unit: &'static str,
        /// How many there are.
        actual: u64,
        /// How many may be there.
        limit: u64,
    },
    /// The document is of a kind that is not supported, such as Docker's schema 1.
    #[error("unsupported manifest type {media_type:?}")]
    UnsupportedManifest {
        /// The type that it declares or was served with.
        media_type: String,
    },
}

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `deserialize_with`: takes JSON `null`, which Go writes for nil slices and maps, as the empty value.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    use serde::Deserialize;
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
