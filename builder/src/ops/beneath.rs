//! Paths in a tree that may be hostile: resolved beneath an open root, never by joining strings.
//!
//! A path is first made *canonical*: links are read one by one and followed as if the root were `/`. Everything is
//! then opened by its canonical path with links forbidden, so a tree that changes meanwhile gives an error, never a
//! file from outside.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// As the kernel's limit for one path.
const MAX_LINKS: usize = 40;

/// A path without links, relative to the root, and what is there.
#[derive(Debug, Clone)]
pub(crate) struct Canonical {
    /// Components below the root; empty for the root itself.
    pub(crate) path: PathBuf,
    /// What is there, or `None` where the path (from some component on) does not exist.
    pub(crate) stat: Option<Stat>,
}

impl Canonical {
    pub(crate) fn is_directory(&self) -> bool {
        self.stat.as_ref().is_some_and(is_directory)
    }
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    file_type(stat) == FileType::Directory
}

/// Follows all links of a path, the last one too where `follow_last`; `..` stops at the root.
pub(crate) fn canonical(root: BorrowedFd<'_>, path: &Path, follow_last: bool) -> io::Result<Canonical> {
    let mut todo: VecDeque<OsString> = components(path);
    let mut done = PathBuf::new();
    let mut stat = Some(rustix::fs::fstat(root)?);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            stat = stat_beneath(root, &done)?;
            continue;
        }
        let here = done.join(&name);
        let found = stat_beneath(root, &here)?;
        match found {
            Some(found) if file_type(&found) == FileType::Symlink && (follow_last || !todo.is_empty()) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = read_link(root, &here)?;
                if target.is_absolute() {
                    done = PathBuf::new();
                }
                let mut rest = components(&target);
                rest.append(&mut todo);
                todo = rest;
                stat = stat_beneath(root, &done)?;
            }
            found => {
                done = here;
                stat = found;
            }
        }
    }
    Ok(Canonical { path: done, stat })
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

/// The path with `.` and `..` taken out by their letters alone, as Go's `path.Clean("/" + path)`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// `lstat` of a canonical path; `None` where it, or a directory on the way, does not exist.
pub(crate) fn stat_beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<Stat>> {
    if path.as_os_str().is_empty() {
        return Ok(Some(rustix::fs::fstat(root)?));
    }
    let (parent, name) = split(path);
    let directory = match open_directory(root, parent) {
        Ok(directory) => directory,
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}

/// Parent and name of a canonical path that is not the root.
pub(crate) fn split(path: &Path) -> (&Path, &OsStr) {
    (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or(OsStr::new(".")))
}

/// Opens a canonical path without following any link.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        let result = openat2(
            root,
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        );
        match result {
            // The kernel asks to try again when a rename happens beside the resolution.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a directory for `*at` calls.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_beneath(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

fn read_link(root: BorrowedFd<'_>, path: &Path) -> io::Result<PathBuf> {
    let (parent, name) = split(path);
    let directory = open_directory(root, parent)?;
    read_link_at(directory.as_fd(), name)
}

/// Target of a link in an open directory.
pub(crate) fn read_link_at(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    let target = readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Reads a small regular file, following links within the root.
pub(crate) fn read_in_root(root: BorrowedFd<'_>, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let canonical = canonical(root, Path::new(path), true)?;
    match &canonical.stat {
        None => return Err(io::ErrorKind::NotFound.into()),
        Some(stat) if file_type(stat) != FileType::RegularFile => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Some(_) => {}
    }
    // NONBLOCK: a FIFO that took the file's place must not hold the build.
    let fd = open_beneath(root, &canonical.path, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than is read of such a file"));
    }
    Ok(bytes)
}

/// Names in a directory, sorted by bytes.
pub(crate) fn read_names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::write(path.join("a/b/file"), "x").unwrap();
        symlink("/a", path.join("absolute")).unwrap();
        symlink("../../../../a/b", path.join("a/up")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        symlink("/gone/deep", path.join("dangling")).unwrap();
        let root = std::fs::File::open(path).unwrap();
        let resolve = |text: &str| {
            canonical(root.as_fd(), Path::new(text), true)
                .map(|found| (found.path.to_str().unwrap().to_owned(), found.stat.is_some()))
        };
        assert_eq!(resolve("/").unwrap(), (String::new(), true));
        assert_eq!(resolve("absolute/b/file").unwrap(), ("a/b/file".into(), true));
        assert_eq!(resolve("a/up/file").unwrap(), ("a/b/file".into(), true));
        assert_eq!(resolve("../../a/./b").unwrap(), ("a/b".into(), true));
        assert_eq!(resolve("dangling/x").unwrap(), ("gone/deep/x".into(), false));
        assert_eq!(resolve("a/none/../b").unwrap(), ("a/b".into(), true));
        assert!(resolve("loop").is_err());
        assert!(open_beneath(root.as_fd(), Path::new("absolute/b"), OFlags::RDONLY).is_err());
        assert_eq!(read_in_root(root.as_fd(), "absolute/b/file", 10).unwrap(), b"x");
        assert!(read_in_root(root.as_fd(), "a/b/file", 0).is_err());
    }
}
