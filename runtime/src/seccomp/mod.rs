//! seccomp: profiles in the peers' JSON, and their compilation to a BPF program.
//!
//! [`Profile`] is what `/usr/share/containers/seccomp.json` holds: rules that depend on capabilities and architecture.
//! [`Profile::resolve`] makes the runtime spec's [`LinuxSeccomp`] of it for one container, [`compile`] makes the program,
//! and `sys::seccomp_load` installs it. All but the last is pure.

mod compile;
mod default_profile;
mod profile;
mod table;

#[cfg(test)]
mod tests;

pub use compile::{Program, compile};
pub use profile::Profile;

use oci_spec::runtime::LinuxSeccomp;

use crate::capabilities::CapabilitySet;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the JSON that a profile is.
    #[error("parse seccomp profile")]
    Parse {
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A rule that no filter can express.
    #[error("seccomp rule for {syscall}: {reason}")]
    Rule {
        /// The call it is about.
        syscall: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None of the profile's architectures is one that this program has tables for.
    #[error("seccomp profile: no table of system calls for architecture {architecture}")]
    Architecture {
        /// Its name.
        architecture: String,
    },
    /// The filter is longer than the kernel takes.
    #[error("seccomp profile: {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// Its length.
        instructions: usize,
    },
}

/// The default profile for a container with these capabilities, ready for its spec.
#[must_use]
pub fn default_for(capabilities: CapabilitySet) -> LinuxSeccomp {
    default_profile::profile().resolve(capabilities)
}
