//! Cache mounts that travel: their files in chunks, the chunks in packs, an index that says which file has which.
//!
//! Files are cut by their content (`storage::chunker`), so that a change moves little. Chunks that no earlier pack of the
//! destination has go into new packs of some megabytes, so that a registry sees few blobs; a pack of which less than
//! half is still used is written anew. A runner whose mount is missing fetches the packs before the first step that
//! wants it.

mod index;
mod notes;
mod restore;
mod save;
#[cfg(test)]
mod tests;

pub(super) use index::{INDEX, INDEX_LIMIT, Index};
pub(super) use restore::restore;
pub(super) use save::{NewPacks, save};
