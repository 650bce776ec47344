//! What a container is doing, read from its run directory and, when that says nothing, from its own.

use super::Status;
use crate::state::{ContainerRecord, StartRecord, files};
use crate::time::Instant;
use crate::{Engine, Result};
use runtime::{ExitRecord, ProcessRecord};

/// Exit code of a container whose end nobody saw: the host went down, or the monitor was killed.
const UNKNOWN_END: i32 = 255;

/// A container's state at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    pub(crate) process: Option<ProcessRecord>,
    pub(crate) exit: Option<ExitRecord>,
    pub(crate) start: StartRecord,
}

impl Seen {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused)
    }

    pub(crate) fn pid(&self) -> u32 {
        match (&self.process, self.is_running()) {
            (Some(process), true) => process.init_pid,
            _ => 0,
        }
    }

    /// Nanoseconds since 1970; 0 = never.
    pub(crate) fn started_nanos(&self) -> i64 {
        if self.is_running()
            && let Some(process) = &self.process
        {
            return process.started_unix_nanos;
        }
        self.exit.as_ref().map_or(self.start.started_nanos, |exit| exit.started_unix_nanos)
    }

    /// Nanoseconds since 1970; 0 = never, or it runs. An end that nobody saw was not before the start, and where the host
    /// went down not after its next boot.
    pub(crate) fn finished_nanos(&self) -> i64 {
        match (&self.exit, self.status) {
            (Some(exit), _) if !self.is_running() => exit.finished_unix_nanos,
            (None, Status::Exited | Status::Stopped) => self.started_nanos().max(boot_nanos()),
            _ => 0,
        }
    }

    pub(crate) fn exit_code(&self) -> i32 {
        if self.is_running() {
            return 0;
        }
        match (&self.exit, self.status) {
            (Some(exit), _) => exit.code,
            (None, Status::Exited | Status::Stopped) => UNKNOWN_END,
            (None, _) => 0,
        }
    }
}

/// When this host was booted, nanoseconds since 1970.
fn boot_nanos() -> i64 {
    use rustix::time::{ClockId, clock_gettime};
    let up = clock_gettime(ClockId::Boottime);
    Instant::now().0 - up.tv_sec.saturating_mul(1_000_000_000) - up.tv_nsec
}

impl Engine {
    /// Reads the state of a container.
    pub(crate) fn seen(&self, id: &str) -> Result<Seen> {
        let run = runtime::state(&self.state().run_directory(id))
            .map_err(|error| crate::error::runtime(format!("read the state of container {id}"), error))?;
        let running = match run.status {
            runtime::Status::Running => Some(Status::Running),
            runtime::Status::Paused => Some(Status::Paused),
            runtime::Status::Created | runtime::Status::Stopped => None,
        };
        if let Some(status) = running {
            // `start.json` matters only once it has ended; a listing saves the read
            return Ok(Seen { status, process: run.process, exit: None, start: StartRecord::default() });
        }
        self.ended(id, run.process, run.exit)
    }

    /// Reads the state of a container that has no run directory, so that nothing of it runs.
    pub(crate) fn seen_at_rest(&self, id: &str) -> Result<Seen> {
        self.ended(id, None, None)
    }

    fn ended(&self, id: &str, process: Option<ProcessRecord>, exit: Option<ExitRecord>) -> Result<Seen> {
        let directory = self.state().directory(id);
        let start: Option<StartRecord> = files::read_json(&directory.join("start.json"))?;
        let exit = match exit {
            Some(exit) => Some(exit),
            None => files::read_json(&directory.join("exit.json"))?,
        };
        let ended = exit.is_some()
            || process.is_some()
            || start.as_ref().is_some_and(|start| start.started_nanos > 0);
        let status = if ended { Status::Exited } else { Status::Created };
        Ok(Seen { status, process, exit, start: start.unwrap_or_default() })
    }

    pub(crate) fn is_running(&self, id: &str) -> Result<bool> {
        Ok(self.seen(id)?.is_running())
    }

    /// The log of a container.
    pub(crate) fn log_path(&self, record: &ContainerRecord) -> std::path::PathBuf {
        match record.settings.log_options.get("path") {
            Some(path) if !path.is_empty() => path.into(),
            _ => self.state().directory(&record.id).join("ctr.log"),
        }
    }

    /// Notes something about the last start, beside what is noted.
    pub(crate) fn note_start(&self, id: &str, change: impl FnOnce(&mut StartRecord)) -> Result<()> {
        let path = self.state().directory(id).join("start.json");
        // a stop and a start may come at the same time, and both add to what is there
        let lock = path.with_extension("lock");
        let _lock = sys::lock::exclusive(&lock)
            .map_err(|error| crate::Error::os(format!("lock {}", lock.display()), error.source))?;
        let mut start: StartRecord = files::read_json(&path)?.unwrap_or_default();
        start.version = 1;
        change(&mut start);
        files::write_json(&path, &start, false)
    }
}
