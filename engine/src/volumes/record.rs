//! What is written down about a volume, and its lock.
//!
//! ```text
//! ROOT/volumes/NAME/             its inode is the volume's lock (flock): shared while a container is made with it,
//!                                exclusive to fill, change or remove it
//!              volume.json       the record
//!              _data/            what containers see
//!              _copy/            what an image has at the place, whole, on its way to _data
//! ROOT/volumes/.new-RANDOM/      being made; the rename to NAME claims the name and makes the volume exist
//! ROOT/volumes/.gone-RANDOM/     being removed
//! RUNROOT/volumes/NAME           how often `volume mount` was asked for
//! ```
//! Directories that begin with a dot and that nobody has locked are what killed processes left: [`VolumeFiles::reap`].

use crate::config::Config;
use crate::state::{files, names};
use crate::{Error, Result};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Version of the record's format.
const VERSION: u32 = 1;

/// `volume.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    pub(crate) version: u32,
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) created_nanos: i64,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// `type`, `device`, `o`, as they were given.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
    /// Made without a name, for one container.
    #[serde(default)]
    pub(crate) anonymous: bool,
    /// ID of the container that it was made for.
    #[serde(default)]
    pub(crate) made_for: Option<String>,
    /// Whether it ends with that container, whoever removes it.
    #[serde(default)]
    pub(crate) goes_with: bool,
    /// Nothing of an image was offered to it yet.
    #[serde(default)]
    pub(crate) needs_copy_up: bool,
    /// No container has used it yet, so that its owner is still to be chosen.
    #[serde(default)]
    pub(crate) needs_chown: bool,
}

/// The volumes' directories.
#[derive(Debug)]
pub(crate) struct VolumeFiles {
    root: PathBuf,
    run: PathBuf,
}

/// A volume's lock, held until this is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct VolumeLock {
    directory: OwnedFd,
}

fn failed(what: impl std::fmt::Display) -> impl FnOnce(sys::fs::Error) -> Error {
    move |error| Error::os(what.to_string(), error.source)
}

impl VolumeFiles {
    pub(crate) fn new(config: &Config) -> Self {
        Self { root: config.volumes(), run: config.run_volumes() }
    }

    /// The directory of a volume.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The directory that containers see.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.directory(name).join("_data")
    }

    /// The file that counts mounts by hand.
    pub(crate) fn mounts(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// Reads a record by the whole name.
    pub(crate) fn read(&self, name: &str) -> Result<Option<VolumeRecord>> {
        if crate::options::volume_name(name).is_err() {
            return Ok(None);
        }
        let path = self.directory(name).join("volume.json");
        let record: Option<VolumeRecord> = files::read_json(&path)?;
        if let Some(record) = &record
            && record.version > VERSION
        {
            return Err(Error::Unsupported {
                what: format!("{} of version {}", path.display(), record.version),
                reason: "a newer davit wrote it".to_owned(),
            });
        }
        Ok(record)
    }

    pub(crate) fn write(&self, record: &VolumeRecord) -> Result<()> {
        files::write_json(&self.directory(&record.name).join("volume.json"), record, true)
    }

    /// Names of all volumes, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self
            .entries()?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    fn entries(&self) -> Result<Vec<OsString>> {
        let names = sys::fs::optional(sys::fs::read_names(&self.root)).map_err(failed("list the volumes"))?;
        Ok(names.unwrap_or_default())
    }

    /// All records, by name. Those that vanish meanwhile are left out.
    pub(crate) fn list(&self) -> Result<Vec<VolumeRecord>> {
        let mut records = Vec::new();
        for name in self.names()? {
            records.extend(self.read(&name)?);
        }
        Ok(records)
    }

    /// The one volume with this name, or whose name begins so.
    pub(crate) fn find(&self, name: &str) -> Result<VolumeRecord> {
        let missing = || Error::NotFound { what: "volume", name: name.to_owned() };
        if let Some(record) = self.read(name)? {
            return Ok(record);
        }
        if name.is_empty() {
            return Err(missing());
        }
        let matches: Vec<String> =
            self.names()?.into_iter().filter(|known| known.starts_with(name)).collect();
        match matches.as_slice() {
            [] => Err(missing()),
            [one] => self.read(one)?.ok_or_else(missing),
            _ => Err(Error::Ambiguous { what: "volume", name: name.to_owned(), matches }),
        }
    }

    /// Makes a volume. `false`: one of this name exists.
    pub(crate) fn create(&self, mut record: VolumeRecord) -> Result<bool> {
        crate::options::volume_name(&record.name)?;
        record.version = VERSION;
        files::create_directory(&self.root)?;
        let new = self.root.join(format!(".new-{}", names::random_id()?));
        let what = format!("make volume {}", record.name);
        sys::fs::create_dir(&new, 0o700).map_err(failed(&what))?;
        let made = || -> Result<bool> {
            // held until the directory has its name, or is gone
            let _lock = flock(&new, FlockOperation::NonBlockingLockExclusive)?;
            let data = new.join("_data");
            sys::fs::create_dir(&data, 0o755).map_err(failed(&what))?;
            sys::fs::set_mode(&data, 0o755).map_err(failed(&what))?;
            if (record.uid, record.gid) != (0, 0) {
                std::os::unix::fs::chown(&data, Some(record.uid), Some(record.gid))
                    .map_err(|error| Error::os(&what, error))?;
            }
            files::write_json(&new.join("volume.json"), &record, true)?;
            match sys::fs::rename_noreplace(&new, &self.directory(&record.name)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => return Err(failed(&what)(error)),
            }
            sys::fs::sync_dir(&self.root).map_err(failed(&what))?;
            Ok(true)
        };
        let done = made();
        if !matches!(done, Ok(true)) {
            let _ = files::remove_tree(&new);
        }
        done
    }

    /// Waits for a volume's lock; `None` where there is no such volume (any more).
    pub(crate) fn lock(&self, name: &str, exclusive: bool) -> Result<Option<VolumeLock>> {
        let directory = self.directory(name);
        let operation = match exclusive {
            true => FlockOperation::LockExclusive,
            false => FlockOperation::LockShared,
        };
        for _ in 0..100 {
            match flock(&directory, operation)? {
                None => return Ok(None),
                // it may have been removed, and made anew, while this waited
                Some(lock) if lock.is_at(&directory) => return Ok(Some(lock)),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// Removes a volume whose lock the caller holds: out of sight in one step, then piece by piece.
    pub(crate) fn remove(&self, name: &str, _lock: &VolumeLock) -> Result<()> {
        let gone = self.root.join(format!(".gone-{}", names::random_id()?));
        sys::fs::rename(&self.directory(name), &gone).map_err(failed(format!("remove volume {name}")))?;
        let _ = files::remove_file(&self.mounts(name));
        files::remove_tree(&gone)
    }

    /// Clears away what killed processes left.
    pub(crate) fn reap(&self) -> Result<()> {
        for name in self.entries()?.iter().filter(|name| name.to_string_lossy().starts_with('.')) {
            let path = self.root.join(name);
            if let Some(_lock) = flock(&path, FlockOperation::NonBlockingLockExclusive)?
                && !is_mounted(&path.join("_data"))
            {
                files::remove_tree(&path)?;
            }
        }
        Ok(())
    }
}

/// Locks a directory; `None` where it is missing, or locked and not waited for.
fn flock(directory: &Path, operation: FlockOperation) -> Result<Option<VolumeLock>> {
    let what = || format!("lock {}", directory.display());
    let Some(fd) = sys::fs::optional(sys::fs::open_dir(directory)).map_err(failed(what()))? else {
        return Ok(None);
    };
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, operation)) {
        Ok(()) => Ok(Some(VolumeLock { directory: fd })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::os(what(), error)),
    }
}

impl VolumeLock {
    /// Whether a path still names the locked directory.
    fn is_at(&self, path: &Path) -> bool {
        let here = rustix::fs::fstat(&self.directory);
        let there = rustix::fs::lstat(path);
        matches!((here, there), (Ok(here), Ok(there)) if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
    }
}

pub(super) use crate::mounting::is_mounted;

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path) -> VolumeFiles {
        VolumeFiles { root: root.join("volumes"), run: root.join("run") }
    }

    fn record(name: &str) -> VolumeRecord {
        VolumeRecord { name: name.to_owned(), ..VolumeRecord::default() }
    }

    #[test]
    fn a_name_is_claimed_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        assert!(files.create(record("one")).unwrap());
        assert!(!files.create(record("one")).unwrap());
        assert!(files.create(record("../one")).is_err());
        assert_eq!(files.names().unwrap(), ["one"]);
        assert!(files.data("one").is_dir());
        let lock = files.lock("one", true).unwrap().unwrap();
        files.remove("one", &lock).unwrap();
        assert!(files.lock("one", true).unwrap().is_none());
        assert!(files.names().unwrap().is_empty());
    }

    #[test]
    fn names_may_be_shortened_where_one_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        for name in ["data", "data2", "other"] {
            files.create(record(name)).unwrap();
        }
        assert_eq!(files.find("oth").unwrap().name, "other");
        assert_eq!(files.find("data").unwrap().name, "data");
        assert!(matches!(files.find("dat"), Err(Error::Ambiguous { .. })));
        assert!(matches!(files.find(""), Err(Error::NotFound { .. })));
    }

    #[test]
    fn what_a_killed_process_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        files.create(record("kept")).unwrap();
        let (left, held) = (files.root.join(".new-left"), files.root.join(".gone-held"));
        std::fs::create_dir_all(left.join("_data/x")).unwrap();
        std::fs::create_dir_all(&held).unwrap();
        let lock = flock(&held, FlockOperation::LockExclusive).unwrap();
        files.reap().unwrap();
        assert!(!left.exists() && held.exists());
        drop(lock);
        files.reap().unwrap();
        assert!(!held.exists() && files.data("kept").is_dir());
    }
}
