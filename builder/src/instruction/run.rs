//! RUN: forms, flags and mounts.

use super::Heredoc;
use crate::diagnostic::Diagnostic;
use crate::expand::{Lookup, Word};
use crate::parse::{Span, Spanned};

/// A command in one of its two forms. Variables in it are the shell's, not the builder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell.
    Shell(Spanned<String>),
    /// A JSON array: command and arguments.
    Exec(Vec<Spanned<String>>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Option<Spanned<Network>>,
    /// `--security`
    pub security: Option<Spanned<Security>>,
    /// `--device`, as written.
    pub devices: Vec<Word>,
    /// What is run; use [`Run::script`].
    pub command: Command,
    /// Here-documents on the line, in order.
    pub heredocs: Vec<Heredoc>,
}

/// What a RUN really starts, here-documents put in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Command and arguments, without a shell.
    Exec(Vec<String>),
    /// One argument behind the words of SHELL.
    Shell(String),
    /// A file to be executed by itself: a here-document that begins with `#!`.
    File {
        /// Its name: the end marker.
        name: String,
        /// Its content.
        content: String,
    },
}

/// `RUN --network`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// `default`
    Default,
    /// `none`
    None,
    /// `host`
    Host,
}

/// `RUN --security`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// `sandbox`
    Sandbox,
    /// `insecure`
    Insecure,
}

/// `RUN --mount` as written: read its values with [`MountFlag::evaluate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// Place of the flag's value.
    pub span: Span,
    /// The fields, in order.
    pub fields: Vec<MountField>,
}

/// `key[=value]` of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key in lower case.
    pub key: Spanned<String>,
    /// The value.
    pub value: Option<Word>,
}

/// A mount with its values expanded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where; empty for a secret or ssh mount that uses the default. Relative paths are joined to WORKDIR.
    pub target: String,
    /// Whether the step may not write.
    pub read_only: bool,
    /// What.
    pub kind: MountKind,
    /// Place of the flag's value.
    pub span: Span,
}

/// Kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// `type=bind`
    Bind {
        /// Stage, named context or image; `None` = build context.
        from: Option<Spanned<String>>,
        /// Path in it; empty = all of it.
        source: String,
    },
    /// `type=cache`
    Cache {
        /// Its name; `None` = the target.
        id: Option<String>,
        /// How steps share it.
        sharing: CacheSharing,
        /// Where its first content comes from.
        from: Option<Spanned<String>>,
        /// Path in `from`.
        source: String,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// `type=tmpfs`
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
    /// `type=secret`
    Secret {
        /// Which one.
        id: String,
        /// The variable that gets the value. Without a target there is no file then.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// `type=ssh`
    Ssh {
        /// Which agent.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// `sharing=`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All use it at once.
    #[default]
    Shared,
    /// One waits for the other.
    Locked,
    /// A second one gets a directory of its own.
    Private,
}

impl Run {
    /// What is started, here-documents put in their place.
    pub fn script(&self) -> Script {
        todo!()
    }
}

impl MountFlag {
    /// Expands the values and checks them.
    pub fn evaluate(&self, lookup: Lookup<'_>) -> Result<Mount, Diagnostic> {
        let _ = lookup;
        todo!()
    }
}
