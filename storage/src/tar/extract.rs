//! The extractor: entries onto a directory, through directory descriptors.
//!
//! A name is split into components; each directory is opened beneath its parent without following links, and
//! the descriptors of the current directory's ancestors are kept, because streams are in tree order. A parent
//! that is a symbolic link is resolved by `openat2` inside the root (`RESOLVE_IN_ROOT`), so it can lead nowhere
//! else, even while another process renames directories of the tree. Files are made with `O_EXCL`: whatever
//! stood in their place is removed first, never written through.
//!
//! Order of calls on a file: content, owner, mode (`chown` clears set-user-id), attributes (`chown` clears
//! capabilities), time. Times of directories are set last of all. A call is left out where its effect is known
//! to be there already.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use sys::writeback::Writeback;

use super::error::{Error, Fault, entry as refuse, io_at, show};
use super::read::{Entry, EntryKind, Limits, Reader, Timestamp};
use super::whiteout;

/// How many of the skipped things are named in the report.
const NAMED: usize = 16;

/// What names starting with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Nothing: the stream is an ordinary archive.
    Ordinary,
    /// Deletions from the tree below, which is a full root file system (a copy, or a mounted overlay).
    Apply,
    /// Deletions to be kept in the form that overlayfs reads; the tree holds this layer alone.
    Overlay {
        /// Attributes go to `user.` instead of `trusted.`.
        user_namespace: bool,
    },
}

/// Who owns what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Owners as in the stream; failing to set one is an error.
    Stream,
    /// Owners as in the stream; one that the user namespace does not map is left out and reported.
    StreamIfMapped,
    /// One owner and group for all.
    Fixed(u32, u32),
    /// The calling process.
    Caller,
}

/// Receives path, length in bytes and CRC-32 of the content of each regular file.
pub type ChecksumSink<'a> = &'a mut (dyn FnMut(&[u8], u64, u32) + Send);

/// How to unpack.
pub struct ExtractOptions<'a> {
    /// What `.wh.` names mean.
    pub whiteouts: Whiteouts,
    /// Who owns what is made.
    pub ownership: Ownership,
    /// Bounds on the stream.
    pub limits: Limits,
    /// Directory beneath the root under which all entries go; made when missing. Links resolve from the root.
    pub destination: PathBuf,
    /// Devices that may not be made are left out and reported, as in a user namespace.
    pub skip_devices: bool,
    /// Called with path, length and CRC-32 of each regular file's content.
    pub checksum: Option<ChecksumSink<'a>>,
}

impl std::fmt::Debug for ExtractOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtractOptions")
            .field("whiteouts", &self.whiteouts)
            .field("ownership", &self.ownership)
            .field("limits", &self.limits)
            .field("destination", &self.destination)
            .field("skip_devices", &self.skip_devices)
            .field("checksum", &self.checksum.is_some())
            .finish()
    }
}

impl Default for ExtractOptions<'_> {
    /// An ordinary archive with the owners that it names.
    fn default() -> Self {
        Self {
            whiteouts: Whiteouts::Ordinary,
            ownership: Ownership::Stream,
            limits: Limits::default(),
            destination: PathBuf::new(),
            skip_devices: false,
            checksum: None,
        }
    }
}

/// What could not be made and was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Devices, for want of the right to make them.
    pub devices: u64,
    /// Owners that the user namespace does not map.
    pub owners: u64,
    /// Extended attributes that the file system or the kernel refuses, and those of overlayfs itself.
    pub xattrs: u64,
    /// The first of these, as `WHAT PATH`.
    pub named: Vec<String>,
}

/// What an extraction made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// Entries read.
    pub entries: u64,
    /// Sum of the sizes of the regular files, in bytes; hard links count once.
    pub unpacked_size: u64,
    /// Directories that entries implied without listing them, made with mode 0755 and owner 0:0. In a layer
    /// they take owner, mode and time from the directory below.
    pub implied: Vec<PathBuf>,
    /// What was left out.
    pub skipped: Skipped,
}

/// Unpacks a tar stream beneath `root` and leaves the stream after its end mark.
///
/// `root` may be opened with `O_PATH`. On an error what was made so far stays; the caller owns the directory.
pub fn extract_into<R: BufRead>(
    root: BorrowedFd<'_>,
    source: &mut Reader<R>,
    options: ExtractOptions<'_>,
) -> Result<Extracted, Error> {
    let mut extractor = Extractor::new(root, options)?;
    while let Some(entry) = source.next_entry()? {
        extractor.report.entries += 1;
        extractor.apply(entry, source)?;
    }
    extractor.finish()
}

/// An open directory on the way to the current entry.
#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    /// New files inherit this group instead of the caller's.
    set_gid: Option<u32>,
    mtime: Timestamp,
    /// Reached through a symbolic link: its textual path is not its own.
    linked: bool,
    /// Its time is in the list already.
    kept: bool,
}

struct Extractor<'a, 'o> {
    root: BorrowedFd<'a>,
    root_level: Level,
    options: ExtractOptions<'o>,
    prefix: Vec<Vec<u8>>,
    umask: u32,
    uid: u32,
    gid: u32,
    stack: Vec<Level>,
    /// Times to set at the end, by path.
    times: BTreeMap<Vec<u8>, Timestamp>,
    /// Paths made by this stream, where whiteouts must spare them.
    made: BTreeSet<Vec<u8>>,
    report: Extracted,
}

impl<'a, 'o> Extractor<'a, 'o> {
    fn new(root: BorrowedFd<'a>, options: ExtractOptions<'o>) -> Result<Self, Error> {
        let fd = open_directory(root, b".").map_err(io_at("open", b""))?;
        let root_level = Level::of(Vec::new(), fd, false)?;
        let mut prefix = Vec::new();
        let destination = options.destination.as_os_str().as_encoded_bytes().to_vec();
        for part in components(&destination, &destination, &options.limits)? {
            prefix.push(part.to_vec());
        }
        Ok(Self {
            root,
            umask: umask_for(root_level.fd.as_fd()),
            root_level,
            options,
            prefix,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            stack: Vec::new(),
            times: BTreeMap::new(),
            made: BTreeSet::new(),
            report: Extracted::default(),
        })
    }

    fn layer(&self) -> bool {
        self.options.whiteouts != Whiteouts::Ordinary
    }

    fn staged(&self) -> bool {
        matches!(self.options.whiteouts, Whiteouts::Overlay { .. })
    }

    fn apply<R: BufRead>(&mut self, mut entry: Entry, source: &mut Reader<R>) -> Result<(), Error> {
        let shown = std::mem::take(&mut entry.path);
        let parts = components(&shown, &shown, &self.options.limits)?;
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return Err(refuse(&shown, Fault::Owner));
        }
        if let Ownership::Fixed(uid, gid) = self.options.ownership {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if parts.is_empty() && self.prefix.is_empty() {
            return self.apply_root(&entry, &shown);
        }
        if self.layer() {
            let (name, parents) = parts.split_last().map_or((&b""[..], &[][..]), |(n, p)| (*n, p));
            if parts.iter().any(|part| part.starts_with(whiteout::META_PREFIX) && *part != whiteout::OPAQUE) {
                return Ok(());
            }
            if parents.iter().any(|part| part.starts_with(whiteout::PREFIX)) {
                return Err(refuse(&shown, Fault::Whiteout));
            }
            if name == whiteout::OPAQUE {
                return self.hide_below(parents, &shown);
            }
            if let Some(hidden) = name.strip_prefix(whiteout::PREFIX) {
                return self.delete(parents, hidden, &shown);
            }
        }
        if self.prefix.is_empty() {
            return self.make(&parts, false, &entry, &shown, source);
        }
        let prefix = self.prefix.clone();
        let mut all: Vec<&[u8]> = prefix.iter().map(Vec::as_slice).collect();
        all.extend_from_slice(&parts);
        self.make(&all, parts.is_empty(), &entry, &shown, source)
    }

    /// `./` in a layer describes the root; in an archive it says nothing about the directory it is put into.
    fn apply_root(&mut self, entry: &Entry, shown: &[u8]) -> Result<(), Error> {
        if entry.kind != EntryKind::Directory {
            return Err(refuse(shown, Fault::BadName));
        }
        if !self.layer() {
            return Ok(());
        }
        let fd = open_directory(self.root, b".").map_err(io_at("open", b""))?;
        self.set_directory(fd.as_fd(), entry, shown)?;
        self.times.insert(Vec::new(), entry.mtime);
        self.root_level = Level::of(Vec::new(), fd, false)?;
        Ok(())
    }

    fn make<R: BufRead>(
        &mut self,
        parts: &[&[u8]],
        is_destination: bool,
        entry: &Entry,
        shown: &[u8],
        source: &mut Reader<R>,
    ) -> Result<(), Error> {
        let Some((name, parents)) = parts.split_last() else { return Ok(()) };
        let target = match entry.kind {
            EntryKind::HardLink => Some(self.link_target(entry, shown)?),
            _ => None,
        };
        self.enter(parents, shown, true)?;
        self.keep_parent_time(parents);
        let path = parts.join(&b'/');
        match entry.kind {
            EntryKind::Directory => self.make_directory(name, &path, is_destination, entry, shown)?,
            EntryKind::File => self.make_file(name, &path, entry, shown, source)?,
            EntryKind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(refuse(shown, Fault::BadName));
                }
                let link = entry.link.as_slice();
                self.replace(name, &path, shown, "create symbolic link", |parent| {
                    rustix::fs::symlinkat(link, parent, *name)
                })?;
                self.set_special(name, entry, shown)?;
            }
            EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => {
                self.make_special(name, &path, entry, shown)?;
            }
            EntryKind::HardLink => {
                if let Some((directory, base)) = target {
                    self.make_link(&directory, &base, name, &path, shown)?;
                }
            }
        }
        if self.options.whiteouts == Whiteouts::Apply {
            self.made.insert(path);
        }
        Ok(())
    }

    fn make_directory(
        &mut self,
        name: &[u8],
        path: &[u8],
        is_destination: bool,
        entry: &Entry,
        shown: &[u8],
    ) -> Result<(), Error> {
        let mode = entry.mode & 0o777;
        let parent = self.parent();
        let mut made = rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode as RawMode));
        let mut hides = false;
        if made == Err(Errno::EXIST) {
            let stat = stat_at(parent, name).map_err(io_at("stat", shown))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if is_destination {
                    return Ok(());
                }
            } else {
                // A whiteout and a directory of one name in one layer: the directory replaces what is below.
                hides = self.staged() && whiteout::is_whiteout(&stat);
                self.remove(name, path, shown)?;
                made = rustix::fs::mkdirat(self.parent(), name, Mode::from_raw_mode(mode as RawMode));
                made.map_err(io_at("create directory", shown))?;
            }
        } else {
            made.map_err(io_at("create directory", shown))?;
        }
        let fd = open_directory(self.parent(), name).map_err(io_at("open", shown))?;
        self.set_directory(fd.as_fd(), entry, shown)?;
        if let (true, Whiteouts::Overlay { user_namespace }) = (hides, self.options.whiteouts) {
            whiteout::set_opaque(fd.as_fd(), user_namespace).map_err(io_at("mark opaque", shown))?;
        }
        self.times.insert(path.to_vec(), entry.mtime);
        // The next entries are most likely inside.
        let linked = self.stack.last().is_some_and(|level| level.linked);
        let level = Level::of(name.to_vec(), fd, linked)?;
        self.stack.push(level);
        Ok(())
    }

    fn make_file<R: BufRead>(
        &mut self,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
        shown: &[u8],
        source: &mut Reader<R>,
    ) -> Result<(), Error> {
        let mode = Mode::from_raw_mode((entry.mode & 0o777) as RawMode);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self
            .replace(name, path, shown, "create", |parent| rustix::fs::openat(parent, name, flags, mode))?;
        self.write_content(fd.as_fd(), path, entry, shown, source)?;
        self.report.unpacked_size += entry.size;
        if self.owner_differs(entry) {
            let (uid, gid) = owner(entry);
            self.chowned(shown, entry, rustix::fs::fchown(&fd, uid, gid))?;
        }
        if entry.mode & (0o7000 | self.umask) != 0 {
            let mode = Mode::from_raw_mode(entry.mode as RawMode);
            rustix::fs::fchmod(&fd, mode).map_err(io_at("set mode of", shown))?;
        }
        self.set_xattrs(fd.as_fd(), entry, shown)?;
        rustix::fs::futimens(&fd, &times(entry.mtime)).map_err(io_at("set time of", shown))
    }

    fn write_content<R: BufRead>(
        &mut self,
        fd: BorrowedFd<'_>,
        path: &[u8],
        entry: &Entry,
        shown: &[u8],
        source: &mut Reader<R>,
    ) -> Result<(), Error> {
        let mut crc = self.options.checksum.is_some().then(crc32fast::Hasher::new);
        let whole = [(0, entry.size)];
        let mut end = 0;
        let mut writeback = Writeback::new();
        for (offset, length) in entry.sparse.as_deref().unwrap_or(&whole) {
            if *offset > end {
                rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(*offset)).map_err(io_at("write", shown))?;
                if let Some(crc) = &mut crc {
                    hash_zeros(crc, offset - end);
                }
            }
            end = offset + length;
            let mut left = *length;
            while left > 0 {
                let piece = source.data()?;
                let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let written = match rustix::io::write(fd, &piece[..most]) {
                    Err(Errno::INTR) => continue,
                    Ok(0) => return Err(io_at("write", shown)(Errno::IO)),
                    other => other.map_err(io_at("write", shown))?,
                };
                if let Some(crc) = &mut crc {
                    crc.update(&piece[..written]);
                }
                source.consume(written);
                left -= written as u64;
                // Of a file with holes the offsets are others, so it is left to the sync.
                if entry.sparse.is_none() {
                    writeback.advance(fd, written as u64);
                }
            }
        }
        writeback.finish(fd);
        if entry.sparse.is_some() {
            rustix::fs::ftruncate(fd, entry.size).map_err(io_at("write", shown))?;
            if let Some(crc) = &mut crc {
                hash_zeros(crc, entry.size - end);
            }
        }
        if let (Some(crc), Some(sink)) = (crc, &mut self.options.checksum) {
            sink(path, entry.size, crc.finalize());
        }
        Ok(())
    }

    fn make_special(&mut self, name: &[u8], path: &[u8], entry: &Entry, shown: &[u8]) -> Result<(), Error> {
        let file_type = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        // On an overlay a device 0/0 is a deletion, which only a `.wh.` name may say.
        if self.layer() && file_type == FileType::CharacterDevice && entry.device == (0, 0) {
            self.report.skipped.devices += 1;
            self.name_skipped("device 0/0", shown);
            return Ok(());
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode((entry.mode & 0o777) as RawMode);
        let skip = self.options.skip_devices && file_type != FileType::Fifo;
        let made = self.replace(name, path, shown, "create device", |parent| {
            match rustix::fs::mknodat(parent, name, file_type, mode, device) {
                Err(Errno::PERM) if skip => Ok(false),
                other => other.map(|()| true),
            }
        })?;
        if !made {
            self.report.skipped.devices += 1;
            self.name_skipped("device", shown);
            return Ok(());
        }
        self.set_special(name, entry, shown)
    }

    /// Opens the directory of a hard link's target and returns it with the target's last component.
    fn link_target(&mut self, entry: &Entry, shown: &[u8]) -> Result<(OwnedFd, Vec<u8>), Error> {
        let mut parts: Vec<Vec<u8>> = self.prefix.clone();
        let within = components(&entry.link, shown, &self.options.limits).map_err(|error| match error {
            Error::Entry { fault: Fault::DotDot, .. } => refuse(shown, Fault::LinkLeaves),
            other => other,
        })?;
        if within.is_empty() {
            return Err(refuse(shown, Fault::LinkToDirectory));
        }
        parts.extend(within.iter().map(|part| part.to_vec()));
        let Some((name, parents)) = parts.split_last() else {
            return Err(refuse(shown, Fault::BadName));
        };
        let parents: Vec<&[u8]> = parents.iter().map(Vec::as_slice).collect();
        // Reuses the kept descriptors: targets are mostly near.
        match self.enter(&parents, shown, false) {
            Ok(true) => {}
            Ok(false) if self.staged() => return Err(refuse(shown, Fault::NeedsParent)),
            Ok(false) => return Err(refuse(shown, Fault::LinkMissing)),
            Err(error) => return Err(error),
        }
        let fd = rustix::io::dup(self.parent()).map_err(io_at("open", shown))?;
        Ok((fd, name.clone()))
    }

    fn make_link(
        &mut self,
        directory: &OwnedFd,
        base: &[u8],
        name: &[u8],
        path: &[u8],
        shown: &[u8],
    ) -> Result<(), Error> {
        let stat = match stat_at(directory.as_fd(), base) {
            Err(Errno::NOENT) if self.staged() => return Err(refuse(shown, Fault::NeedsParent)),
            Err(Errno::NOENT) => return Err(refuse(shown, Fault::LinkMissing)),
            other => other.map_err(io_at("stat", shown))?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(refuse(shown, Fault::LinkToDirectory));
        }
        if self.staged() && whiteout::is_whiteout(&stat) {
            return Err(refuse(shown, Fault::NeedsParent));
        }
        // Replacing the target by a link to itself would lose it.
        if let Ok(present) = stat_at(self.parent(), name)
            && (present.st_dev, present.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.replace(name, path, shown, "link", |parent| {
            rustix::fs::linkat(directory, base, parent, name, AtFlags::empty())
        })
    }

    /// `.wh..wh..opq`: hides all that lies below this directory.
    fn hide_below(&mut self, parents: &[&[u8]], shown: &[u8]) -> Result<(), Error> {
        match self.options.whiteouts {
            Whiteouts::Overlay { user_namespace } => {
                self.enter(parents, shown, true)?;
                let fd = open_directory(self.parent(), b".").map_err(io_at("open", shown))?;
                whiteout::set_opaque(fd.as_fd(), user_namespace).map_err(io_at("mark opaque", shown))
            }
            _ => match self.enter(parents, shown, false)? {
                true => {
                    self.keep_parent_time(parents);
                    let fd = open_directory(self.parent(), b".").map_err(io_at("open", shown))?;
                    self.stack.clear();
                    self.remove_unmade(fd.as_fd(), &parents.join(&b'/'), shown)
                }
                false => Ok(()),
            },
        }
    }

    /// `.wh.NAME`: deletes NAME from the layers below, never what this layer brought itself.
    fn delete(&mut self, parents: &[&[u8]], name: &[u8], shown: &[u8]) -> Result<(), Error> {
        if name.is_empty() || name == b"." || name == b".." {
            return Err(refuse(shown, Fault::Whiteout));
        }
        let mut path = parents.join(&b'/');
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if let Whiteouts::Overlay { user_namespace } = self.options.whiteouts {
            self.enter(parents, shown, true)?;
            self.keep_parent_time(parents);
            return match whiteout::make_whiteout(self.parent(), name) {
                // Brought by this very layer: a directory then hides what it replaces, a file does so anyway.
                Err(Errno::EXIST) => match open_directory(self.parent(), name) {
                    Ok(fd) => {
                        whiteout::set_opaque(fd.as_fd(), user_namespace).map_err(io_at("mark opaque", shown))
                    }
                    Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(errno) => Err(io_at("open", shown)(errno)),
                },
                other => other.map_err(io_at("create whiteout", shown)),
            };
        }
        if !self.enter(parents, shown, false)? {
            return Ok(());
        }
        self.keep_parent_time(parents);
        if !self.made.contains(&path) {
            return self.remove(name, &path, shown);
        }
        match open_directory(self.parent(), name) {
            Ok(fd) => {
                self.stack.clear();
                self.remove_unmade(fd.as_fd(), &path, shown)
            }
            Err(_) => Ok(()),
        }
    }

    /// Removes from a directory all that this stream did not make.
    fn remove_unmade(&mut self, directory: BorrowedFd<'_>, path: &[u8], shown: &[u8]) -> Result<(), Error> {
        for name in names(directory).map_err(io_at("read", shown))? {
            let mut child = path.to_vec();
            if !child.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(&name);
            if self.made.contains(&child) {
                if let Ok(fd) = open_directory(directory, &name) {
                    self.remove_unmade(fd.as_fd(), &child, shown)?;
                }
            } else if self.holds_made(&child) {
                // Implied by an entry of this stream: the directory stays, what it held goes.
                if let Ok(fd) = open_directory(directory, &name) {
                    self.remove_unmade(fd.as_fd(), &child, shown)?;
                }
            } else {
                remove_tree(directory, &name).map_err(io_at("remove", &child))?;
                self.forget_times(&child);
            }
        }
        Ok(())
    }

    fn holds_made(&self, path: &[u8]) -> bool {
        let mut inside = path.to_vec();
        inside.push(b'/');
        self.made.range(inside.clone()..).next().is_some_and(|made| made.starts_with(&inside))
    }

    /// Descends to the directory `parents`; without `create` a missing one gives `false`.
    fn enter(&mut self, parents: &[&[u8]], shown: &[u8], create: bool) -> Result<bool, Error> {
        let shared = self.stack.iter().zip(parents).take_while(|(level, part)| level.name == **part).count();
        self.stack.truncate(shared);
        for depth in shared..parents.len() {
            if !self.enter_one(&parents[..=depth], shown, create)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn enter_one(&mut self, path: &[&[u8]], shown: &[u8], create: bool) -> Result<bool, Error> {
        let Some((name, _)) = path.split_last() else { return Ok(true) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut linked = self.stack.last().is_some_and(|level| level.linked);
        let mut made = false;
        let opened = rustix::fs::openat(self.parent(), *name, flags, Mode::empty());
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT) if !create => return Ok(false),
            Err(Errno::NOENT) => {
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(self.parent(), *name, mode).map_err(io_at("create directory", shown))?;
                made = true;
                rustix::fs::openat(self.parent(), *name, flags, Mode::empty())
                    .map_err(io_at("open", shown))?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                linked = true;
                match self.follow(path, shown, create)? {
                    Some(fd) => fd,
                    None => return Ok(false),
                }
            }
            Err(errno) => return Err(io_at("open", shown)(errno)),
        };
        if made {
            self.settle_implied(path, &fd, shown)?;
        }
        let level = Level::of(name.to_vec(), fd, linked)?;
        self.stack.push(level);
        Ok(true)
    }

    /// Opens a parent that is a symbolic link, inside the root.
    fn follow(&mut self, path: &[&[u8]], shown: &[u8], create: bool) -> Result<Option<OwnedFd>, Error> {
        let name = path.last().copied().unwrap_or_default();
        let stat = stat_at(self.parent(), name).map_err(io_at("stat", shown))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            if self.staged() && whiteout::is_whiteout(&stat) && create {
                return self.unhide(name, shown).map(Some);
            }
            return if create { Err(refuse(shown, Fault::ParentNotDirectory)) } else { Ok(None) };
        }
        if self.staged() {
            // Where the link leads may lie below.
            return Err(refuse(shown, Fault::NeedsParent));
        }
        let whole = path.join(&b'/');
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for _ in 0..64 {
            match rustix::fs::openat2(self.root, whole.as_slice(), flags, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Some(fd)),
                // A rename elsewhere on the system made the kernel unsure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !create => return Ok(None),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => return Err(io_at("open", shown)(errno)),
            }
        }
        Err(refuse(shown, Fault::DanglingParent))
    }

    /// A directory implied where this layer has a whiteout of the same name: it replaces what is below.
    fn unhide(&mut self, name: &[u8], shown: &[u8]) -> Result<OwnedFd, Error> {
        let Whiteouts::Overlay { user_namespace } = self.options.whiteouts else {
            return Err(refuse(shown, Fault::ParentNotDirectory));
        };
        rustix::fs::unlinkat(self.parent(), name, AtFlags::empty()).map_err(io_at("remove", shown))?;
        rustix::fs::mkdirat(self.parent(), name, Mode::from_raw_mode(0o755))
            .map_err(io_at("create directory", shown))?;
        let fd = open_directory(self.parent(), name).map_err(io_at("open", shown))?;
        whiteout::set_opaque(fd.as_fd(), user_namespace).map_err(io_at("mark opaque", shown))?;
        Ok(fd)
    }

    /// Gives a directory that nothing describes the same metadata everywhere.
    fn settle_implied(&mut self, path: &[&[u8]], fd: &OwnedFd, shown: &[u8]) -> Result<(), Error> {
        let directory = open_directory(fd.as_fd(), b".").map_err(io_at("open", shown))?;
        let (uid, gid) = match self.options.ownership {
            Ownership::Fixed(uid, gid) => (uid, gid),
            _ => (0, 0),
        };
        let mut entry = Entry::new(EntryKind::Directory, Vec::new());
        (entry.uid, entry.gid) = (uid, gid);
        self.set_directory(directory.as_fd(), &entry, shown)?;
        let path = path.join(&b'/');
        self.times.insert(path.clone(), entry.mtime);
        self.report.implied.push(bytes_path(path));
        Ok(())
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.stack.last().unwrap_or(&self.root_level).fd.as_fd()
    }

    /// A directory that the stream does not list keeps its time, however many entries are put into it.
    fn keep_parent_time(&mut self, parents: &[&[u8]]) {
        let level = self.stack.last_mut().unwrap_or(&mut self.root_level);
        if level.linked || level.kept {
            return;
        }
        level.kept = true;
        let time = level.mtime;
        self.times.entry(parents.join(&b'/')).or_insert(time);
    }

    fn forget_times(&mut self, path: &[u8]) {
        self.times.remove(path);
        let mut inside = path.to_vec();
        inside.push(b'/');
        let stale: Vec<Vec<u8>> = self
            .times
            .range(inside.clone()..)
            .map(|(known, _)| known)
            .take_while(|known| known.starts_with(&inside))
            .cloned()
            .collect();
        for known in stale {
            self.times.remove(&known);
        }
    }

    /// Makes something that must not exist yet; what stands in its place goes first.
    fn replace<T>(
        &mut self,
        name: &[u8],
        path: &[u8],
        shown: &[u8],
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make(self.parent()) {
            Err(Errno::EXIST) => {
                self.remove(name, path, shown)?;
                make(self.parent()).map_err(io_at(action, shown))
            }
            other => other.map_err(io_at(action, shown)),
        }
    }

    fn remove(&mut self, name: &[u8], path: &[u8], shown: &[u8]) -> Result<(), Error> {
        remove_tree(self.parent(), name).map_err(io_at("replace", shown))?;
        self.forget_times(path);
        Ok(())
    }

    fn set_directory(&mut self, fd: BorrowedFd<'_>, entry: &Entry, shown: &[u8]) -> Result<(), Error> {
        let stat = rustix::fs::fstat(fd).map_err(io_at("stat", shown))?;
        if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) && self.options.ownership != Ownership::Caller
        {
            let (uid, gid) = owner(entry);
            self.chowned(shown, entry, rustix::fs::fchown(fd, uid, gid))?;
        }
        if stat.st_mode & 0o7777 != entry.mode || entry.mode & 0o7000 != 0 {
            let mode = Mode::from_raw_mode(entry.mode as RawMode);
            rustix::fs::fchmod(fd, mode).map_err(io_at("set mode of", shown))?;
        }
        self.set_xattrs(fd, entry, shown)
    }

    /// Owner, mode and time of a link, device or pipe.
    fn set_special(&mut self, name: &[u8], entry: &Entry, shown: &[u8]) -> Result<(), Error> {
        if self.owner_differs(entry) {
            let (uid, gid) = owner(entry);
            let result = rustix::fs::chownat(self.parent(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
            self.chowned(shown, entry, result)?;
        }
        if entry.kind != EntryKind::Symlink && entry.mode & (0o7000 | self.umask) != 0 {
            // chmod has no form that leaves links alone before Linux 6.6; through the descriptor it is exact.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(self.parent(), name, flags, Mode::empty())
                .map_err(io_at("open", shown))?;
            let mode = Mode::from_raw_mode(entry.mode as RawMode);
            chmod_path_fd(&fd, mode).map_err(io_at("set mode of", shown))?;
        }
        rustix::fs::utimensat(self.parent(), name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io_at("set time of", shown))
    }

    /// True unless something new was made with the owner that it shall have.
    fn owner_differs(&self, entry: &Entry) -> bool {
        let inherited = self.stack.last().unwrap_or(&self.root_level).set_gid.unwrap_or(self.gid);
        (entry.uid, entry.gid) != (self.uid, inherited) && self.options.ownership != Ownership::Caller
    }

    fn chowned(&mut self, shown: &[u8], entry: &Entry, result: Result<(), Errno>) -> Result<(), Error> {
        match result {
            // EINVAL: the namespace has no such id.
            Err(Errno::INVAL | Errno::PERM) if self.options.ownership == Ownership::StreamIfMapped => {
                self.report.skipped.owners += 1;
                self.name_skipped(&format!("owner {}:{}", entry.uid, entry.gid), shown);
                Ok(())
            }
            other => other.map_err(io_at("set owner of", shown)),
        }
    }

    fn set_xattrs(&mut self, fd: BorrowedFd<'_>, entry: &Entry, shown: &[u8]) -> Result<(), Error> {
        for (name, value) in &entry.xattrs {
            // Labels belong to the host; overlay's own would redirect lookups to other files.
            let foreign = name == b"security.selinux" || whiteout::is_overlay_xattr(name);
            let refused = foreign
                || name.is_empty()
                || name.contains(&0)
                || match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                    Ok(()) => false,
                    Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::RANGE) => true,
                    Err(errno) => return Err(io_at("set extended attribute of", shown)(errno)),
                };
            if refused {
                self.report.skipped.xattrs += 1;
                self.name_skipped(&format!("attribute {}", show(name)), shown);
            }
        }
        Ok(())
    }

    fn name_skipped(&mut self, what: &str, shown: &[u8]) {
        if self.report.skipped.named.len() < NAMED {
            self.report.skipped.named.push(format!("{what} {}", show(shown)));
        }
    }

    fn finish(mut self) -> Result<Extracted, Error> {
        let mut pending = std::mem::take(&mut self.times);
        let root = pending.remove(&b""[..]);
        for (path, time) in pending {
            let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
            let Some((name, parents)) = parts.split_last() else { continue };
            if !self.enter(parents, &path, false)? {
                continue;
            }
            match rustix::fs::utimensat(self.parent(), *name, &times(time), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(io_at("set time of", &path)(errno)),
            }
        }
        if let Some(time) = root {
            rustix::fs::utimensat(self.root, ".", &times(time), AtFlags::empty())
                .map_err(io_at("set time of", b""))?;
        }
        Ok(self.report)
    }
}

impl Level {
    fn of(name: Vec<u8>, fd: OwnedFd, linked: bool) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&fd).map_err(io_at("stat", &name))?;
        Ok(Self {
            name,
            fd,
            set_gid: (stat.st_mode & 0o2000 != 0).then_some(stat.st_gid),
            mtime: Timestamp {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            linked,
            kept: false,
        })
    }
}

/// Splits a name into components; `.` and empty ones vanish, so an absolute name is taken beneath the root.
fn components<'p>(path: &'p [u8], shown: &[u8], limits: &Limits) -> Result<Vec<&'p [u8]>, Error> {
    if path.contains(&0) {
        return Err(refuse(shown, Fault::BadName));
    }
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refuse(shown, Fault::DotDot));
    }
    if parts.len() > limits.depth || parts.iter().any(|part| part.len() > 255) {
        return Err(refuse(shown, Fault::TooLong));
    }
    Ok(parts)
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn stat_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Removes a name and all below it, without following links; a missing one is fine.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let directory = match open_directory(parent, name) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(Errno::PERM),
        other => other?,
    };
    for child in names(directory.as_fd())? {
        remove_tree(directory.as_fd(), &child)?;
    }
    drop(directory);
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn times(time: Timestamp) -> Timestamps {
    let stamp = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: stamp, last_modification: stamp }
}

fn chmod_path_fd(fd: &OwnedFd, mode: Mode) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())
}

/// Permission bits that creation may drop. With a default ACL on the tree none can be relied on.
fn umask_for(root: BorrowedFd<'_>) -> u32 {
    let mut probe = [0; 0];
    if rustix::fs::fgetxattr(root, "system.posix_acl_default", &mut probe).is_ok_and(|length| length > 0) {
        return 0o777;
    }
    // Reading it by umask(2) would change it for the other threads.
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0o777 };
    status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .unwrap_or(0o777)
}

/// Extends a checksum over a hole, in steps that double.
fn hash_zeros(crc: &mut crc32fast::Hasher, mut length: u64) {
    let mut zeros = crc32fast::Hasher::new();
    zeros.update(&[0]);
    while length > 0 {
        if length & 1 == 1 {
            crc.combine(&zeros);
        }
        let half = zeros.clone();
        zeros.combine(&half);
        length >>= 1;
    }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn bytes_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}
