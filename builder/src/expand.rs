//! Words of a Containerfile and the variables in them.
//!
//! Quotes, escapes and `${..}` operators follow BuildKit's rules for words (not a shell's): a variable's value is
//! never split or scanned again, `*` and `?` are the only wildcards of patterns, and an unset variable is empty.

use crate::diagnostic::Diagnostic;
use crate::parse::Span;
use std::collections::BTreeSet;

/// The escape character of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``
    Backtick,
}

impl Escape {
    /// The character.
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// A word as written, continuations removed, nothing expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text, with its quotes and escapes. Of a JSON array: the decoded string.
    pub raw: String,
    /// Where it was written.
    pub span: Span,
    /// The file's escape character.
    pub escape: Escape,
}

/// A lookup of variables: `None` for one that is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text without quotes.
    pub value: String,
    /// The value split at blanks that were not quoted, also inside of variables' values.
    pub words: Vec<String>,
    /// Variables that were read and are set.
    pub used: BTreeSet<String>,
    /// Variables that were read without a default and are not set.
    pub unset: BTreeSet<String>,
}

impl Word {
    /// A word.
    pub fn new(raw: impl Into<String>, span: Span, escape: Escape) -> Self {
        Self { raw: raw.into(), span, escape }
    }

    /// The text with variables replaced, quotes and escapes removed.
    pub fn expand(&self, lookup: Lookup<'_>) -> Result<String, Diagnostic> {
        self.expand_all(lookup).map(|expanded| expanded.value)
    }

    /// As [`Word::expand`], then split into words (EXPOSE).
    pub fn expand_words(&self, lookup: Lookup<'_>) -> Result<Vec<String>, Diagnostic> {
        self.expand_all(lookup).map(|expanded| expanded.words)
    }

    /// Expansion with all that is known about it.
    pub fn expand_all(&self, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
        let _ = lookup;
        todo!()
    }

    /// Whether expansion may change with the variables.
    pub fn has_variables(&self) -> bool {
        self.raw.contains('$')
    }
}
