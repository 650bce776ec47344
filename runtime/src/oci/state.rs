//! The record of a container, and what state the process table says it is in.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::{Bundle, Error, Result};
use crate::cgroup::{Manager, Paths};

/// The states of the specification, and `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Init waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// The program is frozen.
    Paused,
    /// The program has ended, or never ran because `create` was killed.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this format: 1.
    pub version: u32,
    /// The container's ID.
    pub id: String,
    /// The version that the configuration was written for.
    pub oci_version: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// Who created it: a user ID.
    pub owner: u32,
    /// Init's process ID; 0 = not yet.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// The process that creates the container.
    pub creator: u32,
    /// Its start time in clock ticks since boot.
    pub creator_start_time: u64,
    /// The control group; absent = none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Paths>,
    /// Whether it waits at `start.sock`: not with `run`.
    pub waits: bool,
    /// Whether `create` came to its end.
    pub ready: bool,
    /// Whether init is the first of a new PID namespace, so that its end is everybody's.
    pub own_pid_namespace: bool,
    /// The configuration's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A container that exists.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its directory.
    pub directory: PathBuf,
    /// What was written down of it.
    pub record: Record,
}

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
pub(super) const START: &str = "start.sock";

/// Longest record accepted, bytes.
const MAX_RECORD: u64 = 1 << 20;

/// Tells whether `id` can be the name of a directory and nothing else.
pub(super) fn check_id(id: &str) -> Result<()> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if id.is_empty() || id.len() > 1024 || id.starts_with('.') || !id.chars().all(good) {
        return Err(Error::invalid(format!(
            "container ID {id:?}: use letters, digits, `_`, `+`, `-` and `.`"
        )));
    }
    Ok(())
}

/// Opens a container.
///
/// # Errors
/// There is none of that ID.
pub fn open(root: &Path, id: &str) -> Result<Container> {
    check_id(id)?;
    let directory = root.join(id);
    match sys::fs::optional(sys::fs::read_limited(&directory.join(STATE), MAX_RECORD))? {
        Some(bytes) => {
            let record = serde_json::from_slice(&bytes)
                .map_err(|error| Error::os(format!("parse {}", directory.join(STATE).display()), error))?;
            Ok(Container { directory, record })
        }
        None => Err(Error::NotFound { id: id.into() }),
    }
}

/// All containers, by ID.
///
/// # Errors
/// The directory cannot be read; a missing one holds none.
pub fn list(root: &Path) -> Result<Vec<Container>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::os(format!("list {}", root.display()), error)),
    };
    let mut ids: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    ids.sort_unstable();
    // One that goes away meanwhile is not listed.
    Ok(ids.into_iter().filter_map(|id| open(root, &id).ok()).collect())
}

fn lives(pid: u32, start_time: u64) -> bool {
    pid != 0 && sys::pidfd::status(pid).is_ok_and(|status| status.start_time == start_time && !status.ended)
}

impl Container {
    /// Writes the record.
    pub(super) fn write(&self) -> Result<()> {
        let json =
            serde_json::to_vec(&self.record).map_err(|error| Error::os("describe the container", error))?;
        Ok(sys::fs::write_atomic(&self.directory.join(STATE), &json, 0o600, sys::fs::Sync::None)?)
    }

    /// Keeps the configuration as it is now.
    pub(super) fn keep_config(&self, bytes: &[u8]) -> Result<()> {
        Ok(sys::fs::write_atomic(&self.directory.join(CONFIG), bytes, 0o600, sys::fs::Sync::None)?)
    }

    /// Whether a word occurs in the configuration at all; so it does where that cannot be read.
    pub(super) fn config_mentions(&self, word: &str) -> bool {
        let bytes = sys::fs::read_limited(&self.directory.join(CONFIG), super::bundle::MAX_CONFIG);
        bytes.map_or(true, |bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    }

    /// The configuration as it was at `create`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn spec(&self) -> Result<Spec> {
        Ok(Bundle::read(&self.record.bundle, Some(&self.directory.join(CONFIG)))?.spec)
    }

    /// What state the container is in.
    #[must_use]
    pub fn status(&self) -> Status {
        let record = &self.record;
        let at_work = || lives(record.creator, record.creator_start_time);
        if record.pid == 0 {
            return if at_work() { Status::Creating } else { Status::Stopped };
        }
        if record.waits && !record.ready {
            // Its socket is there already, but nobody hears yet; nor ever, where `create` was killed.
            return if at_work() { Status::Creating } else { Status::Stopped };
        }
        if !lives(record.pid, record.start_time) {
            return Status::Stopped;
        }
        let waits = record.waits && self.connect().is_ok();
        match (waits, self.group().is_some_and(|group| group.is_frozen().unwrap_or(false))) {
            (_, true) => Status::Paused,
            (true, false) => Status::Created,
            (false, false) => Status::Running,
        }
    }

    /// The control group.
    pub(super) fn group(&self) -> Option<Manager> {
        self.record.cgroup.clone().map(Manager::open)
    }

    /// Connects to where init waits. The path may be longer than a socket address holds, so it is named through an open
    /// descriptor of the directory.
    pub(super) fn connect(&self) -> std::io::Result<OwnedFd> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let directory = sys::beneath::open_root(&self.directory)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{START}", directory.as_raw_fd()))?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &address)?;
        Ok(socket)
    }

    /// The state as the specification describes it, for `state`.
    #[must_use]
    pub fn state(&self, status: Status) -> serde_json::Value {
        let record = &self.record;
        let pid = if status == Status::Stopped { 0 } else { record.pid };
        let mut state = serde_json::json!({
            "ociVersion": record.oci_version, "id": record.id, "pid": pid, "status": status.to_string(),
            "bundle": record.bundle, "rootfs": record.rootfs, "created": record.created,
            "owner": record.owner.to_string(),
        });
        if !record.annotations.is_empty() {
            state["annotations"] = serde_json::json!(record.annotations);
        }
        state
    }

    /// The state as hooks and supervisors read it.
    pub(super) fn hook_state(&self, status: Status) -> Vec<u8> {
        let record = &self.record;
        let mut state = serde_json::json!({
            "ociVersion": record.oci_version, "id": record.id, "status": status.to_string(),
            "bundle": record.bundle, "annotations": record.annotations,
        });
        if status != Status::Stopped {
            state["pid"] = record.pid.into();
        }
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// A descriptor of init, if it lives.
    pub(super) fn process(&self) -> Option<OwnedFd> {
        sys::pidfd::open_exact(self.record.pid, self.record.start_time).ok()
    }
}
