//! Tar streams: a reader for foreign bytes, an extractor that cannot leave its directory, and a writer whose
//! bytes depend on the tree alone.
//!
//! - [`read`]: headers, PAX records, GNU long names, sparse maps; every count and length is bounded.
//! - [`extract`]: entries onto a directory, through directory descriptors, never through joined paths.
//! - [`write`]: one canonical stream a tree: names sorted bytewise, `ustar` headers, a PAX record only where
//!   `ustar` cannot say it.
//! - [`whiteout`]: deletions, between the `.wh.` names of the OCI layer format and what overlayfs keeps on disk.
//!
//! The module knows nothing of layers, digests or the store.

pub(crate) mod error;
pub mod extract;
pub mod header;
pub mod pax;
pub mod read;
pub mod whiteout;
pub mod write;

pub use error::{Error, Fault, HeaderFault};
pub use extract::{ChecksumSink, ExtractOptions, Extracted, Ownership, Skipped, Whiteouts, extract_into};
pub use read::{Content, Entry, EntryKind, Limits, Reader, Timestamp};
pub use write::{MtimePrecision, SkipPath, TarWriter, TreeWriter, WriteOptions, Written, write_tree};

#[cfg(test)]
mod tests;
