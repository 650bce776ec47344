//! `run`, `create` and `exec`.

use std::path::PathBuf;

use clap::Args;

use super::{FurtherOptions, HealthOptions, PolicyArgs, parse_go_bool};

/// What `run` and `create` share.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerOptions {
    /// Line HOST:IP for /etc/hosts (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Annotation KEY=VALUE of the runtime specification (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Architecture of the image to pull
    #[arg(long, value_name = "ARCH", conflicts_with = "platform", alias = "override-arch")]
    pub(crate) arch: Option<String>,
    /// File with registry credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Relative weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// Add a capability, or ALL
    #[arg(long, value_delimiter = ',', value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability away, or ALL
    #[arg(long, value_delimiter = ',', value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Cgroup file and value, FILE=VALUE (cgroup v2)
    #[arg(long, value_delimiter = ',', value_name = "FILE=VALUE")]
    pub(crate) cgroup_conf: Vec<String>,
    /// Cgroup below which the container's is made
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Cgroup namespace (private, host, container:ID, ns:PATH)
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// Write the container's ID to a file that must not exist yet
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// CPU quota in microseconds a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<i64>,
    /// Relative CPU weight, 2 to 262144
    #[arg(long, short = 'c', value_name = "SHARES")]
    pub(crate) cpu_shares: Option<u64>,
    /// Number of CPUs, as a decimal
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// CPUs that may be used (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Credentials for the registry, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Host device, SRC[:DST][:rwm], or a described one, VENDOR/CLASS=NAME (repeatable)
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Name server for /etc/resolv.conf, or none to leave the image's
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    pub(crate) dns: Vec<String>,
    /// Option for /etc/resolv.conf
    #[arg(long, alias = "dns-opt", value_delimiter = ',', value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Search domain for /etc/resolv.conf
    #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Program instead of the image's entry point: a word, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Environment variable, NAME=VALUE or NAME from the caller (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File with a NAME=VALUE on each line (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Hand on the caller's whole environment
    #[arg(long)]
    pub(crate) env_host: bool,
    /// Port to record as exposed, PORT[-PORT][/PROTO]
    #[arg(long, value_delimiter = ',', value_name = "PORT")]
    pub(crate) expose: Vec<String>,
    /// Further group of the process, name or number
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Host name inside
    #[arg(long, short = 'h', value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Hand on the caller's proxy variables
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_go_bool, action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) http_proxy: bool,
    /// Keep standard input open
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
    /// IPC namespace (private, shareable, none, host, container:ID, ns:PATH)
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// Label, KEY[=VALUE] (repeatable)
    #[arg(long, short = 'l', value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// File with a KEY=VALUE on each line (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Where output is kept (k8s-file, json-file, none)
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Option of the log driver: path=FILE, max-size=SIZE
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Memory limit, NUMBER[b|k|m|g]
    #[arg(long, short = 'm', value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Memory that is left to the container when memory is short
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_reservation: Option<String>,
    /// Limit of memory and swap together, -1 for none
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// How readily memory is swapped, 0 to 100 (cgroup v1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Mount, type=bind|tmpfs,src=…,dst=…[,…] (repeatable)
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Network (none, host, container:ID, ns:PATH)
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// Leave /etc/hosts to the image
    #[arg(long, conflicts_with = "add_host")]
    pub(crate) no_hosts: bool,
    /// Leave /etc/hostname to the image
    #[arg(long)]
    pub(crate) no_hostname: bool,
    /// Do not end processes when memory is out (cgroup v1)
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// How readily the container is chosen when memory is out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) oom_score_adj: Option<i32>,
    /// Operating system of the image to pull
    #[arg(long, value_name = "OS", conflicts_with = "platform", alias = "override-os")]
    pub(crate) os: Option<String>,
    /// Process namespace (private, host, container:ID, ns:PATH)
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// Write the process ID of the container to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Most processes, -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Platform of the image, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// All capabilities and devices, no confinement
    #[arg(long)]
    pub(crate) privileged: bool,
    /// When the image is pulled (always, missing, never, newer)
    #[arg(long, value_name = "POLICY", num_args = 0..=1, require_equals = true, default_value = "missing", default_missing_value = "always")]
    pub(crate) pull: String,
    /// No progress of a pull
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Make the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// With --read-only: keep /dev/shm, /run, /tmp and /var/tmp writable
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_go_bool, action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) read_only_tmpfs: bool,
    /// Remove a container of the same name first
    #[arg(long, requires = "name")]
    pub(crate) replace: bool,
    /// Security option: no-new-privileges, seccomp=FILE|unconfined, mask=PATHS, unmask=PATHS|ALL (repeatable)
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm, NUMBER[b|k|m|g]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u32>,
    /// Kernel parameter of a namespace, NAME=VALUE
    #[arg(long, value_delimiter = ',', value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Check certificates of registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
    /// tmpfs at PATH[:OPTIONS] (repeatable)
    #[arg(long, value_name = "PATH")]
    pub(crate) tmpfs: Vec<String>,
    /// Give the container a terminal
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// Resource limit of the process, NAME=SOFT[:HARD], or host
    #[arg(long, value_delimiter = ',', value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// File mode creation mask, octal
    #[arg(long, value_name = "MASK")]
    pub(crate) umask: Option<String>,
    /// Variable to take from the image's environment
    #[arg(long, value_name = "NAME")]
    pub(crate) unsetenv: Vec<String>,
    /// Take all variables of the image's environment away
    #[arg(long)]
    pub(crate) unsetenv_all: bool,
    /// User, NAME|UID[:GROUP|GID]
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Host name namespace (private, host, container:ID, ns:PATH)
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// Variant of the architecture of the image to pull
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform", alias = "override-variant")]
    pub(crate) variant: Option<String>,
    /// Host path or volume inside the container, [SRC:]DST[:OPTIONS] (repeatable)
    #[arg(long, short = 'v', value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,
    /// Working directory
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    #[command(flatten)]
    pub(crate) health: HealthOptions,
    #[command(flatten)]
    pub(crate) further: FurtherOptions,
    /// Image, then the command and its arguments
    #[arg(value_name = "IMAGE [COMMAND [ARG...]]", required = true, trailing_var_arg = true)]
    pub(crate) image_and_command: Vec<String>,
}

/// `davit run`
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: ContainerOptions,
    /// Streams to attach (stdin, stdout, stderr)
    #[arg(long, short = 'a', value_delimiter = ',', value_name = "STREAM", conflicts_with = "detach")]
    pub(crate) attach: Vec<String>,
    /// Run in the background and print the container's ID
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// Hand on a descriptor of davit's by its number (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "NUMBER", conflicts_with = "preserve_fds")]
    pub(crate) preserve_fd: Vec<u32>,
    /// Hand on so many descriptors of davit's, from 3 on
    #[arg(long, value_name = "COUNT", default_value = "0")]
    pub(crate) preserve_fds: u32,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Remove the image when it exits, unless others use it
    #[arg(long)]
    pub(crate) rmi: bool,
    /// Hand signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = parse_go_bool, action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) sig_proxy: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// `davit create`
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) create: ContainerOptions,
    /// Streams that `start` joins (stdin, stdout, stderr)
    #[arg(long, short = 'a', value_delimiter = ',', value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// `davit exec`
#[derive(Args, Clone, Debug)]
pub(crate) struct ExecArgs {
    /// File with the ID of the container
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Run in the background and print the session's ID
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Environment variable, NAME=VALUE or NAME from the caller (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File with a NAME=VALUE on each line (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Leave no trace of the session, which none leaves that somebody waits for
    #[arg(long)]
    pub(crate) no_session: bool,
    /// Descriptors to hand on: a number each, from 3 on (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "NUMBER", conflicts_with = "preserve_fds")]
    pub(crate) preserve_fd: Vec<u32>,
    /// How many descriptors behind standard error are handed on
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) preserve_fds: u32,
    /// All capabilities
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// User, NAME|UID[:GROUP|GID]
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Seconds that it may take until the container runs
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u32>,
    /// Working directory
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Container, then the command and its arguments
    #[arg(value_name = "CONTAINER COMMAND [ARG...]", required = true, num_args = 1.., trailing_var_arg = true)]
    pub(crate) container_and_command: Vec<String>,
}
