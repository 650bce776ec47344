//! The file trees of containers and images, and what of a container's layer is the runtime's own.

use crate::sandbox::View;
use crate::state::ContainerRecord;
use crate::{Engine, Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::ScopedJoinHandle;

/// Places where a runtime mounts something and makes an empty file or directory first, and the link to the mount table;
/// those below others come first.
const STUBS: [&str; 17] = [
    "dev/console",
    "dev/mqueue",
    "dev/pts",
    "dev/shm",
    "dev",
    "etc/group",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/passwd",
    "etc/resolv.conf",
    "proc",
    "run/.containerenv",
    "run/secrets",
    "sys",
    "etc",
    "run",
];

impl Engine {
    /// The files of the image that a container was made from; `None` for an image without layers.
    pub(super) fn base_view(&self, record: &ContainerRecord) -> Result<Option<View>> {
        record.chain.as_ref().map(|chain| self.chain_view(chain)).transpose()
    }

    /// The files of a stack of layers.
    pub(super) fn chain_view(&self, chain: &oci::ChainId) -> Result<View> {
        let store = self.store()?;
        let layer = store
            .layers()
            .get(chain)
            .map_err(crate::error::storage("read the layers"))?
            .ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?;
        let mounts =
            store.snapshots().view(&layer.snapshot).map_err(crate::error::storage("find the layers"))?;
        View::of_mounts(&mounts)
    }

    /// The files of a container without what is mounted into it, for reading. Where it runs, what it changes
    /// meanwhile may be seen or not.
    pub(super) fn container_view(&self, record: &ContainerRecord) -> Result<View> {
        let mounts = self
            .store()?
            .snapshots()
            .mounts(&record.snapshot)
            .map_err(crate::error::storage(format!("find the file system of container {}", record.name)))?;
        View::of_mounts(&mounts)
    }

    /// Paths in a container's layer that the runtime made: empty where something was mounted, and directories that
    /// hold nothing else.
    pub(super) fn stubs(&self, record: &ContainerRecord) -> Result<BTreeSet<Vec<u8>>> {
        let directory = self
            .store()?
            .snapshots()
            .layer_directory(&record.snapshot)
            .map_err(crate::error::storage(format!("find the layer of container {}", record.name)))?;
        let layer = View::of_directory(&directory)?;
        let base = self.base_view(record)?;
        let mut stubs = BTreeSet::new();
        for path in STUBS {
            let Some(here) = look(layer.root(), path) else { continue };
            let before = base.as_ref().and_then(|base| look(base.root(), path));
            let made = match &here {
                Found::Empty | Found::Link if before.is_none() => true,
                Found::Directory(names) => {
                    let rest = names.iter().any(|name| {
                        let path = [path.as_bytes(), b"/", name].concat();
                        !stubs.contains(&path)
                    });
                    !rest && (before.is_none() || !names.is_empty())
                }
                _ => false,
            };
            if made {
                stubs.insert(path.as_bytes().to_vec());
            }
        }
        Ok(stubs)
    }
}

enum Found {
    Empty,
    Link,
    Directory(Vec<Vec<u8>>),
    Other,
}

fn look(root: &OwnedFd, path: &str) -> Option<Found> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parent, name) = sys::beneath::open_parent_in_root(root, Path::new(path)).ok()??;
    let fd = rustix::fs::openat(&parent, &name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_size == 0 => Found::Empty,
        FileType::Symlink if path == "etc/mtab" => Found::Link,
        FileType::Directory => Found::Directory(names(&fd).ok()?),
        _ => Found::Other,
    })
}

fn names(directory: impl AsFd) -> std::io::Result<Vec<Vec<u8>>> {
    let fd = sys::beneath::reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// How much of a stream is in memory at once, bytes.
const CHUNK: usize = 1 << 17;

/// Runs a writer of a tar stream beside its reader, over a pipe. The failure that came first is the one to tell.
pub(super) fn piped<T>(
    write: impl FnOnce(std::io::BufWriter<std::io::PipeWriter>) -> Result<()> + Send,
    read: impl FnOnce(std::io::BufReader<std::io::PipeReader>) -> Result<T>,
) -> Result<T> {
    let (reader, writer) = std::io::pipe().map_err(|error| Error::os("make a pipe", error))?;
    std::thread::scope(|scope| {
        let writing: ScopedJoinHandle<'_, Result<()>> =
            scope.spawn(move || write(std::io::BufWriter::with_capacity(CHUNK, writer)));
        let read = read(std::io::BufReader::with_capacity(CHUNK, reader));
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (read, written) {
            (Ok(value), Ok(())) => Ok(value),
            // a writer whose reader went away says nothing of use
            (Err(error), Err(written)) if builder::diagnostic::is_broken_pipe(&written) => Err(error),
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    })
}
