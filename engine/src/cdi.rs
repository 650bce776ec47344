//! Devices that vendors describe (CDI, the Container Device Interface): files that say what a container needs besides
//! its own settings to use a device, as `VENDOR/CLASS=NAME`.
//!
//! Directories are read in the order of their precedence, lowest first: a device of a later directory hides that of an
//! earlier one, and one that two files of a directory describe is neither's. Only the files of the wanted vendor and
//! class have to be right.

#[cfg(test)]
mod tests;

use crate::options::{Device, Mount, MountKind};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where descriptions lie, unless the caller names other places.
pub(crate) const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A larger file is no description, bytes.
const LARGEST: u64 = 4 << 20;

/// What a container gets for its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Variables, `NAME=value`, which replace the image's.
    pub env: Vec<String>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Programs of the host that run while the container is made, as far as the runtime knows such.
    pub hooks: Vec<Hook>,
    /// Further groups of the process.
    pub groups: Vec<u32>,
}

/// A program that a description wants to run while the container is made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// When: `prestart`, `createRuntime`, `createContainer`, `startContainer`, `poststart` or `poststop`.
    pub hook_name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, with its own name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds after which it has failed.
    #[serde(default)]
    pub timeout: Option<i64>,
}

/// Whether a device is named as CDI does, and not by its path.
pub fn is_name(text: &str) -> bool {
    parse(text).is_some()
}

/// Vendor and class as written in front of `=`, and the name behind it.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (kind, name) = text.split_once('=')?;
    let (vendor, class) = kind.split_once('/')?;
    let starts = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
    let ends = |text: &str| text.ends_with(|last: char| last.is_ascii_alphanumeric());
    let of = |text: &str, marks: &str| {
        text.chars().all(|letter| letter.is_ascii_alphanumeric() || marks.contains(letter))
    };
    let is_kind = |text: &str| starts(text) && ends(text) && of(text, "_-.");
    let is_device =
        name.starts_with(|first: char| first.is_ascii_alphanumeric()) && ends(name) && of(name, "_-.:");
    (is_kind(vendor) && is_kind(class) && is_device).then_some((kind, name))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    cdi_version: String,
    kind: String,
    devices: Vec<Described>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

/// As a description has it. What is not known here is refused, because a device that is only half there fails in ways
/// that nobody understands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ContainerEdits {
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    device_nodes: Vec<Node>,
    #[serde(default)]
    mounts: Vec<DescribedMount>,
    #[serde(default)]
    hooks: Vec<Hook>,
    #[serde(default, rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    r#type: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescribedMount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    r#type: Option<String>,
}

/// What a container gets for devices of these names; `None` where one of them is not described.
///
/// # Errors
/// A description that is wrong, or asks for what cannot be given.
pub fn find(directories: &[PathBuf], name: &str) -> Result<Option<Edits>> {
    edits_of(directories, &[name.to_owned()], false)
}

/// What a container gets for devices of these names.
///
/// # Errors
/// A name that nothing describes, a description that is wrong or asks for what cannot be given.
pub fn edits(directories: &[PathBuf], names: &[String]) -> Result<Edits> {
    Ok(edits_of(directories, names, true)?.unwrap_or_default())
}

fn edits_of(directories: &[PathBuf], names: &[String], required: bool) -> Result<Option<Edits>> {
    let mut edits = Edits::default();
    // What a file says of all its devices is said once for each container.
    let mut common: Vec<PathBuf> = Vec::new();
    for name in names {
        let what = || format!("device {name}");
        let (kind, device) =
            parse(name).ok_or_else(|| Error::invalid(what(), "expected VENDOR/CLASS=NAME"))?;
        let Some((path, description)) = describing(directories, kind, device)? else {
            if !required {
                return Ok(None);
            }
            let places: Vec<_> = directories.iter().map(|place| place.display().to_string()).collect();
            return Err(Error::invalid(what(), format!("no file in {} describes it", places.join(" or "))));
        };
        let failed = |reason: String| Error::invalid(what(), format!("{}: {reason}", path.display()));
        let described = description.devices.iter().find(|described| described.name == device);
        if let Some(described) = described {
            edits.add(&described.container_edits).map_err(failed)?;
        }
        if !common.contains(&path) {
            edits.add(&description.container_edits).map_err(failed)?;
            common.push(path);
        }
    }
    Ok(Some(edits))
}

/// The file that describes a device.
fn describing(directories: &[PathBuf], kind: &str, device: &str) -> Result<Option<(PathBuf, Description)>> {
    for directory in directories.iter().rev() {
        let mut found: Option<(PathBuf, Description)> = None;
        for path in files(directory)? {
            let Some(description) = read(&path, kind)? else { continue };
            if !description.devices.iter().any(|described| described.name == device) {
                continue;
            }
            if let Some((other, _)) = &found {
                return Err(Error::invalid(
                    format!("device {kind}={device}"),
                    format!("both {} and {} describe it", other.display(), path.display()),
                ));
            }
            found = Some((path, description));
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::os(format!("read {}", directory.display()), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a description, `None` if it is of another kind of device.
fn read(path: &Path, kind: &str) -> Result<Option<Description>> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    let failed = |error| Error::os(format!("read {}", path.display()), error);
    let size = path.metadata().map_err(failed)?.len();
    if size > LARGEST {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let json = path.extension().is_some_and(|extension| extension == "json");
    fn decode<T: serde::de::DeserializeOwned>(text: &str, json: bool) -> std::result::Result<T, String> {
        match json {
            true => serde_json::from_str(text).map_err(|error| error.to_string()),
            false => serde_saphyr::from_str(text).map_err(|error| error.to_string()),
        }
    }
    // Of others only as much is read as tells that they are others.
    if !decode::<Kind>(&text, json).is_ok_and(|found| found.kind == kind) {
        return Ok(None);
    }
    let bad = |reason: String| Error::invalid(format!("device description {}", path.display()), reason);
    let description: Description = decode(&text, json).map_err(bad)?;
    debug_assert_eq!(description.kind, kind);
    match description.cdi_version.split('.').next() {
        Some("0" | "1") => Ok(Some(description)),
        _ => Err(bad(format!("its version {} is not known", description.cdi_version))),
    }
}

impl Edits {
    fn add(&mut self, edits: &ContainerEdits) -> std::result::Result<(), String> {
        for entry in &edits.env {
            if !entry.contains('=') {
                return Err(format!("{entry:?} is no variable"));
            }
        }
        self.env.extend(edits.env.iter().cloned());
        for node in &edits.device_nodes {
            self.devices.push(node.device()?);
        }
        for mount in &edits.mounts {
            self.mounts.push(mount.mount()?);
        }
        self.hooks.extend(edits.hooks.iter().cloned());
        for group in &edits.additional_gids {
            // As in the specification: 0 is nobody's further group.
            if *group != 0 && !self.groups.contains(group) {
                self.groups.push(*group);
            }
        }
        Ok(())
    }

    /// Fails where a description wants programs to run that the runtime does not run.
    pub fn without_hooks(self, name: &str) -> Result<Self> {
        match self.hooks.first() {
            None => Ok(self),
            Some(hook) => Err(Error::unsupported(
                format!("device {name}"),
                format!(
                    "its description wants the hook {} to run, and hooks are not built yet",
                    hook.path.display()
                ),
            )),
        }
    }

    /// The environment with these variables, in place of those of the same names.
    pub fn environment(&self, env: &[String]) -> Vec<String> {
        let mut all: Vec<String> = env.to_vec();
        for entry in &self.env {
            let name = |entry: &str| entry.split('=').next().map(str::to_owned);
            all.retain(|known| name(known) != name(entry));
            all.push(entry.clone());
        }
        all
    }
}

impl Node {
    fn device(&self) -> std::result::Result<Device, String> {
        let source = self.host_path.clone().unwrap_or_else(|| self.path.clone());
        let shown = source.display();
        let permissions = self.permissions.clone().filter(|text| !text.is_empty());
        let permissions = permissions.unwrap_or_else(|| "rwm".to_owned());
        if !source.is_absolute() || !self.path.is_absolute() {
            return Err(format!("{shown} is no absolute path"));
        }
        if permissions.chars().any(|letter| !"rwm".contains(letter)) {
            return Err(format!("{permissions:?} are no permissions of a device"));
        }
        // A node is made like the host's; a description mostly repeats that, and what differs cannot be had.
        let stat = std::fs::metadata(&source).map_err(|error| format!("{shown}: {error}"))?;
        let kind = stat.file_type();
        let letters: &[&str] = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => &["c", "u"],
            (_, true) => &["b"],
            _ if kind.is_fifo() => &["p"],
            _ => return Err(format!("{shown} is no device")),
        };
        let device = stat.rdev();
        let differs = |wanted: Option<u32>, has: u32| wanted.is_some_and(|wanted| wanted != has);
        let what = if self
            .r#type
            .as_deref()
            .is_some_and(|letter| !letter.is_empty() && !letters.contains(&letter))
        {
            "type"
        } else if differs(self.major.filter(|_| self.major != Some(0)), rustix::fs::major(device))
            || differs(
                self.minor.filter(|_| self.major.is_some_and(|major| major != 0)),
                rustix::fs::minor(device),
            )
        {
            "number"
        } else if differs(self.file_mode.map(|mode| mode & 0o777), stat.mode() & 0o777) {
            "mode"
        } else if differs(self.uid, stat.uid()) || differs(self.gid, stat.gid()) {
            "owner"
        } else {
            return Ok(Device { source, destination: self.path.clone(), permissions });
        };
        Err(format!("the node {shown} has another {what} than described: correct the description"))
    }
}

impl DescribedMount {
    fn mount(&self) -> std::result::Result<Mount, String> {
        if !self.container_path.is_absolute() {
            return Err(format!("{} is no absolute path", self.container_path.display()));
        }
        let kind = match self.r#type.as_deref() {
            None | Some("" | "bind" | "none") if self.host_path.is_absolute() => {
                MountKind::Bind { source: self.host_path.clone() }
            }
            Some("tmpfs") => MountKind::Tmpfs,
            Some(other) if !matches!(other, "" | "bind" | "none") => {
                return Err(format!("mounts of type {other} cannot be made"));
            }
            _ => return Err(format!("{} is no absolute path", self.host_path.display())),
        };
        let options = self.options.iter().filter(|word| *word != "bind").cloned().collect();
        Ok(Mount { destination: self.container_path.clone(), kind, options })
    }
}

/// The directories of this engine, lowest precedence first.
pub(crate) fn directories(wanted: &[PathBuf]) -> Vec<PathBuf> {
    match wanted {
        [] => DIRECTORIES.map(PathBuf::from).into(),
        wanted => wanted.to_vec(),
    }
}

/// Merges what several descriptions say of one place: the last mount counts.
pub(crate) fn mounts_over(mounts: &mut Vec<Mount>, edits: &Edits) {
    let mut last: BTreeMap<&Path, &Mount> = BTreeMap::new();
    for mount in &edits.mounts {
        last.insert(&mount.destination, mount);
    }
    mounts.retain(|known| !last.contains_key(known.destination.as_path()));
    mounts.extend(last.into_values().cloned());
}
