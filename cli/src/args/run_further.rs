//! Options of `run` and `create` that are seldom typed.

use std::path::PathBuf;

use super::BlockOptions;
use clap::Args;

use super::parse_go_bool;

/// What `run` and `create` share beyond the usual.
#[derive(Args, Clone, Debug)]
pub(crate) struct FurtherOptions {
    #[command(flatten)]
    pub(crate) block: BlockOptions,
    /// Whether it has a cgroup (enabled, disabled, no-conmon, split)
    #[arg(long, value_name = "MODE", default_value = "enabled")]
    pub(crate) cgroups: String,
    /// Directory inside that gets hosts, resolv.conf and their likes too (repeatable)
    #[arg(long, value_name = "DIR")]
    pub(crate) chrootdirs: Vec<PathBuf>,
    /// Write the process ID of the monitor to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) conmon_pidfile: Option<PathBuf>,
    /// Rule for the use of devices, TYPE MAJOR:MINOR ACCESS (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Accepted for Docker, where it skips a check that davit does not have
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool)]
    pub(crate) disable_content_trust: Option<bool>,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Variable made of others of the image, NAME=text${OTHER} (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env_merge: Vec<String>,
    /// Map of group IDs, [FLAGS]CONTAINER:HOST[:SIZE] (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "MAP")]
    pub(crate) gidmap: Vec<String>,
    /// Graphics processors of nvidia.com, all or by number or UUID, as described in /etc/cdi
    #[arg(long, value_delimiter = ',', value_name = "GPU")]
    pub(crate) gpus: Vec<String>,
    /// Line for /etc/group, with $GROUPNAME, $GID and $USERLIST
    #[arg(long, value_name = "LINE")]
    pub(crate) group_entry: Option<String>,
    /// What /etc/hosts begins with: a file of the host, image or none
    #[arg(long, value_name = "FILE", conflicts_with = "no_hosts")]
    pub(crate) hosts_file: Option<String>,
    /// User of the host that /etc/passwd gets (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "USER")]
    pub(crate) hostuser: Vec<String>,
    /// What stands where the image declares volumes (anonymous, tmpfs, ignore)
    #[arg(long, value_name = "MODE")]
    pub(crate) image_volume: Option<String>,
    /// Put a small init before the command: it reaps processes and hands signals on
    #[arg(long)]
    pub(crate) init: bool,
    /// Program of the host that is this init instead of davit's own
    #[arg(long, value_name = "FILE", requires = "init")]
    pub(crate) init_path: Option<PathBuf>,
    /// Accepted for old scripts, without effect
    #[arg(long, hide = true, value_name = "SIZE")]
    pub(crate) kernel_memory: Option<String>,
    /// Add the user to /etc/passwd and /etc/group where they lack it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_go_bool, action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) passwd: bool,
    /// Line for /etc/passwd, with $USERNAME, $UID, $GID, $NAME and $HOME
    #[arg(long, value_name = "LINE")]
    pub(crate) passwd_entry: Option<String>,
    /// What machine programs see (LINUX, LINUX32)
    #[arg(long, value_name = "PERSONALITY")]
    pub(crate) personality: Option<String>,
    /// Container that is started first (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "CONTAINER")]
    pub(crate) requires: Vec<String>,
    /// Whether it is started again when it ends (no, always, unless-stopped, on-failure[:NUMBER])
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Further tries of a pull that fails
    #[arg(long, value_name = "NUMBER")]
    pub(crate) retry: Option<u32>,
    /// Time between those tries
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
    /// The image is a directory of the host, DIR[:O][:idmap]
    #[arg(long)]
    pub(crate) rootfs: bool,
    /// OCI runtime: davit (the built-in one), a name in PATH, or a path
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<String>,
    /// Who tells the service manager that it is ready (container, conmon, healthy, ignore)
    #[arg(long, value_name = "MODE", default_value = "container")]
    pub(crate) sdnotify: String,
    /// Where the filter of system calls comes from (default, image)
    #[arg(long, value_name = "POLICY", default_value = "default")]
    pub(crate) seccomp_policy: String,
    /// Size of /run and /run/lock for systemd, NUMBER[b|k|m|g]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size_systemd: Option<String>,
    /// Group whose subordinate IDs are the container's
    #[arg(long, value_name = "NAME")]
    pub(crate) subgidname: Option<String>,
    /// User whose subordinate IDs are the container's
    #[arg(long, value_name = "NAME")]
    pub(crate) subuidname: Option<String>,
    /// Set it up for systemd (true: where the command is an init; false, always)
    #[arg(long, value_name = "MODE", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub(crate) systemd: String,
    /// Kill it after so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub(crate) timeout: u32,
    /// Time zone, a name or local
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Map of user IDs, [FLAGS]CONTAINER:HOST[:SIZE] (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "MAP")]
    pub(crate) uidmap: Vec<String>,
    /// User namespace (host, keep-id, auto, nomap, container:ID, ns:PATH)
    #[arg(long, value_name = "MODE", env = "PODMAN_USERNS", hide_env_values = true)]
    pub(crate) userns: Option<String>,
    /// Container whose volumes and paths are mounted too, with options behind a colon (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "CONTAINER[:OPTIONS]")]
    pub(crate) volumes_from: Vec<String>,
}
