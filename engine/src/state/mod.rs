//! State is files: one directory a container, one symbolic link a name.
//!
//! ```text
//! ROOT/containers/ID/           its inode is the container's lock (flock)
//!                  config.json  the record; its presence is what makes the container exist
//!                  starting     made by `run --rm`, which starts it at once: without a start and without a lock
//!                               holder its command was killed
//!                  start.json   when it was last started, and how often
//!                  exit.json    how it last ended (copied from the run directory by cleanup)
//!                  ctr.log      what it wrote
//! ROOT/names/NAME -> ID         symlink(2) either claims a name or fails
//! RUNROOT/containers/ID/        run directory: pid.json, exit.json, attach.sock (runtime's), hosts, resolv.conf, ..
//! ```
//! Order of creation: directory and lock, name, snapshot, record. Order of removal: record, then the rest. So each
//! prefix of either is a directory without a record, which [`State::reap`] clears away when nobody holds its lock.
//! A name whose container has no record and no lock holder is free. "Running" is never stored: it is read from
//! the run directory, so a reboot needs no repair.

pub(crate) mod files;
pub(crate) mod names;
mod record;
pub(crate) mod watch;

pub(crate) use record::{ContainerRecord, RECORD_VERSION, StartRecord};

use crate::config::Config;
use crate::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// So many records are read by several threads: below, starting these would cost more than they save.
const MANY: usize = 128;

/// The containers' records.
#[derive(Debug)]
pub(crate) struct State {
    containers: PathBuf,
    names: PathBuf,
    run: PathBuf,
}

/// A container's lock, held until this is dropped or the process dies.
#[derive(Debug)]
pub(crate) struct ContainerLock {
    _directory: OwnedFd,
}

/// What clearing away a container's remains needs from outside of this module.
pub(crate) trait Remains {
    /// Removes the snapshot and all else that is derived from the ID. Must be idempotent.
    fn remove(&self, id: &str) -> Result<()>;
}

impl State {
    pub(crate) fn new(config: &Config) -> Self {
        Self { containers: config.containers(), names: config.names(), run: config.run_containers() }
    }

    /// The directory of a container.
    pub(crate) fn directory(&self, id: &str) -> PathBuf {
        self.containers.join(id)
    }

    /// The run directory of a container.
    pub(crate) fn run_directory(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    /// Makes the directory of a new container and locks it.
    pub(crate) fn begin(&self, id: &str) -> Result<ContainerLock> {
        files::create_directory(&self.containers)?;
        files::create_directory(&self.names)?;
        let directory = self.directory(id);
        // between mkdir and flock a sweep may take the empty directory away
        for _ in 0..100 {
            files::create_directory(&directory)?;
            if let Some(lock) = self.lock_directory(&directory, true)? {
                return Ok(lock);
            }
        }
        Err(Error::os(
            format!("lock {}", directory.display()),
            std::io::Error::from_raw_os_error(libc_eagain()),
        ))
    }

    /// Waits for the lock of a container; `None` when it has gone meanwhile.
    pub(crate) fn lock(&self, id: &str) -> Result<Option<ContainerLock>> {
        self.lock_directory(&self.directory(id), true)
    }

    /// The lock of a container if nobody holds it.
    pub(crate) fn try_lock(&self, id: &str) -> Result<Option<ContainerLock>> {
        self.lock_directory(&self.directory(id), false)
    }

    /// Notes, before its record is written, that the command which makes a container also starts and removes it.
    pub(crate) fn mark_starting(&self, id: &str) -> Result<()> {
        files::write(&self.directory(id).join("starting"), b"", 0o600, false)
    }

    /// Whether [`State::mark_starting`] was called.
    pub(crate) fn is_marked_starting(&self, id: &str) -> bool {
        self.directory(id).join("starting").is_file()
    }

    fn lock_directory(&self, directory: &Path, wait: bool) -> Result<Option<ContainerLock>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::open(directory, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::os(format!("open {}", directory.display()), error)),
        };
        let operation =
            if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        loop {
            match rustix::fs::flock(&fd, operation) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(Error::os(format!("lock {}", directory.display()), error)),
            }
        }
        let stat = rustix::fs::fstat(&fd)
            .map_err(|error| Error::os(format!("read {}", directory.display()), error))?;
        // a removed directory stays lockable, but guards nothing any more
        Ok((stat.st_nlink > 0).then_some(ContainerLock { _directory: fd }))
    }

    /// Claims a name for a container whose lock the caller holds.
    pub(crate) fn claim_name(&self, name: &str, id: &str) -> Result<()> {
        names::check(name)?;
        let path = self.names.join(name);
        for _ in 0..8 {
            match rustix::fs::symlink(id, &path) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::os(format!("claim name {name}"), error)),
            }
            let Some(holder) = self.name_holder(name)? else { continue };
            if holder == id {
                return Ok(());
            }
            if !self.is_stale(&holder, name)? {
                return Err(Error::NameTaken { what: "container", name: name.to_owned(), id: holder });
            }
            files::remove_file(&path)?;
        }
        Err(Error::NameTaken { what: "container", name: name.to_owned(), id: "unknown".to_owned() })
    }

    /// A claim is stale when its container has no record (or another name) and nobody is making or renaming it.
    fn is_stale(&self, holder: &str, name: &str) -> Result<bool> {
        let holds = || -> Result<bool> { Ok(self.read(holder)?.is_some_and(|record| record.name == name)) };
        if holds()? {
            return Ok(false);
        }
        let directory = self.directory(holder);
        match self.lock_directory(&directory, false)? {
            Some(_lock) => Ok(!holds()?),
            None => Ok(!directory.is_dir()),
        }
    }

    /// Gives a name up.
    pub(crate) fn release_name(&self, name: &str, id: &str) -> Result<()> {
        if self.name_holder(name)?.as_deref() == Some(id) {
            files::remove_file(&self.names.join(name))?;
        }
        Ok(())
    }

    fn name_holder(&self, name: &str) -> Result<Option<String>> {
        match std::fs::read_link(self.names.join(name)) {
            Ok(target) => Ok(target.into_os_string().into_string().ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::os(format!("read name {name}"), error)),
        }
    }

    /// Writes a record: the moment at which a new container begins to exist.
    pub(crate) fn write(&self, record: &ContainerRecord) -> Result<()> {
        files::write_json(&self.directory(&record.id).join("config.json"), record, true)
    }

    /// The same for a container that is removed when it ends, and so has nothing to survive a power cut: the wait for the
    /// disk is saved. What a power cut leaves of the file is empty, which counts as none.
    pub(crate) fn write_passing(&self, record: &ContainerRecord) -> Result<()> {
        files::write_json(&self.directory(&record.id).join("config.json"), record, false)
    }

    /// Reads a record by the whole ID.
    pub(crate) fn read(&self, id: &str) -> Result<Option<ContainerRecord>> {
        let path = self.directory(id).join("config.json");
        let record: Option<ContainerRecord> = match files::read_json(&path) {
            Err(_) if is_empty(&path) => None,
            other => other?,
        };
        if let Some(record) = &record
            && record.version > RECORD_VERSION
        {
            return Err(Error::Unsupported {
                what: format!("{} of version {}", path.display(), record.version),
                reason: "a newer davit wrote it".to_owned(),
            });
        }
        Ok(record)
    }

    /// IDs of all containers, in no order.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.containers) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::os(format!("list {}", self.containers.display()), error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry =
                entry.map_err(|error| Error::os(format!("list {}", self.containers.display()), error))?;
            if let Some(name) = entry.file_name().to_str().filter(|name| names::is_id(name)) {
                ids.push(name.to_owned());
            }
        }
        Ok(ids)
    }

    /// All records, newest first. Those that vanish meanwhile are left out.
    pub(crate) fn list(&self) -> Result<Vec<ContainerRecord>> {
        let mut records = self.read_all(|record| Ok(Some(record)))?;
        records.sort_by(|a, b| b.created_nanos.cmp(&a.created_nanos).then_with(|| a.id.cmp(&b.id)));
        Ok(records)
    }

    /// What `keep` makes of each record, in no order. Many are read by several threads, and no more of them is in
    /// memory than what is kept.
    pub(crate) fn read_all<T: Send>(
        &self,
        keep: impl Fn(ContainerRecord) -> Result<Option<T>> + Sync,
    ) -> Result<Vec<T>> {
        use rayon::prelude::*;
        let read = |id: &String| match self.read(id) {
            Ok(Some(record)) => keep(record).transpose(),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        let ids = self.ids()?;
        if ids.len() < MANY {
            return ids.iter().filter_map(read).collect();
        }
        ids.par_iter().with_min_len(MANY / 2).filter_map(read).collect()
    }

    /// IDs of the containers that have a run directory.
    pub(crate) fn started(&self) -> Result<HashSet<OsString>> {
        let entries = match std::fs::read_dir(&self.run) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
            Err(error) => return Err(Error::os(format!("list {}", self.run.display()), error)),
        };
        Ok(entries.flatten().map(|entry| entry.file_name()).collect())
    }

    /// Finds a container by name, ID or unique prefix of an ID.
    pub(crate) fn find(&self, text: &str) -> Result<ContainerRecord> {
        let missing = || Error::NotFound { what: "container", name: text.to_owned() };
        let name = text.trim_start_matches('/');
        if names::is_valid(name)
            && let Some(id) = self.name_holder(name)?
            && names::is_id(&id)
            && let Some(record) = self.read(&id)?
            && record.name == name
        {
            return Ok(record);
        }
        if text.is_empty() || text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing());
        }
        if text.len() == 64 {
            return self.read(text)?.ok_or_else(missing);
        }
        let mut found = Vec::new();
        for id in self.ids()?.into_iter().filter(|id| id.starts_with(text)) {
            if let Some(record) = self.read(&id)? {
                found.push(record);
            }
        }
        match found.len() {
            0 => Err(missing()),
            1 => Ok(found.swap_remove(0)),
            _ => Err(Error::Ambiguous {
                what: "container",
                name: text.to_owned(),
                matches: found.iter().map(|record| record.id[..12].to_owned()).collect(),
            }),
        }
    }

    /// Removes a container whose lock the caller holds: record first, then all that is left.
    pub(crate) fn remove(&self, record: &ContainerRecord, remains: &dyn Remains) -> Result<()> {
        files::remove_file(&self.directory(&record.id).join("config.json"))?;
        self.remove_remains(&record.id, Some(&record.name), remains)
    }

    fn remove_remains(&self, id: &str, name: Option<&str>, remains: &dyn Remains) -> Result<()> {
        match name {
            Some(name) => self.release_name(name, id)?,
            None => self.release_names_of(id)?,
        }
        remains.remove(id)?;
        files::remove_tree(&self.run_directory(id))?;
        files::remove_tree(&self.directory(id))
    }

    fn release_names_of(&self, id: &str) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(&self.names) else { return Ok(()) };
        for entry in entries.flatten() {
            if let Some(name) = entry.file_name().to_str() {
                self.release_name(name, id)?;
            }
        }
        Ok(())
    }

    /// Clears away what killed processes left: directories without a record that nobody holds. Cheap: one stat a
    /// container.
    pub(crate) fn reap(&self, remains: &dyn Remains) -> Result<usize> {
        let mut reaped = 0;
        let ids = self.ids()?;
        if ids.is_empty() {
            return Ok(0);
        }
        // Relative to the directory: with thousands of containers, walking its path would be most of the cost.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let all = rustix::fs::open(&self.containers, flags, Mode::empty())
            .map_err(|error| Error::os(format!("open {}", self.containers.display()), error))?;
        for id in ids {
            let record = format!("{id}/config.json");
            let found = rustix::fs::statat(&all, &*record, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
            if found.is_ok_and(|found| found.st_size > 0) {
                continue;
            }
            let directory = self.directory(&id);
            let Some(_lock) = self.lock_directory(&directory, false)? else { continue };
            let record = directory.join("config.json");
            if record.is_file() && !is_empty(&record) {
                continue;
            }
            self.remove_remains(&id, None, remains)?;
            reaped += 1;
        }
        Ok(reaped)
    }
}

/// Whether a file has no content.
fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.len() == 0)
}

fn libc_eagain() -> i32 {
    Errno::AGAIN.raw_os_error()
}

#[cfg(test)]
mod tests;
