//! The unpacked files of a layer: each against the layer's kept blob, or, where none is kept, all of them by the diffID.

use super::Damage;
use crate::diff::export_layer;
use crate::error::{Error, Result};
use crate::ingest::LayerError;
use crate::ingest::receive::{layer_options, open_plain};
use crate::layers::Layer;
use crate::leases::Lease;
use crate::snapshot::WhiteoutFormat;
use crate::store::Store;
use crate::tar::{self, Entry, EntryKind, Whiteouts};
use oci::{Compression, Descriptor};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How much is read at once, bytes.
const CHUNK: usize = 256 << 10;

/// What a path of a layer shall be.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// A regular file: bytes and CRC-32.
    File(u64, u32),
    /// A symbolic link, with its target.
    Link(Vec<u8>),
    Directory,
    /// Something whose content is not looked at.
    Other,
}

/// The form of a layer that the store has, if any.
pub(super) fn kept_blob<'a>(store: &Store, layer: &'a Layer) -> Result<Option<&'a Descriptor>> {
    for blob in &layer.blobs {
        if store.content().has(&blob.digest)? {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}

/// Looks at the files of one layer.
pub(super) fn check_layer(store: &Store, layer: &Layer) -> Result<Vec<Damage>> {
    let Some(blob) = kept_blob(store, layer)? else {
        // one that came from elsewhere need not make the same stream again
        if !layer.blobs.is_empty() {
            return Ok(Vec::new());
        }
        return match export_layer(store, &layer.chain_id, Compression::None, io::sink()) {
            Ok(_) => Ok(Vec::new()),
            Err(Error::Layer(LayerError::Damaged { .. })) => {
                Ok(vec![Damage::Layer { chain_id: layer.chain_id.clone() }])
            }
            Err(error) => Err(error),
        };
    };
    // a blob that cannot be read is damage of its own, which is told already
    let Ok(expected) = expected(store, blob) else { return Ok(Vec::new()) };
    let directory = store.snapshots().layer_directory(&layer.snapshot)?;
    let Some(root) = sys::fs::optional(sys::fs::open_dir(&directory))? else { return Ok(Vec::new()) };
    let mut damage = Vec::new();
    for (path, expected) in &expected {
        if let Some(what) = differs(&root, path, expected) {
            damage.push(Damage::File { chain_id: layer.chain_id.clone(), path: path.clone(), what });
        }
    }
    Ok(damage)
}

fn expected(store: &Store, blob: &Descriptor) -> io::Result<BTreeMap<Vec<u8>, Expected>> {
    let file = store.content().open(&blob.digest).map_err(io::Error::other)?;
    let mut reader = tar::Reader::new(BufReader::with_capacity(CHUNK, open_plain(file)?));
    let mut expected = BTreeMap::new();
    while let Some(entry) = reader.next_entry().map_err(io::Error::other)? {
        let Some(path) = plain_path(&entry) else { continue };
        let found = match entry.kind {
            EntryKind::File => {
                let crc = checksum_of(&mut reader, &entry)?;
                Expected::File(entry.size, crc)
            }
            EntryKind::Symlink => Expected::Link(entry.link.clone()),
            EntryKind::Directory => Expected::Directory,
            _ => Expected::Other,
        };
        expected.insert(path, found);
    }
    Ok(expected)
}

/// CRC-32 of the content of an entry, with its holes.
fn checksum_of<R: io::BufRead>(reader: &mut tar::Reader<R>, entry: &Entry) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let whole = [(0, entry.size)];
    let mut end = 0;
    let mut content = reader.content();
    let mut buffer = vec![0; CHUNK];
    for (offset, length) in entry.sparse.as_deref().unwrap_or(&whole) {
        zeros(&mut hasher, offset - end);
        let mut part = (&mut content).take(*length);
        loop {
            match part.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        end = offset + length;
    }
    zeros(&mut hasher, entry.size - end);
    Ok(hasher.finalize())
}

fn zeros(hasher: &mut crc32fast::Hasher, mut count: u64) {
    let block = [0; 4096];
    while count > 0 {
        let part = usize::try_from(count).unwrap_or(usize::MAX).min(block.len());
        hasher.update(&block[..part]);
        count -= part as u64;
    }
}

/// The path of an entry within its layer; `None` for the root and for whiteouts.
fn plain_path(entry: &Entry) -> Option<Vec<u8>> {
    let parts = entry.path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    match parts.last() {
        None => None,
        Some(name) if name.starts_with(b".wh.") => None,
        Some(_) => Some(parts.join(&b'/')),
    }
}

/// How what lies at a path differs from what shall lie there.
fn differs(root: &OwnedFd, path: &[u8], expected: &Expected) -> Option<&'static str> {
    let path = Path::new(OsStr::from_bytes(path));
    // where the directory is missing, that is told of the directory
    let (parent, name) = sys::beneath::open_parent_in_root(root, path).ok().flatten()?;
    let stat = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Some("it is missing"),
        Err(_) => return Some("it cannot be read"),
    };
    let kind = FileType::from_raw_mode(stat.st_mode);
    match expected {
        Expected::Other => None,
        Expected::Directory if kind == FileType::Directory => None,
        Expected::Link(target) if kind == FileType::Symlink => {
            let found = rustix::fs::readlinkat(&parent, &name, Vec::new()).ok()?;
            (found.as_bytes() != target).then_some("the link leads elsewhere")
        }
        Expected::File(size, crc) if kind == FileType::RegularFile => {
            if u64::try_from(stat.st_size).ok() != Some(*size) {
                return Some("it has another size");
            }
            match checksum_at(&parent, &name) {
                Ok(found) if found == *crc => None,
                Ok(_) => Some("its content is another one"),
                Err(_) => Some("it cannot be read"),
            }
        }
        _ => Some("it is of another kind"),
    }
}

fn checksum_at(parent: &OwnedFd, name: &OsStr) -> io::Result<u32> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = std::fs::File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts the named paths of a layer back as its kept blob has them; gives how many. The layer is unpacked beside, and what is
/// damaged is replaced by a rename.
pub(super) fn repair(store: &Store, lease: &Lease, layer: &Layer, paths: &[&[u8]]) -> Result<usize> {
    let Some(blob) = kept_blob(store, layer)? else { return Ok(0) };
    let what = || layer.chain_id.to_string();
    let failed = |source: io::Error| Error::from(LayerError::Store { layer: what(), source });
    let whiteouts = match store.snapshots().capabilities().whiteouts {
        WhiteoutFormat::OverlayTrusted => Whiteouts::Overlay { user_namespace: false },
        WhiteoutFormat::OverlayUser => Whiteouts::Overlay { user_namespace: true },
        WhiteoutFormat::Applied => Whiteouts::Apply,
    };
    let scratch = lease.directory()?.join(format!("repair-{}", layer.chain_id.digest().hex()));
    sys::fs::remove_tree(&scratch)?;
    sys::fs::create_dir_all(&scratch, 0o700)?;
    let fresh = sys::fs::open_dir(&scratch)?;
    let plain = open_plain(store.content().open(&blob.digest)?).map_err(failed)?;
    let mut reader = tar::Reader::new(BufReader::with_capacity(CHUNK, plain));
    if tar::extract_into(fresh.as_fd(), &mut reader, layer_options(store, whiteouts)).is_err() {
        // it can be unpacked on its parent alone
        sys::fs::remove_tree(&scratch)?;
        return Ok(0);
    }
    rustix::fs::syncfs(&fresh).map_err(|error| failed(error.into()))?;
    let directory = store.snapshots().layer_directory(&layer.snapshot)?;
    let root = sys::fs::open_dir(&directory)?;
    let mut repaired = 0;
    for path in paths {
        let path = Path::new(OsStr::from_bytes(path));
        let places = (
            sys::beneath::open_parent_in_root(&fresh, path).ok().flatten(),
            sys::beneath::open_parent_in_root(&root, path).ok().flatten(),
        );
        // one above it, which came back as a whole, may have brought it along
        let (Some((from, name)), Some((to, _))) = places else { continue };
        let is_directory = |place: &OwnedFd| {
            let stat = rustix::fs::statat(place, &name, AtFlags::SYMLINK_NOFOLLOW).ok();
            stat.map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        // a rename replaces nothing of another kind, and no directory that is not empty
        match (is_directory(&to), is_directory(&from)) {
            (Some(true), Some(_)) => sys::fs::remove_tree(&directory.join(path))?,
            (Some(false), Some(true)) => sys::beneath::remove_file(&to, &name).map_err(failed)?,
            _ => {}
        }
        match rustix::fs::renameat(&from, &name, &to, &name) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => repaired += 1,
            Err(error) => return Err(failed(error.into())),
        }
    }
    rustix::fs::syncfs(&root).map_err(|error| failed(error.into()))?;
    sys::fs::remove_tree(&scratch)?;
    Ok(repaired)
}
