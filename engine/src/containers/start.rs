//! `start`, `run`, `attach`: from a record to a process.

use super::session::{Pumped, Signals, pump, terminal_size};
use super::settings::{log_max_bytes, passes_streams_on};
use super::{Containers, Outcome, Ran, RunRequest, Selection, SessionEnd, Streams};
use crate::entry::CleanupTask;
use crate::images::TransferProgress;
use crate::options::{Namespace, Network};
use crate::sandbox::{Names, ResolverFiles, View, known_user_in, note_group};
use crate::spec::{self, NamespaceSource, Namespaces, SpecOptions};
use crate::state::{ContainerLock, ContainerRecord, files};
use crate::time::Instant;
use crate::{Engine, Error, Result};
use oci_spec::runtime::{BoxBuilder, Spec};
use runtime::attach::Client;
use runtime::{Launch, LaunchMode, Launched, LogConfig, OutputMode, Rootfs, StdinMode};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

impl Containers<'_> {
    /// Makes a container and starts it.
    pub fn run(&self, request: RunRequest, progress: TransferProgress<'_>) -> Result<Ran> {
        let RunRequest { create, attach } = request;
        self.engine.spawner()?;
        let (record, lock, mut warnings) = self.make(&create, true, progress)?;
        let result = self.start_locked(&record, lock, attach, &mut warnings);
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
        self.start_locked(&record, lock, None, &mut Vec::new()).map(drop)
    }

    /// Starts a container and joins its streams.
    pub fn start_attached(&self, name: &str, streams: Streams) -> Result<SessionEnd> {
        let record = self.engine.state().find(name)?;
        let (record, lock) = self.lock_stopped(&record)?;
        match lock {
            // it runs already: the streams are joined all the same
            None => self.attach(&record.id, streams),
            Some(lock) => {
                let end = self.start_locked(&record, lock, Some(streams), &mut Vec::new())?;
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

    fn start_locked(
        &self,
        record: &ContainerRecord,
        lock: ContainerLock,
        attach: Option<Streams>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<SessionEnd>> {
        let tty = record.settings.tty;
        // before the process starts, so that no signal falls between
        let signals = attach.as_ref().map(|streams| Signals::install(streams, tty));
        let launched = match self.launch(record, attach.as_ref(), warnings) {
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
        let (Some(streams), Some(signals)) = (attach, signals) else {
            launched.release();
            return Ok(None);
        };
        if passes_streams_on(&record.settings) {
            let run_dir = self.engine.state().run_directory(&record.id);
            let exit = signals
                .while_relaying(&run_dir, || {}, || launched.wait())
                .map_err(|error| crate::error::runtime("wait for the container", error))?;
            self.cleanup(&record.id, false)?;
            launched.finish();
            return Ok(Some(SessionEnd::Exited(exit.code)));
        }
        let client = launched.attach.as_ref().ok_or_else(|| {
            Error::os("attach to the new container", std::io::Error::from(std::io::ErrorKind::NotConnected))
        })?;
        let run_dir = self.engine.state().run_directory(&record.id);
        match pump(client, &run_dir, &streams, tty, &signals)? {
            Pumped::Detached => {
                launched.release();
                Ok(Some(SessionEnd::Detached))
            }
            Pumped::Exited(_) | Pumped::Lost => {
                let exit = launched
                    .wait()
                    .map_err(|error| crate::error::runtime("wait for the container", error))?;
                // the monitor need not run the cleanup: it is done here, and in this process it costs nothing
                self.cleanup(&record.id, false)?;
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

    /// Starts the process; the caller holds the lock.
    fn launch(
        &self,
        record: &ContainerRecord,
        attach: Option<&Streams>,
        warnings: &mut Vec<String>,
    ) -> Result<Launched> {
        let engine = self.engine;
        let settings = &record.settings;
        self.release_run(record)?;
        // a start that fails must not read as the exit before it
        files::remove_file(&engine.state().directory(&record.id).join("exit.json"))?;
        let run_dir = engine.state().run_directory(&record.id);
        files::create_directory(&run_dir)?;
        let mounts = engine
            .store()?
            .snapshots()
            .mounts(&record.snapshot)
            .map_err(crate::error::storage(format!("find the file system of container {}", record.name)))?;
        let mut spec = self.spec(record, &mounts, &run_dir)?;
        warnings.extend(engine.unlimited(&settings.limits)?);
        if let (true, Some(streams)) = (settings.tty, attach)
            && let Some((rows, columns)) = terminal_size(streams)
            && let Some(process) = spec.process_mut()
        {
            let size = BoxBuilder::default().height(u64::from(rows)).width(u64::from(columns)).build();
            process.set_console_size(size.ok());
        }
        files::write_json(&run_dir.join("config.json"), &spec, false)?;

        let mut launch = Launch::new(record.id.clone(), &run_dir, &spec, Rootfs::Mounts(mounts));
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
        launch.cgroup = engine.cgroup_setup(&spec)?;
        note_group(&run_dir, &launch.cgroup)?;
        launch.cleanup_argv = CleanupTask::new(engine, record.id.clone(), None).argv()?;
        launch.mode = LaunchMode::Detached;
        launch.runtime = record.runtime.clone();
        let started = Instant::now();
        let launched = engine
            .spawner()?
            .launch(launch)
            .map_err(|error| crate::error::runtime(format!("start container {}", record.name), error))?;
        engine.note_start(&record.id, |start| {
            start.started_nanos = started.0;
            start.error.clear();
            start.stopped_by_user = false;
        })?;
        Ok(launched)
    }

    fn spec(&self, record: &ContainerRecord, mounts: &[sys::mount::Mount], run_dir: &Path) -> Result<Spec> {
        let engine = self.engine;
        let settings = &record.settings;
        let view = View::of_mounts(mounts)?;
        let name = settings.user.as_deref().unwrap_or_default();
        let (user, mut user_files) = known_user_in(&view, name, &settings.groups, run_dir)?;
        drop(view);
        let namespaces = Namespaces {
            pid: engine.namespace_source(&settings.pid, "pid")?,
            ipc: engine.namespace_source(&settings.ipc, "ipc")?,
            uts: engine.namespace_source(&settings.uts, "uts")?,
            network: match settings.network {
                Network::Host => NamespaceSource::Host,
                Network::None | Network::Default => NamespaceSource::New,
            },
            cgroup: match &settings.cgroupns {
                Namespace::Private => None,
                other => Some(engine.namespace_source(other, "cgroup")?),
            },
            user: None,
        };
        let names = Names {
            hostname: match (&settings.hostname, settings.network) {
                (Some(name), _) => Some(name.clone()),
                (None, Network::Host) => None,
                (None, _) => Some(record.id[..12].to_owned()),
            },
            aliases: vec![record.name.clone()],
            add_hosts: settings.add_hosts.clone(),
            resolver: ResolverFiles {
                servers: settings.dns.clone(),
                search: settings.dns_search.clone(),
                options: settings.dns_options.clone(),
            },
            host_network: settings.network == Network::Host,
            no_hosts: settings.no_hosts,
            no_hostname: settings.no_hostname,
            containerenv: Some(if settings.privileged {
                containerenv(engine, record)
            } else {
                String::new()
            }),
        };
        let size = settings.shm_size.map(|size| {
            u64::try_from(size).map_err(|_| Error::invalid(format!("shm-size {size}"), "it is below 0"))
        });
        let options = SpecOptions {
            id: record.id.clone(),
            rootfs: PathBuf::from("/"),
            args: record.argv(),
            env: settings.env.clone(),
            unset_env: settings.unset_env.clone(),
            unset_env_all: settings.unset_env_all,
            cwd: settings.workdir.as_ref().map(PathBuf::from),
            user,
            terminal: settings.tty,
            hostname: settings.hostname.clone(),
            namespaces,
            mounts: settings.mounts.clone(),
            files: {
                user_files.extend(names.write(run_dir)?);
                user_files
            },
            shm_size_bytes: size.transpose()?,
            read_only: settings.read_only,
            read_only_tmpfs: settings.read_only_tmpfs,
            privileged: settings.privileged,
            cap_add: settings.cap_add.clone(),
            cap_drop: settings.cap_drop.clone(),
            security: settings.security.clone(),
            seccomp_profile: engine.seccomp_profile(&settings.security)?,
            limits: settings.limits.clone(),
            ulimits: settings.ulimits.clone(),
            devices: settings.devices.clone(),
            sysctls: settings.sysctls.clone(),
            umask: settings.umask,
            oom_score_adj: settings.oom_score_adj,
            cgroup_path: Some(engine.cgroup_path(settings.cgroup_parent.as_deref(), &record.id)?),
            annotations: settings.annotations.clone(),
            ..SpecOptions::default()
        };
        Ok(spec::build(&options, engine.host()?)?.spec)
    }
}

/// The text by which programs see that they run in a container, with Podman's keys. A container that is not privileged
/// is told only that it is one.
fn containerenv(engine: &Engine, record: &ContainerRecord) -> String {
    format!(
        "engine=\"davit-{}\"\nname=\"{}\"\nid=\"{}\"\nimage=\"{}\"\nimageid=\"{}\"\nrootless={}\n",
        env!("CARGO_PKG_VERSION"),
        record.name,
        record.id,
        record.image_name,
        record.image_id,
        u8::from(engine.config().identity.rootless),
    )
}
