//! Snapshots: file trees on top of each other.
//!
//! An *active* snapshot is written to and has a key; a *committed* one is never written again and has a name. Drivers
//! say how a snapshot is mounted and mount nothing themselves: use [`open_detached`] for a descriptor that needs no
//! place, or hand the mounts to a runtime.
//!
//! ```text
//! active/KEY/      record.json  fs/  work/     made under another name, then renamed here
//! snapshots/NAME/  record.json  fs/            renamed here from active/, which is what commits
//! ```
//!
//! What else is put into an active snapshot's directory goes with it to the committed one.

mod copy;
pub(crate) mod directory;
mod overlay;
#[cfg(test)]
mod suite;
mod vfs;

pub use copy::copy_directory;

use crate::error::{Error, Result};
use crate::leases::Lease;
use directory::Directories;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use sys::mount::Mount;

/// How deletions are kept in the directory that [`Snapshotter::stage`] or [`Snapshotter::layer_directory`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteoutFormat {
    /// Character device 0:0, and `trusted.overlay.opaque` = `y`.
    OverlayTrusted,
    /// Character device 0:0, and `user.overlay.opaque` = `y`.
    OverlayUser,
    /// Not at all: the directory is the whole tree, deletions are done in it.
    Applied,
}

/// What a driver can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether a layer can be unpacked before its parent is there ([`Snapshotter::stage`], then
    /// [`Snapshotter::adopt`]). Where not, `prepare` on the parent, unpack with deletions applied, `commit`.
    pub parent_at_commit: bool,
    /// Whether owners can be mapped at mount time.
    pub id_mapped: bool,
    /// How deletions are kept.
    pub whiteouts: WhiteoutFormat,
}

/// What an active snapshot shall be.
#[derive(Debug, Clone, Copy)]
pub struct Prepare<'a> {
    /// Its key: unique among active snapshots; letters, digits, `-`, `_` and `.`, at most 128.
    pub key: &'a str,
    /// Name of the committed snapshot below; absent = an empty tree.
    pub parent: Option<&'a str>,
    /// A file whose existence keeps the snapshot alive after the lease has ended: the record of the container that it
    /// belongs to. Write that record before the lease ends, remove it before the snapshot.
    pub holder: Option<&'a Path>,
    /// Whether the kernel may skip syncing what is written: the upper is thrown away, or synced by our own rule.
    pub volatile: bool,
}

impl<'a> Prepare<'a> {
    /// A snapshot that lives as long as the lease, or until it is committed.
    pub fn new(key: &'a str, parent: Option<&'a str>) -> Self {
        Self { key, parent, holder: None, volatile: true }
    }
}

/// Active or committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Being written, known by its key.
    Active,
    /// Never written again, known by its name.
    Committed,
}

/// What is known of a snapshot without looking at its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Key or name.
    pub name: String,
    /// Which of the two it is.
    pub kind: SnapshotKind,
    /// The committed snapshots below, the nearest first.
    pub ancestors: Vec<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Recorded usage; absent for active ones.
    pub usage: Option<SnapshotUsage>,
}

/// Space that a snapshot takes besides those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotUsage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// A snapshot driver.
pub trait Snapshotter: Send + Sync + std::fmt::Debug {
    /// The driver's name, as in its records.
    fn name(&self) -> &'static str;

    /// What the driver can do.
    fn capabilities(&self) -> Capabilities;

    /// Makes an active snapshot and returns how to mount it, writable. It belongs to the lease until it is committed
    /// or its holder exists; the parent is protected as long as it exists.
    fn prepare(&self, lease: &Lease, request: &Prepare<'_>) -> Result<Vec<Mount>>;

    /// Makes an active snapshot with no parent yet and returns the directory to fill.
    fn stage(&self, lease: &Lease, key: &str) -> Result<PathBuf>;

    /// How to mount a committed snapshot, read-only. Hold it by a lease as long as it is used.
    fn view(&self, name: &str) -> Result<Vec<Mount>>;

    /// How to mount an active snapshot again.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// The directory that has the changes of an active or committed snapshot alone, deletions in the driver's format;
    /// with [`WhiteoutFormat::Applied`] it has the whole tree.
    fn layer_directory(&self, name: &str) -> Result<PathBuf>;

    /// Turns an active snapshot, which must not be mounted writable any more, into a committed one, by one rename.
    /// `usage` is recorded; absent = it is measured. An existing name is [`Error::SnapshotExists`](crate::Error), and
    /// the active snapshot stays.
    fn commit(&self, lease: &Lease, name: &str, key: &str, usage: Option<SnapshotUsage>) -> Result<()>;

    /// As [`Snapshotter::commit`], for a staged one: names the parent now.
    fn adopt(
        &self,
        lease: &Lease,
        name: &str,
        key: &str,
        parent: Option<&str>,
        usage: Option<SnapshotUsage>,
    ) -> Result<()>;

    /// What is known of an active or committed snapshot.
    fn stat(&self, name: &str) -> Result<Option<SnapshotInfo>>;

    /// Space of a snapshot: as recorded, or measured for an active one.
    fn usage(&self, name: &str) -> Result<SnapshotUsage>;

    /// Removes an active snapshot, or a committed one that no other lies on. A missing one is no error.
    fn remove(&self, name: &str) -> Result<()>;

    /// All snapshots, in no order.
    fn walk(&self) -> Result<Vec<SnapshotInfo>>;
}

/// Mounts a snapshot nowhere and returns a descriptor of its root. The mount ends with the last descriptor, so a
/// killed process leaves none behind.
pub fn open_detached(mounts: &[Mount]) -> Result<OwnedFd> {
    let mut mounts = mounts.iter();
    let Some(first) = mounts.next() else {
        return Err(Error::Unsupported { driver: "any", what: "mount a snapshot without mounts" });
    };
    let root = sys::mount::detached(first)?;
    for mount in mounts {
        sys::mount::attach(sys::mount::detached(mount)?, &root, Path::new(""))?;
    }
    Ok(root)
}

/// As [`open_detached`], with a descriptor whose entries can be read: for walks of the whole tree.
pub fn open_tree(mounts: &[Mount]) -> Result<OwnedFd> {
    readable(&open_detached(mounts)?)
}

/// The same directory with a descriptor whose entries can be read.
pub fn readable(directory: impl std::os::fd::AsFd) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(directory, ".", flags, Mode::empty())
        .map_err(|error| sys::fs::Error::new("open", Path::new("."), std::io::Error::from(error)).into())
}

/// Name of the overlay driver.
pub const OVERLAY: &str = "overlay";
/// Name of the copying driver.
pub const VFS: &str = "vfs";

/// The driver of this name for the store at `root`.
pub(crate) fn driver(name: &str, root: &Path, user_namespace: bool) -> Result<Box<dyn Snapshotter>> {
    let directories = Directories::new(root, name);
    match name {
        OVERLAY => Ok(Box::new(overlay::Overlay::new(directories, user_namespace))),
        VFS => Ok(Box::new(vfs::Vfs::new(directories))),
        _ => Err(Error::NoDriver { root: root.to_owned(), reason: format!("unknown driver {name}") }),
    }
}

pub(crate) use overlay::probe as probe_overlay;
