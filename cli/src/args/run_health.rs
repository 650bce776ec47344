//! The health options of `run`, `create` and `update`.

use clap::Args;

/// `--health-*`
#[derive(Args, Clone, Debug)]
pub(crate) struct HealthOptions {
    /// Command that checks the health: a line for the shell, a JSON array, or none
    #[arg(long, alias = "healthcheck-command", value_name = "COMMAND", conflicts_with = "no_healthcheck")]
    pub(crate) health_cmd: Option<String>,
    /// Time between checks, or disable
    #[arg(long, alias = "healthcheck-interval", value_name = "DURATION")]
    pub(crate) health_interval: Option<String>,
    /// Where results are kept: local (where nothing is said), events_logger, or a directory
    #[arg(long, value_name = "PLACE")]
    pub(crate) health_log_destination: Option<String>,
    /// Results that are kept, 5 where nothing is said, 0 for all
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_max_log_count: Option<u32>,
    /// Characters of output that are kept of each check, 500 where nothing is said, 0 for all
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_max_log_size: Option<u32>,
    /// What happens to an unhealthy container (none, kill, restart, stop)
    #[arg(long, value_name = "ACTION")]
    pub(crate) health_on_failure: Option<String>,
    /// Failures in a row until it is unhealthy
    #[arg(long, alias = "healthcheck-retries", value_name = "NUMBER")]
    pub(crate) health_retries: Option<u32>,
    /// Time between checks during the start period
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_start_interval: Option<String>,
    /// Time after the start during which failures do not count
    #[arg(long, alias = "healthcheck-start-period", value_name = "DURATION")]
    pub(crate) health_start_period: Option<String>,
    /// Command that must succeed before the other checks begin
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_startup_cmd: Option<String>,
    /// Time between those checks, or disable
    #[arg(long, value_name = "DURATION", requires = "health_startup_cmd")]
    pub(crate) health_startup_interval: Option<String>,
    /// Failures of it until the container is restarted, 0 for never
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_startup_retries: Option<u32>,
    /// Successes that it needs
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_startup_success: Option<u32>,
    /// Longest that it may take
    #[arg(long, value_name = "DURATION", requires = "health_startup_cmd")]
    pub(crate) health_startup_timeout: Option<String>,
    /// Longest that a check may take
    #[arg(long, alias = "healthcheck-timeout", value_name = "DURATION")]
    pub(crate) health_timeout: Option<String>,
    /// No check, whatever the image says
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
}

/// `davit healthcheck run`
#[derive(Args, Clone, Debug)]
pub(crate) struct HealthcheckRunArgs {
    /// Container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}
