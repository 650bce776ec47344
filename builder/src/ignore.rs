//! `.dockerignore` and `.containerignore`: which files of a context the build does not see.
//!
//! Docker's rules, not git's: patterns are anchored at the context's root, `*` and `?` stop at a slash, `**` stands for
//! any number of directories, a match of a directory covers all below it, and the last line that matches decides.

mod pattern;

use pattern::Pattern;
use std::path::{Path, PathBuf};

/// Patterns, ready to match.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// `!`: what matches is seen again.
    include: bool,
}

/// What is known about a path: pass it to [`Ignore::child`] for what lies below.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Which rules match the path or a directory above it: 64 rules without an allocation.
    first: u64,
    more: Vec<u64>,
    /// The rule that decides.
    last: Option<usize>,
    ignored: bool,
}

impl Verdict {
    /// Whether the path itself is left out.
    pub fn ignored(&self) -> bool {
        self.ignored
    }

    fn get(&self, rule: usize) -> bool {
        let word = if rule < 64 { self.first } else { self.more.get(rule / 64 - 1).copied().unwrap_or(0) };
        word >> (rule % 64) & 1 != 0
    }

    fn set(&mut self, rule: usize) {
        let bit = 1 << (rule % 64);
        if rule < 64 {
            self.first |= bit;
            return;
        }
        let index = rule / 64 - 1;
        if self.more.len() <= index {
            self.more.resize(index + 1, 0);
        }
        self.more[index] |= bit;
    }
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: bad pattern `{pattern}`")]
pub struct BadPattern {
    /// Line in the ignore file, or number of the pattern, 1 = first.
    pub line: usize,
    /// The pattern.
    pub pattern: String,
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        Self::read(lines.map(|(number, line)| (number + 1, line)))
    }

    /// The same rules for single patterns (`COPY --exclude`).
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        Self::read(patterns.into_iter().enumerate().map(|(number, pattern)| (number + 1, pattern)))
    }

    fn read<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, BadPattern> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let (include, pattern) = match text.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, text),
            };
            let bad = || BadPattern { line, pattern: text.to_owned() };
            if pattern.is_empty() {
                return Err(bad());
            }
            let pattern = Pattern::parse(&clean(pattern)).ok_or_else(bad)?;
            rules.push(Rule { pattern, include });
        }
        Ok(Self { rules })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The context's root, where a walk starts; it is never ignored.
    pub fn root(&self) -> Verdict {
        Verdict::default()
    }

    /// The verdict for a path, `parent` being that for its directory. Paths are relative to the root, with `/`
    /// between names, without `.` and `..`; any bytes.
    pub fn child(&self, parent: &Verdict, path: &[u8]) -> Verdict {
        let mut verdict = Verdict { last: None, ignored: false, ..parent.clone() };
        for (index, rule) in self.rules.iter().enumerate() {
            let above = parent.get(index);
            if above || rule.pattern.matches(path) {
                verdict.last = Some(index);
                verdict.ignored = !rule.include;
                if !above {
                    verdict.set(index);
                }
            }
        }
        verdict
    }

    /// Whether something below an ignored directory may be seen again, so that a walk must enter it.
    pub fn may_reinclude(&self, directory: &Verdict, path: &[u8]) -> bool {
        // Rules above the one that decides cannot win for anything below either: that one covers all of it.
        let decided = directory.last.map_or(0, |last| last + 1);
        self.rules[decided.min(self.rules.len())..]
            .iter()
            .any(|rule| rule.include && rule.pattern.may_match_below(path))
    }

    /// The verdict for a path by itself: for single questions, not for walks.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let mut verdict = self.root();
        for end in ends.chain([path.len()]) {
            verdict = self.child(&verdict, &path[..end]);
        }
        verdict.ignored()
    }
}

/// The pattern as Go's `filepath.Clean` leaves it, without a leading slash.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// The Containerfile of a context directory: `Containerfile`, else `Dockerfile`.
pub fn find_containerfile(context: &Path) -> Option<PathBuf> {
    ["Containerfile", "Dockerfile"].iter().map(|name| context.join(name)).find(|path| path.is_file())
}

/// The ignore file that belongs to a Containerfile: `NAME.dockerignore` or `NAME.containerignore` beside it, else
/// `.containerignore` or `.dockerignore` in the context. The Containerfile may lie outside of the context.
pub fn find_ignore_file(context: &Path, containerfile: Option<&Path>) -> Option<PathBuf> {
    let beside = containerfile.into_iter().flat_map(|file| {
        ["dockerignore", "containerignore"].map(|suffix| {
            let mut name = file.as_os_str().to_owned();
            name.push(".");
            name.push(suffix);
            PathBuf::from(name)
        })
    });
    let inside = [".containerignore", ".dockerignore"].map(|name| context.join(name));
    beside.chain(inside).find(|path| path.is_file())
}

#[cfg(test)]
mod tests;
