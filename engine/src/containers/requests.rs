//! Plain requests and reports of the container verbs.

use super::CreateRequest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// What `create` made.
#[derive(Debug, Clone)]
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// What the user should know (limits that cannot be set here, ...).
    pub warnings: Vec<String>,
}

/// The caller's ends of a container's standard streams. The engine pumps them until the container exits or the
/// detach keys are typed; it puts a terminal into raw mode meanwhile, follows its size, and restores it.
#[derive(Debug, Default)]
pub struct Streams {
    /// Read from; `None` = the container sees no input (or the end of it).
    pub stdin: Option<OwnedFd>,
    /// Written to; `None` = dropped.
    pub stdout: Option<OwnedFd>,
    /// Written to; `None` = dropped.
    pub stderr: Option<OwnedFd>,
    /// Bytes that detach a terminal; empty = none. See [`crate::options::parse_detach_keys`].
    pub detach_keys: Vec<u8>,
    /// Hand the signals that this process gets on to the container.
    pub signal_proxy: bool,
}

impl Streams {
    /// Duplicates of this process's own streams: stdin only if `stdin`.
    pub fn inherit(stdin: bool) -> crate::Result<Self> {
        use std::os::fd::AsFd;
        let copy = |fd: std::os::fd::BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(|error| crate::Error::os("duplicate a standard stream", error))
        };
        Ok(Self {
            stdin: if stdin { Some(copy(std::io::stdin().as_fd())?) } else { None },
            stdout: Some(copy(std::io::stdout().as_fd())?),
            stderr: Some(copy(std::io::stderr().as_fd())?),
            detach_keys: vec![16, 17],
            signal_proxy: true,
        })
    }
}

/// How an attached session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The process exited with this code (128 + signal for a signal).
    Exited(i32),
    /// The kernel killed a process of it for want of memory.
    OutOfMemory {
        /// The exit code: not always 137, the process killed may have been another one.
        code: i32,
        /// What is known of the memory.
        memory: OutOfMemory,
    },
    /// The detach keys were typed; the process goes on.
    Detached,
}

impl SessionEnd {
    pub(crate) fn of(exit: &runtime::ExitRecord) -> Self {
        match OutOfMemory::of(exit) {
            Some(memory) => Self::OutOfMemory { code: exit.code, memory },
            None => Self::Exited(exit.code),
        }
    }
}

/// That a container had not memory enough, as a text: `killed: out of memory, limit 32 MiB, highest use 32 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory {
    /// The limit in bytes, if there was one.
    pub limit: Option<u64>,
    /// The highest use in bytes, where the kernel tells.
    pub peak: Option<u64>,
}

impl OutOfMemory {
    pub(crate) fn of(exit: &runtime::ExitRecord) -> Option<Self> {
        exit.oom_killed.then_some(Self { limit: exit.memory_limit_bytes, peak: exit.memory_peak_bytes })
    }
}

impl std::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("killed: out of memory")?;
        if let Some(limit) = self.limit {
            write!(f, ", limit {}", builder::ops::bytes(limit))?;
        }
        if let Some(peak) = self.peak {
            write!(f, ", highest use {}", builder::ops::bytes(peak))?;
        }
        Ok(())
    }
}

/// Run a container.
#[derive(Debug, Default)]
pub struct RunRequest {
    /// What to create.
    pub create: CreateRequest,
    /// `None` = detached: the call returns as soon as the process runs.
    pub attach: Option<Streams>,
    /// Descriptors that the program gets from number 3 on.
    pub preserved: Vec<OwnedFd>,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The container.
    pub container: Created,
    /// How the session ended; `None` when detached from the start.
    pub end: Option<SessionEnd>,
}

/// Which containers a verb is for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Names or IDs.
    pub names: Vec<String>,
    /// All containers.
    pub all: bool,
    /// All that match, `KEY=VALUE`.
    pub filters: Vec<String>,
    /// Only running ones (`restart --running`).
    pub running: bool,
    /// A missing name is no error.
    pub ignore: bool,
}

/// What happened to one container of a [`Selection`].
#[derive(Debug)]
pub struct Outcome {
    /// As the caller named it; the ID for `all` and filters.
    pub input: String,
    /// 64 hex digits; `None` when there is no such container.
    pub id: Option<String>,
    /// `Ok(false)`: nothing was to be done.
    pub result: crate::Result<bool>,
}

/// Stop containers.
#[derive(Debug, Clone, Default)]
pub struct StopRequest {
    /// Which.
    pub selection: Selection,
    /// Seconds until SIGKILL; `None` = the container's own; below 0 = wait for ever.
    pub timeout: Option<i64>,
    /// Instead of the container's own.
    pub signal: Option<String>,
}

/// Remove containers.
#[derive(Debug, Clone, Default)]
pub struct RemoveRequest {
    /// Which.
    pub selection: Selection,
    /// Stop what runs.
    pub force: bool,
    /// Seconds until SIGKILL with `force`; `None` = the container's own.
    pub timeout: Option<i64>,
    /// Also anonymous volumes.
    pub volumes: bool,
    /// Also containers that use its namespaces, first.
    pub depend: bool,
}

/// Run a command in a running container.
#[derive(Debug, Default)]
pub struct ExecRequest {
    /// Name or ID.
    pub container: String,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Environment, over the container's.
    pub env: Vec<(String, String)>,
    /// `user[:group]`; `None` = the container's.
    pub user: Option<String>,
    /// `None` = the container's.
    pub workdir: Option<String>,
    /// All capabilities.
    pub privileged: bool,
    /// `None` = in the background.
    pub attach: Option<Streams>,
    /// Descriptors that the command gets as 3, 4 and so on.
    pub preserved: Vec<OwnedFd>,
    /// How long it may take until the container runs.
    pub wait: Option<std::time::Duration>,
}

/// What an exec did.
#[derive(Debug, Clone)]
pub struct Executed {
    /// ID of the session, 64 hex digits.
    pub session: String,
    /// How it ended; `None` in the background.
    pub end: Option<SessionEnd>,
}

/// Read what a container wrote.
#[derive(Debug, Clone, Default)]
pub struct LogsRequest {
    /// Name or ID.
    pub container: String,
    /// Go on until the container exits.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// RFC 3339, Unix seconds, or a duration before now.
    pub since: Option<String>,
    /// RFC 3339, Unix seconds, or a duration from now on.
    pub until: Option<String>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// RFC 3339 with nanoseconds, as the log has it.
    pub time: String,
    /// Whether it went to standard error.
    pub stderr: bool,
    /// The bytes, with the newline unless the line was written without one.
    pub bytes: Vec<u8>,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its process ended; what it held is being released.
    Stopped,
    /// Its process ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl Status {
    /// The word as Podman writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
            Status::Exited => "exited",
            Status::Removing => "removing",
        }
    }
}

/// Which containers to list.
#[derive(Debug, Clone, Default)]
pub struct ContainerListRequest {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest so many, running or not.
    pub last: Option<usize>,
    /// `KEY=VALUE`: id, name, label, label!, exited, status, ancestor, before, since, until, network, command.
    pub filters: Vec<String>,
    /// Also the sizes, which takes a walk of each container's layer.
    pub size: bool,
}

/// A row of `ps`.
#[derive(Debug, Clone)]
pub struct ContainerSummary {
    /// 64 hex digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image as the user named it, made complete.
    pub image: String,
    /// Image ID, 64 hex digits.
    pub image_id: String,
    /// Entry point and command.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// State.
    pub status: Status,
    /// Seconds since 1970; 0 = never.
    pub started: i64,
    /// Seconds since 1970; 0 = never.
    pub finished: i64,
    /// Of the last exit.
    pub exit_code: i32,
    /// Of its first process; 0 when it does not run.
    pub pid: u32,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Destinations of its mounts.
    pub mounts: Vec<String>,
    /// Exposed ports, `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `none` or `host`.
    pub network: String,
    /// Whether it is removed when it exits.
    pub auto_remove: bool,
    /// Number of restarts.
    pub restarts: u32,
    /// With [`ContainerListRequest::size`].
    pub size: Option<ContainerSize>,
    /// Where it runs and has a check.
    pub health: Option<super::HealthStatus>,
}

/// Sizes of a container's file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ContainerSize {
    /// Bytes of its own layer.
    pub rw: u64,
    /// Bytes of its own layer and the image.
    pub root_fs: u64,
}

/// Remove all containers that do not run.
#[derive(Debug, Clone, Default)]
pub struct ContainerPruneRequest {
    /// `label=..`, `label!=..`, `until=..`.
    pub filters: Vec<String>,
}
