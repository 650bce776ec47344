//! The build context: a directory of the host, seen through its ignore file.

use crate::ignore::{self, BadPattern, Ignore};
use crate::ops::tree::{Filter, Tree, Verdict};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use crate::graph::GitOp;
pub use crate::ignore::{find_containerfile, find_ignore_file};
pub use crate::lower::{parse_git_address, without_password};

/// An open context.
#[derive(Debug, Clone)]
pub(crate) struct OpenContext {
    pub(crate) tree: Tree,
    /// Where it lies, for mounting.
    pub(crate) path: PathBuf,
    /// Whether something of it may be hidden.
    pub(crate) filtered: bool,
}

/// Opens a directory as context.
pub(crate) fn open(path: &Path, ignore: Option<Arc<Ignore>>) -> Result<OpenContext, sys::fs::Error> {
    let root = sys::fs::open_dir(path)?;
    let ignore = ignore.filter(|ignore| !ignore.is_empty());
    let filtered = ignore.is_some();
    Ok(OpenContext { tree: Tree::new(root, ignore.map(filter)), path: path.to_owned(), filtered })
}

/// Reads an ignore file's text.
pub(crate) fn parse_ignore(text: &str) -> Result<Arc<Ignore>, BadPattern> {
    Ignore::parse(text).map(Arc::new)
}

/// The verdict of a directory holds for what lies below it, so all of them are asked on the way to a file; a walk
/// stays in one directory for long, whose way is kept.
#[derive(Default)]
struct Way {
    /// The path that was asked for last.
    walked: Vec<u8>,
    /// Ends and verdicts of its directories.
    verdicts: Vec<(usize, ignore::Verdict)>,
}

/// Patterns as a tree's filter.
pub(crate) fn filter(ignore: Arc<Ignore>) -> Filter {
    let way: Mutex<Way> = Mutex::default();
    Arc::new(move |path| {
        let bytes = path.as_os_str().as_bytes();
        let mut kept = way.lock().unwrap_or_else(PoisonError::into_inner);
        let Way { walked, verdicts } = &mut *kept;
        let same = walked.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        verdicts.retain(|&(end, _)| end <= same && bytes.get(end) == Some(&b'/'));
        walked.clear();
        walked.extend_from_slice(bytes);
        let mut verdict = verdicts.last().map_or_else(|| ignore.root(), |(_, verdict)| verdict.clone());
        let known = verdicts.last().map_or(0, |&(end, _)| end + 1);
        for end in (known..bytes.len()).filter(|&at| bytes[at] == b'/') {
            verdict = ignore.child(&verdict, &bytes[..end]);
            verdicts.push((end, verdict.clone()));
        }
        verdict = ignore.child(&verdict, bytes);
        if !verdict.ignored() {
            Verdict::Keep
        } else if ignore.may_reinclude(&verdict, bytes) {
            Verdict::DropButLook
        } else {
            Verdict::Drop
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filter_keeps_its_way_and_nothing_wrong_of_it() {
        let ignore = parse_ignore("a\n!a/b/c\nab/x\n**/q\n!r/q/s").unwrap();
        let kept = filter(ignore.clone());
        let paths = [
            "a",
            "a/b",
            "a/b/c",
            "a/b/cc",
            "ab",
            "ab/x",
            "ab/xx",
            "a/b/c/d",
            "ab/x/y",
            "r/q/s",
            "r/q",
            "r/q/t",
            "r",
            "q",
            "q/r",
            "a/b/c/d/e",
            "a/bb/c",
        ];
        for path in paths.iter().chain(paths.iter().rev()) {
            let fresh = filter(ignore.clone())(Path::new(path));
            assert_eq!(kept(Path::new(path)), fresh, "{path}");
            assert_eq!(fresh == Verdict::Keep, !ignore.is_ignored(path.as_bytes()), "{path}");
        }
    }
}
