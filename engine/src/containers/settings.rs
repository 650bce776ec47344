//! What a container is: the request with the image's settings merged in. Pure.

use super::CreateRequest;
use crate::options::{
    CgroupsMode, ImageVolumes, Mount, Namespace, Network, OnFailure, RestartPolicy, SdNotify, SystemdMode,
    parse_size,
};
use crate::{Error, Result};
use oci::ContainerConfig;
use std::path::Path;

/// Entry point and command as they run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Argv {
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
}

/// Chooses entry point and command: an entry point of the request drops the image's command.
pub(super) fn argv(request: &CreateRequest, image: &ContainerConfig) -> Result<Argv> {
    let (entrypoint, keeps_command) = match &request.entrypoint {
        Some(words) => (words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>(), false),
        None => (image.entrypoint.clone().unwrap_or_default(), true),
    };
    let command = if !request.command.is_empty() {
        request.command.clone()
    } else if keeps_command {
        image.cmd.clone().unwrap_or_default()
    } else {
        Vec::new()
    };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(Error::Command {
            what: format!("create a container from {}", request.image),
            reason: "no command: neither the image nor the command line has one".to_owned(),
            kind: crate::ErrorKind::Invalid,
        });
    }
    Ok(Argv { entrypoint, command })
}

/// Merges the image's settings into the request. Afterwards the request alone describes the container.
pub(super) fn merge(mut request: CreateRequest, image: &ContainerConfig, id: &str) -> Result<CreateRequest> {
    request.env = environment(&request, image);
    if request.user.is_none() {
        request.user = Some(image.user.clone());
    }
    if request.workdir.is_none() && !image.working_dir.is_empty() {
        request.workdir = Some(image.working_dir.clone());
    }
    // a relative one starts at the root, as in Podman
    request.workdir =
        request.workdir.map(|workdir| if workdir.starts_with('/') { workdir } else { format!("/{workdir}") });
    for (key, value) in &image.labels {
        request.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if request.stop_signal.is_none() {
        request.stop_signal = image.stop_signal.clone();
    }
    if let Some(signal) = &request.stop_signal
        && sys::signal::parse(signal).is_none()
    {
        return Err(Error::invalid(format!("stop signal {signal}"), "unknown signal"));
    }
    if request.stop_timeout.is_none() {
        request.stop_timeout = image.stop_timeout.and_then(|seconds| u32::try_from(seconds).ok());
    }
    request.health_check = request.health.merge(image.healthcheck.as_ref())?;
    for volume in image.volumes.keys().filter(|_| request.image_volumes != ImageVolumes::Ignore) {
        let made = match request.image_volumes {
            ImageVolumes::Tmpfs => Mount::parse_tmpfs(volume)?,
            _ => Mount::anonymous(volume)?,
        };
        // what the system has there stays, whatever an image says
        let is_system = ["/proc", "/sys", "/dev"].iter().any(|place| made.destination.starts_with(place));
        if !is_system && !request.mounts.iter().any(|mount| mount.destination == made.destination) {
            request.mounts.push(made);
        }
    }
    for port in image.exposed_ports.keys() {
        if !request.expose.contains(port) {
            request.expose.push(port.clone());
        }
    }
    if request.network == Network::Default {
        request.network = Network::None;
    }
    if request.hostname.is_none() && request.uts != crate::options::Namespace::Host {
        request.hostname = match &request.network {
            Network::Host => None,
            _ => Some(id[..12].to_owned()),
        };
    }
    check(&request)?;
    Ok(request)
}

fn environment(request: &CreateRequest, image: &ContainerConfig) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    if !request.unset_env_all {
        for entry in &image.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            if !request.unset_env.iter().any(|gone| gone == name) {
                set(name, value);
            }
        }
    }
    for (name, value) in &request.env {
        set(name, value);
    }
    for (name, text) in &request.env_merge {
        let known = |wanted: &str| {
            env.iter().find(|(known, _)| known == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let value = expanded(text, known);
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => env.push((name.clone(), value)),
        }
    }
    env
}

/// A text with the values of `${NAME}` and `$NAME` in it.
fn expanded(text: &str, value_of: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(parts) => parts,
            None => {
                let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
                rest.split_at(end.unwrap_or(rest.len()))
            }
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&value_of(name));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Options that exclude each other or ask for what is not there.
fn check_combinations(request: &CreateRequest) -> Result<()> {
    let invalid = |what: &str, reason: &str| Err(Error::invalid(what, reason.to_owned()));
    let policy = request.restart;
    if request.auto_remove && policy != RestartPolicy::No {
        return invalid("restart", "--rm and a restart policy exclude each other");
    }
    if let Some(check) = &request.health_check
        && check.on_failure == OnFailure::Restart
        && policy != RestartPolicy::No
    {
        return invalid("health-on-failure restart", "it cannot be combined with a restart policy");
    }
    if request.sdnotify == SdNotify::Healthy && request.health_check.is_none() {
        return invalid(
            "sdnotify healthy",
            "the container has no health check: give it one with --health-cmd",
        );
    }
    if request.no_passwd && (request.passwd_entry.is_some() || request.group_entry.is_some()) {
        return invalid("passwd-entry", "--passwd=false leaves the files as they are");
    }
    if let Some(path) = &request.init_path
        && !path.is_file()
    {
        return invalid(&format!("init-path {}", path.display()), "there is no such program");
    }
    if request.init && request.systemd == SystemdMode::Always {
        return invalid("init", "--init and --systemd=always exclude each other");
    }
    if let Some(zone) = &request.timezone {
        super::specification::read_zone(zone)?;
    }
    if let Some(path) = request.hosts_file.as_deref()
        && !matches!(path, "image" | "none")
        && !Path::new(path).is_file()
    {
        return invalid(&format!("hosts-file {path}"), "there is no such file");
    }
    if !matches!(request.cgroups, CgroupsMode::Enabled) && request.cgroup_parent.is_some() {
        return invalid("cgroup-parent", "it needs --cgroups=enabled");
    }
    if request.security.labels.iter().any(|label| label != "disable" && label != "nested")
        && Path::new("/sys/fs/selinux/enforce").exists()
    {
        return Err(Error::unsupported(
            "security-opt label",
            "labels of SELinux are not built yet; use label=disable",
        ));
    }
    let joins = |namespace: &Namespace| matches!(namespace, Namespace::Container(_) | Namespace::Path(_));
    if joins(&request.uts) && request.domainname.is_some() {
        return invalid("domainname", "it is the other container's with its UTS namespace");
    }
    Ok(())
}

fn check(request: &CreateRequest) -> Result<()> {
    check_combinations(request)?;
    let mut destinations: Vec<&std::path::Path> = Vec::new();
    for mount in &request.mounts {
        if destinations.contains(&mount.destination.as_path()) {
            return Err(Error::invalid(
                format!("mount {}", mount.destination.display()),
                "two mounts have this destination",
            ));
        }
        destinations.push(&mount.destination);
        if let crate::options::MountKind::Bind { source } = &mount.kind
            && let Err(error) = std::fs::symlink_metadata(source)
        {
            return Err(Error::os(format!("mount {}", source.display()), error));
        }
    }
    for line in &request.add_hosts {
        let address = line.split_once(':').map(|(_, address)| address);
        let valid = address.is_some_and(|address| {
            address == "host-gateway" || address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
        });
        if !valid {
            return Err(Error::invalid(format!("add-host {line}"), "expected NAME:ADDRESS"));
        }
    }
    for server in &request.dns {
        if server != "none" && server.parse::<std::net::IpAddr>().is_err() {
            return Err(Error::invalid(format!("dns {server}"), "not an IP address"));
        }
    }
    match request.log_driver.as_deref() {
        None | Some("" | "k8s-file" | "json-file" | "none") => {}
        Some("passthrough") if request.tty => {
            return Err(Error::invalid(
                "log driver passthrough",
                "a terminal cannot be passed on: leave --tty out",
            ));
        }
        Some("passthrough") => {}
        Some(other) => {
            return Err(Error::unsupported(
                format!("log driver {other}"),
                "use k8s-file, json-file, passthrough or none",
            ));
        }
    }
    for key in request.log_options.keys() {
        if !matches!(key.as_str(), "path" | "max-size" | "tag") {
            return Err(Error::unsupported(format!("log option {key}"), "use path, max-size or tag"));
        }
    }
    log_max_bytes(request)?;
    let every = runtime::capabilities::CapabilitySet::EMPTY;
    runtime::capabilities::resolve(every, every, &request.cap_add, &request.cap_drop)
        .map_err(|error| Error::invalid("capabilities", error.to_string()))?;
    check_limits(request)?;
    if request.auto_remove && request.name.as_deref() == Some("") {
        return Err(Error::invalid("name", "it is empty"));
    }
    Ok(())
}

/// Finds limits that contradict each other.
pub(super) fn check_limits(request: &CreateRequest) -> Result<()> {
    if let Some(memory) = request.limits.memory
        && (1..512 * 1024).contains(&memory)
    {
        return Err(Error::invalid(format!("memory {memory}"), "less than 512 KiB cannot hold a process"));
    }
    if let (Some(swap), Some(memory)) = (request.limits.memory_swap, request.limits.memory)
        && swap >= 0
        && swap < memory
    {
        return Err(Error::invalid(format!("memory-swap {swap}"), "less than the memory limit"));
    }
    if request.limits.milli_cpus.is_some() && request.limits.cpu_quota.is_some() {
        return Err(Error::invalid("cpus", "cannot be combined with cpu-quota"));
    }
    Ok(())
}

/// Whether the process gets the caller's own streams.
pub(super) fn passes_streams_on(request: &CreateRequest) -> bool {
    request.log_driver.as_deref() == Some("passthrough")
}

/// Size at which the log is begun anew; 0 = never.
pub(super) fn log_max_bytes(request: &CreateRequest) -> Result<u64> {
    match request.log_options.get("max-size") {
        None => Ok(0),
        Some(text) => u64::try_from(parse_size("max-size", text)?)
            .map_err(|_| Error::invalid(format!("max-size={text}"), "expected a size such as 10m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ContainerConfig {
        ContainerConfig {
            entrypoint: Some(vec!["/entry".into()]),
            cmd: Some(vec!["default".into()]),
            env: vec!["PATH=/bin".into(), "A=1".into(), "B=2".into()],
            user: "app".into(),
            working_dir: "/w".into(),
            stop_signal: Some("SIGUSR1".into()),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn commands_and_entry_points() {
        let mut request = CreateRequest::default();
        let of = |request: &CreateRequest| {
            let argv = argv(request, &image()).unwrap();
            (argv.entrypoint.join(" "), argv.command.join(" "))
        };
        assert_eq!(of(&request), ("/entry".into(), "default".into()));
        request.command = vec!["x".into()];
        assert_eq!(of(&request), ("/entry".into(), "x".into()));
        request.entrypoint = Some(vec!["sh".into()]);
        assert_eq!(of(&request), ("sh".into(), "x".into()));
        request.entrypoint = Some(vec![String::new()]);
        assert_eq!(of(&request), (String::new(), "x".into()));
        request.command.clear();
        assert!(argv(&request, &image()).is_err());
    }

    #[test]
    fn the_image_fills_what_the_request_leaves_open() {
        let request = CreateRequest {
            env: vec![("A".into(), "x".into())],
            unset_env: vec!["B".into()],
            ..CreateRequest::default()
        };
        let merged = merge(request, &image(), &"a".repeat(64)).unwrap();
        assert_eq!(merged.user.as_deref(), Some("app"));
        assert_eq!(merged.workdir.as_deref(), Some("/w"));
        assert_eq!(merged.stop_signal.as_deref(), Some("SIGUSR1"));
        assert_eq!(merged.hostname.as_deref(), Some("aaaaaaaaaaaa"));
        assert_eq!(merged.network, Network::None);
        let find =
            |name: &str| merged.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(find("A"), Some("x"));
        assert_eq!(find("B"), None);
        assert_eq!(find("PATH"), Some("/bin"));
    }

    #[test]
    fn values_may_name_others() {
        let value_of = |name: &str| format!("<{name}>");
        assert_eq!(expanded("a${B}c$D-e", value_of), "a<B>c<D>-e");
        assert_eq!(expanded("$", value_of), "$");
        assert_eq!(expanded("x${", value_of), "x${");
        let request =
            CreateRequest { env_merge: vec![("A".into(), "${A}:more".into())], ..CreateRequest::default() };
        let env = environment(&request, &image());
        assert!(env.contains(&("A".to_owned(), "1:more".to_owned())), "{env:?}");
    }

    #[test]
    fn mistakes_are_found_before_anything_is_made() {
        let id = "a".repeat(64);
        for bad in [
            CreateRequest { stop_signal: Some("NOPE".into()), ..CreateRequest::default() },
            CreateRequest { log_driver: Some("journald".into()), ..CreateRequest::default() },
            CreateRequest { add_hosts: vec!["x".into()], ..CreateRequest::default() },
            CreateRequest { dns: vec!["x".into()], ..CreateRequest::default() },
            CreateRequest { auto_remove: true, restart: RestartPolicy::Always, ..CreateRequest::default() },
            CreateRequest { sdnotify: SdNotify::Healthy, ..CreateRequest::default() },
            CreateRequest { timezone: Some("../etc/passwd".into()), ..CreateRequest::default() },
            CreateRequest { init_path: Some("/no/such/init".into()), ..CreateRequest::default() },
        ] {
            assert!(merge(bad, &ContainerConfig::default(), &id).is_err());
        }
    }
}
