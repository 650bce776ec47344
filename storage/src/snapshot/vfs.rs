//! The copying driver: every snapshot is a whole tree. Works on any file system and without any mount permission but
//! that for a bind mount.

use crate::error::{Error, Result};
use crate::leases::Lease;
use crate::snapshot::copy;
use crate::snapshot::directory::{Commit, Directories};
use crate::snapshot::{Capabilities, Prepare, SnapshotInfo, SnapshotUsage, Snapshotter, WhiteoutFormat};
use std::path::PathBuf;
use sys::mount::{Attributes, Mount};

/// The driver.
#[derive(Debug)]
pub(crate) struct Vfs {
    directories: Directories,
}

impl Vfs {
    pub(crate) fn new(directories: Directories) -> Self {
        Self { directories }
    }
}

impl Snapshotter for Vfs {
    fn name(&self) -> &'static str {
        super::VFS
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { parent_at_commit: false, id_mapped: true, whiteouts: WhiteoutFormat::Applied }
    }

    fn prepare(&self, lease: &Lease, request: &Prepare<'_>) -> Result<Vec<Mount>> {
        let (directory, _) = self.directories.prepare(lease, request, |directory, record| {
            let tree = directory.join("fs");
            sys::fs::create_dir(&tree, 0o755)?;
            match record.ancestors.first() {
                Some(parent) => copy::copy_tree(&self.directories.committed_fs(parent), &tree),
                None => Ok(()),
            }
        })?;
        Ok(vec![Mount::bind(directory.join("fs"))])
    }

    fn stage(&self, lease: &Lease, key: &str) -> Result<PathBuf> {
        self.prepare(lease, &Prepare::new(key, None))?;
        self.layer_directory(key)
    }

    fn view(&self, name: &str) -> Result<Vec<Mount>> {
        self.directories.committed_record(name)?;
        Ok(vec![Mount::bind(self.directories.committed_fs(name)).with(Attributes::READ_ONLY)])
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        let (directory, _) = self.directories.active_record(key)?;
        Ok(vec![Mount::bind(directory.join("fs"))])
    }

    fn layer_directory(&self, name: &str) -> Result<PathBuf> {
        let (directory, ..) =
            self.directories.find(name)?.ok_or_else(|| Error::SnapshotNotFound { name: name.to_owned() })?;
        Ok(directory.join("fs"))
    }

    fn commit(&self, lease: &Lease, name: &str, key: &str, usage: Option<SnapshotUsage>) -> Result<()> {
        self.directories.commit(lease, &Commit { name, key, parent: None, usage }, |_| Ok(()))
    }

    fn adopt(
        &self,
        lease: &Lease,
        name: &str,
        key: &str,
        parent: Option<&str>,
        usage: Option<SnapshotUsage>,
    ) -> Result<()> {
        if parent.is_some() {
            return Err(Error::Unsupported { driver: super::VFS, what: "name a parent at commit" });
        }
        self.commit(lease, name, key, usage)
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
