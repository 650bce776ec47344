//! Copies a tree as it is: owners, modes, times, attributes, links, devices, holes where the file system shares blocks.

use crate::error::Result;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, makedev,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Each level keeps two descriptors open.
const DEEPEST: usize = 400;

/// Copies all that is in `from`, and what `from` itself is, into the existing empty directory `to`.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    copy_directory(&sys::fs::open_dir(from)?, &sys::fs::open_dir(to)?, from)
}

/// Copies all that is in a directory, and what it is itself, into an existing empty one; both are open for reading. No link
/// is followed. `shown` names the source in errors.
pub fn copy_directory(source: &OwnedFd, target: &OwnedFd, shown: &Path) -> Result<()> {
    let mut path = PathBuf::new();
    let mut copy = || -> io::Result<()> {
        let mut copier = Copier { links: HashMap::new(), top: target.try_clone()? };
        let stat = rustix::fs::fstat(source)?;
        copier.copy_entries(source.as_fd(), target.as_fd(), &mut path, 0)?;
        finish_directory(source.as_fd(), target.as_fd(), &stat)
    };
    copy().map_err(|source| sys::fs::Error::new("copy", shown.join(&path), source).into())
}

struct Copier {
    /// Files with several names that were copied, and where.
    links: HashMap<(u64, u64), PathBuf>,
    top: OwnedFd,
}

impl Copier {
    /// Copies the entries of one directory. After a failure, `path` names what it was about.
    fn copy_entries(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::from(Errno::NAMETOOLONG));
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(source)? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        for name in names {
            path.push(&name);
            self.copy_entry(source, target, &name, path, depth)?;
            path.pop();
        }
        Ok(())
    }

    fn copy_entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &OsStr,
        path: &mut PathBuf,
        depth: usize,
    ) -> io::Result<()> {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_nlink > 1 && kind != FileType::Directory {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return Ok(rustix::fs::linkat(&self.top, first, target, name, AtFlags::empty())?);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        match kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = rustix::fs::openat(source, name, flags, Mode::empty())?;
                rustix::fs::mkdirat(target, name, Mode::RWXU)?;
                let to = rustix::fs::openat(target, name, flags, Mode::empty())?;
                self.copy_entries(from.as_fd(), to.as_fd(), path, depth + 1)?;
                finish_directory(from.as_fd(), to.as_fd(), &stat)
            }
            FileType::RegularFile => copy_file(source, target, name, &stat),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, Vec::new())?;
                rustix::fs::symlinkat(link, target, name)?;
                finish_by_name(source, target, name, &stat)
            }
            _ => {
                let device = makedev(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                rustix::fs::mknodat(target, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), device)?;
                finish_by_name(source, target, name, &stat)?;
                Ok(rustix::fs::chmodat(
                    target,
                    name,
                    Mode::from_raw_mode(stat.st_mode & 0o7777),
                    AtFlags::empty(),
                )?)
            }
        }
    }
}

fn copy_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let from =
        rustix::fs::openat(source, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
    copy_content(&from, &to, u64::try_from(stat.st_size).unwrap_or(0))?;
    copy_attributes(&from, &to)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // chown clears security.capability, too.
    copy_capability(&from, &to)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(&to, &times(stat))?)
}

/// Shares the blocks where the file system can, else copies what is not a hole.
fn copy_content(from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    rustix::fs::ftruncate(to, size)?;
    let mut offset = 0;
    while offset < size {
        let data = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => offset,
            Err(errno) => return Err(errno.into()),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(data)).unwrap_or(size).min(size);
        copy_range(from, to, data, end)?;
        offset = end.max(data + 1);
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut source, mut target) = (start, start);
    while source < end {
        let length = usize::try_from(end - source).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return copy_by_buffer(from, to, source, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn copy_by_buffer(from: &OwnedFd, to: &OwnedFd, mut offset: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0u8; 256 << 10];
    while offset < end {
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        let length = rustix::io::pread(from, &mut buffer[..length], offset)?;
        if length == 0 {
            break;
        }
        let mut written = 0;
        while written < length {
            let at = offset + u64::try_from(written).unwrap_or(0);
            written += rustix::io::pwrite(to, &buffer[written..length], at)?;
        }
        offset += u64::try_from(length).unwrap_or(0);
    }
    Ok(())
}

/// What a directory is; its times last, after its entries were made.
fn finish_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    copy_attributes(from, to)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

/// What a file is that cannot be opened.
fn finish_by_name(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &OsStr,
    stat: &Stat,
) -> io::Result<()> {
    for attribute in sys::xattr::list_at(source, name)? {
        if let Some(value) = sys::xattr::get_at(source, name, &attribute)? {
            tolerate(&attribute, sys::xattr::set_at(target, name, &attribute, &value))?;
        }
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

const CAPABILITY: &str = "security.capability";

fn copy_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    for name in sys::xattr::list(&from)? {
        if name != CAPABILITY
            && let Some(value) = sys::xattr::get(&from, &name)?
        {
            tolerate(&name, sys::xattr::set(&to, &name, &value))?;
        }
    }
    Ok(())
}

fn copy_capability(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let name = OsStr::new(CAPABILITY);
    match sys::xattr::get(from, name)? {
        Some(value) => sys::xattr::set(to, name, &value),
        None => Ok(()),
    }
}

/// Labels that the security module or a user namespace keeps to itself are the target's own business.
fn tolerate(name: &OsStr, result: io::Result<()>) -> io::Result<()> {
    let ours = name.as_bytes().starts_with(b"user.") || name == CAPABILITY;
    match result {
        Err(_) if !ours => Ok(()),
        result => result,
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
