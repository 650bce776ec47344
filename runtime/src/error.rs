//! What can go wrong between a spec and a running process.

use std::io;
use std::path::PathBuf;

/// The step of a launch that failed, as reported by the process that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Stage {
    /// Checking the spec and computing the plan, in the caller's process.
    Plan = 1,
    /// Talking to the spawner, forking the monitor.
    Spawn = 2,
    /// Opening or joining a namespace, cloning into new ones.
    Namespace = 3,
    /// Writing the id maps of a user namespace.
    IdMap = 4,
    /// Creating, limiting or joining a control group.
    Cgroup = 5,
    /// Mounting the root file system or changing into it.
    Rootfs = 6,
    /// One of the mounts of the spec.
    Mount = 7,
    /// Device nodes and the links of /dev.
    Device = 8,
    /// The pseudo terminal.
    Console = 9,
    /// Masked and read-only paths.
    Mask = 10,
    /// Host name, domain name and kernel parameters.
    Sysctl = 11,
    /// Resource limits, scheduling, oom score.
    Limit = 12,
    /// The working directory.
    Directory = 13,
    /// User, groups, capabilities.
    Credentials = 14,
    /// The seccomp filter.
    Seccomp = 15,
    /// Finding and executing the command.
    Exec = 16,
    /// Standard streams, the log, the attach socket.
    Stdio = 17,
    /// A hook of the spec.
    Hook = 18,
}

impl Stage {
    /// The stage of a number sent by a child, [`Stage::Spawn`] for an unknown one.
    pub(crate) fn from_number(number: u8) -> Self {
        use Stage::*;
        [
            Plan,
            Spawn,
            Namespace,
            IdMap,
            Cgroup,
            Rootfs,
            Mount,
            Device,
            Console,
            Mask,
            Sysctl,
            Limit,
            Directory,
            Credentials,
            Seccomp,
            Exec,
            Stdio,
            Hook,
        ]
        .into_iter()
        .find(|stage| *stage as u8 == number)
        .unwrap_or(Spawn)
    }

    /// The words of the stage, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Plan => "read the spec",
            Self::Spawn => "spawn the monitor",
            Self::Namespace => "enter namespaces",
            Self::IdMap => "map ids",
            Self::Cgroup => "set up the control group",
            Self::Rootfs => "set up the root file system",
            Self::Mount => "mount",
            Self::Device => "create device",
            Self::Console => "open the console",
            Self::Mask => "mask",
            Self::Sysctl => "set kernel parameter",
            Self::Limit => "set limit",
            Self::Directory => "change to directory",
            Self::Credentials => "set credentials",
            Self::Seccomp => "load the seccomp filter",
            Self::Exec => "execute",
            Self::Stdio => "set up standard streams",
            Self::Hook => "run hook",
        }
    }
}

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The spec asks for something that is malformed or that this machine does not offer.
    #[error("invalid spec: {what}")]
    InvalidSpec {
        /// The field and what is wrong with it.
        what: String,
    },
    /// A stage of the launch failed; nothing of the container is left.
    #[error("{}{}{}: {source}", stage.describe(), if subject.is_empty() { "" } else { " " }, subject)]
    Stage {
        /// The step that failed.
        stage: Stage,
        /// What it was about: a path, a name; may be empty.
        subject: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The command of the process does not exist in the container (exit code 127 by custom).
    #[error("command not found: {command}")]
    CommandNotFound {
        /// The command as given.
        command: String,
    },
    /// The command exists and cannot be executed (exit code 126 by custom).
    #[error("command cannot be executed: {command}: {source}")]
    CommandNotRunnable {
        /// The command as given.
        command: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The operation needs a running process and there is none.
    #[error("container is not running: {run_dir}")]
    NotRunning {
        /// The run directory asked.
        run_dir: PathBuf,
    },
    /// The monitor ended without an exit record: it was killed.
    #[error("the monitor of {run_dir} ended without an exit record")]
    MonitorLost {
        /// The run directory asked.
        run_dir: PathBuf,
    },
    /// The spawner has ended or does not answer.
    #[error("the spawner does not answer: {source}")]
    Spawner {
        /// What the socket said.
        source: io::Error,
    },
    /// A file could not be read, written or parsed.
    #[error("{action} {path}: {source}")]
    File {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's or the parser's answer.
        source: io::Error,
    },
    /// A control group operation failed.
    #[error("control group: {message}")]
    Cgroup {
        /// What the control group module said.
        message: String,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::File { action, path: path.into(), source: source.into() }
    }

    pub(crate) fn stage(stage: Stage, subject: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Stage { stage, subject: subject.into(), source: source.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidSpec { what: what.into() }
    }
}
