//! `update`.

use super::{BlockOptions, HealthOptions};
use clap::Args;

/// `davit update`
#[derive(Args, Clone, Debug)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) block: BlockOptions,
    #[command(flatten)]
    pub(crate) health: HealthOptions,
    /// Relative weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// Period of the CPU quota, microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// CPU time in each period, microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Relative CPU weight, 2 to 262144
    #[arg(long, short = 'c', value_name = "SHARES")]
    pub(crate) cpu_shares: Option<u64>,
    /// Number of CPUs, as a decimal
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// CPUs that may be used
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Environment variable from the next start on, NAME=VALUE or NAME from the caller (repeatable)
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Memory limit, such as 512m
    #[arg(long, short = 'm', value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Memory that is kept for it when memory is short
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_reservation: Option<String>,
    /// Limit of memory and swap together, -1 for none
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// How readily memory is swapped, 0 to 100 (cgroup v1)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Most processes, -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// When it is started again by itself (no, on-failure[:COUNT], always, unless-stopped)
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Resource limit of its processes from the next start on, NAME=SOFT[:HARD] (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Environment variable that it loses at the next start (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) unsetenv: Vec<String>,
    /// Container
    #[arg(value_name = "CONTAINER", required_unless_present = "latest", conflicts_with = "latest")]
    pub(crate) container: Option<String>,
}
