//! What a container is made from: its spec as plans for the stage and for init, whoever starts it.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType as Ns, Spec};

use crate::cgroup;
use crate::error::{Error, Result};
use crate::launch::Rootfs;
use crate::plan::{BirthPlan, HooksPlan, InitPlan};
use crate::planner::{self, MountContext, Namespaces};
use crate::wire::Descriptors;

/// The plans of a container, and its compiled filter.
pub(crate) struct Blueprint {
    pub(crate) birth: BirthPlan,
    pub(crate) init: InitPlan,
    pub(crate) program: Vec<sys::seccomp_load::Instruction>,
}

/// What the plans depend on besides the spec.
pub(crate) struct Circumstances<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: Option<&'a Path>,
    pub(crate) rootfs: &'a Rootfs,
    pub(crate) cgroup: Option<&'a cgroup::Paths>,
    pub(crate) namespaces: Namespaces,
    /// Given where a monitor makes some of the mounts.
    pub(crate) by_monitor: Option<planner::ByMonitor>,
}

/// Draws the plans of the container of a spec.
pub(crate) fn draw(
    spec: &Spec,
    circumstances: Circumstances<'_>,
    descriptors: &mut Descriptors,
) -> Result<Blueprint> {
    let Circumstances { id, bundle, rootfs, cgroup, namespaces, by_monitor } = circumstances;
    let process = spec.process().as_ref().ok_or_else(|| Error::invalid("process is missing"))?;
    let linux = spec.linux().as_ref();
    let new_user = namespaces.creates(Ns::User);
    let joins_user = namespaces.joins(Ns::User);
    let mut context = MountContext {
        bundle,
        cgroup,
        user_namespace: new_user || namespaces.joins(Ns::User) || sys::idmap::in_user_namespace(),
        new_user_namespace: new_user,
        label: linux.and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty()),
        id_mapped: Vec::new(),
        by_monitor,
    };
    let rootfs = if namespaces.creates(Ns::Mount) {
        Some(planner::rootfs(spec, rootfs, &mut context, descriptors)?)
    } else if namespaces.joins(Ns::Mount) {
        None
    } else {
        return Err(Error::invalid("linux.namespaces: a container needs a mount namespace"));
    };
    let (id_mapped, by_monitor) = (context.id_mapped, context.by_monitor.unwrap_or_default());
    let uid_map = planner::id_ranges(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    let gid_map = planner::id_ranges(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    if new_user && (uid_map.is_empty() || gid_map.is_empty()) {
        return Err(Error::invalid("linux.uidMappings: a new user namespace needs mappings"));
    }
    let mut process_plan = planner::process(process, planner::setgroups_denied())?;
    planner::beside_process(spec, &mut process_plan)?;
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
    let program = planner::seccomp(seccomp, &mut process_plan)?;
    let sysctls = linux.and_then(|linux| linux.sysctl().as_ref());
    let sysctls = sysctls.into_iter().flatten();
    let init = InitPlan {
        id: id.to_owned(),
        tied: true,
        keyring: true,
        late_cgroup_namespace: false,
        wait: None,
        hooks: HooksPlan::default(),
        new_user_namespace: new_user || joins_user,
        rootfs,
        loopback: namespaces.creates(Ns::Network),
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        sysctls: sysctls.map(|(key, value)| (crate::sysctl::path(key), value.clone())).collect(),
        process: process_plan,
    };
    let birth = BirthPlan {
        cgroup: cgroup.cloned(),
        new_namespaces: namespaces.new,
        join: namespaces.join,
        time_offsets: planner::time_offsets(spec),
        uid_map,
        gid_map,
        id_mapped,
        borrowed: by_monitor.borrowed,
        mapped_rootfs: by_monitor.mapped_rootfs,
        oom_score_adj: process.oom_score_adj(),
    };
    Ok(Blueprint { birth, init, program })
}
