//! The store as a whole.

use crate::cache::Cache;
use crate::content::Content;
use crate::error::Result;
use crate::images::Images;
use crate::layers::Layers;
use crate::leases::Lease;
use crate::snapshot::Snapshotter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which snapshot driver a store uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// Overlay where it works, else vfs. A store that has snapshots stays with the driver that made them.
    #[default]
    Auto,
    /// Directories over each other, joined by the kernel.
    Overlay,
    /// Full copies: works everywhere, costs time and space.
    Vfs,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The directory of the store; created on first use.
    pub root: PathBuf,
    /// The snapshot driver.
    pub driver: Driver,
    /// Whether the process is root of a user namespace that is not the first one: overlay then keeps its marks in
    /// `user.*` attributes.
    pub user_namespace: bool,
}

/// A store. Clones share it; handles may be used from many threads.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) user_namespace: bool,
}

impl Store {
    /// Opens a store: makes its directories where they are missing, and scans nothing.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let _ = options;
        todo!()
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Whether overlay marks are `user.*` attributes.
    pub fn user_namespace(&self) -> bool {
        self.shared.user_namespace
    }

    /// Begins an operation that writes: reaps what dead ones left, then returns the lease that protects what this one
    /// makes and uses. `what` is for people: `pull docker.io/library/alpine:latest`.
    pub fn lease(&self, what: &str) -> Result<Lease> {
        let _ = what;
        todo!()
    }

    /// Removes what operations without a living owner left: working directories, unfinished snapshots, trash. Cheap
    /// when there is nothing, and safe beside running operations. [`Store::lease`] calls it.
    pub fn reap(&self) -> Result<()> {
        todo!()
    }

    /// The blobs.
    pub fn content(&self) -> Content<'_> {
        Content { store: self }
    }

    /// The snapshots.
    pub fn snapshots(&self) -> &dyn Snapshotter {
        todo!()
    }

    /// The layer records.
    pub fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }

    /// The image and tag records.
    pub fn images(&self) -> Images<'_> {
        Images { store: self }
    }

    /// The build cache's records.
    pub fn cache(&self) -> Cache<'_> {
        Cache { store: self }
    }

    /// Writes all content of the store to disk, then marks the cache records that name it as durable.
    /// [`Images::put`] calls it: once for a whole image.
    pub fn sync(&self) -> Result<()> {
        todo!()
    }
}
