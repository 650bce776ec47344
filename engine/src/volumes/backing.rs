//! What a volume's options say: where its content lies. Pure, but for the mount itself.

use super::record::VolumeRecord;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the content of a volume lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing {
    /// In its own directory.
    Directory,
    /// In a directory of the host, which is bound where the volume is used.
    Bind(PathBuf),
    /// On a file system that is mounted over its own directory while the volume is used.
    Mounted {
        /// Type as mount(8) knows it.
        kind: String,
        /// What is mounted.
        device: String,
        /// Options of the mount.
        options: Vec<String>,
    },
}

/// What the options of `volume create` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) backing: Backing,
    /// Owner of the volume's directory.
    pub(super) uid: Option<u32>,
    /// Group of the volume's directory.
    pub(super) gid: Option<u32>,
    /// Whether nothing of an image is copied into it.
    pub(super) no_copy: bool,
}

/// Reads `type`, `device` and `o` of the driver `local`.
pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Asked> {
    let invalid = |what: String, reason: &str| Error::invalid(what, reason.to_owned());
    let mut asked = Asked { backing: Backing::Directory, uid: None, gid: None, no_copy: false };
    let (mut kind, mut device, mut words) = ("", "", Vec::new());
    for (key, value) in options {
        match key.as_str() {
            "type" => kind = value,
            "device" => device = value,
            "o" => words.extend(value.split(',').filter(|word| !word.is_empty())),
            "copy" => asked.no_copy = false,
            "nocopy" => asked.no_copy = true,
            other => {
                let reason = "the driver local knows type, device and o";
                return Err(invalid(format!("volume option {other}"), reason));
            }
        }
    }
    let is_tmpfs = kind == "tmpfs";
    let mut rest = Vec::new();
    for word in words {
        let number = |value: &str| {
            value.parse::<u32>().map_err(|_| invalid(format!("volume option {word}"), "expected a number"))
        };
        match word.split_once('=') {
            Some(("uid", value)) => asked.uid = Some(number(value)?),
            Some(("gid", value)) => asked.gid = Some(number(value)?),
            Some(("size" | "inodes", _)) if !is_tmpfs => {
                return Err(Error::unsupported(
                    format!("volume option {word}"),
                    "a limit needs type=tmpfs, or a file system of its own given with device",
                ));
            }
            None if word == "nocopy" => asked.no_copy = true,
            None if word == "copy" => asked.no_copy = false,
            None if word == "noquota" => {}
            _ => rest.push(word.to_owned()),
        }
    }
    let is_bind = rest.iter().any(|word| matches!(word.as_str(), "bind" | "rbind"));
    asked.backing = match (kind, device) {
        ("" | "none" | "bind", "") if !is_bind => Backing::Directory,
        ("" | "none" | "bind", path) if is_bind || kind == "bind" => {
            if !path.starts_with('/') {
                return Err(invalid(format!("volume option device={path}"), "expected an absolute path"));
            }
            Backing::Bind(path.into())
        }
        ("" | "none", device) => {
            return Err(invalid(format!("volume option device={device}"), "it needs type, or o=bind"));
        }
        (kind, "") if !is_tmpfs => {
            return Err(invalid(format!("volume option type={kind}"), "it needs device"));
        }
        (kind, device) => {
            // what becomes an argument of mount(8) must not read as an option of it
            if kind.starts_with('-') || device.starts_with('-') {
                return Err(invalid(format!("volume option {kind} {device}"), "it begins with a hyphen"));
            }
            let device = if device.is_empty() { kind } else { device };
            Backing::Mounted { kind: kind.to_owned(), device: device.to_owned(), options: rest }
        }
    };
    Ok(asked)
}

/// Where a volume's content lies.
pub(super) fn of(record: &VolumeRecord) -> Result<Backing> {
    Ok(read(&record.options)?.backing)
}

/// Mounts a volume's file system over its directory.
pub(super) fn mount(record: &VolumeRecord, backing: &Backing, place: &Path) -> Result<()> {
    let Backing::Mounted { kind, device, options } = backing else { return Ok(()) };
    if super::record::is_mounted(place) {
        return Ok(());
    }
    let what = format!("mount volume {}", record.name);
    if sys::idmap::in_user_namespace() {
        return Err(Error::unsupported(
            format!("volume {} of type {kind}", record.name),
            "an ordinary user's mount does not outlive the command; use a directory, or o=bind",
        ));
    }
    if kind == "tmpfs" {
        let mut mount = sys::mount::Mount::named("tmpfs").with_source(device);
        options.iter().for_each(|option| mount.apply_option(option));
        return sys::mount::mount_all(&[mount], place)
            .map_err(|error| Error::os(what, std::io::Error::other(error)));
    }
    // Network file systems have helpers, which mount(8) knows.
    let mut command = Command::new("mount");
    command.args(["-t", kind]);
    if !options.is_empty() {
        command.arg("-o").arg(options.join(","));
    }
    let output = command.arg("--").arg(device).arg(place).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::os(format!("{what}: run mount"), error))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::os(what, std::io::Error::other(told)))
}

/// Takes a volume's file system away.
pub(super) fn unmount(place: &Path) -> Result<()> {
    if super::record::is_mounted(place) {
        sys::mount::umount_detach(place).map_err(|error| {
            Error::os(format!("unmount {}", place.display()), std::io::Error::other(error))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(options: &[(&str, &str)]) -> Result<Asked> {
        read(&options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn options_say_where_the_content_lies() {
        assert_eq!(asked(&[]).unwrap().backing, Backing::Directory);
        let made = asked(&[("o", "uid=5,gid=6,nocopy")]).unwrap();
        assert_eq!((made.uid, made.gid, made.no_copy), (Some(5), Some(6), true));
        let bind = asked(&[("type", "none"), ("o", "bind"), ("device", "/srv")]).unwrap();
        assert_eq!(bind.backing, Backing::Bind("/srv".into()));
        let mounted = asked(&[("type", "tmpfs"), ("o", "size=10m,nosuid"), ("device", "tmpfs")]).unwrap();
        let options = vec!["size=10m".to_owned(), "nosuid".to_owned()];
        assert_eq!(
            mounted.backing,
            Backing::Mounted { kind: "tmpfs".into(), device: "tmpfs".into(), options }
        );
        let mounted = asked(&[("type", "tmpfs")]).unwrap();
        assert!(matches!(mounted.backing, Backing::Mounted { .. }));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for bad in [
            &[("foo", "bar")][..],
            &[("o", "size=1g")],
            &[("o", "uid=x")],
            &[("o", "bind"), ("device", "relative")],
            &[("o", "bind")],
            &[("device", "/dev/sda1")],
            &[("type", "ext4")],
            &[("type", "ext4"), ("device", "-o suid")],
        ] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }
}
