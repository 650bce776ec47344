//! The files of a run directory: who runs (`pid.json`), how it ended (`exit.json`).
//!
//! ```text
//! RUN_DIR/pid.json      written by the monitor before the process starts
//! RUN_DIR/exit.json     written by the monitor, by rename, after it ended
//! RUN_DIR/attach.sock   the monitor's socket for clients
//! ```
//! That a process runs is never stored: it is read from the process table and compared with the start time. It has ended
//! when there is an exit record, or neither it nor its monitor is left.

use std::io;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Manager};
use crate::error::{Error, Result};

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
    /// The directories of its control group; absent = none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<cgroup::Paths>,
}

/// The state of a container, read from its run directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never started since the run directory was made.
    Created,
    /// Its process runs, or has ended this moment and its monitor is about to tell how.
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
pub fn state(run_dir: &Path) -> Result<State> {
    let process = read_process(run_dir)?;
    let exit = read_exit(run_dir)?;
    let status = match (&process, &exit) {
        (_, Some(_)) => Status::Stopped,
        (None, None) => Status::Created,
        (Some(process), None) if !is_alive(process) => {
            // While its monitor lives, how it ended is about to be told: until then it has not.
            let monitored = is_process(process.monitor_pid, process.monitor_start_time);
            let exit = read_exit(run_dir)?;
            let status = if monitored && exit.is_none() { Status::Running } else { Status::Stopped };
            return Ok(State { status, exit, process: Some(process.clone()) });
        }
        (Some(process), None) if is_frozen(process) => Status::Paused,
        (Some(_), None) => Status::Running,
    };
    Ok(State { status, process, exit })
}

fn is_alive(process: &ProcessRecord) -> bool {
    is_process(process.init_pid, process.start_time)
}

fn is_process(number: u32, start_time: u64) -> bool {
    sys::pidfd::status(number).is_ok_and(|status| status.start_time == start_time && !status.ended)
}

fn is_frozen(process: &ProcessRecord) -> bool {
    group(process).is_some_and(|group| group.is_frozen().unwrap_or(false))
}

fn group(process: &ProcessRecord) -> Option<Manager> {
    process.cgroup.clone().map(Manager::open)
}

/// Waits for the end of a process of which the caller knows the run directory alone; `None` when the deadline passes.
/// Sleeps in the kernel (inotify and pidfd), never polls.
pub fn wait(run_dir: &Path, deadline: Option<Instant>) -> Result<Option<ExitRecord>> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::inotify;
    let failed = |action| move |errno: rustix::io::Errno| Error::file(action, run_dir, errno);
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(failed("watch"))?;
    match inotify::add_watch(
        &watch,
        run_dir,
        inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::DELETE_SELF,
    ) {
        Ok(_) => {}
        Err(rustix::io::Errno::NOENT) => return Err(Error::NotRunning { run_dir: run_dir.to_owned() }),
        Err(errno) => return Err(failed("watch")(errno)),
    }
    // All looks come after the watch, so that no change is missed.
    if let Some(record) = read_exit(run_dir)? {
        return Ok(Some(record));
    }
    let not_running = || Error::NotRunning { run_dir: run_dir.to_owned() };
    let process = read_process(run_dir)?.ok_or_else(not_running)?;
    let monitor = sys::pidfd::open_exact(process.monitor_pid, process.monitor_start_time).ok();
    loop {
        if let Some(record) = read_exit(run_dir)? {
            return Ok(Some(record));
        }
        // The monitor writes the record before it ends.
        let Some(monitor) = &monitor else { return Err(Error::MonitorLost { run_dir: run_dir.to_owned() }) };
        let timeout = match deadline {
            None => None,
            Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                None => return Ok(None),
                Some(left) => Some(rustix::time::Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: i64::from(left.subsec_nanos()),
                }),
            },
        };
        let mut entries = [PollFd::new(&watch, PollFlags::IN), PollFd::new(monitor, PollFlags::IN)];
        match poll(&mut entries, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed("wait for")(errno)),
        }
        let ended = !entries[1].revents().is_empty();
        if !entries[0].revents().is_empty() {
            let mut events = [0; 4096];
            let _ = rustix::io::read(&watch, &mut events);
        }
        if ended {
            return match read_exit(run_dir)? {
                Some(record) => Ok(Some(record)),
                None => Err(Error::MonitorLost { run_dir: run_dir.to_owned() }),
            };
        }
    }
}

/// Sends a signal to the container's init or the session's process.
pub fn kill(run_dir: &Path, signal: i32) -> Result<()> {
    let not_running = || Error::NotRunning { run_dir: run_dir.to_owned() };
    let process = read_process(run_dir)?.ok_or_else(not_running)?;
    let init = sys::pidfd::open_exact(process.init_pid, process.start_time).map_err(|_| not_running())?;
    match sys::pidfd::send_signal(&init, signal) {
        Err(error) if error.raw_os_error() == Some(3) => Err(not_running()),
        result => result.map_err(|source| Error::file("send a signal to", run_dir, source)),
    }
}

/// Sends SIGKILL to every process of the container's control group, to init alone where it has none.
pub fn kill_all(run_dir: &Path) -> Result<()> {
    let not_running = || Error::NotRunning { run_dir: run_dir.to_owned() };
    let process = read_process(run_dir)?.ok_or_else(not_running)?;
    match group(&process) {
        Some(group) => group.kill_all(9).map_err(cgroup_error),
        None => kill(run_dir, 9),
    }
}

/// Freezes the container.
pub fn pause(run_dir: &Path) -> Result<()> {
    running_group(run_dir)?.freeze().map_err(cgroup_error)
}

/// Thaws the container.
pub fn resume(run_dir: &Path) -> Result<()> {
    running_group(run_dir)?.thaw().map_err(cgroup_error)
}

fn running_group(run_dir: &Path) -> Result<Manager> {
    let not_running = || Error::NotRunning { run_dir: run_dir.to_owned() };
    let process = read_process(run_dir)?.filter(is_alive).ok_or_else(not_running)?;
    let none = || Error::Cgroup { message: "the container has no control group, it cannot be paused".into() };
    group(&process).ok_or_else(none)
}

/// Removes what a stopped container leaves: its control group and the files of its run directory that this crate
/// made. Idempotent. The directory itself stays if it holds other files.
pub fn delete(run_dir: &Path) -> Result<()> {
    let mut first = None;
    if let Some(process) = read_process(run_dir)?
        && let Some(group) = group(&process)
        && let Err(error) = group.delete()
    {
        first = Some(cgroup_error(error));
    }
    // pid.json last: it is what finds the group if this is interrupted.
    for name in ["attach.sock", "exit.json", "pid.json"] {
        let path = run_dir.join(name);
        if let Err(error) = sys::fs::remove_file_if_exists(&path) {
            first.get_or_insert(Error::file("remove", path, error.source));
        }
    }
    // Not empty, or gone already.
    let _ = sys::fs::remove_dir(run_dir);
    first.map_or(Ok(()), Err)
}

fn cgroup_error(error: crate::cgroup::Error) -> Error {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Error::Cgroup { message }
}

/// Longest record accepted, bytes.
const MAX_RECORD: u64 = 1 << 20;

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match sys::fs::optional(sys::fs::read_limited(path, MAX_RECORD)) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::file("parse", path, error))
        }
        Err(error) => Err(Error::file("read", path, error.source)),
    }
}

/// Reads `pid.json`.
pub(crate) fn read_process(run_dir: &Path) -> Result<Option<ProcessRecord>> {
    read(&run_dir.join("pid.json"))
}

/// Reads `exit.json`.
pub(crate) fn read_exit(run_dir: &Path) -> Result<Option<ExitRecord>> {
    read(&run_dir.join("exit.json"))
}

/// Writes `pid.json`.
pub(crate) fn write_process(run_dir: &Path, record: &ProcessRecord) -> io::Result<()> {
    write(&run_dir.join("pid.json"), &serde_json::to_vec(record)?)
}

/// Writes `exit.json`.
pub(crate) fn write_exit(run_dir: &Path, json: &[u8]) -> io::Result<()> {
    write(&run_dir.join("exit.json"), json)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    sys::fs::write_atomic(path, bytes, 0o600, sys::fs::Sync::None).map_err(|error| error.source)
}

/// Removes what a failed start has written.
pub(crate) fn remove_process(run_dir: &Path) {
    // The failure of the start is what is reported.
    for name in ["attach.sock", "pid.json"] {
        let _ = sys::fs::remove_file_if_exists(&run_dir.join(name));
    }
}
