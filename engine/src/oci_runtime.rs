//! The runtime's own front door: containers from OCI bundles, without images, state and monitors of the engine's.

use std::path::PathBuf;

pub use runtime::Error as RuntimeError;
pub use runtime::cgroup::{Bus, Stats};
pub use runtime::oci::*;

/// The socket of the bus on which systemd is asked for control groups.
pub fn bus_socket(uid: u32) -> PathBuf {
    crate::config::bus_socket_of(uid)
}
