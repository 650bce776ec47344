//! What containers use and run: `stats`, `top`.

use clap::Args;

/// `davit stats`
#[derive(Args, Clone, Debug)]
pub(crate) struct StatsArgs {
    /// Also containers that do not run
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Seconds between two looks
    #[arg(long, short = 'i', value_name = "SECONDS", default_value_t = 5)]
    pub(crate) interval: u64,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Leave what is on the screen
    #[arg(long)]
    pub(crate) no_reset: bool,
    /// Look once
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", conflicts_with = "latest")]
    pub(crate) containers: Vec<String>,
}

/// `davit top`
#[derive(Args, Clone, Debug)]
pub(crate) struct TopArgs {
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Print what can be asked for
    #[arg(long, hide = true)]
    pub(crate) list_descriptors: bool,
    /// Container, then what to show (user, pid, args, ...) or options of ps
    #[arg(value_name = "CONTAINER [FORMAT|ARG...]", num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) container_and_format: Vec<String>,
}
