//! File operations whose errors name the path, and the crash-safe ways to write a file.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A failed operation on a file.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct Error {
    /// What was attempted, as a verb: `open`, `rename`, ..
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the kernel answered.
    pub source: io::Error,
}

impl Error {
    /// An error of `action` on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    /// The kind of the cause.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Turns a missing file into `None`.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::new("open", path, source))
}

/// Opens a directory.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open", path, errno))
}

/// Opens a file for reading and writing, creating it with `mode` if it is missing.
pub fn open_or_create(path: &Path, mode: u32) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(mode))
        .map(File::from)
        .map_err(|errno| Error::new("open", path, errno))
}

/// Creates a file for writing that must not exist.
pub fn create_new(path: &Path, mode: u32) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::from_raw_mode(mode))
        .map(File::from)
        .map_err(|errno| Error::new("create", path, errno))
}

/// Reads a whole file, at most `max` bytes of it; a longer one is an error.
pub fn read_limited(path: &Path, max: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| Error::new("read", path, source))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > max) {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes"));
        return Err(Error::new("read", path, source));
    }
    Ok(bytes)
}

/// Whether the content of a written file must survive a power failure before the rename makes it visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// No: the file lies on tmpfs, or a later [`sync_fs`] covers it.
    None,
    /// Yes: fdatasync before the rename.
    Data,
}

/// Replaces or creates a file as a whole: a reader sees the old content or the new one, never a part.
///
/// The temporary file beside it begins with `.tmp-`; one that a killed writer left has no meaning.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let temporary = temporary_beside(path);
    let mut file = create_new(&temporary, mode)?;
    let result = file
        .write_all(bytes)
        .and_then(|()| if sync == Sync::Data { file.sync_data() } else { Ok(()) })
        .map_err(|source| Error::new("write", path, source))
        .and_then(|()| rename(&temporary, path));
    if result.is_err() {
        let _ = remove_file(&temporary);
    }
    result
}

/// Creates a file as a whole that must not exist yet.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let temporary = temporary_beside(path);
    let mut file = create_new(&temporary, mode)?;
    let result = file
        .write_all(bytes)
        .and_then(|()| if sync == Sync::Data { file.sync_data() } else { Ok(()) })
        .map_err(|source| Error::new("write", path, source))
        .and_then(|()| rename_noreplace(&temporary, path));
    if result.is_err() {
        let _ = remove_file(&temporary);
    }
    result
}

/// Prefix of the names of temporary files of [`write_atomic`].
pub const TEMPORARY_PREFIX: &str = ".tmp-";

fn temporary_beside(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    // Process IDs differ only within one PID namespace, and stores are shared between namespaces.
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let name = format!(
        "{TEMPORARY_PREFIX}{}-{:x}-{}",
        std::process::id(),
        time.as_nanos(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    );
    path.parent().unwrap_or(Path::new(".")).join(name)
}

/// Renames a file or directory, replacing what has the new name.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::rename(from, to).map_err(|errno| Error::new("rename to", to, errno))
}

/// Renames a file or directory; a taken new name is an error of kind `AlreadyExists`.
pub fn rename_noreplace(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A few file systems (old NFS, some FUSE) do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if rustix::fs::lstat(to).is_ok() {
                return Err(Error::new("rename to", to, Errno::EXIST));
            }
            rename(from, to)
        }
        result => result.map_err(|errno| Error::new("rename to", to, errno)),
    }
}

/// Exchanges two names in one step.
pub fn rename_exchange(one: &Path, other: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|errno| Error::new("exchange", other, errno))
}

/// Removes a file; a missing one is an error.
pub fn remove_file(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|source| Error::new("remove", path, source))
}

/// Removes a file and says whether it was there.
pub fn remove_file_if_exists(path: &Path) -> Result<bool> {
    Ok(optional(remove_file(path))?.is_some())
}

/// Removes an empty directory.
pub fn remove_dir(path: &Path) -> Result<()> {
    std::fs::remove_dir(path).map_err(|source| Error::new("remove", path, source))
}

/// Creates a directory with exactly this mode, whatever the umask says. Its parent must exist.
pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode)).map_err(|errno| Error::new("create", path, errno))?;
    set_mode(path, mode)
}

/// Creates a directory and its missing parents; existing ones stay as they are.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| Error::new("create", path, source))
}

/// Sets the permission bits of a file or directory.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(|errno| Error::new("change mode of", path, errno))
}

/// Reads what a file is, following a symbolic link.
pub fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::metadata(path).map_err(|source| Error::new("stat", path, source))
}

/// Reads what a file is, not following a symbolic link.
pub fn symlink_metadata(path: &Path) -> Result<Metadata> {
    std::fs::symlink_metadata(path).map_err(|source| Error::new("stat", path, source))
}

/// Whether there is a file of this name; a symbolic link is not followed.
pub fn exists(path: &Path) -> Result<bool> {
    Ok(optional(symlink_metadata(path))?.is_some())
}

/// Names in a directory, without `.` and `..`, in no order.
pub fn read_names(path: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    let read = || -> io::Result<()> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for entry in Dir::new(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(())
    };
    let mut read = read;
    read().map_err(|source| Error::new("read", path, source))?;
    Ok(names)
}

/// Writes everything of the file system that `path` lies on to disk.
pub fn sync_fs(path: &Path) -> Result<()> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new("open", path, errno))?;
    rustix::fs::syncfs(&fd).map_err(|errno| Error::new("sync file system of", path, errno))
}

/// Writes a directory's entries to disk, so that a rename into it survives a power failure.
pub fn sync_dir(path: &Path) -> Result<()> {
    let fd = open_dir(path)?;
    rustix::fs::fsync(&fd).map_err(|errno| Error::new("sync", path, errno))
}

/// Deletes a directory with all that is in it, or a file; a missing one is no error. Directories without permissions
/// are given some; mount points and symbolic links are not entered. Goes on after an error and returns the first.
pub fn remove_tree(path: &Path) -> Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS) => {}
        Err(errno) => return Err(Error::new("remove", path, errno)),
    }
    let device = rustix::fs::lstat(path).map_err(|errno| Error::new("stat", path, errno))?.st_dev;
    let mut first = None;
    remove_below(CWD, path, path, device, &mut first);
    match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(first.unwrap_or_else(|| Error::new("remove", path, errno))),
    }
}

// Empties one directory. Recursion is as deep as the tree, which the kernel bounds for whoever made it by descriptors
// only by patience: each level costs one descriptor and a small frame, and beyond `DEEP` levels the rest is moved up.
fn remove_below(parent: impl AsFd, name: &Path, shown: &Path, device: u64, first: &mut Option<Error>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS | Errno::PERM) => {
            let _ = rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty());
            rustix::fs::openat(&parent, name, flags, Mode::empty())
        }
        other => other,
    };
    let fd = match opened {
        Ok(fd) => fd,
        Err(errno) => {
            first.get_or_insert(Error::new("open", shown, errno));
            return;
        }
    };
    match rustix::fs::fstat(&fd) {
        Ok(stat) if stat.st_dev != device => {
            first.get_or_insert(Error::new("remove", shown, Errno::BUSY));
            return;
        }
        Ok(stat) if Mode::from_raw_mode(stat.st_mode) & Mode::RWXU != Mode::RWXU => {
            let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
        }
        _ => {}
    }
    let entries = match Dir::read_from(&fd) {
        Ok(entries) => entries,
        Err(errno) => {
            first.get_or_insert(Error::new("read", shown, errno));
            return;
        }
    };
    for entry in entries {
        let Ok(entry) = entry else { break };
        let entry_name = entry.file_name();
        if matches!(entry_name.to_bytes(), b"." | b"..") {
            continue;
        }
        let unlinked = if entry.file_type() == FileType::Directory {
            Err(Errno::ISDIR)
        } else {
            rustix::fs::unlinkat(&fd, entry_name, AtFlags::empty())
        };
        match unlinked {
            Ok(()) | Err(Errno::NOENT) => {}
            // A file system that does not say types in its directories has us try.
            Err(Errno::ISDIR | Errno::PERM) => {
                let entry_path = Path::new(OsStr::from_bytes(entry_name.to_bytes()));
                if rustix::fs::unlinkat(&fd, entry_name, AtFlags::REMOVEDIR).is_ok() {
                    continue;
                }
                let shown = shown.join(entry_path);
                remove_below(&fd, entry_path, &shown, device, first);
                if let Err(errno) = rustix::fs::unlinkat(&fd, entry_name, AtFlags::REMOVEDIR)
                    && errno != Errno::NOENT
                {
                    first.get_or_insert(Error::new("remove", shown, errno));
                }
            }
            Err(errno) => {
                let shown = shown.join(OsStr::from_bytes(entry_name.to_bytes()));
                first.get_or_insert(Error::new("remove", shown, errno));
            }
        }
    }
}
