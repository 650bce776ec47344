//! The root file system and the mounts of the spec, inside the container's own mount namespace.
//!
//! Every mount is made detached and then moved to a place that `openat2` resolved inside the rootfs, so no path is
//! ever walked in the host's tree.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use sys::mount::{Attributes, Mount, Propagation};

use crate::error::Stage;
use crate::init::copy_up;
use crate::init::mask::is_procfs;
use crate::plan::{MountPlan, RootfsPlan, Source};
use crate::wire::{At, Descriptors, Failure};

/// Mounts everything and returns the root directory of the container, still below the host's.
pub(super) fn mount(plan: &RootfsPlan, descriptors: &mut Descriptors) -> Result<OwnedFd, Failure> {
    let around = match plan.propagation {
        // Peers and masters of volumes must stay what they are.
        Some(Propagation::Shared | Propagation::Slave) => Propagation::Slave,
        _ => Propagation::Private,
    };
    sys::mount::set_root_propagation(around).at(Stage::Rootfs, "")?;
    let mut root = None;
    for index in &plan.mounts {
        let mount = descriptors.take(*index).at(Stage::Rootfs, "")?;
        match &root {
            // Over the host's root: a place that every user namespace can reach. It is out of sight until the pivot,
            // because the current root directory is the mount below.
            None => attach_first(&mount, plan.at.as_deref()),
            Some(below) => sys::mount::attach(&mount, below, Path::new("")),
        }
        .at(Stage::Rootfs, "")?;
        root = Some(mount);
    }
    let root = root.ok_or_else(|| {
        Failure::new(Stage::Rootfs, "", &std::io::Error::from(std::io::ErrorKind::NotFound))
    })?;
    if plan.mtab {
        link_mtab(&root);
    }
    for place in &plan.places {
        put(place, &root, descriptors)?;
    }
    Ok(root)
}

/// Hooks look for the root where the spec says that it is; a user namespace may not reach that place.
fn attach_first(mount: &OwnedFd, at: Option<&Path>) -> sys::mount::Result<()> {
    if let Some(at) = at
        && sys::mount::attach(mount, CWD, at).is_ok()
    {
        return Ok(());
    }
    sys::mount::attach(mount, CWD, Path::new("/"))
}

/// Links /etc/mtab, for old programs. Before anything is mounted at /etc, so that it goes into nobody's volume; what
/// stands in the way (a file there, no /etc, a read-only layer) is a reason to leave it.
fn link_mtab(root: &OwnedFd) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(etc) = sys::beneath::open_in_root(root, Path::new("/etc"), flags, 0) {
        let _ = rustix::fs::symlinkat("/proc/mounts", etc, "mtab");
    }
}

fn put(place: &MountPlan, root: &OwnedFd, descriptors: &mut Descriptors) -> Result<(), Failure> {
    let subject = || place.destination.display().to_string();
    let target = target(root, &place.destination, place.directory).at(Stage::Mount, subject())?;
    if let Source::New(mount, _) = &place.source
        && let sys::mount::Filesystem::Named { fstype, .. } = &mount.filesystem
        && matches!(fstype.as_str(), "proc" | "sysfs")
    {
        no_link(root, &place.destination)?;
    }
    let mount = match &place.source {
        Source::Prepared(index) => descriptors.take(*index).at(Stage::Mount, subject())?,
        Source::New(mount, fallback) => match make(mount) {
            Ok(mount) => mount,
            Err(error) => match fallback {
                Some(index) => descriptors.take(*index).at(Stage::Mount, subject())?,
                None => return Err(error).at(Stage::Mount, subject()),
            },
        },
        Source::Remount { set, cleared, recursive, recursive_cleared } => {
            let change = sys::mount::set_attributes(&target, *set, *cleared, false);
            change.at(Stage::Mount, subject())?;
            if !(recursive.is_empty() && recursive_cleared.is_empty()) {
                sys::mount::set_attributes(&target, *recursive, *recursive_cleared, true)
                    .at(Stage::Mount, subject())?;
            }
            return Ok(());
        }
        Source::CgroupV1 { hierarchies, read_only } => {
            return put_hierarchies(hierarchies, *read_only, &target, descriptors);
        }
    };
    guard_procfs(&target, &mount, place)?;
    if place.copy_up {
        copy_up::copy(&target, &mount)
            .at(Stage::Mount, format!("{}: copy what the image has there", subject()))?;
    }
    sys::mount::attach(&mount, &target, Path::new("")).at(Stage::Mount, subject())
}

/// What of /proc may be covered by a file: what tools that show a container its own limits provide (lxcfs).
const COVERABLE: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// Refuses an image whose /proc or /sys is a link: a process of another container could swap what it leads to while
/// this one starts, and masked paths, kernel parameters and labels would be looked for in its files
/// (CVE-2019-19921, CVE-2023-27561).
fn no_link(root: &OwnedFd, destination: &Path) -> Result<(), Failure> {
    let place = destination.strip_prefix("/").unwrap_or(destination);
    let status = rustix::fs::statat(root, place, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .at(Stage::Mount, destination.display().to_string())?;
    if rustix::fs::FileType::from_raw_mode(status.st_mode).is_symlink() {
        let subject =
            format!("{}: the image has a link there, which must be a directory", destination.display());
        return Err(rustix::io::Errno::LOOP).at(Stage::Mount, subject);
    }
    Ok(())
}

/// Refuses to put anything but procfs at /proc, or anything but a known file into it: the runtime itself writes kernel
/// parameters and labels there, and a file of the image or of a volume must not be what it writes to
/// (CVE-2019-16884, CVE-2025-52881).
fn guard_procfs(target: &OwnedFd, mount: &OwnedFd, place: &MountPlan) -> Result<(), Failure> {
    let at_proc = place.destination == Path::new("/proc");
    if !(at_proc || is_procfs(target)) || is_procfs(mount) {
        return Ok(());
    }
    if !place.directory && COVERABLE.iter().any(|path| place.destination == Path::new(path)) {
        return Ok(());
    }
    let subject = format!("{}: only procfs can be mounted there", place.destination.display());
    Err(rustix::io::Errno::PERM).at(Stage::Mount, subject)
}

fn make(mount: &Mount) -> sys::mount::Result<OwnedFd> {
    let first = match sys::mount::detached(mount) {
        Ok(mount) => return Ok(mount),
        Err(error) => error,
    };
    // In a user namespace group 5 may have no mapping: terminals then belong to the process's own group.
    if let sys::mount::Filesystem::Named { fstype, options, .. } = &mount.filesystem
        && fstype == "devpts"
        && options.iter().any(|(key, _)| key == "gid")
    {
        let mut without = mount.clone();
        if let sys::mount::Filesystem::Named { options, .. } = &mut without.filesystem {
            options.retain(|(key, _)| key != "gid");
        }
        return sys::mount::detached(&without).map_err(|_| first);
    }
    Err(first)
}

/// The place of a mount, made if it is missing.
fn target(root: &OwnedFd, path: &Path, directory: bool) -> std::io::Result<OwnedFd> {
    if directory {
        return sys::beneath::create_dir_all_in_root(root, path, 0o755, None);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match sys::beneath::open_in_root(root, path, flags, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        result => return result,
    }
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let parent = sys::beneath::create_dir_all_in_root(root, parent, 0o755, None)?;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, create, Mode::from_raw_mode(0o644))?;
    }
    sys::beneath::open_in_root(root, path, flags, 0)
}

/// The tree of the old control group layout: each hierarchy shows the container's own group.
fn put_hierarchies(
    hierarchies: &[(String, usize)],
    read_only: bool,
    target: &OwnedFd,
    descriptors: &mut Descriptors,
) -> Result<(), Failure> {
    let stage = Stage::Mount;
    let subject = |name: &str| format!("/sys/fs/cgroup/{name}");
    let mut tree = Mount::tmpfs(0o755, None);
    tree.attributes = Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let tree = sys::mount::detached(&tree).at(stage, subject(""))?;
    // A place must be in the namespace before anything is put below it.
    sys::mount::attach(&tree, target, Path::new("")).at(stage, subject(""))?;
    for (name, index) in hierarchies {
        rustix::fs::mkdirat(&tree, OsStr::new(name), Mode::from_raw_mode(0o755)).at(stage, subject(name))?;
        let mount = descriptors.take(*index).at(stage, subject(name))?;
        sys::mount::attach(&mount, tree.as_fd(), Path::new(name)).at(stage, subject(name))?;
        // cpu,cpuacct is also known by each of its parts.
        for part in name.split(',').filter(|part| part != name) {
            match rustix::fs::symlinkat(OsStr::new(name), &tree, OsStr::new(part)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno).at(stage, subject(part)),
            }
        }
    }
    if read_only {
        sys::mount::set_attributes(&tree, Attributes::READ_ONLY, Attributes::NONE, false)
            .at(stage, subject(""))?;
    }
    Ok(())
}
