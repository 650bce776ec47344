//! The overlay driver: a snapshot is the directory of its changes, and the kernel joins it with those below.
//!
//! What is in `fs/` after a commit is exactly the layer, with overlay's own marks for deletions, so a step's layer is
//! read from that directory alone and a layer can be unpacked before its parent is known.

use crate::error::{Error, Result};
use crate::leases::Lease;
use crate::snapshot::directory::{Commit, Directories, SnapshotRecord};
use crate::snapshot::{Capabilities, Prepare, SnapshotInfo, SnapshotUsage, Snapshotter, WhiteoutFormat};
use crate::store::random_name;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use sys::mount::{Attributes, Mount};

/// The driver.
#[derive(Debug)]
pub(crate) struct Overlay {
    directories: Directories,
    user_namespace: bool,
}

impl Overlay {
    pub(crate) fn new(directories: Directories, user_namespace: bool) -> Self {
        Self { directories, user_namespace }
    }

    fn lower(&self, names: &[String]) -> Vec<PathBuf> {
        names.iter().map(|name| self.directories.committed_fs(name)).collect()
    }

    fn active_mounts(&self, directory: &Path, record: &SnapshotRecord) -> Vec<Mount> {
        let upper = directory.join("fs");
        if record.ancestors.is_empty() {
            return vec![Mount::bind(upper)];
        }
        let mount = Mount::overlay(self.lower(&record.ancestors), upper, directory.join("work"));
        let mount = with_options(mount, self.user_namespace);
        vec![if record.volatile { mount.with_flag("volatile") } else { mount }]
    }
}

/// The options of every mount. The features that are switched off would leave marks in the upper directory that are
/// no part of a layer, or follow such marks in a layer that somebody else made.
fn with_options(mount: Mount, user_namespace: bool) -> Mount {
    let mount = mount.with_option("index", "off").with_option("metacopy", "off");
    if user_namespace {
        // Implies that redirects are not followed.
        mount.with_flag("userxattr")
    } else {
        mount.with_option("redirect_dir", "nofollow")
    }
}

impl Snapshotter for Overlay {
    fn name(&self) -> &'static str {
        super::OVERLAY
    }

    fn capabilities(&self) -> Capabilities {
        let whiteouts =
            if self.user_namespace { WhiteoutFormat::OverlayUser } else { WhiteoutFormat::OverlayTrusted };
        Capabilities { parent_at_commit: true, id_mapped: !self.user_namespace, whiteouts }
    }

    fn prepare(&self, lease: &Lease, request: &Prepare<'_>) -> Result<Vec<Mount>> {
        let (directory, record) = self.directories.prepare(lease, request, |directory, record| {
            let upper = directory.join("fs");
            sys::fs::create_dir(&upper, 0o755)?;
            if let Some(parent) = record.ancestors.first() {
                sys::fs::create_dir(&directory.join("work"), 0o700)?;
                // The root of an overlay is what its upper directory says, not what lies below.
                copy_root(&self.directories.committed_fs(parent), &upper)?;
            }
            Ok(())
        })?;
        Ok(self.active_mounts(&directory, &record))
    }

    fn stage(&self, lease: &Lease, key: &str) -> Result<PathBuf> {
        self.prepare(lease, &Prepare::new(key, None))?;
        self.layer_directory(key)
    }

    fn view(&self, name: &str) -> Result<Vec<Mount>> {
        let record = self.directories.committed_record(name)?;
        let own = self.directories.committed_fs(name);
        if record.ancestors.is_empty() {
            // Overlay does not mount a single directory; marks for deletions mean nothing in the lowest one.
            return Ok(vec![Mount::bind(own).with(Attributes::READ_ONLY)]);
        }
        let lower = std::iter::once(own).chain(self.lower(&record.ancestors)).collect();
        Ok(vec![with_options(Mount::overlay_view(lower), self.user_namespace).with(Attributes::READ_ONLY)])
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let (directory, record) = self.directories.active_record(key)?;
        // The kernel refuses an upper that was mounted volatile before and may have lost writes in a crash. Where
        // this one is thrown away or synced by our own rule, that is no reason.
        sys::fs::remove_tree(&directory.join("work/work/incompat"))?;
        Ok(self.active_mounts(&directory, &record))
    }

    fn layer_directory(&self, name: &str) -> Result<PathBuf> {
        let (directory, ..) =
            self.directories.find(name)?.ok_or_else(|| Error::SnapshotNotFound { name: name.to_owned() })?;
        Ok(directory.join("fs"))
    }

    fn commit(&self, lease: &Lease, name: &str, key: &str, usage: Option<SnapshotUsage>) -> Result<()> {
        self.adopt(lease, name, key, None, usage)
    }

    fn adopt(
        &self,
        lease: &Lease,
        name: &str,
        key: &str,
        parent: Option<&str>,
        usage: Option<SnapshotUsage>,
    ) -> Result<()> {
        self.directories.commit(lease, &Commit { name, key, parent, usage }, |directory| {
            Ok(sys::fs::remove_tree(&directory.join("work"))?)
        })
    }

    fn stat(&self, name: &str) -> Result<Option<SnapshotInfo>> {
        self.directories.stat(name)
    }

    fn usage(&self, name: &str) -> Result<SnapshotUsage> {
        self.directories.usage(name)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.directories.remove(name)
    }

    fn walk(&self) -> Result<Vec<SnapshotInfo>> {
        self.directories.walk()
    }
}

/// Gives a new upper directory the owner and mode of the directory that it will lie on.
fn copy_root(from: &Path, to: &Path) -> Result<()> {
    let metadata = sys::fs::metadata(from)?;
    let failed = |errno| sys::fs::Error::new("change owner of", to, errno);
    let here = sys::fs::metadata(to)?;
    if (here.uid(), here.gid()) != (metadata.uid(), metadata.gid()) {
        let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        rustix::fs::chownat(CWD, to, Some(uid), Some(gid), rustix::fs::AtFlags::empty()).map_err(failed)?;
    }
    Ok(sys::fs::set_mode(to, metadata.mode() & 0o7777)?)
}

/// Tries an overlay in the store: over two directories, with a deletion, and the option for throw-away uppers.
pub(crate) fn probe(root: &Path, user_namespace: bool) -> Result<()> {
    let place = root.join("ingest").join(format!("probe-{}", random_name()?));
    let result = try_overlay(&place, user_namespace);
    let removed = sys::fs::remove_tree(&place);
    result?;
    Ok(removed?)
}

fn try_overlay(place: &Path, user_namespace: bool) -> Result<()> {
    sys::fs::create_dir(place, 0o700)?;
    for name in ["lower", "base", "upper", "work"] {
        sys::fs::create_dir(&place.join(name), 0o755)?;
    }
    sys::fs::write_atomic(&place.join("lower/file"), b"", 0o644, sys::fs::Sync::None)?;
    let lower = vec![place.join("lower"), place.join("base")];
    let mount = Mount::overlay(lower, place.join("upper"), place.join("work"));
    let root = sys::mount::detached(&with_options(mount, user_namespace).with_flag("volatile"))?;
    let failed = |errno| sys::fs::Error::new("try overlay in", place, errno);
    rustix::fs::unlinkat(&root, "file", rustix::fs::AtFlags::empty()).map_err(failed)?;
    rustix::fs::mkdirat(root.as_fd(), "directory", Mode::from_raw_mode(0o755)).map_err(failed)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(&root, "directory/file", flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
    Ok(())
}
