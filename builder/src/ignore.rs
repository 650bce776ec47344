//! `.dockerignore` and `.containerignore`: which files of a context the build does not see.
//!
//! Docker's rules, not git's: patterns are anchored at the context's root, `*` and `?` stop at a slash, `**` stands for
//! any number of directories, a match of a directory covers all below it, and the last line that matches decides.

use std::path::{Path, PathBuf};

/// Patterns, ready to match.
#[derive(Debug, Clone, Default)]
pub struct Ignore {}

/// What is known about a path: pass it to [`Ignore::child`] for what lies below.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    ignored: bool,
}

impl Verdict {
    /// Whether the path itself is left out.
    pub fn ignored(&self) -> bool {
        self.ignored
    }
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: bad pattern {pattern:?}")]
pub struct BadPattern {
    /// Line in the ignore file, or number of the pattern, 1 = first.
    pub line: usize,
    /// The pattern.
    pub pattern: String,
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let _ = text;
        todo!()
    }

    /// The same rules for single patterns (`COPY --exclude`).
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let _ = patterns.into_iter().count();
        todo!()
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// The context's root, where a walk starts.
    pub fn root(&self) -> Verdict {
        todo!()
    }

    /// The verdict for a path, `parent` being that for its directory. Paths are relative to the root, with `/`
    /// between names, without `.` and `..`; any bytes.
    pub fn child(&self, parent: &Verdict, path: &[u8]) -> Verdict {
        let _ = (parent, path);
        todo!()
    }

    /// Whether something below an ignored directory may be seen again, so that a walk must enter it.
    pub fn may_reinclude(&self, directory: &Verdict, path: &[u8]) -> bool {
        let _ = (directory, path);
        todo!()
    }

    /// The verdict for a path by itself: for single questions, not for walks.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        let _ = path;
        todo!()
    }
}

/// The Containerfile of a context directory: `Containerfile`, else `Dockerfile`.
pub fn find_containerfile(context: &Path) -> Option<PathBuf> {
    let _ = context;
    todo!()
}

/// The ignore file that belongs to a Containerfile: `NAME.dockerignore` or `NAME.containerignore` beside it, else
/// `.containerignore` or `.dockerignore` in the context. The Containerfile may lie outside of the context.
pub fn find_ignore_file(context: &Path, containerfile: Option<&Path>) -> Option<PathBuf> {
    let _ = (context, containerfile);
    todo!()
}
