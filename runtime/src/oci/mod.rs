//! The runtime on the command line: the verbs of the OCI runtime specification, for engines other than ours.
//!
//! No monitor: `create` leaves init as a child of whoever reaps (its caller, or a subreaper above), waiting at a
//! socket; `start` connects and tells it to go on. What the verbs know of a container lies in one directory:
//!
//! ```text
//! ROOT/ID/state.json    who runs, since when, in which control group; made first, so that it claims the ID
//! ROOT/ID/config.json   the bundle's, as it was at `create`: later edits have no effect
//! ROOT/ID/start.sock    while init waits for `start`
//! ROOT/ID/notify/       the socket for sd_notify, where NOTIFY_SOCKET was set
//! ```
//! That a container runs is never stored: it is read from the process table. A `create` that was killed leaves a
//! container that is stopped, which `delete` removes.

mod born;
mod bundle;
mod check;
mod console;
mod control;
mod create;
mod exec;
mod features;
mod foreground;
mod groups;
mod notify;
mod start;
mod state;
mod template;
mod user_namespace;

pub use bundle::Bundle;
pub use control::{delete, events, kill, pause, processes, resume, update, update_from_json};
pub use create::{CgroupManager, CreateOptions, create, run};
pub use exec::{ExecOptions, ExecProcess, ProcessChanges, exec};
pub use features::features;
pub use start::start;
pub use state::{Container, Record, Status, list, open};
pub use template::spec;

use std::io;
use std::path::PathBuf;

/// The version of the specification that is implemented.
pub const SPEC_VERSION: &str = "1.3.0";

/// A failure of a verb.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container has this ID.
    #[error("container {id:?} does not exist")]
    NotFound {
        /// The ID.
        id: String,
    },
    /// The ID is taken.
    #[error("container {id:?} exists already")]
    Exists {
        /// The ID.
        id: String,
    },
    /// The container is in another state than the verb needs.
    #[error("cannot {verb} container {id:?}: it is {status}")]
    State {
        /// What was attempted.
        verb: &'static str,
        /// The container.
        id: String,
        /// Its state.
        status: Status,
    },
    /// Something in the configuration or on the command line.
    #[error("{what}")]
    Invalid {
        /// The field or option, and what is wrong with it.
        what: String,
    },
    /// The process could not be started.
    #[error(transparent)]
    Runtime(#[from] crate::Error),
    /// Something else of the machine.
    #[error("{attempt}")]
    Os {
        /// What was attempted, on what.
        attempt: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// The result of a verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    pub(crate) fn os(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { attempt: attempt.into(), source: source.into() }
    }
}

impl From<crate::wire::Failure> for Error {
    fn from(failure: crate::wire::Failure) -> Self {
        Self::Runtime(failure.into_error())
    }
}

impl From<sys::fs::Error> for Error {
    fn from(error: sys::fs::Error) -> Self {
        let attempt = error.to_string();
        Self::Os { attempt, source: error.source }
    }
}

impl From<crate::cgroup::Error> for Error {
    fn from(error: crate::cgroup::Error) -> Self {
        use crate::wire::At;
        let failure = Err::<(), _>(error).at(crate::Stage::Cgroup, "");
        failure.map_err(Self::from).err().unwrap_or_else(|| Self::invalid("control group"))
    }
}

/// Where nothing else is said: the directory of all containers of this user.
pub fn default_root(uid: u32, runtime_dir: Option<PathBuf>) -> PathBuf {
    match (uid, runtime_dir) {
        (0, _) => PathBuf::from("/run/davit-runtime"),
        (_, Some(directory)) => directory.join("davit-runtime"),
        (uid, None) => PathBuf::from(format!("/tmp/davit-runtime-{uid}")),
    }
}
