//! What a container is to be.

use crate::idmap::IdMaps;
use crate::images::{PullPolicy, RegistryOptions};
use crate::options::{
    CgroupsMode, Device, DeviceRule, HealthCheck, HealthRequest, ImageVolumes, Limits, Mount, Namespace,
    Network, RestartPolicy, RootfsDirectory, SdNotify, Security, SystemdMode, Ulimit, UserNamespaceMode,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Make a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateRequest {
    /// Reference, ID or prefix of one.
    pub image: String,
    /// When the image is pulled.
    #[serde(skip)]
    pub pull: PullPolicy,
    /// How it is pulled.
    #[serde(skip)]
    pub registry: RegistryOptions,
    /// `os/arch[/variant]` of the image; `None` = the host's.
    pub platform: Option<String>,
    /// Name; `None` = a random one.
    pub name: Option<String>,
    /// Remove a container of the same name first.
    #[serde(skip)]
    pub replace: bool,
    /// Command; empty = the image's.
    pub command: Vec<String>,
    /// Instead of the image's entry point (its CMD is dropped then too); an empty list = none.
    pub entrypoint: Option<Vec<String>>,
    /// Environment, over the image's.
    pub env: Vec<(String, String)>,
    /// Variables of the image to drop.
    pub unset_env: Vec<String>,
    /// Drop all variables of the image.
    pub unset_env_all: bool,
    /// `user[:group]`; `None` = the image's.
    pub user: Option<String>,
    /// Further groups, names or numbers.
    pub groups: Vec<String>,
    /// Working directory; `None` = the image's.
    pub workdir: Option<String>,
    /// Host name; `None` = first 12 digits of the ID, or the host's with its network.
    pub hostname: Option<String>,
    /// Labels, over the image's.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the runtime specification.
    pub annotations: BTreeMap<String, String>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Network.
    pub network: Network,
    /// Process namespace.
    pub pid: Namespace,
    /// IPC namespace.
    pub ipc: Namespace,
    /// Host name namespace.
    pub uts: Namespace,
    /// Cgroup namespace.
    pub cgroupns: Namespace,
    /// Lines `name:ip` for /etc/hosts.
    pub add_hosts: Vec<String>,
    /// Name servers; empty = the host's.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Leave /etc/hosts to the image.
    pub no_hosts: bool,
    /// Leave /etc/hostname to the image.
    pub no_hostname: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub interactive: bool,
    /// Remove it when it exits.
    pub auto_remove: bool,
    /// Read-only root file system.
    pub read_only: bool,
    /// With `read_only`: tmpfs at /dev/shm, /run, /tmp and /var/tmp.
    pub read_only_tmpfs: bool,
    /// All capabilities and devices, no confinement.
    pub privileged: bool,
    /// Capabilities to add, with or without `CAP_`, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// Confinement.
    pub security: Security,
    /// Limits of its cgroup.
    pub limits: Limits,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Bytes of /dev/shm; `None` = 64000k.
    pub shm_size: Option<i64>,
    /// Octal mask; `None` = 0022.
    pub umask: Option<u32>,
    /// -1000..=1000.
    pub oom_score_adj: Option<i32>,
    /// Cgroup below which the container's is made.
    pub cgroup_parent: Option<String>,
    /// Instead of the image's STOPSIGNAL.
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL; `None` = 10.
    pub stop_timeout: Option<u32>,
    /// Ports to record as exposed, `80/tcp`.
    pub expose: Vec<String>,
    /// `k8s-file` (the same as `json-file`) or `none`; `None` = k8s-file.
    pub log_driver: Option<String>,
    /// `path`, `max-size`.
    pub log_options: BTreeMap<String, String>,
    /// File to write the container's ID to, which must not exist.
    pub cidfile: Option<PathBuf>,
    /// File to write the process ID to.
    pub pidfile: Option<PathBuf>,
    /// The command line as typed, for `inspect`.
    pub create_command: Vec<String>,
    /// Health check, over the image's.
    #[serde(skip)]
    pub health: HealthRequest,
    /// The health check that came of it.
    pub health_check: Option<HealthCheck>,
    /// Whether it is started again when it ends.
    pub restart: RestartPolicy,
    /// Who speaks to the service manager.
    pub sdnotify: SdNotify,
    /// Whether a small init stands before the command.
    pub init: bool,
    /// Host path of a program that takes that init's place.
    pub init_path: Option<PathBuf>,
    /// Whether it is set up for systemd.
    pub systemd: SystemdMode,
    /// Seconds after which it is killed; 0 = never.
    pub timeout: u32,
    /// Time zone, a name or `local`.
    pub timezone: Option<String>,
    /// Containers that are started first, by ID once it is made.
    pub requires: Vec<String>,
    /// A directory instead of an image.
    pub rootfs: Option<RootfsDirectory>,
    /// Containers whose volumes and paths are mounted too, each with options behind a colon.
    pub volumes_from: Vec<String>,
    /// What stands where the image declares volumes.
    pub image_volumes: ImageVolumes,
    /// Base of /etc/hosts: a host path, `image` or `none`; `None` = the host's.
    pub hosts_file: Option<String>,
    /// Leave /etc/passwd and /etc/group to the image.
    pub no_passwd: bool,
    /// Line for /etc/passwd with `$USERNAME`, `$UID`, `$GID`, `$NAME`, `$HOME`.
    pub passwd_entry: Option<String>,
    /// Line for /etc/group with `$GROUPNAME`, `$GID`, `$USERLIST`.
    pub group_entry: Option<String>,
    /// Users of the host that /etc/passwd gets.
    pub host_users: Vec<String>,
    /// Environment whose values name the image's variables, `${NAME}`.
    #[serde(skip)]
    pub env_merge: Vec<(String, String)>,
    /// Remove the image when it exits, unless something else needs it.
    pub remove_image: bool,
    /// Pretend to be a 32-bit machine.
    pub linux32: bool,
    /// How its control group is made.
    pub cgroups: CgroupsMode,
    /// Rules for the use of devices.
    pub device_rules: Vec<DeviceRule>,
    /// Directories inside that get the files of /etc too.
    pub chrootdirs: Vec<PathBuf>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// File to write the monitor's process ID to.
    pub conmon_pidfile: Option<PathBuf>,
    /// Take the filter of system calls from the image's label, where it has one.
    pub seccomp_of_image: bool,
    /// Bytes of /run and its likes for systemd; `None` = no limit.
    pub shm_size_systemd: Option<i64>,
    /// User namespace.
    pub userns: UserNamespaceMode,
    /// The maps of its user namespace, once it is made.
    pub maps: Option<IdMaps>,
    /// Whether its files were given to the outer IDs of its user namespace, because the kernel cannot map them.
    pub owners_shifted: bool,
    /// Names of devices in descriptions of the container device interface, `vendor.com/class=name`.
    pub cdi_devices: Vec<String>,
}
