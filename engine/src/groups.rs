//! Who makes control groups here: this program alone through the file system, systemd, or nobody.

use crate::config::{Config, Identity};
use crate::{Engine, Error, Result};
use oci_spec::runtime::Spec;
use runtime::CgroupSetup;
use runtime::cgroup::{self, Bus, Layout, Scope};
use std::path::{Path, PathBuf};

/// Prefix of the scopes' names, and directory of the groups that are made without systemd.
const PREFIX: &str = "davit";

/// Who makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Manager {
    /// `--cgroup-manager=none`.
    None,
    /// Directories of our own in the control group file system.
    Cgroupfs,
    /// Scopes of the systemd behind this bus.
    Systemd(Bus),
}

impl Manager {
    /// As `--cgroup-manager` names it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd(_) => "systemd",
        }
    }
}

/// The manager, and the tree as far as it gives access to it.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    pub(crate) manager: Manager,
    pub(crate) layout: Layout,
}

/// What decides whether systemd can be asked.
struct Machine<'a> {
    /// systemd is the init of this machine.
    booted: bool,
    /// Limits come from the unified tree: systemd's scopes are of no use to us in the old one.
    unified: bool,
    bus: Bus,
    answers: &'a dyn Fn(&Bus) -> bool,
}

impl Machine<'_> {
    /// Why systemd cannot make groups, if so.
    fn obstacle(&self) -> Option<String> {
        if !self.booted {
            Some("this machine was not booted with systemd".to_owned())
        } else if !self.unified {
            Some("it needs the unified cgroup tree (v2)".to_owned())
        } else if !(self.answers)(&self.bus) {
            Some(format!("the bus {} does not answer", self.bus.socket.display()))
        } else {
            None
        }
    }
}

fn choose(asked: Option<&str>, machine: Machine<'_>) -> Result<Manager> {
    match asked {
        Some("none") => Ok(Manager::None),
        Some("cgroupfs") => Ok(Manager::Cgroupfs),
        Some("systemd") => match machine.obstacle() {
            Some(reason) => Err(Error::unsupported("cgroup manager systemd", reason)),
            None => Ok(Manager::Systemd(machine.bus)),
        },
        _ => Ok(match machine.obstacle() {
            Some(_) => Manager::Cgroupfs,
            None => Manager::Systemd(machine.bus),
        }),
    }
}

impl Groups {
    /// Looks at the machine.
    ///
    /// # Errors
    /// systemd was asked for by name and cannot be used.
    pub(crate) fn look(config: &Config) -> Result<Self> {
        let machine = Machine {
            // what sd_booted(3) looks at
            booted: Path::new("/run/systemd/system").is_dir(),
            unified: cgroup::unified_mount().is_some(),
            bus: Bus { socket: config.bus_socket(), uid: config.identity.uid },
            answers: &Bus::answers,
        };
        let manager = choose(config.cgroup_manager.as_deref(), machine)?;
        let layout = match &manager {
            Manager::None => Layout::None { reason: "cgroup manager none".to_owned() },
            Manager::Cgroupfs => cgroup::layout().clone(),
            Manager::Systemd(_) => {
                let Identity { uid, rootless } = config.identity;
                cgroup::delegated_by_systemd(rootless.then_some(uid))
            }
        };
        Ok(Self { manager, layout })
    }

    /// The place of a container's group, in the form of `linux.cgroupsPath`; `parent` is what the user chose.
    pub(crate) fn path(&self, parent: Option<&str>, id: &str, rootless: bool) -> Result<PathBuf> {
        let slice = parent.is_some_and(|parent| parent.ends_with(".slice"));
        match (&self.manager, parent) {
            (Manager::Systemd(_), Some(parent)) if !slice || parent.contains(['/', ':']) => {
                Err(Error::invalid(
                    format!("cgroup parent {parent}"),
                    "with the cgroup manager systemd it is the name of a slice, such as machine.slice",
                ))
            }
            (Manager::Cgroupfs, Some(parent)) if slice => Err(Error::invalid(
                format!("cgroup parent {parent}"),
                "a slice needs the cgroup manager systemd",
            )),
            (Manager::Systemd(_), parent) => {
                let default = if rootless { "user.slice" } else { "machine.slice" };
                Ok(format!("{}:{PREFIX}:{id}", parent.unwrap_or(default)).into())
            }
            (_, parent) => Ok(Path::new(parent.unwrap_or(PREFIX)).join(id)),
        }
    }

    /// Where systemd is reached, if it makes the groups.
    pub(crate) fn bus(&self) -> Option<&Bus> {
        match &self.manager {
            Manager::Systemd(bus) => Some(bus),
            _ => None,
        }
    }
}

impl Engine {
    /// The group of a container or step, in the form of `linux.cgroupsPath`.
    pub(crate) fn cgroup_path(&self, parent: Option<&str>, id: &str) -> Result<PathBuf> {
        let parent = parent.filter(|parent| !parent.is_empty());
        self.groups()?.path(parent, id, self.config().identity.rootless)
    }

    /// Moves this process out of the scope of a container whose monitor it was or comes from: the scope of the next start
    /// has the same name. Processes that it forks from here on come along.
    pub(crate) fn leave_scope(&self, id: &str) -> Result<()> {
        let Manager::Systemd(bus) = &self.groups()?.manager else { return Ok(()) };
        let slice = if self.config().identity.rootless { "user.slice" } else { "machine.slice" };
        let own = std::process::id();
        let Some(scope) = Scope::parse(bus.clone(), &format!("{slice}:{PREFIX}-restart:{id}-{own}")) else {
            return Ok(());
        };
        scope
            .adopt(own)
            .map_err(|error| Error::os("leave the scope of the container", std::io::Error::other(error)))
    }

    /// A group below the caller's own, for a unit that owns what it starts (`--cgroups=split`).
    pub(crate) fn split_cgroup_path(&self, id: &str) -> Result<PathBuf> {
        let groups = self.groups()?;
        if let Manager::Systemd(_) = groups.manager {
            return Err(Error::unsupported(
                "cgroups split",
                "with the cgroup manager systemd every container has a scope of its own; use --cgroup-manager=cgroupfs",
            ));
        }
        if groups.layout.is_unified() {
            return Err(Error::unsupported(
                "cgroups split",
                "in the unified tree a group with processes has none below it; use --cgroups=enabled",
            ));
        }
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // the unified line, or the one of any controller: a unit's groups have the same path everywhere
        let line = own.lines().find(|line| line.starts_with("0::")).or(own.lines().next());
        let path = line.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or("/");
        Ok(Path::new(path).join(format!("{PREFIX}-{id}")))
    }

    /// What the user should know about limits that were asked for and cannot be set here. The defaults are left out
    /// without a word, as the peers do.
    pub(crate) fn unlimited(&self, limits: &crate::options::Limits) -> Result<Option<String>> {
        if *limits == crate::options::Limits::default() {
            return Ok(None);
        }
        let reason = self.groups()?.layout.unavailable();
        Ok(reason.map(|reason| format!("the resource limits asked for are not enforced: {reason}")))
    }

    /// The control group that a spec asks for, where groups can be used at all.
    pub(crate) fn cgroup_setup(&self, spec: &Spec) -> Result<CgroupSetup> {
        let groups = self.groups()?;
        let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
        let Some(path) = path.filter(|_| groups.layout.unavailable().is_none()) else {
            return Ok(CgroupSetup::None);
        };
        let Manager::Systemd(bus) = &groups.manager else { return Ok(CgroupSetup::Path(path)) };
        let scope = path.to_str().and_then(|path| Scope::parse(bus.clone(), path));
        let wrong =
            || Error::invalid(format!("cgroup path {}", path.display()), "expected SLICE:PREFIX:NAME");
        scope.map(CgroupSetup::Scope).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(booted: bool, unified: bool, answers: &dyn Fn(&Bus) -> bool) -> Machine<'_> {
        Machine { booted, unified, bus: Bus { socket: "/bus".into(), uid: 1 }, answers }
    }

    #[test]
    fn systemd_is_chosen_where_it_can_be_asked() {
        let (yes, no) = (&|_: &Bus| true, &|_: &Bus| false);
        assert_eq!(choose(None, machine(true, true, yes)).unwrap().name(), "systemd");
        assert_eq!(choose(Some("cgroupfs"), machine(true, true, yes)).unwrap().name(), "cgroupfs");
        type Case<'a> = (bool, bool, &'a dyn Fn(&Bus) -> bool, &'a str);
        let cases: [Case<'_>; 3] =
            [(false, true, yes, "not booted"), (true, false, yes, "v2"), (true, true, no, "/bus")];
        for (booted, unified, answers, reason) in cases {
            assert_eq!(choose(None, machine(booted, unified, answers)).unwrap().name(), "cgroupfs");
            let error = choose(Some("systemd"), machine(booted, unified, answers)).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn parents_are_slices_with_systemd_and_paths_without() {
        let groups = |manager| Groups { manager, layout: Layout::None { reason: String::new() } };
        let systemd = groups(Manager::Systemd(Bus { socket: "/bus".into(), uid: 1 }));
        let path = |groups: &Groups, parent, rootless| groups.path(parent, "1", rootless);
        assert_eq!(path(&systemd, None, false).unwrap(), Path::new("machine.slice:davit:1"));
        assert_eq!(path(&systemd, None, true).unwrap(), Path::new("user.slice:davit:1"));
        assert_eq!(path(&systemd, Some("a-b.slice"), true).unwrap(), Path::new("a-b.slice:davit:1"));
        assert!(path(&systemd, Some("/a"), false).is_err());
        let plain = groups(Manager::Cgroupfs);
        assert_eq!(path(&plain, None, false).unwrap(), Path::new("davit/1"));
        assert_eq!(path(&plain, Some("/a"), false).unwrap(), Path::new("/a/1"));
        assert!(path(&plain, Some("a.slice"), false).is_err());
    }
}
