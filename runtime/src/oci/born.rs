//! From a bundle to a container whose init waits for its start, or has had it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hooks, LinuxNamespaceType as Ns, Process, Spec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::create::{name_command, standard_streams, write_pid};
use super::state::{self, START};
use super::{
    Bundle, Container, CreateOptions, Error, Record, Result, Status, check, console, groups, notify, start,
    user_namespace,
};
use crate::blueprint::{self, Blueprint, Circumstances};
use crate::cgroup::{self, Scope};
use crate::hook::{self, Moment};
use crate::launch::Rootfs;
use crate::plan::{HookPlan, InitSource};
use crate::planner::Namespaces;
use crate::spawner::GroupGuard;
use crate::stage::{self, Inherited, Starting, Word};
use crate::wire::Descriptors;

/// A container whose init waits or runs, not yet out of our hands.
pub(super) struct Born {
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
pub(super) struct Kept {
    pub(super) container: Container,
    pub(super) spec: Spec,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) notify: Option<OwnedFd>,
    pub(super) warnings: Vec<String>,
}

impl Born {
    /// Lets it live on.
    pub(super) fn keep(mut self, options: &CreateOptions) -> Result<Kept> {
        if self.container.record.waits {
            self.container.record.ready = true;
            self.container.write()?;
        }
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

/// What is read and checked before anything is made.
struct Request {
    bundle: Bundle,
    hooks: Hooks,
    outside: Vec<HookPlan>,
    console: Option<OwnedFd>,
    /// The caller's user ID, before it enters a user namespace.
    owner: u32,
    rootfs: PathBuf,
    namespaces: Namespaces,
    descriptors: Descriptors,
    scope: Option<Scope>,
}

/// The hooks of a specification that are run outside of init, before the change of root.
fn outside_hooks(hooks: &Hooks) -> Result<Vec<HookPlan>> {
    #[allow(deprecated)] // engines still use them
    let mut all = hook::plan("prestart", hooks.prestart().as_ref())?;
    all.extend(hook::plan("createRuntime", hooks.create_runtime().as_ref())?);
    Ok(all)
}

fn read(options: &CreateOptions, foreground: bool) -> Result<Request> {
    state::check_id(&options.id)?;
    let mut bundle = Bundle::read(&options.bundle, options.config.as_deref())?;
    let terminal = bundle.spec.process().as_ref().and_then(Process::terminal).unwrap_or(false);
    if terminal && options.console_socket.is_none() && !foreground {
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
    let hooks = bundle.spec.hooks().clone().unwrap_or_default();
    let outside = outside_hooks(&hooks)?;
    hook::plan("poststart", hooks.poststart().as_ref())?;
    hook::plan("poststop", hooks.poststop().as_ref())?;
    let owner = sys::user::real_uid();
    user_namespace::enter_if_needed(&mut bundle.spec)?;
    let root = bundle.spec.root().as_ref().ok_or_else(|| Error::invalid("root is missing"))?;
    let rootfs = bundle.directory.join(root.path());
    let mut descriptors = Descriptors::default();
    let namespaces = Namespaces::read(&bundle.spec, &mut descriptors)?;
    check::check(&bundle.spec, &namespaces, &rootfs)?;
    let scope = groups::scope(options, &bundle.spec)?;
    Ok(Request { bundle, hooks, outside, console, owner, rootfs, namespaces, descriptors, scope })
}

/// The container as it is written down before its process exists.
fn container(request: &Request, options: &CreateOptions, directory: &Path, waits: bool) -> Container {
    let spec = &request.bundle.spec;
    let own = std::process::id();
    let record = Record {
        version: 1,
        id: options.id.clone(),
        oci_version: spec.version().clone(),
        bundle: request.bundle.directory.clone(),
        rootfs: request.rootfs.clone(),
        created: jiff::Timestamp::now().to_string(),
        owner: request.owner,
        creator: own,
        creator_start_time: sys::pidfd::status(own).map(|status| status.start_time).unwrap_or(0),
        waits,
        own_pid_namespace: request.namespaces.creates(Ns::Pid),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        ..Record::default()
    };
    Container { directory: directory.to_owned(), record }
}

/// The plans, with what the verbs want otherwise than the engine.
fn draw(
    request: &mut Request,
    options: &CreateOptions,
    cgroup: Option<&cgroup::Paths>,
    listener: Option<OwnedFd>,
) -> Result<Blueprint> {
    let circumstances = Circumstances {
        id: &options.id,
        bundle: Some(&request.bundle.directory),
        rootfs: &Rootfs::Path(request.rootfs.clone()),
        cgroup,
        namespaces: std::mem::take(&mut request.namespaces),
        by_monitor: None,
    };
    let mut blueprint = blueprint::draw(&request.bundle.spec, circumstances, &mut request.descriptors)?;
    let Blueprint { birth, init, .. } = &mut blueprint;
    init.tied = false;
    init.keyring = !options.no_new_keyring;
    init.wait = listener.map(|listener| request.descriptors.push(listener));
    init.hooks.outside = !request.outside.is_empty();
    init.hooks.create_container = hook::plan("createContainer", request.hooks.create_container().as_ref())?;
    init.hooks.start_container = hook::plan("startContainer", request.hooks.start_container().as_ref())?;
    init.process.preserved = options.preserve_fds + options.listen_fds;
    if options.listen_fds > 0 {
        let env = &mut init.process.env;
        env.retain(|pair| !pair.starts_with("LISTEN_FDS=") && !pair.starts_with("LISTEN_PID="));
        env.extend([format!("LISTEN_FDS={}", options.listen_fds), "LISTEN_PID=1".to_owned()]);
    }
    if let Some(plan) = &mut init.rootfs {
        plan.no_pivot = options.no_pivot;
        let looked_for = init.hooks.outside || !init.hooks.create_container.is_empty();
        plan.at = looked_for.then(|| request.rootfs.clone());
    }
    if request.scope.is_some() {
        let cgroup = Ns::Cgroup as u64;
        init.late_cgroup_namespace = birth.new_namespaces & cgroup != 0;
        birth.new_namespaces &= !cgroup;
    }
    Ok(blueprint)
}

/// Makes a container whose init waits for `start`, or with `at_once` has executed its program.
pub(super) fn bear(options: &CreateOptions, at_once: bool, foreground: bool) -> Result<Born> {
    let mut request = read(options, foreground)?;
    let directory = claim(&options.root, &options.id)?;
    let listener = if at_once { None } else { Some(listen(&directory.path)?) };
    if options.notify_socket.is_some() {
        notify::add_to_spec(&directory.path, &mut request.bundle.spec)?;
    }
    let resources = request.bundle.spec.linux().as_ref().and_then(|linux| linux.resources().clone());
    let mut group = match groups::group_path(options, &request.bundle.spec) {
        Some(path) => GroupGuard::new(cgroup::Manager::create(cgroup::layout(), &path), resources.as_ref())?,
        None => GroupGuard::none(),
    };
    let mut container = container(&request, options, &directory.path, !at_once);
    container.record.cgroup = group.paths().cloned();
    // From here on a killed `create` leaves what `delete` finds.
    container.write()?;
    container.keep_config(&request.bundle.bytes)?;
    let Blueprint { birth, init, program } = draw(&mut request, options, group.paths(), listener)?;
    let trampoline =
        sys::trampoline::program().map_err(|error| Error::os("prepare the trampoline", error))?;
    let command = init.process.args[0].clone();
    let source = InitSource::Memory(Box::new(init), program);
    let inherited = Inherited { source, streams: standard_streams()?, trampoline: &trampoline };
    let Request { mut bundle, hooks, outside, console, descriptors, scope, .. } = request;
    let (starting, descriptors) = stage::clone_init(&birth, inherited, descriptors)?;
    container.record.pid = starting.pid;
    container.record.start_time =
        sys::pidfd::status(starting.pid).map_err(|error| Error::os("read the start time", error))?.start_time;
    if let Some(scope) = &scope {
        group = groups::start_scope(scope, starting.pid, &bundle.spec, resources.as_ref())?;
        container.record.cgroup = group.paths().cloned();
    }
    container.write()?;
    groups::delegate_group(&container, &bundle.spec)?;
    stage::prepare(&birth, starting.pid, &descriptors)?;
    drop(descriptors);
    devices(&bundle.spec, starting.pid)?;
    let notify = if at_once { notify::listen(&directory.path)? } else { None };
    starting.go(&container.hook_state(Status::Creating));
    // While init is at work.
    let mut warnings = std::mem::take(&mut bundle.warnings);
    let unknown = bundle.unknown_properties().into_iter();
    warnings.extend(unknown.map(|path| format!("{path} is not known, and has no effect")));
    let spec = bundle.spec;
    let mut born = Born { container, spec, starting, group, directory, terminal: None, notify, warnings };
    match lead(&born, &outside, console.as_ref()) {
        Ok(terminal) => {
            born.terminal = terminal;
            Ok(born)
        }
        Err(error) => Err(fail(born, &hooks, name_command(error, &command))),
    }
}

/// Leads init to its start, or to where it waits for it; returns its terminal where nobody else has taken that.
fn lead(born: &Born, outside: &[HookPlan], console: Option<&OwnedFd>) -> Result<Option<OwnedFd>> {
    let mut master = None;
    loop {
        match born.starting.next()? {
            Word::Terminal(terminal) => match console {
                Some(console) => console::send(console, &terminal)?,
                None => master = Some(terminal),
            },
            Word::Mounted => {
                let state = born.container.hook_state(Status::Creating);
                hook::run_all(outside, Moment::Creating, &state)?;
                born.starting.go(&state);
            }
            Word::Listener(listener) => start::hand_listener(&born.container, &born.spec, &listener)?,
            Word::Ready if born.container.record.waits => return Ok(master),
            Word::Executed if !born.container.record.waits => return Ok(master),
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
