//! Runs containers: namespaces, root file systems, control groups, seccomp and the monitor.
//!
//! The way of a container: [`Spawner::launch`] computes a plan in the caller's process, the spawner (a single-threaded
//! process forked at the start of `main`) forks a monitor for it, the monitor clones init into its namespaces, init
//! reports errno, stage and path or becomes the user's program. The monitor writes the exit record by rename.
#![forbid(unsafe_code)]

pub mod attach;
mod blueprint;
pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod error;
mod hook;
mod init;
pub mod launch;
mod monitor;
pub mod oci;
mod plan;
mod planner;
pub mod record;
pub mod rlimits;
pub mod seccomp;
pub mod spawner;
mod stage;
pub mod sysctl;
mod wire;

pub use error::{Error, Result, Stage};
pub use launch::{
    CgroupSetup, ExecRequest, Launch, LaunchMode, Launched, LogConfig, OutputMode, Rootfs, StdinMode,
};
pub use record::{
    ExitRecord, ProcessRecord, State, Status, delete, kill, kill_all, pause, resume, state, wait,
};
pub use spawner::Spawner;

/// Whether owners in a root file system can be mapped through a user namespace without touching the files: root alone may
/// do that, and an overlay takes layers with mapped owners that are mounted nowhere since Linux 6.15.
pub fn maps_owners() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 15) && !sys::idmap::in_user_namespace()
}
