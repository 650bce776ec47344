//! Health checks: commands that run in a container and tell whether it does what it is for.
//!
//! No daemon keeps time: the container's monitor runs `davit monitor-cleanup` with a task that says so, which looks once
//! and leaves in the run directory when the next look is due. What was found stands in the container's own directory,
//! so that it can be read after the end.
//!
//! ```text
//! ROOT/containers/ID/health.json   the state, guarded by health.lock
//! ```

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Containers, Status};
use crate::entry::CleanupTask;
use crate::events::Event;
use crate::options::{HealthCheck, OnFailure};
use crate::spec::{ExecOptions, exec_process};
use crate::state::{ContainerRecord, files, names};
use crate::time::Instant;
use crate::{Engine, Error, Result};
use runtime::{LaunchMode, OutputMode};

/// Output of a check that is read at most, bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// How long what a check wrote is waited for after its end: something else may hold the pipe open.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HealthState {
    version: u32,
    /// The start that this is about, nanoseconds since 1970.
    started_nanos: i64,
    pub(crate) status: HealthStatus,
    pub(crate) failing_streak: u32,
    /// Whether the check at startup has had its successes.
    startup_over: bool,
    startup_successes: u32,
    startup_failures: u32,
    pub(crate) log: Vec<HealthResult>,
}

/// Health of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing is known yet.
    #[default]
    Starting,
    /// The last check succeeded.
    Healthy,
    /// So many checks in a row failed as it takes.
    Unhealthy,
}

impl HealthStatus {
    /// The word as Podman writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The result of one check, as `inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 = healthy.
    pub exit_code: i32,
    /// What it wrote.
    pub output: String,
}

/// What follows from a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consequence {
    Nothing,
    /// It has become, or stays, unhealthy.
    Unhealthy,
    /// The check at startup has failed too often.
    NeverStarted,
}

impl HealthState {
    /// Takes in a result. `starting`: whether the start period is not over.
    fn take(&mut self, check: &HealthCheck, result: HealthResult, starting: bool) -> Consequence {
        let healthy = result.exit_code == 0;
        self.log.push(result);
        if check.log.count > 0 {
            let gone = self.log.len().saturating_sub(check.log.count as usize);
            self.log.drain(..gone);
        }
        if let Some(startup) = check.startup.as_ref().filter(|_| !self.startup_over) {
            if healthy {
                self.startup_successes += 1;
                self.startup_over = self.startup_successes >= startup.successes;
                return Consequence::Nothing;
            }
            self.startup_successes = 0;
            self.startup_failures += 1;
            let given_up = startup.retries > 0 && self.startup_failures >= startup.retries;
            return if given_up { Consequence::NeverStarted } else { Consequence::Nothing };
        }
        if healthy {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
            return Consequence::Nothing;
        }
        if starting && self.status == HealthStatus::Starting {
            return Consequence::Nothing;
        }
        self.failing_streak += 1;
        if self.failing_streak < check.retries {
            return Consequence::Nothing;
        }
        self.status = HealthStatus::Unhealthy;
        Consequence::Unhealthy
    }

    /// The command of the next check and how long it may take.
    fn next<'a>(&self, check: &'a HealthCheck) -> (&'a [String], Duration) {
        match check.startup.as_ref().filter(|_| !self.startup_over) {
            Some(startup) => (&startup.test, startup.timeout),
            None => (&check.test, check.timeout),
        }
    }

    /// The time between checks; `None` = they are only made when asked for.
    fn interval(&self, check: &HealthCheck, starting: bool) -> Option<Duration> {
        let interval = match &check.startup {
            Some(startup) if !self.startup_over => startup.interval,
            _ if starting && self.status == HealthStatus::Starting && !check.start_interval.is_zero() => {
                check.start_interval
            }
            _ => check.interval,
        };
        (!interval.is_zero()).then_some(interval)
    }
}

impl Engine {
    /// What is known of a container's health; `None` = it has no check.
    pub(crate) fn health(&self, record: &ContainerRecord) -> Result<Option<HealthState>> {
        if record.settings.health_check.is_none() {
            return Ok(None);
        }
        files::read_json(&self.health_path(&record.id)).map(|state| Some(state.unwrap_or_default()))
    }

    fn health_path(&self, id: &str) -> PathBuf {
        self.state().directory(id).join("health.json")
    }

    /// Begins the book-keeping for a start; the log is kept.
    pub(crate) fn begin_health(&self, record: &ContainerRecord, started_nanos: i64) -> Result<()> {
        let Some(before) = self.health(record)? else { return Ok(()) };
        let state = HealthState { version: 1, started_nanos, log: before.log, ..HealthState::default() };
        files::write_json(&self.health_path(&record.id), &state, false)
    }
}

impl Containers<'_> {
    /// Checks a container's health now. For a single check this is what it finds; the status follows from several.
    pub fn check_health(&self, name: &str) -> Result<HealthStatus> {
        self.engine.spawner()?;
        let record = self.engine.state().find(name)?;
        if record.settings.health_check.is_none() {
            return Err(Error::invalid(
                format!("container {}", record.name),
                "it has no health check: give it one with --health-cmd, or its image with HEALTHCHECK",
            ));
        }
        let seen = self.engine.seen(&record.id)?;
        if seen.status != Status::Running {
            return Err(super::stop::not(&record, "check the health of", seen.status));
        }
        let (_, result) = self.look(&record)?;
        Ok(if result.exit_code == 0 { HealthStatus::Healthy } else { HealthStatus::Unhealthy })
    }

    /// The look that the monitor asks for: checks, says when to come again, and does what is to be done.
    pub(crate) fn check_health_in_time(&self, id: &str) -> Result<()> {
        let Some(record) = self.engine.state().read(id)? else { return Ok(()) };
        let Some(check) = &record.settings.health_check else { return Ok(()) };
        let consequence = match self.engine.seen(id)?.status {
            Status::Running => self.look(&record),
            // a frozen container is asked when it thaws
            Status::Paused => Ok((Consequence::Nothing, HealthResult::default())),
            _ => return Ok(()),
        };
        let state = self.engine.health(&record)?.unwrap_or_default();
        if let Some(interval) = state.interval(check, is_starting(check, &state)) {
            let next = self.engine.state().run_directory(id).join("health.next");
            files::write(&next, interval.as_millis().to_string().as_bytes(), 0o600, false)?;
        }
        let action = match consequence?.0 {
            Consequence::Nothing => OnFailure::None,
            Consequence::Unhealthy => check.on_failure,
            Consequence::NeverStarted => OnFailure::Restart,
        };
        match action {
            OnFailure::None => Ok(()),
            OnFailure::Kill => runtime::kill_all(&self.engine.state().run_directory(id))
                .map_err(|error| crate::error::runtime(format!("kill container {}", record.name), error)),
            OnFailure::Stop => self.stop_one(&record, None, None).map(drop),
            OnFailure::Restart => {
                use std::os::unix::process::CommandExt;
                // by a process that may leave the scope of the container, as this one's spawner cannot
                let task =
                    CleanupTask { restart_now: true, ..CleanupTask::new(self.engine, record.id, None) };
                let argv = task.argv()?;
                let (program, words) =
                    argv.split_first().ok_or_else(|| Error::invalid("restart", "no program"))?;
                Err(Error::os("run the restart", std::process::Command::new(program).args(words).exec()))
            }
        }
    }

    /// Checks once and writes the result down.
    fn look(&self, record: &ContainerRecord) -> Result<(Consequence, HealthResult)> {
        let engine = self.engine;
        let nothing = || Error::invalid(format!("container {}", record.name), "it has no health check");
        let check = record.settings.health_check.as_ref().ok_or_else(nothing)?;
        let path = engine.health_path(&record.id);
        let before = engine.health(record)?.unwrap_or_default();
        let (test, timeout) = before.next(check);
        let result = self.run_check(record, test, timeout, check.log.size)?;
        let lock = path.with_extension("lock");
        let _lock = sys::lock::exclusive(&lock)
            .map_err(|error| Error::os(format!("lock {}", lock.display()), error.source))?;
        let mut state = engine.health(record)?.unwrap_or_default();
        if state.started_nanos != before.started_nanos {
            // it was started anew meanwhile
            return Ok((Consequence::Nothing, result));
        }
        let starting = is_starting(check, &state);
        let consequence = state.take(check, result.clone(), starting);
        files::write_json(&path, &state, false)?;
        let mut event = Event {
            health_status: state.status.as_str().to_owned(),
            ..Event::container(record, "health_status")
        };
        match check.log.destination.as_str() {
            "" | "local" => {}
            "events_logger" => {
                event.attributes.insert("health_log".to_owned(), result.output.clone());
            }
            directory => {
                let file = PathBuf::from(directory).join(format!("{}-healthcheck.log", record.id));
                files::write_json(
                    &file,
                    &serde_json::json!({
                        "Status": state.status.as_str(), "FailingStreak": state.failing_streak, "Log": state.log,
                    }),
                    false,
                )?;
            }
        }
        engine.tell(event);
        if before.status != HealthStatus::Healthy && state.status == HealthStatus::Healthy {
            super::notify::healthy(engine, record);
        }
        Ok((consequence, result))
    }

    /// Runs the command of a check in the container. That it cannot be run is a result too.
    fn run_check(
        &self,
        record: &ContainerRecord,
        test: &[String],
        timeout: Duration,
        keep: u32,
    ) -> Result<HealthResult> {
        let args = match test {
            [first, line] if first == "CMD-SHELL" => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
            }
            [first, words @ ..] if first == "CMD" || first == "CMD-SHELL" => words.to_vec(),
            words => words.to_vec(),
        };
        let start = Instant::now();
        let (exit_code, output) = match self.run_quietly(record, args, timeout) {
            Ok(Some((code, output))) => (code, output),
            Ok(None) => (-1, format!("the check took longer than {}", seconds(timeout))),
            Err(error) if self.engine.is_running(&record.id)? => {
                let code = if error.kind() == crate::ErrorKind::CommandNotFound { 127 } else { 126 };
                (code, error.to_string())
            }
            Err(error) => return Err(error),
        };
        let output = match keep {
            0 => output,
            keep => output.chars().take(keep as usize).collect(),
        };
        Ok(HealthResult { start: start.rfc3339(), end: Instant::now().rfc3339(), exit_code, output })
    }

    /// Runs a command in a container to its end: exit code and output; `None` when it took too long.
    fn run_quietly(
        &self,
        record: &ContainerRecord,
        args: Vec<String>,
        timeout: Duration,
    ) -> Result<Option<(i32, String)>> {
        let engine = self.engine;
        let attempt = || format!("check the health of container {}", record.name);
        let run_dir = engine.state().run_directory(&record.id);
        let missing =
            || Error::NotFound { what: "runtime specification of container", name: record.name.clone() };
        let spec: oci_spec::runtime::Spec =
            files::read_json(&run_dir.join("config.json"))?.ok_or_else(missing)?;
        let options = ExecOptions { args, ..ExecOptions::default() };
        let process = exec_process(&spec, &options, engine.host()?)?;
        let session = names::random_id()?;
        let session_dir = run_dir.join("exec").join(&session);
        files::create_directory(&session_dir)?;
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (reader, writer) = pipe().map_err(|error| Error::os(attempt(), error))?;
        let second = writer.try_clone().map_err(|error| Error::os(attempt(), error))?;
        let mut exec = runtime::ExecRequest::new(session, &run_dir, &session_dir, &process);
        exec.seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        exec.bus = engine.groups()?.bus().cloned();
        exec.mode = LaunchMode::Tied;
        exec.stdout = OutputMode::Fd(writer);
        exec.stderr = OutputMode::Fd(second);
        let ended = (|| {
            let launched =
                engine.spawner()?.exec(exec).map_err(|error| crate::error::runtime(attempt(), error))?;
            let output = collect(reader);
            let deadline = std::time::Instant::now() + timeout;
            // letting go of it ends it
            let exit =
                launched.wait_until(deadline).map_err(|error| crate::error::runtime(attempt(), error))?;
            let Some(exit) = exit else { return Ok(None) };
            launched.finish();
            let output = output.recv_timeout(OUTPUT_PATIENCE).unwrap_or_default();
            Ok(Some((exit.code, String::from_utf8_lossy(&output).into_owned())))
        })();
        let _ = files::remove_tree(&session_dir);
        ended
    }
}

/// Reads on a thread of its own, so that a command which writes much is not held up.
fn collect(reader: OwnedFd) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut file = std::fs::File::from(reader);
        let mut kept = Vec::new();
        let _ = (&mut file).take(MAX_OUTPUT).read_to_end(&mut kept);
        let _ = sender.send(kept);
        // the rest is read and dropped
        let _ = std::io::copy(&mut file, &mut std::io::sink());
    });
    receiver
}

fn is_starting(check: &HealthCheck, state: &HealthState) -> bool {
    let since = Instant::now().0.saturating_sub(state.started_nanos);
    u128::try_from(since).is_ok_and(|since| since < check.start_period.as_nanos())
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{HealthRequest, StartupCheck};

    fn check() -> HealthCheck {
        let request = HealthRequest { command: Some("x".into()), ..HealthRequest::default() };
        request.merge(None).unwrap().unwrap()
    }

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { exit_code, ..HealthResult::default() }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_ends_that() {
        let (mut state, check) = (HealthState::default(), check());
        for _ in 0..2 {
            assert_eq!(state.take(&check, result(1), false), Consequence::Nothing);
            assert_eq!(state.status, HealthStatus::Starting);
        }
        assert_eq!(state.take(&check, result(1), false), Consequence::Unhealthy);
        assert_eq!((state.status, state.failing_streak), (HealthStatus::Unhealthy, 3));
        state.take(&check, result(0), false);
        assert_eq!((state.status, state.failing_streak), (HealthStatus::Healthy, 0));
        for _ in 0..9 {
            state.take(&check, result(0), false);
        }
        assert_eq!(state.log.len(), 5);
    }

    #[test]
    fn failures_while_it_starts_do_not_count() {
        let (mut state, check) = (HealthState::default(), check());
        for _ in 0..9 {
            assert_eq!(state.take(&check, result(1), true), Consequence::Nothing);
        }
        assert_eq!((state.status, state.failing_streak), (HealthStatus::Starting, 0));
        state.take(&check, result(0), true);
        state.take(&check, result(1), true);
        assert_eq!(state.failing_streak, 1, "after a success they do");
    }

    #[test]
    fn the_check_at_startup_comes_first() {
        let mut check = check();
        check.startup = Some(StartupCheck {
            test: vec!["CMD".into(), "first".into()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            retries: 2,
            successes: 2,
        });
        let mut state = HealthState::default();
        assert_eq!(state.next(&check).0[1], "first");
        assert_eq!(state.interval(&check, false), Some(Duration::from_secs(1)));
        state.take(&check, result(0), false);
        state.take(&check, result(0), false);
        assert_eq!(state.next(&check).0[1], "x");
        assert_eq!(state.status, HealthStatus::Starting);
        let mut state = HealthState::default();
        assert_eq!(state.take(&check, result(1), false), Consequence::Nothing);
        assert_eq!(state.take(&check, result(1), false), Consequence::NeverStarted);
    }
}
