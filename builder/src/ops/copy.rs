//! COPY and ADD: from trees, texts and downloads into one destination tree.
//!
//! The rules are `BuildKit`'s (observed in 0.26 and read in its documentation): of a directory the contents are
//! copied; existing destination directories keep their owner and mode, those below them take the source's; a file
//! never replaces a directory, nor a directory a file; hard links within one source stay hard links. Sockets are
//! left out.

use super::beneath::{self, Canonical};
use super::owner::{self, Owner};
use super::pour::Pour;
use super::tree::{Entry, Selected, Tree};
use super::write::{self, Content, Destination, Links, Meta, Special, rooted};
use super::{Error, glob, io_error};
use crate::graph::{CopyOp, CopySource};
use crate::ignore::Ignore;
use crate::instruction::{Permissions, parse_chmod};
use crate::ports::Cancel;
use crate::solver::Broken;
use rustix::fs::{FileType, Stat, Timespec};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Input of a copy by its number in the vertex.
pub(crate) enum Input<'a> {
    /// A tree.
    Tree(&'a Tree),
    /// A downloaded file, and when the server says that it was changed.
    Download(&'a Arc<File>, Option<i64>),
}

/// The trees that a COPY takes from, without what `--exclude` hides.
pub(crate) fn hide_excluded(op: &CopyOp, tree: &Tree, base: &Path) -> Result<Tree, Error> {
    if op.exclude.is_empty() {
        return Ok(tree.clone());
    }
    let ignore = Ignore::from_patterns(op.exclude.iter().map(String::as_str)).map_err(|error| {
        Error::InvalidValue { what: "--exclude", value: error.pattern.clone(), reason: error.to_string() }
    })?;
    Ok(tree.hiding(crate::context::filter(Arc::new(ignore)), base))
}

/// What one source path names, and the tree to walk it in.
///
/// Patterns of `--exclude` count from the directory that is copied, with `--parents` from where the kept path begins,
/// and from its directory for what a wildcard found; a file is asked for by its own name.
pub(crate) fn select(op: &CopyOp, tree: &Tree, path: &str) -> Result<Vec<(Tree, Selected)>, Error> {
    if op.parents {
        let (base, selected) = tree.select_parents(path)?;
        let tree = hide_excluded(op, tree, &base)?;
        let there = selected.into_iter().filter(|selected| tree.shows(&selected.source));
        return Ok(there.map(|selected| (tree.clone(), selected)).collect());
    }
    let wild = glob::is_pattern(path);
    let mut there = Vec::new();
    for selected in tree.select(path)? {
        let parent = selected.source.path.parent().unwrap_or(Path::new(""));
        if wild && !hide_excluded(op, tree, parent)?.shows(&selected.source) {
            continue;
        }
        let base = if selected.source.is_directory() { &selected.source.path } else { parent };
        there.push((hide_excluded(op, tree, base)?, selected));
    }
    Ok(there)
}

/// Copies all sources of an operation into a tree. `input` gives the inputs by their number in the vertex.
pub(crate) fn copy_all<'a>(
    op: &CopyOp,
    destination: Destination<'_>,
    input: &dyn Fn(usize) -> Option<Input<'a>>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let chmod = op.chmod.as_deref().map(parse_chmod_value).transpose()?;
    let chown = op.chown.as_deref().map(|text| owner::resolve(destination.root, text)).transpose()?;
    let mut copier = Copier {
        op,
        destination,
        owner: chown.unwrap_or_default(),
        chown: chown.is_some(),
        chmod,
        cancel,
        placed: 0,
    };
    for source in &op.sources {
        match source {
            CopySource::Path { input: number, path } => {
                let Some(Input::Tree(tree)) = input(*number) else { return Err(missing_input()) };
                for (tree, selected) in select(op, tree, path)? {
                    copier.copy(&tree, &selected)?;
                }
            }
            CopySource::Text { name, content } => {
                let meta = Meta { owner: copier.owner, mode: copier.mode(0o644, false), mtime: now() };
                copier.put_one(OsStr::new(name), &meta, &mut Content::Bytes(content.as_bytes()))?;
            }
            CopySource::Download { input: number, name, unpack } => {
                let Some(Input::Download(file, modified)) = input(*number) else {
                    return Err(missing_input());
                };
                let mut file = reopen(file, name)?;
                if *unpack && copier.unpack_file(reopen(&file, name)?, name)? {
                    continue;
                }
                let mtime = modified.map_or_else(now, |seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
                let meta = Meta { owner: copier.owner, mode: copier.mode(0o600, false), mtime };
                copier.put_one(OsStr::new(name), &meta, &mut Content::File(&mut file, u64::MAX))?;
            }
        }
    }
    Ok(())
}

fn missing_input() -> Error {
    // The graph is made by `lower` alone, which counts inputs and sources together.
    Broken::Stuck.into()
}

pub(crate) fn parse_chmod_value(text: &str) -> Result<Permissions, Error> {
    parse_chmod(text).map_err(|reason| Error::InvalidValue {
        what: "--chmod",
        value: text.to_owned(),
        reason,
    })
}

fn now() -> Timespec {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: i64::try_from(now.as_secs()).unwrap_or(0), tv_nsec: i64::from(now.subsec_nanos()) }
}

struct Copier<'a> {
    op: &'a CopyOp,
    destination: Destination<'a>,
    owner: Owner,
    /// Whether `owner` was asked for: archives keep their owners otherwise.
    chown: bool,
    chmod: Option<Permissions>,
    cancel: &'a Cancel,
    /// Files that went to the destination's own name.
    placed: usize,
}

impl Copier<'_> {
    fn mode(&self, mode: u32, is_directory: bool) -> u32 {
        let mode = mode & 0o7777;
        self.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, is_directory))
    }

    fn meta(&self, stat: &Stat) -> Meta {
        let mode = self.mode(stat.st_mode, beneath::is_directory(stat));
        let owner = match self.op.keep_owners && !self.chown {
            true => Owner { uid: stat.st_uid, gid: stat.st_gid },
            false => self.owner,
        };
        Meta { owner, mode, mtime: write::mtime(stat) }
    }

    /// Whether the destination is written as a directory.
    fn is_directory_form(&self) -> bool {
        let text = &self.op.destination;
        text.ends_with('/') || text.ends_with("/.") || text == "."
    }

    /// Where the destination leads, its parents made: the directory itself where it is written as one.
    fn resolve(&self) -> Result<Canonical, Error> {
        let root = self.destination.root;
        let text = Path::new(&self.op.destination);
        let clean = beneath::clean(text);
        let ensured =
            if self.is_directory_form() { clean.as_path() } else { clean.parent().unwrap_or(Path::new("")) };
        let canonical =
            |path: &Path| beneath::canonical(root, path, true).map_err(io_error("resolve", rooted(path)));
        self.destination.make_directories(&canonical(ensured)?.path, self.owner)?;
        canonical(&clean)
    }

    /// Puts one file at the destination, or into it where it is a directory.
    fn place(&mut self, name: &Path) -> Result<(OwnedFd, OsString, PathBuf), Error> {
        let mut target = self.resolve()?;
        if target.is_directory() {
            target = Canonical { path: target.path.join(name), stat: None };
        } else {
            self.placed += 1;
            if self.placed > 1 || self.op.sources.len() > 1 {
                return Err(Error::SeveralSources { destination: self.op.destination.clone() });
            }
        }
        let (parent, file_name) = beneath::split(&target.path);
        let directory = self.destination.make_directories(parent, self.owner)?;
        Ok((directory, file_name.to_owned(), target.path.clone()))
    }

    fn put_one(&mut self, name: &OsStr, meta: &Meta, content: &mut Content<'_>) -> Result<(), Error> {
        let (directory, name, shown) = self.place(Path::new(name))?;
        write::put_file(directory.as_fd(), &name, &shown, meta, content)
    }

    fn copy(&mut self, tree: &Tree, selected: &Selected) -> Result<(), Error> {
        let Some(stat) = &selected.source.stat else { return Ok(()) };
        if self.op.parents {
            return self.copy_with_parents(tree, selected);
        }
        if beneath::is_directory(stat) {
            let target = self.resolve()?;
            if target.stat.is_some() && !target.is_directory() {
                return Err(Error::NotADirectory { path: rooted(&target.path) });
            }
            let directory = self.destination.make_directories(&target.path, self.owner)?;
            return self.copy_tree(tree, &selected.source, directory, &target.path);
        }
        if self.op.unpack && self.unpack(tree, selected)? {
            return Ok(());
        }
        let (directory, name, shown) = self.place(&selected.name)?;
        let (parent, source_name) = beneath::split(&selected.source.path);
        let source = beneath::open_directory(tree.root(), parent).map_err(io_error("open", parent))?;
        let entry = Entry { directory: source.as_fd(), name: source_name, path: &selected.source.path, stat };
        self.put_node(directory.as_fd(), false, &name, &shown, &entry, &mut Links::new())
    }

    /// `--parents`: the directories on the way are made as they are in the source.
    fn copy_with_parents(&mut self, tree: &Tree, selected: &Selected) -> Result<(), Error> {
        let mut target = self.resolve()?.path;
        if !self.is_directory_form() {
            // With --parents the destination is always a directory.
            self.destination.make_directories(&target, self.owner)?;
        }
        let above = selected.name.iter().count();
        let mut source: PathBuf = selected.source.path.iter().collect();
        let mut sources = vec![source.clone()];
        for _ in 1..above.max(1) {
            source.pop();
            sources.push(source.clone());
        }
        sources.reverse();
        let is_directory = selected.source.is_directory();
        let mut directory = self.destination.make_directories(&target, self.owner)?;
        let names: Vec<&OsStr> = selected.name.iter().collect();
        let directories = if is_directory { names.len() } else { names.len().saturating_sub(1) };
        for (name, source) in names.iter().zip(&sources).take(directories) {
            target.push(name);
            let existed =
                write::stat_name(directory.as_fd(), name).map_err(io_error("stat", &target))?.is_some();
            directory = self.destination.make_directories(&target, self.owner)?;
            if !existed {
                let fd = beneath::open_beneath(tree.root(), source, rustix::fs::OFlags::RDONLY)
                    .map_err(io_error("open", source))?;
                let stat = rustix::fs::fstat(&fd).map_err(|error| io_error("stat", source)(error.into()))?;
                write::finish_directory(&directory, Some(fd.as_fd()), &target, &self.meta(&stat))?;
            }
        }
        if is_directory {
            return self.copy_tree(tree, &selected.source, directory, &target);
        }
        let (Some(stat), Some(name)) = (&selected.source.stat, names.last()) else { return Ok(()) };
        let (parent, source_name) = beneath::split(&selected.source.path);
        let source = beneath::open_directory(tree.root(), parent).map_err(io_error("open", parent))?;
        let entry = Entry { directory: source.as_fd(), name: source_name, path: &selected.source.path, stat };
        self.put_node(directory.as_fd(), false, name, &target.join(name), &entry, &mut Links::new())
    }

    /// Copies what is in a directory into an open one.
    fn copy_tree(
        &self,
        tree: &Tree,
        source: &Canonical,
        directory: OwnedFd,
        target: &Path,
    ) -> Result<(), Error> {
        let pour = Pour {
            destination: &self.destination,
            meta: &|stat| self.meta(stat),
            special: &|directory, shown, entry, links| {
                self.put_node(directory.as_fd(), directory.fresh, entry.name, shown, entry, links)
            },
            cancel: self.cancel,
        };
        pour.run(tree, source, directory, target)
    }

    /// Copies anything but a directory. `fresh`: the directory is the layer's own.
    fn put_node(
        &self,
        directory: BorrowedFd<'_>,
        fresh: bool,
        name: &OsStr,
        shown: &Path,
        entry: &Entry<'_>,
        links: &mut Links,
    ) -> Result<(), Error> {
        let meta = self.meta(entry.stat);
        match beneath::file_type(entry.stat) {
            FileType::RegularFile => {
                let linked = entry.stat.st_nlink > 1;
                if linked && let Some(first) = links.get(&write::identity(entry.stat)) {
                    return self.destination.put_hard_link(first, directory, fresh, name, shown);
                }
                let mut file =
                    write::open_regular(entry.directory, entry.name).map_err(io_error("open", entry.path))?;
                let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
                write::put_file(directory, name, shown, &meta, &mut Content::File(&mut file, size))?;
                if linked {
                    links.insert(write::identity(entry.stat), shown.to_owned());
                }
                Ok(())
            }
            FileType::Symlink => {
                let target = beneath::read_link_at(entry.directory, entry.name)
                    .map_err(io_error("read", entry.path))?;
                write::put_special(directory, name, shown, &meta, &Special::Link(target))
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                let device = entry.stat.st_rdev;
                if kind == FileType::CharacterDevice && device == 0 {
                    // In an upper directory this device is not a file but the mark of a deleted one.
                    return Err(io_error("copy", entry.path)(std::io::ErrorKind::Unsupported.into()));
                }
                write::put_special(directory, name, shown, &meta, &Special::Node { kind, device })
            }
            _ => Ok(()),
        }
    }

    /// Unpacks a source that is an archive into the destination; says whether it was one.
    fn unpack(&mut self, tree: &Tree, selected: &Selected) -> Result<bool, Error> {
        let Some(stat) = &selected.source.stat else { return Ok(false) };
        if beneath::file_type(stat) != FileType::RegularFile {
            return Ok(false);
        }
        let (parent, name) = beneath::split(&selected.source.path);
        let source = beneath::open_directory(tree.root(), parent).map_err(io_error("open", parent))?;
        let file =
            write::open_regular(source.as_fd(), name).map_err(io_error("open", &selected.source.path))?;
        self.unpack_file(file, &selected.name.display().to_string())
    }

    fn unpack_file(&mut self, file: File, shown: &str) -> Result<bool, Error> {
        let Some(archive) = super::unpack::open(file, shown)? else { return Ok(false) };
        let target =
            beneath::canonical(self.destination.root, &beneath::clean(Path::new(&self.op.destination)), true)
                .map_err(io_error("resolve", rooted(Path::new(&self.op.destination))))?;
        if target.stat.is_some() && !target.is_directory() {
            return Err(Error::NotADirectory { path: rooted(&target.path) });
        }
        self.destination.make_directories(&target.path, self.owner)?;
        let owner = self.chown.then_some(self.owner);
        super::unpack::extract(archive, self.destination.root, &target.path, owner, shown)?;
        Ok(true)
    }
}

/// Opens a file again: a clone would share the position.
fn reopen(file: &File, shown: &str) -> Result<File, Error> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
    sys::fs::open(Path::new(&path)).map_err(|error| Error::Io {
        action: "open",
        path: shown.into(),
        source: error.source,
    })
}

/// Opens a source directory that a walk is leaving.
pub(super) fn write_source(entry: &Entry<'_>) -> std::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(entry.directory, entry.name, flags, Mode::empty())?)
}
