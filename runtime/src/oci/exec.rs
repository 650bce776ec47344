//! `exec`: a further process in a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};
use rustix::net::SocketType;

use super::create::{name_command, standard_streams, write_pid};
use super::foreground::{self, Signals};
use super::start::hand_listener_of;
use super::{Container, Error, Result, Status, check, console, open};
use crate::cgroup::Paths;
use crate::plan::{BirthPlan, HooksPlan, InitPlan, InitSource, ProcessPlan};
use crate::planner;
use crate::stage::{self, Inherited, Word};
use crate::wire::Descriptors;

/// What `exec` is told on the command line.
#[derive(Clone, Debug)]
pub struct ExecOptions {
    /// Directory of all containers.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// What to run.
    pub process: ExecProcess,
    /// Unix socket that takes the terminal.
    pub console_socket: Option<PathBuf>,
    /// File that takes the process ID.
    pub pid_file: Option<PathBuf>,
    /// Returns when the program runs.
    pub detach: bool,
    /// Descriptors after the standard streams that the program inherits.
    pub preserve_fds: u32,
    /// A group below the container's (unified tree), or `CONTROLLER[,CONTROLLER]:GROUP`.
    pub cgroup: Vec<String>,
    /// Goes into a frozen container, and waits until that is thawed.
    pub ignore_paused: bool,
}

/// The process of `exec`.
#[derive(Clone, Debug)]
pub enum ExecProcess {
    /// As a file says, in the form of the configuration's `process`.
    File(PathBuf),
    /// The container's own process, with changes.
    Changed(Box<ProcessChanges>),
}

/// What is different from the container's own process.
#[derive(Clone, Debug, Default)]
pub struct ProcessChanges {
    /// The command.
    pub args: Vec<String>,
    /// Further environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// User and group ID.
    pub user: Option<(u32, Option<u32>)>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Further capabilities.
    pub capabilities: Vec<String>,
    /// SELinux label.
    pub label: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Sets no_new_privs.
    pub no_new_privileges: bool,
}

const MAX_PROCESS: u64 = 16 << 20;

/// Runs a process in a container; returns its exit code (0 detached).
///
/// # Errors
/// The container does not run, or the process could not be executed.
pub fn exec(options: &ExecOptions) -> Result<i32> {
    let container = open(&options.root, &options.id)?;
    let status = container.status();
    let refused = |status| Error::State { verb: "exec in", id: options.id.clone(), status };
    match status {
        Status::Running | Status::Created => {}
        Status::Paused if options.ignore_paused => {}
        other => return Err(refused(other)),
    }
    let spec = container.spec()?;
    let process = process(&options.process, &spec)?;
    check::labels(&process)?;
    let terminal = process.terminal().unwrap_or(false);
    if terminal && options.detach && options.console_socket.is_none() {
        return Err(Error::invalid("a detached process with a terminal needs --console-socket"));
    }
    let console = match &options.console_socket {
        Some(path) if terminal => Some(console::connect(path, SocketType::STREAM)?),
        _ => None,
    };
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    let mut descriptors = Descriptors::default();
    let init = container.process().ok_or_else(|| refused(Status::Stopped))?;
    let flags = planner::differing_namespaces(container.record.pid)
        .map_err(|error| Error::os("look at the container's namespaces", error))?;
    let join = if flags == 0 { Vec::new() } else { vec![(descriptors.push(init), flags)] };
    let mut plan =
        planner::process(&process, planner::setgroups_denied_to(&container.record.pid.to_string()))?;
    plan.preserved = options.preserve_fds;
    affinity(&process, &mut plan)?;
    planner::beside_process(&spec, &mut plan)?;
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let program = planner::seccomp(seccomp, &mut plan)?;
    let birth = BirthPlan {
        cgroup: group(&container, &options.cgroup)?,
        join,
        oom_score_adj: process.oom_score_adj(),
        ..BirthPlan::default()
    };
    let init = init_plan(&options.id, plan);
    let trampoline =
        sys::trampoline::program().map_err(|error| Error::os("prepare the trampoline", error))?;
    let command = init.process.args[0].clone();
    let source = InitSource::Memory(Box::new(init), program);
    let inherited = Inherited { source, streams: standard_streams()?, trampoline: &trampoline };
    let (starting, descriptors) = stage::clone_init(&birth, inherited, descriptors)?;
    stage::prepare(&birth, starting.pid, &descriptors)?;
    drop(descriptors);
    starting.go(b"");
    let mut master = None;
    loop {
        match starting.next().map_err(|failure| name_command(failure.into(), &command))? {
            Word::Terminal(terminal) => match &console {
                Some(console) => console::send(console, &terminal)?,
                None => master = Some(terminal),
            },
            Word::Listener(listener) => hand_listener_of(&container, &spec, &listener, starting.pid)?,
            Word::Executed => break,
            Word::Mounted | Word::Ready => return Err(stage::unexpected().into()),
        }
    }
    let pid = starting.pid;
    if let Some(path) = &options.pid_file {
        write_pid(path, pid)?;
    }
    starting.disarm();
    match signals {
        Some(signals) => foreground::supervise(pid, master, &signals),
        None => Ok(0),
    }
}

fn init_plan(id: &str, process: ProcessPlan) -> InitPlan {
    InitPlan {
        id: id.to_owned(),
        tied: false,
        keyring: true,
        late_cgroup_namespace: false,
        wait: None,
        hooks: HooksPlan::default(),
        new_user_namespace: false,
        rootfs: None,
        loopback: false,
        hostname: None,
        domainname: None,
        sysctls: Vec::new(),
        process,
    }
}

/// Processors before and after the process joins the container's group. The first part is done here: what this process
/// has, its children begin with.
fn affinity(process: &Process, plan: &mut ProcessPlan) -> Result<()> {
    let Some(affinity) = process.exec_cpu_affinity() else { return Ok(()) };
    let list = |field: &str, text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        let numbers = planner::number_list(text);
        numbers
            .map(|all| all.into_iter().map(|number| number as usize).collect::<Vec<_>>())
            .ok_or_else(|| Error::invalid(format!("process.execCPUAffinity.{field}: {text:?}")))
    };
    let initial = list("initial", affinity.initial())?;
    if !initial.is_empty() {
        sys::process::set_affinity(&initial)
            .map_err(|error| Error::os("process.execCPUAffinity.initial", error))?;
    }
    plan.affinity = list("final", affinity.cpu_affinity_final())?;
    Ok(())
}

/// The container's group, or one below it. Where the container has divided its own group, which then takes no process,
/// the group of its first process.
fn group(container: &Container, below: &[String]) -> Result<Option<Paths>> {
    let sub = |text: &str| {
        let path = Path::new(text);
        let climbs = path.components().any(|part| matches!(part, std::path::Component::ParentDir));
        if climbs {
            return Err(Error::invalid(format!("--cgroup: {text:?} leads out of the container's group")));
        }
        Ok(path.strip_prefix("/").unwrap_or(path).to_owned())
    };
    match &container.record.cgroup {
        Some(Paths::V2(directory)) => {
            if let Some(text) = below.first() {
                return Ok(Some(Paths::V2(directory.join(sub(text)?))));
            }
            let control = directory.join("cgroup.subtree_control");
            let divided =
                sys::fs::read_limited(&control, 4096).is_ok_and(|text| !text.trim_ascii().is_empty());
            let own = if divided { group_of(container.record.pid) } else { None };
            Ok(Some(Paths::V2(own.unwrap_or_else(|| directory.clone()))))
        }
        Some(Paths::V1(directories)) => {
            let mut directories = directories.clone();
            for text in below {
                let (controllers, path) = text.split_once(':').unwrap_or(("", text));
                let path = sub(path)?;
                let named: Vec<&str> = controllers.split(',').filter(|name| !name.is_empty()).collect();
                if let Some(missing) = named.iter().find(|name| !directories.contains_key(**name)) {
                    return Err(Error::invalid(format!(
                        "--cgroup: the container has no controller {missing}"
                    )));
                }
                for (controller, directory) in &mut directories {
                    if named.is_empty() || named.contains(&controller.as_str()) {
                        directory.push(&path);
                    }
                }
            }
            Ok(Some(Paths::V1(directories)))
        }
        _ if !below.is_empty() => Err(Error::invalid("--cgroup: the container has no control group")),
        other => Ok(other.clone()),
    }
}

fn group_of(pid: u32) -> Option<PathBuf> {
    let text = sys::fs::read_limited(Path::new(&format!("/proc/{pid}/cgroup")), 65536).ok()?;
    let text = String::from_utf8(text).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(crate::cgroup::unified_mount()?.join(path))
}

fn process(asked: &ExecProcess, spec: &Spec) -> Result<Process> {
    match asked {
        ExecProcess::File(path) => {
            let bytes = sys::fs::read_limited(path, MAX_PROCESS)?;
            serde_json::from_slice(&bytes)
                .map_err(|error| Error::os(format!("parse {}", path.display()), error))
        }
        ExecProcess::Changed(changes) => {
            let own = spec.process().clone().ok_or_else(|| Error::invalid("process is missing"))?;
            change(own, changes)
        }
    }
}

fn change(mut process: Process, changes: &ProcessChanges) -> Result<Process> {
    process.set_args(Some(changes.args.clone()));
    process.set_terminal(Some(changes.terminal));
    process.set_console_size(None);
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(changes.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(cwd) = &changes.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut user = process.user().clone();
    if let Some((uid, gid)) = changes.user {
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or(0));
        user.set_additional_gids(None);
    }
    if !changes.groups.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&changes.groups);
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    if !changes.capabilities.is_empty() {
        let add = |name: &String| {
            crate::capabilities::parse(name)
                .ok_or_else(|| Error::invalid(format!("--cap: unknown capability {name:?}")))
        };
        let add = changes.capabilities.iter().map(add).collect::<Result<Vec<_>>>()?;
        let sets = with_capabilities(process.capabilities().clone().unwrap_or_default(), &add);
        process.set_capabilities(Some(sets));
    }
    if let Some(label) = &changes.label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &changes.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if changes.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    Ok(process)
}

fn with_capabilities(mut sets: LinuxCapabilities, add: &[Capability]) -> LinuxCapabilities {
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(add);
        Some(set)
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    sets
}
