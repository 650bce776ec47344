//! `exec`: a further process in a running container.

use super::session::{Signals, pump, terminal_size};
use super::{Containers, ExecRequest, Executed, SessionEnd};
use crate::entry::CleanupTask;
use crate::events::Event;
use crate::sandbox::{View, user_in};
use crate::spec::{ExecOptions, exec_process};
use crate::state::{files, names};
use crate::{Error, Result};
use oci_spec::runtime::{BoxBuilder, Spec};
use runtime::{LaunchMode, OutputMode, StdinMode};
use std::path::PathBuf;
use std::time::Duration;

impl Containers<'_> {
    /// Runs a command in a running container.
    pub fn exec(&self, request: ExecRequest) -> Result<Executed> {
        let engine = self.engine;
        let record = engine.state().find(&request.container)?;
        let seen = self.seen_running(&record.id, request.wait)?;
        if seen.status != super::Status::Running {
            return Err(super::stop::not(&record, "exec in", seen.status));
        }
        if request.command.is_empty() {
            return Err(Error::invalid("exec", "no command"));
        }
        let run_dir = engine.state().run_directory(&record.id);
        let spec: Spec = files::read_json(&run_dir.join("config.json"))?.ok_or_else(|| Error::NotFound {
            what: "runtime specification of container",
            name: record.name.clone(),
        })?;
        let user = match request.user.as_deref().filter(|user| !user.is_empty()) {
            Some(user) => Some(user_in(&View::of_process(seen.pid())?, user, &[])?),
            None => None,
        };
        let options = ExecOptions {
            args: request.command.clone(),
            env: request.env.clone(),
            cwd: request.workdir.as_ref().map(|workdir| PathBuf::from("/").join(workdir)),
            user,
            terminal: request.tty,
            privileged: request.privileged,
        };
        let mut process = exec_process(&spec, &options, engine.host()?)?;
        if let (true, Some(streams)) = (request.tty, &request.attach)
            && let Some((rows, columns)) = terminal_size(streams)
        {
            let size = BoxBuilder::default().height(u64::from(rows)).width(u64::from(columns)).build();
            process.set_console_size(size.ok());
        }
        let session = names::random_id()?;
        let session_dir = run_dir.join("exec").join(&session);
        files::create_directory(&session_dir)?;
        let seccomp = if request.privileged {
            None
        } else {
            spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref())
        };
        let mut exec = runtime::ExecRequest::new(session.clone(), &run_dir, &session_dir, &process);
        exec.seccomp = seccomp;
        exec.bus = engine.groups()?.bus().cloned();
        exec.mode = LaunchMode::Detached;
        exec.preserved = request.preserved;
        let told = |status, exit_code| {
            let mut event = Event { exit_code, ..Event::container(&record, status) };
            event.attributes.insert("execID".to_owned(), session.clone());
            engine.tell(event);
        };
        let attempt = || format!("run {} in container {}", request.command[0], record.name);
        let failed = |error| {
            let _ = files::remove_tree(&session_dir);
            crate::error::runtime(attempt(), error)
        };
        let Some(streams) = request.attach else {
            exec.stdout = OutputMode::Null;
            exec.stderr = OutputMode::Null;
            exec.cleanup_argv = CleanupTask::new(engine, record.id.clone(), Some(session.clone())).argv()?;
            let launched = engine.spawner()?.exec(exec).map_err(failed)?;
            told("exec", None);
            launched.release();
            return Ok(Executed { session, end: None });
        };
        let signals = Signals::install(&streams, request.tty);
        if request.tty {
            exec.stdin =
                if streams.stdin.is_some() { StdinMode::Attach { keep_open: true } } else { StdinMode::Null };
            exec.attach = true;
            // a session that is left by its keys ends without us
            exec.cleanup_argv = CleanupTask::new(engine, record.id.clone(), Some(session.clone())).argv()?;
            let launched = engine.spawner()?.exec(exec).map_err(failed)?;
            told("exec", None);
            let client = launched.attach.as_ref().ok_or_else(|| {
                Error::os("attach to the new process", std::io::Error::from(std::io::ErrorKind::NotConnected))
            })?;
            let end = pump(client, &session_dir, &streams, true, &signals)?.end(&session_dir)?;
            match end {
                SessionEnd::Detached => launched.release(),
                SessionEnd::Exited(code) | SessionEnd::OutOfMemory { code, .. } => {
                    launched.finish();
                    files::remove_tree(&session_dir)?;
                    told("exec_died", Some(code));
                }
            }
            return Ok(Executed { session, end: Some(end) });
        }
        // without a terminal the process gets the caller's own streams
        exec.stdin = streams.stdin.map_or(StdinMode::Null, StdinMode::Fd);
        exec.stdout = streams.stdout.map_or(OutputMode::Null, OutputMode::Fd);
        exec.stderr = streams.stderr.map_or(OutputMode::Null, OutputMode::Fd);
        let launched = engine.spawner()?.exec(exec).map_err(failed)?;
        told("exec", None);
        let exit = signals
            .while_relaying(&session_dir, || {}, || launched.wait())
            .map_err(|error| crate::error::runtime(attempt(), error))?;
        launched.finish();
        files::remove_tree(&session_dir)?;
        told("exec_died", Some(exit.code));
        Ok(Executed { session, end: Some(SessionEnd::of(&exit)) })
    }

    /// What a container is doing, as soon as it runs, or when `wait` is over.
    fn seen_running(&self, id: &str, wait: Option<Duration>) -> Result<super::status::Seen> {
        const PAUSE: Duration = Duration::from_millis(20);
        let until = std::time::Instant::now() + wait.unwrap_or_default();
        loop {
            let seen = self.engine.seen(id)?;
            if seen.status == super::Status::Running || std::time::Instant::now() >= until {
                return Ok(seen);
            }
            // its run directory, which could be watched, is not there yet
            std::thread::sleep(PAUSE);
        }
    }

    /// As the session's monitor does: tells how an exec session that has ended did so, and removes what it left.
    pub fn end_exec_of(&self, name: &str, session: &str) -> Result<()> {
        let id = self.engine.state().find(name)?.id;
        let missing = || Error::NotFound { what: "exec session", name: session.to_owned() };
        if !names::is_id(session) {
            return Err(missing());
        }
        let directory = self.engine.state().run_directory(&id).join("exec").join(session);
        let run = runtime::state(&directory).map_err(|error| {
            crate::error::runtime(format!("read the state of exec session {session}"), error)
        })?;
        match (directory.is_dir(), run.exit) {
            (false, _) => Err(missing()),
            (true, Some(_)) => self.end_exec(&id, session),
            (true, None) => Err(Error::State {
                attempt: "clean up",
                what: "exec session",
                name: session.to_owned(),
                state: "running".to_owned(),
            }),
        }
    }

    /// Tells how an exec session ended and removes what it left; called by its monitor when nobody waits for it.
    pub(crate) fn end_exec(&self, id: &str, session: &str) -> Result<()> {
        let Some(record) = self.engine.state().read(id)? else { return Ok(()) };
        let session_dir = self.engine.state().run_directory(id).join("exec").join(session);
        let run = runtime::state(&session_dir).map_err(|error| {
            crate::error::runtime(format!("read the state of exec session {session}"), error)
        })?;
        if let Some(exit) = run.exit {
            let mut event = Event { exit_code: Some(exit.code), ..Event::container(&record, "exec_died") };
            event.attributes.insert("execID".to_owned(), session.to_owned());
            self.engine.tell(event);
        }
        files::remove_tree(&session_dir)
    }
}
