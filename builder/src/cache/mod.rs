//! Whether a result is known: keys, digests of selected files, and the index of records.

pub(crate) mod content_hash;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod listing;
pub(crate) mod memory;

pub(crate) use key::Key;
