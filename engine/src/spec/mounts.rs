//! The mounts of a container: the defaults, the engine's files, and the user's over both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};

use super::{Host, NamespaceSource, SpecOptions, built, resources};
use crate::options::{self, MountKind};
use crate::{Error, Result};

/// Podman's default size of /dev/shm, bytes.
const SHM_BYTES: u64 = 64_000 * 1024;

/// All mounts, by depth of their destination, so that none covers another that lies below it.
pub(super) fn all(options: &SpecOptions, host: &Host) -> Result<Vec<Mount>> {
    let user = by_user(options)?;
    let mut mounts = defaults(options, host)?;
    mounts.extend(scratch(options, &user)?);
    if options.systemd {
        mounts.extend(for_systemd(options)?);
    }
    for (source, destination) in &options.files {
        mounts.push(mount(destination, "bind", &source.to_string_lossy(), &["bind", "rprivate"])?);
    }
    if no_nodes(options, host) {
        mounts.extend(device_binds(options, host)?);
    }
    // The user's word replaces ours, and a replaced /dev takes what we mount below it along.
    mounts.retain(|mount| {
        let path = mount.destination();
        let below_users_dev = user.contains_key(Path::new("/dev")) && path.starts_with("/dev");
        !below_users_dev && !user.contains_key(path)
    });
    mounts.extend(user.into_values());
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn mount(destination: impl AsRef<Path>, typ: &str, source: &str, options: &[&str]) -> Result<Mount> {
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    let builder = MountBuilder::default().destination(destination.as_ref()).typ(typ).source(source);
    built(builder.options(options).build())
}

/// Observed in Podman 5.8.6.
fn defaults(options: &SpecOptions, host: &Host) -> Result<Vec<Mount>> {
    let writable = options.privileged;
    let groups_access = if options.privileged || options.systemd { "rw" } else { "ro" };
    let read_only_dev = options.read_only && !options.read_only_tmpfs;
    let has_user_namespace = host.in_user_namespace || options.namespaces.user.is_some();
    let mut mounts = Vec::new();

    let mut proc = vec!["nosuid", "noexec", "nodev"];
    proc.extend(options.security.proc_options.iter().map(String::as_str));
    // A new procfs shows the processes of a namespace that belongs to the caller; others may only be bound.
    if has_user_namespace && options.namespaces.pid == NamespaceSource::Host {
        let proc = [&["rbind", "rprivate"], &proc[..3]].concat();
        mounts.push(mount("/proc", "bind", "/proc", &proc)?);
    } else {
        mounts.push(mount("/proc", "proc", "proc", &proc)?);
    }

    let mut dev = vec!["nosuid", "strictatime", "mode=755", "size=65536k"];
    if read_only_dev {
        dev.push("ro");
    }
    mounts.push(mount("/dev", "tmpfs", "tmpfs", &dev)?);

    let access = if writable { "rw" } else { "ro" };
    // sysfs belongs to the network namespace: who does not own that one may only bind what is there.
    let foreign_network = options.namespaces.network != NamespaceSource::New;
    if has_user_namespace && foreign_network {
        let sys = ["rbind", "rprivate", "nosuid", "noexec", "nodev", access];
        mounts.push(mount("/sys", "bind", "/sys", &sys)?);
    } else {
        mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])?);
    }

    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    let tty_group = match &options.namespaces.user {
        Some(user) => user
            .gid_mappings
            .iter()
            .any(|map| (map.container_id()..map.container_id().saturating_add(map.size())).contains(&5)),
        None => host.tty_group_mapped,
    };
    if tty_group {
        pts.push("gid=5");
    }
    mounts.push(mount("/dev/pts", "devpts", "devpts", &pts)?);

    match options.namespaces.ipc {
        NamespaceSource::New => {
            mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        }
        // The message queues are those of the namespace; of the host's one the mount is there already.
        NamespaceSource::Host if !host.message_queues => {}
        NamespaceSource::Host => {
            let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
            mounts.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &options)?);
        }
        NamespaceSource::Path(_) => {
            mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
        }
    }
    if !options.no_shm {
        mounts.push(shared_memory(options, read_only_dev)?);
    }

    let group = ["rprivate", "nosuid", "noexec", "nodev", "relatime", groups_access];
    if host.no_cgroup.is_none() {
        mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &group)?);
    }
    Ok(mounts)
}

fn shared_memory(options: &SpecOptions, read_only: bool) -> Result<Mount> {
    let host_shm = PathBuf::from("/dev/shm");
    let shared = match (&options.shm_path, &options.namespaces.ipc) {
        (Some(path), _) => Some(path),
        (None, NamespaceSource::Host) => Some(&host_shm),
        (None, _) => None,
    };
    let access = if read_only { "ro" } else { "rw" };
    match shared {
        Some(path) => {
            let binding = ["bind", "rprivate", "nosuid", "noexec", "nodev", access];
            mount("/dev/shm", "bind", &path.to_string_lossy(), &binding)
        }
        None => {
            let size = format!("size={}", options.shm_size_bytes.unwrap_or(SHM_BYTES));
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size, access])
        }
    }
}

/// With a read-only root file system: what programs expect to be able to write to.
fn scratch(options: &SpecOptions, user: &BTreeMap<PathBuf, Mount>) -> Result<Vec<Mount>> {
    if !options.read_only || !options.read_only_tmpfs {
        return Ok(Vec::new());
    }
    ["/run", "/tmp", "/var/tmp"]
        .into_iter()
        .filter(|path| !user.contains_key(Path::new(path)))
        .filter(|path| !options.systemd || *path == "/var/tmp")
        .map(|path| mount(path, "tmpfs", "tmpfs", &["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"]))
        .collect()
}

/// What systemd wants to write to.
fn for_systemd(options: &SpecOptions) -> Result<Vec<Mount>> {
    let size = options.systemd_tmpfs_bytes.map(|bytes| format!("size={bytes}"));
    ["/run", "/run/lock", "/tmp", "/var/log/journal"]
        .into_iter()
        .map(|path| {
            let mut words = vec!["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"];
            words.extend(size.as_deref().filter(|_| path.starts_with("/run")));
            if path == "/tmp" {
                words.push("mode=1777");
            }
            mount(path, "tmpfs", "tmpfs", &words)
        })
        .collect()
}

/// Whether device nodes cannot be made.
pub(super) fn no_nodes(options: &SpecOptions, host: &Host) -> bool {
    host.in_user_namespace || options.namespaces.user.is_some()
}

/// In a user namespace no node can be made, so the host's are bound: where the user asked, or all with --privileged.
fn device_binds(options: &SpecOptions, host: &Host) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut add = |source: &Path, destination: &Path, access: &str| -> Result<()> {
        let bind = ["bind", "rprivate", "nosuid", "noexec", access];
        mounts.retain(|known| known.destination() != destination);
        mounts.push(mount(destination, "bind", &source.to_string_lossy(), &bind)?);
        Ok(())
    };
    if options.privileged {
        let all = runtime::devices::all_of_host()
            .map_err(|error| Error::invalid("devices of the host", error.to_string()))?;
        for node in all {
            add(node.path(), node.path(), "rw")?;
        }
    }
    debug_assert!(no_nodes(options, host), "elsewhere nodes are made");
    // Asked again only to fail for what is no device, as where nodes are made.
    resources::asked(options)?;
    for device in &options.devices {
        let access = if device.permissions.contains('w') { "rw" } else { "ro" };
        add(&device.source, &device.destination, access)?;
    }
    Ok(mounts)
}

/// The user's mounts by destination.
fn by_user(options: &SpecOptions) -> Result<BTreeMap<PathBuf, Mount>> {
    let mut mounts = BTreeMap::new();
    for asked in &options.mounts {
        let destination = asked.destination.clone();
        let taken = mounts.insert(destination.clone(), to_spec(asked)?);
        if taken.is_some() {
            return Err(Error::invalid(destination.to_string_lossy(), "duplicate mount destination"));
        }
    }
    Ok(mounts)
}

fn to_spec(asked: &options::Mount) -> Result<Mount> {
    let mut words: Vec<&str> = asked.options.iter().map(String::as_str).collect();
    if words.contains(&"ro") && words.contains(&"rw") {
        let what = format!("mount {}", asked.destination.display());
        return Err(Error::invalid(what, "it can be read-only or writable, not both"));
    }
    let has = |words: &[&str], names: &[&str]| words.iter().any(|word| names.contains(word));
    match &asked.kind {
        MountKind::Bind { source } => {
            if !has(&words, &["ro", "rw"]) {
                words.insert(0, "rw");
            }
            mount(&asked.destination, "bind", &source.to_string_lossy(), &words)
        }
        MountKind::Tmpfs => {
            if !has(&words, &["rprivate", "private", "shared", "rshared", "slave", "rslave"]) {
                words.push("rprivate");
            }
            mount(&asked.destination, "tmpfs", "tmpfs", &words)
        }
        MountKind::Ramfs => mount(&asked.destination, "ramfs", "ramfs", &words),
        MountKind::Devpts => {
            let mut all = vec!["nosuid", "noexec", "newinstance"];
            for (key, word) in [("ptmxmode=", "ptmxmode=0666"), ("mode=", "mode=0620")] {
                if !words.iter().any(|asked| asked.starts_with(key)) {
                    all.push(word);
                }
            }
            all.extend(words);
            mount(&asked.destination, "devpts", "devpts", &all)
        }
        MountKind::Overlay { lower, upper, work } => {
            let lower = lower.iter().map(|path| escaped(path)).collect::<Vec<_>>().join(":");
            let mut all = vec![format!("lowerdir={lower}")];
            if let (Some(upper), Some(work)) = (upper, work) {
                all.push(format!("upperdir={}", escaped(upper)));
                all.push(format!("workdir={}", escaped(work)));
            }
            if sys::idmap::in_user_namespace() {
                all.push("userxattr".to_owned());
            }
            all.extend(words.iter().map(ToString::to_string));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            mount(&asked.destination, "overlay", "overlay", &all)
        }
        MountKind::Volume { .. } | MountKind::Image { .. } | MountKind::Glob { .. } => {
            let what = format!("mount at {}", asked.destination.display());
            Err(Error::unsupported(what, "a build step can be given paths of the host alone"))
        }
    }
}

/// A directory as it stands in the options of an overlay.
fn escaped(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.chars()
        .flat_map(|letter| matches!(letter, ':' | ',' | '\\').then_some('\\').into_iter().chain([letter]))
        .collect()
}
