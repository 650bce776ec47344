//! `davit runtime …` and `davit-runtime …`: the verbs of an OCI runtime, with the flags of crun and runc.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::Deferred;

/// Runs containers from OCI bundles, as crun and runc do
#[derive(Debug, Parser)]
#[command(name = "davit-runtime", bin_name = "davit-runtime", disable_version_flag = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct DavitRuntime {
    /// Print the version
    #[arg(long, short = 'v')]
    pub(crate) version: bool,
    #[command(flatten)]
    pub(crate) args: RuntimeArgs,
}

/// Options that stand before the verb.
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeArgs {
    /// Directory that keeps the state of containers
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// File that also takes what goes wrong
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<String>,
    /// Form of that file
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: RuntimeLogFormat,
    /// Messages from this level on are written (debug, warning, error)
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Same as --log-level=debug
    #[arg(long)]
    pub(crate) debug: bool,
    /// Control groups are made by systemd; same as --cgroup-manager=systemd
    #[arg(long, short = 's')]
    pub(crate) systemd_cgroup: bool,
    /// Who makes control groups
    #[arg(long, value_enum, value_name = "MANAGER")]
    pub(crate) cgroup_manager: Option<RuntimeCgroupManager>,
    /// Whether the caller is an ordinary user (true, false, auto); found out anyway
    #[arg(long, value_name = "BOOL", hide = true)]
    pub(crate) rootless: Option<String>,
    #[command(subcommand)]
    pub(crate) verb: Option<RuntimeVerb>,
}

/// Form of `--log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeLogFormat {
    /// `time=.. level=.. msg=..`
    Text,
    /// One object a line.
    Json,
}

/// Who makes control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeCgroupManager {
    /// The runtime.
    Cgroupfs,
    /// systemd.
    Systemd,
    /// Nobody.
    Disabled,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // one value a process
pub(crate) enum RuntimeVerb {
    /// Create a container from a bundle, ready to be started
    Create(Deferred<RuntimeCreateArgs>),
    /// Remove a container
    Delete(Deferred<RuntimeDeleteArgs>),
    /// Print what a container uses
    Events(Deferred<RuntimeEventsArgs>),
    /// Run a further process in a container
    Exec(Deferred<RuntimeExecArgs>),
    /// Print what this runtime can do, as JSON
    Features,
    /// Send a signal to a container
    Kill(Deferred<RuntimeKillArgs>),
    /// List the containers
    #[command(visible_alias = "ls")]
    List(Deferred<RuntimeListArgs>),
    /// Freeze the processes of a container
    Pause(Deferred<RuntimeIdArgs>),
    /// List the processes of a container
    Ps(Deferred<RuntimePsArgs>),
    /// Thaw the processes of a container
    Resume(Deferred<RuntimeIdArgs>),
    /// Create a container from a bundle and start it
    Run(Deferred<RuntimeRunArgs>),
    /// Write a configuration to begin with
    Spec(Deferred<RuntimeSpecArgs>),
    /// Start a container that was created
    Start(Deferred<RuntimeIdArgs>),
    /// Print the state of a container, as JSON
    State(Deferred<RuntimeIdArgs>),
    /// Change the limits of a container
    Update(Deferred<RuntimeUpdateArgs>),
}

/// A verb that takes a container and nothing else.
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeIdArgs {
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

/// `create`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeCreateArgs {
    /// Directory of the bundle
    #[arg(long, short = 'b', value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// Configuration in the place of the bundle's config.json
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Unix socket that takes the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that takes the process ID
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Change the root without pivot_root(2), as on an initial RAM file system
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Number of descriptors after the standard streams that the program inherits
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) preserve_fds: u32,
    /// Leave the reaping of orphans to somebody else
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

/// `run`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeRunArgs {
    #[command(flatten)]
    pub(crate) create: RuntimeCreateArgs,
    /// Return when the program runs
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    pub(crate) keep: bool,
}

/// `delete`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeDeleteArgs {
    /// Kill it first if it runs; a missing one is no failure
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

/// `events`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeEventsArgs {
    /// Time between two lines (5s, 500ms)
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub(crate) interval: String,
    /// Print one line and return
    #[arg(long)]
    pub(crate) stats: bool,
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

/// `exec`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeExecArgs {
    /// Unix socket that takes the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Further environment
    #[arg(long, short = 'e', value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give it a terminal
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// User ID, and group ID
    #[arg(long, short = 'u', value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Further group IDs
    #[arg(long, short = 'g', value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// File with the process, in the form of a configuration's `process`
    #[arg(long, short = 'p', value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return when the program runs
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// File that takes the process ID
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Further capability
    #[arg(long, short = 'c', value_name = "CAPABILITY")]
    pub(crate) cap: Vec<String>,
    /// Number of descriptors after the standard streams that the program inherits
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) preserve_fds: u32,
    /// Control group below the container's
    #[arg(long, value_name = "[CONTROLLER:]GROUP")]
    pub(crate) cgroup: Vec<String>,
    /// Allow it in a frozen container
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// ID of the container, then the command
    #[arg(value_name = "CONTAINER [COMMAND [ARG]...]", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) id_and_command: Vec<String>,
}

/// `kill`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeKillArgs {
    /// Send it to all processes of the container
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// Name or number of the signal
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    pub(crate) signal: String,
}

/// Form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// `list`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeListArgs {
    /// Form of the list
    #[arg(long, short = 'f', value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: RuntimeListFormat,
    /// IDs only
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
}

/// `ps`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimePsArgs {
    /// Form of the list
    #[arg(long, short = 'f', value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) format: RuntimeListFormat,
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
    /// Options of ps(1); -ef without any
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

/// `spec`
#[derive(Args, Clone, Debug)]
pub(crate) struct RuntimeSpecArgs {
    /// Directory of the bundle
    #[arg(long, short = 'b', value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub(crate) rootless: bool,
}

/// `update`
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RuntimeUpdateArgs {
    /// File with the limits, in the form of a configuration's `linux.resources`; - for the standard input
    #[arg(long, short = 'r', value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block I/O (10 to 1000)
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// Processor time that may be saved up, microseconds
    #[arg(long, value_name = "US")]
    pub(crate) cpu_burst: Option<u64>,
    /// 1 = only what others leave of the processors
    #[arg(long, value_name = "0|1")]
    pub(crate) cpu_idle: Option<i64>,
    /// Period of the processor quota, microseconds
    #[arg(long, value_name = "US")]
    pub(crate) cpu_period: Option<u64>,
    /// Processor time a period, microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Period of the real-time quota, microseconds (cgroup v1)
    #[arg(long, value_name = "US")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Real-time processor time a period, microseconds (cgroup v1)
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Share of the processors (2 to 262144)
    #[arg(long, value_name = "SHARES")]
    pub(crate) cpu_share: Option<u64>,
    /// Processors (0-3,7)
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Memory, bytes; -1 = unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory: Option<i64>,
    /// Memory that is left when others need some, bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<i64>,
    /// Memory and swap together, bytes; -1 = unlimited
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<i64>,
    /// Number of processes; -1 = unlimited
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// ID of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}
