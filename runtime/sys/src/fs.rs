//! File operations whose errors name the path, and the crash-safe ways to write a file.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    // Most such files are small, and are read at once then.
    let mut bytes = Vec::with_capacity(4096);
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
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        .map_err(|errno| Error::new("change mode of", path, errno))
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
    let top = match open_for_removal(CWD, path.as_os_str()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(Error::new("open", path, errno)),
    };
    let device = rustix::fs::fstat(&top).map_err(|errno| Error::new("stat", path, errno))?.st_dev;
    let mut removal = Removal { top: top.as_fd(), device, moved: 0, first: None };
    loop {
        let moved = removal.moved;
        removal.empty(&top, path, 0);
        match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) if removal.moved > moved => {}
            Err(errno) => return Err(removal.first.unwrap_or_else(|| Error::new("remove", path, errno))),
        }
    }
}

/// A tree can be deeper than descriptors or stack allow; from this depth on, directories are first moved to the top.
const DEEP: usize = 128;

struct Removal<'a> {
    top: BorrowedFd<'a>,
    device: u64,
    moved: u64,
    first: Option<Error>,
}

impl Removal<'_> {
    fn note(&mut self, action: &'static str, path: PathBuf, errno: Errno) {
        if errno != Errno::NOENT {
            self.first.get_or_insert(Error::new(action, path, errno));
        }
    }

    fn empty(&mut self, directory: &OwnedFd, shown: &Path, depth: usize) {
        let mut entries = match Dir::read_from(directory) {
            Ok(entries) => entries,
            Err(errno) => return self.note("read", shown.to_owned(), errno),
        };
        while let Some(Ok(entry)) = entries.next() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            // A file system that does not say types in its directories has us try.
            if entry.file_type() != FileType::Directory {
                match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                    Ok(()) => continue,
                    Err(Errno::ISDIR | Errno::PERM) if entry.file_type() == FileType::Unknown => {}
                    Err(errno) => {
                        self.note("remove", shown.join(name), errno);
                        continue;
                    }
                }
            }
            if rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR).is_err() {
                self.remove_directory(directory, name, shown, depth);
            }
        }
    }

    fn remove_directory(&mut self, parent: &OwnedFd, name: &OsStr, shown: &Path, depth: usize) {
        let path = shown.join(name);
        let directory = match open_for_removal(parent, name) {
            Ok(directory) => directory,
            Err(errno) => return self.note("open", path, errno),
        };
        match rustix::fs::fstat(&directory) {
            Ok(stat) if stat.st_dev == self.device => {}
            Ok(_) => return self.note("remove", path, Errno::BUSY),
            Err(errno) => return self.note("stat", path, errno),
        }
        if depth >= DEEP {
            // Names below the top that are taken make the rename fail only if they are directories with content,
            // and then the number goes on.
            self.moved += 1;
            let target = format!(".davit-removed-{}-{}", std::process::id(), self.moved);
            if let Err(errno) = rustix::fs::renameat(parent, name, self.top, target) {
                self.note("move", path, errno);
            }
            return;
        }
        // Some file systems skip entries while others are removed: more than one pass.
        for _ in 0..4 {
            self.empty(&directory, &path, depth + 1);
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return,
                Err(Errno::NOTEMPTY) if self.first.is_none() => {}
                Err(errno) => return self.note("remove", path, errno),
            }
        }
        self.note("remove", path, Errno::NOTEMPTY);
    }
}

/// Opens a directory that is to be emptied, and gives its owner the permissions for that.
fn open_for_removal(parent: impl AsFd, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS | Errno::PERM) => {
            // NOFOLLOW is not offered by chmodat; that it is a directory was seen by whoever calls.
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(&parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        let _ = rustix::fs::fchmod(&opened, Mode::RWXU);
    }
    Ok(opened)
}
