//! `start`, `run`, `attach`: from a record to a process.

use super::session::{Pumped, Signals, pump, terminal_size};
use super::settings::{log_max_bytes, passes_streams_on};
use super::{Containers, Outcome, Ran, RunRequest, Selection, SessionEnd, Streams};
use crate::entry::CleanupTask;
use crate::images::TransferProgress;
use crate::options::CgroupsMode;
use crate::sandbox::{View, note_group};
use crate::state::{ContainerLock, ContainerRecord, files};
use crate::time::Instant;
use crate::{Error, Result};
use oci_spec::runtime::BoxBuilder;
use runtime::attach::Client;
use runtime::{CgroupSetup, Launch, LaunchMode, Launched, LogConfig, OutputMode, Rootfs, StdinMode};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How a container is started.
#[derive(Debug, Default)]
struct Start {
    /// `None` = in the background.
    attach: Option<Streams>,
    /// Further descriptors for the program.
    preserved: Vec<OwnedFd>,
}

impl Containers<'_> {
    /// Makes a container and starts it.
    pub fn run(&self, request: RunRequest, progress: TransferProgress<'_>) -> Result<Ran> {
        let RunRequest { create, attach, preserved } = request;
        self.engine.spawner()?;
        let (record, lock, mut warnings) = self.make(&create, true, progress)?;
        let result = self.begin(&record, lock, Start { attach, preserved }, &mut warnings);
        let container = super::Created { id: record.id.clone(), name: record.name.clone(), warnings };
        match result {
            Ok(end) => Ok(Ran { container, end }),
            Err(error) => {
                if record.settings.auto_remove {
                    let _ = self.remove_one(&record, true, Some(0));
                }
                Err(error)
            }
        }
    }

    /// Starts containers in the background.
    pub fn start(&self, selection: &Selection) -> Result<Vec<Outcome>> {
        self.engine.spawner()?;
        self.each(selection, |record| {
            if self.engine.is_running(&record.id)? {
                return Ok(false);
            }
            self.start_detached(record)?;
            Ok(true)
        })
    }

    pub(super) fn start_detached(&self, record: &ContainerRecord) -> Result<()> {
        let (record, lock) = self.lock_stopped(record)?;
        let Some(lock) = lock else { return Ok(()) };
        self.begin(&record, lock, Start::default(), &mut Vec::new()).map(drop)
    }

    /// Starts a container and joins its streams.
    pub fn start_attached(&self, name: &str, streams: Streams) -> Result<SessionEnd> {
        let record = self.engine.state().find(name)?;
        let (record, lock) = self.lock_stopped(&record)?;
        match lock {
            // it runs already: the streams are joined all the same
            None => self.attach(&record.id, streams),
            Some(lock) => {
                let start = Start { attach: Some(streams), ..Start::default() };
                let end = self.begin(&record, lock, start, &mut Vec::new())?;
                Ok(end.unwrap_or(SessionEnd::Detached))
            }
        }
    }

    /// The lock of a container that does not run, and its record read under the lock; no lock when it runs.
    fn lock_stopped(&self, record: &ContainerRecord) -> Result<(ContainerRecord, Option<ContainerLock>)> {
        let state = self.engine.state();
        let missing = || Error::NotFound { what: "container", name: record.name.clone() };
        let lock = state.lock(&record.id)?.ok_or_else(missing)?;
        let record = state.read(&record.id)?.ok_or_else(missing)?;
        if self.engine.is_running(&record.id)? { Ok((record, None)) } else { Ok((record, Some(lock))) }
    }

    /// Starts a container because the user says so, and follows its restart policy while it is attached.
    fn begin(
        &self,
        record: &ContainerRecord,
        lock: ContainerLock,
        start: Start,
        warnings: &mut Vec<String>,
    ) -> Result<Option<SessionEnd>> {
        for id in &record.settings.requires {
            let required = self.engine.state().find(id)?;
            if !self.engine.is_running(&required.id)? {
                self.start_detached(&required)?;
            }
        }
        self.engine.note_start(&record.id, |start| {
            (start.since_start, start.in_a_row, start.stopped_by_user) = (0, 0, false);
        })?;
        let Start { attach, preserved } = start;
        let mut end = self.start_locked(record, lock, attach.as_ref(), preserved, warnings)?;
        while matches!(end, Some(SessionEnd::Exited(_) | SessionEnd::OutOfMemory { .. }))
            && let Some((record, lock)) = self.next_start(&record.id)?
        {
            end = self.start_locked(&record, lock, attach.as_ref(), Vec::new(), warnings)?;
        }
        Ok(end)
    }

    pub(super) fn start_locked(
        &self,
        record: &ContainerRecord,
        lock: ContainerLock,
        attach: Option<&Streams>,
        preserved: Vec<OwnedFd>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<SessionEnd>> {
        let tty = record.settings.tty;
        // before the process starts, so that no signal falls between
        let signals = attach.map(|streams| Signals::install(streams, tty));
        let launched = match self.launch(record, attach, preserved, warnings) {
            Ok(launched) => launched,
            Err(error) => {
                let text = error.to_string();
                let _ = self.engine.note_start(&record.id, |start| start.error = text);
                let _ = self.release_run(record);
                return Err(error);
            }
        };
        drop(lock);
        self.engine.tell_container(record, "init");
        self.engine.tell_container(record, "start");
        if attach.is_some() {
            self.engine.tell_container(record, "attach");
        }
        if let Some(pidfile) = &record.settings.pidfile {
            files::write(pidfile, launched.init_pid.to_string().as_bytes(), 0o644, false)?;
        }
        if let Some(pidfile) = &record.settings.conmon_pidfile {
            files::write(pidfile, launched.monitor_pid.to_string().as_bytes(), 0o644, false)?;
        }
        super::notify::started(self.engine, record, launched.monitor_pid)?;
        let (Some(streams), Some(signals)) = (attach, signals) else {
            launched.release();
            return Ok(None);
        };
        if passes_streams_on(&record.settings) {
            let run_dir = self.engine.state().run_directory(&record.id);
            let exit = signals
                .while_relaying(&run_dir, || {}, || launched.wait())
                .map_err(|error| crate::error::runtime("wait for the container", error))?;
            self.cleanup(&record.id, false, false)?;
            launched.finish();
            return Ok(Some(SessionEnd::of(&exit)));
        }
        let client = launched.attach.as_ref().ok_or_else(|| {
            Error::os("attach to the new container", std::io::Error::from(std::io::ErrorKind::NotConnected))
        })?;
        let run_dir = self.engine.state().run_directory(&record.id);
        match pump(client, &run_dir, streams, tty, &signals)? {
            Pumped::Detached => {
                launched.release();
                Ok(Some(SessionEnd::Detached))
            }
            Pumped::Exited(_) | Pumped::Lost => {
                let exit = launched
                    .wait()
                    .map_err(|error| crate::error::runtime("wait for the container", error))?;
                // the monitor need not run the cleanup: it is done here, and in this process it costs nothing
                self.cleanup(&record.id, false, false)?;
                launched.finish();
                Ok(Some(SessionEnd::of(&exit)))
            }
        }
    }

    /// Joins the streams of a running container.
    pub fn attach(&self, name: &str, streams: Streams) -> Result<SessionEnd> {
        let record = self.engine.state().find(name)?;
        let seen = self.engine.seen(&record.id)?;
        if !seen.is_running() {
            return Err(super::stop::not(&record, "attach to", seen.status));
        }
        if passes_streams_on(&record.settings) {
            return Err(Error::unsupported(
                format!("attaching to {name}"),
                "it has the streams of whoever started it (log driver passthrough)",
            ));
        }
        let tty = record.settings.tty;
        let run_dir = self.engine.state().run_directory(&record.id);
        let client = Client::connect(&run_dir)
            .map_err(|error| crate::error::runtime(format!("attach to {name}"), error))?;
        let streams = Streams { stdin: streams.stdin.filter(|_| record.settings.interactive), ..streams };
        let signals = Signals::install(&streams, tty);
        self.engine.tell_container(&record, "attach");
        match pump(&client, &run_dir, &streams, tty, &signals)? {
            Pumped::Lost => {
                self.wait_for_end(&record.id, None)?;
                Ok(SessionEnd::Exited(self.engine.seen(&record.id)?.exit_code()))
            }
            pumped => pumped.end(&run_dir),
        }
    }

    /// The root file system of a container, and a look into it.
    fn rootfs(&self, record: &ContainerRecord) -> Result<(View, Rootfs)> {
        let own = || self.engine.own_mounts(record);
        Ok(match &record.settings.rootfs {
            None => {
                let mounts = own()?;
                let shown = matches!(mounts.as_slice(), [sys::mount::Mount { filesystem: sys::mount::Filesystem::Bind { source, .. }, .. }] if crate::mounting::is_mounted(source));
                if shown && record.settings.maps.is_some() && !record.settings.owners_shifted {
                    return Err(Error::State {
                        attempt: "start",
                        what: "container",
                        name: record.name.clone(),
                        state: "mounted without the owners of its user namespace; unmount it first"
                            .to_owned(),
                    });
                }
                (View::of_mounts(&mounts)?, Rootfs::Mounts(mounts))
            }
            Some(directory) => {
                let mounts = match directory.overlay {
                    true => super::rootfs::over(&directory.path, &own()?)?,
                    false => vec![sys::mount::Mount::bind_recursive(&directory.path)],
                };
                (
                    View::of_mounts(&mounts)?,
                    match directory.overlay {
                        true => Rootfs::Mounts(mounts),
                        false => Rootfs::Path(directory.path.clone()),
                    },
                )
            }
        })
    }

    /// Starts the process; the caller holds the lock.
    fn launch(
        &self,
        record: &ContainerRecord,
        attach: Option<&Streams>,
        preserved: Vec<OwnedFd>,
        warnings: &mut Vec<String>,
    ) -> Result<Launched> {
        let engine = self.engine;
        let settings = &record.settings;
        self.release_run(record)?;
        // a start that fails must not read as the exit before it
        files::remove_file(&engine.state().directory(&record.id).join("exit.json"))?;
        let run_dir = engine.state().run_directory(&record.id);
        files::create_directory(&run_dir)?;
        let (view, rootfs) = self.rootfs(record)?;
        let notify = super::notify::Relay::open(engine, record, &run_dir)?;
        let mut kept = Vec::new();
        let relay = notify.as_ref().map(|relay| relay.directory.as_path());
        let mut spec = self.spec(record, view, &run_dir, relay, &mut kept)?;
        warnings.extend(engine.unlimited(&settings.limits)?);
        if let (true, Some(streams)) = (settings.tty, attach)
            && let Some((rows, columns)) = terminal_size(streams)
            && let Some(process) = spec.process_mut()
        {
            let size = BoxBuilder::default().height(u64::from(rows)).width(u64::from(columns)).build();
            process.set_console_size(size.ok());
        }
        files::write_json(&run_dir.join("config.json"), &spec, false)?;

        let mut launch = Launch::new(record.id.clone(), &run_dir, &spec, rootfs);
        launch.map_owners = settings.maps.is_some()
            && !settings.owners_shifted
            && settings.rootfs.as_ref().is_none_or(|rootfs| rootfs.overlay || rootfs.id_mapped);
        launch.init = settings.init && settings.init_path.is_none();
        launch.timeout = (settings.timeout > 0).then(|| Duration::from_secs(settings.timeout.into()));
        launch.preserved = preserved;
        launch.notify = notify.map(|relay| (relay.socket, relay.manager));
        launch.mtab = true;
        launch.stdin = match (settings.interactive, attach) {
            (false, _) => StdinMode::Null,
            // input ends with the client that brought it, but not where a terminal may be joined again
            (true, Some(_)) => StdinMode::Attach { keep_open: settings.tty },
            (true, None) => StdinMode::Attach { keep_open: true },
        };
        launch.stdout = OutputMode::Captured;
        launch.stderr = OutputMode::Captured;
        launch.attach = attach.is_some();
        if passes_streams_on(settings) {
            let own = |fd: std::os::fd::BorrowedFd<'_>| {
                fd.try_clone_to_owned().map_err(|error| Error::os("duplicate the standard streams", error))
            };
            if settings.interactive {
                launch.stdin = StdinMode::Fd(own(std::io::stdin().as_fd())?);
            }
            launch.stdout = OutputMode::Fd(own(std::io::stdout().as_fd())?);
            launch.stderr = OutputMode::Fd(own(std::io::stderr().as_fd())?);
            launch.attach = false;
        } else if settings.log_driver.as_deref() != Some("none") {
            launch.log =
                Some(LogConfig { path: engine.log_path(record), max_bytes: log_max_bytes(settings)? });
        }
        launch.cgroup = match settings.cgroups {
            CgroupsMode::Disabled => CgroupSetup::None,
            _ => engine.cgroup_setup(&spec)?,
        };
        note_group(&run_dir, &launch.cgroup)?;
        let task = CleanupTask {
            // `update` may give it a policy while it runs
            restarts: !settings.auto_remove,
            ..CleanupTask::new(engine, record.id.clone(), None)
        };
        launch.cleanup_argv = task.argv()?;
        let begun = Instant::now();
        if let Some(check) = &settings.health_check {
            engine.begin_health(record, begun.0)?;
            if !check.interval.is_zero() || check.startup.is_some() {
                launch.health_argv = CleanupTask { health: true, restarts: false, ..task }.argv()?;
            }
        }
        launch.mode = LaunchMode::Detached;
        launch.runtime = record.runtime.clone();
        let started = begun;
        let launched = engine
            .spawner()?
            .launch(launch)
            .map_err(|error| crate::error::runtime(format!("start container {}", record.name), error))?;
        engine.note_start(&record.id, |start| {
            start.started_nanos = started.0;
            start.error.clear();
        })?;
        Ok(launched)
    }
}
