//! Leases: what a running operation makes and uses, protected as long as its process lives.
//!
//! ```text
//! leases/ID   {"version":1,"what":"pull ..","pid":1,"boot":"..","created":".."}
//!             {"blob":"sha256:.."}          one line for each thing that is held, appended
//!             {"active":"KEY"}              an active snapshot that goes with the lease
//! ingest/ID/  working directory
//! ```
//!
//! The owner keeps the file locked (`flock`), so the kernel says who is alive, whatever namespace it is in. A lease file
//! is never visible unlocked while its owner lives: it is locked under a temporary name and then renamed. Whoever gets
//! the lock of another's lease knows that its owner is dead, and removes what it owned, the file last; a reaper that is
//! killed meanwhile leaves the file to the next one.

use crate::error::{Error, Failures, Result};
use crate::snapshot::directory::{self, SnapshotRecord};
use crate::store::{Store, now, random_name};
use oci::{ChainId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use sys::lock::FileLock;

/// Something that a lease protects from a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A blob.
    Blob(Digest),
    /// A layer with its blobs, its snapshot and the layers below it.
    Layer(ChainId),
    /// A committed snapshot and those below it.
    Snapshot(String),
    /// An image and all that belongs to it.
    Image(Digest),
    /// An active snapshot that goes with the lease unless a holder keeps it: what `prepare` makes, or a container's
    /// that is about to be removed (hold it, remove the container's record, remove the snapshot).
    Active(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    what: String,
    pid: u32,
    created: String,
}

/// The lease format that this program writes.
const VERSION: u32 = 1;

/// A running operation. Dropping it ends it: what it made and nothing names is removed or left to the next sweep.
///
/// May be shared between threads. A child process that inherits its descriptor keeps it alive; descriptors are
/// close-on-exec.
#[derive(Debug)]
pub struct Lease {
    inner: Arc<Inner>,
    ended: bool,
}

/// The part that writers share with the lease.
#[derive(Debug)]
pub(crate) struct Inner {
    id: String,
    store: Store,
    lock: FileLock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    holds: HashSet<Hold>,
    directory_made: bool,
}

impl Lease {
    pub(crate) fn begin(store: &Store, what: &str) -> Result<Self> {
        let directory = store.path("leases");
        loop {
            let id = random_name()?;
            let temporary = directory.join(format!("{}{id}", sys::fs::TEMPORARY_PREFIX));
            let file = sys::fs::create_new(&temporary, 0o600)?;
            // A reaper may have found the file before it was locked; then it has removed it, or is about to.
            let Ok(lock) = sys::lock::try_lock_file(file) else { continue };
            let header =
                Header { version: VERSION, what: what.to_owned(), pid: std::process::id(), created: now() };
            append(&lock, &temporary, &header)?;
            match sys::fs::rename_noreplace(&temporary, &directory.join(&id)) {
                Ok(()) => {}
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            }
            let state = Mutex::default();
            return Ok(Self {
                inner: Arc::new(Inner { id, store: store.clone(), lock, state }),
                ended: false,
            });
        }
    }

    /// The lease's name in the store.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The store that it belongs to.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// A working directory of the operation inside the store, made on first use, removed with the lease.
    pub fn directory(&self) -> Result<PathBuf> {
        self.inner.directory()
    }

    /// Protects something that the operation uses until the lease ends. Returns `false`, and protects nothing, where
    /// it does not exist (any more).
    pub fn hold(&self, hold: Hold) -> Result<bool> {
        if self.inner.state().holds.contains(&hold) {
            return Ok(true);
        }
        let _lock = self.inner.store.lock_shared()?;
        self.inner.hold_locked(hold)
    }

    /// Ends the lease, as dropping it does, and says what went wrong.
    pub fn end(mut self) -> Result<()> {
        self.ended = true;
        self.inner.end()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended {
            // What could not be removed stays named by the lease file, for the next reaper.
            let _ = self.inner.end();
        }
    }
}

impl Inner {
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let directory = self.store.path("ingest").join(&self.id);
        let mut state = self.state();
        if !state.directory_made {
            sys::fs::create_dir_all(&directory, 0o700)?;
            state.directory_made = true;
        }
        Ok(directory)
    }

    /// Notes something that is about to become visible, or whose existence was just seen. The caller holds the shared
    /// lock of the store.
    pub(crate) fn note(&self, hold: Hold) -> Result<()> {
        let mut state = self.state();
        if state.holds.contains(&hold) {
            return Ok(());
        }
        append(&self.lock, &self.file(), &hold)?;
        state.holds.insert(hold);
        Ok(())
    }

    fn hold_locked(&self, hold: Hold) -> Result<bool> {
        let store = &self.store;
        let exists = match &hold {
            Hold::Blob(digest) => store.content().has(digest)?,
            Hold::Layer(chain_id) => match store.layers().get(chain_id)? {
                Some(layer) => sys::fs::exists(&directory::committed(store.root(), &layer.snapshot))?,
                None => false,
            },
            Hold::Snapshot(name) => sys::fs::exists(&directory::committed(store.root(), name))?,
            Hold::Image(id) => store.images().get(id)?.is_some(),
            Hold::Active(key) => sys::fs::exists(&directory::active(store.root(), key))?,
        };
        if exists {
            self.note(hold)?;
        }
        Ok(exists)
    }

    fn end(&self) -> Result<()> {
        let active: Vec<String> = self
            .state()
            .holds
            .iter()
            .filter_map(|hold| if let Hold::Active(key) = hold { Some(key.clone()) } else { None })
            .collect();
        finish(&self.store, &self.id, &active)?;
        Ok(sys::fs::optional(sys::fs::remove_file(&self.file())).map(|_| ())?)
    }

    fn file(&self) -> PathBuf {
        self.store.path("leases").join(&self.id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends one line in one write. Lines of a lease need no sync: after a power failure its owner is dead.
fn append(lock: &FileLock, path: &Path, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)
        .map_err(|source| Error::UnwritableRecord { path: path.to_owned(), source })?;
    line.push(b'\n');
    let mut file = lock.file();
    file.write_all(&line).map_err(|source| sys::fs::Error::new("write", path, source).into())
}

/// Removes what a lease owned.
fn finish(store: &Store, id: &str, active: &[String]) -> Result<()> {
    let mut failures = Failures::default();
    for key in active {
        let path = directory::active(store.root(), key);
        let record = match directory::read_record(&path) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            Err(error) => {
                failures.note::<()>(Err(error));
                continue;
            }
        };
        if goes_with(&record, id)? {
            failures.note(store.discard(&path));
        }
    }
    failures.note(store.discard(&store.path("ingest").join(id)));
    failures.into_result()
}

/// Whether an active snapshot ends with the lease: nothing else keeps it.
fn goes_with(record: &SnapshotRecord, id: &str) -> Result<bool> {
    match &record.holder {
        Some(holder) => Ok(!sys::fs::exists(holder)?),
        None => Ok(record.lease == id),
    }
}

/// Finishes the leases whose owners are dead.
pub(crate) fn reap(store: &Store) -> Result<()> {
    let directory = store.path("leases");
    let mut failures = Failures::default();
    // Before the leases: a working directory is younger than its lease.
    let working = sys::fs::read_names(&store.path("ingest"))?;
    for name in sys::fs::read_names(&directory)? {
        let path = directory.join(&name);
        let Some(file) =
            failures.note(sys::fs::optional(sys::fs::open(&path)).map_err(Error::from)).flatten()
        else {
            continue;
        };
        let Ok(lock) = sys::lock::try_lock_file(file) else { continue };
        if !lock.is_at(&path)? {
            continue;
        }
        let name = name.to_string_lossy();
        if !name.starts_with(sys::fs::TEMPORARY_PREFIX) {
            let active = read_holds(lock.file())
                .into_iter()
                .filter_map(|hold| if let Hold::Active(key) = hold { Some(key) } else { None })
                .collect::<Vec<_>>();
            if failures.note(finish(store, &name, &active)).is_none() {
                continue;
            }
        }
        failures.note(sys::fs::optional(sys::fs::remove_file(&path)).map_err(Error::from));
    }
    for name in working {
        if name != "partial" && !sys::fs::exists(&directory.join(&name))? {
            failures.note(store.discard(&store.path("ingest").join(&name)));
        }
    }
    failures.into_result()
}

/// What the leases of a store hold, and their IDs. Leases that cannot be read hold nothing that could be known.
pub(crate) fn all_holds(store: &Store) -> Result<(HashSet<String>, Vec<Hold>)> {
    let directory = store.path("leases");
    let mut ids = HashSet::new();
    let mut holds = Vec::new();
    for name in sys::fs::read_names(&directory)? {
        let Some(file) = sys::fs::optional(sys::fs::open(&directory.join(&name)))? else { continue };
        holds.extend(read_holds(&file));
        ids.insert(name.to_string_lossy().into_owned());
    }
    Ok((ids, holds))
}

/// Whether an operation that is still running holds this.
pub(crate) fn is_held(store: &Store, hold: &Hold) -> Result<bool> {
    let directory = store.path("leases");
    for name in sys::fs::read_names(&directory)? {
        let path = directory.join(&name);
        let Some(file) = sys::fs::optional(sys::fs::open(&path))? else { continue };
        if read_holds(&file).contains(hold) && sys::lock::is_held(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The lines after the header. The last one may be cut off where its writer was killed.
fn read_holds(mut file: &File) -> Vec<Hold> {
    let mut text = Vec::new();
    if file.read_to_end(&mut text).is_err() {
        return Vec::new();
    }
    text.split(|byte| *byte == b'\n').skip(1).filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// A lease as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its name in the store.
    pub id: String,
    /// What its owner is doing.
    pub what: String,
    /// Process ID of the owner, in its own PID namespace.
    pub pid: u32,
    /// When it began, RFC 3339.
    pub created: String,
}

impl Store {
    /// The operations that are running now.
    pub fn leases(&self) -> Result<Vec<LeaseInfo>> {
        let directory = self.path("leases");
        let mut leases = Vec::new();
        for name in sys::fs::read_names(&directory)? {
            let path = directory.join(&name);
            if name.to_string_lossy().starts_with('.') || !sys::lock::is_held(&path)? {
                continue;
            }
            let Some(text) = sys::fs::optional(sys::fs::read_limited(&path, 64 << 20))? else { continue };
            let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            if let Ok(header) = serde_json::from_slice::<Header>(first) {
                let Header { what, pid, created, .. } = header;
                leases.push(LeaseInfo { id: name.to_string_lossy().into_owned(), what, pid, created });
            }
        }
        Ok(leases)
    }
}
