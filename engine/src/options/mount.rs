//! `--volume`, `--mount`, `--tmpfs`: what the user mounts where.

use super::parse_size;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A mount that the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub destination: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Options as the runtime specification names them: `ro`, `rbind`, `rprivate`, `nosuid`, `size=..`. `O` = a layer of
    /// the container's own lies over what is mounted.
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
    /// What a pattern matches on the host, each below the destination (or, alone, at it); becomes `Bind`s.
    Glob {
        /// Absolute pattern, with `*`, `?` and `[..]`.
        pattern: String,
    },
    /// An empty file system in memory; what the image has at the destination is copied up.
    Tmpfs,
    /// A file system in memory that knows no limit.
    Ramfs,
    /// Terminals of the container's own.
    Devpts,
    /// A volume.
    Volume {
        /// Its name; empty for an anonymous one until the container is made.
        name: String,
        /// Whether it was made for this container alone, and goes with it.
        #[serde(default)]
        anonymous: bool,
        /// Directory or file of the volume that is mounted; the whole of it without.
        #[serde(default)]
        subpath: Option<PathBuf>,
        /// Whether what the image has at the destination stays out of an empty volume.
        #[serde(default)]
        no_copy: bool,
    },
    /// The file system of an image.
    Image {
        /// The image, as the user named it.
        reference: String,
        /// Whether the container may change its own view of it.
        writable: bool,
    },
    /// Directories over each other: what volumes with `O` and images become when their container starts.
    Overlay {
        /// Directories that are only read, the topmost first.
        lower: Vec<PathBuf>,
        /// Directory that is written to.
        upper: Option<PathBuf>,
        /// Directory for the kernel's own use, beside the upper one.
        work: Option<PathBuf>,
    },
}

/// Checks a volume's name.
pub fn volume_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let all = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && all && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::invalid(format!("volume {name}"), "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"))
}

impl Mount {
    /// Reads `-v [SOURCE:]DESTINATION[:OPTIONS]`. A source that begins with / or . is a path, which starts at `base` where it
    /// is relative; any other is the name of a volume. Without a source the volume is anonymous.
    pub fn parse_volume(text: &str, base: &Path) -> Result<Self> {
        let what = || format!("volume {text}");
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts.as_slice() {
            [destination] => ("", *destination, ""),
            [source, destination] => (*source, *destination, ""),
            [source, destination, options] => (*source, *destination, *options),
            _ => return Err(Error::invalid(what(), "expected [SOURCE:]DESTINATION[:OPTIONS]")),
        };
        let (mut words, mut no_copy) = (Vec::new(), false);
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "nocopy" => no_copy = true,
                "copy" => no_copy = false,
                _ => words.push(volume_option(option).ok_or_else(|| {
                    Error::invalid(what(), format!("unknown or unsupported option {option}"))
                })?),
            }
        }
        let kind = if source.starts_with('/') || source.starts_with('.') {
            if options.split(',').any(|option| matches!(option, "copy" | "nocopy")) {
                return Err(Error::invalid(what(), "copy and nocopy are options of volumes, not of paths"));
            }
            MountKind::Bind { source: base.join(source) }
        } else {
            if !source.is_empty() {
                volume_name(source)?;
            } else if parts.len() > 1 {
                return Err(Error::invalid(what(), "the source is empty"));
            }
            let name = source.to_owned();
            MountKind::Volume { anonymous: name.is_empty(), name, subpath: None, no_copy }
        };
        Ok(Self {
            destination: absolute_destination(&what(), destination)?,
            kind,
            options: bind_options(words.into_iter().flatten().collect()),
        })
    }

    /// Reads `--mount type=TYPE,KEY=VALUE,..`, with `volume` for a missing type. A relative source starts at `base`.
    pub fn parse_mount(text: &str, base: &Path) -> Result<Self> {
        let what = || format!("mount {text}");
        let mut given = Given { kind: "volume", ..Given::default() };
        let on = |value: Option<&str>| !matches!(value, Some("false" | "0" | "f"));
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field, None),
            };
            let needed = || value.ok_or_else(|| Error::invalid(what(), format!("{key} needs a value")));
            let mut push = |word: &str| given.options.push(word.to_owned());
            match key {
                "type" => given.kind = needed()?,
                "source" | "src" => given.source = Some(needed()?),
                "destination" | "dst" | "dest" | "target" => given.destination = Some(needed()?),
                "ro" | "readonly" => push(if on(value) { "ro" } else { "rw" }),
                "rw" | "readwrite" => {
                    given.writable = on(value);
                    push(if on(value) { "rw" } else { "ro" });
                }
                "bind-propagation" => push(needed()?),
                "bind-nonrecursive" => push(if on(value) { "bind" } else { "rbind" }),
                "tmpfs-size" | "size" => push(&format!("size={}", parse_size(key, needed()?)?)),
                "tmpfs-mode" | "mode" => push(&format!("mode={}", needed()?)),
                "subpath" | "volume-subpath" => given.subpath = Some(relative(&what(), needed()?)?),
                "volume-nocopy" | "nocopy" => given.no_copy = on(value),
                "copy" => given.no_copy = !on(value),
                "uid" | "gid" | "max" | "ptmxmode" => push(field),
                "idmap" | "tmpcopyup" | "notmpcopyup" | "nosuid" | "suid" | "nodev" | "dev" | "noexec"
                | "exec" | "noatime" | "relatime" | "private" | "rprivate" | "shared" | "rshared"
                | "slave" | "rslave" | "unbindable" | "runbindable" => push(key),
                "consistency" | "relabel" | "Z" | "z" => {}
                other => return Err(Error::invalid(what(), format!("unknown key {other}"))),
            }
        }
        given.read(&what(), base)
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

    /// An anonymous volume, as for a place that an image declares as one.
    pub(crate) fn anonymous(destination: &str) -> Result<Self> {
        let kind = MountKind::Volume { name: String::new(), anonymous: true, subpath: None, no_copy: false };
        let destination = absolute_destination(&format!("volume {destination}"), destination)?;
        Ok(Self { destination, kind, options: bind_options(Vec::new()) })
    }

    /// The name of the volume, if it mounts one.
    pub(crate) fn volume(&self) -> Option<&str> {
        match &self.kind {
            MountKind::Volume { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether it has an option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|word| word == option)
    }
}

/// The fields of `--mount`.
#[derive(Debug, Default)]
struct Given<'a> {
    kind: &'a str,
    source: Option<&'a str>,
    destination: Option<&'a str>,
    options: Vec<String>,
    subpath: Option<PathBuf>,
    no_copy: bool,
    writable: bool,
}

impl Given<'_> {
    fn read(self, what: &str, base: &Path) -> Result<Mount> {
        let Given { kind, source, destination, options, subpath, no_copy, writable } = self;
        let destination = match (destination, kind) {
            (Some(destination), _) => absolute_destination(what, destination)?,
            (None, "devpts") => "/dev/pts".into(),
            // what a pattern finds stands where it stands on the host
            (None, "glob") => "/".into(),
            (None, _) => return Err(Error::invalid(what, "no destination")),
        };
        let needed = || source.ok_or_else(|| Error::invalid(what, "no source"));
        let no_source = |kind: &str| match source {
            None => Ok(()),
            Some(_) => Err(Error::invalid(what, format!("a {kind} has no source"))),
        };
        if subpath.is_some() && kind != "volume" {
            return Err(Error::unsupported(format!("subpath of a {kind} mount"), "volumes have one"));
        }
        let (kind, options) = match kind {
            "bind" => (MountKind::Bind { source: base.join(needed()?) }, bind_options(options)),
            "glob" => {
                let pattern = base.join(needed()?).to_string_lossy().into_owned();
                (MountKind::Glob { pattern }, bind_options(options))
            }
            "tmpfs" => {
                no_source("tmpfs")?;
                (MountKind::Tmpfs, tmpfs_options(options))
            }
            "ramfs" => {
                no_source("ramfs")?;
                let mut options = tmpfs_options(options);
                options.retain(|option| !option.starts_with("size="));
                (MountKind::Ramfs, options)
            }
            "devpts" => {
                no_source("devpts")?;
                (MountKind::Devpts, options)
            }
            "volume" => {
                let name = source.unwrap_or_default().to_owned();
                if !name.is_empty() {
                    volume_name(&name)?;
                }
                let kind = MountKind::Volume { anonymous: name.is_empty(), name, subpath, no_copy };
                (kind, bind_options(options))
            }
            "image" => {
                let mut options = bind_options(options);
                options.retain(|option| !matches!(option.as_str(), "rw" | "rbind"));
                (MountKind::Image { reference: needed()?.to_owned(), writable }, options)
            }
            other => {
                return Err(Error::unsupported(
                    format!("mount type {other}"),
                    "use bind, glob, volume, tmpfs, ramfs, devpts or image",
                ));
            }
        };
        Ok(Mount { destination, kind, options })
    }
}

/// A path below a volume.
fn relative(what: &str, text: &str) -> Result<PathBuf> {
    let path: PathBuf = Path::new(text.trim_start_matches('/')).components().collect();
    let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if path.as_os_str().is_empty() || !inside {
        return Err(Error::invalid(what, format!("subpath {text} is no path below the volume")));
    }
    Ok(path)
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
        | "exec" | "idmap" | "O" => Some(Some(option.to_owned())),
        // SELinux relabelling has nothing to do where SELinux is off
        "z" | "Z" | "cached" | "delegated" | "consistent" => Some(None),
        _ => None,
    }
}

fn has_any(options: &[String], words: &[&str]) -> bool {
    options.iter().any(|option| words.contains(&option.as_str()))
}

/// Podman's defaults: rbind, rprivate, nosuid, nodev, unless the opposite was asked for.
fn bind_options(mut options: Vec<String>) -> Vec<String> {
    if !has_any(&options, &["bind", "rbind"]) {
        options.push("rbind".to_owned());
    }
    const PROPAGATIONS: [&str; 8] =
        ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
    if !has_any(&options, &PROPAGATIONS) {
        options.push("rprivate".to_owned());
    }
    for (on, off) in [("nosuid", "suid"), ("nodev", "dev")] {
        if !has_any(&options, &[on, off]) {
            options.push(on.to_owned());
        }
    }
    options
}

fn tmpfs_options(mut options: Vec<String>) -> Vec<String> {
    for (on, off) in [("rw", "ro"), ("nosuid", "suid"), ("nodev", "dev")] {
        if !has_any(&options, &[on, off]) {
            options.push(on.to_owned());
        }
    }
    if !has_any(&options, &["tmpcopyup", "notmpcopyup"]) {
        options.push("tmpcopyup".to_owned());
    }
    options.retain(|option| option != "notmpcopyup");
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(text: &str) -> Result<Mount> {
        Mount::parse_volume(text, Path::new("/work"))
    }

    fn mount(text: &str) -> Result<Mount> {
        Mount::parse_mount(text, Path::new("/work"))
    }

    #[test]
    fn paths_are_bound() {
        let mount = volume("./a:/b:ro,Z").unwrap();
        assert_eq!(mount.destination, Path::new("/b"));
        assert_eq!(mount.options, ["ro", "rbind", "rprivate", "nosuid", "nodev"]);
        for bad in ["/a:b", "/a:/b/../c", "/a:/", "/a:/b:nonsense", "/a:/b:nocopy", ":/b", "a", "/a:/b:ro:x"]
        {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volumes_have_names_or_none() {
        let of = |text: &str| match volume(text).unwrap().kind {
            MountKind::Volume { name, anonymous, no_copy, .. } => (name, anonymous, no_copy),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("data:/d"), ("data".to_owned(), false, false));
        assert_eq!(of("data:/d:nocopy,ro"), ("data".to_owned(), false, true));
        assert_eq!(of("/d"), (String::new(), true, false));
        for bad in ["a/b:/d", "-a:/d", "a b:/d", "é:/d"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        assert!(volume_name(&"x".repeat(256)).is_err());
    }

    #[test]
    fn mounts() {
        let made = mount("type=tmpfs,dst=/t,tmpfs-size=1m").unwrap();
        assert_eq!(made.kind, MountKind::Tmpfs);
        assert!(made.options.contains(&"size=1048576".to_owned()));
        let made = mount("type=bind,src=x,target=/y,ro").unwrap();
        assert_eq!(made.kind, MountKind::Bind { source: "/work/x".into() });
        let made = mount("src=v,dst=/y,subpath=/a/b,volume-nocopy").unwrap();
        let kind = MountKind::Volume {
            name: "v".into(),
            anonymous: false,
            subpath: Some("a/b".into()),
            no_copy: true,
        };
        assert_eq!(made.kind, kind);
        let made = mount("type=image,src=app,dst=/y,rw=true").unwrap();
        assert_eq!(made.kind, MountKind::Image { reference: "app".into(), writable: true });
        assert_eq!(mount("type=devpts").unwrap().destination, Path::new("/dev/pts"));
        for bad in [
            "type=bind,dst=/y",
            "type=image,dst=/y",
            "type=nonsense,dst=/y",
            "src=v,dst=/y,subpath=../x",
            "type=tmpfs,src=x,dst=/y",
            "type=bind,src=/a",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
