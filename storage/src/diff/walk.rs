//! The difference of two whole trees.

use std::cmp::Ordering;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::tar::error::io_at;
use crate::tar::write::{join, read_xattrs, sorted_names};
use crate::tar::{Error, TreeWriter, WriteOptions, Written};

/// Writes what turns `lower` into `upper` as a layer's stream.
///
/// Files count as equal when type, mode, owner, size, device, link target, time and attributes are, and, since a
/// time can be set back, when their bytes are as well. A directory is listed when it changed or holds a change. Of
/// files with several names those that changed are listed, the first with its content.
pub fn write_changes<W: Write>(
    lower: BorrowedFd<'_>,
    upper: BorrowedFd<'_>,
    options: &WriteOptions<'_>,
    sink: W,
) -> Result<(W, Written), Error> {
    let mut walk = Walk { writer: TreeWriter::new(sink, options), upper, pending: Vec::new() };
    walk.directory(lower, upper, b"")?;
    walk.writer.finish()
}

/// An unchanged directory above the current one, to be listed as soon as something below it changed.
struct Pending {
    parent: OwnedFd,
    name: Vec<u8>,
    path: Vec<u8>,
    stat: Stat,
}

struct Walk<'a, W> {
    writer: TreeWriter<'a, W>,
    upper: BorrowedFd<'a>,
    pending: Vec<Pending>,
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, lower: BorrowedFd<'_>, upper: BorrowedFd<'_>, path: &[u8]) -> Result<(), Error> {
        let old = sorted_names(lower).map_err(io_at("read", path))?;
        let new = sorted_names(upper).map_err(io_at("read", path))?;
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.cmp(new),
            };
            let before = match order {
                Ordering::Greater => None,
                _ => old.next(),
            };
            let after = match order {
                Ordering::Less => None,
                _ => new.next(),
            };
            match (before, after) {
                (Some(name), None) => {
                    let path = join(path, &name);
                    self.list_parents()?;
                    self.writer.whiteout(&path)?;
                }
                (before, Some(name)) => {
                    let path = join(path, &name);
                    if self.writer.skips(&path) {
                        continue;
                    }
                    let lower = before.is_some().then_some(lower);
                    self.compare(lower, upper, &name, path)?;
                }
                (None, None) => return Ok(()),
            }
        }
    }

    fn compare(
        &mut self,
        lower: Option<BorrowedFd<'_>>,
        upper: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
    ) -> Result<(), Error> {
        let stat = stat_at(upper, name).map_err(io_at("stat", &path))?;
        let old = match lower {
            Some(lower) => Some((lower, stat_at(lower, name).map_err(io_at("stat", &path))?)),
            None => None,
        };
        let is_directory = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if let Some((lower, old)) = &old
            && is_directory(old)
            && is_directory(&stat)
        {
            let from = open_directory(*lower, name).map_err(io_at("open", &path))?;
            let to = open_directory(upper, name).map_err(io_at("open", &path))?;
            let same = same_metadata(old, &stat) && same_xattrs(&from, &to).map_err(io_at("read", &path))?;
            if same {
                let parent = rustix::io::dup(upper).map_err(io_at("open", &path))?;
                self.pending.push(Pending { parent, name: name.to_vec(), path: path.clone(), stat });
            } else {
                self.list_parents()?;
                self.writer.file(upper, name, &path, &stat)?;
            }
            let depth = self.pending.len();
            self.directory(from.as_fd(), to.as_fd(), &path)?;
            if same && self.pending.len() == depth {
                self.pending.pop();
            }
            return Ok(());
        }
        if let Some((lower, old)) = &old
            && same_file(*lower, old, upper, &stat, name).map_err(io_at("compare", &path))?
        {
            return Ok(());
        }
        self.list_parents()?;
        if let Some(fd) = self.writer.file(upper, name, &path, &stat)? {
            self.writer.walk(self.upper, fd, path)?;
        }
        Ok(())
    }

    fn list_parents(&mut self) -> Result<(), Error> {
        for parent in std::mem::take(&mut self.pending) {
            self.writer.file(parent.parent.as_fd(), &parent.name, &parent.path, &parent.stat)?;
        }
        Ok(())
    }
}

fn same_metadata(old: &Stat, new: &Stat) -> bool {
    let key = |stat: &Stat| {
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev, stat.st_mtime, stat.st_mtime_nsec)
    };
    key(old) == key(new)
}

fn same_file(
    lower: BorrowedFd<'_>,
    old: &Stat,
    upper: BorrowedFd<'_>,
    new: &Stat,
    name: &[u8],
) -> Result<bool, Errno> {
    if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
        return Ok(true);
    }
    if !same_metadata(old, new) {
        return Ok(false);
    }
    match FileType::from_raw_mode(new.st_mode) {
        FileType::Symlink => {
            let target = |parent| rustix::fs::readlinkat(parent, name, Vec::new());
            Ok(target(lower)? == target(upper)?)
        }
        FileType::RegularFile if old.st_size != new.st_size => Ok(false),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from = rustix::fs::openat(lower, name, flags, Mode::empty())?;
            let to = rustix::fs::openat(upper, name, flags, Mode::empty())?;
            Ok(same_xattrs(&from, &to)? && same_bytes(&from, &to)?)
        }
        _ => Ok(true),
    }
}

fn same_xattrs(from: &OwnedFd, to: &OwnedFd) -> Result<bool, Errno> {
    Ok(read_xattrs(from.as_fd())? == read_xattrs(to.as_fd())?)
}

fn same_bytes(from: &OwnedFd, to: &OwnedFd) -> Result<bool, Errno> {
    let (mut one, mut other) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = read_full(from, &mut one)?;
        if length != read_full(to, &mut other)? || one[..length] != other[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

fn read_full(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(file, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

fn stat_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Brings later times beneath `directory` down to `seconds`.
pub(super) fn clamp(directory: BorrowedFd<'_>, seconds: i64) -> Result<(), Error> {
    clamp_below(directory, seconds, b"")
}

fn clamp_below(directory: BorrowedFd<'_>, seconds: i64, path: &[u8]) -> Result<(), Error> {
    for name in sorted_names(directory).map_err(io_at("read", path))? {
        let path = join(path, &name);
        let stat = stat_at(directory, &name).map_err(io_at("stat", &path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let fd = open_directory(directory, &name).map_err(io_at("open", &path))?;
            clamp_below(fd.as_fd(), seconds, &path)?;
        }
        if (stat.st_mtime, stat.st_mtime_nsec) > (seconds, 0) {
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(directory, name.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(io_at("set time of", &path))?;
        }
    }
    Ok(())
}
