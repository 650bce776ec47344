//! Build steps: the builder's `Executor`.
//!
//! ```text
//! RUNROOT/steps/ID/         locked (flock) by the build; pid.json, exit.json, hosts, resolv.conf
//!                 mount-N/  snapshots that the step sees besides its root file system
//!                 bytes-N   secrets
//! ```
//! A step dies with its build. What a killed build leaves here, mounts too, goes when the next build begins.

use super::view::lasting;
use super::{Names, View, ensure_directory, note_group, release, user_in};
use crate::options::{self, Limits, MountKind, Network, Security, Ulimit};
use crate::spec::{self, NamespaceSource, Namespaces, SpecOptions};
use crate::state::files;
use crate::{Engine, Error, Result};
use builder::ports::{
    Cancel, Executor, NetworkMode, PortError, StepExit, StepIo, StepMount, StepMountSource, StepSpec,
};
use runtime::{Launch, LaunchMode, OutputMode, Rootfs, StdinMode};
use rustix::fs::OFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What holds for all steps of a build.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepSettings {
    pub(crate) network: Network,
    pub(crate) mounts: Vec<options::Mount>,
    pub(crate) names: Names,
    pub(crate) limits: Limits,
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) cap_add: Vec<String>,
    pub(crate) cap_drop: Vec<String>,
    pub(crate) security: Security,
    pub(crate) shm_size: Option<u64>,
    /// Whether a failed step is left to a shell on this process's streams (`--on-fail=shell`).
    pub(crate) on_fail_shell: bool,
    /// Counts the new sizes of the caller's terminal.
    pub(crate) resized: Option<Arc<OwnedFd>>,
    pub(crate) devices: Vec<options::Device>,
    /// Further groups of the steps' users.
    pub(crate) groups: Vec<String>,
    pub(crate) cgroup_parent: Option<String>,
}

/// Runs the steps of one build.
#[derive(Debug)]
pub(crate) struct StepExecutor<'a> {
    pub(super) engine: &'a Engine,
    pub(super) settings: StepSettings,
    seccomp: Option<Vec<u8>>,
}

impl<'a> StepExecutor<'a> {
    pub(crate) fn new(engine: &'a Engine, settings: StepSettings) -> Result<Self> {
        let seccomp = engine.seccomp_profile(&settings.security)?;
        reap(&engine.config().run_steps())?;
        Ok(Self { engine, settings, seccomp })
    }

    fn run_step(&self, mut step: StepSpec, io: StepIo<'_>) -> Result<StepExit> {
        if self.settings.on_fail_shell {
            step.rootfs = lasting(&step.rootfs);
        }
        let workspace = Workspace::new(&self.engine.config().run_steps(), &step.id)?;
        let spec = self.spec(&step, &workspace)?;
        let run_dir = workspace.directory.clone();
        let mut launch = Launch::new(step.id.clone(), &run_dir, &spec, Rootfs::Mounts(step.rootfs.clone()));
        launch.stdin = StdinMode::Null;
        let complaint =
            io.stderr.try_clone().map_err(|error| Error::os("duplicate the step's output", error))?;
        launch.stdout = OutputMode::Fd(io.stdout);
        launch.stderr = OutputMode::Fd(io.stderr);
        launch.cgroup = self.engine.cgroup_setup(&spec)?;
        note_group(&run_dir, &launch.cgroup)?;
        launch.mode = LaunchMode::Tied;
        launch.runtime = self.engine.config().runtime.clone();
        if io.cancel.is_cancelled() {
            return Ok(StepExit { code: 137, signal: Some(9), oom_killed: false, ..StepExit::default() });
        }
        let launched = match self.engine.spawner()?.launch(launch) {
            Ok(launched) => launched,
            Err(error) => {
                // as a shell would: a command that cannot be run is a failing step, not a failing engine
                let (code, text) = match &error {
                    runtime::Error::CommandNotFound { .. } => (127, error.to_string()),
                    runtime::Error::CommandNotRunnable { .. } => (126, error.to_string()),
                    _ => return Err(crate::error::runtime("start the step", error)),
                };
                let _ = rustix::io::write(&complaint, format!("{text}\n").as_bytes());
                return Ok(StepExit { code, signal: None, oom_killed: false, ..StepExit::default() });
            }
        };
        // the builder reads until the last copy is closed
        drop(complaint);
        let exit = wait_or_cancel(&run_dir, io.cancel, || launched.wait())
            .map_err(|error| crate::error::runtime("wait for the step", error))?;
        let released = release(&run_dir);
        launched.finish();
        released?;
        let mut exit = step_exit(&exit);
        exit.disk_full = !exit.success() && is_full(&self.engine.config().root);
        Ok(exit)
    }

    /// What devices of these names bring.
    fn described(&self, names: &[String]) -> Result<crate::cdi::Edits> {
        if names.is_empty() {
            return Ok(crate::cdi::Edits::default());
        }
        crate::cdi::edits(&self.engine.config().cdi_dirs, names)?.without_hooks(&names.join(", "))
    }

    pub(super) fn spec(&self, step: &StepSpec, workspace: &Workspace) -> Result<oci_spec::runtime::Spec> {
        let view = View::of_mounts(&step.rootfs)?;
        let (paths, names): (Vec<_>, Vec<_>) = step.devices.iter().partition(|name| name.starts_with('/'));
        let described = self.described(&names.into_iter().cloned().collect::<Vec<_>>())?;
        let mut user = user_in(&view, &step.user, &self.settings.groups)?;
        user.additional_gids.extend(described.groups.iter().copied());
        let cwd = if step.cwd.is_empty() { "/" } else { step.cwd.as_str() };
        ensure_directory(view, &step.rootfs, Path::new(cwd), (user.uid, user.gid))?;
        let network = match (step.network, &self.settings.network) {
            (NetworkMode::None, _) | (NetworkMode::Default, Network::None) => NamespaceSource::New,
            _ => NamespaceSource::Host,
        };
        let mut names = self.settings.names.clone();
        names.hostname = step.hostname.clone();
        names.host_network = network == NamespaceSource::Host;
        let mut mounts = self.settings.mounts.clone();
        crate::cdi::mounts_over(&mut mounts, &described);
        for (number, mount) in step.mounts.iter().enumerate() {
            mounts.push(workspace.mount(number, mount)?);
        }
        let mut devices = self.settings.devices.clone();
        for device in paths {
            devices.push(options::Device::parse(device)?);
        }
        devices.extend(described.devices.iter().cloned());
        let options = SpecOptions {
            id: step.id.clone(),
            rootfs: PathBuf::from("/"),
            args: step.argv.clone(),
            image_env: described.environment(&step.env),
            cwd: Some(PathBuf::from(cwd)),
            user,
            hostname: step.hostname.clone(),
            namespaces: Namespaces { network, ..Namespaces::default() },
            mounts,
            files: names.write(&workspace.directory)?,
            shm_size_bytes: self.settings.shm_size,
            privileged: step.insecure,
            devices,
            cap_add: self.settings.cap_add.clone(),
            cap_drop: self.settings.cap_drop.clone(),
            security: self.settings.security.clone(),
            seccomp_profile: self.seccomp.clone(),
            limits: self.settings.limits.clone(),
            cgroup_path: Some(self.engine.cgroup_path(self.settings.cgroup_parent.as_deref(), &step.id)?),
            ulimits: self.settings.ulimits.clone(),
            ..SpecOptions::default()
        };
        Ok(spec::build(&options, self.engine.host()?)?.spec)
    }
}

impl Executor for StepExecutor<'_> {
    fn run(&self, spec: StepSpec, io: StepIo<'_>) -> std::result::Result<StepExit, PortError> {
        self.run_step(spec, io).map_err(Into::into)
    }

    fn can_run(&self, platform: &oci::Platform) -> std::result::Result<(), PortError> {
        super::emulation::check(platform).map_err(Into::into)
    }

    fn described_device(&self, name: &str) -> std::result::Result<Option<Vec<String>>, PortError> {
        if !crate::cdi::is_name(name) {
            return Ok(None);
        }
        let found = crate::cdi::find(&self.engine.config().cdi_dirs, name)?;
        let found = found.map(|edits| edits.without_hooks(name)).transpose()?;
        let points = |edits: crate::cdi::Edits| {
            edits.mounts.iter().map(|mount| mount.destination.to_string_lossy().into_owned()).collect()
        };
        Ok(found.map(points))
    }

    fn repairs(&self) -> bool {
        self.settings.on_fail_shell
    }

    fn repair(&self, spec: StepSpec, cancel: &Cancel) -> std::result::Result<StepExit, PortError> {
        self.open_shell(&spec, cancel).map_err(Into::into)
    }
}

/// What the monitor recorded, as the builder wants it.
pub(super) fn step_exit(exit: &runtime::ExitRecord) -> StepExit {
    StepExit {
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        memory_limit: exit.memory_limit_bytes.filter(|_| exit.oom_killed),
        memory_peak: exit.memory_peak_bytes,
        disk_full: false,
    }
}

/// Whether the file system of `directory` has less space or fewer files left than any program can work with.
fn is_full(directory: &Path) -> bool {
    const LITTLE: u64 = 1 << 20;
    rustix::fs::statvfs(directory).is_ok_and(|system| {
        system.f_bavail.saturating_mul(system.f_frsize) < LITTLE
            || (system.f_files > 0 && system.f_favail == 0)
    })
}

/// Waits for a step; a thread kills it when the build is given up.
pub(super) fn wait_or_cancel<T>(run_dir: &Path, cancel: &Cancel, wait: impl FnOnce() -> T) -> T {
    use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
    let Ok(done) = eventfd(0, EventfdFlags::CLOEXEC) else { return wait() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let cancel = cancel.as_fd();
            loop {
                let mut fds =
                    [PollFd::from_borrowed_fd(cancel, PollFlags::IN), PollFd::new(&done, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return,
                    Ok(_) => {}
                }
                if !fds[1].revents().is_empty() {
                    return;
                }
                let _ = runtime::kill_all(run_dir);
                return;
            }
        });
        let result = wait();
        let _ = rustix::io::write(&done, &1_u64.to_ne_bytes());
        result
    })
}

/// The directory of one running step; removed with its mounts when dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) directory: PathBuf,
    _lock: rustix::fd::OwnedFd,
}

impl Workspace {
    pub(super) fn new(steps: &Path, id: &str) -> Result<Self> {
        files::create_directory(steps)?;
        let directory = steps.join(id);
        for _ in 0..100 {
            files::create_directory(&directory)?;
            if let Some(lock) = try_lock(&directory)? {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(Error::InUse { what: "step", name: id.to_owned(), by: "another build".to_owned() })
    }

    fn mount(&self, number: usize, mount: &StepMount) -> Result<options::Mount> {
        let destination = PathBuf::from(&mount.target);
        let mut words = vec![if mount.read_only { "ro" } else { "rw" }.to_owned()];
        words.extend(mount.options.iter().cloned());
        let bind = |source: PathBuf, mut words: Vec<String>| {
            let has = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
            let (bound, propagates) =
                (has(&["bind"]), has(&["private", "rprivate", "slave", "rslave", "shared", "rshared"]));
            words.extend((!bound).then(|| "rbind".to_owned()));
            words.extend((!propagates).then(|| "rprivate".to_owned()));
            options::Mount {
                destination: destination.clone(),
                kind: MountKind::Bind { source },
                options: words,
            }
        };
        Ok(match &mount.source {
            StepMountSource::Path(path) => bind(path.clone(), words),
            StepMountSource::Snapshot { mounts, subpath } => {
                let place = self.directory.join(format!("mount-{number}"));
                files::create_directory(&place)?;
                sys::mount::mount_all(mounts, &place).map_err(|error| {
                    Error::os(format!("mount a snapshot for {}", mount.target), std::io::Error::other(error))
                })?;
                bind(inside(&place, subpath)?, words)
            }
            StepMountSource::Tmpfs { size, mode, copy_up } => {
                for (word, opposite) in [("nosuid", "suid"), ("nodev", "dev")] {
                    if !mount.options.iter().any(|option| option == word || option == opposite) {
                        words.push(word.to_owned());
                    }
                }
                words.extend(size.map(|size| format!("size={size}")));
                words.extend(mode.map(|mode| format!("mode={mode:o}")));
                words.extend(copy_up.then(|| "tmpcopyup".to_owned()));
                options::Mount { destination, kind: MountKind::Tmpfs, options: words }
            }
            StepMountSource::Bytes { content, mode, uid, gid } => {
                let path = self.directory.join(format!("bytes-{number}"));
                write_secret(&path, content, *mode, *uid, *gid)
                    .map_err(|error| Error::os(format!("write the file for {}", mount.target), error))?;
                bind(path, words)
            }
        })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = clear(&self.directory);
    }
}

fn write_secret(path: &Path, content: &[u8], mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    fchown(&file, Some(uid), Some(gid))?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// The path of something in a mounted tree, resolved without leaving it.
fn inside(place: &Path, subpath: &str) -> Result<PathBuf> {
    if subpath.is_empty() {
        return Ok(place.to_owned());
    }
    let failed = |error: std::io::Error| Error::os(format!("find {subpath} in a snapshot"), error);
    let root = sys::beneath::open_root(place).map_err(failed)?;
    let found = sys::beneath::open_in_root(&root, Path::new(subpath), OFlags::PATH | OFlags::CLOEXEC, 0)
        .map_err(failed)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)
}

fn try_lock(directory: &Path) -> Result<Option<rustix::fd::OwnedFd>> {
    use rustix::fs::{FlockOperation, Mode, flock, fstat, open};
    let failed = |error: rustix::io::Errno| Error::os(format!("lock {}", directory.display()), error);
    let fd = match open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let linked = fstat(&fd).map_err(failed)?.st_nlink > 0;
    Ok(linked.then_some(fd))
}

/// Unmounts and removes a step's directory.
fn clear(directory: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("mount-") {
            // once for each mount of the stack
            while sys::mount::umount_detach(&entry.path()).is_ok() {}
            // never recursively: whatever is still mounted here belongs to the store
            std::fs::remove_dir(entry.path())
                .map_err(|error| Error::os(format!("remove {}", entry.path().display()), error))?;
        }
    }
    files::remove_tree(directory)
}

/// Clears away the steps of killed builds.
pub(crate) fn reap(steps: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(steps) else { return Ok(()) };
    for entry in entries.flatten() {
        let directory = entry.path();
        if let Some(_lock) = try_lock(&directory)? {
            // the control group of a step whose monitor was killed too
            let _ = runtime::kill_all(&directory);
            let _ = release(&directory);
            clear(&directory)?;
        }
    }
    Ok(())
}
