//! Writing into a destination tree: nodes with owner, mode, times and extended attributes.

use super::beneath;
use super::owner::Owner;
use super::{Error, io_error};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::fs::{chownat, fchmod, fchown, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat};
use rustix::fs::{unlinkat, utimensat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a new node gets besides its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) owner: Owner,
    /// Permission bits with set-id and sticky.
    pub(crate) mode: u32,
    pub(crate) mtime: Timespec,
}

impl Meta {
    fn times(&self) -> Timestamps {
        Timestamps { last_access: self.mtime, last_modification: self.mtime }
    }
}

/// Modification time of a stat.
pub(crate) fn mtime(stat: &Stat) -> Timespec {
    // The kernel's nanoseconds are below a thousand million, whatever type they are told in.
    Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// Device number of a stat's file, and its inode.
pub(crate) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether an extended attribute belongs to a file's content rather than to the machine it lies on.
pub(crate) fn keeps_xattr(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// The extended attributes of a file that are kept, sorted by name.
pub(crate) fn read_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let mut kept = Vec::new();
    for name in sys::xattr::list(file)? {
        if keeps_xattr(&name)
            && let Some(value) = sys::xattr::get(file, &name)?
        {
            kept.push((name, value));
        }
    }
    Ok(kept)
}

/// Hard links that were copied: where the first name of an inode went.
pub(crate) type Links = HashMap<(u64, u64), PathBuf>;

/// A destination tree.
pub(crate) struct Destination<'a> {
    pub(crate) root: BorrowedFd<'a>,
    /// The driver's own directory of the layer, where it has the layer's files alone.
    own: Option<BorrowedFd<'a>>,
    /// Directories that this layer made.
    fresh: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Destination<'a> {
    pub(crate) fn new(root: BorrowedFd<'a>, own: Option<BorrowedFd<'a>>) -> Self {
        Self { root, own, fresh: RefCell::default() }
    }

    /// Notes that a directory was made by this layer.
    pub(crate) fn note_fresh(&self, path: &Path) {
        if self.own.is_some() {
            self.fresh.borrow_mut().insert(path.to_owned());
        }
    }

    /// The layer's own directory at a path, where this layer made it: what is written there is all that is there.
    pub(crate) fn fresh(&self, path: &Path) -> Option<OwnedFd> {
        let own = self.own.filter(|_| self.fresh.borrow().contains(path))?;
        // Without it the long way round does as well.
        beneath::open_beneath(own, path, OFlags::RDONLY | OFlags::DIRECTORY).ok()
    }

    /// Makes a canonical path a directory, 0755 with this owner where it is missing, and opens it.
    pub(crate) fn make_directories(&self, path: &Path, owner: Owner) -> Result<OwnedFd, Error> {
        let mut here = PathBuf::new();
        let mut fd = beneath::open_directory(self.root, &here).map_err(io_error("open", "/"))?;
        for name in path.iter() {
            here.push(name);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fd = match openat(&fd, name, flags, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    let made = make_directory(fd.as_fd(), name).map_err(io_error("create", &here))?;
                    fchown_at(made.as_fd(), owner).map_err(io_error("change owner of", &here))?;
                    self.note_fresh(&here);
                    made
                }
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::NotADirectory { path: rooted(&here) }),
                Err(error) => return Err(io_error("open", &here)(error.into())),
            };
        }
        Ok(fd)
    }

    /// Gives a file that was written before a second name; in the layer's own directory where the new name is there.
    pub(crate) fn put_hard_link(
        &self,
        first: &Path,
        directory: BorrowedFd<'_>,
        fresh: bool,
        name: &OsStr,
        shown: &Path,
    ) -> Result<(), Error> {
        let root = self.own.filter(|_| fresh).unwrap_or(self.root);
        let (parent, first_name) = beneath::split(first);
        let parent = beneath::open_directory(root, parent).map_err(io_error("open", parent))?;
        put(directory, name, shown, "link", || linkat(&parent, first_name, directory, name, AtFlags::empty()))
    }
}

/// Makes something of a name; what has the name is taken away, unless it is a directory.
fn put<T>(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    shown: &Path,
    action: &'static str,
    make: impl Fn() -> rustix::io::Result<T>,
) -> Result<T, Error> {
    match make() {
        Err(Errno::EXIST) => {}
        made => return made.map_err(|error| io_error(action, shown)(error.into())),
    }
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR) => return Err(Error::IsADirectory { path: rooted(shown) }),
        Err(error) => return Err(io_error("replace", shown)(error.into())),
    }
    make().map_err(|error| io_error(action, shown)(error.into()))
}

/// Writes a regular file.
pub(crate) fn put_file(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    shown: &Path,
    meta: &Meta,
    content: &mut Content<'_>,
) -> Result<(), Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(meta.mode & 0o777);
    let mut file =
        File::from(put(directory, name, shown, "create", || openat(directory, name, flags, mode))?);
    match content {
        Content::File(source, size) => copy_content(source, &mut file, *size),
        Content::Bytes(bytes) => io::Write::write_all(&mut file, bytes),
    }
    .map_err(io_error("write", shown))?;
    // Most files are born as they should be: what the umask, a set-group-id directory or a default ACL changed, and
    // what cannot be said at birth, is put right.
    let made = rustix::fs::fstat(&file).map_err(|error| io_error("stat", shown)(error.into()))?;
    let moved = (made.st_uid, made.st_gid) != (meta.owner.uid, meta.owner.gid);
    if moved {
        fchown_at(file.as_fd(), meta.owner).map_err(io_error("change owner of", shown))?;
    }
    // After the owner: changing that clears the set-id bits.
    if made.st_mode & 0o7777 != meta.mode {
        fchmod(&file, Mode::from_raw_mode(meta.mode))
            .map_err(|error| io_error("change mode of", shown)(error.into()))?;
    }
    if let Content::File(source, _) = content {
        copy_xattrs(source.as_fd(), file.as_fd(), shown)?;
    }
    futimens(&file, &meta.times()).map_err(|error| io_error("set times of", shown)(error.into()))
}

/// Gives a directory what its source has.
pub(crate) fn finish_directory(
    directory: &OwnedFd,
    source: Option<BorrowedFd<'_>>,
    shown: &Path,
    meta: &Meta,
) -> Result<(), Error> {
    let fd = beneath::open_beneath(directory.as_fd(), Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(io_error("open", shown))?;
    fchown_at(fd.as_fd(), meta.owner).map_err(io_error("change owner of", shown))?;
    fchmod(&fd, Mode::from_raw_mode(meta.mode))
        .map_err(|error| io_error("change mode of", shown)(error.into()))?;
    if let Some(source) = source {
        copy_xattrs(source, fd.as_fd(), shown)?;
    }
    futimens(&fd, &meta.times()).map_err(|error| io_error("set times of", shown)(error.into()))
}

/// Makes a link, device or FIFO.
pub(crate) fn put_special(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    shown: &Path,
    meta: &Meta,
    special: &Special,
) -> Result<(), Error> {
    put(directory, name, shown, "create", || match special {
        Special::Link(target) => symlinkat(target.as_path(), directory, name),
        Special::Node { kind, device } => mknodat(directory, name, *kind, Mode::RUSR | Mode::WUSR, *device),
    })?;
    let (uid, gid) = (Uid::from_raw(meta.owner.uid), Gid::from_raw(meta.owner.gid));
    chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| io_error("change owner of", shown)(error.into()))?;
    if !matches!(special, Special::Link(_)) {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
            .map_err(|error| io_error("change mode of", shown)(error.into()))?;
    }
    utimensat(directory, name, &meta.times(), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| io_error("set times of", shown)(error.into()))
}

/// What a file holds.
pub(crate) enum Content<'a> {
    /// All of another file, with its extended attributes; it had so many bytes when it was looked at.
    File(&'a mut File, u64),
    /// These bytes.
    Bytes(&'a [u8]),
}

/// A node that is neither file nor directory.
pub(crate) enum Special {
    Link(PathBuf),
    Node { kind: FileType, device: u64 },
}

/// Makes a directory of mode 0755, whatever the umask says, and opens it.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let fd = openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    fchmod(&fd, Mode::from_raw_mode(0o755))?;
    Ok(fd)
}

fn fchown_at(fd: BorrowedFd<'_>, owner: Owner) -> io::Result<()> {
    Ok(fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
}

/// A canonical path as users see it.
pub(crate) fn rooted(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn copy_xattrs(source: BorrowedFd<'_>, target: BorrowedFd<'_>, shown: &Path) -> Result<(), Error> {
    for (name, value) in read_xattrs(source).map_err(io_error("read attributes of", shown))? {
        match sys::xattr::set(target, &name, &value) {
            Ok(()) => {}
            // A file system without them, or a capability that a user namespace may not give: as BuildKit, go on.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::PERM)) => {}
            Err(error) => return Err(io_error("set attributes of", shown)(error)),
        }
    }
    Ok(())
}

/// Files up to this many bytes are copied through memory, which is less work than asking the kernel to do it.
const SMALL: u64 = 128 << 10;

/// Copies a file's bytes: shared extents where the file system has them, else within the kernel, else through memory.
fn copy_content(source: &mut File, target: &mut File, size: u64) -> io::Result<()> {
    if size < SMALL {
        // One byte more than it had, to see whether it has grown.
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(0) + 1];
        let mut filled = 0;
        while filled < buffer.len() {
            match source.read(&mut buffer[filled..]) {
                Ok(0) => return target.write_all(&buffer[..filled]),
                Ok(length) => filled += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        target.write_all(&buffer)?;
    } else if rustix::fs::ioctl_ficlone(&*target, &*source).is_ok() {
        return Ok(());
    }
    let stat = rustix::fs::fstat(&*source)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if u64::try_from(stat.st_blocks).unwrap_or(0) < size / 512 {
        return copy_sparse(source, target, size);
    }
    // std uses copy_file_range and sendfile where they work.
    io::copy(source, target).map(|_| ())
}

/// Copies what is between a file's holes: they could be larger than the disk.
fn copy_sparse(source: &mut File, target: &mut File, size: u64) -> io::Result<()> {
    use rustix::fs::SeekFrom;
    let mut position = 0;
    while position < size {
        let data = match rustix::fs::seek(&*source, SeekFrom::Data(position)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(&*source, SeekFrom::Hole(data))?;
        rustix::fs::seek(&*source, SeekFrom::Start(data))?;
        rustix::fs::seek(&*target, SeekFrom::Start(data))?;
        let copied = io::copy(&mut io::Read::take(&mut *source, hole - data), target)?;
        if copied == 0 {
            break;
        }
        position = data + copied;
    }
    // What was cut off meanwhile is not made up again.
    let now = u64::try_from(rustix::fs::fstat(&*source)?.st_size).unwrap_or(0);
    target.set_len(size.min(now).max(position))
}

/// Opens an entry of a source directory for reading, and makes sure that it still is a regular file.
pub(crate) fn open_regular(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
    // NONBLOCK: a FIFO that took the file's place must not hold the build.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("changed its type while it was read"));
    }
    Ok(file)
}

/// `lstat` of a name in a directory.
pub(crate) fn stat_name(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
