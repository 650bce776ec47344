//! `.dockerignore` and `.containerignore`: which files of a context the build does not see.
//!
//! Docker's rules, not git's: patterns are anchored at the context's root, `*` and `?` stop at a slash, `**` stands for
//! any number of directories, a match of a directory covers all below it, and the last line that matches decides.

mod pattern;
mod prefixes;

use pattern::Pattern;
use prefixes::Prefixes;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Patterns, ready to match.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
    /// Rules that are a path, by it; of equal ones the last counts.
    exact: HashMap<Vec<u8>, usize>,
    /// Rules `**/name`, by the name.
    names: HashMap<Vec<u8>, usize>,
    /// All others, in order.
    scanned: Vec<usize>,
    /// Those of them that begin with something literal, by it.
    prefixes: Prefixes,
    /// Rules with `!`, in order.
    includes: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// `!`: what matches is seen again.
    include: bool,
}

/// Patterns with wildcards that begin alike, or with a wildcard: they are looked through one by one for each path.
const MAX_ALIKE: usize = 5_000;

/// Bytes that a pattern may have: as many as a path.
const MAX_PATTERN: usize = 4096;

/// What is known about a path: pass it to [`Ignore::child`] for what lies below.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// The rule that decides: the last that matches the path or a directory above it.
    last: Option<usize>,
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
#[error("line {line}: {reason} `{pattern}`")]
pub struct BadPattern {
    /// Line in the ignore file, or number of the pattern, 1 = first.
    pub line: usize,
    /// The pattern; of a very long one its beginning.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
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
        let mut ignore = Self::default();
        for (line, text) in lines {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let (include, pattern) = match text.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, text),
            };
            let bad = |reason| BadPattern { line, pattern: text.chars().take(200).collect(), reason };
            if pattern.is_empty() {
                return Err(bad("bad pattern"));
            }
            let clean = clean(pattern);
            if clean.len() > MAX_PATTERN {
                return Err(bad("longer than any path is the pattern"));
            }
            let pattern = Pattern::parse(&clean).ok_or_else(|| bad("bad pattern"))?;
            if !ignore.add(Rule { pattern, include }) {
                return Err(bad("more than 5000 patterns with wildcards begin alike, the last is"));
            }
        }
        Ok(ignore)
    }

    /// Adds a rule where it is found most cheaply; `false` if there are too many.
    fn add(&mut self, rule: Rule) -> bool {
        let index = self.rules.len();
        let mut alike = 0;
        match &rule.pattern {
            Pattern::Exact(path) => {
                self.exact.insert(path.clone(), index);
            }
            Pattern::Below(name) if !name.contains(&b'/') => {
                self.names.insert(name.clone(), index);
            }
            pattern => match pattern.prefix() {
                [] => {
                    self.scanned.push(index);
                    alike = self.scanned.len();
                }
                prefix => alike = self.prefixes.add(prefix, index),
            },
        }
        if rule.include {
            self.includes.push(index);
        }
        self.rules.push(rule);
        alike <= MAX_ALIKE
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
        // What matched above matches here too, so only rules behind the one that decided there can decide here.
        let mut last = parent.last.max(self.exact.get(path).copied());
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        last = last.max(self.names.get(name).copied());
        let mut look = |rules: &[usize]| {
            let later = rules.iter().rev().take_while(|&&index| last.is_none_or(|last| index > last));
            let found = later.copied().find(|&index| self.rules[index].pattern.matches(path));
            last = last.max(found);
        };
        look(&self.scanned);
        self.prefixes.each(path, &mut look);
        Verdict { last, ignored: last.is_some_and(|last| !self.rules[last].include) }
    }

    /// Whether something below an ignored directory may be seen again, so that a walk must enter it.
    pub fn may_reinclude(&self, directory: &Verdict, path: &[u8]) -> bool {
        // Rules above the one that decides cannot win for anything below either: that one covers all of it.
        let later =
            self.includes.iter().rev().take_while(|&&index| directory.last.is_none_or(|last| index > last));
        later.into_iter().any(|&index| self.rules[index].pattern.may_match_below(path))
    }

    /// The same by what the rules mean: the last that matches the path or a directory above it decides.
    pub(crate) fn is_ignored_slowly(&self, path: &[u8]) -> bool {
        let ends = || path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let matches = |rule: &&Rule| ends().chain([path.len()]).any(|end| rule.pattern.matches(&path[..end]));
        self.rules.iter().rev().find(matches).is_some_and(|rule| !rule.include)
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
    // A link into nowhere or a FIFO counts: reading it fails, where passing it over would copy what it hides.
    beside.chain(inside).find(|path| path.symlink_metadata().is_ok())
}

#[cfg(test)]
mod tests;
