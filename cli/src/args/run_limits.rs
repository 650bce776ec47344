//! Limits that `run`, `create` and `update` share.

use clap::Args;

/// Limits of block devices and of real-time processes.
#[derive(Args, Clone, Debug)]
pub(crate) struct BlockOptions {
    /// Weight of block I/O of a device, DEVICE:WEIGHT (repeatable)
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// Period of real-time CPU in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Real-time CPU in microseconds a period (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Most bytes read from a device a second, DEVICE:SIZE (repeatable)
    #[arg(long, value_name = "DEVICE:SIZE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Most reads from a device a second, DEVICE:NUMBER (repeatable)
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_read_iops: Vec<String>,
    /// Most bytes written to a device a second, DEVICE:SIZE (repeatable)
    #[arg(long, value_name = "DEVICE:SIZE")]
    pub(crate) device_write_bps: Vec<String>,
    /// Most writes to a device a second, DEVICE:NUMBER (repeatable)
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_write_iops: Vec<String>,
}
