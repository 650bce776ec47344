//! A tree that files are taken from: the context, a stage or an image.

use super::Error;
use super::beneath::{self, Canonical};
use super::glob;
use rustix::fs::{AtFlags, OFlags, Stat, statat};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a filter says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there.
    Keep,
    /// It is not there, nor anything below it.
    Drop,
    /// It is not there by itself, but something below it may be.
    DropButLook,
}

/// Says of a path, relative to the tree's root, whether it is there.
pub(crate) type Filter = Arc<dyn Fn(&Path) -> Verdict + Send + Sync>;

/// An open tree with what is hidden of it.
#[derive(Clone)]
pub(crate) struct Tree {
    root: Arc<OwnedFd>,
    filter: Option<Filter>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("root", &self.root).field("filtered", &self.filter.is_some()).finish()
    }
}

/// Something that a COPY source names.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// Where it is in the tree, links followed.
    pub(crate) source: Canonical,
    /// What it is called in a destination directory: its last name, or with `--parents` the path that is kept.
    pub(crate) name: PathBuf,
}

/// An entry met by a walk.
pub(crate) struct Entry<'a> {
    /// The directory that holds it, and its name there.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    /// Path below the walk's start.
    pub(crate) path: &'a Path,
    pub(crate) stat: &'a Stat,
}

/// When a directory is told to a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visit {
    /// A directory before its entries, or anything else.
    Enter,
    /// A directory after its entries.
    Leave,
}

impl Tree {
    pub(crate) fn new(root: OwnedFd, filter: Option<Filter>) -> Self {
        Self { root: Arc::new(root), filter }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The same tree with more hidden, as seen from `base`.
    pub(crate) fn hiding(&self, exclude: Filter, base: &Path) -> Self {
        let before = self.filter.clone();
        let base = base.to_owned();
        let filter: Filter = Arc::new(move |path| {
            let first = before.as_ref().map_or(Verdict::Keep, |filter| filter(path));
            if first != Verdict::Keep {
                return first;
            }
            match path.strip_prefix(&base) {
                Ok(below) if !below.as_os_str().is_empty() => exclude(below),
                _ => Verdict::Keep,
            }
        });
        Self { root: self.root.clone(), filter: Some(filter) }
    }

    /// Whether something that was found is not hidden, or may have something below it that is not.
    pub(crate) fn shows(&self, found: &Canonical) -> bool {
        match self.verdict(&found.path) {
            Verdict::Keep => true,
            Verdict::DropButLook => found.is_directory(),
            Verdict::Drop => false,
        }
    }

    pub(super) fn verdict(&self, path: &Path) -> Verdict {
        match &self.filter {
            Some(filter) if !path.as_os_str().is_empty() => filter(path),
            _ => Verdict::Keep,
        }
    }

    /// What a source of COPY or ADD names: one path that must exist, or what a pattern matches, which may be nothing.
    pub(crate) fn select(&self, source: &str) -> Result<Vec<Selected>, Error> {
        let clean = beneath::clean(Path::new(source));
        let parts: Vec<&str> = clean.iter().filter_map(OsStr::to_str).collect();
        let fixed = parts.iter().position(|part| glob::is_pattern(part)).unwrap_or(parts.len());
        let start: PathBuf = parts[..fixed].iter().collect();
        if fixed == parts.len() {
            let found = self.resolve(&start, source)?;
            let found = found.ok_or_else(|| Error::NotFound { path: format!("/{}", clean.display()) })?;
            let name = PathBuf::from(clean.file_name().unwrap_or_default());
            return Ok(vec![Selected { source: found, name }]);
        }
        let mut selected = Vec::new();
        if let Some(found) = self.resolve(&start, source)? {
            self.match_below(&found.path, &parts[fixed..], source, &mut selected)?;
        }
        Ok(selected)
    }

    /// What a source of `COPY --parents` names, and where the path that is kept begins: after a `/./`, or at the tree's
    /// root.
    pub(crate) fn select_parents(&self, source: &str) -> Result<(PathBuf, Vec<Selected>), Error> {
        let (start, pattern) = match source.split_once("/./") {
            Some((start, pattern)) => (start, pattern),
            None => ("", source),
        };
        let clean = beneath::clean(Path::new(pattern));
        let parts: Vec<&str> = clean.iter().filter_map(OsStr::to_str).collect();
        let patterned = parts.iter().any(|part| glob::is_pattern(part));
        let base = self.resolve(&beneath::clean(Path::new(start)), source)?;
        let Some(base) = base.filter(Canonical::is_directory) else {
            return Err(Error::NotFound { path: source.to_owned() });
        };
        if !patterned {
            let found = self.resolve(&base.path.join(&clean), source)?;
            let found = found.ok_or_else(|| Error::NotFound { path: format!("/{}", clean.display()) })?;
            return Ok((base.path, vec![Selected { source: found, name: clean }]));
        }
        let mut selected: Vec<Selected> = Vec::new();
        self.walk(&base, &mut |entry, visit| {
            let names: Vec<&OsStr> = entry.path.iter().collect();
            let below = selected.last().is_some_and(|last| entry.path.starts_with(&last.name));
            if visit == Visit::Enter && !below && !names.is_empty() && glob::matches_path(&parts, &names) {
                selected.push(Selected {
                    source: Canonical { path: base.path.join(entry.path), stat: Some(*entry.stat) },
                    name: entry.path.to_owned(),
                });
            }
            Ok(())
        })?;
        Ok((base.path.clone(), selected))
    }

    /// Follows a path's links; `None` where nothing is there, or it is hidden.
    pub(crate) fn resolve(&self, path: &Path, shown: &str) -> Result<Option<Canonical>, Error> {
        let found = beneath::canonical(self.root(), path, true).map_err(|source| Error::Io {
            action: "resolve",
            path: shown.into(),
            source,
        })?;
        if found.stat.is_none() {
            return Ok(None);
        }
        match self.verdict(&found.path) {
            Verdict::Keep => Ok(Some(found)),
            // A directory with something left below it is there, for that.
            Verdict::DropButLook if found.is_directory() => Ok(Some(found)),
            _ => Ok(None),
        }
    }

    /// Matches one component after the other. As in Go's walk, only what the pattern ends at may be a link.
    fn match_below(
        &self,
        directory: &Path,
        parts: &[&str],
        shown: &str,
        selected: &mut Vec<Selected>,
    ) -> Result<(), Error> {
        let failed = |source| Error::Io { action: "read", path: directory.into(), source };
        let fd = match beneath::open_beneath(self.root(), directory, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for name in beneath::read_names(fd.as_fd()).map_err(failed)? {
            if !glob::matches(parts[0], &name) {
                continue;
            }
            let path = directory.join(&name);
            if parts.len() > 1 {
                let stat = statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(e.into()))?;
                if beneath::is_directory(&stat) && self.verdict(&path) != Verdict::Drop {
                    self.match_below(&path, &parts[1..], shown, selected)?;
                }
            } else if self.verdict(&path) != Verdict::Drop
                && let Some(found) = self.resolve(&path, shown)?
            {
                selected.push(Selected { source: found, name: PathBuf::from(name) });
            }
        }
        Ok(())
    }

    /// Visits what is at `start` and below it, in the order of the names' bytes; directories twice. A hidden
    /// directory is visited when something in it is not hidden.
    pub(crate) fn walk(
        &self,
        start: &Canonical,
        visit: &mut dyn FnMut(&Entry<'_>, Visit) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(stat) = &start.stat else { return Ok(()) };
        super::walk::walk(self, &start.path, stat, visit)
    }
}
