//! Runs containers: namespaces, root file systems, control groups, seccomp and the monitor.
//!
//! The way of a container: [`Spawner::launch`] computes a plan in the caller's process, the spawner (a single-threaded
//! process forked at the start of `main`) forks a monitor for it, the monitor clones init into its namespaces, init
//! reports errno, stage and path or becomes the user's program. The monitor writes the exit record by rename.
#![forbid(unsafe_code)]

pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod rlimits;
pub mod seccomp;
pub mod sysctl;
