//! `--cache-from` and `--cache-to`: a build cache in a registry, in an OCI layout directory, or in the image itself.
//!
//! A cache is an OCI manifest whose config says which keys have which layers (`format`), and whose layers are theirs.
//! Keys are of contents alone, so they are the same on every machine. `import` reads the config when the first result
//! is not known here, and then fetches only layers of results that hit; `export` sends only what is not there.

mod export;
mod format;
mod import;
mod mounts;
mod place;

pub(super) use export::{Export, Results, export};
pub(super) use import::Imports;
pub use place::{CacheFrom, CacheMode, CacheTo};

/// How the cache of a build is used, explained and handed on.
#[derive(Debug, Clone, Default)]
pub struct CacheRequest {
    /// Steps that must not run: `Some(None)` = none of them, `Some(Some(STAGE))` = none of that stage.
    pub assert_cached: Option<Option<String>>,
    /// Caches to take results from, the first that has one.
    pub from: Vec<CacheFrom>,
    /// Where the results go.
    pub to: Vec<CacheTo>,
}
