//! Root file systems as snapshots: writing a new layer, reading what is there.

use super::Error;
use super::times;
use super::tree::Tree;
use super::write::Destination;
use crate::graph::FileTimes;
use crate::secrets::Search;
use crate::solver::{Broken, Pending};
use oci::{ChainId, DiffId};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use storage::diff::Diff;
use storage::snapshot::open_detached;
use storage::{Hold, Lease, Prepare, Store, WhiteoutFormat};
use sys::mount::Mount;

/// A root file system: layers that the store knows by their chain ID, then layers of this build on top.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rootfs {
    /// The top of the known layers.
    pub(crate) base: Option<ChainId>,
    /// The top of the new layers.
    pub(crate) own: Option<Arc<Own>>,
}

/// A layer that has a snapshot and, as yet, no name of its own.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) snapshot: String,
    pub(crate) below: Option<Arc<Own>>,
    /// The computation of its digest.
    pub(crate) pending: Mutex<Option<Pending<storage::Result<Diff>>>>,
    /// What became of it.
    pub(crate) named: OnceLock<(ChainId, DiffId)>,
}

impl Rootfs {
    /// Names of the new layers' snapshots, lowest first.
    pub(crate) fn own_snapshots(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = self.own.as_ref();
        while let Some(own) = next {
            names.push(own.snapshot.clone());
            next = own.below.as_ref();
        }
        names.reverse();
        names
    }
}

/// The store as the operations of one build use it.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    /// What becomes of the times of new files.
    times: FileTimes,
    /// What no layer may contain.
    search: Option<&'a Search>,
    views: Mutex<HashMap<String, Tree>>,
}

/// An active snapshot that is removed unless it is committed.
#[derive(Debug)]
pub(crate) struct Active<'a> {
    workspace: &'a Workspace<'a>,
    key: String,
    pub(crate) mounts: Vec<Mount>,
    committed: bool,
}

impl<'a> Workspace<'a> {
    pub(crate) fn new(store: &'a Store, lease: &'a Lease, times: FileTimes) -> Self {
        Self { store, lease, times, search: None, views: Mutex::new(HashMap::new()) }
    }

    /// Fails each step that leaves a secret's value in its layer.
    pub(crate) fn looking_for(self, search: Option<&'a Search>) -> Self {
        Self { search, ..self }
    }

    /// A name that no other build has.
    pub(crate) fn unique_name(&self, prefix: &str) -> Result<String, Error> {
        let mut random = [0u8; 12];
        let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| super::io_error("get", "random bytes")(error.into()))?;
        let mut name = prefix.to_owned();
        for byte in &random[..filled] {
            name.push_str(&format!("{byte:02x}"));
        }
        Ok(name)
    }

    /// The committed snapshot that has all files of a root file system; `None` for an empty one.
    pub(crate) fn snapshot(&self, rootfs: &Rootfs) -> Result<Option<String>, Error> {
        if let Some(own) = &rootfs.own {
            return Ok(Some(own.snapshot.clone()));
        }
        let Some(chain_id) = &rootfs.base else { return Ok(None) };
        let layer = self.store.layers().hold(self.lease, chain_id)?;
        let layer = layer.ok_or_else(|| storage::Error::LayerNotFound { chain_id: chain_id.clone() })?;
        Ok(Some(layer.snapshot))
    }

    /// The files of a root file system, for reading. One mount serves all operations of a build.
    pub(crate) fn read(&self, rootfs: &Rootfs) -> Result<Tree, Error> {
        let snapshot = self.snapshot(rootfs)?;
        let name = snapshot.as_deref().unwrap_or("");
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tree) = views.get(name) {
            return Ok(tree.clone());
        }
        let root = match &snapshot {
            Some(name) => open_detached(&self.store.snapshots().view(name)?)?,
            None => {
                let empty = self.lease.directory()?.join("empty");
                sys::fs::create_dir_all(&empty, 0o755).map_err(storage::Error::from)?;
                sys::fs::open_dir(&empty).map_err(storage::Error::from)?
            }
        };
        let tree = Tree::new(root, None);
        views.insert(name.to_owned(), tree.clone());
        Ok(tree)
    }

    /// Begins a new layer.
    pub(crate) fn prepare(&'a self, parent: Option<&str>) -> Result<Active<'a>, Error> {
        let key = self.unique_name("step-")?;
        let mounts = self.store.snapshots().prepare(self.lease, &Prepare::new(&key, parent))?;
        Ok(Active { workspace: self, key, mounts, committed: false })
    }

    /// Makes a new layer by writing into the whole tree.
    pub(crate) fn write_layer(
        &'a self,
        rootfs: &Rootfs,
        write: impl FnOnce(Destination<'_>) -> Result<(), Error>,
    ) -> Result<Rootfs, Error> {
        let parent = self.snapshot(rootfs)?;
        let active = self.prepare(parent.as_deref())?;
        let root = open_detached(&active.mounts)?;
        let own = match active.layer_directory()? {
            Some(directory) => Some(sys::fs::open_dir(&directory).map_err(storage::Error::from)?),
            None => None,
        };
        write(Destination::new(root.as_fd(), own.as_ref().map(AsFd::as_fd)))?;
        // The mount ends here: a committed snapshot must not be mounted writable.
        drop((root, own));
        active.commit(rootfs)
    }

    /// Protects a snapshot that a record names.
    pub(crate) fn hold_snapshot(&self, name: &str) -> Result<bool, Error> {
        Ok(self.lease.hold(Hold::Snapshot(name.to_owned()))?)
    }
}

impl Active<'_> {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The directory that has the new layer alone, where the driver has one.
    pub(crate) fn layer_directory(&self) -> Result<Option<PathBuf>, Error> {
        let snapshots = self.workspace.store.snapshots();
        if snapshots.capabilities().whiteouts == WhiteoutFormat::Applied {
            return Ok(None);
        }
        Ok(Some(snapshots.layer_directory(&self.key)?))
    }

    /// The directory where new files lie, among others where the driver copies.
    pub(crate) fn any_directory(&self) -> Result<PathBuf, Error> {
        Ok(self.workspace.store.snapshots().layer_directory(&self.key)?)
    }

    /// Makes the layer final, on the root file system that it was prepared on.
    pub(crate) fn commit(mut self, on: &Rootfs) -> Result<Rootfs, Error> {
        if self.workspace.times != FileTimes::Kept {
            self.rewrite_times(on)?;
        }
        // Looking through the layer is reading it, so its digest is made in the same pass, before it becomes one.
        let digest = match self.workspace.search {
            Some(search) => Some(Pending::ready(Ok(self.look_through(search)?))),
            None => None,
        };
        let name = self.workspace.unique_name("build-")?;
        let snapshots = self.workspace.store.snapshots();
        snapshots.commit(self.workspace.lease, &name, &self.key, None)?;
        self.committed = true;
        let (pending, named) = (Mutex::new(digest), OnceLock::new());
        let own = Own { snapshot: name, below: on.own.clone(), pending, named };
        Ok(Rootfs { base: on.base.clone(), own: Some(Arc::new(own)) })
    }
}

impl Active<'_> {
    /// Gives the files of the layer the times that they shall have.
    fn rewrite_times(&self, on: &Rootfs) -> Result<(), Error> {
        let directory = sys::fs::open_dir(&self.any_directory()?).map_err(storage::Error::from)?;
        // Where the directory has the files of the layers below too, theirs stay.
        let below = match (self.layer_directory()?, self.workspace.snapshot(on)?) {
            (None, Some(parent)) => {
                let path = self.workspace.store.snapshots().layer_directory(&parent)?;
                Some(sys::fs::open_dir(&path).map_err(storage::Error::from)?)
            }
            _ => None,
        };
        times::rewrite(Tree::new(directory, None), below, self.workspace.times)
    }

    /// The layer's digest, unless a secret's value is in it.
    fn look_through(&self, search: &Search) -> Result<Diff, Error> {
        let store = self.workspace.store;
        let mut stream = search.stream();
        let diff = storage::diff::diff_id_watched(store, &self.key, &mut |piece| stream.push(piece))?;
        let Some(found) = stream.finish() else { return Ok(diff) };
        // Read once more, which costs only those who have to start again anyway.
        let path = storage::diff::path_at(store, &self.key, found.offset)?.unwrap_or_default();
        let path = search.redact_path(&String::from_utf8_lossy(&path));
        Err(Error::SecretLeft { id: found.id, form: found.form, path })
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // What this misses, the lease's end removes.
            let _ = self.workspace.store.snapshots().remove(&self.key);
        }
    }
}

/// The digest of a layer is wanted by several; only the first waits for the computation.
pub(crate) fn wait_for_digest(own: &Own) -> Result<Option<Diff>, Error> {
    let pending = own.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
    match pending {
        None => Ok(None),
        Some(pending) => Ok(Some(pending.wait().map_err(|_| Broken::Panicked)??)),
    }
}
