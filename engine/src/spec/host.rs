//! What this machine and this caller can give to a container.

use std::fs;
use std::path::Path;

use runtime::capabilities::CapabilitySet;
use runtime::cgroup::Layout;
use rustix::process::{Resource, getrlimit};

use crate::{Error, Result};

/// What [`super::build`] must know of the machine and the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Host name.
    pub hostname: String,
    /// This process runs in a user namespace that is not the machine's first: no device nodes, no host sysfs.
    pub in_user_namespace: bool,
    /// The caller's bounding set: more than this cannot be given.
    pub bounding: CapabilitySet,
    /// The caller may raise hard resource limits (CAP_SYS_RESOURCE in the first user namespace).
    pub may_raise_limits: bool,
    /// Hard limit of open files; `u64::MAX` = none.
    pub nofile_hard: u64,
    /// Hard limit of processes; `u64::MAX` = none.
    pub nproc_hard: u64,
    /// The caller's own score for the out-of-memory killer.
    pub oom_score_adj: i32,
    /// Group 5 (tty) exists in the caller's user namespace.
    pub tty_group_mapped: bool,
    /// The control group tree is the unified one.
    pub unified: bool,
    /// Why limits of groups cannot be set at all, if so.
    pub no_cgroup: Option<String>,
    /// The pids controller can be used.
    pub pids_controller: bool,
    /// The host has message queues mounted at /dev/mqueue.
    pub message_queues: bool,
    /// The kernel has the parameter net.ipv4.ping_group_range.
    pub ping_group_range: bool,
    /// `/sys/devices/system/cpu/cpuN/thermal_throttle`, as far as they exist.
    pub thermal_throttle: Vec<String>,
    /// AppArmor runs.
    pub apparmor: bool,
    /// The kernel takes seccomp filters.
    pub seccomp: bool,
}

impl Host {
    /// Looks at the machine: some twenty small files of /proc and /sys.
    ///
    /// # Errors
    /// /proc/self/status cannot be read.
    pub fn look(layout: &Layout) -> Result<Self> {
        let status = read("/proc/self/status")?;
        let mask = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
            u64::from_str_radix(line.trim(), 16).unwrap_or(0)
        };
        let in_user_namespace =
            in_user_namespace(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
        let hard = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let effective = CapabilitySet(mask("CapEff:"));
        let oom_score_adj = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Ok(Self {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            in_user_namespace,
            bounding: CapabilitySet(mask("CapBnd:")).intersection(CapabilitySet::ALL),
            may_raise_limits: !in_user_namespace
                && effective.contains(oci_spec::runtime::Capability::SysResource),
            nofile_hard: hard(Resource::Nofile),
            nproc_hard: hard(Resource::Nproc),
            oom_score_adj: oom_score_adj.trim().parse().unwrap_or(0),
            tty_group_mapped: is_mapped(&fs::read_to_string("/proc/self/gid_map").unwrap_or_default(), 5),
            unified: layout.is_unified(),
            no_cgroup: layout.unavailable().map(Into::into),
            pids_controller: layout.has("pids"),
            message_queues: exists("/dev/mqueue"),
            ping_group_range: exists("/proc/sys/net/ipv4/ping_group_range"),
            thermal_throttle: thermal_throttle(Path::new("/sys/devices/system/cpu")),
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            seccomp: sys::feature::features().seccomp,
        })
    }
}

fn read(path: &'static str) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::File {
        attempt: "read",
        path: path.into(),
        source: source.into(),
    })
}

fn exists(path: &str) -> bool {
    Path::new(path).try_exists().unwrap_or(false)
}

/// The first user namespace alone maps every ID to itself in one line.
fn in_user_namespace(uid_map: &str) -> bool {
    let mut words = uid_map.split_whitespace();
    let first = [words.next(), words.next(), words.next(), words.next()];
    first != [Some("0"), Some("0"), Some("4294967295"), None]
}

fn is_mapped(map: &str, id: u64) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
        let (start, _, count) =
            (numbers.next().unwrap_or(u64::MAX), numbers.next(), numbers.next().unwrap_or(0));
        id >= start && id - start < count
    })
}

fn thermal_throttle(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_string_lossy();
        let is_cpu = number
            .strip_prefix("cpu")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
        let path = entry.path().join("thermal_throttle");
        if is_cpu && path.try_exists().unwrap_or(false) {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        assert!(!in_user_namespace("         0          0 4294967295\n"));
        assert!(in_user_namespace("0 1000 1\n1 100000 65536\n"));
        assert!(in_user_namespace(""));
        assert!(is_mapped("0 1000 1\n1 100000 65536\n", 5));
        assert!(!is_mapped("0 1000 1\n", 5));
    }

    #[test]
    fn this_machine_answers() {
        let host = Host::look(runtime::cgroup::layout()).unwrap();
        assert!(!host.hostname.is_empty());
        assert!(host.nofile_hard > 0);
    }
}
