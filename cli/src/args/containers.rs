//! Containers that exist already.

use std::path::PathBuf;

use clap::Args;

use super::parse_go_bool;

/// `davit attach`
#[derive(Args, Clone, Debug)]
pub(crate) struct AttachArgs {
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Leave standard input alone
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Hand signals on to the container
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) sig_proxy: bool,
    /// Container
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    pub(crate) container: Option<String>,
}

/// `davit container cleanup`
#[derive(Args, Clone, Debug)]
pub(crate) struct CleanupArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// An exec session of the container to tidy up instead
    #[arg(long, value_name = "SESSION", conflicts_with_all = ["rm", "rmi", "all"])]
    pub(crate) exec: Option<String>,
    /// Also remove the container
    #[arg(long)]
    pub(crate) rm: bool,
    /// Also remove its image, unless something else needs that
    #[arg(long)]
    pub(crate) rmi: bool,
    /// Only what has stopped, which holds for all that is cleaned up
    #[arg(long, hide = true)]
    pub(crate) stopped_only: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all"])]
    pub(crate) containers: Vec<String>,
}

/// `davit container exists`
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerExistsArgs {
    /// Containers of other tools count too: davit's store has none
    #[arg(long)]
    pub(crate) external: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `davit container inspect`
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerInspectArgs {
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "json")]
    pub(crate) format: String,
    /// Add the sizes of the file systems
    #[arg(long, short = 's')]
    pub(crate) size: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    pub(crate) containers: Vec<String>,
}

/// `davit container prune`
#[derive(Args, Clone, Debug)]
pub(crate) struct ContainerPruneArgs {
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
}

/// `davit inspect`
#[derive(Args, Clone, Debug)]
pub(crate) struct InspectArgs {
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "json")]
    pub(crate) format: String,
    /// Add the sizes of the file systems of containers
    #[arg(long, short = 's')]
    pub(crate) size: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Kind of object (all, container, image)
    #[arg(long, short = 't', value_name = "KIND", default_value = "all", value_parser = ["all", "container", "image", "volume"], hide_possible_values = true)]
    pub(crate) r#type: String,
    /// Containers or images
    #[arg(value_name = "NAME", required_unless_present = "latest")]
    pub(crate) names: Vec<String>,
}

/// `davit kill`
#[derive(Args, Clone, Debug)]
pub(crate) struct KillArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with the ID of a container (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// Signal, name or number
    #[arg(long, short = 's', value_name = "SIGNAL", default_value = "KILL")]
    pub(crate) signal: String,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all", "cidfile"])]
    pub(crate) containers: Vec<String>,
}

/// `davit logs`
#[derive(Args, Clone, Debug)]
pub(crate) struct LogsArgs {
    /// Colour the names of several containers
    #[arg(long)]
    pub(crate) color: bool,
    /// Accepted for Docker: records have no details
    #[arg(long, hide = true)]
    pub(crate) details: bool,
    /// Go on with what comes
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// Put the container's name before each line
    #[arg(long, short = 'n')]
    pub(crate) names: bool,
    /// Only from this time on: a time, or a duration before now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only the last lines
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) tail: Option<i64>,
    /// Put the time before each line
    #[arg(long, short = 't')]
    pub(crate) timestamps: bool,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    pub(crate) containers: Vec<String>,
}

/// `davit pause` and `davit unpause`
#[derive(Args, Clone, Debug)]
pub(crate) struct PauseArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with the ID of a container (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all", "filter", "cidfile"])]
    pub(crate) containers: Vec<String>,
}

/// `davit ps`
#[derive(Args, Clone, Debug)]
pub(crate) struct PsArgs {
    /// Also containers that do not run
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Accepted for Podman: nothing but davit's own containers is known
    #[arg(long, alias = "storage", hide = true)]
    pub(crate) external: bool,
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only the last containers made, running or not
    #[arg(long, short = 'n', value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) last: Option<i64>,
    /// Only the last container made
    #[arg(long, short = 'l', conflicts_with = "last")]
    pub(crate) latest: bool,
    /// Whole IDs and commands
    #[arg(long, alias = "notruncate")]
    pub(crate) no_trunc: bool,
    /// No line of headings
    #[arg(long)]
    pub(crate) noheading: bool,
    /// Show the namespaces instead
    #[arg(long, alias = "namespace", conflicts_with_all = ["size", "quiet"])]
    pub(crate) ns: bool,
    /// Add the pods
    #[arg(long, short = 'p')]
    pub(crate) pod: bool,
    /// IDs alone
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Add the sizes of the file systems
    #[arg(long, short = 's')]
    pub(crate) size: bool,
    /// Order (command, created, id, image, names, runningfor, size, status)
    #[arg(long, value_name = "KEY", default_value = "created", value_parser = ["command", "created", "id", "image", "names", "runningfor", "size", "status"], hide_possible_values = true)]
    pub(crate) sort: String,
    /// Accepted for Podman: the state is always read anew
    #[arg(long, hide = true)]
    pub(crate) sync: bool,
    /// Show it again every so many seconds
    #[arg(long, short = 'w', value_name = "SECONDS")]
    pub(crate) watch: Option<u64>,
}

/// `davit rename`
#[derive(Args, Clone, Debug)]
pub(crate) struct RenameArgs {
    /// Container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// New name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `davit restart`
#[derive(Args, Clone, Debug)]
pub(crate) struct RestartArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with the ID of a container (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Only containers that run
    #[arg(long)]
    pub(crate) running: bool,
    /// Stop signal instead of the container's own
    #[arg(long, short = 's', value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) time: Option<i64>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all", "filter", "cidfile", "running"])]
    pub(crate) containers: Vec<String>,
}

/// `davit rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct RmArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with the ID of a container (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// Also containers that depend on it
    #[arg(long)]
    pub(crate) depend: bool,
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Stop what runs; a missing container is no error
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// A missing container is no error
    #[arg(long, short = 'i')]
    pub(crate) ignore: bool,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) time: Option<i64>,
    /// Also remove the anonymous volumes
    #[arg(long, short = 'v')]
    pub(crate) volumes: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all", "filter", "cidfile"])]
    pub(crate) containers: Vec<String>,
}

/// `davit start`
#[derive(Args, Clone, Debug)]
pub(crate) struct StartArgs {
    /// All containers
    #[arg(long)]
    pub(crate) all: bool,
    /// Join the standard streams
    #[arg(long, short = 'a')]
    pub(crate) attach: bool,
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Join standard input
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
    /// Hand signals on to the container (with --attach)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) sig_proxy: Option<bool>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all", "filter"])]
    pub(crate) containers: Vec<String>,
}

/// `davit stop`
#[derive(Args, Clone, Debug)]
pub(crate) struct StopArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with the ID of a container (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// Only containers that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// A missing container is no error
    #[arg(long, short = 'i')]
    pub(crate) ignore: bool,
    /// Signal instead of the container's own
    #[arg(long, short = 's', value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) time: Option<i64>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["latest", "all", "filter", "cidfile"])]
    pub(crate) containers: Vec<String>,
}

/// `davit wait`
#[derive(Args, Clone, Debug)]
pub(crate) struct WaitArgs {
    /// State to wait for (stopped)
    #[arg(long, value_delimiter = ',', value_name = "STATE")]
    pub(crate) condition: Vec<String>,
    /// End with the first container that has the state
    #[arg(long)]
    pub(crate) exit_first_match: bool,
    /// A missing container is no error: -1 is printed for it
    #[arg(long)]
    pub(crate) ignore: bool,
    /// Accepted for Podman: davit is woken and does not poll
    #[arg(long, short = 'i', value_name = "DURATION", hide = true)]
    pub(crate) interval: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    pub(crate) containers: Vec<String>,
}
