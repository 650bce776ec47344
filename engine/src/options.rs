//! The words of `run`, `create`, `exec` and `build` options, read once for every front end. Pure: no file is read.

mod health;
mod modes;
mod restart;
mod userns;

pub use health::{HealthCheck, HealthLog, HealthRequest, OnFailure, StartupCheck, parse_health_duration};
pub use modes::{
    BlockLimit, BlockLimitKind, CgroupsMode, DeviceRule, ImageVolumes, RootfsDirectory, SdNotify, SystemdMode,
};
pub use restart::RestartPolicy;
pub(crate) use restart::restart_delay;
pub use userns::{AutoMap, UserNamespaceMode};
pub(crate) use userns::{MapLine, parse_map_line};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// A mount that the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Options as the runtime specification names them: `ro`, `rbind`, `rprivate`, `nosuid`, `size=..`.
    pub options: Vec<String>,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A host path, which must exist.
    Bind {
        /// Absolute host path.
        source: PathBuf,
    },
    /// An empty file system in memory; what the image has at the destination is copied up.
    Tmpfs,
}

impl Mount {
    /// Reads `-v SOURCE:DESTINATION[:OPTIONS]`. A relative source (`./x`) starts at `base`. Named and anonymous
    /// volumes are not built yet and are refused.
    pub fn parse_volume(text: &str, base: &Path) -> Result<Self> {
        let what = || format!("volume {text}");
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts.as_slice() {
            [source, destination] => (*source, *destination, ""),
            [source, destination, options] => (*source, *destination, *options),
            [one] if one.starts_with('/') => {
                return Err(Error::unsupported(what(), "anonymous volumes do not exist yet"));
            }
            _ => return Err(Error::invalid(what(), "expected SOURCE:DESTINATION[:OPTIONS]")),
        };
        if !source.starts_with('/') && !source.starts_with('.') {
            return Err(Error::unsupported(
                what(),
                "named volumes do not exist yet; a host path starts with / or .",
            ));
        }
        let mut words = Vec::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            words.push(
                volume_option(option).ok_or_else(|| {
                    Error::invalid(what(), format!("unknown or unsupported option {option}"))
                })?,
            );
        }
        Ok(Self {
            destination: absolute_destination(&what(), destination)?,
            kind: MountKind::Bind { source: base.join(source) },
            options: bind_options(words.into_iter().flatten().collect()),
        })
    }

    /// Reads `--mount type=bind|tmpfs,KEY=VALUE,..`. A relative source starts at `base`.
    pub fn parse_mount(text: &str, base: &Path) -> Result<Self> {
        let what = || format!("mount {text}");
        let mut kind = "volume";
        let mut source = None;
        let mut destination = None;
        let mut options: Vec<String> = Vec::new();
        let on = |value: Option<&str>| !matches!(value, Some("false" | "0" | "f"));
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field, None),
            };
            let needed = || value.ok_or_else(|| Error::invalid(what(), format!("{key} needs a value")));
            match key {
                "type" => kind = needed()?,
                "source" | "src" => source = Some(needed()?),
                "destination" | "dst" | "dest" | "target" => destination = Some(needed()?),
                "ro" | "readonly" => options.push(if on(value) { "ro" } else { "rw" }.to_owned()),
                "rw" => options.push(if on(value) { "rw" } else { "ro" }.to_owned()),
                "bind-propagation" => options.push(needed()?.to_owned()),
                "bind-nonrecursive" => options.push(if on(value) { "bind" } else { "rbind" }.to_owned()),
                "tmpfs-size" => options.push(format!("size={}", parse_size("tmpfs-size", needed()?)?)),
                "tmpfs-mode" => options.push(format!("mode={}", needed()?)),
                "idmap" | "tmpcopyup" | "notmpcopyup" | "nosuid" | "suid" | "nodev" | "dev" | "noexec"
                | "exec" | "noatime" | "relatime" | "private" | "rprivate" | "shared" | "rshared"
                | "slave" | "rslave" | "unbindable" | "runbindable" => options.push(key.to_owned()),
                "consistency" | "relabel" | "Z" | "z" => {}
                other => return Err(Error::invalid(what(), format!("unknown key {other}"))),
            }
        }
        let destination = destination.ok_or_else(|| Error::invalid(what(), "no destination"))?;
        let destination = absolute_destination(&what(), destination)?;
        match kind {
            "bind" => {
                let source = source.ok_or_else(|| Error::invalid(what(), "no source"))?;
                let kind = MountKind::Bind { source: base.join(source) };
                Ok(Self { destination, kind, options: bind_options(options) })
            }
            "tmpfs" | "ramfs" => {
                if source.is_some() {
                    return Err(Error::invalid(what(), "a tmpfs has no source"));
                }
                Ok(Self { destination, kind: MountKind::Tmpfs, options: tmpfs_options(options) })
            }
            other => {
                Err(Error::unsupported(format!("mount type {other}"), "only bind and tmpfs exist so far"))
            }
        }
    }

    /// Reads `--tmpfs PATH[:OPTIONS]`.
    pub fn parse_tmpfs(text: &str) -> Result<Self> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        Ok(Self {
            destination: absolute_destination(&format!("tmpfs {text}"), path)?,
            kind: MountKind::Tmpfs,
            options: tmpfs_options(options),
        })
    }
}

fn absolute_destination(what: &str, destination: &str) -> Result<PathBuf> {
    if !destination.starts_with('/') {
        return Err(Error::invalid(what, format!("destination {destination} is not an absolute path")));
    }
    if destination.split('/').any(|part| part == "..") {
        return Err(Error::invalid(what, format!("destination {destination} has a .. part")));
    }
    let clean: PathBuf = Path::new(destination).components().collect();
    if clean == Path::new("/") {
        return Err(Error::invalid(what, "destination cannot be /"));
    }
    Ok(clean)
}

/// Some(None): accepted and without effect here.
#[allow(clippy::option_option)]
fn volume_option(option: &str) -> Option<Option<String>> {
    match option {
        "ro" | "rw" | "bind" | "rbind" | "private" | "rprivate" | "shared" | "rshared" | "slave"
        | "rslave" | "unbindable" | "runbindable" | "nosuid" | "suid" | "nodev" | "dev" | "noexec"
        | "exec" | "idmap" => Some(Some(option.to_owned())),
        // SELinux relabelling has nothing to do where SELinux is off
        "z" | "Z" | "cached" | "delegated" | "consistent" | "copy" | "nocopy" => Some(None),
        _ => None,
    }
}

/// Podman's defaults: rbind, rprivate, nosuid, nodev, unless the opposite was asked for.
fn bind_options(mut options: Vec<String>) -> Vec<String> {
    let has =
        |options: &[String], words: &[&str]| options.iter().any(|option| words.contains(&option.as_str()));
    if !has(&options, &["bind", "rbind"]) {
        options.push("rbind".to_owned());
    }
    if !has(
        &options,
        &["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"],
    ) {
        options.push("rprivate".to_owned());
    }
    for (on, off) in [("nosuid", "suid"), ("nodev", "dev")] {
        if !has(&options, &[on, off]) {
            options.push(on.to_owned());
        }
    }
    options
}

fn tmpfs_options(mut options: Vec<String>) -> Vec<String> {
    let has =
        |options: &[String], words: &[&str]| options.iter().any(|option| words.contains(&option.as_str()));
    for (on, off) in [("rw", "ro"), ("nosuid", "suid"), ("nodev", "dev")] {
        if !has(&options, &[on, off]) {
            options.push(on.to_owned());
        }
    }
    if !has(&options, &["tmpcopyup", "notmpcopyup"]) {
        options.push("tmpcopyup".to_owned());
    }
    options.retain(|option| option != "notmpcopyup");
    options
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
    fn volumes() {
        let base = Path::new("/work");
        let mount = Mount::parse_volume("./a:/b:ro,Z", base).unwrap();
        assert_eq!(mount.destination, Path::new("/b"));
        assert_eq!(mount.options, ["ro", "rbind", "rprivate", "nosuid", "nodev"]);
        assert!(Mount::parse_volume("named:/b", base).is_err());
        assert!(Mount::parse_volume("/a:b", base).is_err());
        assert!(Mount::parse_volume("/a:/b/../c", base).is_err());
        assert!(Mount::parse_volume("/a:/", base).is_err());
        assert!(Mount::parse_volume("/a:/b:nonsense", base).is_err());
    }

    #[test]
    fn mounts() {
        let base = Path::new("/work");
        let mount = Mount::parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m", base).unwrap();
        assert_eq!(mount.kind, MountKind::Tmpfs);
        assert!(mount.options.contains(&"size=1048576".to_owned()));
        let mount = Mount::parse_mount("type=bind,src=x,target=/y,ro", base).unwrap();
        assert_eq!(mount.kind, MountKind::Bind { source: "/work/x".into() });
        assert!(Mount::parse_mount("type=image,dst=/y", base).is_err());
        assert!(Mount::parse_mount("type=bind,dst=/y", base).is_err());
    }

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
