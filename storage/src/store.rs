//! The store as a whole: its directories, its locks, its trash.

use crate::artifacts::Artifacts;
use crate::cache::Cache;
use crate::cache_mounts::CacheMounts;
use crate::content::Content;
use crate::error::{Error, Failures, Result};
use crate::images::Images;
use crate::layers::Layers;
use crate::leases::{self, Lease};
use crate::lists::Lists;
use crate::records::{self, Record, Sync};
use crate::snapshot::{self, Snapshotter};
use crate::traces::Traces;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sys::lock::FileLock;

/// Which snapshot driver a store uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// The one that the store was made with; for a new store overlay where it works, else vfs.
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
    user_namespace: bool,
    snapshotter: Box<dyn Snapshotter>,
}

/// `ROOT/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct VersionRecord {
    driver: String,
    /// Why a store that chose its driver itself has another one than overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Record for VersionRecord {
    const VERSION: u32 = 1;
}

/// Directories of a store, all of mode 0700.
const DIRECTORIES: [&str; 16] = [
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    "ingest",
    "ingest/partial",
    "active",
    "snapshots",
    "layers",
    "images",
    "tags",
    "lists",
    "artifacts",
    "cache",
    "cache/pending",
    "leases",
    "trash",
];

impl Store {
    /// Opens a store: makes its directories where they are missing, and scans nothing.
    pub fn open(options: StoreOptions) -> Result<Self> {
        let StoreOptions { root, driver, user_namespace } = options;
        // Mounts are made in processes with another working directory.
        let root =
            std::path::absolute(&root).map_err(|source| sys::fs::Error::new("resolve", &root, source))?;
        let path = root.join("version");
        let known = match records::read::<VersionRecord>(&path) {
            Err(Error::NewerRecord { found, known, .. }) => {
                return Err(Error::NewerStore { root, found, known });
            }
            other => other?,
        };
        let name = match known {
            Some(record) if driver == Driver::Auto || driver.name() == record.driver => record.driver,
            Some(record) => change_driver(&root, &path, record, driver)?,
            None => create(&root, &path, driver, user_namespace)?,
        };
        let snapshotter = snapshot::driver(&name, &root, user_namespace)?;
        Ok(Self { shared: Arc::new(Shared { root, user_namespace, snapshotter }) })
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Whether overlay marks are `user.*` attributes.
    pub fn user_namespace(&self) -> bool {
        self.shared.user_namespace
    }

    /// Why the store has not the overlay driver although it could choose, if so.
    pub fn driver_reason(&self) -> Result<Option<String>> {
        Ok(records::read::<VersionRecord>(&self.path("version"))?.and_then(|record| record.reason))
    }

    /// Begins an operation that writes: reaps what dead ones left, then returns the lease that protects what this one
    /// makes and uses. `what` is for people: `pull docker.io/library/alpine:latest`.
    pub fn lease(&self, what: &str) -> Result<Lease> {
        self.sweep_after_boot()?;
        // What another operation left must not make this one fail; whoever cares calls `reap`.
        let _ = self.reap();
        Lease::begin(self, what)
    }

    /// Removes what operations without a living owner left: working directories, unfinished snapshots, trash. Cheap
    /// when there is nothing, and safe beside running operations. [`Store::lease`] calls it.
    pub fn reap(&self) -> Result<()> {
        let mut failures = Failures::default();
        failures.note(leases::reap(self));
        failures.note(crate::content::reap_partial(self));
        failures.note(self.empty_trash());
        failures.into_result()
    }

    /// The blobs.
    pub fn content(&self) -> Content<'_> {
        Content { store: self }
    }

    /// The snapshots.
    pub fn snapshots(&self) -> &dyn Snapshotter {
        &*self.shared.snapshotter
    }

    /// The layer records.
    pub fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }

    /// The image and tag records.
    pub fn images(&self) -> Images<'_> {
        Images { store: self }
    }

    /// The lists of images.
    pub fn lists(&self) -> Lists<'_> {
        Lists { store: self }
    }

    /// The artifacts.
    pub fn artifacts(&self) -> Artifacts<'_> {
        Artifacts { store: self }
    }

    /// The build cache's records.
    pub fn cache(&self) -> Cache<'_> {
        Cache { store: self }
    }

    /// The cache mounts of build steps.
    pub fn cache_mounts(&self) -> CacheMounts<'_> {
        CacheMounts { store: self }
    }

    /// What the steps of builds were made of.
    pub fn traces(&self) -> Traces<'_> {
        Traces { store: self }
    }

    /// Writes all content of the store to disk, then marks the cache records that name it as durable.
    /// [`Images::put`] calls it: once for a whole image.
    pub fn sync(&self) -> Result<()> {
        let pending = records::names(&self.path("cache/pending"))?;
        sys::fs::sync_fs(&self.shared.root)?;
        self.cache().make_durable(&pending)
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.shared.root.join(relative)
    }

    /// Held while existing content is taken hold of or new content becomes visible: no sweep runs meanwhile.
    pub(crate) fn lock_shared(&self) -> Result<FileLock> {
        lock_shared(&self.shared.root)
    }

    /// Held by a sweep while it decides and renames.
    pub(crate) fn lock_exclusive(&self) -> Result<FileLock> {
        lock_exclusive(&self.shared.root)
    }

    /// Held, after the shared lock, while a record is read, changed and written.
    pub(crate) fn lock_records(&self) -> Result<FileLock> {
        Ok(sys::lock::exclusive(&self.path("records.lock"))?)
    }

    /// Removes a directory: out of sight in one step, then piece by piece, which any later command would finish.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        discard(&self.shared.root, path)
    }

    /// Deletes what is in the trash and is not being deleted by somebody else.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        let trash = self.path("trash");
        let mut failures = Failures::default();
        for name in sys::fs::read_names(&trash)? {
            failures.note(delete_trash(&trash.join(name)));
        }
        failures.into_result()
    }

    /// Content is renamed into place without waiting for the disk, and one sync before the record that names it covers
    /// all of it. After a power failure, content that no record names may therefore be damaged: the first writer after
    /// a boot sweeps it away, and forgets cache records that were not yet durable.
    fn sweep_after_boot(&self) -> Result<()> {
        const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
        let Some(now) = sys::fs::optional(sys::fs::read_limited(Path::new(BOOT_ID), 64))? else {
            return Ok(());
        };
        let path = self.path("boot");
        if sys::fs::optional(sys::fs::read_limited(&path, 64))?.as_deref() == Some(&now) {
            return Ok(());
        }
        let _boot = sys::lock::exclusive(&self.path("boot.lock"))?;
        if sys::fs::optional(sys::fs::read_limited(&path, 64))?.as_deref() == Some(&now) {
            return Ok(());
        }
        if sys::fs::exists(&path)? {
            let pending = self.path("cache/pending");
            for name in records::names(&pending)? {
                records::remove(&pending.join(name))?;
            }
            // Damaged records elsewhere are for `check` to tell; this operation may well work without them.
            let _ = self.sweep(crate::SweepOptions::default());
        }
        Ok(sys::fs::write_atomic(&path, &now, 0o600, Sync::None)?)
    }
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Driver::Auto => "auto",
            Driver::Overlay => snapshot::OVERLAY,
            Driver::Vfs => snapshot::VFS,
        }
    }
}

fn create(root: &Path, path: &Path, driver: Driver, user_namespace: bool) -> Result<String> {
    sys::fs::create_dir_all(root, 0o700)?;
    for directory in DIRECTORIES {
        sys::fs::create_dir_all(&root.join(directory), 0o700)?;
    }
    let (name, reason) = match driver {
        Driver::Vfs => (snapshot::VFS, None),
        Driver::Auto | Driver::Overlay => match snapshot::probe_overlay(root, user_namespace) {
            Ok(()) => (snapshot::OVERLAY, None),
            Err(error) if driver == Driver::Auto => (snapshot::VFS, Some(with_sources(&error))),
            Err(error) => {
                return Err(Error::NoDriver { root: root.to_owned(), reason: with_sources(&error) });
            }
        },
    };
    let record = VersionRecord { driver: name.to_owned(), reason };
    match records::write_new(path, &record, Sync::Data) {
        Ok(()) => Ok(record.driver),
        // Another process was faster: its choice counts.
        Err(error) => match records::read::<VersionRecord>(path)? {
            Some(record) => Ok(record.driver),
            None => Err(error),
        },
    }
}

fn change_driver(root: &Path, path: &Path, record: VersionRecord, driver: Driver) -> Result<String> {
    let occupied =
        |directory: &str| -> Result<bool> { Ok(!sys::fs::read_names(&root.join(directory))?.is_empty()) };
    if occupied("snapshots")? || occupied("active")? {
        return Err(Error::DriverInUse { root: root.to_owned(), driver: record.driver });
    }
    let record = VersionRecord { driver: driver.name().to_owned(), reason: None };
    records::write(path, &record, Sync::Data)?;
    Ok(record.driver)
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub(crate) fn lock_shared(root: &Path) -> Result<FileLock> {
    Ok(sys::lock::shared(&root.join("gc.lock"))?)
}

pub(crate) fn lock_exclusive(root: &Path) -> Result<FileLock> {
    Ok(sys::lock::exclusive(&root.join("gc.lock"))?)
}

/// Moves a directory out of sight in one step. `None` if it was not there.
pub(crate) fn move_to_trash(root: &Path, path: &Path) -> Result<Option<PathBuf>> {
    let target = root.join("trash").join(random_name()?);
    Ok(sys::fs::optional(sys::fs::rename(path, &target))?.map(|()| target))
}

pub(crate) fn discard(root: &Path, path: &Path) -> Result<()> {
    match move_to_trash(root, path)? {
        Some(trash) => delete_trash(&trash),
        None => Ok(()),
    }
}

/// Deletes one entry of the trash, unless somebody else is at it.
pub(crate) fn delete_trash(path: &Path) -> Result<()> {
    let Some(directory) = sys::fs::optional(sys::fs::open_dir(path))? else { return Ok(()) };
    match sys::lock::try_lock_file(File::from(directory)) {
        Ok(_lock) => Ok(sys::fs::remove_tree(path)?),
        Err(_) => Ok(()),
    }
}

/// A name that no other process chooses: 16 hex digits.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random { reason: error.to_string() })?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// The time as records have it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}
