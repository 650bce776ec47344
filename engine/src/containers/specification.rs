//! From a record to the runtime specification of its next start.

use super::Containers;
use crate::options::{CgroupsMode, Mount, MountKind, Namespace, Network, UserNamespaceMode};
use crate::sandbox::{AccountEntries, HostsBase, Names, ResolverFiles, View, known_user_in};
use crate::spec::{self, NamespaceSource, Namespaces, SpecOptions, UserNamespace};
use crate::state::{ContainerRecord, files};
use crate::{Engine, Error, Result};
use oci_spec::runtime::Spec;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where `--init-path` is bound, as in Podman.
pub(super) const INIT_PLACE: &str = "/run/podman-init";
/// Longest /etc/hosts of an image, bytes.
const MAX_HOSTS: u64 = 1 << 20;
/// Largest description of a time zone, bytes.
const MAX_ZONE: u64 = 1 << 20;

impl Containers<'_> {
    /// The specification of the next start. `kept` gets what must be open until the mounts are made.
    pub(super) fn spec(
        &self,
        record: &ContainerRecord,
        view: View,
        run_dir: &Path,
        notify: Option<&Path>,
        kept: &mut Vec<OwnedFd>,
    ) -> Result<Spec> {
        let engine = self.engine;
        let settings = &record.settings;
        let name = settings.user.as_deref().unwrap_or_default();
        let entries = AccountEntries {
            passwd: settings.passwd_entry.as_deref(),
            group: settings.group_entry.as_deref(),
            host_users: &settings.host_users,
            keep: settings.no_passwd,
        };
        let (mut user, mut files) = known_user_in(&view, name, &settings.groups, run_dir, &entries)?;
        let hosts_of_image = match settings.hosts_file.as_deref() {
            Some("image") => view.read(Path::new("etc/hosts"), MAX_HOSTS)?,
            _ => None,
        };
        let ready = engine.ready_mounts(record, &view, (user.uid, user.gid))?;
        kept.extend(ready.kept);
        drop(view);
        let namespaces = Namespaces {
            pid: engine.namespace_source(&settings.pid, "pid")?,
            ipc: engine.namespace_source(&settings.ipc, "ipc")?,
            uts: engine.namespace_source(&settings.uts, "uts")?,
            network: match &settings.network {
                Network::Host => NamespaceSource::Host,
                Network::None | Network::Default => NamespaceSource::New,
                Network::Container(id) => {
                    engine.namespace_source(&Namespace::Container(id.clone()), "net")?
                }
                Network::Path(path) => NamespaceSource::Path(path.clone()),
            },
            cgroup: match &settings.cgroupns {
                Namespace::Private => None,
                other => Some(engine.namespace_source(other, "cgroup")?),
            },
            user: self.user_namespace(record)?,
        };
        let names = Names {
            hostname: match (&settings.hostname, &settings.network) {
                (Some(name), _) => Some(name.clone()),
                (None, Network::Host) => None,
                (None, _) => Some(record.id[..12].to_owned()),
            },
            aliases: vec![record.name.clone()],
            add_hosts: settings.add_hosts.clone(),
            resolver: ResolverFiles {
                servers: settings.dns.clone(),
                search: settings.dns_search.clone(),
                options: settings.dns_options.clone(),
            },
            host_network: settings.network == Network::Host,
            hosts: match settings.hosts_file.as_deref() {
                None => HostsBase::Host,
                Some("none") => HostsBase::Text(String::new()),
                Some("image") => {
                    let text = hosts_of_image.unwrap_or_default();
                    HostsBase::Text(String::from_utf8_lossy(&text).into_owned())
                }
                Some(path) => HostsBase::File(path.into()),
            },
            no_hosts: settings.no_hosts,
            no_hostname: settings.no_hostname,
            containerenv: Some(if settings.privileged {
                containerenv(engine, record)
            } else {
                String::new()
            }),
        };
        let mut args = record.argv();
        let mut env = settings.env.clone();
        let mut mounts = ready.mounts;
        if let Some(path) = &settings.init_path {
            mounts.push(Mount {
                destination: INIT_PLACE.into(),
                kind: MountKind::Bind { source: path.clone() },
                options: ["ro", "bind", "rprivate"].map(str::to_owned).into(),
            });
            args.splice(0..0, [INIT_PLACE.to_owned(), "--".to_owned()]);
        }
        if let Some(directory) = notify {
            mounts.push(Mount {
                destination: "/run/notify".into(),
                kind: MountKind::Bind { source: directory.to_owned() },
                options: ["rw", "bind", "rprivate"].map(str::to_owned).into(),
            });
            env.push(("NOTIFY_SOCKET".to_owned(), "/run/notify/notify.sock".to_owned()));
        }
        let described = self.described(&settings.cdi_devices)?;
        crate::cdi::mounts_over(&mut mounts, &described);
        env.extend(described.env.iter().filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        }));
        user.additional_gids.extend(&described.groups);
        let shared_shm = self.shm_of_partner(&settings.ipc)?;
        let size = settings.shm_size.map(|size| {
            u64::try_from(size).map_err(|_| Error::invalid(format!("shm-size {size}"), "it is below 0"))
        });
        let options = SpecOptions {
            id: record.id.clone(),
            rootfs: PathBuf::from("/"),
            args,
            env,
            unset_env: settings.unset_env.clone(),
            unset_env_all: settings.unset_env_all,
            cwd: settings.workdir.as_ref().map(PathBuf::from),
            user,
            terminal: settings.tty,
            hostname: settings.hostname.clone(),
            namespaces,
            mounts,
            files: {
                files.extend(names.write(run_dir)?);
                files.extend(self.further_files(record, &files, run_dir)?);
                files
            },
            shm_size_bytes: size.transpose()?,
            read_only: settings.read_only,
            read_only_tmpfs: settings.read_only_tmpfs,
            privileged: settings.privileged,
            cap_add: settings.cap_add.clone(),
            cap_drop: settings.cap_drop.clone(),
            security: settings.security.clone(),
            seccomp_profile: engine.seccomp_profile(&settings.security)?,
            limits: settings.limits.clone(),
            ulimits: settings.ulimits.clone(),
            devices: settings.devices.iter().cloned().chain(described.devices).collect(),
            sysctls: settings.sysctls.clone(),
            umask: settings.umask,
            oom_score_adj: settings.oom_score_adj,
            cgroup_path: match settings.cgroups {
                CgroupsMode::Disabled => None,
                CgroupsMode::Split => Some(engine.split_cgroup_path(&record.id)?),
                CgroupsMode::Enabled | CgroupsMode::NoConmon => {
                    Some(engine.cgroup_path(settings.cgroup_parent.as_deref(), &record.id)?)
                }
            },
            annotations: settings.annotations.clone(),
            domainname: settings.domainname.clone(),
            linux32: settings.linux32,
            systemd: settings.systemd.applies(&record.argv()),
            systemd_tmpfs_bytes: settings.shm_size_systemd.and_then(|size| u64::try_from(size).ok()),
            no_shm: settings.ipc == Namespace::None,
            shm_path: shared_shm,
            device_rules: settings.device_rules.clone(),
            id_maps: settings.maps.clone(),
            ..SpecOptions::default()
        };
        Ok(spec::build(&options, engine.host()?)?.spec)
    }

    /// What the descriptions of devices give a container.
    pub(super) fn described(&self, names: &[String]) -> Result<crate::cdi::Edits> {
        if names.is_empty() {
            return Ok(crate::cdi::Edits::default());
        }
        crate::cdi::edits(&self.engine.config().cdi_dirs, names)?.without_hooks(&names.join(", "))
    }

    /// The user namespace to make or to join.
    fn user_namespace(&self, record: &ContainerRecord) -> Result<Option<UserNamespace>> {
        let settings = &record.settings;
        let joined = match &settings.userns {
            UserNamespaceMode::Container(id) => {
                match self.engine.namespace_source(&Namespace::Container(id.clone()), "user")? {
                    NamespaceSource::Path(path) => Some(path),
                    _ => None,
                }
            }
            UserNamespaceMode::Path(path) => Some(path.clone()),
            _ => None,
        };
        if joined.is_some() {
            let maps = settings.maps.as_ref();
            return Ok(Some(UserNamespace {
                uid_mappings: maps.map(|maps| crate::IdMaps::spec(&maps.users)).unwrap_or_default(),
                gid_mappings: maps.map(|maps| crate::IdMaps::spec(&maps.groups)).unwrap_or_default(),
                path: joined,
            }));
        }
        Ok(settings.maps.as_ref().map(|maps| UserNamespace {
            uid_mappings: crate::IdMaps::spec(&maps.users),
            gid_mappings: crate::IdMaps::spec(&maps.groups),
            path: None,
        }))
    }

    /// /dev/shm of the container whose IPC namespace is joined.
    fn shm_of_partner(&self, ipc: &Namespace) -> Result<Option<PathBuf>> {
        let Namespace::Container(id) = ipc else { return Ok(None) };
        let seen = self.engine.seen(&self.engine.state().find(id)?.id)?;
        let path = PathBuf::from(format!("/proc/{}/root/dev/shm", seen.pid()));
        Ok(path.is_dir().then_some(path))
    }

    /// The time zone, and copies of the files of /etc for directories that programs change their root to.
    fn further_files(
        &self,
        record: &ContainerRecord,
        made: &[(PathBuf, PathBuf)],
        run_dir: &Path,
    ) -> Result<Vec<(PathBuf, PathBuf)>> {
        let settings = &record.settings;
        let mut further = Vec::new();
        if let Some(zone) = &settings.timezone {
            let path = run_dir.join("localtime");
            files::write(&path, &read_zone(zone)?, 0o644, false)?;
            further.push((path, "/etc/localtime".into()));
        }
        for directory in &settings.chrootdirs {
            for (source, destination) in made.iter().filter(|(_, place)| place.starts_with("/etc")) {
                let below = destination.strip_prefix("/").unwrap_or(destination);
                further.push((source.clone(), directory.join(below)));
            }
        }
        Ok(further)
    }
}

/// The description of a time zone, of the host's.
pub(super) fn read_zone(name: &str) -> Result<Vec<u8>> {
    let bad = |reason: &str| Error::invalid(format!("time zone {name}"), reason.to_owned());
    let path = match name {
        "local" => PathBuf::from("/etc/localtime"),
        name if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) => {
            return Err(bad("expected a name such as Europe/Vienna, or local"));
        }
        name => Path::new("/usr/share/zoneinfo").join(name),
    };
    if path.metadata().is_ok_and(|found| found.len() > MAX_ZONE) {
        return Err(bad("its description is too large"));
    }
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(bad(&format!("{} cannot be read: the host needs its tzdata", path.display()))),
    }
}

/// The text by which programs see that they run in a container, with Podman's keys. A container that is not privileged
/// is told only that it is one.
fn containerenv(engine: &Engine, record: &ContainerRecord) -> String {
    format!(
        "engine=\"davit-{}\"\nname=\"{}\"\nid=\"{}\"\nimage=\"{}\"\nimageid=\"{}\"\nrootless={}\n",
        env!("CARGO_PKG_VERSION"),
        record.name,
        record.id,
        record.image_name,
        record.image_id,
        u8::from(engine.config().identity.rootless),
    )
}
