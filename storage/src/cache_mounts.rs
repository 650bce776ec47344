//! Cache mounts: directories that build steps keep things in between builds (`RUN --mount=type=cache`).
//!
//! ```text
//! build/mounts/IDHEX[-N]/        the directory; -N are further ones of the same name, for steps that want their own
//! build/mounts/IDHEX[-N].lock    locked by its users, shared or alone
//! build/mounts/IDHEX[-N].json    {"id":"..","created":".."}
//! ```
//! A directory is made under another name and renamed when it is complete; whoever removes one has it locked alone, and
//! moves it out of sight in one step. A lock file is removed only by who holds it alone, so who gets a lock looks whether
//! the file is still there.

use crate::error::{Failures, Result};
use crate::leases::Lease;
use crate::records::{self, Record, Sync};
use crate::snapshot::directory;
use crate::store::{Store, now, random_name};
use oci::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sys::lock::FileLock;

const DIRECTORY: &str = "build/mounts";

/// How a directory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountUse {
    /// Beside other users.
    Shared,
    /// Without any other.
    Alone,
}

/// What is known of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// The name that steps give.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

impl Record for MountRecord {
    const VERSION: u32 = 1;
}

/// A directory in use. Dropping it ends the use.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    record: PathBuf,
    id: String,
    store: Store,
    _lock: FileLock,
}

/// The cache mounts of a store.
#[derive(Debug, Clone, Copy)]
pub struct CacheMounts<'a> {
    pub(crate) store: &'a Store,
}

impl CacheMounts<'_> {
    /// Takes the directory with this name and number; `None` while its users are in the way. It need not exist yet.
    pub fn try_take(&self, id: &str, number: u32, usage: MountUse) -> Result<Option<CacheMount>> {
        let directory = self.store.path(DIRECTORY);
        sys::fs::create_dir_all(&directory, 0o700)?;
        let hex = Digest::of(id.as_bytes()).hex().to_owned();
        let name = if number == 0 { hex } else { format!("{hex}-{number}") };
        let lock_path = directory.join(format!("{name}.lock"));
        loop {
            let lock = match usage {
                MountUse::Shared => sys::lock::try_shared(&lock_path)?,
                MountUse::Alone => sys::lock::try_exclusive(&lock_path)?,
            };
            let Some(lock) = lock else { return Ok(None) };
            if lock.is_at(&lock_path)? {
                return Ok(Some(CacheMount {
                    path: directory.join(&name),
                    record: directory.join(format!("{name}.json")),
                    id: id.to_owned(),
                    store: self.store.clone(),
                    _lock: lock,
                }));
            }
        }
    }

    /// Removes all directories that nobody uses; returns their number and size in bytes.
    pub fn prune(&self) -> Result<(u64, u64)> {
        let directory = self.store.path(DIRECTORY);
        let mut failures = Failures::default();
        let (mut count, mut bytes) = (0, 0);
        for name in sys::fs::optional(sys::fs::read_names(&directory))?.unwrap_or_default() {
            let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".lock")) else { continue };
            let lock_path = directory.join(format!("{name}.lock"));
            let Some(lock) = sys::lock::try_exclusive(&lock_path)? else { continue };
            if !lock.is_at(&lock_path)? {
                continue;
            }
            let path = directory.join(name);
            if sys::fs::exists(&path)? {
                let size = directory::measure(&path).map_or(0, |usage| usage.bytes);
                if failures.note(self.store.discard(&path)).is_some() {
                    count += 1;
                    bytes += size;
                }
            }
            // the lock last: until then no other user comes
            for suffix in ["chunks", "json", "lock"] {
                failures.note(records::remove(&directory.join(format!("{name}.{suffix}"))));
            }
        }
        failures.into_result().map(|()| (count, bytes))
    }
}

impl CacheMount {
    /// Where it lies. Nothing may be there yet; see [`CacheMount::make`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where notes about its content may be kept; they go with it.
    pub fn notes(&self) -> PathBuf {
        self.path.with_extension("chunks")
    }

    /// Whether it is there.
    pub fn exists(&self) -> Result<bool> {
        Ok(sys::fs::exists(&self.path)?)
    }

    /// Makes the directory unless it is there. `fill` gets it empty, with mode 0700, out of others' sight.
    pub fn make<E: From<crate::Error>>(
        &self,
        lease: &Lease,
        fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if self.exists()? {
            return Ok(());
        }
        let temporary = lease.directory()?.join(random_name()?);
        sys::fs::create_dir(&temporary, 0o700).map_err(crate::Error::from)?;
        fill(&temporary)?;
        let record = MountRecord { id: self.id.clone(), created: now() };
        records::write(&self.record, &record, Sync::None)?;
        match sys::fs::rename_noreplace(&temporary, &self.path) {
            Ok(()) => Ok(()),
            // another user of the directory was faster
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(self.store.discard(&temporary)?)
            }
            Err(error) => Err(crate::Error::from(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Driver, StoreOptions};

    fn store(directory: &Path) -> Store {
        let root = directory.join("store");
        Store::open(StoreOptions { root, driver: Driver::Vfs, user_namespace: false }).unwrap()
    }

    #[test]
    fn users_share_or_wait_and_only_what_is_idle_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let lease = store.lease("test").unwrap();
        let mounts = store.cache_mounts();
        let one = mounts.try_take("apt", 0, MountUse::Shared).unwrap().unwrap();
        let made = |mount: &CacheMount, text: &str| {
            mount
                .make::<crate::Error>(&lease, |path| {
                    std::fs::write(path.join("f"), text).unwrap();
                    Ok(())
                })
                .unwrap();
        };
        made(&one, "first");
        let two = mounts.try_take("apt", 0, MountUse::Shared).unwrap().unwrap();
        made(&two, "second");
        assert_eq!(std::fs::read_to_string(two.path().join("f")).unwrap(), "first");
        assert!(mounts.try_take("apt", 0, MountUse::Alone).unwrap().is_none());
        let other = mounts.try_take("apt", 1, MountUse::Alone).unwrap().unwrap();
        made(&other, "other");
        assert_ne!(other.path(), one.path());
        let path = other.path().to_owned();
        drop(other);
        assert_eq!(mounts.prune().unwrap().0, 1);
        assert!(!path.exists() && one.path().exists());
        drop((one, two));
        assert_eq!(mounts.prune().unwrap().0, 1);
        assert_eq!(std::fs::read_dir(store.root().join(DIRECTORY)).unwrap().count(), 0);
        let again = mounts.try_take("apt", 0, MountUse::Alone).unwrap().unwrap();
        assert!(!again.exists().unwrap());
        made(&again, "again");
        assert_eq!(std::fs::read_to_string(again.path().join("f")).unwrap(), "again");
    }

    #[test]
    fn a_directory_that_could_not_be_filled_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let lease = store.lease("test").unwrap();
        let mount = store.cache_mounts().try_take("x", 0, MountUse::Alone).unwrap().unwrap();
        let failed = mount.make(&lease, |_| {
            Err(crate::Error::from(sys::fs::Error::new(
                "fill",
                "x",
                std::io::Error::from(std::io::ErrorKind::UnexpectedEof),
            )))
        });
        assert!(failed.is_err() && !mount.exists().unwrap());
    }
}
