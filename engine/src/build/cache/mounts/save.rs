//! A mount's files into packs: only chunks that no pack of the destination has.

use super::index::{Entry, Index, Kind, PACK, Pack};
use super::notes::{Notes, State};
use crate::{Error, Result};
use builder::secrets::{Form, Search};
use oci::{Compression, Descriptor, Digest, Digester};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use storage::chunker::Chunker;
use storage::compress::Encoder;
use storage::{CacheMount, Lease};

/// Packs that were written, by their digests.
pub(in crate::build::cache) type NewPacks = BTreeMap<Digest, PathBuf>;

/// Bytes of chunks after which a pack is complete.
const PACK_BYTES: u64 = 16 << 20;
/// Deeper directories are not followed.
const DEEPEST: usize = 200;

/// A mount as it leaves.
#[derive(Debug)]
pub(in crate::build::cache) struct Saved {
    pub(in crate::build::cache) index: Index,
    /// Where the new packs lie: in the lease's working directory, and gone with it.
    pub(in crate::build::cache) packs: NewPacks,
    /// Bytes of files that were read, because nothing was known of them.
    #[cfg_attr(not(test), expect(dead_code, reason = "what an export costs, for those who watch that"))]
    pub(super) read: u64,
}

/// Packs what is new of a mount and makes its index. Sockets, pipes and devices stay behind.
pub(in crate::build::cache) fn save(
    lease: &Lease,
    mount: &CacheMount,
    previous: Option<&Index>,
    secrets: Option<&Search>,
) -> Result<Saved> {
    let attempt = || format!("read the cache mount {}", mount.path().display());
    let root = sys::fs::open_dir(mount.path()).map_err(|error| Error::os(attempt(), error.source))?;
    let mut saving = Saving {
        old: previous.map(|index| index.packs.clone()).unwrap_or_default(),
        known: HashMap::new(),
        notes: Notes::read(&mount.notes()),
        fresh: Notes::default(),
        packer: Packer { lease, packs: Vec::new(), files: NewPacks::new(), open: None },
        files: Vec::new(),
        read: 0,
        chunker: Chunker::new(Box::new(std::io::empty())),
        secrets,
    };
    for (pack, old) in saving.old.iter().enumerate() {
        for (digest, _) in &old.chunks {
            saving.known.entry(digest.clone()).or_insert(Some(pack));
        }
    }
    saving.walk(root.as_fd(), Path::new(""), 0).map_err(|error| error.attempt(attempt()))?;
    saving.repack(root.as_fd()).map_err(|error| error.attempt(attempt()))?;
    let notes = std::mem::take(&mut saving.fresh);
    let made = saving.finish().map_err(|error| error.attempt(attempt()))?;
    notes.write(&mount.notes());
    Ok(made)
}

/// An error of a file or of the store, or something that must not leave.
enum Failed {
    Io(std::io::Error),
    Store(storage::Error),
    Secret { path: String, id: String, form: Form },
}

impl Failed {
    fn attempt(self, attempt: String) -> Error {
        match self {
            Failed::Io(error) => Error::os(attempt, error),
            Failed::Store(error) => crate::error::storage(attempt)(error),
            Failed::Secret { path, id, form } => Error::invalid(
                format!("export the file {path} of a cache mount"),
                format!("it has the value of secret {id:?} in it ({})", form.as_str()),
            ),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Failed::Io(error)
    }
}

impl From<rustix::io::Errno> for Failed {
    fn from(error: rustix::io::Errno) -> Self {
        Failed::Io(error.into())
    }
}

impl From<storage::Error> for Failed {
    fn from(error: storage::Error) -> Self {
        Failed::Store(error)
    }
}

type Done<T> = std::result::Result<T, Failed>;

/// A file or other entry with the digests of its chunks.
type Seen = (Entry, PathBuf, Vec<(Digest, u32)>);

struct Saving<'a> {
    old: Vec<Pack>,
    /// By digest: the old pack that has it, or `None` for a new one.
    known: HashMap<Digest, Option<usize>>,
    notes: Notes,
    fresh: Notes,
    packer: Packer<'a>,
    files: Vec<Seen>,
    read: u64,
    chunker: Chunker<Box<dyn Read>>,
    secrets: Option<&'a Search>,
}

impl Saving<'_> {
    fn walk(&mut self, directory: BorrowedFd<'_>, path: &Path, depth: usize) -> Done<()> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(directory)? {
            let name = entry?.file_name().to_owned();
            if name.to_bytes() != b"." && name.to_bytes() != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        for name in names {
            let below = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
            let entry = Entry::new(&below, stat.st_mode, (stat.st_uid, stat.st_gid), (stat.st_mtime, nanos));
            let open = |flags| rustix::fs::openat(directory, &name, flags, Mode::empty());
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth < DEEPEST => {
                    self.files.push((entry, below.clone(), Vec::new()));
                    let child =
                        open(OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
                    self.walk(child.as_fd(), &below, depth + 1)?;
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(directory, &name, Vec::new())?;
                    self.files.push((entry.with_target(target.to_bytes()), below, Vec::new()));
                }
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let chunks = self.file(&below, &stat, &|| open(flags))?;
                    self.files.push((entry, below, chunks));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        stat: &rustix::fs::Stat,
        open: &dyn Fn() -> rustix::io::Result<OwnedFd>,
    ) -> Done<Vec<(Digest, u32)>> {
        let state = State::of(stat);
        let name = path.to_string_lossy().into_owned();
        // Where there are secrets to look for, every file is looked through: it was not for these.
        if self.secrets.is_none()
            && let Some(chunks) = self.notes.get(&name, &state)
            && chunks.iter().all(|(digest, _)| self.known.contains_key(digest))
        {
            let chunks = chunks.clone();
            self.fresh.put(name, state, chunks.clone());
            return Ok(chunks);
        }
        let settled = state.is_settled();
        let mut chunks = Vec::new();
        let mut search = self.secrets.map(Search::stream);
        self.chunker.restart(Box::new(File::from(open()?)));
        while let Some(chunk) = self.chunker.next_chunk()? {
            if let Some(search) = &mut search {
                search.push(chunk);
            }
            let digest = Digest::of(chunk);
            let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            if !self.known.contains_key(&digest) {
                self.packer.add(&digest, chunk)?;
                self.known.insert(digest.clone(), None);
            }
            chunks.push((digest, length));
        }
        if let Some(found) = search.and_then(builder::secrets::Stream::finish) {
            return Err(Failed::Secret { path: name, id: found.id, form: found.form });
        }
        self.read += chunks.iter().map(|(_, length)| u64::from(*length)).sum::<u64>();
        if settled {
            self.fresh.put(name, state, chunks.clone());
        }
        Ok(chunks)
    }

    /// Drops old packs that nothing uses, and writes anew what is used of those that are mostly not.
    fn repack(&mut self, root: BorrowedFd<'_>) -> Done<()> {
        let mut used: Vec<u64> = vec![0; self.old.len()];
        let mut counted = HashSet::new();
        for (digest, length) in self.files.iter().flat_map(|(_, _, chunks)| chunks) {
            if let Some(Some(pack)) = self.known.get(digest)
                && counted.insert(digest)
            {
                used[*pack] += u64::from(*length);
            }
        }
        let size = |pack: &Pack| pack.chunks.iter().map(|(_, length)| u64::from(*length)).sum::<u64>();
        let wasteful: Vec<bool> =
            self.old.iter().zip(&used).map(|(pack, used)| *used * 2 < size(pack)).collect();
        let mut buffer = Vec::new();
        for (_, path, chunks) in &self.files {
            let mut offset = 0u64;
            let mut open: Option<File> = None;
            for (digest, length) in chunks {
                let at = offset;
                offset += u64::from(*length);
                let Some(Some(pack)) = self.known.get(digest) else { continue };
                if !wasteful[*pack] {
                    continue;
                }
                if open.is_none() {
                    let fd = sys::beneath::open_beneath(root, path, OFlags::RDONLY | OFlags::CLOEXEC, 0)?;
                    open = Some(File::from(fd));
                }
                let Some(file) = &mut open else { continue };
                file.seek(SeekFrom::Start(at))?;
                buffer.resize(usize::try_from(*length).unwrap_or(0), 0);
                file.read_exact(&mut buffer)?;
                // a file that was changed under us must not give a chunk another content
                if Digest::of(&buffer) != *digest {
                    return Err(Failed::Io(std::io::Error::from(std::io::ErrorKind::InvalidData)));
                }
                self.packer.add(digest, &buffer)?;
                self.known.insert(digest.clone(), None);
            }
        }
        let mut keep = wasteful.iter().zip(&used).map(|(wasteful, used)| !wasteful && *used > 0);
        self.old.retain(|_| keep.next().unwrap_or(false));
        Ok(())
    }

    fn finish(self) -> Done<Saved> {
        let mut packs = self.old;
        let (new, new_packs) = self.packer.finish()?;
        packs.extend(new);
        let mut numbers: HashMap<&Digest, usize> = HashMap::new();
        for (number, (digest, _)) in packs.iter().flat_map(|pack| &pack.chunks).enumerate() {
            numbers.entry(digest).or_insert(number);
        }
        let entries = self.files.into_iter().map(|(mut entry, _, chunks)| {
            if entry.kind() == Some(Kind::File) {
                entry.chunks = chunks.iter().filter_map(|(digest, _)| numbers.get(digest)).copied().collect();
            }
            entry
        });
        let entries = entries.collect();
        Ok(Saved { index: Index::new(packs, entries), packs: new_packs, read: self.read })
    }
}

/// Writes packs.
struct Packer<'a> {
    lease: &'a Lease,
    packs: Vec<Pack>,
    files: NewPacks,
    open: Option<OpenPack>,
}

struct OpenPack {
    encoder: Encoder<PackFile>,
    chunks: Vec<(Digest, u32)>,
    bytes: u64,
}

/// A file whose digest is made while it is written.
struct PackFile {
    path: PathBuf,
    file: File,
    digester: Digester,
    size: u64,
}

impl Write for PackFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.digester.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Packer<'_> {
    fn begin(&self) -> Done<OpenPack> {
        // the lease is this export's own, and mounts are packed one after the other
        let directory = self.lease.directory()?;
        let mut number = self.packs.len();
        let (path, file) = loop {
            let path = directory.join(format!("pack-{number}"));
            match sys::fs::create_new(&path, 0o600) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Failed::Io(error.source)),
            }
        };
        let file = PackFile { path, file, digester: Digester::new(), size: 0 };
        let encoder = Encoder::new(file, Compression::Zstd, None);
        Ok(OpenPack { encoder, chunks: Vec::new(), bytes: 0 })
    }

    fn add(&mut self, digest: &Digest, chunk: &[u8]) -> Done<()> {
        let mut pack = match self.open.take() {
            Some(pack) => pack,
            None => self.begin()?,
        };
        pack.encoder.write_all(chunk)?;
        pack.chunks.push((digest.clone(), u32::try_from(chunk.len()).unwrap_or(u32::MAX)));
        pack.bytes += chunk.len() as u64;
        match pack.bytes >= PACK_BYTES {
            true => self.close(pack)?,
            false => self.open = Some(pack),
        }
        Ok(())
    }

    fn close(&mut self, pack: OpenPack) -> Done<()> {
        let PackFile { path, digester, size, .. } = pack.encoder.finish()?;
        let digest = digester.finish();
        self.files.insert(digest.clone(), path);
        self.packs.push(Pack { blob: Descriptor::new(PACK, digest, size), chunks: pack.chunks });
        Ok(())
    }

    fn finish(mut self) -> Done<(Vec<Pack>, NewPacks)> {
        if let Some(pack) = self.open.take() {
            self.close(pack)?;
        }
        Ok((self.packs, self.files))
    }
}
