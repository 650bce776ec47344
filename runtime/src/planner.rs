//! From a spec to a plan: runs in the caller's process, before any fork.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxMemoryPolicy, LinuxNamespaceType,
    LinuxPersonalityDomain, LinuxSeccomp, Mount as SpecMount, Process, Spec,
};
use rustix::fs::{Mode, OFlags};
use sys::idmap::Range;
use sys::mount::{Attributes, Mount, Propagation};

use crate::capabilities::CapabilitySet;
use crate::cgroup;
use crate::error::{Error, Result, Stage};
use crate::launch::{OutputMode, Rootfs, StdinMode};
use crate::plan::{Borrowed, DevicePlan, MountPlan, ProcessPlan, RootfsPlan, Source, Stream};
use crate::wire::{At, Descriptors, Failure};

/// The namespaces of a spec.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW*` of those to create.
    pub(crate) new: u64,
    /// Descriptors to join, user namespace first, mount namespace last.
    pub(crate) join: Vec<(usize, i32)>,
}

impl Namespaces {
    fn flag(typ: LinuxNamespaceType) -> u64 {
        typ as u64
    }

    pub(crate) fn creates(&self, typ: LinuxNamespaceType) -> bool {
        self.new & Self::flag(typ) != 0
    }

    pub(crate) fn joins(&self, typ: LinuxNamespaceType) -> bool {
        self.join.iter().any(|(_, flag)| i64::from(*flag) == Self::flag(typ).cast_signed())
    }

    pub(crate) fn read(spec: &Spec, descriptors: &mut Descriptors) -> Result<Self> {
        let listed =
            spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let (mut new, mut paths, mut seen) = (0, Vec::new(), 0);
        for namespace in listed {
            let flag = Self::flag(namespace.typ());
            if seen & flag != 0 {
                return Err(Error::invalid(format!("linux.namespaces: {} is listed twice", namespace.typ())));
            }
            seen |= flag;
            match namespace.path() {
                None => new |= flag,
                Some(path) => paths.push((flag, path)),
            }
        }
        // Rights in the other namespaces come from the user namespace; paths are looked up in the mount namespace.
        paths.sort_by_key(|(flag, _)| match *flag {
            flag if flag == Self::flag(LinuxNamespaceType::User) => 0,
            flag if flag == Self::flag(LinuxNamespaceType::Mount) => 2,
            _ => 1,
        });
        let mut join = Vec::new();
        for (flag, path) in paths {
            let descriptor = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Error::stage(Stage::Namespace, path.display().to_string(), errno))?;
            join.push((
                descriptors.push(descriptor),
                i32::try_from(flag).map_err(|_| Error::invalid("namespace"))?,
            ));
        }
        Ok(Self { new, join })
    }
}

pub(crate) fn id_ranges(maps: Option<&Vec<LinuxIdMapping>>) -> Vec<Range> {
    let range = |map: &LinuxIdMapping| Range {
        inside: map.container_id(),
        outside: map.host_id(),
        count: map.size(),
    };
    maps.map(|maps| maps.iter().map(range).collect()).unwrap_or_default()
}

/// The text of timens_offsets, if the spec has offsets.
pub(crate) fn time_offsets(spec: &Spec) -> Option<String> {
    let offsets = spec.linux().as_ref()?.time_offsets().as_ref()?;
    let line = |(clock, offset): (&String, &oci_spec::runtime::LinuxTimeOffset)| {
        format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0))
    };
    Some(offsets.iter().map(line).collect())
}

/// What mounts depend on.
#[derive(Debug)]
pub(crate) struct MountContext<'a> {
    pub(crate) bundle: Option<&'a Path>,
    pub(crate) cgroup: Option<&'a cgroup::Paths>,
    /// Whether the container will be in a user namespace other than the first one.
    pub(crate) user_namespace: bool,
    /// Whether that user namespace is the container's own, whose mapping mounts may have.
    pub(crate) new_user_namespace: bool,
    /// SELinux label of the mounts.
    pub(crate) label: Option<&'a str>,
    /// Indices of mounts to be mapped.
    pub(crate) id_mapped: Vec<usize>,
    /// What the monitor does of it, where there is one.
    pub(crate) by_monitor: Option<ByMonitor>,
}

/// Mounts that need a process with a single thread that is made for the purpose: the monitor.
#[derive(Debug, Default)]
pub(crate) struct ByMonitor {
    /// Whether owners in the root file system are mapped.
    pub(crate) map_owners: bool,
    /// The mounts of the root file system then.
    pub(crate) mapped_rootfs: Vec<(usize, Mount)>,
    /// Mounts to copy from other containers.
    pub(crate) borrowed: Vec<Borrowed>,
}

pub(crate) fn rootfs(
    spec: &Spec,
    rootfs: &Rootfs,
    context: &mut MountContext<'_>,
    descriptors: &mut Descriptors,
) -> Result<RootfsPlan> {
    let mapped = context.by_monitor.as_mut().filter(|mounts| mounts.map_owners);
    let mounts = rootfs_mounts(rootfs, mapped.map(|mounts| &mut mounts.mapped_rootfs), descriptors)?;
    let mut places = Vec::new();
    let (mut own_dev, mut read_only_dev) = (true, false);
    for mount in spec.mounts().as_deref().unwrap_or_default() {
        let mut place = place(mount, context, descriptors)?;
        if place.destination == Path::new("/dev") {
            match &mut place.source {
                Source::Prepared(_) => own_dev = false,
                // nodes and mounts are still to be made in it
                Source::New(value, _) => {
                    read_only_dev = value.attributes.contains(Attributes::READ_ONLY);
                    value.attributes = value.attributes.without(Attributes::READ_ONLY);
                }
                Source::CgroupV1 { .. } | Source::Remount { .. } => {}
            }
        }
        places.extend([place]);
    }
    let linux = spec.linux().as_ref();
    let paths =
        |list: Option<&Vec<String>>| list.into_iter().flatten().map(PathBuf::from).collect::<Vec<_>>();
    Ok(RootfsPlan {
        mounts,
        at: None,
        no_pivot: false,
        propagation: match linux.and_then(|linux| linux.rootfs_propagation().as_deref()) {
            None | Some("") => None,
            Some("private" | "rprivate") => Some(Propagation::Private),
            Some("slave" | "rslave") => Some(Propagation::Slave),
            Some("shared" | "rshared") => Some(Propagation::Shared),
            Some("unbindable" | "runbindable") => Some(Propagation::Unbindable),
            Some(other) => return Err(Error::invalid(format!("linux.rootfsPropagation: {other:?}"))),
        },
        read_only: spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false),
        read_only_dev,
        mtab: false,
        places,
        devices: if own_dev { Some(devices(spec, context, descriptors)?) } else { None },
        masked: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
        read_only_paths: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
    })
}

/// The detached mounts of a root file system.
///
/// With `mapped` they are left to the monitor, and only their places are kept.
pub(crate) fn rootfs_mounts(
    rootfs: &Rootfs,
    mapped: Option<&mut Vec<(usize, Mount)>>,
    descriptors: &mut Descriptors,
) -> Result<Vec<usize>> {
    if let Some(mapped) = mapped {
        let list = match rootfs {
            Rootfs::Path(path) => vec![Mount::bind(path)],
            Rootfs::Mounts(list) => list.clone(),
        };
        for mount in list {
            mapped.push((descriptors.push(placeholder()?), mount));
        }
        return Ok(mapped.iter().map(|(index, _)| *index).collect());
    }
    let detached =
        |mount: &Mount| sys::mount::detached(mount).at(Stage::Rootfs, "").map_err(Failure::into_error);
    let mut mounts = Vec::new();
    match rootfs {
        Rootfs::Path(path) => {
            let mount = Mount::bind_recursive(path).with_propagation(Propagation::Private);
            mounts.push(descriptors.push(detached(&mount)?));
        }
        Rootfs::Mounts(list) if list.is_empty() => {
            return Err(Error::invalid("the root file system has no mounts"));
        }
        Rootfs::Mounts(list) => {
            for mount in list {
                let mount = detached(mount)?;
                sys::mount::set_propagation(&mount, Propagation::Private, true)
                    .at(Stage::Rootfs, "")
                    .map_err(Failure::into_error)?;
                mounts.push(descriptors.push(mount));
            }
        }
    }
    Ok(mounts)
}

fn place(
    mount: &SpecMount,
    context: &mut MountContext<'_>,
    descriptors: &mut Descriptors,
) -> Result<MountPlan> {
    let destination = mount.destination().clone();
    let subject = || destination.display().to_string();
    let options = mount.options().as_deref().unwrap_or_default();
    let has = |names: &[&str]| options.iter().any(|option| names.contains(&option.as_str()));
    let kind = mount.typ().as_deref().unwrap_or("bind");
    let copy_up = has(&["tmpcopyup", "copyup"]);
    let is_bind = kind == "bind" || kind == "rbind" || has(&["bind", "rbind"]);
    let ours = ["tmpcopyup", "copyup", "notmpcopyup", "idmap", "ridmap", "bind", "rbind", "remount", "user"];
    let plain = options.iter().filter(|option| !ours.contains(&option.as_str()));
    if is_bind || has(&["remount"]) {
        // Options of a file system are no business of one more view of it.
        let refused = plain.clone().find(|option| !Mount::is_attribute(option));
        if let Some(option) = refused {
            return Err(Error::invalid(format!("mounts: {}: option {option:?} of a bind mount", subject())));
        }
    }
    let maps = own_maps(mount, &subject())?;
    let id_mapped = has(&["idmap", "ridmap"]) || maps.is_some();
    if id_mapped && (!is_bind || has(&["remount"])) {
        return Err(Error::invalid(format!("mounts: {}: only bind mounts can be id-mapped", subject())));
    }
    if id_mapped && maps.is_none() && !context.new_user_namespace {
        let what = "an id-mapped mount needs uidMappings and gidMappings, or a new user namespace";
        return Err(Error::invalid(format!("mounts: {}: {what}", subject())));
    }
    if has(&["remount"]) {
        let mut value = Mount::bind("/");
        plain.for_each(|option| value.apply_option(option));
        let source = Source::Remount {
            set: value.attributes,
            cleared: value.cleared,
            recursive: value.recursive,
            recursive_cleared: value.recursive_cleared,
        };
        return Ok(MountPlan { destination, source, directory: true, copy_up: false });
    }
    if is_bind {
        let source = mount
            .source()
            .clone()
            .ok_or_else(|| Error::invalid(format!("mounts: {}: no source", subject())))?;
        let source = match context.bundle {
            Some(bundle) if source.is_relative() => bundle.join(source),
            _ => source,
        };
        let recursive = kind == "rbind" || has(&["rbind"]);
        let mut value = if recursive { Mount::bind_recursive(&source) } else { Mount::bind(&source) };
        plain.for_each(|option| value.apply_option(option));
        if value.propagation.is_none() {
            // A copy of a shared mount would send the container's mounts to the host.
            value.propagation = Some(Propagation::Private);
        }
        if let Some(by_monitor) = &mut context.by_monitor
            && let Some((namespace, path)) = other_namespace(&source, descriptors)?
        {
            let place = descriptors.push(placeholder()?);
            value.filesystem = sys::mount::Filesystem::Bind { source: path, recursive };
            by_monitor.borrowed.push(Borrowed { place, namespace, mount: value });
            let source = Source::Prepared(place);
            return Ok(MountPlan { destination, source, directory: true, copy_up: false });
        }
        let detached =
            sys::mount::detached(&value).at(Stage::Mount, subject()).map_err(Failure::into_error)?;
        let directory = is_directory(&detached).at(Stage::Mount, subject()).map_err(Failure::into_error)?;
        if let Some((users, groups)) = &maps {
            let namespace = sys::process::user_namespace(users, groups);
            let mapped = namespace.at(Stage::IdMap, subject()).and_then(|namespace| {
                sys::mount::set_id_map(&detached, &namespace, has(&["ridmap"])).at(Stage::IdMap, subject())
            });
            mapped.map_err(Failure::into_error)?;
        }
        let index = descriptors.push(detached);
        if id_mapped && maps.is_none() {
            context.id_mapped.push(index);
        }
        return Ok(MountPlan { destination, source: Source::Prepared(index), directory, copy_up: false });
    }
    if kind == "cgroup" || kind == "cgroup2" {
        return cgroup_place(destination, options, context, descriptors);
    }
    if kind == "overlay" && options.iter().any(|option| option.starts_with("lowerdir=")) {
        let value = overlay(plain.map(String::as_str));
        let detached =
            sys::mount::detached(&value).at(Stage::Mount, subject()).map_err(Failure::into_error)?;
        let source = Source::Prepared(descriptors.push(detached));
        return Ok(MountPlan { destination, source, directory: true, copy_up: false });
    }
    let mut value = Mount::named(kind);
    if let Some(source) = mount.source().as_ref().and_then(|source| source.to_str()) {
        value = value.with_source(source);
    }
    plain.for_each(|option| value.apply_option(option));
    if let (Some(label), false) = (context.label, matches!(kind, "proc" | "sysfs")) {
        value = value.with_option("context", label);
    }
    Ok(MountPlan { destination, source: Source::New(value, None), directory: true, copy_up })
}

/// An overlay from the words of mount(8), made here: its directories are the caller's, and their list may be longer than
/// one option of the kernel.
fn overlay<'a>(options: impl Iterator<Item = &'a str>) -> Mount {
    let mut layers = sys::mount::Overlay::default();
    let mut others = Vec::new();
    for option in options {
        match option.split_once('=') {
            Some(("lowerdir", list)) => layers.lower = directories(list),
            Some(("upperdir", path)) => layers.upper = directories(path).pop(),
            Some(("workdir", path)) => layers.work = directories(path).pop(),
            _ => others.push(option),
        }
    }
    let mut mount = Mount::new(sys::mount::Filesystem::Overlay(layers));
    others.into_iter().for_each(|option| mount.apply_option(option));
    mount
}

/// Paths separated by colons; a backslash keeps what follows it as it is.
fn directories(list: &str) -> Vec<PathBuf> {
    let mut paths = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => paths.last_mut().expect("there is one").extend(letters.next()),
            ':' => paths.push(String::new()),
            other => paths.last_mut().expect("there is one").push(other),
        }
    }
    paths.into_iter().map(PathBuf::from).collect()
}

/// The maps of users and of groups.
type Maps = (Vec<Range>, Vec<Range>);

/// The maps that a mount brings along.
fn own_maps(mount: &SpecMount, subject: &str) -> Result<Option<Maps>> {
    let (users, groups) =
        (id_ranges(mount.uid_mappings().as_ref()), id_ranges(mount.gid_mappings().as_ref()));
    match (users.is_empty(), groups.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some((users, groups))),
        _ => Err(Error::invalid(format!("mounts: {subject}: uidMappings and gidMappings go together"))),
    }
}

/// Keeps a place among the descriptors for what the monitor makes.
fn placeholder() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::stage(Stage::Rootfs, "/dev/null", errno))
}

/// The mount namespace of a source below `/proc/PID/root`, and the path in it.
fn other_namespace(source: &Path, descriptors: &mut Descriptors) -> Result<Option<(usize, PathBuf)>> {
    let Some(text) = source.to_str().and_then(|text| text.strip_prefix("/proc/")) else { return Ok(None) };
    let Some((pid, path)) = text.split_once("/root/") else { return Ok(None) };
    if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let name = format!("/proc/{pid}/ns/mnt");
    let namespace = rustix::fs::open(&name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::stage(Stage::Mount, name, errno))?;
    Ok(Some((descriptors.push(namespace), Path::new("/").join(path))))
}

fn cgroup_place(
    destination: PathBuf,
    options: &[String],
    context: &MountContext<'_>,
    descriptors: &mut Descriptors,
) -> Result<MountPlan> {
    let known = |option: &&String| {
        ["ro", "rw", "nosuid", "nodev", "noexec", "relatime", "rprivate", "private", "rslave", "slave"]
            .contains(&option.as_str())
    };
    let with_options = |mut mount: Mount| {
        for option in options.iter().filter(known) {
            mount.apply_option(option);
            // The hierarchies of the host lie below the place as mounts of their own.
            if option == "ro" {
                mount.apply_option("rro");
            }
        }
        mount
    };
    let mut bind = |path: &Path, recursive: bool| -> Result<usize> {
        let mount = with_options(if recursive { Mount::bind_recursive(path) } else { Mount::bind(path) });
        let mount = mount.with_propagation(Propagation::Private);
        let mount = sys::mount::detached(&mount).at(Stage::Mount, destination.display().to_string());
        Ok(descriptors.push(mount.map_err(Failure::into_error)?))
    };
    let source = match context.cgroup {
        Some(cgroup::Paths::V1(directories)) => {
            let mut hierarchies = Vec::new();
            for (controller, directory) in directories {
                let name = controller.strip_prefix("name=").unwrap_or(controller);
                hierarchies.push((name.to_owned(), bind(directory, false)?));
            }
            Source::CgroupV1 { hierarchies, read_only: options.iter().any(|option| option == "ro") }
        }
        _ => {
            let unified = matches!(cgroup::layout(), cgroup::Layout::V2 { .. })
                || sys::fs::exists(Path::new("/sys/fs/cgroup/cgroup.controllers")).unwrap_or(false);
            let path = match context.cgroup {
                Some(cgroup::Paths::V2(path)) => path.clone(),
                _ => PathBuf::from("/sys/fs/cgroup"),
            };
            match bind(&path, true) {
                Ok(index) if unified => Source::New(with_options(Mount::named("cgroup2")), Some(index)),
                Ok(index) => Source::Prepared(index),
                // Without control groups an empty directory is what a container sees.
                Err(_) => Source::New(with_options(Mount::tmpfs(0o755, Some(0x1000))), None),
            }
        }
    };
    Ok(MountPlan { destination, source, directory: true, copy_up: false })
}

fn is_directory(descriptor: &OwnedFd) -> rustix::io::Result<bool> {
    let mode = rustix::fs::fstat(descriptor)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode).is_dir())
}

fn devices(
    spec: &Spec,
    context: &MountContext<'_>,
    descriptors: &mut Descriptors,
) -> Result<Vec<DevicePlan>> {
    let listed = spec.linux().as_ref().and_then(|linux| linux.devices().clone()).unwrap_or_default();
    let defaults = crate::devices::default_nodes();
    let is_listed = |path: &Path| listed.iter().any(|device: &LinuxDevice| device.path() == path);
    let missing =
        defaults.into_iter().filter(|device| !is_listed(device.path())).map(|device| (device, true));
    let mut plans = Vec::new();
    for (device, is_default) in missing.chain(listed.iter().cloned().map(|device| (device, false))) {
        let number =
            |number: i64| u32::try_from(number).map_err(|_| Error::invalid("linux.devices: device number"));
        let bind = if context.user_namespace {
            // Nodes cannot be made in a user namespace: the host's node is bound over a file.
            match sys::mount::detached(&Mount::bind(device.path()).with_propagation(Propagation::Private)) {
                Ok(mount) => Some(descriptors.push(mount)),
                Err(_) if is_default => continue,
                Err(error) => {
                    let failure = Err::<(), _>(error).at(Stage::Device, "").map_err(Failure::into_error);
                    return Err(failure.err().unwrap_or_else(|| Error::invalid("device")));
                }
            }
        } else {
            None
        };
        plans.push(DevicePlan {
            path: device.path().clone(),
            kind: match device.typ() {
                LinuxDeviceType::B => 'b',
                LinuxDeviceType::P => 'p',
                _ => 'c',
            },
            major: number(device.major())?,
            minor: number(device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            bind,
        });
    }
    Ok(plans)
}

/// The process of a spec or of an exec request.
pub(crate) fn process(process: &Process, keep_groups: bool) -> Result<ProcessPlan> {
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(Error::invalid("process.args is empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::invalid(format!("process.cwd is not absolute: {}", process.cwd().display())));
    }
    let env = process.env().clone().unwrap_or_default();
    for text in args.iter().chain(&env) {
        if text.contains('\0') {
            return Err(Error::invalid("process: a NUL byte in an argument or in the environment"));
        }
    }
    let size = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
    let console = process.console_size().as_ref().copied();
    let user = process.user();
    let mut rlimits: Vec<(u32, u64, u64)> = Vec::new();
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        let number = crate::rlimits::number(limit.typ());
        if rlimits.iter().any(|(other, _, _)| *other == number) {
            return Err(Error::invalid(format!("process.rlimits: {} is listed twice", limit.typ())));
        }
        rlimits.push((number, limit.soft(), limit.hard()));
    }
    Ok(ProcessPlan {
        args,
        env,
        cwd: process.cwd().clone(),
        terminal: process.terminal().unwrap_or(false),
        rows: console.map_or(0, |console| size(console.height())),
        columns: console.map_or(0, |console| size(console.width())),
        uid: user.uid(),
        gid: user.gid(),
        umask: user.umask(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        keep_groups,
        capabilities: process.capabilities().as_ref().map(|sets| {
            let bits = |set: &Option<oci_spec::runtime::Capabilities>| {
                set.as_ref().map_or(0, |set| CapabilitySet::from_spec(set).0)
            };
            sys::caps::Sets {
                bounding: bits(sets.bounding()),
                effective: bits(sets.effective()),
                permitted: bits(sets.permitted()),
                inheritable: bits(sets.inheritable()),
                ambient: bits(sets.ambient()),
            }
        }),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        rlimits,
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
        personality_32: false,
        memory_policy: None,
        affinity: Vec::new(),
        preserved: 0,
        apparmor: process.apparmor_profile().clone().filter(|profile| !profile.is_empty()),
        selinux: process.selinux_label().clone().filter(|label| !label.is_empty()),
        seccomp_flags: 0,
        init: false,
        handed_on: Vec::new(),
    })
}

/// Adds what stands outside `process` in the spec.
pub(crate) fn beside_process(spec: &Spec, plan: &mut ProcessPlan) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    if let Some(personality) = linux.personality() {
        if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            return Err(Error::invalid("linux.personality.flags: none is defined"));
        }
        plan.personality_32 = personality.domain() == LinuxPersonalityDomain::PerLinux32;
    }
    plan.memory_policy = linux.memory_policy().as_ref().map(memory_policy).transpose()?;
    Ok(())
}

fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<sys::process::MemoryPolicy> {
    use oci_spec::runtime::{MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};
    let mut mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    for flag in policy.flags().iter().flatten() {
        mode |= match flag {
            Flag::MpolFStaticNodes => 1 << 15,
            Flag::MpolFRelativeNodes => 1 << 14,
            Flag::MpolFNumaBalancing => 1 << 13,
        };
    }
    let nodes = policy.nodes().as_deref().unwrap_or_default();
    let nodes =
        number_list(nodes).ok_or_else(|| Error::invalid(format!("linux.memoryPolicy.nodes: {nodes:?}")))?;
    Ok(sys::process::MemoryPolicy { mode, nodes })
}

/// Reads `0-3,7`; `None` for another form. Numbers are below 8192, as many as the kernel knows of anything counted so.
pub(crate) fn number_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= 8192 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Compiles a filter; no instructions = none.
pub(crate) fn seccomp(
    seccomp: Option<&LinuxSeccomp>,
    plan: &mut ProcessPlan,
) -> Result<Vec<sys::seccomp_load::Instruction>> {
    let Some(seccomp) = seccomp else { return Ok(Vec::new()) };
    let program = crate::seccomp::compile(seccomp).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::stage(Stage::Seccomp, "", io::Error::other(format!("{error}{cause}")))
    })?;
    plan.seccomp_flags = program.flags;
    Ok(program.instructions)
}

// The fields of these two types of oci-spec have no getters: they are read through their JSON.
fn scheduler(value: &oci_spec::runtime::Scheduler) -> Result<sys::process::Scheduler> {
    let json =
        serde_json::to_value(value).map_err(|error| Error::invalid(format!("process.scheduler: {error}")))?;
    let text = |key: &str| json.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let number = |key: &str| json.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let policy = match text("policy").as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(Error::invalid(format!("process.scheduler.policy: {other:?}"))),
    };
    let mut flags = 0;
    for flag in json.get("flags").and_then(|flags| flags.as_array()).into_iter().flatten() {
        flags |= match flag.as_str().unwrap_or_default() {
            "SCHED_RESET_ON_FORK" | "SCHED_FLAG_RESET_ON_FORK" => 1,
            "SCHED_FLAG_RECLAIM" => 2,
            "SCHED_FLAG_DL_OVERRUN" | "SCHED_FLAG_D_L_OVERRUN" => 4,
            "SCHED_FLAG_KEEP_POLICY" => 8,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            other => return Err(Error::invalid(format!("process.scheduler.flags: {other:?}"))),
        };
    }
    let unsigned = |key: &str| json.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    Ok(sys::process::Scheduler {
        policy,
        flags,
        nice: i32::try_from(number("nice")).map_err(|_| Error::invalid("process.scheduler.nice"))?,
        priority: u32::try_from(number("priority"))
            .map_err(|_| Error::invalid("process.scheduler.priority"))?,
        runtime: unsigned("runtime"),
        deadline: unsigned("deadline"),
        period: unsigned("period"),
    })
}

fn io_priority(value: &oci_spec::runtime::LinuxIOPriority) -> Result<(u8, u8)> {
    let json = serde_json::to_value(value)
        .map_err(|error| Error::invalid(format!("process.ioPriority: {error}")))?;
    let class = match json.get("class").and_then(|class| class.as_str()).unwrap_or_default() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::invalid(format!("process.ioPriority.class: {other:?}"))),
    };
    let level = json.get("priority").and_then(serde_json::Value::as_u64).unwrap_or(0);
    match u8::try_from(level) {
        Ok(level) if level <= 7 => Ok((class, level)),
        _ => Err(Error::invalid(format!("process.ioPriority.priority: {level}"))),
    }
}

pub(crate) fn stdin(mode: StdinMode, descriptors: &mut Descriptors) -> Stream {
    match mode {
        StdinMode::Null => Stream::Null,
        StdinMode::Attach { keep_open } => Stream::Attach { keep_open },
        StdinMode::Fd(descriptor) => Stream::Fd(descriptors.push(descriptor)),
    }
}

pub(crate) fn output(mode: OutputMode, descriptors: &mut Descriptors) -> Stream {
    match mode {
        OutputMode::Null => Stream::Null,
        OutputMode::Captured => Stream::Captured,
        OutputMode::Fd(descriptor) => Stream::Fd(descriptors.push(descriptor)),
    }
}

/// The namespaces in which the process `pid` differs from the caller, as flags for setns(2) on its pidfd.
pub(crate) fn differing_namespaces(pid: u32) -> io::Result<i32> {
    let types = [
        ("user", LinuxNamespaceType::User),
        ("mnt", LinuxNamespaceType::Mount),
        ("pid", LinuxNamespaceType::Pid),
        ("net", LinuxNamespaceType::Network),
        ("ipc", LinuxNamespaceType::Ipc),
        ("uts", LinuxNamespaceType::Uts),
        ("cgroup", LinuxNamespaceType::Cgroup),
        ("time", LinuxNamespaceType::Time),
    ];
    let mut flags = 0;
    for (name, typ) in types {
        let inode =
            |owner: &str| rustix::fs::stat(format!("/proc/{owner}/ns/{name}")).map(|status| status.st_ino);
        match (inode(&pid.to_string()), inode("self")) {
            (Ok(theirs), Ok(own)) if theirs != own => flags |= typ as i32,
            (Ok(_), _) => {}
            // A kernel without this kind of namespace.
            (Err(rustix::io::Errno::NOENT), Err(rustix::io::Errno::NOENT)) => {}
            (Err(errno), _) => return Err(errno.into()),
        }
    }
    Ok(flags)
}

/// Opens the listening socket of a run directory. The path may be longer than a socket address holds, so it is named
/// through an open descriptor of the directory.
pub(crate) fn listen(run_dir: &Path) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    use std::os::fd::AsRawFd;
    let directory = sys::beneath::open_root(run_dir)?;
    match rustix::fs::unlinkat(&directory, "attach.sock", rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/attach.sock", directory.as_raw_fd()))?;
    rustix::net::bind(&socket, &address)?;
    rustix::fs::chmodat(
        directory.as_fd(),
        "attach.sock",
        Mode::from_raw_mode(0o600),
        rustix::fs::AtFlags::empty(),
    )?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Tells whether setgroups(2) is forbidden in the caller's user namespace, as it is with a single mapped id.
pub(crate) fn setgroups_denied() -> bool {
    setgroups_denied_to("self")
}

/// The same for another process, by its number in /proc.
pub(crate) fn setgroups_denied_to(process: &str) -> bool {
    let path = format!("/proc/{process}/setgroups");
    sys::fs::read_limited(Path::new(&path), 64).is_ok_and(|text| text.starts_with(b"deny"))
}
