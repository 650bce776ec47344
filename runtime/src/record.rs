//! The files of a run directory: who runs (`pid.json`), how it ended (`exit.json`).
//!
//! ```text
//! RUN_DIR/pid.json      written by the monitor before the process starts
//! RUN_DIR/exit.json     written by the monitor, by rename, after it ended
//! RUN_DIR/attach.sock   the monitor's socket for clients
//! ```
//! That a process runs is never stored: it is read from the process table and compared with the start time.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// How a process ended: `exit.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Version of this format: 1.
    pub version: u32,
    /// Exit code; 128 + number for a signal.
    pub code: i32,
    /// The signal that killed the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// Memory limit in bytes, if there is one and `oom_killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Highest memory use seen in bytes, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// When the process was started: nanoseconds since 1970, UTC.
    pub started_unix_nanos: i64,
    /// When it ended: nanoseconds since 1970, UTC.
    pub finished_unix_nanos: i64,
}

/// A started process: `pid.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Version of this format: 1.
    pub version: u32,
    /// The container's or session's ID.
    pub id: String,
    /// The process's ID on the host.
    pub init_pid: u32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
    /// The monitor's process ID.
    pub monitor_pid: u32,
    /// The monitor's start time in clock ticks since boot.
    pub monitor_start_time: u64,
    /// When the process was started: nanoseconds since 1970, UTC.
    pub started_unix_nanos: i64,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// The path its control group was made from; absent = none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

/// The state of a container, read from its run directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never started since the run directory was made.
    Created,
    /// Its process runs.
    Running,
    /// Its process is frozen.
    Paused,
    /// Its process has ended, whether or not a record tells how.
    Stopped,
}

/// Status, and the records it was read from.
#[derive(Clone, Debug)]
pub struct State {
    /// The status.
    pub status: Status,
    /// `pid.json`, if there is one.
    pub process: Option<ProcessRecord>,
    /// `exit.json`, if there is one.
    pub exit: Option<ExitRecord>,
}

/// Reads the state of a container or exec session. A missing directory reads as [`Status::Created`].
pub fn state(_run_dir: &Path) -> Result<State> {
    todo!()
}

/// Waits for the end of a process of which the caller knows the run directory alone; `None` when the deadline passes.
/// Sleeps in the kernel (inotify and pidfd), never polls.
pub fn wait(_run_dir: &Path, _deadline: Option<Instant>) -> Result<Option<ExitRecord>> {
    todo!()
}

/// Sends a signal to the container's init or the session's process.
pub fn kill(_run_dir: &Path, _signal: i32) -> Result<()> {
    todo!()
}

/// Sends SIGKILL to every process of the container's control group, to init alone where it has none.
pub fn kill_all(_run_dir: &Path) -> Result<()> {
    todo!()
}

/// Freezes the container.
pub fn pause(_run_dir: &Path) -> Result<()> {
    todo!()
}

/// Thaws the container.
pub fn resume(_run_dir: &Path) -> Result<()> {
    todo!()
}

/// Removes what a stopped container leaves: its control group and the files of its run directory that this crate
/// made. Idempotent. The directory itself stays if it holds other files.
pub fn delete(_run_dir: &Path) -> Result<()> {
    todo!()
}
