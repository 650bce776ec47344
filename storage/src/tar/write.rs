//! The writer: a stream whose bytes depend on the tree alone.
//!
//! Canonical form: names sorted bytewise within each directory, a directory before what it holds and with a
//! closing `/`, no entry for the root itself; `ustar` headers without user and group names, device fields only
//! on devices; a PAX header, its records sorted by key, only where `ustar` cannot say it (long names, large
//! sizes and ids, times outside its range or finer than seconds, extended attributes); two zero blocks at the
//! end and nothing after them. Of a file with several names within the tree the first name in order holds the
//! content, the others are hard links to it. Sockets have no place in a tar stream and are left out.
//!
//! Extended attributes written: `security.capability` and `user.*`. Labels and ACLs belong to the host, and
//! `trusted.*` is not visible to rootless users, whose layers must come out the same.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::tar::{Header, UstarHeader};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sys::writeback::Writeback;

use super::error::{Error, Fault, entry as refuse, io_at};
use super::header::{BLOCK, write_octal};
use super::pax;
use super::read::{Entry, EntryKind, Timestamp};
use super::whiteout;

/// Descriptors of open ancestors; those further up are opened again on the way back.
const KEPT: usize = 48;
const COPY_SIZE: usize = 256 * 1024;

/// How fine the times of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtimePrecision {
    /// As the file system has them; costs a PAX header for each entry whose time has a fraction.
    #[default]
    Nanoseconds,
    /// Cut to seconds.
    Seconds,
}

/// Decides by path whether a file is left out.
pub type SkipPath<'a> = &'a dyn Fn(&[u8]) -> bool;

/// How to write a tree.
#[derive(Default)]
pub struct WriteOptions<'a> {
    /// The stream is a layer: what overlayfs keeps (devices 0/0, opaque directories) becomes `.wh.` names, and
    /// a file that bears such a name is refused. Otherwise such things are written as they are.
    pub layer: bool,
    /// Later times become this one, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
    /// How fine times are.
    pub precision: MtimePrecision,
    /// Put before all names; empty, or ending in `/`.
    pub prefix: Vec<u8>,
    /// Paths (without prefix) for which this is true are left out, directories with all they hold.
    pub skip: Option<SkipPath<'a>>,
    /// All entries get this owner and group.
    pub owner: Option<(u32, u32)>,
    /// Files are sent on their way to the disk while they are read, for a caller that syncs them afterwards.
    pub begin_sync: bool,
}

impl std::fmt::Debug for WriteOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteOptions")
            .field("layer", &self.layer)
            .field("clamp_mtime", &self.clamp_mtime)
            .field("precision", &self.precision)
            .field("prefix", &self.prefix)
            .field("skip", &self.skip.is_some())
            .field("owner", &self.owner)
            .field("begin_sync", &self.begin_sync)
            .finish()
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Length of the stream, in bytes.
    pub tar_size: u64,
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Sum of the sizes of the regular files, in bytes; hard links count once.
    pub content_size: u64,
    /// Sockets left out.
    pub sockets: u64,
}

/// Writes entries one by one.
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
    written: u64,
    entries: u64,
    /// Content still owed for the current entry, in bytes.
    owed: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    /// Starts a stream.
    pub fn new(sink: W) -> Self {
        Self { sink, written: 0, entries: 0, owed: 0, padding: 0 }
    }

    /// Writes the header of an entry; for a file `entry.size` bytes must follow through
    /// [`data`](Self::data). A directory's name gets its closing `/`. Sparse maps are not written.
    pub fn header(&mut self, entry: &Entry) -> Result<(), Error> {
        self.pad(&entry.path)?;
        let mut path = entry.path.clone();
        if entry.kind == EntryKind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let (block, records) = build(entry, &path);
        if !records.is_empty() {
            let mut base: &[u8] = path.strip_suffix(b"/").unwrap_or(&path);
            base = &base[base.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)..];
            let name = [b"PaxHeaders.0/", &base[..base.len().min(80)]].concat();
            let mut header = Entry::new(EntryKind::File, name);
            header.size = records.len() as u64;
            let (mut block, _) = build(&header, &header.path);
            block.set_entry_type(::tar::EntryType::XHeader);
            block.set_cksum();
            self.put(block.as_bytes())?;
            self.put(&records)?;
            let padding = (BLOCK - records.len() % BLOCK) % BLOCK;
            self.put(&[0; BLOCK][..padding])?;
        }
        self.put(block.as_bytes())?;
        self.entries += 1;
        if entry.kind == EntryKind::File {
            self.owed = entry.size;
            self.padding = (BLOCK - usize::try_from(entry.size % BLOCK as u64).unwrap_or(0)) % BLOCK;
        }
        Ok(())
    }

    /// Writes content of the current entry.
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.owed = self.owed.checked_sub(bytes.len() as u64).ok_or_else(|| refuse(b"", Fault::Changed))?;
        self.put(bytes)
    }

    /// Writes an entry with its content, of which exactly `entry.size` bytes are read.
    pub fn append(&mut self, entry: &Entry, mut content: impl Read) -> Result<(), Error> {
        self.header(entry)?;
        let mut buffer = vec![0; COPY_SIZE];
        while self.owed > 0 {
            let most = COPY_SIZE.min(usize::try_from(self.owed).unwrap_or(COPY_SIZE));
            match content.read(&mut buffer[..most]) {
                Ok(0) => return Err(refuse(&entry.path, Fault::Changed)),
                Ok(length) => self.data(&buffer[..length])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
        Ok(())
    }

    /// Ends the stream; returns the sink and the length of the stream in bytes.
    pub fn finish(mut self) -> Result<(W, u64), Error> {
        self.pad(b"")?;
        self.put(&[0; 2 * BLOCK])?;
        self.sink.flush().map_err(|source| Error::Write { source })?;
        Ok((self.sink, self.written))
    }

    fn pad(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.owed > 0 {
            return Err(refuse(path, Fault::Changed));
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&[0; BLOCK][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        self.sink.write_all(bytes).map_err(|source| Error::Write { source })
    }
}

/// Builds the block of an entry and the PAX records that it needs.
fn build(entry: &Entry, path: &[u8]) -> (Header, Vec<u8>) {
    let mut header = Header::new_ustar();
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let fields = header.as_ustar_mut().expect("made as ustar");
    if !put_name(fields, path) {
        records.push((b"path".to_vec(), path.to_vec()));
        put_text(&mut fields.name, path);
    }
    put_text(&mut fields.linkname, &entry.link);
    if entry.link.len() > fields.linkname.len() {
        records.push((b"linkpath".to_vec(), entry.link.clone()));
    }
    write_octal(&mut fields.mode, u64::from(entry.mode & 0o7777));
    let size = if entry.kind == EntryKind::File { entry.size } else { 0 };
    for (field, key, value) in [
        (&mut fields.uid[..], "uid", u64::from(entry.uid)),
        (&mut fields.gid[..], "gid", u64::from(entry.gid)),
        (&mut fields.size[..], "size", size),
    ] {
        if !write_octal(field, value) {
            write_octal(field, 0);
            records.push((key.as_bytes().to_vec(), value.to_string().into_bytes()));
        }
    }
    let seconds = u64::try_from(entry.mtime.seconds).ok();
    let plain = seconds.is_some_and(|seconds| write_octal(&mut fields.mtime, seconds));
    if !plain {
        write_octal(&mut fields.mtime, 0);
    }
    if !plain || entry.mtime.nanoseconds != 0 {
        records.push((b"mtime".to_vec(), pax::render_time(entry.mtime).into_bytes()));
    }
    fields.typeflag = [match entry.kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }];
    if matches!(entry.kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
        // Linux has 12 and 20 bits: both fit the 21 of the field.
        write_octal(&mut fields.dev_major, u64::from(entry.device.0));
        write_octal(&mut fields.dev_minor, u64::from(entry.device.1));
    }
    for (name, value) in &entry.xattrs {
        records.push(([pax::XATTR_PREFIX, name].concat(), value.clone()));
    }
    records.sort();
    header.set_cksum();
    let mut rendered = Vec::new();
    for (key, value) in &records {
        pax::push(&mut rendered, key, value);
    }
    (header, rendered)
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let cut = text.len().min(field.len());
    field[..cut].copy_from_slice(&text[..cut]);
}

/// Puts a name into the name field, or split at a `/` over prefix and name; false when neither holds it.
fn put_name(fields: &mut UstarHeader, path: &[u8]) -> bool {
    if path.len() <= fields.name.len() {
        put_text(&mut fields.name, path);
        return true;
    }
    // The leftmost split that lets the name fit: one rule, so that one name has one form.
    let from = path.len() - fields.name.len() - 1;
    let end = path.len().min(fields.prefix.len() + 1);
    let Some(at) = path.get(from..end).and_then(|part| part.iter().position(|b| *b == b'/')) else {
        return false;
    };
    let at = from + at;
    if at == 0 || at + 1 == path.len() {
        return false;
    }
    put_text(&mut fields.name, &path[at + 1..]);
    put_text(&mut fields.prefix, &path[..at]);
    true
}

/// Writes files of a tree, wherever they are found, and remembers hard links.
#[derive(Debug)]
pub struct TreeWriter<'a, W> {
    tar: TarWriter<W>,
    options: &'a WriteOptions<'a>,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    report: Written,
}

impl<'a, W: Write> TreeWriter<'a, W> {
    /// Starts a stream.
    pub fn new(sink: W, options: &'a WriteOptions<'a>) -> Self {
        let buffer = vec![0; COPY_SIZE];
        Self { tar: TarWriter::new(sink), options, links: HashMap::new(), buffer, report: Written::default() }
    }

    /// Ends the stream.
    pub fn finish(mut self) -> Result<(W, Written), Error> {
        self.report.entries = self.tar.entries;
        let (sink, tar_size) = self.tar.finish()?;
        self.report.tar_size = tar_size;
        Ok((sink, self.report))
    }

    /// Writes the whiteout of `path`.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        self.mark([&path[..at], whiteout::PREFIX, &path[at..]].concat())
    }

    fn mark(&mut self, path: Vec<u8>) -> Result<(), Error> {
        let mut entry = Entry::new(EntryKind::File, [&self.options.prefix, &path[..]].concat());
        entry.mode = 0o600;
        self.tar.header(&entry)
    }

    /// Writes the file `name` of `parent` as `path`; a directory is returned open, to be descended into.
    pub fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<OwnedFd>, Error> {
        let layer = self.options.layer;
        if layer && name.starts_with(whiteout::PREFIX) {
            return Err(refuse(path, Fault::ReservedName));
        }
        if layer && whiteout::is_whiteout(stat) {
            return self.whiteout(path).map(|()| None);
        }
        let Some(mut entry) = self.describe(path, stat) else {
            self.report.sockets += 1;
            return Ok(None);
        };
        let key = (stat.st_dev, stat.st_ino);
        let shared = stat.st_nlink > 1 && entry.kind != EntryKind::Directory;
        if let Some(first) = self.links.get(&key).filter(|_| shared) {
            entry.kind = EntryKind::HardLink;
            entry.size = 0;
            entry.link.clone_from(first);
            return self.tar.header(&entry).map(|()| None);
        }
        let mut opened = None;
        match entry.kind {
            EntryKind::Symlink => {
                let target =
                    rustix::fs::readlinkat(parent, name, Vec::new()).map_err(io_at("read link", path))?;
                entry.link = target.into_bytes();
            }
            EntryKind::File | EntryKind::Directory => {
                let kind = if entry.kind == EntryKind::File { OFlags::NONBLOCK } else { OFlags::DIRECTORY };
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
                let fd =
                    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(io_at("open", path))?;
                let found = read_xattrs(fd.as_fd()).map_err(io_at("read extended attributes of", path))?;
                if layer && found.whiteout && entry.kind == EntryKind::File && entry.size == 0 {
                    return self.whiteout(path).map(|()| None);
                }
                entry.xattrs = found.kept;
                opened = Some((fd, found.opaque));
            }
            _ => {}
        }
        if shared {
            self.links.insert(key, entry.path.clone());
        }
        self.tar.header(&entry)?;
        let Some((fd, opaque)) = opened else { return Ok(None) };
        if entry.kind == EntryKind::File {
            self.report.content_size += entry.size;
            return self.copy(&fd, path, entry.size).map(|()| None);
        }
        if layer && opaque {
            self.mark([path, b"/", whiteout::OPAQUE].concat())?;
        }
        Ok(Some(fd))
    }

    fn copy(&mut self, fd: &OwnedFd, path: &[u8], size: u64) -> Result<(), Error> {
        let mut left = size;
        let mut writeback = self.options.begin_sync.then(Writeback::new);
        while left > 0 {
            let most = COPY_SIZE.min(usize::try_from(left).unwrap_or(COPY_SIZE));
            let length = match rustix::io::read(fd, &mut self.buffer[..most]) {
                Ok(0) => return Err(refuse(path, Fault::Changed)),
                Err(Errno::INTR) => continue,
                other => other.map_err(io_at("read", path))?,
            };
            self.tar.data(&self.buffer[..length])?;
            left -= length as u64;
            if let Some(writeback) = &mut writeback {
                writeback.advance(fd, length as u64);
            }
        }
        if let Some(writeback) = writeback {
            writeback.finish(fd);
        }
        Ok(())
    }

    /// Metadata from `stat`; `None` for a socket.
    fn describe(&self, path: &[u8], stat: &Stat) -> Option<Entry> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => return None,
        };
        let mut entry = Entry::new(kind, [&self.options.prefix, path].concat());
        entry.mode = stat.st_mode & 0o7777;
        (entry.uid, entry.gid) = self.options.owner.unwrap_or((stat.st_uid, stat.st_gid));
        if kind == EntryKind::File {
            entry.size = u64::try_from(stat.st_size).unwrap_or(0);
        }
        if matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        entry.mtime =
            Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        if self.options.precision == MtimePrecision::Seconds {
            entry.mtime.nanoseconds = 0;
        }
        if let Some(seconds) = self.options.clamp_mtime {
            entry.mtime = entry.mtime.min(Timestamp { seconds, nanoseconds: 0 });
        }
        Some(entry)
    }

    pub(crate) fn skips(&self, path: &[u8]) -> bool {
        self.options.skip.is_some_and(|skip| skip(path))
    }
}

/// A directory that is being walked.
struct Frame {
    fd: Option<OwnedFd>,
    names: std::vec::IntoIter<Vec<u8>>,
    path: Vec<u8>,
}

/// Writes all that lies beneath `root`, without an entry for `root` itself.
pub fn write_tree<W: Write>(
    root: BorrowedFd<'_>,
    options: &WriteOptions<'_>,
    sink: W,
) -> Result<(W, Written), Error> {
    let mut writer = TreeWriter::new(sink, options);
    writer.tree(root)?;
    writer.finish()
}

impl<W: Write> TreeWriter<'_, W> {
    /// Writes all that lies beneath `root`; of a layer also that the root is opaque.
    pub fn tree(&mut self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let fd = reopen(root, b"").map_err(io_at("open", b""))?;
        if self.options.layer && whiteout::is_opaque(fd.as_fd()).map_err(io_at("read", b""))? {
            self.mark(whiteout::OPAQUE.to_vec())?;
        }
        self.walk(root, fd, Vec::new())
    }

    /// Writes all that lies beneath the open directory `fd`, which is `path` beneath `root`.
    pub fn walk(&mut self, root: BorrowedFd<'_>, fd: OwnedFd, path: Vec<u8>) -> Result<(), Error> {
        let names = sorted_names(fd.as_fd()).map_err(io_at("read", &path))?;
        let mut frames = vec![Frame { fd: Some(fd), names: names.into_iter(), path }];
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.next() else {
                frames.pop();
                continue;
            };
            let parent = match &frame.fd {
                Some(fd) => fd,
                None => frame.fd.insert(reopen(root, &frame.path).map_err(io_at("open", &frame.path))?),
            };
            let path = join(&frame.path, &name);
            if self.skips(&path) {
                continue;
            }
            let stat = rustix::fs::statat(parent, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io_at("stat", &path))?;
            if let Some(fd) = self.file(parent.as_fd(), &name, &path, &stat)? {
                let names = sorted_names(fd.as_fd()).map_err(io_at("read", &path))?;
                if frames.len() >= KEPT
                    && let Some(far) = frames.iter_mut().rev().nth(KEPT - 1)
                {
                    far.fd = None;
                }
                frames.push(Frame { fd: Some(fd), names: names.into_iter(), path });
            }
        }
        Ok(())
    }
}

/// Joins a path with one more component.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Names in a directory, sorted bytewise.
pub(crate) fn sorted_names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn reopen(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Extended attributes of an open file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Xattrs {
    /// Those that a layer carries, sorted by name.
    pub(crate) kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// The directory hides what lies below.
    pub(crate) opaque: bool,
    /// The file is a whiteout in attribute form.
    pub(crate) whiteout: bool,
}

pub(crate) fn read_xattrs(fd: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut found = Xattrs::default();
    let mut list = vec![0; 512];
    let length = loop {
        match rustix::fs::flistxattr(fd, &mut list) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < 1 << 16 => list = vec![0; list.len() * 4],
            Err(Errno::OPNOTSUPP) => return Ok(found),
            Err(errno) => return Err(errno),
        }
    };
    for name in list[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let own = whiteout::is_overlay_xattr(name);
        if !own && name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        let Some(value) = read_xattr(fd, name)? else { continue };
        if !own {
            found.kept.push((name.to_vec(), value));
        } else if name.ends_with(b".opaque") {
            found.opaque |= value == b"y";
        } else if name.ends_with(b".whiteout") {
            found.whiteout = true;
        }
    }
    found.kept.sort();
    Ok(found)
}

fn read_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(fd, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < 1 << 17 => value = vec![0; value.len() * 8],
            Err(Errno::NODATA) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}
