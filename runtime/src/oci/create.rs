//! `create` and `run`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hooks, LinuxNamespaceType as Ns, LinuxResources, Spec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::foreground::{self, Signals};
use super::state::{self, START};
use super::{Bundle, Container, Error, Record, Result, Status, check, console, notify, user_namespace};
use crate::blueprint::{self, Blueprint, Circumstances};
use crate::cgroup::{self, Bus, Scope};
use crate::hook::{self, Moment};
use crate::launch::Rootfs;
use crate::plan::{HookPlan, InitSource};
use crate::planner::Namespaces;
use crate::spawner::GroupGuard;
use crate::stage::{self, Inherited, Starting, Word};
use crate::wire::Descriptors;

/// Who makes control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupManager {
    /// Nobody: the container stays in its caller's.
    Disabled,
    /// This crate, in the file system.
    Files,
    /// systemd, as `linux.cgroupsPath` says in its form `SLICE:PREFIX:NAME`.
    Systemd(Bus),
}

/// What `create` and `run` are told on the command line and by the environment.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Directory of all containers.
    pub root: PathBuf,
    /// ID of the new one.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Another file than the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// Unix socket that takes the terminal.
    pub console_socket: Option<PathBuf>,
    /// File that takes init's process ID.
    pub pid_file: Option<PathBuf>,
    /// The root is changed without pivot_root(2).
    pub no_pivot: bool,
    /// The caller's session keyring is kept.
    pub no_new_keyring: bool,
    /// Descriptors after the standard streams that the program inherits.
    pub preserve_fds: u32,
    /// How many of these are sockets of systemd's (`LISTEN_FDS`).
    pub listen_fds: u32,
    /// `NOTIFY_SOCKET`.
    pub notify_socket: Option<PathBuf>,
    /// Who makes control groups.
    pub cgroup_manager: CgroupManager,
    /// `run` only: returns when the program runs.
    pub detach: bool,
    /// `run` only: the container is not deleted when it has ended.
    pub keep: bool,
    /// `run` in the foreground only: orphans of the container are reaped by the caller.
    pub subreaper: bool,
}

/// Creates a container: all is done but the start. Returns warnings.
///
/// # Errors
/// Nothing of the container is left then.
pub fn create(options: &CreateOptions) -> Result<Vec<String>> {
    let born = bear(options, false, None)?;
    born.keep(options).map(|born| born.warnings)
}

/// Creates a container and starts it at once; in the foreground it is accompanied to its end and deleted. Returns the
/// exit code (0 detached) and warnings.
///
/// # Errors
/// Nothing of the container is left then.
pub fn run(options: &CreateOptions) -> Result<(i32, Vec<String>)> {
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    if options.subreaper && signals.is_some() {
        // Without it they are reaped by somebody else.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
    let born = bear(options, true, signals.is_some().then_some(()))?.keep(options)?;
    let container = Container { directory: options.root.join(&options.id), ..born.container };
    let delete = || super::delete(&options.root, &options.id, true).map(drop);
    if let Err(error) =
        super::start::after_start(&container, &born.spec, born.notify, options.notify_socket.as_deref())
    {
        delete()?;
        return Err(error);
    }
    let Some(signals) = signals else { return Ok((0, born.warnings)) };
    let code = foreground::supervise(container.record.pid, born.terminal, &signals);
    if !options.keep {
        delete()?;
    }
    Ok((code?, born.warnings))
}

/// A container whose init waits or runs, not yet out of our hands.
struct Born {
    container: Container,
    spec: Spec,
    starting: Starting,
    group: GroupGuard,
    directory: DirectoryGuard,
    terminal: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// What is left of it when it is.
struct Kept {
    container: Container,
    spec: Spec,
    terminal: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    warnings: Vec<String>,
}

impl Born {
    fn keep(mut self, options: &CreateOptions) -> Result<Kept> {
        if let Some(path) = &options.pid_file {
            write_pid(path, self.container.record.pid)?;
        }
        self.starting.disarm();
        self.group.keep();
        self.directory.kept = true;
        let Self { container, spec, terminal, notify, warnings, .. } = self;
        Ok(Kept { container, spec, terminal, notify, warnings })
    }
}

/// Writes a process ID where the caller looks for it.
pub(super) fn write_pid(path: &Path, pid: u32) -> Result<()> {
    Ok(sys::fs::write_atomic(path, pid.to_string().as_bytes(), 0o644, sys::fs::Sync::None)?)
}

/// Removes the directory of a container that did not come into being.
struct DirectoryGuard {
    path: PathBuf,
    kept: bool,
}

impl Drop for DirectoryGuard {
    fn drop(&mut self) {
        if !self.kept {
            // The failure is reported already.
            let _ = sys::fs::remove_tree(&self.path);
        }
    }
}

/// The hooks of a specification that are run outside of init, before the change of root.
fn outside_hooks(hooks: &Hooks) -> Result<Vec<HookPlan>> {
    #[allow(deprecated)] // engines still use them
    let mut all = hook::plan("prestart", hooks.prestart().as_ref())?;
    all.extend(hook::plan("createRuntime", hooks.create_runtime().as_ref())?);
    Ok(all)
}

fn bear(options: &CreateOptions, at_once: bool, foreground: Option<()>) -> Result<Born> {
    state::check_id(&options.id)?;
    let Bundle { directory: bundle, bytes, mut spec, mut warnings } =
        Bundle::read(&options.bundle, options.config.as_deref())?;
    let terminal = spec.process().as_ref().and_then(oci_spec::runtime::Process::terminal).unwrap_or(false);
    if terminal && options.console_socket.is_none() && foreground.is_none() {
        return Err(Error::invalid("process.terminal: a detached container needs --console-socket"));
    }
    if !terminal && options.console_socket.is_some() {
        return Err(Error::invalid("--console-socket: process.terminal is not set"));
    }
    for number in 3..3 + options.preserve_fds {
        if !sys::process::is_open(number) {
            return Err(Error::invalid(format!("--preserve-fds: descriptor {number} is not open")));
        }
    }
    let console = match &options.console_socket {
        Some(path) => Some(console::connect(path, SocketType::STREAM)?),
        None => None,
    };
    let hooks = spec.hooks().clone().unwrap_or_default();
    let outside = outside_hooks(&hooks)?;
    let owner = sys::user::real_uid();
    user_namespace::enter_if_needed(&mut spec)?;
    let root = spec.root().as_ref().ok_or_else(|| Error::invalid("root is missing"))?;
    let rootfs = bundle.join(root.path());
    let mut descriptors = Descriptors::default();
    let namespaces = Namespaces::read(&spec, &mut descriptors)?;
    check::check(&spec, &namespaces, &rootfs)?;
    let mut directory = claim(&options.root, &options.id)?;
    let listener = if at_once { None } else { Some(listen(&directory.path)?) };
    if options.notify_socket.is_some() {
        notify::add_to_spec(&directory.path, &mut spec)?;
    }
    let scope = scope(options, &spec)?;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let path = group_path(options, &spec);
    let mut group = match &path {
        Some(path) => GroupGuard::new(cgroup::Manager::create(cgroup::layout(), path), resources.as_ref())?,
        None => GroupGuard::none(),
    };
    let own = std::process::id();
    let mut container = Container {
        directory: directory.path.clone(),
        record: Record {
            version: 1,
            id: options.id.clone(),
            oci_version: spec.version().clone(),
            bundle: bundle.clone(),
            rootfs: rootfs.clone(),
            created: jiff::Timestamp::now().to_string(),
            owner,
            creator: own,
            creator_start_time: sys::pidfd::status(own).map(|status| status.start_time).unwrap_or(0),
            cgroup: group.paths().cloned(),
            waits: !at_once,
            own_pid_namespace: namespaces.creates(Ns::Pid),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            ..Record::default()
        },
    };
    // From here on a killed `create` leaves what `delete` finds.
    container.write()?;
    container.keep_config(&bytes)?;
    let circumstances = Circumstances {
        id: &options.id,
        bundle: Some(&bundle),
        rootfs: &Rootfs::Path(rootfs.clone()),
        cgroup: group.paths(),
        namespaces,
    };
    let Blueprint { mut birth, mut init, program } = blueprint::draw(&spec, circumstances, &mut descriptors)?;
    init.tied = false;
    init.keyring = !options.no_new_keyring;
    init.wait = listener.map(|listener| descriptors.push(listener));
    init.hooks.outside = !outside.is_empty();
    init.hooks.create_container = hook::plan("createContainer", hooks.create_container().as_ref())?;
    init.hooks.start_container = hook::plan("startContainer", hooks.start_container().as_ref())?;
    init.process.preserved = options.preserve_fds + options.listen_fds;
    if options.listen_fds > 0 {
        init.process.env.retain(|pair| !pair.starts_with("LISTEN_FDS=") && !pair.starts_with("LISTEN_PID="));
        init.process.env.extend([format!("LISTEN_FDS={}", options.listen_fds), "LISTEN_PID=1".to_owned()]);
    }
    if let Some(plan) = &mut init.rootfs {
        plan.no_pivot = options.no_pivot;
        let looked_for = init.hooks.outside || !init.hooks.create_container.is_empty();
        plan.at = looked_for.then(|| rootfs.clone());
    }
    if scope.is_some() {
        let cgroup = Ns::Cgroup as u64;
        init.late_cgroup_namespace = birth.new_namespaces & cgroup != 0;
        birth.new_namespaces &= !cgroup;
    }
    let streams = standard_streams()?;
    let trampoline =
        sys::trampoline::program().map_err(|error| Error::os("prepare the trampoline", error))?;
    let command = init.process.args[0].clone();
    let source = InitSource::Memory(Box::new(init), program);
    let (starting, descriptors) =
        stage::clone_init(&birth, Inherited { source, streams, trampoline: &trampoline }, descriptors)?;
    // While init sets up its half, ours.
    container.record.pid = starting.pid;
    container.record.start_time =
        sys::pidfd::status(starting.pid).map_err(|error| Error::os("read the start time", error))?.start_time;
    let resources_or_none = resources.as_ref();
    if let Some(scope) = &scope {
        group = start_scope(scope, starting.pid, &spec, resources_or_none)?;
        container.record.cgroup = group.paths().cloned();
    }
    container.write()?;
    delegate_group(&container, &spec)?;
    stage::prepare(&birth, starting.pid, &descriptors)?;
    drop(descriptors);
    devices(&spec, starting.pid)?;
    let notify = notify::listen(&directory.path).map(|socket| socket.filter(|_| at_once))?;
    starting.go(&container.hook_state(Status::Creating));
    let unknown =
        Bundle { directory: bundle, bytes, spec: spec.clone(), warnings: Vec::new() }.unknown_properties();
    warnings.extend(unknown.into_iter().map(|path| format!("{path} is not known, and has no effect")));
    let mut master = None;
    let mut born = Born {
        container,
        spec,
        starting,
        group,
        directory: DirectoryGuard { path: PathBuf::new(), kept: true },
        terminal: None,
        notify,
        warnings,
    };
    std::mem::swap(&mut born.directory, &mut directory);
    let led = lead(&born, &outside, console.as_ref(), &mut master);
    if let Err(error) = led {
        return Err(fail(born, &hooks, name_command(error, &command)));
    }
    born.terminal = master;
    Ok(born)
}

/// Leads init to its start, or to where it waits for it.
fn lead(
    born: &Born,
    outside: &[HookPlan],
    console: Option<&OwnedFd>,
    master: &mut Option<OwnedFd>,
) -> Result<()> {
    loop {
        match born.starting.next()? {
            Word::Terminal(terminal) => match console {
                Some(console) => console::send(console, &terminal)?,
                None => *master = Some(terminal),
            },
            Word::Mounted => {
                let state = born.container.hook_state(Status::Creating);
                hook::run_all(outside, Moment::Creating, &state)?;
                born.starting.go(&state);
            }
            Word::Listener(listener) => super::start::hand_listener(&born.container, &born.spec, &listener)?,
            Word::Ready if born.container.record.waits => return Ok(()),
            Word::Executed if !born.container.record.waits => return Ok(()),
            Word::Ready | Word::Executed => return Err(stage::ended().into()),
        }
    }
}

/// Ends a container that failed after it had come into being: the last hooks are run then, too.
fn fail(born: Born, hooks: &Hooks, error: Error) -> Error {
    let state = born.container.hook_state(Status::Stopped);
    drop(born);
    if let Ok(poststop) = hook::plan("poststop", hooks.poststop().as_ref()) {
        for one in poststop {
            // The first failure is the one to tell.
            let _ = hook::run_all(&[one], Moment::Stopped, &state);
        }
    }
    error
}

/// The kernel's refusal of the program itself comes without its name.
pub(super) fn name_command(error: Error, command: &str) -> Error {
    match error {
        Error::Runtime(crate::Error::CommandNotFound { command: name }) if name.is_empty() => {
            crate::Error::CommandNotFound { command: command.into() }.into()
        }
        Error::Runtime(crate::Error::CommandNotRunnable { command: name, source }) if name.is_empty() => {
            crate::Error::CommandNotRunnable { command: command.into(), source }.into()
        }
        other => other,
    }
}

/// Makes the directory, which claims the ID.
fn claim(root: &Path, id: &str) -> Result<DirectoryGuard> {
    sys::fs::create_dir_all(root, 0o711)?;
    let path = root.join(id);
    match sys::fs::create_dir(&path, 0o711) {
        Ok(()) => Ok(DirectoryGuard { path, kept: false }),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::Exists { id: id.into() })
        }
        Err(error) => Err(error.into()),
    }
}

/// The socket at which init will wait.
fn listen(directory: &Path) -> Result<OwnedFd> {
    let attempt = || {
        let directory = sys::beneath::open_root(directory)?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let place = format!("/proc/self/fd/{}/{START}", directory.as_raw_fd());
        rustix::net::bind(&socket, &SocketAddrUnix::new(&place)?)?;
        rustix::fs::chmod(&place, rustix::fs::Mode::from_raw_mode(0o600))?;
        rustix::net::listen(&socket, 16)?;
        Ok(socket)
    };
    attempt().map_err(|error: std::io::Error| Error::os(format!("listen in {}", directory.display()), error))
}

/// Copies of our streams, for init to own.
pub(super) fn standard_streams() -> Result<[Option<OwnedFd>; 3]> {
    let copy = |number| sys::process::copy_of_stream(number);
    let copies = || Ok([copy(0)?, copy(1)?, copy(2)?]);
    copies().map_err(|error: std::io::Error| Error::os("copy the standard streams", error))
}

fn group_path(options: &CreateOptions, spec: &Spec) -> Option<PathBuf> {
    if options.cgroup_manager != CgroupManager::Files {
        return None;
    }
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    Some(asked.unwrap_or_else(|| Path::new("davit-runtime").join(&options.id)))
}

fn scope(options: &CreateOptions, spec: &Spec) -> Result<Option<Scope>> {
    let CgroupManager::Systemd(bus) = &options.cgroup_manager else { return Ok(None) };
    if cgroup::unified_mount().is_none() {
        return Err(Error::invalid(
            "--systemd-cgroup: systemd's groups need cgroup v2 alone on this machine",
        ));
    }
    let path =
        spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref()).unwrap_or(Path::new(""));
    let text = path.to_str().unwrap_or_default();
    let text = if text.is_empty() { format!(":davit:{}", options.id) } else { text.to_owned() };
    let mut scope = Scope::parse(bus.clone(), &text)
        .ok_or_else(|| Error::invalid(format!("linux.cgroupsPath: {text:?} is not SLICE:PREFIX:NAME")))?;
    if scope.slice.is_empty() {
        scope.slice = if bus.uid == 0 { "system.slice".into() } else { "user.slice".into() };
    }
    Ok(Some(scope))
}

fn start_scope(
    scope: &Scope,
    pid: u32,
    spec: &Spec,
    resources: Option<&LinuxResources>,
) -> Result<GroupGuard> {
    let annotations = spec.annotations().iter().flatten();
    let properties = annotations.filter_map(|(key, value)| {
        Some((key.strip_prefix("org.systemd.property.")?.to_owned(), value.clone()))
    });
    let manager = scope.start_alone(pid, &properties.collect::<Vec<_>>());
    Ok(GroupGuard::new(manager, resources)?)
}

/// With a control group namespace and a writable view of it, the group is the container's own to divide.
fn delegate_group(container: &Container, spec: &Spec) -> Result<()> {
    let Some(cgroup::Paths::V2(directory)) = &container.record.cgroup else { return Ok(()) };
    let Some(linux) = spec.linux() else { return Ok(()) };
    let own =
        linux.namespaces().iter().flatten().any(|space| space.typ() == Ns::Cgroup && space.path().is_none());
    let writable = spec.mounts().iter().flatten().any(|mount| {
        mount.destination() == Path::new("/sys/fs/cgroup")
            && !mount.options().iter().flatten().any(|option| option == "ro")
    });
    let uid = spec.process().as_ref().map_or(0, |process| process.user().uid());
    let maps = crate::planner::id_ranges(linux.uid_mappings().as_ref());
    let range =
        maps.iter().find(|range| (range.inside..range.inside.saturating_add(range.count)).contains(&uid));
    let (true, true, Some(range)) = (own, writable, range) else { return Ok(()) };
    let owner = rustix::fs::Uid::from_raw(range.outside + (uid - range.inside));
    let list = sys::fs::read_limited(Path::new("/sys/kernel/cgroup/delegate"), 4096).unwrap_or_default();
    let list = String::from_utf8_lossy(&list).into_owned();
    for name in std::iter::once("").chain(list.lines()) {
        let path = directory.join(name);
        match rustix::fs::chown(&path, Some(owner), None) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(Error::os(format!("change the owner of {}", path.display()), errno)),
        }
    }
    Ok(())
}

/// Moves network devices of the host into the container.
fn devices(spec: &Spec, pid: u32) -> Result<()> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    for (name, device) in devices.into_iter().flatten() {
        let wanted = device.name().as_deref().filter(|wanted| !wanted.is_empty()).unwrap_or(name);
        sys::netdevice::hand_over(name, wanted, pid)
            .map_err(|error| Error::os(format!("linux.netDevices: {name}"), error))?;
    }
    Ok(())
}
