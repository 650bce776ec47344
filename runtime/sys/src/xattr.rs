//! Extended attributes: of open files, and of the files of an open directory without following links.

use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Reads an attribute of an open file; `None` where the file has none of this name, or the file system none at all.
/// An `O_PATH` descriptor works too.
pub fn get(file: impl AsFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let fd = file.as_fd();
    match read(|buffer| rustix::fs::fgetxattr(fd, name, buffer)) {
        Err(Errno::BADF) => found(read(|buffer| rustix::fs::getxattr(magic(fd), name, buffer))),
        result => found(result),
    }
}

/// Sets an attribute of an open file.
pub fn set(file: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let fd = file.as_fd();
    match rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()) {
        Err(Errno::BADF) => Ok(rustix::fs::setxattr(magic(fd), name, value, XattrFlags::empty())?),
        result => Ok(result?),
    }
}

/// Removes an attribute of an open file; a missing one is no error.
pub fn remove(file: impl AsFd, name: &OsStr) -> io::Result<()> {
    let fd = file.as_fd();
    match rustix::fs::fremovexattr(fd, name) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(Errno::BADF) => match rustix::fs::removexattr(magic(fd), name) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// Names of the attributes of an open file, sorted.
pub fn list(file: impl AsFd) -> io::Result<Vec<OsString>> {
    let fd = file.as_fd();
    match read(|buffer| rustix::fs::flistxattr(fd, buffer)) {
        Err(Errno::BADF) => names(read(|buffer| rustix::fs::listxattr(magic(fd), buffer))),
        result => names(result),
    }
}

/// Reads an attribute of the file `name` in an open directory; a symbolic link is not followed.
pub fn get_at(directory: impl AsFd, file: &OsStr, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let path = in_directory(directory, file)?;
    found(read(|buffer| rustix::fs::lgetxattr(&path, name, buffer)))
}

/// Sets an attribute of the file `name` in an open directory; a symbolic link is not followed.
pub fn set_at(directory: impl AsFd, file: &OsStr, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(&in_directory(directory, file)?, name, value, XattrFlags::empty())?)
}

/// Names of the attributes of the file `name` in an open directory, sorted; a symbolic link is not followed.
pub fn list_at(directory: impl AsFd, file: &OsStr) -> io::Result<Vec<OsString>> {
    let path = in_directory(directory, file)?;
    names(read(|buffer| rustix::fs::llistxattr(&path, buffer)))
}

/// Reads an attribute of a path; a symbolic link at its end is not followed.
pub fn get_path(path: &Path, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    found(read(|buffer| rustix::fs::lgetxattr(path, name, buffer)))
}

/// Sets an attribute of a path; a symbolic link at its end is not followed.
pub fn set_path(path: &Path, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

/// Names of the attributes of a path, sorted; a symbolic link at its end is not followed.
pub fn list_path(path: &Path) -> io::Result<Vec<OsString>> {
    names(read(|buffer| rustix::fs::llistxattr(path, buffer)))
}

/// Calls with a buffer on the stack first, which nearly all attributes fit into, then with one of the largest size.
fn read(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    const XATTR_SIZE_MAX: usize = 65536;
    let mut small = [0u8; 1024];
    match call(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0u8; XATTR_SIZE_MAX];
            let length = call(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}

fn found(result: Result<Vec<u8>, Errno>) -> io::Result<Option<Vec<u8>>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn names(result: Result<Vec<u8>, Errno>) -> io::Result<Vec<OsString>> {
    let bytes = match result {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        result => result?,
    };
    let mut names: Vec<OsString> = bytes
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect();
    names.sort();
    Ok(names)
}

fn magic(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn in_directory(directory: impl AsFd, file: &OsStr) -> io::Result<PathBuf> {
    // More than one component would be resolved through links.
    if file.as_bytes().contains(&b'/') || file.is_empty() || file == ".." {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(magic(directory).join(file))
}
