//! The words of `run`, `create`, `exec` and `build` options, read once for every front end. Pure: no file is read.

mod health;
mod modes;
mod mount;
mod restart;
mod userns;

pub use health::{
    HealthChange, HealthCheck, HealthLog, HealthRequest, OnFailure, StartupCheck, parse_health_duration,
};
pub use modes::{
    BlockLimit, BlockLimitKind, CgroupsMode, DeviceRule, ImageVolumes, RootfsDirectory, SdNotify, SystemdMode,
};
pub use mount::{Mount, MountKind, volume_name};
pub use restart::RestartPolicy;
pub(crate) use restart::restart_delay;
pub use userns::{AutoMap, UserNamespaceMode};
pub(crate) use userns::{MapLine, parse_map_line};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which network a container or a build step gets.
///
/// Bridge networks are not built yet: without a choice a container has a network namespace of its own with only the
/// loopback interface (`none`), and a build step shares the host's network (`host`), because most builds download.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// `none` for containers, `host` for build steps.
    #[default]
    Default,
    /// Own namespace with the loopback interface alone.
    None,
    /// The host's network.
    Host,
    /// That of a running container, by its ID or name.
    Container(String),
    /// An existing namespace, by its path.
    Path(PathBuf),
}

impl Network {
    /// Reads `--network`. Networks that are not built yet are refused by name.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "default" => Ok(Network::Default),
            "none" => Ok(Network::None),
            "host" => Ok(Network::Host),
            other if other.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => {
                Ok(Network::Container(other["container:".len()..].to_owned()))
            }
            other if other.starts_with("ns:/") => Ok(Network::Path(other["ns:".len()..].into())),
            other => Err(Error::unsupported(
                format!("network {other}"),
                "only `none`, `host`, `container:ID` and `ns:PATH` exist so far".to_owned(),
            )),
        }
    }
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// The usual one: a new namespace.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of a running container, by its ID or name.
    Container(String),
    /// An existing one, by its path.
    Path(PathBuf),
    /// A new one without its usual file system: no /dev/shm (IPC alone).
    None,
}

impl Namespace {
    /// Reads `--pid`, `--ipc`, `--uts`, `--cgroupns`; `option` names it in errors.
    pub fn parse(option: &str, text: &str) -> Result<Self> {
        match text {
            "" | "private" | "shareable" => Ok(Namespace::Private),
            "host" => Ok(Namespace::Host),
            other => match other.strip_prefix("container:") {
                Some(id) if !id.is_empty() => Ok(Namespace::Container(id.to_owned())),
                _ if option == "--ipc" && other == "none" => Ok(Namespace::None),
                _ => match other.strip_prefix("ns:") {
                    Some(path) if path.starts_with('/') => Ok(Namespace::Path(path.into())),
                    _ => Err(Error::invalid(
                        format!("{option}={other}"),
                        "expected private, host, container:ID or ns:PATH",
                    )),
                },
            },
        }
    }
}

/// Limits of a container or a build step. `None` leaves the kernel's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes.
    pub memory_reservation: Option<i64>,
    /// Bytes of memory and swap together, -1 = no limit.
    pub memory_swap: Option<i64>,
    /// 0..=100, cgroup v1 only.
    pub memory_swappiness: Option<u64>,
    /// Whether the kernel is told not to kill processes when memory is out, cgroup v1 only.
    pub oom_kill_disable: bool,
    /// Thousandths of a CPU, from `--cpus`.
    pub milli_cpus: Option<u64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds a period.
    pub cpu_quota: Option<i64>,
    /// 2..=262144.
    pub cpu_shares: Option<u64>,
    /// `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// `0,1`.
    pub cpuset_mems: Option<String>,
    /// -1 = no limit; `None` = 2048.
    pub pids: Option<i64>,
    /// 10..=1000.
    pub blkio_weight: Option<u16>,
    /// Limits of single block devices.
    pub block_devices: Vec<BlockLimit>,
    /// Microseconds, cgroup v1 only.
    pub cpu_rt_period: Option<u64>,
    /// Microseconds a period, cgroup v1 only.
    pub cpu_rt_runtime: Option<i64>,
    /// cgroup v2 files and their values.
    pub unified: BTreeMap<String, String>,
}

/// A resource limit of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Without `RLIMIT_`, lower case: `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl Ulimit {
    /// Reads `NAME=SOFT[:HARD]`; -1 = unlimited.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("ulimit {text}"), "expected NAME=SOFT[:HARD]");
        let (name, values) = text.split_once('=').ok_or_else(bad)?;
        let number = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse::<u64>().map_err(|_| bad()),
        };
        let (soft, hard) = match values.split_once(':') {
            Some((soft, hard)) => (number(soft)?, number(hard)?),
            None => (number(values)?, number(values)?),
        };
        if soft > hard {
            return Err(Error::invalid(format!("ulimit {text}"), "the soft limit is above the hard one"));
        }
        let name = name.trim_start_matches("RLIMIT_").trim_start_matches("rlimit_").to_ascii_lowercase();
        const KNOWN: [&str; 16] = [
            "as",
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ];
        if !KNOWN.contains(&name.as_str()) {
            return Err(Error::invalid(format!("ulimit {text}"), format!("unknown limit {name}")));
        }
        Ok(Self { name, soft, hard })
    }
}

/// A host device handed to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Host path.
    pub source: PathBuf,
    /// Path inside.
    pub destination: PathBuf,
    /// Of `rwm`.
    pub permissions: String,
}

impl Device {
    /// Reads `SOURCE[:DESTINATION][:rwm]`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("device {text}"), "expected SOURCE[:DESTINATION][:rwm]");
        let parts: Vec<&str> = text.split(':').collect();
        let mode = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
        let (source, destination, permissions) = match parts.as_slice() {
            [source] => (*source, *source, "rwm"),
            [source, second] if mode(second) => (*source, *source, *second),
            [source, second] => (*source, *second, "rwm"),
            [source, second, third] if mode(third) => (*source, *second, *third),
            _ => return Err(bad()),
        };
        if !source.starts_with('/') || !destination.starts_with('/') {
            return Err(bad());
        }
        Ok(Self {
            source: source.into(),
            destination: destination.into(),
            permissions: permissions.to_owned(),
        })
    }
}

/// Confinement of a container, from `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// Whether a process can never gain privileges.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// Further paths to hide.
    pub mask: Vec<String>,
    /// Paths not to hide or make read-only, or `ALL`.
    pub unmask: Vec<String>,
    /// `AppArmor` profile.
    pub apparmor: Option<String>,
    /// `SELinux` labels: `disable`, `type:…`.
    pub labels: Vec<String>,
    /// Mount options of /proc.
    pub proc_options: Vec<String>,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// Podman's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile in Docker's JSON format, read when the container is created.
    File(PathBuf),
    /// Such a profile itself, of an image.
    Text(String),
}

impl Security {
    /// Takes in one `--security-opt`.
    pub fn apply(&mut self, text: &str) -> Result<()> {
        let (key, value) = match text.split_once(['=', ':']) {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let bad = |reason: &str| Error::invalid(format!("security-opt {text}"), reason);
        match (key, value) {
            ("no-new-privileges", None | Some("true" | "1")) => self.no_new_privileges = true,
            ("no-new-privileges", Some("false" | "0")) => self.no_new_privileges = false,
            ("seccomp", Some("unconfined")) => self.seccomp = Seccomp::Unconfined,
            ("seccomp", Some(path)) if !path.is_empty() => self.seccomp = Seccomp::File(path.into()),
            ("mask", Some(paths)) => self.mask.extend(paths.split(':').map(str::to_owned)),
            ("unmask", Some(paths)) => {
                self.unmask.extend(paths.split([':', ',']).map(str::to_owned));
            }
            ("systempaths", Some("unconfined")) => self.unmask.push("ALL".to_owned()),
            ("apparmor", Some("unconfined")) => self.apparmor = None,
            ("apparmor", Some(profile)) if !profile.is_empty() => self.apparmor = Some(profile.to_owned()),
            ("label", Some(label)) => {
                let known = ["user", "role", "type", "level", "filetype"];
                let key = label.split(':').next().unwrap_or_default();
                if !matches!(label, "disable" | "nested") && !known.contains(&key) {
                    return Err(bad(
                        "expected label=disable, nested, user:…, role:…, type:…, level:… or filetype:…",
                    ));
                }
                self.labels.push(label.to_owned());
            }
            ("proc-opts", Some(options)) => {
                for option in options.split(',').filter(|option| !option.is_empty()) {
                    if !matches!(option.split('=').next(), Some("hidepid" | "gid" | "subset")) {
                        return Err(bad("expected hidepid=…, gid=… or subset=pid"));
                    }
                    self.proc_options.push(option.to_owned());
                }
            }
            _ => return Err(bad("unknown option")),
        }
        Ok(())
    }
}

/// Reads a size: a number with an optional `b`, `k`, `m`, `g`, `t` (powers of 1024, as the peers read it).
pub fn parse_size(option: &str, text: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("{option}={text}"), "expected a size such as 512m");
    let lower = text.trim().to_ascii_lowercase();
    if lower == "-1" {
        return Ok(-1);
    }
    let end = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(bad()),
    };
    let bytes = if number.contains('.') {
        let value = number.parse::<f64>().map_err(|_| bad())? * (factor as f64);
        if !(0.0..9e18).contains(&value) {
            return Err(bad());
        }
        #[allow(clippy::cast_possible_truncation, reason = "the range was checked, the fraction is dropped")]
        let bytes = value as i64;
        bytes
    } else {
        let value = number.parse::<u64>().map_err(|_| bad())?.checked_mul(factor).ok_or_else(bad)?;
        i64::try_from(value).map_err(|_| bad())?
    };
    Ok(bytes)
}

/// Reads keys that detach a terminal: `ctrl-p,ctrl-q`, single letters too; the empty text means none.
pub fn parse_detach_keys(text: &str) -> Result<Vec<u8>> {
    let mut keys = Vec::new();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let key = match word.strip_prefix("ctrl-") {
            Some("@") => 0,
            Some("[") => 27,
            Some("\\") => 28,
            Some("]") => 29,
            Some("^") => 30,
            Some("_") => 31,
            Some(letter) if letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic() => {
                letter.as_bytes()[0].to_ascii_lowercase() - b'a' + 1
            }
            None if word.len() == 1 && word.is_ascii() => word.as_bytes()[0],
            _ => return Err(Error::invalid(format!("detach-keys {text}"), format!("unknown key {word}"))),
        };
        keys.push(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_keys() {
        assert_eq!(parse_size("m", "1.5k").unwrap(), 1536);
        assert_eq!(parse_size("m", "2G").unwrap(), 2 << 30);
        assert!(parse_size("m", "x").is_err());
        assert_eq!(parse_detach_keys("ctrl-p,ctrl-q").unwrap(), [16, 17]);
        assert!(parse_detach_keys("").unwrap().is_empty());
        assert!(parse_detach_keys("ctrl-!").is_err());
    }

    #[test]
    fn security_options() {
        let mut security = Security::default();
        security.apply("no-new-privileges").unwrap();
        security.apply("seccomp=unconfined").unwrap();
        security.apply("unmask=ALL").unwrap();
        assert!(security.no_new_privileges && security.seccomp == Seccomp::Unconfined);
        assert!(security.apply("nonsense=1").is_err());
    }
}
