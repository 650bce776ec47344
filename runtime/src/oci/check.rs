//! What a configuration asks that contradicts itself, or that this runtime does not do: refused by the field's name.

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType as Ns, LinuxSeccompAction, Process, Spec};

use super::{Error, Result};
use crate::planner::Namespaces;
use crate::sysctl::OwnNamespaces;

/// Checks a configuration.
pub(super) fn check(spec: &Spec, namespaces: &Namespaces, rootfs: &Path) -> Result<()> {
    let major = spec.version().split('.').next().unwrap_or_default();
    if major != "1" {
        return Err(Error::invalid(format!("ociVersion: {:?} is not 1.x", spec.version())));
    }
    labels(spec.process().as_ref().ok_or_else(|| Error::invalid("process is missing"))?)?;
    if !sys::fs::metadata(rootfs)?.is_dir() {
        return Err(Error::invalid(format!("root.path: {} is not a directory", rootfs.display())));
    }
    let own = |typ| namespaces.creates(typ) || namespaces.joins(typ);
    for (name, value) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) && !own(Ns::Uts) {
            return Err(Error::invalid(format!("{name}: the container has no uts namespace of its own")));
        }
    }
    match spec.linux() {
        Some(linux) => check_linux(linux, namespaces),
        None => Ok(()),
    }
}

/// Labels that no module of this machine would look at.
pub(super) fn labels(process: &Process) -> Result<()> {
    let asked = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    if asked(process.apparmor_profile()) && !super::features::apparmor() {
        return Err(Error::invalid("process.apparmorProfile: AppArmor is not enabled on this machine"));
    }
    if asked(process.selinux_label()) && !super::features::selinux() {
        return Err(Error::invalid("process.selinuxLabel: SELinux is not enabled on this machine"));
    }
    Ok(())
}

fn check_linux(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let own = |typ| namespaces.creates(typ) || namespaces.joins(typ);
    let maps = linux.uid_mappings().iter().chain(linux.gid_mappings()).any(|maps| !maps.is_empty());
    if maps && !own(Ns::User) {
        return Err(Error::invalid("linux.uidMappings: the container has no user namespace of its own"));
    }
    let sysctl = OwnNamespaces { ipc: own(Ns::Ipc), network: own(Ns::Network), uts: own(Ns::Uts) };
    for key in linux.sysctl().iter().flat_map(|all| all.keys()) {
        crate::sysctl::check(key, sysctl)
            .map_err(|error| Error::invalid(format!("linux.sysctl: {error}")))?;
    }
    for clock in linux.time_offsets().iter().flat_map(|offsets| offsets.keys()) {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::invalid(format!("linux.timeOffsets: no clock {clock:?}")));
        }
        if !namespaces.creates(Ns::Time) {
            return Err(Error::invalid("linux.timeOffsets: the container has no new time namespace"));
        }
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) && !own(Ns::Network) {
        return Err(Error::invalid("linux.netDevices: the container has no network namespace of its own"));
    }
    if linux.intel_rdt().is_some() {
        return Err(Error::invalid("linux.intelRdt is not supported"));
    }
    if linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()) && !super::features::selinux() {
        return Err(Error::invalid("linux.mountLabel: SELinux is not enabled on this machine"));
    }
    if let Some(seccomp) = linux.seccomp() {
        let notify = LinuxSeccompAction::ScmpActNotify;
        let notifies = seccomp.default_action() == notify
            || seccomp.syscalls().iter().flatten().any(|rule| rule.action() == notify);
        if notifies && seccomp.listener_path().is_none() {
            return Err(Error::invalid("linux.seccomp.listenerPath is missing, and a rule notifies"));
        }
    }
    Ok(())
}
