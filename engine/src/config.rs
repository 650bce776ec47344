//! Directories and configuration files: the only place of the engine that reads environment or home directory.
//!
//! ```text
//! root     /var/lib/davit    or $XDG_DATA_HOME/davit, ~/.local/share/davit
//! runroot  /run/davit        or $XDG_RUNTIME_DIR/davit, /run/user/UID/davit, /tmp/davit-run-UID
//! tmpdir   $TMPDIR, /var/tmp (short-lived files of the user's; staging always lies inside root)
//! ```

use crate::{EngineOptions, Error, Result};
use registry::auth::AuthFile;
use registry::client::ProxyOptions;
use registry::config::RegistriesPaths;
use registry::trust::SignaturePaths;
use std::env::var_os;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Who runs this command, seen from outside any user namespace of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User ID on the host.
    pub(crate) uid: u32,
    /// Whether the user's own namespace was entered.
    pub(crate) rootless: bool,
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) identity: Identity,
    pub(crate) root: PathBuf,
    pub(crate) runroot: PathBuf,
    pub(crate) tmpdir: PathBuf,
    pub(crate) driver: Option<String>,
    pub(crate) cgroup_manager: Option<String>,
    /// Whether what happens is written down.
    pub(crate) keeps_events: bool,
    /// Program of the OCI runtime of new containers; `None` = davit itself.
    pub(crate) runtime: Option<PathBuf>,
    /// Where devices are described, lowest precedence first.
    pub(crate) cdi_dirs: Vec<PathBuf>,
    /// The socket on which a service manager wants to hear of this command.
    pub(crate) notify_socket: Option<PathBuf>,
    home: Option<PathBuf>,
}

fn absolute_variable(name: &str) -> Option<PathBuf> {
    var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// `REGISTRY_AUTH_FILE`; set to nothing it is as good as not set.
fn auth_file_variable() -> Option<PathBuf> {
    var_os("REGISTRY_AUTH_FILE").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Variable of the programs of `davit unshare`: the user ID outside.
pub(crate) const UNSHARED: &str = "_DAVIT_ROOTLESS_UID";

/// The user ID outside, for what `davit unshare` started.
pub(crate) fn unshared_uid() -> Option<u32> {
    var_os(UNSHARED)?.to_str()?.parse().ok()
}

fn home() -> Option<PathBuf> {
    absolute_variable("HOME")
}

/// The directory of a user's short-lived files, which must belong to that user alone.
pub(crate) fn runtime_directory(identity: Identity) -> Result<PathBuf> {
    if !identity.rootless {
        return Ok(PathBuf::from("/run/davit"));
    }
    if let Some(directory) = absolute_variable("XDG_RUNTIME_DIR") {
        return Ok(directory.join("davit"));
    }
    let system = PathBuf::from(format!("/run/user/{}", identity.uid));
    if system.is_dir() {
        return Ok(system.join("davit"));
    }
    let directory = PathBuf::from(format!("/tmp/davit-run-{}", identity.uid));
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::os(format!("create {}", directory.display()), error)),
    }
    // anybody may create names in /tmp
    let seen = std::fs::symlink_metadata(&directory)
        .map_err(|error| Error::os(format!("read {}", directory.display()), error))?;
    let owner = sys::user::effective_uid();
    if !seen.is_dir() || seen.uid() != owner || seen.mode() & 0o077 != 0 {
        return Err(Error::Denied {
            what: format!("use {}", directory.display()),
            reason: "it is no private directory of this user; set XDG_RUNTIME_DIR or remove it".to_owned(),
        });
    }
    Ok(directory)
}

/// The program of an OCI runtime: a path, or a name that is looked for in `PATH` and where runtimes are installed.
fn find_program(name: &str) -> Result<PathBuf> {
    use rustix::fs::{Access, access};
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let given = Path::new(name);
    if given.components().count() > 1 {
        let path = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
        return match runs(&path) {
            true => Ok(path),
            false => Err(Error::invalid(format!("runtime {name}"), "there is no such program")),
        };
    }
    let search = var_os("PATH").unwrap_or_default();
    let fixed = [
        "/usr/bin",
        "/usr/sbin",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/usr/libexec",
        "/usr/lib/cri-o-runc/sbin",
    ];
    std::env::split_paths(&search)
        .chain(fixed.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_absolute() && runs(path))
        .ok_or_else(|| {
            Error::invalid(format!("runtime {name}"), "no such program in PATH; install it or give its path")
        })
}

impl Config {
    pub(crate) fn new(options: EngineOptions, identity: Identity) -> Result<Self> {
        let runtime = match options.runtime.as_deref() {
            None | Some("" | "davit" | "davit-runtime" | "builtin") => None,
            Some(other) => Some(find_program(other)?),
        };
        match options.cgroup_manager.as_deref() {
            None | Some("" | "cgroupfs" | "none" | "systemd") => {}
            Some(other) => {
                return Err(Error::invalid(
                    format!("cgroup manager {other}"),
                    "expected cgroupfs or systemd",
                ));
            }
        }
        let keeps_events = match options.events_backend.as_deref() {
            None | Some("" | "file") => true,
            Some("none") => false,
            Some(other) => {
                return Err(Error::unsupported(
                    format!("events backend {other}"),
                    "davit keeps events in a file of its own; use file or none",
                ));
            }
        };
        let home = home();
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let root = match options.root {
            Some(root) => absolute(root),
            None if !identity.rootless => PathBuf::from("/var/lib/davit"),
            None => absolute_variable("XDG_DATA_HOME")
                .or_else(|| home.as_ref().map(|home| home.join(".local/share")))
                .ok_or_else(|| {
                    Error::invalid("environment", "neither XDG_DATA_HOME nor HOME is set; use --root")
                })?
                .join("davit"),
        };
        let runroot = match options.runroot {
            Some(runroot) => absolute(runroot),
            None => runtime_directory(identity)?,
        };
        let tmpdir = options.tmpdir.map(absolute).or_else(|| absolute_variable("TMPDIR"));
        Ok(Self {
            identity,
            root,
            runroot,
            tmpdir: tmpdir.unwrap_or_else(|| PathBuf::from("/var/tmp")),
            driver: options.storage_driver.filter(|driver| !driver.is_empty()),
            cgroup_manager: options.cgroup_manager.filter(|manager| !manager.is_empty()),
            keeps_events,
            runtime,
            cdi_dirs: crate::cdi::directories(&options.cdi_dirs),
            notify_socket: var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from),
            home,
        })
    }

    fn user_config(&self) -> Option<PathBuf> {
        absolute_variable("XDG_CONFIG_HOME").or_else(|| self.home.as_ref().map(|home| home.join(".config")))
    }

    /// `registries.conf`, its drop-ins and the machine's aliases.
    pub(crate) fn registries_paths(&self) -> RegistriesPaths {
        let aliases = if self.identity.rootless {
            self.home.as_ref().map(|home| home.join(".cache/containers/short-name-aliases.conf"))
        } else {
            Some(PathBuf::from("/var/cache/containers/short-name-aliases.conf"))
        };
        if let Some(file) = absolute_variable("CONTAINERS_REGISTRIES_CONF") {
            return RegistriesPaths { file: Some(file), drop_ins: Vec::new(), aliases };
        }
        let system = PathBuf::from("/etc/containers/registries.conf");
        let user = self.user_config().map(|config| config.join("containers/registries.conf"));
        let user_drop_ins = self.user_config().map(|config| config.join("containers/registries.conf.d"));
        match user.filter(|user| user.is_file()) {
            Some(user) => {
                RegistriesPaths { file: Some(user), drop_ins: user_drop_ins.into_iter().collect(), aliases }
            }
            None => RegistriesPaths {
                file: Some(system),
                drop_ins: std::iter::once(PathBuf::from("/etc/containers/registries.conf.d"))
                    .chain(user_drop_ins)
                    .collect(),
                aliases,
            },
        }
    }

    /// Credential files, first hit wins.
    pub(crate) fn auth_files(&self, chosen: Option<&Path>) -> Vec<AuthFile> {
        let chosen = chosen.map(Path::to_owned).or_else(auth_file_variable);
        if let Some(file) = chosen {
            return vec![AuthFile::new(file)];
        }
        let mut files = vec![AuthFile::new(self.login_file())];
        if let Some(config) = self.user_config() {
            files.push(AuthFile::new(config.join("containers/auth.json")));
        }
        match (absolute_variable("DOCKER_CONFIG"), &self.home) {
            (Some(directory), _) => files.push(AuthFile::new(directory.join("config.json"))),
            (None, Some(home)) => files.push(AuthFile::new(home.join(".docker/config.json"))),
            (None, None) => {}
        }
        if let Some(home) = &self.home {
            files.push(AuthFile { path: home.join(".dockercfg"), legacy: true });
        }
        files
    }

    /// The file that `login` writes when none was chosen.
    pub(crate) fn login_file(&self) -> PathBuf {
        absolute_variable("XDG_RUNTIME_DIR")
            .unwrap_or_else(|| PathBuf::from(format!("/run/containers/{}", self.identity.uid)))
            .join(if var_os("XDG_RUNTIME_DIR").is_some() { "containers/auth.json" } else { "auth.json" })
    }

    /// The file that `login` writes.
    pub(crate) fn login_file_or(&self, chosen: Option<&Path>) -> PathBuf {
        chosen.map(Path::to_owned).or_else(auth_file_variable).unwrap_or_else(|| self.login_file())
    }

    /// Directories with certificates by registry.
    pub(crate) fn certs_d(&self) -> Vec<PathBuf> {
        self.user_config()
            .map(|config| config.join("containers/certs.d"))
            .into_iter()
            .chain([PathBuf::from("/etc/containers/certs.d"), PathBuf::from("/etc/docker/certs.d")])
            .collect()
    }

    /// Policies for images, first hit wins: the user's, the system's.
    pub(crate) fn policy_files(&self) -> Vec<PathBuf> {
        self.user_config()
            .map(|config| config.join("containers/policy.json"))
            .into_iter()
            .chain([PathBuf::from("/etc/containers/policy.json")])
            .collect()
    }

    /// The policy that counts; `None` where there is none.
    pub(crate) fn policy_in_use(&self) -> Option<PathBuf> {
        self.policy_files().into_iter().find(|file| file.exists())
    }

    /// The policy that is written when none was chosen: root's is the system's unless there is one of its own.
    pub(crate) fn policy_to_write(&self) -> PathBuf {
        let mut files = self.policy_files();
        let own = self.identity.rootless || files[0].exists();
        if own { files.swap_remove(0) } else { files.swap_remove(files.len() - 1) }
    }

    /// Where signatures lie.
    pub(crate) fn signatures(&self) -> SignaturePaths {
        let user = self.user_config().map(|config| config.join("containers/registries.d"));
        let registries_d = user
            .filter(|directory| directory.is_dir())
            .unwrap_or_else(|| PathBuf::from("/etc/containers/registries.d"));
        let lookaside = if self.identity.rootless {
            self.home.as_ref().map(|home| home.join(".local/share/containers/sigstore"))
        } else {
            Some(PathBuf::from("/var/lib/containers/sigstore"))
        };
        SignaturePaths { registries_d: Some(registries_d), lookaside }
    }

    /// The socket of the bus on which systemd is asked for control groups: the system's or the user's.
    pub(crate) fn bus_socket(&self) -> PathBuf {
        if !self.identity.rootless {
            return bus_socket_of(0);
        }
        bus_socket_of(self.identity.uid)
    }

    /// The hosts that a rootless user knows. OpenSSH looks into the home of its user ID, which is root's in the
    /// namespace.
    pub(crate) fn known_hosts(&self) -> Option<PathBuf> {
        let home = self.home.as_ref().filter(|_| self.identity.rootless)?;
        Some(home.join(".ssh/known_hosts"))
    }

    /// Proxies of the caller.
    pub(crate) fn proxy(&self) -> ProxyOptions {
        let either = |lower: &str, upper: &str| {
            var_os(lower)
                .or_else(|| var_os(upper))
                .and_then(|value| value.into_string().ok())
                .filter(|value| !value.is_empty())
        };
        ProxyOptions {
            http: either("http_proxy", "HTTP_PROXY"),
            https: either("https_proxy", "HTTPS_PROXY"),
            no_proxy: either("no_proxy", "NO_PROXY"),
        }
    }

    /// Directory of the log of events.
    pub(crate) fn events(&self) -> PathBuf {
        self.root.join("events")
    }

    /// Directory of the containers' permanent files.
    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Directory of the containers' names.
    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }

    /// Directory of the volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Directory of the places where `mount` shows containers and images.
    pub(crate) fn run_mounts(&self) -> PathBuf {
        self.runroot.join("mounts")
    }

    /// Directory of what is known of volumes until a reboot.
    pub(crate) fn run_volumes(&self) -> PathBuf {
        self.runroot.join("volumes")
    }

    /// Directory of the containers' files that a reboot takes away.
    pub(crate) fn run_containers(&self) -> PathBuf {
        self.runroot.join("containers")
    }

    /// Directory of build steps' run directories.
    pub(crate) fn run_steps(&self) -> PathBuf {
        self.runroot.join("steps")
    }
}

/// The socket of the system's bus for root, of the user's for others.
pub(crate) fn bus_socket_of(uid: u32) -> PathBuf {
    if uid == 0 {
        return PathBuf::from("/run/dbus/system_bus_socket");
    }
    let named = var_os("DBUS_SESSION_BUS_ADDRESS").and_then(|address| address.into_string().ok());
    if let Some(path) = named.as_deref().and_then(bus_path) {
        return path;
    }
    absolute_variable("XDG_RUNTIME_DIR")
        .unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")))
        .join("bus")
}

/// The first path in a bus address: `unix:path=/run/user/1000/bus,guid=...;...`.
fn bus_path(address: &str) -> Option<PathBuf> {
    let unix = address.split(';').find_map(|one| one.strip_prefix("unix:"))?;
    unix.split(',').find_map(|pair| pair.strip_prefix("path=")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_addresses_name_a_path() {
        assert_eq!(bus_path("unix:path=/run/user/1/bus,guid=ab"), Some("/run/user/1/bus".into()));
        assert_eq!(bus_path("tcp:host=a;unix:guid=ab,path=/b"), Some("/b".into()));
        assert_eq!(bus_path("unix:abstract=/tmp/x"), None);
    }

    #[test]
    fn runtimes_are_programs() {
        let identity = Identity { uid: 0, rootless: false };
        let of = |name: &str| {
            let options = EngineOptions { runtime: Some(name.into()), ..EngineOptions::default() };
            Config::new(options, identity).map(|config| config.runtime)
        };
        assert_eq!(of("davit").unwrap(), None);
        assert_eq!(of("/bin/sh").unwrap(), Some("/bin/sh".into()));
        assert!(of("sh").unwrap().is_some_and(|path| path.ends_with("sh")));
        for missing in ["no-such-runtime", "/no/such/runtime", "/etc/passwd"] {
            let error = of(missing).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn root_has_fixed_directories() {
        let config = Config::new(EngineOptions::default(), Identity { uid: 0, rootless: false }).unwrap();
        assert_eq!(config.root, Path::new("/var/lib/davit"));
        assert_eq!(config.runroot, Path::new("/run/davit"));
    }
}
