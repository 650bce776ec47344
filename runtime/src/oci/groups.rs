//! The control group of a container: who makes it, where, and whom it belongs to.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType as Ns, LinuxResources, Spec};

use super::{CgroupManager, Container, CreateOptions, Error, Result};
use crate::cgroup::{self, Scope};
use crate::spawner::GroupGuard;

/// The path of a group that this crate makes.
pub(super) fn group_path(options: &CreateOptions, spec: &Spec) -> Option<PathBuf> {
    if options.cgroup_manager != CgroupManager::Files {
        return None;
    }
    let asked = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    Some(asked.unwrap_or_else(|| Path::new("davit-runtime").join(&options.id)))
}

/// The scope that systemd is to make.
pub(super) fn scope(options: &CreateOptions, spec: &Spec) -> Result<Option<Scope>> {
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

/// Has the scope made around a process, and applies limits.
pub(super) fn start_scope(
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
pub(super) fn delegate_group(container: &Container, spec: &Spec) -> Result<()> {
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
