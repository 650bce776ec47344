//! The spawner: a single-threaded process, forked at the start of `main`, that forks all others.
//!
//! It keeps no state: for each request, which is a socket of its own passed over the main one, it forks a child that
//! becomes the monitor and serves the request, so that many launches proceed at once. It ends with its caller;
//! monitors outlive it unless the launch is tied.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType as Ns;
use sys::process::Fork;

use crate::attach;
use crate::blueprint::{self, Blueprint, Circumstances};
use crate::cgroup;
use crate::error::{Error, Result, Stage};
use crate::launch::{CgroupSetup, ExecRequest, Launch, LaunchMode, Launched, LogConfig};
use crate::monitor;
use crate::plan::{self, InitPlan, LogPlan, MonitorPlan, Stream};
use crate::planner::{self, Namespaces};
use crate::record;
use crate::wire::{self, At, Descriptors, Failure};

/// A handle on the spawner process; usable from many threads at once.
#[derive(Debug)]
pub struct Spawner {
    socket: OwnedFd,
}

impl Spawner {
    /// Forks the spawner. Must be called while the process has a single thread, which is checked.
    pub fn fork() -> Result<Self> {
        let failed = |source| Error::Spawner { source };
        let (ours, theirs) = sys::scm::packet_pair().map_err(failed)?;
        match sys::process::fork().map_err(failed)? {
            Fork::Parent { .. } => Ok(Self { socket: ours }),
            Fork::Child => {
                drop(ours);
                let code = std::panic::catch_unwind(AssertUnwindSafe(|| serve(theirs))).unwrap_or(70);
                sys::process::exit(code);
            }
        }
    }

    /// Starts a container; returns when its process has been executed.
    pub fn launch(&self, launch: Launch<'_>) -> Result<Launched> {
        let spec = launch.spec;
        if spec.hooks().as_ref().is_some_and(|hooks| *hooks != oci_spec::runtime::Hooks::default()) {
            return Err(Error::invalid("hooks are not supported"));
        }
        if launch.runtime.is_some() {
            return self.launch_foreign(launch);
        }
        let linux = spec.linux().as_ref();
        let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
        if seccomp.is_some_and(|seccomp| seccomp.listener_path().is_some()) {
            return Err(Error::invalid("linux.seccomp.listenerPath is not supported"));
        }
        let mut descriptors = with_place_for_plan()?;
        let namespaces = Namespaces::read(spec, &mut descriptors)?;
        let run_dir = prepare_directory(&launch.run_dir)?;
        // From here on a failure must remove the group again.
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let (mut group, socket) = self.group(&launch.cgroup, resources)?;
        let new_pid_namespace = namespaces.creates(Ns::Pid);
        let circumstances = Circumstances {
            id: &launch.id,
            bundle: launch.bundle.as_deref(),
            rootfs: &launch.rootfs,
            cgroup: group.paths(),
            namespaces,
            by_monitor: Some(planner::ByMonitor { map_owners: launch.map_owners, ..Default::default() }),
        };
        let Blueprint { birth, mut init, program } = blueprint::draw(spec, circumstances, &mut descriptors)?;
        if let Some(rootfs) = &mut init.rootfs {
            rootfs.mtab = launch.mtab;
        }
        init.process.init = launch.init;
        init.process.handed_on =
            (3..).zip(launch.preserved.into_iter().map(|descriptor| descriptors.push(descriptor))).collect();
        let notify = launch.notify.map(|(socket, manager)| (descriptors.push(socket), manager));
        let session = Session {
            id: launch.id,
            run_dir: &run_dir,
            stdin: planner::stdin(launch.stdin, &mut descriptors),
            stdout: planner::output(launch.stdout, &mut descriptors),
            stderr: planner::output(launch.stderr, &mut descriptors),
            attach: launch.attach,
            log: launch.log,
            mode: launch.mode,
        };
        let (mut monitor, client) = session.plan(init.process.terminal, &mut descriptors)?;
        monitor.cleanup_argv = launch.cleanup_argv;
        monitor.timers = timers(launch.timeout, launch.health_argv);
        monitor.notify = notify;
        monitor.owns_cgroup = group.paths().is_some();
        monitor.kill_rest = !new_pid_namespace;
        monitor.birth = birth;
        let launched = self.request(socket, &monitor, Some(&init), &program, descriptors, client)?;
        group.keep();
        Ok(launched)
    }

    /// The same through another runtime: all that the spec says is its business, but the control group is ours.
    fn launch_foreign(&self, launch: Launch<'_>) -> Result<Launched> {
        if launch.init || !launch.preserved.is_empty() {
            return Err(Error::invalid(
                "with another runtime there is no init of davit's own and no further descriptor: give the path of an init",
            ));
        }
        let mut spec = launch.spec.clone();
        let terminal =
            spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
        let mut descriptors = with_place_for_plan()?;
        let run_dir = prepare_directory(&launch.run_dir)?;
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let (mut group, socket) = self.group(&launch.cgroup, resources)?;
        let bundle = run_dir.join("bundle");
        let place = bundle.join("rootfs");
        sys::fs::create_dir_all(&place, 0o700)
            .map_err(|error| Error::file("create", &place, error.source))?;
        let read_only = spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false);
        let mut root = oci_spec::runtime::Root::default();
        root.set_path("rootfs".into());
        root.set_readonly(Some(read_only));
        spec.set_root(Some(root));
        if let Some(linux) = spec.linux_mut() {
            match group.paths() {
                // The group that was made, as a path: the other runtime need not speak to systemd.
                Some(cgroup::Paths::V2(directory)) => {
                    if let Ok(below) = directory.strip_prefix("/sys/fs/cgroup") {
                        linux.set_cgroups_path(Some(Path::new("/").join(below)));
                    }
                }
                Some(_) => {}
                // None can be made, and the other runtime must not try.
                None => {
                    linux.set_cgroups_path(None);
                    linux.set_resources(None);
                }
            }
        }
        // Runtimes refuse versions that are newer than they are, and ignore fields that they do not know.
        spec.set_version("1.0.2".to_owned());
        let file = bundle.join("config.json");
        let text =
            serde_json::to_vec(&spec).map_err(|error| Error::file("write", &file, io::Error::from(error)))?;
        sys::fs::write_atomic(&file, &text, 0o600, sys::fs::Sync::None)
            .map_err(|error| Error::file("write", &file, error.source))?;
        let mut mapped_rootfs = Vec::new();
        let mapped = launch.map_owners.then_some(&mut mapped_rootfs);
        let mounts = planner::rootfs_mounts(&launch.rootfs, mapped, &mut descriptors)?;
        let notify = launch.notify.map(|(socket, manager)| (descriptors.push(socket), manager));
        let new_pid_namespace = Namespaces::read(&spec, &mut Descriptors::default())?.creates(Ns::Pid);
        let session = Session {
            id: launch.id,
            run_dir: &run_dir,
            stdin: planner::stdin(launch.stdin, &mut descriptors),
            stdout: planner::output(launch.stdout, &mut descriptors),
            stderr: planner::output(launch.stderr, &mut descriptors),
            attach: launch.attach,
            log: launch.log,
            mode: launch.mode,
        };
        let (mut monitor, client) = session.plan(terminal, &mut descriptors)?;
        monitor.cleanup_argv = launch.cleanup_argv;
        monitor.owns_cgroup = group.paths().is_some();
        monitor.birth.cgroup = group.paths().cloned();
        monitor.kill_rest = !new_pid_namespace;
        monitor.timers = timers(launch.timeout, launch.health_argv);
        monitor.notify = notify;
        monitor.birth.mapped_rootfs = mapped_rootfs;
        if let Some(linux) = spec.linux().as_ref().filter(|_| launch.map_owners) {
            monitor.birth.uid_map = planner::id_ranges(linux.uid_mappings().as_ref());
            monitor.birth.gid_map = planner::id_ranges(linux.gid_mappings().as_ref());
        }
        monitor.foreign = launch.runtime.map(|program| crate::plan::ForeignPlan { program, bundle, mounts });
        let launched = self.request(socket, &monitor, None, &[], descriptors, client)?;
        group.keep();
        Ok(launched)
    }

    /// Starts a process inside a running container; returns when it has been executed.
    pub fn exec(&self, request: ExecRequest<'_>) -> Result<Launched> {
        let not_running = || Error::NotRunning { run_dir: request.run_dir.clone() };
        let container = record::read_process(&request.run_dir)?.ok_or_else(not_running)?;
        let pidfd =
            sys::pidfd::open_exact(container.init_pid, container.start_time).map_err(|_| not_running())?;
        let flags = planner::differing_namespaces(container.init_pid).map_err(|_| not_running())?;
        let mut descriptors = with_place_for_plan()?;
        let session_dir = prepare_directory(&request.session_dir)?;
        let join = if flags == 0 { Vec::new() } else { vec![(descriptors.push(pidfd), flags)] };
        let mut process_plan = planner::process(request.process, planner::setgroups_denied())?;
        process_plan.handed_on =
            (3..).zip(request.preserved.into_iter().map(|descriptor| descriptors.push(descriptor))).collect();
        let program = planner::seccomp(request.seccomp, &mut process_plan)?;
        let init = InitPlan {
            id: request.id.clone(),
            tied: true,
            keyring: true,
            late_cgroup_namespace: false,
            wait: None,
            hooks: plan::HooksPlan::default(),
            new_user_namespace: false,
            rootfs: None,
            loopback: false,
            hostname: None,
            domainname: None,
            sysctls: Vec::new(),
            process: process_plan,
        };
        let session = Session {
            id: request.id,
            run_dir: &session_dir,
            stdin: planner::stdin(request.stdin, &mut descriptors),
            stdout: planner::output(request.stdout, &mut descriptors),
            stderr: planner::output(request.stderr, &mut descriptors),
            attach: request.attach,
            log: None,
            mode: request.mode,
        };
        let (mut monitor, client) = session.plan(init.process.terminal, &mut descriptors)?;
        monitor.cleanup_argv = request.cleanup_argv;
        let socket = match &container.cgroup {
            Some(group) if cgroup::in_scope(group) => {
                let (socket, number) = self.open_named_request()?;
                let joined = cgroup::join_monitors(group, request.bus.as_ref(), number);
                joined.at(Stage::Cgroup, "").map_err(Failure::into_error)?;
                socket
            }
            _ => self.open_request()?,
        };
        monitor.birth.cgroup = container.cgroup;
        monitor.birth.join = join;
        monitor.birth.oom_score_adj = request.process.oom_score_adj();
        self.request(Some(socket), &monitor, Some(&init), &program, descriptors, client)
    }

    /// The control group of a launch, and the monitor where the group needed one to begin with.
    fn group(
        &self,
        setup: &CgroupSetup,
        resources: Option<&oci_spec::runtime::LinuxResources>,
    ) -> Result<(GroupGuard, Option<OwnedFd>)> {
        Ok(match setup {
            CgroupSetup::None => (GroupGuard::none(), None),
            CgroupSetup::Path(path) => {
                (GroupGuard::new(cgroup::Manager::create(cgroup::layout(), path), resources)?, None)
            }
            CgroupSetup::Scope(scope) => {
                let (socket, monitor) = self.open_named_request()?;
                (GroupGuard::new(scope.start(monitor), resources)?, Some(socket))
            }
        })
    }

    /// Has a monitor forked, which waits on the other end for what it is to do and ends if that is closed.
    fn open_request(&self) -> Result<OwnedFd> {
        self.send_request(wire::REQUEST)
    }

    /// The same, and tells the monitor's process ID.
    fn open_named_request(&self) -> Result<(OwnedFd, u32)> {
        let socket = self.send_request(wire::NAMED_REQUEST)?;
        let mut packet = vec![0; wire::MAX_PACKET];
        let failed = |source| Error::Spawner { source };
        let length = sys::scm::receive(&socket, &mut packet).map_err(failed)?.length;
        match packet[..length] {
            [wire::PID, a, b, c, d] => Ok((socket, u32::from_le_bytes([a, b, c, d]))),
            _ => Err(match Failure::decode(&packet[..length]) {
                Some(failure) => failure.into_error(),
                None => failed(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }),
        }
    }

    fn send_request(&self, kind: u8) -> Result<OwnedFd> {
        let failed = |source| Error::Spawner { source };
        let (ours, theirs) = sys::scm::packet_pair().map_err(failed)?;
        sys::scm::send(&self.socket, &[kind], &[theirs.as_fd()]).map_err(failed)?;
        Ok(ours)
    }

    fn request(
        &self,
        socket: Option<OwnedFd>,
        monitor: &MonitorPlan,
        init: Option<&InitPlan>,
        program: &[sys::seccomp_load::Instruction],
        mut descriptors: Descriptors,
        client: Option<attach::Client>,
    ) -> Result<Launched> {
        let failed = |source| Error::Spawner { source };
        let ours = socket.map_or_else(|| self.open_request(), Ok)?;
        descriptors.replace(PLAN, plan::write(monitor, init, program).map_err(failed)?);
        descriptors.send(ours.as_fd()).map_err(failed)?;
        // Copies held here would keep the ends of pipes open that are the process's now.
        drop(descriptors);
        let mut packet = vec![0; wire::MAX_PACKET];
        let length = sys::scm::receive(&ours, &mut packet).map_err(failed)?.length;
        let packet = &packet[..length];
        if let Some(failure) = Failure::decode(packet) {
            return Err(failure.into_error());
        }
        let (Some(&wire::LAUNCHED), 17) = (packet.first(), length) else {
            return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof)));
        };
        let number =
            |at: usize| u32::from_le_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        Ok(Launched {
            init_pid: number(1),
            start_time: u64::from(number(5)) | u64::from(number(9)) << 32,
            monitor_pid: number(13),
            attach: client,
            lifeline: ours,
            run_dir: monitor.run_dir.clone(),
        })
    }
}

/// What container and exec session have in common.
struct Session<'a> {
    id: String,
    run_dir: &'a Path,
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    attach: bool,
    log: Option<LogConfig>,
    mode: LaunchMode,
}

impl Session<'_> {
    fn plan(
        self,
        terminal: bool,
        descriptors: &mut Descriptors,
    ) -> Result<(MonitorPlan, Option<attach::Client>)> {
        let stdio = |source| Error::stage(Stage::Stdio, self.run_dir.display().to_string(), source);
        let held = terminal
            || matches!(self.stdin, Stream::Attach { .. })
            || self.stdout == Stream::Captured
            || self.stderr == Stream::Captured;
        // Where the monitor holds no stream there is nothing to attach to.
        let listener = match held {
            true => Some(descriptors.push(planner::listen(self.run_dir).map_err(stdio)?)),
            false => None,
        };
        let (attach, client) = if self.attach {
            let (ours, theirs) = sys::scm::packet_pair().map_err(stdio)?;
            (Some(descriptors.push(theirs)), Some(attach::Client { socket: ours }))
        } else {
            (None, None)
        };
        let log = match self.log {
            Some(LogConfig { path, max_bytes }) => {
                let file = monitor::open_log(&path).map_err(|source| Error::file("open", &path, source))?;
                Some(LogPlan { path, max_bytes, file: descriptors.push(file) })
            }
            None => None,
        };
        let plan = MonitorPlan {
            id: self.id,
            run_dir: self.run_dir.to_owned(),
            terminal,
            tied: self.mode == LaunchMode::Tied,
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
            attach,
            listener,
            log,
            cleanup_argv: Vec::new(),
            owns_cgroup: false,
            kill_rest: false,
            birth: plan::BirthPlan::default(),
            notify: None,
            timers: monitor::TimerPlan::default(),
            foreign: None,
        };
        Ok((plan, client))
    }
}

/// A control group that goes away with a failed launch.
pub(crate) struct GroupGuard {
    manager: Option<cgroup::Manager>,
    kept: bool,
}

impl GroupGuard {
    pub(crate) fn none() -> Self {
        Self { manager: None, kept: true }
    }

    /// Guards a group that was just made, and applies its limits.
    pub(crate) fn new(
        manager: cgroup::Result<cgroup::Manager>,
        resources: Option<&oci_spec::runtime::LinuxResources>,
    ) -> Result<Self> {
        let manager = manager.at(Stage::Cgroup, "").map_err(Failure::into_error)?;
        let guard = Self { manager: Some(manager), kept: false };
        if let (Some(manager), Some(resources)) = (&guard.manager, resources) {
            let mut resources = resources.clone();
            if let Some(rules) = resources.devices() {
                // a spec refuses everything and names what was asked for; the nodes of every /dev come on top
                resources.set_devices(Some(crate::devices::effective_rules(rules)));
            }
            manager.apply(&resources).at(Stage::Cgroup, "").map_err(Failure::into_error)?;
        }
        Ok(guard)
    }

    pub(crate) fn paths(&self) -> Option<&cgroup::Paths> {
        self.manager
            .as_ref()
            .map(cgroup::Manager::paths)
            .filter(|paths| !matches!(paths, cgroup::Paths::None(_)))
    }

    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let (Some(manager), false) = (&self.manager, self.kept) {
            // The launch has failed already; that error is the one to report.
            let _ = manager.delete();
        }
    }
}

fn prepare_directory(path: &Path) -> Result<std::path::PathBuf> {
    sys::fs::create_dir_all(path, 0o700).map_err(|error| Error::file("create", path, error.source))?;
    let path = std::path::absolute(path).map_err(|source| Error::file("find", path, source))?;
    // What an earlier life of the same container left would be read as the new one's end.
    for name in ["exit.json", "pid.json"] {
        let file = path.join(name);
        sys::fs::remove_file_if_exists(&file).map_err(|error| Error::file("remove", &file, error.source))?;
    }
    Ok(path)
}

fn timers(timeout: Option<std::time::Duration>, health_argv: Vec<std::ffi::OsString>) -> monitor::TimerPlan {
    let kill_after_ms = timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    monitor::TimerPlan { kill_after_ms, health_argv }
}

/// The plan's place among the descriptors, where the monitor looks for it.
const PLAN: usize = 0;

/// Descriptors whose first one is replaced by the plan, which names the others, once it is complete.
fn with_place_for_plan() -> Result<Descriptors> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let placeholder = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
        .map_err(|errno| Error::file("open", "/dev/null", errno))?;
    let mut descriptors = Descriptors::default();
    let place = descriptors.push(placeholder);
    debug_assert_eq!(place, PLAN);
    Ok(descriptors)
}

/// The spawner process.
fn serve(socket: OwnedFd) -> i32 {
    // A session of its own: the terminal's signals are the caller's business.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"davit-spawner");
    if use_null_streams().is_err() {
        return 70;
    }
    // Children are reaped by the kernel: nobody here waits for a monitor.
    sys::signal::ignore_children();
    let Ok(trampoline) = sys::trampoline::program() else { return 70 };
    let mut packet = [0; 8];
    loop {
        let Ok(mut received) = sys::scm::receive(&socket, &mut packet) else { return 70 };
        let Some(request) = received.descriptors.pop() else { return 0 };
        match sys::process::fork() {
            Ok(Fork::Child) => {
                drop(socket);
                return monitor::serve(request, &trampoline);
            }
            Ok(Fork::Parent { child, .. }) => {
                if packet[0] == wire::NAMED_REQUEST {
                    let mut answer = vec![wire::PID];
                    answer.extend(child.to_le_bytes());
                    // A caller that is gone needs no answer.
                    let _ = sys::scm::send(&request, &answer, &[]);
                }
            }
            Err(error) => {
                let failure = Failure::new(Stage::Spawn, "", &error);
                let _ = sys::scm::send(&request, &failure.encode(), &[]);
            }
        }
    }
}

/// Lets go of the caller's streams, which whoever reads them must see end with the caller.
fn use_null_streams() -> io::Result<()> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}
