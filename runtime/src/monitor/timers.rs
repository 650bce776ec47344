//! What a monitor does by the clock: it ends a container whose time is over, and has its health looked at.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sys::process::Fork;

/// File of the run directory in which a look at the health leaves the milliseconds until the next one.
pub(crate) const NEXT_CHECK: &str = "health.next";

/// The part of the plan.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TimerPlan {
    /// Milliseconds after which the process is killed.
    pub(crate) kill_after_ms: Option<u64>,
    /// Run once at the start, and again when the time that it left in [`NEXT_CHECK`] is over.
    pub(crate) health_argv: Vec<OsString>,
}

/// The clock of one process.
#[derive(Debug)]
pub(super) struct Timers {
    argv: Vec<OsString>,
    run_dir: PathBuf,
    kill_at: Option<Instant>,
    check_at: Option<Instant>,
    /// The look that goes on.
    checking: Option<u32>,
}

impl Timers {
    pub(super) fn new(plan: TimerPlan, run_dir: &Path) -> Self {
        let now = Instant::now();
        let kill_at = plan.kill_after_ms.and_then(|time| now.checked_add(Duration::from_millis(time)));
        let check_at = (!plan.health_argv.is_empty()).then_some(now);
        Self { argv: plan.health_argv, run_dir: run_dir.to_owned(), kill_at, check_at, checking: None }
    }

    /// How long the loop may sleep.
    pub(super) fn timeout(&self) -> Option<rustix::time::Timespec> {
        let next = [self.kill_at, self.check_at].into_iter().flatten().min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(rustix::time::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        })
    }

    /// Begins a look whose time has come; tells whether the process's own time is over.
    pub(super) fn tick(&mut self) -> bool {
        let now = Instant::now();
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if due(self.check_at) && self.checking.is_none() {
            self.check_at = None;
            // without a new time from the look itself there is no other
            let _ = sys::fs::remove_file_if_exists(&self.run_dir.join(NEXT_CHECK));
            match sys::process::fork() {
                Ok(Fork::Child) => sys::process::exit(super::events::become_command(&self.argv)),
                Ok(Fork::Parent { child, .. }) => self.checking = Some(child),
                Err(_) => self.check_at = now.checked_add(Duration::from_secs(1)),
            }
        }
        let over = due(self.kill_at);
        if over {
            self.kill_at = None;
        }
        over
    }

    /// A child of the monitor has ended.
    pub(super) fn reaped(&mut self, pid: u32) {
        if self.checking != Some(pid) {
            return;
        }
        self.checking = None;
        // what the fork touched
        sys::process::shrink();
        let next = sys::fs::read_limited(&self.run_dir.join(NEXT_CHECK), 32).unwrap_or_default();
        let next = std::str::from_utf8(&next).ok().and_then(|text| text.trim().parse().ok());
        self.check_at = next.and_then(|time| Instant::now().checked_add(Duration::from_millis(time)));
    }
}
