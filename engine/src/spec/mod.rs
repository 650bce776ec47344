//! What the user asked for as an OCI runtime spec, with Podman's defaults.
//!
//! [`SpecOptions`] is plain data: names are resolved (the user against the image's files by [`resolve_user`], containers
//! to namespace paths, volumes to host paths) before it is filled. [`Host`] is what this machine offers, looked at once.
//! [`build`] joins the two; it is pure but for listing devices, and what it had to leave out stands in [`Built::notes`].

mod confine;
mod environment;
mod host;
mod mounts;
mod resources;
mod user;

#[cfg(test)]
mod tests;

pub use environment::DEFAULT_PATH;
pub use host::Host;
pub use user::{ResolvedUser, completed, resolve_user};

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxBuilder, LinuxIdMapping, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxPersonalityBuilder, LinuxPersonalityDomain, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};
use runtime::capabilities::{self, CapabilitySet};
use runtime::sysctl;

use crate::options::{Device, DeviceRule, Limits, Mount, Security, Ulimit};
use crate::{Error, Result};

/// Version of the runtime spec that our specs are written to.
const OCI_VERSION: &str = "1.2.1";

/// Where one namespace of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NamespaceSource {
    /// A new one.
    #[default]
    New,
    /// The caller's.
    Host,
    /// An existing one, by its path (`/proc/PID/ns/net`).
    Path(PathBuf),
}

/// The namespaces of a container; the mount namespace is always new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Processes.
    pub pid: NamespaceSource,
    /// System V and POSIX IPC, with it /dev/shm and /dev/mqueue.
    pub ipc: NamespaceSource,
    /// Host name.
    pub uts: NamespaceSource,
    /// Network: `New` has the loopback interface alone.
    pub network: NamespaceSource,
    /// Control groups; `None` = new in the unified tree, the caller's in the old layout, as Podman does.
    pub cgroup: Option<NamespaceSource>,
    /// Users; `None` = the caller's (rootless: the one davit entered at its start).
    pub user: Option<UserNamespace>,
}

/// A user namespace of the container's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserNamespace {
    /// Mappings of user IDs; empty with `path`.
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// Mappings of group IDs; empty with `path`.
    pub gid_mappings: Vec<LinuxIdMapping>,
    /// An existing namespace to join.
    pub path: Option<PathBuf>,
}

/// Everything about a container that its spec holds.
#[derive(Debug, Clone)]
pub struct SpecOptions {
    /// 64 hex digits; its first 12 are the default host name.
    pub id: String,
    /// The root file system's directory.
    pub rootfs: PathBuf,
    /// Program and arguments.
    pub args: Vec<String>,
    /// The image's environment, `KEY=VALUE`.
    pub image_env: Vec<String>,
    /// The user's environment, over the image's.
    pub env: Vec<(String, String)>,
    /// Variables of the image and of the defaults to drop.
    pub unset_env: Vec<String>,
    /// Drop all of them.
    pub unset_env_all: bool,
    /// Working directory; `None` = `/`.
    pub cwd: Option<PathBuf>,
    /// Who runs the program.
    pub user: ResolvedUser,
    /// Give it a terminal.
    pub terminal: bool,
    /// Host name; `None` = the first 12 digits of the ID, or the host's with its network or UTS namespace.
    pub hostname: Option<String>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// What the user mounts; it replaces a default mount at the same place.
    pub mounts: Vec<Mount>,
    /// Files that the engine writes and binds (source, destination): hosts, resolv.conf, hostname, .containerenv. A
    /// mount of the user at the same place replaces them.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Bytes of /dev/shm; `None` = 64000 KiB as Podman.
    pub shm_size_bytes: Option<u64>,
    /// A prepared file system for /dev/shm (shared IPC); `None` = an own tmpfs.
    pub shm_path: Option<PathBuf>,
    /// Read-only root file system.
    pub read_only: bool,
    /// With `read_only`: writable tmpfs at /run, /tmp and /var/tmp, and a writable /dev and /dev/shm.
    pub read_only_tmpfs: bool,
    /// All capabilities and devices, no confinement.
    pub privileged: bool,
    /// Capabilities before adding and dropping.
    pub capabilities: CapabilitySet,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`.
    pub security: Security,
    /// The bytes of the seccomp profile to use: the file that `security` names, or the machine's default file. `None` =
    /// the built-in profile.
    pub seccomp_profile: Option<Vec<u8>>,
    /// Limits of the group.
    pub limits: Limits,
    /// Limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// File mode mask; `None` = 0022.
    pub umask: Option<u32>,
    /// -1000 to 1000; `None` leaves it.
    pub oom_score_adj: Option<i32>,
    /// The control group; `None` = `davit/ID` at the place that this caller may use.
    pub cgroup_path: Option<PathBuf>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Pretend to be a 32-bit machine.
    pub linux32: bool,
    /// Set up for systemd as the first process.
    pub systemd: bool,
    /// Bytes of the file systems that systemd gets at /run and /run/lock; `None` = no limit.
    pub systemd_tmpfs_bytes: Option<u64>,
    /// No /dev/shm.
    pub no_shm: bool,
    /// Rules for the use of devices.
    pub device_rules: Vec<DeviceRule>,
    /// The maps of its own user namespace.
    pub id_maps: Option<crate::IdMaps>,
}

impl Default for SpecOptions {
    fn default() -> Self {
        Self {
            id: String::new(),
            rootfs: PathBuf::new(),
            args: Vec::new(),
            image_env: Vec::new(),
            env: Vec::new(),
            unset_env: Vec::new(),
            unset_env_all: false,
            cwd: None,
            user: ResolvedUser::default(),
            terminal: false,
            hostname: None,
            namespaces: Namespaces::default(),
            mounts: Vec::new(),
            files: Vec::new(),
            shm_size_bytes: None,
            shm_path: None,
            read_only: false,
            read_only_tmpfs: true,
            privileged: false,
            capabilities: CapabilitySet::DEFAULT,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            security: Security::default(),
            seccomp_profile: None,
            limits: Limits::default(),
            ulimits: Vec::new(),
            devices: Vec::new(),
            sysctls: BTreeMap::new(),
            umask: None,
            oom_score_adj: None,
            cgroup_path: None,
            annotations: BTreeMap::new(),
            domainname: None,
            linux32: false,
            systemd: false,
            systemd_tmpfs_bytes: None,
            no_shm: false,
            device_rules: Vec::new(),
            id_maps: None,
        }
    }
}

/// A spec, and what the user should know about it.
#[derive(Debug, Clone)]
pub struct Built {
    /// The spec.
    pub spec: Spec,
    /// Defaults that this machine does not allow, one sentence each. What the user asked for is never left out
    /// silently: that is an error.
    pub notes: Vec<String>,
}

/// Makes the spec of a container.
///
/// # Errors
/// Options that contradict each other or make no sense, or ask for what this machine does not have.
pub fn build(options: &SpecOptions, host: &Host) -> Result<Built> {
    let mut notes = Vec::new();
    let hostname = hostname(options, host);
    let granted = granted(options, host)?;
    let root = RootBuilder::default().path(&options.rootfs).readonly(options.read_only);
    let mut spec = SpecBuilder::default()
        .version(OCI_VERSION)
        .root(built(root.build())?)
        .process(process(options, host, &hostname, granted)?)
        .mounts(mounts::all(options, host)?)
        .annotations(options.annotations.clone().into_iter().collect::<HashMap<_, _>>())
        .linux(linux(options, host, granted, &mut notes)?);
    if options.namespaces.uts != NamespaceSource::Host {
        spec = spec.hostname(hostname);
    }
    let mut spec = built(spec.build())?;
    // The builder fills what was not given with another program's defaults.
    if options.namespaces.uts == NamespaceSource::Host {
        spec.set_hostname(None);
    }
    spec.set_domainname(options.domainname.clone());
    if options.annotations.is_empty() {
        spec.set_annotations(None);
    }
    Ok(Built { spec, notes })
}

/// What the spec's builders return; they fail only for required fields, which are always given here.
fn built<T>(result: std::result::Result<T, oci_spec::OciSpecError>) -> Result<T> {
    result.map_err(|source| Error::Part {
        attempt: "build runtime spec".into(),
        kind: crate::ErrorKind::Internal,
        source: Box::new(source),
    })
}

fn hostname(options: &SpecOptions, host: &Host) -> String {
    match &options.hostname {
        Some(name) => name.clone(),
        // The host's network with a name of our own would make the name unresolvable.
        None if options.namespaces.uts == NamespaceSource::Host
            || options.namespaces.network == NamespaceSource::Host =>
        {
            host.hostname.clone()
        }
        None => options.id.chars().take(12).collect(),
    }
}

/// The capabilities that the container may have at all: its bounding set.
fn granted(options: &SpecOptions, host: &Host) -> Result<CapabilitySet> {
    let base = if options.privileged { host.bounding } else { options.capabilities };
    let granted = capabilities::resolve(base, host.bounding, &options.cap_add, &options.cap_drop)
        .map_err(|error| Error::invalid("capabilities", error.to_string()))?;
    // What the caller does not have cannot be given; the peers lower the set too, without an error.
    Ok(granted.intersection(host.bounding))
}

fn process(options: &SpecOptions, host: &Host, hostname: &str, granted: CapabilitySet) -> Result<Process> {
    let added = capabilities::added(&options.cap_add)
        .map_err(|error| Error::invalid("capabilities", error.to_string()))?;
    let user = &options.user;
    let env = environment::container(options, hostname);
    let limits = resources::rlimits(&options.ulimits, host, options.namespaces.user.is_some())?;
    let sets = capabilities::process_sets(user.uid, granted, added, options.privileged);
    let mut process = base_process(user, options.umask, &options.args, env, options.cwd.as_deref())?;
    process.set_terminal(options.terminal.then_some(true));
    process.set_capabilities(Some(sets));
    process.set_rlimits((!limits.is_empty()).then_some(limits));
    process.set_no_new_privileges(options.security.no_new_privileges.then_some(true));
    process.set_apparmor_profile(confine::apparmor(options, host)?);
    process.set_oom_score_adj(resources::oom_score(options.oom_score_adj, host)?);
    Ok(process)
}

fn base_process(
    user: &ResolvedUser,
    umask: Option<u32>,
    args: &[String],
    env: Vec<String>,
    cwd: Option<&Path>,
) -> Result<Process> {
    let mut spec_user = UserBuilder::default().uid(user.uid).gid(user.gid).umask(umask.unwrap_or(0o022));
    if !user.additional_gids.is_empty() {
        spec_user = spec_user.additional_gids(user.additional_gids.clone());
    }
    let cwd = cwd.unwrap_or(Path::new("/"));
    if !cwd.is_absolute() {
        return Err(Error::invalid(format!("working directory {}", cwd.display()), "not an absolute path"));
    }
    let process = ProcessBuilder::default()
        .user(built(spec_user.build())?)
        .args(args)
        .env(env)
        .cwd(cwd)
        .no_new_privileges(false);
    built(process.build())
}

/// What `exec` asks of a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The user's environment, over the container's.
    pub env: Vec<(String, String)>,
    /// Working directory; `None` = the container's.
    pub cwd: Option<PathBuf>,
    /// Who runs it; `None` = the container's user. Resolve it with [`resolve_user`].
    pub user: Option<ResolvedUser>,
    /// Give it a terminal.
    pub terminal: bool,
    /// All capabilities of the caller.
    pub privileged: bool,
}

/// Makes the process of an exec session from the container's spec: its environment (without HOSTNAME, as Podman), limits
/// and confinement, with the user's own over them.
///
/// # Errors
/// A relative working directory, or a spec without a process.
pub fn exec_process(container: &Spec, options: &ExecOptions, host: &Host) -> Result<Process> {
    let main = container
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("runtime spec", "it has no process to take the defaults from"))?;
    let own_user = ResolvedUser {
        uid: main.user().uid(),
        gid: main.user().gid(),
        additional_gids: main.user().additional_gids().clone().unwrap_or_default(),
        home: PathBuf::new(),
        name: None,
    };
    let user = options.user.as_ref().unwrap_or(&own_user);
    let home = options.user.as_ref().map(|user| user.home.as_path());
    let env =
        environment::exec(main.env().as_deref().unwrap_or_default(), &options.env, home, options.terminal);
    let cwd = options.cwd.as_deref().unwrap_or(main.cwd());
    let mut process = base_process(user, main.user().umask(), &options.args, env, Some(cwd))?;
    let capabilities = main.capabilities().as_ref();
    let bounding = capabilities
        .and_then(|sets| sets.bounding().as_ref())
        .map_or(CapabilitySet::EMPTY, CapabilitySet::from_spec);
    let ambient = capabilities
        .and_then(|sets| sets.ambient().as_ref())
        .map_or(CapabilitySet::EMPTY, CapabilitySet::from_spec);
    let granted = if options.privileged { host.bounding } else { bounding };
    let sets = capabilities::process_sets(user.uid, granted, ambient, options.privileged);
    process.set_terminal(options.terminal.then_some(true));
    process.set_capabilities(Some(sets));
    process.set_rlimits(main.rlimits().clone());
    process.set_no_new_privileges(main.no_new_privileges());
    process.set_apparmor_profile(main.apparmor_profile().clone());
    process.set_oom_score_adj(main.oom_score_adj());
    process.set_selinux_label(main.selinux_label().clone());
    Ok(process)
}

fn linux(
    options: &SpecOptions,
    host: &Host,
    granted: CapabilitySet,
    notes: &mut Vec<String>,
) -> Result<Linux> {
    let devices = resources::devices(options, host)?;
    let (masked, read_only) = confine::paths(options, host);
    let path = options.cgroup_path.clone().unwrap_or_else(|| Path::new("davit").join(&options.id));
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(options, host)?)
        .masked_paths(masked)
        .readonly_paths(read_only)
        .resources(resources::group(options, host, &devices, notes)?)
        .cgroups_path(path);
    if let Some(user) = &options.namespaces.user {
        linux = linux.uid_mappings(user.uid_mappings.clone()).gid_mappings(user.gid_mappings.clone());
    }
    if !devices.nodes.is_empty() {
        linux = linux.devices(devices.nodes);
    }
    let sysctls = sysctls(options, host)?;
    if !sysctls.is_empty() {
        linux = linux.sysctl(sysctls);
    }
    if let Some(seccomp) = confine::seccomp(options, host, granted)? {
        linux = linux.seccomp(seccomp);
    }
    let mut linux = built(linux.build())?;
    if options.namespaces.user.is_none() {
        linux.set_uid_mappings(None);
        linux.set_gid_mappings(None);
    }
    if options.linux32 {
        let personality = LinuxPersonalityBuilder::default().domain(LinuxPersonalityDomain::PerLinux32);
        linux.set_personality(Some(built(personality.build())?));
    }
    Ok(linux)
}

fn namespaces(options: &SpecOptions, host: &Host) -> Result<Vec<LinuxNamespace>> {
    let wanted = &options.namespaces;
    let cgroup = match &wanted.cgroup {
        Some(source) => source.clone(),
        None if host.unified => NamespaceSource::New,
        None => NamespaceSource::Host,
    };
    let mut list = Vec::new();
    let sources = [
        (LinuxNamespaceType::Pid, &wanted.pid),
        (LinuxNamespaceType::Network, &wanted.network),
        (LinuxNamespaceType::Ipc, &wanted.ipc),
        (LinuxNamespaceType::Uts, &wanted.uts),
        (LinuxNamespaceType::Mount, &NamespaceSource::New),
        (LinuxNamespaceType::Cgroup, &cgroup),
    ];
    for (typ, source) in sources {
        match source {
            NamespaceSource::Host => {}
            NamespaceSource::New => list.push(namespace(typ, None)?),
            NamespaceSource::Path(path) => list.push(namespace(typ, Some(path))?),
        }
    }
    if let Some(user) = &wanted.user {
        list.push(namespace(LinuxNamespaceType::User, user.path.as_ref())?);
    }
    Ok(list)
}

fn namespace(typ: LinuxNamespaceType, path: Option<&PathBuf>) -> Result<LinuxNamespace> {
    let mut namespace = LinuxNamespaceBuilder::default().typ(typ);
    if let Some(path) = path {
        namespace = namespace.path(path);
    }
    built(namespace.build())
}

fn sysctls(options: &SpecOptions, host: &Host) -> Result<HashMap<String, String>> {
    let own = sysctl::OwnNamespaces {
        ipc: options.namespaces.ipc != NamespaceSource::Host,
        network: options.namespaces.network != NamespaceSource::Host,
        uts: options.namespaces.uts != NamespaceSource::Host,
    };
    let mut all = HashMap::new();
    // Podman lets root of the container ping without NET_RAW. A joined network belongs to another container.
    if host.ping_group_range && options.namespaces.network == NamespaceSource::New {
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 0".to_owned());
    }
    for (key, value) in &options.sysctls {
        sysctl::check(key, own).map_err(|error| Error::invalid("sysctl", error.to_string()))?;
        all.insert(key.clone(), value.clone());
    }
    Ok(all)
}
