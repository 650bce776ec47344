//! What can go wrong, and of which kind it is.

use std::path::PathBuf;

/// The kind of a failure: what a front end needs to choose an exit code or an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named object does not exist.
    NotFound,
    /// A name or an ID is taken, or the object is in a state that does not allow this.
    Conflict,
    /// Something else needs the object.
    InUse,
    /// The request makes no sense.
    Invalid,
    /// Credentials or permissions are missing.
    Denied,
    /// davit cannot do this (yet), or this host cannot.
    Unsupported,
    /// Anything else.
    Internal,
    /// The program to run does not exist in the container: exit code 127.
    CommandNotFound,
    /// The program to run exists and cannot be run, or its surroundings cannot be made: exit code 126.
    CommandNotRunnable,
}

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such image, container or other object.
    #[error("no such {what}: {name}")]
    NotFound {
        /// What was looked for: `image`, `container`, ...
        what: &'static str,
        /// As the caller named it.
        name: String,
    },
    /// Several objects match a short ID.
    #[error("{what} {name} is ambiguous: {}", matches.join(", "))]
    Ambiguous {
        /// What was looked for.
        what: &'static str,
        /// As the caller named it.
        name: String,
        /// IDs that match.
        matches: Vec<String>,
    },
    /// A name is taken.
    #[error("the name {name} is in use by {what} {id}")]
    NameTaken {
        /// What holds the name.
        what: &'static str,
        /// The name.
        name: String,
        /// ID of its holder.
        id: String,
    },
    /// An object of this name exists.
    #[error("{what} {name} exists already")]
    Taken {
        /// Kind of object.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The object's state does not allow the operation.
    #[error("{attempt} {what} {name}: it is {state}")]
    State {
        /// What was attempted: `start`, `pause`, ...
        attempt: &'static str,
        /// Kind of object.
        what: &'static str,
        /// Name or ID.
        name: String,
        /// State it is in.
        state: String,
    },
    /// Something else needs the object.
    #[error("{what} {name} is in use by {by}")]
    InUse {
        /// Kind of object.
        what: &'static str,
        /// Name or ID.
        name: String,
        /// What needs it.
        by: String,
    },
    /// The request makes no sense.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was read: an option with its value, a file, ...
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not built yet, or not possible on this host.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// The thing asked for.
        what: String,
        /// Why not, and what to do instead.
        reason: String,
    },
    /// Credentials or permissions are missing.
    #[error("{what}: {reason}")]
    Denied {
        /// What was attempted.
        what: String,
        /// Who refused, and why.
        reason: String,
    },
    /// A program could not be started in a container.
    #[error("{what}: {reason}")]
    Command {
        /// What was attempted.
        what: String,
        /// Stage, path and reason.
        reason: String,
        /// [`ErrorKind::CommandNotFound`], [`ErrorKind::CommandNotRunnable`] or [`ErrorKind::Internal`].
        kind: ErrorKind,
    },
    /// A file of davit's own could not be read, written or understood.
    #[error("{attempt} {}", path.display())]
    File {
        /// What was attempted: `read`, `write`, `parse`, ...
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A system call failed.
    #[error("{attempt}")]
    Os {
        /// What was attempted on what.
        attempt: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A part of davit below the engine failed.
    #[error("{attempt}")]
    Part {
        /// What was attempted on what.
        attempt: String,
        /// Of which kind.
        kind: ErrorKind,
        /// The failure.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A step of a build ended with an exit code other than 0.
    #[error("{rendered}")]
    StepFailed {
        /// The instruction in its place, with all that is known about its end, for people.
        rendered: String,
        /// The exit code of its command.
        code: i32,
    },
    /// A signal ended the operation, which has cleaned up behind itself.
    #[error("{attempt}: ended by {}", signal_name(*signal))]
    Interrupted {
        /// What was under way.
        attempt: &'static str,
        /// The signal.
        signal: i32,
    },
    /// A Containerfile could not be understood, or an image that it names not be had. The text is complete, with
    /// file, line and caret.
    #[error("{rendered}")]
    Containerfile {
        /// The diagnostics for people.
        rendered: String,
        /// [`ErrorKind::Invalid`], or what kept the image that the place names from being had.
        kind: ErrorKind,
    },
}

/// Result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Ambiguous { .. } | Error::Invalid { .. } => ErrorKind::Invalid,
            Error::NameTaken { .. } | Error::Taken { .. } | Error::State { .. } => ErrorKind::Conflict,
            Error::InUse { .. } => ErrorKind::InUse,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Denied { .. } => ErrorKind::Denied,
            Error::Command { kind, .. } | Error::Part { kind, .. } | Error::Containerfile { kind, .. } => {
                *kind
            }
            Error::File { .. } | Error::StepFailed { .. } | Error::Interrupted { .. } => ErrorKind::Internal,
            Error::Os { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Internal,
            },
        }
    }

    /// For a failed build step: the exit code of its command. For what a signal ended: 128 and its number.
    pub fn step_code(&self) -> Option<i32> {
        match self {
            Error::StepFailed { code, .. } => Some(*code),
            Error::Interrupted { signal, .. } => Some(128 + signal),
            _ => None,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Unsupported { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn os(attempt: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Error::Os { attempt: attempt.into(), source: source.into() }
    }
}

/// Name of a signal that ends programs, as shells have it.
fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

/// An error of the runtime, of the kind that its stage says.
pub(crate) fn runtime(attempt: impl Into<String>, error: runtime::Error) -> Error {
    let attempt = attempt.into();
    let text = || error.to_string();
    match &error {
        runtime::Error::CommandNotFound { .. } => {
            Error::Command { what: attempt, reason: text(), kind: ErrorKind::CommandNotFound }
        }
        runtime::Error::CommandNotRunnable { .. } | runtime::Error::Stage { .. } => {
            Error::Command { what: attempt, reason: text(), kind: ErrorKind::CommandNotRunnable }
        }
        runtime::Error::InvalidSpec { .. } => {
            Error::Command { what: attempt, reason: text(), kind: ErrorKind::CommandNotRunnable }
        }
        runtime::Error::Cgroup { .. } => {
            Error::Command { what: attempt, reason: text(), kind: ErrorKind::CommandNotRunnable }
        }
        _ => Error::Part { attempt, kind: ErrorKind::Internal, source: Box::new(error) },
    }
}

/// An error of the store.
pub(crate) fn storage(attempt: impl Into<String>) -> impl FnOnce(storage::Error) -> Error {
    let attempt = attempt.into();
    move |error| {
        let kind = match &error {
            error if error.is_not_found() => ErrorKind::NotFound,
            storage::Error::InUse { .. } => ErrorKind::InUse,
            storage::Error::Unsupported { .. } | storage::Error::NoDriver { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Internal,
        };
        Error::Part { attempt, kind, source: Box::new(error) }
    }
}

/// An error of the registry client and the transports.
pub(crate) fn registry(attempt: impl Into<String>) -> impl FnOnce(registry::Error) -> Error {
    let attempt = attempt.into();
    move |error| {
        let kind = match &error {
            registry::Error::InvalidReference { .. } => ErrorKind::Invalid,
            registry::Error::Rejected { .. } => ErrorKind::Denied,
            error if error.is_not_found() => ErrorKind::NotFound,
            error if error.is_unauthorized() => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        };
        Error::Part { attempt, kind, source: Box::new(error) }
    }
}

/// An error of a document.
pub(crate) fn document(attempt: impl Into<String>) -> impl FnOnce(oci::Error) -> Error {
    let attempt = attempt.into();
    move |error| Error::Part { attempt, kind: ErrorKind::Internal, source: Box::new(error) }
}
