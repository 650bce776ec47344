//! The build context: a directory of the host, seen through its ignore file.

use crate::ignore::{BadPattern, Ignore};
use crate::ops::tree::{Filter, Tree, Verdict};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::ignore::{find_containerfile, find_ignore_file};

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

/// Patterns as a tree's filter.
pub(crate) fn filter(ignore: Arc<Ignore>) -> Filter {
    Arc::new(move |path| {
        // The verdict of a directory holds for what lies below it, so all of them are asked on the way.
        let bytes = path.as_os_str().as_bytes();
        let mut verdict = ignore.root();
        for end in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
            verdict = ignore.child(&verdict, &bytes[..end]);
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
