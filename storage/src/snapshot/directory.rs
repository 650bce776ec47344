//! The directories and records of snapshots, which all drivers share.

use crate::error::{Error, Result};
use crate::leases::{Hold, Lease};
use crate::records::{self, Record, Sync};
use crate::snapshot::{Prepare, SnapshotInfo, SnapshotKind, SnapshotUsage};
use crate::store::{self, now, random_name};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// `record.json` of a snapshot. Whether it is active or committed is said by where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub(crate) driver: String,
    /// The lease that made it.
    pub(crate) lease: String,
    /// The file that keeps it after that lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<PathBuf>,
    #[serde(default)]
    pub(crate) volatile: bool,
    /// The committed snapshots below, the nearest first.
    #[serde(default)]
    pub(crate) ancestors: Vec<String>,
    pub(crate) created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<SnapshotUsage>,
}

impl Record for SnapshotRecord {
    const VERSION: u32 = 1;
}

const RECORD: &str = "record.json";

/// The directory of an active snapshot.
pub(crate) fn active(root: &Path, key: &str) -> PathBuf {
    root.join("active").join(key)
}

/// The directory of a committed snapshot.
pub(crate) fn committed(root: &Path, name: &str) -> PathBuf {
    root.join("snapshots").join(name)
}

/// The record of the snapshot in a directory.
pub(crate) fn read_record(directory: &Path) -> Result<Option<SnapshotRecord>> {
    records::read(&directory.join(RECORD))
}

fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if valid { Ok(()) } else { Err(Error::InvalidName { name: name.to_owned() }) }
}

/// The snapshot directories of a store.
#[derive(Debug)]
pub(crate) struct Directories {
    root: PathBuf,
    driver: String,
}

impl Directories {
    pub(crate) fn new(root: &Path, driver: &str) -> Self {
        Self { root: root.to_owned(), driver: driver.to_owned() }
    }

    /// The files of a committed snapshot.
    pub(crate) fn committed_fs(&self, name: &str) -> PathBuf {
        committed(&self.root, name).join("fs")
    }

    /// Makes an active snapshot; `fill` makes its content in the directory that it is given, before anybody sees it.
    /// Returns the directory and the record.
    pub(crate) fn prepare(
        &self,
        lease: &Lease,
        request: &Prepare<'_>,
        fill: impl FnOnce(&Path, &SnapshotRecord) -> Result<()>,
    ) -> Result<(PathBuf, SnapshotRecord)> {
        check_name(request.key)?;
        let target = active(&self.root, request.key);
        if sys::fs::exists(&target)? {
            return Err(Error::SnapshotExists { name: request.key.to_owned() });
        }
        let holder = match request.holder {
            Some(holder) => Some(
                std::path::absolute(holder)
                    .map_err(|source| sys::fs::Error::new("resolve", holder, source))?,
            ),
            None => None,
        };
        if let Some(parent) = request.parent {
            // From here on a sweep leaves it alone, also while `fill` copies it.
            if !lease.hold(Hold::Snapshot(parent.to_owned()))? {
                return Err(Error::SnapshotNotFound { name: parent.to_owned() });
            }
        }
        let record = SnapshotRecord {
            driver: self.driver.clone(),
            lease: lease.id().to_owned(),
            holder,
            volatile: request.volatile,
            ancestors: self.ancestors_and(request.parent)?,
            created: now(),
            usage: None,
        };
        let hidden = lease.directory()?.join(random_name()?);
        sys::fs::create_dir(&hidden, 0o700)?;
        fill(&hidden, &record)?;
        let bytes = records::to_bytes(&target, &record)?;
        sys::fs::write_atomic(&hidden.join(RECORD), &bytes, 0o600, Sync::None)?;
        let _lock = store::lock_shared(&self.root)?;
        lease.inner().note(Hold::Active(request.key.to_owned()))?;
        match sys::fs::rename_noreplace(&hidden, &target) {
            Ok(()) => Ok((target, record)),
            Err(error) if is_taken(&error) => {
                store::discard(&self.root, &hidden)?;
                Err(Error::SnapshotExists { name: request.key.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The parent and what lies below it.
    fn ancestors_and(&self, parent: Option<&str>) -> Result<Vec<String>> {
        let Some(parent) = parent else { return Ok(Vec::new()) };
        check_name(parent)?;
        let below = self.committed_record(parent)?.ancestors;
        Ok(std::iter::once(parent.to_owned()).chain(below).collect())
    }

    /// The record of a committed snapshot.
    pub(crate) fn committed_record(&self, name: &str) -> Result<SnapshotRecord> {
        check_name(name)?;
        read_record(&committed(&self.root, name))?
            .ok_or_else(|| Error::SnapshotNotFound { name: name.to_owned() })
    }

    /// The directory and the record of an active snapshot.
    pub(crate) fn active_record(&self, key: &str) -> Result<(PathBuf, SnapshotRecord)> {
        check_name(key)?;
        let directory = active(&self.root, key);
        let record =
            read_record(&directory)?.ok_or_else(|| Error::SnapshotNotFound { name: key.to_owned() })?;
        Ok((directory, record))
    }

    /// The directory of an active or committed snapshot, its record and which of the two it is.
    pub(crate) fn find(&self, name: &str) -> Result<Option<(PathBuf, SnapshotRecord, SnapshotKind)>> {
        check_name(name)?;
        let places = [
            (active(&self.root, name), SnapshotKind::Active),
            (committed(&self.root, name), SnapshotKind::Committed),
        ];
        for (directory, kind) in places {
            if let Some(record) = read_record(&directory)? {
                return Ok(Some((directory, record, kind)));
            }
        }
        Ok(None)
    }

    /// Commits an active snapshot. `parent` is given where it is named only now; `seal` removes from the directory what
    /// a committed snapshot has not.
    pub(crate) fn commit(
        &self,
        lease: &Lease,
        commit: &Commit<'_>,
        seal: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        check_name(commit.name)?;
        let (directory, mut record) = self.active_record(commit.key)?;
        let target = committed(&self.root, commit.name);
        let exists = || Error::SnapshotExists { name: commit.name.to_owned() };
        if sys::fs::exists(&target)? {
            return Err(exists());
        }
        if let Some(parent) = commit.parent {
            if !record.ancestors.is_empty() {
                return Err(Error::Unsupported { driver: "any", what: "name another parent at commit" });
            }
            if !lease.hold(Hold::Snapshot(parent.to_owned()))? {
                return Err(Error::SnapshotNotFound { name: parent.to_owned() });
            }
            record.ancestors = self.ancestors_and(Some(parent))?;
        }
        seal(&directory)?;
        record.usage = Some(match commit.usage {
            Some(usage) => usage,
            None => measure(&directory.join("fs"))?,
        });
        record.holder = None;
        let bytes = records::to_bytes(&directory, &record)?;
        sys::fs::write_atomic(&directory.join(RECORD), &bytes, 0o600, Sync::None)?;
        let _lock = store::lock_shared(&self.root)?;
        lease.inner().note(Hold::Snapshot(commit.name.to_owned()))?;
        match sys::fs::rename_noreplace(&directory, &target) {
            Ok(()) => Ok(()),
            Err(error) if is_taken(&error) => Err(exists()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn stat(&self, name: &str) -> Result<Option<SnapshotInfo>> {
        Ok(self.find(name)?.map(|(_, record, kind)| info(name, record, kind)))
    }

    pub(crate) fn usage(&self, name: &str) -> Result<SnapshotUsage> {
        let (directory, record, kind) =
            self.find(name)?.ok_or_else(|| Error::SnapshotNotFound { name: name.to_owned() })?;
        match (kind, record.usage) {
            (SnapshotKind::Committed, Some(usage)) => Ok(usage),
            _ => measure(&directory.join("fs")),
        }
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let directory = active(&self.root, name);
        if sys::fs::exists(&directory)? {
            return store::discard(&self.root, &directory);
        }
        let directory = committed(&self.root, name);
        let trash = {
            let _lock = store::lock_exclusive(&self.root)?;
            if let Some(user) =
                self.walk()?.into_iter().find(|info| info.ancestors.iter().any(|below| below == name))
            {
                return Err(Error::InUse {
                    subject: format!("snapshot {name}"),
                    user: format!("snapshot {}", user.name),
                });
            }
            store::move_to_trash(&self.root, &directory)?
        };
        trash.map_or(Ok(()), |trash| store::delete_trash(&trash))
    }

    pub(crate) fn walk(&self) -> Result<Vec<SnapshotInfo>> {
        let mut snapshots = Vec::new();
        let places = [("active", SnapshotKind::Active), ("snapshots", SnapshotKind::Committed)];
        for (name, record, kind) in places
            .into_iter()
            .map(|(place, kind)| {
                Ok(read_all(&self.root.join(place))?.into_iter().map(move |(n, r)| (n, r, kind)))
            })
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
        {
            snapshots.push(info(&name, record, kind));
        }
        Ok(snapshots)
    }
}

/// What [`Directories::commit`] does.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: &'a str,
    pub(crate) parent: Option<&'a str>,
    pub(crate) usage: Option<SnapshotUsage>,
}

/// Names and records of the snapshots in `active` or `snapshots`. A snapshot that goes away meanwhile is left out.
pub(crate) fn read_all(directory: &Path) -> Result<Vec<(String, SnapshotRecord)>> {
    let mut snapshots = Vec::new();
    for name in sys::fs::read_names(directory)? {
        let Ok(name) = name.into_string() else { continue };
        if let Some(record) = read_record(&directory.join(&name))? {
            snapshots.push((name, record));
        }
    }
    Ok(snapshots)
}

fn info(name: &str, record: SnapshotRecord, kind: SnapshotKind) -> SnapshotInfo {
    let SnapshotRecord { ancestors, created, usage, .. } = record;
    SnapshotInfo { name: name.to_owned(), kind, ancestors, created, usage }
}

fn is_taken(error: &sys::fs::Error) -> bool {
    use std::io::ErrorKind::{AlreadyExists, DirectoryNotEmpty};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty)
}

/// Adds up what a tree takes on disk; files with several names count once.
pub(crate) fn measure(tree: &Path) -> Result<SnapshotUsage> {
    let failed = |errno| sys::fs::Error::new("measure", tree, errno);
    let top = rustix::fs::statat(CWD, tree, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    let mut usage = SnapshotUsage::default();
    let mut seen = HashSet::new();
    add(&top, &mut usage, &mut seen);
    measure_below(CWD, tree, 0, &mut usage, &mut seen).map_err(failed)?;
    Ok(usage)
}

fn add(stat: &rustix::fs::Stat, usage: &mut SnapshotUsage, seen: &mut HashSet<u64>) {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if stat.st_nlink > 1 && !is_directory && !seen.insert(stat.st_ino) {
        return;
    }
    usage.inodes += 1;
    usage.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
}

fn measure_below(
    parent: impl AsFd,
    name: &Path,
    depth: usize,
    usage: &mut SnapshotUsage,
    seen: &mut HashSet<u64>,
) -> rustix::io::Result<()> {
    use rustix::io::Errno;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    // Each level keeps a descriptor. A tree that is deeper is somebody's joke, and its depths count as nothing.
    const DEEPEST: usize = 300;
    if depth > DEEPEST {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        // Changed while it was read, or closed to us without being ours.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) if depth > 0 => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut entries = Dir::new(directory)?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let directory = entries.fd()?;
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        add(&stat, usage, seen);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            measure_below(directory, Path::new(OsStr::from_bytes(name.to_bytes())), depth + 1, usage, seen)?;
        }
    }
    Ok(())
}
