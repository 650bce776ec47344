//! Device nodes of a container: the default ones, `--device` values, and what the host's nodes are.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

/// Why a device was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The option's value has the wrong form.
    #[error("device {text:?}: {reason}")]
    Malformed {
        /// The option's value.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host's file cannot be asked.
    #[error("stat device {}", path.display())]
    Stat {
        /// The host's path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The host's file is no device.
    #[error("{} is not a device", path.display())]
    NotADevice {
        /// The host's path.
        path: PathBuf,
    },
}

/// `--device SRC[:DST][:rwm]`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRequest {
    /// Path on the host; a directory means every device below it.
    pub source: PathBuf,
    /// Path in the container.
    pub destination: PathBuf,
    /// Letters of `rwm`.
    pub access: String,
}

/// Reads the value of `--device`.
///
/// # Errors
/// A relative path, an unknown letter, too many parts.
pub fn parse(text: &str) -> Result<DeviceRequest, Error> {
    let malformed = |reason| Error::Malformed { text: text.into(), reason };
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let second = parts.next();
    let third = parts.next();
    if parts.next().is_some() {
        return Err(malformed("expected SOURCE[:DESTINATION][:rwm]"));
    }
    let (destination, access) = match (second, third) {
        (None, _) => (source, "rwm"),
        (Some(access), None) if is_access(access) => (source, access),
        (Some(destination), None) => (destination, "rwm"),
        (Some(destination), Some(access)) => (destination, access),
    };
    if !source.starts_with('/') {
        return Err(malformed("the path on the host must be absolute"));
    }
    if !destination.starts_with('/') {
        return Err(malformed("the path in the container must be absolute"));
    }
    if !is_access(access) {
        return Err(malformed("the access must be letters of rwm"));
    }
    Ok(DeviceRequest { source: source.into(), destination: destination.into(), access: access.into() })
}

fn is_access(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm'))
        && text.chars().enumerate().all(|(index, letter)| !text[..index].contains(letter))
}

/// Asks the host's file system what `path` is.
///
/// # Errors
/// The path cannot be asked or is no character or block device.
pub fn stat(path: &Path) -> Result<LinuxDevice, Error> {
    let status =
        rustix::fs::stat(path).map_err(|errno| Error::Stat { path: path.into(), source: errno.into() })?;
    let typ = match rustix::fs::FileType::from_raw_mode(status.st_mode) {
        rustix::fs::FileType::CharacterDevice => LinuxDeviceType::C,
        rustix::fs::FileType::BlockDevice => LinuxDeviceType::B,
        _ => return Err(Error::NotADevice { path: path.into() }),
    };
    let device = node(
        path,
        typ,
        i64::from(rustix::fs::major(status.st_rdev)),
        i64::from(rustix::fs::minor(status.st_rdev)),
        status.st_mode & 0o7777,
    );
    Ok(with_owner(device, status.st_uid, status.st_gid))
}

fn with_owner(mut device: LinuxDevice, uid: u32, gid: u32) -> LinuxDevice {
    device.set_uid(Some(uid));
    device.set_gid(Some(gid));
    device
}

fn node(path: &Path, typ: LinuxDeviceType, major: i64, minor: i64, mode: u32) -> LinuxDevice {
    let builder = LinuxDeviceBuilder::default().path(path).typ(typ).major(major).minor(minor).file_mode(mode);
    builder.uid(0_u32).gid(0_u32).build().expect("the builder has a default for every field")
}

/// Every device that `request` stands for: one, or all below a directory, at the same places below the destination.
///
/// # Errors
/// See [`stat`]; what is no device in a directory is passed over.
pub fn resolve(request: &DeviceRequest) -> Result<Vec<LinuxDevice>, Error> {
    let is_directory = std::fs::metadata(&request.source)
        .map_err(|source| Error::Stat { path: request.source.clone(), source })?
        .is_dir();
    if !is_directory {
        let mut device = stat(&request.source)?;
        device.set_path(request.destination.clone());
        return Ok(vec![device]);
    }
    let mut found = Vec::new();
    walk(&request.source, &mut found)?;
    for device in &mut found {
        if let Ok(relative) = device.path().strip_prefix(&request.source) {
            let path = request.destination.join(relative);
            device.set_path(path);
        }
    }
    Ok(found)
}

/// All devices of the host's `/dev`, for `--privileged`: terminals, shared memory and what is private to a mount of its
/// own (`pts`, `shm`, `mqueue`, `console`) are not among them.
///
/// # Errors
/// `/dev` cannot be read.
pub fn all_of_host() -> Result<Vec<LinuxDevice>, Error> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), &mut found)?;
    found.retain(|device| {
        let name = device.path().to_string_lossy();
        let own = [
            "/dev/console",
            "/dev/ptmx",
            "/dev/tty",
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
        ];
        !own.contains(&name.as_ref())
    });
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<LinuxDevice>) -> Result<(), Error> {
    let error = |source| Error::Stat { path: directory.into(), source };
    let mut entries: Vec<_> =
        std::fs::read_dir(directory).map_err(error)?.collect::<Result<_, _>>().map_err(error)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() {
            let name = entry.file_name();
            if !["pts", "shm", "mqueue", "fd"].iter().any(|skipped| name == *skipped) {
                walk(&path, found)?;
            }
        } else if !kind.is_symlink() {
            match stat(&path) {
                Ok(device) => found.push(device),
                // Sockets and files in /dev, and nodes that vanish meanwhile.
                Err(Error::NotADevice { .. } | Error::Stat { .. }) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

/// The nodes that every container has, which the runtime makes by itself: they need not stand in a spec.
#[must_use]
pub fn default_nodes() -> Vec<LinuxDevice> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .map(|(name, major, minor)| {
            node(&Path::new("/dev").join(name), LinuxDeviceType::C, major, minor, 0o666)
        })
        .into()
}

/// A device rule of a group; a number that is `None` is any.
#[must_use]
pub fn rule(
    allow: bool,
    typ: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(typ).access(access);
    if let Some(major) = major {
        rule = rule.major(major);
    }
    if let Some(minor) = minor {
        rule = rule.minor(minor);
    }
    rule.build().expect("the builder has a default for every field")
}

/// What the runtime allows to every container besides the rules of its spec: making any node, the default nodes, the
/// terminals. crun and runc add the same, so a spec holds only a refusal of everything and what the user asked.
#[must_use]
pub fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let c = LinuxDeviceType::C;
    let mut rules = vec![rule(true, c, None, None, "m"), rule(true, LinuxDeviceType::B, None, None, "m")];
    rules.extend(
        default_nodes().iter().map(|node| rule(true, c, Some(node.major()), Some(node.minor()), "rwm")),
    );
    // ptmx, the slaves of devpts, the console
    rules.extend([
        rule(true, c, Some(5), Some(2), "rwm"),
        rule(true, c, Some(136), None, "rwm"),
        rule(true, c, Some(5), Some(1), "rwm"),
    ]);
    rules
}

/// The rules of a spec with [`default_rules`] after them, unless the spec allows everything anyway.
#[must_use]
pub fn effective_rules(spec: &[LinuxDeviceCgroup]) -> Vec<LinuxDeviceCgroup> {
    let mut rules = spec.to_vec();
    let everything = |rule: &LinuxDeviceCgroup| {
        matches!(rule.typ(), None | Some(LinuxDeviceType::A))
            && rule.major().is_none()
            && rule.minor().is_none()
    };
    let open = rules.iter().rev().find(|rule| everything(rule)).is_some_and(LinuxDeviceCgroup::allow);
    if !rules.is_empty() && !open {
        rules.extend(default_rules());
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let want = |source: &str, destination: &str, access: &str| DeviceRequest {
            source: source.into(),
            destination: destination.into(),
            access: access.into(),
        };
        assert_eq!(parse("/dev/fuse").unwrap(), want("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(parse("/dev/fuse:r").unwrap(), want("/dev/fuse", "/dev/fuse", "r"));
        assert_eq!(parse("/dev/a:/dev/b").unwrap(), want("/dev/a", "/dev/b", "rwm"));
        assert_eq!(parse("/dev/a:/dev/b:rm").unwrap(), want("/dev/a", "/dev/b", "rm"));
        for bad in ["", "dev/a", "/dev/a:b", "/dev/a:/dev/b:x", "/dev/a:/b:rr", "/a:/b:r:w"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_nodes_are_asked() {
        let null = stat(Path::new("/dev/null")).unwrap();
        assert_eq!((null.typ(), null.major(), null.minor()), (LinuxDeviceType::C, 1, 3));
        assert!(matches!(stat(Path::new("/etc/passwd")), Err(Error::NotADevice { .. })));
        assert!(matches!(stat(Path::new("/dev/none")), Err(Error::Stat { .. })));
        let moved = resolve(&parse("/dev/null:/dev/hole").unwrap()).unwrap();
        assert_eq!(moved[0].path(), Path::new("/dev/hole"));
    }

    #[test]
    fn rules_of_a_privileged_spec_stay_alone() {
        let open = [rule(true, LinuxDeviceType::A, None, None, "rwm")];
        assert_eq!(effective_rules(&open), open);
        let closed = [rule(false, LinuxDeviceType::A, None, None, "rwm")];
        assert_eq!(effective_rules(&closed).len(), 1 + default_rules().len());
    }
}
