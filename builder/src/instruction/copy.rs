//! COPY and ADD.

use super::Heredoc;
use crate::expand::Word;
use crate::parse::Spanned;

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The flags.
    pub flags: CopyFlags,
    /// What is copied, in order, never empty.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or, for ADD, URL.
    Path(Word),
    /// A here-document.
    Heredoc(Heredoc),
}

/// Flags of COPY and ADD; those that the instruction does not have are never set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyFlags {
    /// `--from`: stage, named context or image; no variables.
    pub from: Option<Spanned<String>>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`: see [`parse_chmod`].
    pub chmod: Option<Word>,
    /// `--checksum`
    pub checksum: Option<Word>,
    /// `--link`
    pub link: Option<Spanned<bool>>,
    /// `--parents`
    pub parents: Option<Spanned<bool>>,
    /// `--keep-git-dir`
    pub keep_git_dir: Option<Spanned<bool>>,
    /// `--unpack`
    pub unpack: Option<Spanned<bool>>,
    /// `--exclude`, in order.
    pub exclude: Vec<Word>,
}

/// A value of `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permissions {
    /// Octal: the mode, at most 07777.
    Octal(u32),
    /// Symbolic: see [`Permissions::apply`].
    Symbolic(Vec<SymbolicClause>),
}

/// `who` `op` `perms` of a symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicClause {
    /// Bits that may change.
    pub who: u32,
    /// `+`, `-` or `=`.
    pub op: char,
    /// Letters behind it.
    pub perms: String,
}

impl Permissions {
    /// The mode after the change; `mode` is the file's own.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let _ = (mode, is_directory);
        todo!()
    }
}

/// Reads an expanded value of `--chmod`.
pub fn parse_chmod(value: &str) -> Result<Permissions, String> {
    let _ = value;
    todo!()
}
