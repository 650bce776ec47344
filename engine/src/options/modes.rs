//! Options that are one word out of a few, and lists of simple words.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::parse_size;
use crate::{Error, Result};

/// Who speaks to the service manager that runs davit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SdNotify {
    /// The container's program.
    #[default]
    Container,
    /// davit, when the program runs.
    Conmon,
    /// davit, when the container is healthy.
    Healthy,
    /// Nobody.
    Ignore,
}

impl SdNotify {
    /// Reads `--sdnotify`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "" | "container" => Self::Container,
            "conmon" => Self::Conmon,
            "healthy" => Self::Healthy,
            "ignore" => Self::Ignore,
            other => {
                return Err(Error::invalid(
                    format!("sdnotify {other}"),
                    "expected container, conmon, healthy or ignore",
                ));
            }
        })
    }

    /// As Podman writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Conmon => "conmon",
            Self::Healthy => "healthy",
            Self::Ignore => "ignore",
        }
    }
}

/// Whether the container is set up for systemd as its first process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SystemdMode {
    /// Where the command is an init.
    #[default]
    Auto,
    /// Whatever the command is.
    Always,
    /// Never.
    Off,
}

impl SystemdMode {
    /// Reads `--systemd`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "" | "true" | "1" => Self::Auto,
            "always" => Self::Always,
            "false" | "0" => Self::Off,
            _ => return Err(Error::invalid(format!("systemd {text}"), "expected true, false or always")),
        })
    }

    /// Whether it applies to a command.
    pub(crate) fn applies(self, argv: &[String]) -> bool {
        const INITS: [&str; 3] = ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"];
        let first = argv.first().map_or("", String::as_str);
        let is_init = INITS.contains(&first)
            || Path::new(first).file_name().is_some_and(|name| name == "systemd")
                && (first == "systemd" || first.starts_with('/'));
        match self {
            Self::Always => true,
            Self::Off => false,
            Self::Auto => is_init,
        }
    }
}

/// How a container's control group is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupsMode {
    /// A group of its own; `no-conmon` is the same here: the monitor never has a group of its own.
    #[default]
    Enabled,
    /// None: it stays in the caller's.
    Disabled,
    /// A group of its own, named so for `inspect`.
    NoConmon,
    /// A group below the caller's, for units that own what they start.
    Split,
}

impl CgroupsMode {
    /// Reads `--cgroups`.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "" | "enabled" => Self::Enabled,
            "disabled" => Self::Disabled,
            "no-conmon" => Self::NoConmon,
            "split" => Self::Split,
            other => {
                return Err(Error::invalid(
                    format!("cgroups {other}"),
                    "expected enabled, disabled, no-conmon or split",
                ));
            }
        })
    }

    /// As Podman writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::NoConmon => "no-conmon",
            Self::Split => "split",
        }
    }
}

/// What stands at the places that an image declares as volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageVolumes {
    /// A volume of the container's own, with what the image has there.
    Anonymous,
    /// What the image has there. It is the default of records, which do not say so; that of the command line is anonymous.
    #[default]
    Ignore,
    /// An empty file system in memory.
    Tmpfs,
}

impl ImageVolumes {
    /// Reads `--image-volume`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "ignore" => Ok(Self::Ignore),
            "tmpfs" => Ok(Self::Tmpfs),
            "" | "anonymous" | "bind" => Ok(Self::Anonymous),
            other => {
                Err(Error::invalid(format!("image-volume {other}"), "expected anonymous, tmpfs or ignore"))
            }
        }
    }
}

/// A directory as root file system, from `--rootfs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsDirectory {
    /// Absolute host path.
    pub path: PathBuf,
    /// Changes go to a layer of the container's own, and the directory stays as it is.
    pub overlay: bool,
    /// Owners are mapped through the container's user namespace.
    pub id_mapped: bool,
}

impl RootfsDirectory {
    /// Reads `DIRECTORY[:O][:idmap]`; a relative one starts at `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self> {
        let mut parts = text.split(':');
        let path = base.join(parts.next().unwrap_or_default());
        let mut directory = Self { path, overlay: false, id_mapped: false };
        for option in parts {
            match option {
                "O" => directory.overlay = true,
                "idmap" => directory.id_mapped = true,
                other => {
                    return Err(Error::invalid(
                        format!("rootfs {text}"),
                        format!("unknown or unsupported option {other}: expected O or idmap"),
                    ));
                }
            }
        }
        if !directory.path.is_dir() {
            return Err(Error::invalid(format!("rootfs {}", directory.path.display()), "no such directory"));
        }
        Ok(directory)
    }
}

/// A limit of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimit {
    /// What is limited.
    pub kind: BlockLimitKind,
    /// The device's node on the host.
    pub device: PathBuf,
    /// Weight, bytes a second or operations a second.
    pub value: u64,
}

/// What a [`BlockLimit`] limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockLimitKind {
    /// Relative weight, 10 to 1000.
    Weight,
    /// Bytes read a second.
    ReadBps,
    /// Bytes written a second.
    WriteBps,
    /// Reads a second.
    ReadIops,
    /// Writes a second.
    WriteIops,
}

impl BlockLimit {
    /// Reads `DEVICE:VALUE` of the option that limits `kind`.
    pub fn parse(kind: BlockLimitKind, text: &str) -> Result<Self> {
        let (option, is_size) = match kind {
            BlockLimitKind::Weight => ("blkio-weight-device", false),
            BlockLimitKind::ReadBps => ("device-read-bps", true),
            BlockLimitKind::WriteBps => ("device-write-bps", true),
            BlockLimitKind::ReadIops => ("device-read-iops", false),
            BlockLimitKind::WriteIops => ("device-write-iops", false),
        };
        let bad = |reason: &str| Error::invalid(format!("{option} {text}"), reason.to_owned());
        let (device, value) = text.rsplit_once(':').ok_or_else(|| bad("expected DEVICE:VALUE"))?;
        if !device.starts_with("/dev/") {
            return Err(bad("expected a device below /dev"));
        }
        let value = if is_size {
            u64::try_from(parse_size(option, value)?).map_err(|_| bad("expected a size such as 1mb"))?
        } else {
            value.parse().map_err(|_| bad("expected a number"))?
        };
        if kind == BlockLimitKind::Weight && !(10..=1000).contains(&value) {
            return Err(bad("expected a weight of 10 to 1000"));
        }
        Ok(Self { kind, device: device.into(), value })
    }
}

/// A rule for the use of devices, from `--device-cgroup-rule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// `a`, `b` or `c`.
    pub kind: char,
    /// `None` = all.
    pub major: Option<i64>,
    /// `None` = all.
    pub minor: Option<i64>,
    /// Of `rwm`.
    pub access: String,
}

impl DeviceRule {
    /// Reads `TYPE MAJOR:MINOR ACCESS`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("device-cgroup-rule {text}"), "expected TYPE MAJOR:MINOR ACCESS");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [kind, numbers, access] = words.as_slice() else { return Err(bad()) };
        let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            text => text.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| bad()),
        };
        let kind = match *kind {
            "a" => 'a',
            "b" => 'b',
            "c" => 'c',
            _ => return Err(bad()),
        };
        if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
            return Err(bad());
        }
        Ok(Self { kind, major: number(major)?, minor: number(minor)?, access: (*access).to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inits_are_known() {
        let applies = |mode: SystemdMode, word: &str| mode.applies(&[word.to_owned()]);
        for word in ["/sbin/init", "/usr/lib/systemd/systemd", "systemd"] {
            assert!(applies(SystemdMode::Auto, word), "{word}");
            assert!(!applies(SystemdMode::Off, word), "{word}");
        }
        for word in ["init", "/bin/init", "x/systemd", "sh"] {
            assert!(!applies(SystemdMode::Auto, word), "{word}");
            assert!(applies(SystemdMode::Always, word), "{word}");
        }
        assert!(SystemdMode::parse("maybe").is_err());
    }

    #[test]
    fn limits_of_devices() {
        let limit = BlockLimit::parse(BlockLimitKind::ReadBps, "/dev/sda:1mb").unwrap();
        assert_eq!((limit.device.to_str(), limit.value), (Some("/dev/sda"), 1 << 20));
        for (kind, bad) in [
            (BlockLimitKind::Weight, "/dev/sda:9"),
            (BlockLimitKind::ReadIops, "/dev/sda:1mb"),
            (BlockLimitKind::ReadBps, "sda:1"),
            (BlockLimitKind::WriteBps, "/dev/sda"),
        ] {
            assert!(BlockLimit::parse(kind, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_for_devices() {
        let rule = DeviceRule::parse("c 13:* rw").unwrap();
        assert_eq!((rule.kind, rule.major, rule.minor, rule.access.as_str()), ('c', Some(13), None, "rw"));
        for bad in ["", "c 13:* rwx", "x 1:2 r", "c 13 r", "c 1:x r", "c 1:-2 r"] {
            assert!(DeviceRule::parse(bad).is_err(), "{bad}");
        }
    }
}
