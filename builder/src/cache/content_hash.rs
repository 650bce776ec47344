//! Digests of what an operation selects of a tree: names, types, modes, content, link targets, extended attributes;
//! not times, because nobody goes by them; owners only where
//! COPY keeps them.
//!
//! Each file has a digest of its own (without its name and mode), so that the memory can keep it; the selection's
//! digest is made of names, modes and those. The paths with their digests are also kept as a [`Listing`].

use crate::cache::listing::{self, Listing};
use crate::cache::memory::{Memory, State};
use crate::ops::beneath::{self, Canonical};
use crate::ops::tree::{Tree, Visit};
use crate::ops::write::read_xattrs;
use crate::ops::{Error, io_error};
use crate::solver::{Broken, Compute};
use oci::{Digest, Digester};
use rayon::prelude::*;
use rustix::fs::{FileType, OFlags, Stat};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something selected, in order.
struct Item {
    /// What the key sees: the name at the destination, and the path below it.
    label: Vec<u8>,
    /// Where it lies in the input; `None` for what is no file.
    path: Option<Vec<u8>>,
    /// Type and permission bits.
    mode: u32,
    content: Content,
}

/// The digest of an item without its mode.
enum Content {
    /// Its digest is known already.
    Known(Digest),
    /// A regular file that has to be read.
    Read(usize),
}

/// A file that has to be read.
struct Unread {
    path: PathBuf,
    state: State,
}

/// Files up to this many bytes together are hashed where we are; more are handed over.
const INLINE_BYTES: u64 = 1 << 20;
/// Files that one thread hashes in a row.
const CHUNK: usize = 64;
const BUFFER: usize = 128 << 10;

/// Collects what is selected, then reads what is not remembered.
pub(crate) struct Selection<'a> {
    memory: Option<&'a Memory>,
    items: Vec<Item>,
    unread: Vec<(Tree, Unread)>,
    bytes: u64,
    owners: bool,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(memory: Option<&'a Memory>) -> Self {
        Self { memory, items: Vec::new(), unread: Vec::new(), bytes: 0, owners: false }
    }

    /// Makes owners count: those of stages and images are kept or seen, those of the host are not.
    pub(crate) fn with_owners(self, owners: bool) -> Self {
        Self { owners, ..self }
    }

    /// Adds bytes that the key depends on.
    pub(crate) fn add_bytes(&mut self, name: &[u8], bytes: &[u8]) {
        let content = Content::Known(Digest::of(bytes));
        self.items.push(Item { label: name.to_vec(), path: None, mode: 0, content });
    }

    /// Adds what is at a path and, for a directory, below it. Of a directory whose contents alone are copied, its
    /// own mode and attributes do not count.
    pub(crate) fn add(
        &mut self,
        tree: &Tree,
        name: &Path,
        source: &Canonical,
        contents_only: bool,
    ) -> Result<(), Error> {
        tree.walk(source, &mut |entry, visit| {
            if visit == Visit::Leave {
                return Ok(());
            }
            let path = source.path.join(entry.path);
            let mut label = name.as_os_str().as_bytes().to_vec();
            label.push(0);
            label.extend_from_slice(entry.path.as_os_str().as_bytes());
            let shown = path.components().as_path().as_os_str().as_bytes().to_vec();
            let item =
                if entry.path.as_os_str().is_empty() && contents_only && beneath::is_directory(entry.stat) {
                    Item { label, path: None, mode: 0, content: Content::Known(Digest::of(b"contents")) }
                } else {
                    if self.owners {
                        label.push(0);
                        label.extend_from_slice(&entry.stat.st_uid.to_le_bytes());
                        label.extend_from_slice(&entry.stat.st_gid.to_le_bytes());
                    }
                    let content = self.content(tree, path, entry.stat)?;
                    Item { label, path: Some(shown), mode: mode(entry.stat), content }
                };
            self.items.push(item);
            Ok(())
        })
    }

    fn content(&mut self, tree: &Tree, path: PathBuf, stat: &Stat) -> Result<Content, Error> {
        let mut digester = Digester::new();
        match beneath::file_type(stat) {
            FileType::RegularFile => {
                let state = State::of(stat);
                if let Some(known) = self.memory.and_then(|memory| memory.get(&state)) {
                    return Ok(Content::Known(known));
                }
                self.bytes += u64::try_from(stat.st_size).unwrap_or(0);
                self.unread.push((tree.clone(), Unread { path, state }));
                return Ok(Content::Read(self.unread.len() - 1));
            }
            FileType::Symlink => {
                let (parent, name) = beneath::split(&path);
                let directory =
                    beneath::open_directory(tree.root(), parent).map_err(io_error("open", parent))?;
                let target =
                    beneath::read_link_at(directory.as_fd(), name).map_err(io_error("read", &path))?;
                digester.update(target.as_os_str().as_bytes());
            }
            FileType::Directory => {
                let fd = beneath::open_beneath(tree.root(), &path, OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(io_error("open", &path))?;
                add_xattrs(&mut digester, fd.as_fd(), &path)?;
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                digester.update(&stat.st_rdev.to_le_bytes());
            }
            _ => {}
        }
        Ok(Content::Known(digester.finish()))
    }

    /// Reads what has to be read; makes the digest of all, and the list of it.
    pub(crate) fn finish(self, compute: Compute) -> Result<(Digest, Listing), Error> {
        let Self { memory, items, unread, bytes, owners: _ } = self;
        let unread: Arc<Vec<(Tree, Unread)>> = Arc::new(unread);
        let digests: Vec<Result<Digest, Error>> = if bytes <= INLINE_BYTES {
            hash_files(&unread)
        } else {
            let handed = unread.clone();
            compute
                .spawn(move || handed.par_chunks(CHUNK).flat_map_iter(hash_files).collect::<Vec<_>>())
                .wait()?
        };
        let digests = digests.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let Some(memory) = memory {
            for ((_, file), digest) in unread.iter().zip(&digests) {
                memory.put(&file.state, digest);
            }
        }
        let mut all = Digester::new();
        let mut entries = Vec::with_capacity(items.len());
        for Item { label, path, mode, content } in items {
            let digest = match content {
                Content::Known(digest) => digest,
                Content::Read(index) => digests.get(index).ok_or(Broken::Stuck)?.clone(),
            };
            all.update(&(label.len() as u64).to_le_bytes());
            all.update(&label);
            all.update(&mode.to_le_bytes());
            all.update(digest.as_str().as_bytes());
            if let Some(path) = path {
                entries.push(listing::Entry { path, mode, digest });
            }
        }
        Ok((all.finish(), Listing::new(entries, listing::MOST)))
    }
}

/// Type and permission bits, as far as they count.
fn mode(stat: &Stat) -> u32 {
    match beneath::file_type(stat) {
        // Links have no mode of their own.
        FileType::Symlink => stat.st_mode & 0o170_000,
        _ => stat.st_mode & 0o177_777,
    }
}

fn add_xattrs(digester: &mut Digester, file: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    for (name, value) in read_xattrs(file).map_err(io_error("read attributes of", path))? {
        digester.update(&(name.len() as u64).to_le_bytes());
        digester.update(name.as_bytes());
        digester.update(&(value.len() as u64).to_le_bytes());
        digester.update(&value);
    }
    digester.update(b"\0content");
    Ok(())
}

/// Digests of files; neighbours share the directory that they are opened in.
fn hash_files(files: &[(Tree, Unread)]) -> Vec<Result<Digest, Error>> {
    let mut buffer = vec![0; BUFFER];
    let mut last: Option<(RawFd, &Path, OwnedFd)> = None;
    let mut digests = Vec::with_capacity(files.len());
    for (tree, file) in files {
        let (parent, name) = beneath::split(&file.path);
        let root = tree.root().as_raw_fd();
        if !last.as_ref().is_some_and(|(of, path, _)| *of == root && *path == parent) {
            last = match beneath::open_directory(tree.root(), parent) {
                Ok(directory) => Some((root, parent, directory)),
                Err(error) => {
                    digests.push(Err(io_error("open", parent)(error)));
                    continue;
                }
            };
        }
        if let Some((_, _, directory)) = &last {
            digests.push(hash_file(directory.as_fd(), name, &file.path, &mut buffer));
        }
    }
    digests
}

fn hash_file(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    buffer: &mut [u8],
) -> Result<Digest, Error> {
    let mut file = crate::ops::write::open_regular(directory, name).map_err(io_error("open", path))?;
    let mut digester = Digester::new();
    add_xattrs(&mut digester, file.as_fd(), path)?;
    loop {
        let read = file.read(buffer).map_err(io_error("read", path))?;
        if read == 0 {
            return Ok(digester.finish());
        }
        digester.update(&buffer[..read]);
    }
}
