//! `stop`, `kill`, `restart`, `pause`, `unpause`, `wait`.

use super::{Containers, HealthStatus, Outcome, Selection, Status, StopRequest};
use crate::events::Event;
use crate::state::ContainerRecord;
use crate::{Error, Result};
use std::time::{Duration, Instant};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// Seconds between the stop signal and SIGKILL.
pub(super) const STOP_TIMEOUT: u32 = 10;
/// How long the kernel may take to end a process after SIGKILL before that is an error.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

fn signal_number(text: &str) -> Result<i32> {
    sys::signal::parse(text).ok_or_else(|| Error::invalid(format!("signal {text}"), "unknown signal"))
}

impl Containers<'_> {
    /// Stops containers: their stop signal, a wait, SIGKILL.
    pub fn stop(&self, request: &StopRequest) -> Result<Vec<Outcome>> {
        let signal = request.signal.as_deref().map(signal_number).transpose()?;
        // one slow container must not hold up the others
        let running = |record: &ContainerRecord| self.engine.is_running(&record.id);
        if request.selection.all {
            let records = self.engine.state().list()?;
            std::thread::scope(|scope| {
                for record in records.iter().filter(|record| running(record).unwrap_or(false)) {
                    scope.spawn(|| self.stop_one(record, request.timeout, signal));
                }
            });
        }
        self.each(&request.selection, |record| self.stop_one(record, request.timeout, signal))
    }

    /// `Ok(false)` when it did not run.
    pub(super) fn stop_one(
        &self,
        record: &ContainerRecord,
        timeout: Option<i64>,
        signal: Option<i32>,
    ) -> Result<bool> {
        let mut seen = self.engine.seen(&record.id)?;
        if !seen.is_running() {
            // with a policy it may be about to run again
            seen = self.give_up_restart(record, seen)?;
        }
        if !seen.is_running() {
            return Ok(false);
        }
        let run_dir = self.engine.state().run_directory(&record.id);
        let attempt = |error| crate::error::runtime(format!("stop container {}", record.name), error);
        let signal = match signal {
            Some(signal) => signal,
            None => record.settings.stop_signal.as_deref().map_or(Ok(SIGTERM), signal_number)?,
        };
        let seconds =
            timeout.unwrap_or_else(|| i64::from(record.settings.stop_timeout.unwrap_or(STOP_TIMEOUT)));
        self.engine.note_start(&record.id, |start| start.stopped_by_user = true)?;
        if seconds != 0 {
            send(&run_dir, signal).map_err(attempt)?;
            if seen.status == Status::Paused {
                runtime::resume(&run_dir).map_err(attempt)?;
            }
            let deadline = match u64::try_from(seconds) {
                Ok(seconds) => Instant::now().checked_add(Duration::from_secs(seconds)),
                // below 0: for ever
                Err(_) => None,
            };
            if self.wait_for_end(&record.id, deadline)? {
                self.cleanup(&record.id, false, false)?;
                self.engine.tell_container(record, "stop");
                return Ok(true);
            }
        }
        match runtime::kill_all(&run_dir) {
            Ok(()) | Err(runtime::Error::NotRunning { .. }) => {}
            Err(error) => return Err(attempt(error)),
        }
        // the processes of a frozen group take the signal when they thaw
        if seen.status == Status::Paused {
            let _ = runtime::resume(&run_dir);
        }
        if !self.wait_for_end(&record.id, Instant::now().checked_add(KILL_PATIENCE))? {
            return Err(Error::State {
                attempt: "stop",
                what: "container",
                name: record.name.clone(),
                state: "still running after SIGKILL".to_owned(),
            });
        }
        self.cleanup(&record.id, false, false)?;
        self.engine.tell_container(record, "stop");
        Ok(true)
    }

    /// Waits for the end of a container's process; false when the deadline passes first.
    pub(super) fn wait_for_end(&self, id: &str, deadline: Option<Instant>) -> Result<bool> {
        let run_dir = self.engine.state().run_directory(id);
        loop {
            if !self.engine.is_running(id)? {
                return Ok(true);
            }
            match runtime::wait(&run_dir, deadline) {
                Ok(Some(_)) => return Ok(true),
                Ok(None) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Ok(!self.engine.is_running(id)?);
                }
                Ok(None) => {}
                // the cleanup may have taken the run directory away: the state tells
                Err(_) if !self.engine.is_running(id)? => return Ok(true),
                Err(error) => {
                    return Err(crate::error::runtime(format!("wait for container {id}"), error));
                }
            }
        }
    }

    /// Stops containers where they run, and starts them.
    pub fn restart(&self, request: &StopRequest) -> Result<Vec<Outcome>> {
        let signal = request.signal.as_deref().map(signal_number).transpose()?;
        self.each(&request.selection, |record| {
            self.engine.tell_container(record, "restart");
            self.stop_one(record, request.timeout, signal)?;
            self.start_detached(record)?;
            Ok(true)
        })
    }

    /// Sends a signal, by name or number.
    pub fn kill(&self, selection: &Selection, signal: &str) -> Result<Vec<Outcome>> {
        let number = signal_number(signal)?;
        // --all means those that run
        let selection = Selection { running: selection.all || selection.running, ..selection.clone() };
        self.each(&selection, |record| {
            let seen = self.engine.seen(&record.id)?;
            if !seen.is_running() {
                return Err(not(record, "kill", seen.status));
            }
            let stop = record.settings.stop_signal.as_deref().and_then(sys::signal::parse);
            if matches!(number, SIGKILL | SIGTERM) || stop == Some(number) {
                self.engine.note_start(&record.id, |start| start.stopped_by_user = true)?;
            }
            let run_dir = self.engine.state().run_directory(&record.id);
            match send(&run_dir, number) {
                Ok(()) => {
                    let mut event = Event::container(record, "kill");
                    event.attributes.insert("signal".to_owned(), number.to_string());
                    self.engine.tell(event);
                    Ok(true)
                }
                Err(error) => Err(crate::error::runtime(format!("kill container {}", record.name), error)),
            }
        })
    }

    /// Freezes containers.
    pub fn pause(&self, selection: &Selection) -> Result<Vec<Outcome>> {
        let selection = Selection { running: selection.all || selection.running, ..selection.clone() };
        self.each(&selection, |record| {
            let seen = self.engine.seen(&record.id)?;
            if seen.status != Status::Running {
                return Err(not(record, "pause", seen.status));
            }
            runtime::pause(&self.engine.state().run_directory(&record.id))
                .map_err(|error| crate::error::runtime(format!("pause container {}", record.name), error))?;
            self.engine.tell_container(record, "pause");
            Ok(true)
        })
    }

    /// Thaws containers.
    pub fn unpause(&self, selection: &Selection) -> Result<Vec<Outcome>> {
        let paused = |record: &ContainerRecord| Ok(self.engine.seen(&record.id)?.status == Status::Paused);
        let all = selection.all;
        self.each(selection, |record| {
            if !paused(record)? {
                if all {
                    return Ok(false);
                }
                return Err(not(record, "unpause", self.engine.seen(&record.id)?.status));
            }
            runtime::resume(&self.engine.state().run_directory(&record.id)).map_err(|error| {
                crate::error::runtime(format!("unpause container {}", record.name), error)
            })?;
            self.engine.tell_container(record, "unpause");
            Ok(true)
        })
    }

    /// Waits until a container has one of these states (empty = stopped or exited) and returns its exit code.
    pub fn wait(&self, name: &str, conditions: &[String]) -> Result<i32> {
        let record = self.engine.state().find(name)?;
        let (mut wanted, mut health) = (Vec::new(), Vec::new());
        for condition in conditions {
            wanted.push(match condition.as_str() {
                "created" | "configured" => Status::Created,
                "running" => Status::Running,
                "paused" => Status::Paused,
                "stopped" | "exited" | "stopping" => Status::Exited,
                "removing" => Status::Removing,
                "healthy" | "unhealthy" => {
                    let healthy = condition == "healthy";
                    health.push(if healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy });
                    continue;
                }
                "initialized" => {
                    return Err(Error::unsupported(
                        format!("condition {condition}"),
                        "containers have no such state yet",
                    ));
                }
                other => return Err(Error::invalid(format!("condition {other}"), "unknown state")),
            });
        }
        if wanted.is_empty() && health.is_empty() {
            wanted.push(Status::Exited);
        }
        let run_dir = self.engine.state().run_directory(&record.id);
        loop {
            let seen = self.engine.seen(&record.id)?;
            if wanted.contains(&seen.status) {
                return Ok(seen.exit_code());
            }
            if !health.is_empty() && seen.is_running() {
                let found = self.engine.health(&record)?.map(|found| found.status);
                if found.is_some_and(|found| health.contains(&found)) {
                    return Ok(seen.exit_code());
                }
            }
            if health.is_empty() && wanted == [Status::Exited] && seen.is_running() {
                if let Ok(Some(exit)) = runtime::wait(&run_dir, None) {
                    return Ok(exit.code);
                }
                continue;
            }
            if self.engine.state().read(&record.id)?.is_none() {
                return if wanted.contains(&Status::Removing) {
                    Ok(seen.exit_code())
                } else {
                    Err(Error::NotFound { what: "container", name: name.to_owned() })
                };
            }
            self.sleep_until_change(&record.id)?;
        }
    }

    /// Sleeps until a file of the container's directories changes, at most a second.
    fn sleep_until_change(&self, id: &str) -> Result<()> {
        let watch = crate::state::watch::Watch::new()?;
        let state = self.engine.state();
        for directory in [state.directory(id), state.run_directory(id)] {
            watch.directory(&directory);
        }
        // a freeze changes no file: the state is looked at again after a second
        watch.wait(Some(1)).map(drop)
    }
}

/// A process that has just ended is no failure of a signal.
fn send(run_dir: &std::path::Path, signal: i32) -> runtime::Result<()> {
    match runtime::kill(run_dir, signal) {
        Err(runtime::Error::NotRunning { .. }) => Ok(()),
        result => result,
    }
}

pub(super) fn not(record: &ContainerRecord, attempt: &'static str, status: Status) -> Error {
    Error::State { attempt, what: "container", name: record.name.clone(), state: status.as_str().to_owned() }
}
