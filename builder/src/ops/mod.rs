//! What vertices do: each op on open directories and snapshots, knowing nothing of keys and scheduling.

pub(crate) mod beneath;
pub(crate) mod copy;
pub(crate) mod exec;
pub(crate) mod glob;
pub(crate) mod mounts;
pub(crate) mod owner;
pub(crate) mod pour;
pub(crate) mod snapshot;
pub(crate) mod ssh;
pub(crate) mod stack;
pub(crate) mod stubs;
mod times;
pub(crate) mod tree;
pub(crate) mod unpack;
mod walk;
pub(crate) mod write;

use crate::ports::{PortError, StepExit};
use std::path::PathBuf;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be used.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what, as seen from the tree's root.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// A source of COPY or ADD is not there.
    #[error("{path}: not found")]
    NotFound {
        /// The path in the context, stage or image.
        path: String,
    },
    /// A directory is to be copied onto something that is none.
    #[error("copy a directory to {}: it is not a directory", .path.display())]
    NotADirectory {
        /// The destination.
        path: PathBuf,
    },
    /// A file is to be copied onto a directory.
    #[error("copy a file to {}: it is a directory", .path.display())]
    IsADirectory {
        /// The destination.
        path: PathBuf,
    },
    /// Several files are to be copied to one name.
    #[error("copy several files to {destination}: it is not a directory and does not end with /")]
    SeveralSources {
        /// The destination.
        destination: String,
    },
    /// The passwd file does not have the name.
    #[error("unknown user {name:?}: not in /etc/passwd of the image")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// The group file does not have the name.
    #[error("unknown group {name:?}: not in /etc/group of the image")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A value of `--chmod` or `--exclude` is none.
    #[error("invalid {what} {value:?}: {reason}")]
    InvalidValue {
        /// Which value.
        what: &'static str,
        /// As written, expanded.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A step ended with an error.
    #[error("{}", exit_text(.exit))]
    Exit {
        /// How.
        exit: StepExit,
        /// The command and its arguments.
        argv: Vec<String>,
        /// Its last lines of output.
        last_lines: Vec<String>,
    },
    /// A layer would have had the value of a secret in it.
    #[error("the value of secret {id:?} is in the new layer, {}: /{path}", .form.as_str())]
    SecretLeft {
        /// The secret's ID.
        id: String,
        /// How it is written there.
        form: crate::secrets::Form,
        /// The file, without leading slash; a value in the path itself is left out.
        path: String,
    },
    /// A required secret was not given.
    #[error("secret {id:?} is required and was not given")]
    MissingSecret {
        /// Its ID.
        id: String,
    },
    /// A required ssh agent was not given.
    #[error("ssh agent {id:?} is required and was not given: build with --ssh")]
    MissingAgent {
        /// Its ID.
        id: String,
    },
    /// A repository's reference is another commit than it must be.
    #[error("{remote}: expected commit {expected}, got {actual}")]
    Commit {
        /// The repository.
        remote: String,
        /// The commit that was asked for, or its first digits.
        expected: String,
        /// The commit that it is.
        actual: String,
    },
    /// A download is not what it must be.
    #[error("download {url}: expected {expected}, got {actual}")]
    Checksum {
        /// Where from.
        url: String,
        /// The digest that was asked for.
        expected: oci::Digest,
        /// The digest that came.
        actual: oci::Digest,
    },
    /// An archive could not be unpacked.
    #[error("unpack {path}")]
    Unpack {
        /// The archive.
        path: String,
        /// Why.
        source: PortError,
    },
    /// Layers could not be made one.
    #[error("squash the layers")]
    Squash {
        /// Why.
        source: PortError,
    },
    /// A mount could not be made.
    #[error(transparent)]
    Mount(#[from] sys::mount::Error),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The executor or the resolver failed.
    #[error("{action}")]
    Port {
        /// What was asked of it.
        action: String,
        /// Why.
        source: PortError,
    },
    /// The solver gave the vertex up.
    #[error(transparent)]
    Solver(#[from] crate::solver::Broken),
}

fn exit_text(exit: &StepExit) -> String {
    match exit {
        StepExit { oom_killed: true, memory_limit, memory_peak, .. } => {
            let size = |bytes: &u64| crate::ops::bytes(*bytes);
            let mut text = "killed: out of memory".to_owned();
            if let Some(limit) = memory_limit {
                text.push_str(&format!(", limit {}", size(limit)));
            }
            if let Some(peak) = memory_peak {
                text.push_str(&format!(", highest use {}", size(peak)));
            }
            text
        }
        StepExit { signal: Some(signal), .. } => format!("killed by signal {signal}"),
        StepExit { code, .. } => format!("exit status {code}"),
    }
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(power) = (1..=units.len()).rev().find(|power| count >> (10 * power) > 0) else {
        return format!("{count} B");
    };
    // One digit behind the point is enough, and exact numbers show none.
    let tenths = (u128::from(count) * 10) >> (10 * power);
    let (whole, rest) = (tenths / 10, tenths % 10);
    let unit = units[power - 1];
    if rest == 0 { format!("{whole} {unit}") } else { format!("{whole}.{rest} {unit}") }
}

/// Makes the closure that puts an action and a path to an I/O error.
pub(crate) fn io_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { action, path, source }
}
