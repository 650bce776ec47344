//! A mount's files out of packs. The index and the packs may come from anybody: paths are opened beneath the directory,
//! in which no symbolic link exists before all files are written, and every chunk is checked before it is.

use super::index::{Entry, Index, Kind, Pack};
use crate::{Error, Result};
use oci::Digest;
use registry::Source;
use registry::transport::Verified;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::compress::decoder;

/// Packs that are fetched at the same time.
const PARALLEL: usize = 4;

type Io<T> = std::io::Result<T>;

/// Fills an empty directory. After an error it holds anything.
pub(in crate::build::cache) fn restore(source: &dyn Source, index: &Index, directory: &Path) -> Result<()> {
    let attempt = || format!("fill a cache mount from {}", source.describe());
    let root = sys::fs::open_dir(directory).map_err(|error| Error::os(attempt(), error.source))?;
    fill(source, index, &root).map_err(|error| Error::os(attempt(), error))
}

fn damaged(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

fn fill(source: &dyn Source, index: &Index, root: &OwnedFd) -> Io<()> {
    let root = root.as_fd();
    let mut entries: Vec<(PathBuf, &Entry, Kind)> = Vec::with_capacity(index.entries.len());
    for entry in &index.entries {
        let (Some(path), Some(kind)) = (entry.path(), entry.kind()) else {
            return Err(damaged("an entry that cannot be"));
        };
        entries.push((path, entry, kind));
    }
    for (path, ..) in entries.iter().filter(|(.., kind)| *kind == Kind::Directory) {
        let (parent, name) = parent(root, path)?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
    }
    for (path, ..) in entries.iter().filter(|(.., kind)| *kind == Kind::File) {
        let (parent, name) = parent(root, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?;
    }
    write_chunks(source, index, &entries, root)?;
    for (path, entry, _) in entries.iter().filter(|(.., kind)| *kind == Kind::Link) {
        let (parent, name) = parent(root, path)?;
        let target = entry.target().ok_or_else(|| damaged("a link without a target"))?;
        rustix::fs::symlinkat(&target, &parent, name)?;
    }
    // children before their directories, whose times they would change; the first entries are parents
    for (path, entry, kind) in entries.iter().rev() {
        finish(root, path, entry, *kind)?;
    }
    Ok(())
}

/// The open directory above a path, and the name in it.
fn parent<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Io<(OwnedFd, &'a std::ffi::OsStr)> {
    let name = path.file_name().ok_or_else(|| damaged("a path without a name"))?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((sys::beneath::open_beneath(root, above, flags, 0)?, name))
}

/// Where a chunk goes: the entry, and the offset in it.
type Places = HashMap<usize, Vec<(usize, u64)>>;

fn write_chunks(
    source: &dyn Source,
    index: &Index,
    entries: &[(PathBuf, &Entry, Kind)],
    root: BorrowedFd<'_>,
) -> Io<()> {
    let lengths: Vec<u32> =
        index.packs.iter().flat_map(|pack| pack.chunks.iter().map(|(_, length)| *length)).collect();
    let mut places: Places = HashMap::new();
    for (number, (_, entry, kind)) in entries.iter().enumerate() {
        let mut offset = 0;
        for chunk in &entry.chunks {
            if *kind == Kind::File {
                places.entry(*chunk).or_default().push((number, offset));
            }
            offset += u64::from(lengths.get(*chunk).copied().unwrap_or(0));
        }
    }
    let mut firsts = Vec::new();
    let mut first = 0;
    for pack in &index.packs {
        firsts.push(first);
        first += pack.chunks.len();
    }
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<std::io::Error>> = Mutex::new(None);
    let failed = || failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = || {
        while failed().is_none() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(pack) = index.packs.get(at) else { return };
            if let Err(error) = write_pack(source, pack, firsts[at], &places, entries, root) {
                failed().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..index.packs.len().min(PARALLEL) {
            scope.spawn(work);
        }
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn write_pack(
    source: &dyn Source,
    pack: &Pack,
    first: usize,
    places: &Places,
    entries: &[(PathBuf, &Entry, Kind)],
    root: BorrowedFd<'_>,
) -> Io<()> {
    if !(first..first + pack.chunks.len()).any(|chunk| places.contains_key(&chunk)) {
        return Ok(());
    }
    let blob = source.blob(&pack.blob, 0).map_err(std::io::Error::other)?;
    let verified = Verified::new(blob, pack.blob.clone(), source.describe());
    let (_, mut plain) = decoder(BufReader::with_capacity(128 << 10, verified))?;
    let mut buffer = Vec::new();
    // chunks of one file mostly stand behind each other
    let mut open: Option<(usize, File)> = None;
    for (position, (digest, length)) in pack.chunks.iter().enumerate() {
        buffer.resize(usize::try_from(*length).unwrap_or(0), 0);
        plain.read_exact(&mut buffer)?;
        let Some(places) = places.get(&(first + position)) else { continue };
        if Digest::of(&buffer) != *digest {
            return Err(damaged("a chunk has another digest than the index says"));
        }
        for (number, offset) in places {
            if open.as_ref().is_none_or(|(known, _)| known != number) {
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let path = &entries[*number].0;
                open = Some((*number, File::from(sys::beneath::open_beneath(root, path, flags, 0)?)));
            }
            if let Some((_, file)) = &open {
                file.write_all_at(&buffer, *offset)?;
            }
        }
    }
    Ok(())
}

/// Owner, mode and times of an entry.
fn finish(root: BorrowedFd<'_>, path: &Path, entry: &Entry, kind: Kind) -> Io<()> {
    let (parent, name) = parent(root, path)?;
    let owner = rustix::process::Uid::from_raw(entry.owner.0);
    let group = rustix::process::Gid::from_raw(entry.owner.1);
    match rustix::fs::chownat(&parent, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW) {
        // a user namespace that does not have them: the files are the caller's then
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    if kind != Kind::Link {
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
    }
    let (seconds, nanos) = entry.time;
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos.min(999_999_999)) };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
