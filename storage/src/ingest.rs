//! Layers into the store, in one pass, and onto each other.
//!
//! ```text
//! source ─▶ digest, blob file ─▶ inflate ─▶ diffID ─▶ unpack into a directory of its own
//! ```
//!
//! The arrows are bounded pipes between threads, so that receiving, inflating, hashing and unpacking overlap within
//! a few MB a layer. Nothing becomes visible before the digest, the size and the diffID are verified. Layers are
//! ingested in any order and in parallel; [`commit_chain`] names their parents, in order.
//!
//! A layer that cannot be understood alone (a hard link to a file below, an entry beneath a symbolic link) is
//! unpacked again, from its blob, onto its parent. Directories that a layer implies without listing them take
//! owner, mode, time and attributes from below at commit.

mod commit;
mod error;
pub(crate) mod pipe;
pub(crate) mod receive;

pub use commit::commit_chain;
pub use error::LayerError;
pub use receive::{LayerReader, LayerSource, Need, OpenLayer, StagedLayer, ingest_layer};

#[cfg(test)]
mod tests;
