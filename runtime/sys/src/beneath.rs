//! Opening paths inside a directory that must not be left: a rootfs, an unpack target, a build context.
//!
//! All calls resolve in the kernel (`openat2`), so a tree that is changed meanwhile by somebody hostile cannot lead
//! outside.

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

/// Opens an existing directory without access to its entries (`O_PATH`), following links: for roots that we own.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a path as a process would whose root directory is `root`: absolute paths and links, and `..`, stay inside.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    open2(root, path, flags, mode, resolve)
}

/// Opens a path below `root` that contains no symbolic link and no `..` that leaves it. A leading `/` means `root`.
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open2(root, relative(path), flags, mode, resolve)
}

/// As [`open_beneath`], but crossing into another mount is an error too.
pub fn open_beneath_same_mount(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: u32,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    open2(root, relative(path), flags, mode, resolve)
}

/// Links followed while a directory is made, at most; as many as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

/// Opens a directory as [`open_in_root`] does, creating what is missing of it with `mode` (not subject to the umask)
/// and the given owner. Where a symbolic link leads to a missing directory, that one is made, inside of the root too
/// (an image's `/var/run` may link to a `/run` that it lacks).
pub fn create_dir_all_in_root(
    root: impl AsFd,
    path: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<OwnedFd> {
    create_through_links(root.as_fd(), path, mode, owner, MAX_LINKS)
}

fn create_through_links(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
    links: u32,
) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open_in_root(root, path, flags, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    // The prefix is resolved from the root each time: `..` after a link means the link's target's parent.
    let mut prefix = OsString::new();
    let mut parent = open_in_root(root, Path::new("/"), flags, 0)?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            if component == Component::ParentDir {
                prefix.push("/..");
                parent = open_in_root(root, Path::new(&prefix), flags, 0)?;
            }
            continue;
        };
        let mut whole = prefix.clone();
        whole.push("/");
        whole.push(name);
        parent = match open_in_root(root, Path::new(&whole), flags, 0) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => match read_link(&parent, name) {
                Ok(target) => {
                    let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                    let target = Path::new(&prefix).join(target);
                    create_through_links(root, &target, mode, owner, links)?
                }
                Err(_) => {
                    create_dir(&parent, name, mode, owner)?;
                    open_in_root(root, Path::new(&whole), flags, 0)?
                }
            },
            Err(error) => return Err(error),
        };
        prefix = whole;
    }
    Ok(parent)
}

/// Creates one directory in an open one, with exactly this mode. An existing directory is no error and is not changed.
fn create_dir(parent: &OwnedFd, name: &OsStr, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(&made, Some(uid), Some(gid))?;
    }
    // After the owner: chown may clear set-id bits.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// Opens the directory that holds the last component of `path`, resolved as in [`open_in_root`], and returns that
/// component's name, which itself is not resolved. `None` for the root.
pub fn open_parent_in_root(root: impl AsFd, path: &Path) -> io::Result<Option<(OwnedFd, OsString)>> {
    let Some(name) = path.file_name() else {
        return if path.components().any(|component| component == Component::ParentDir) {
            Err(io::Error::from(io::ErrorKind::InvalidInput))
        } else {
            Ok(None)
        };
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("/"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Some((open_in_root(root, parent, flags, 0)?, name.to_owned())))
}

/// Reads a symbolic link of one directory.
pub fn read_link(directory: impl AsFd, name: &OsStr) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// Removes a file, not a directory, of one directory; a missing one is no error.
pub fn remove_file(directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a file again, which an `O_PATH` descriptor needs before it can be read: `flags` decide how.
pub fn reopen(fd: impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn relative(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    if start == bytes.len() { Path::new(".") } else { Path::new(OsStr::from_bytes(&bytes[start..])) }
}

fn open2(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: u32,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode & 0o7777 } else { 0 };
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // The kernel answers EAGAIN where a rename anywhere raced with a `..`; a bound, since an attacker can do that.
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < 128 => attempts += 1,
            result => return Ok(result?),
        }
    }
}
