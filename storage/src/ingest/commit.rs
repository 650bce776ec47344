//! Staged layers onto each other.

use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci::ChainId;
use rustix::fs::{AtFlags, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::pipe::CHUNK;
use super::receive::{layer_options, open_plain, unique_key};
use super::{LayerError, Need, StagedLayer};
use crate::error::Result;
use crate::layers::Layer;
use crate::leases::Lease;
use crate::snapshot::{Prepare, SnapshotUsage, open_detached};
use crate::store::Store;
use crate::tar::{self, Whiteouts};

/// Puts layers on `base` in order and records them; returns the chain ID of each.
///
/// All file trees are in place and synced, by one call, before the first record names one. A layer whose chain is
/// known already is dropped in favour of the known one.
pub fn commit_chain(
    store: &Store,
    lease: &Lease,
    base: Option<&ChainId>,
    layers: Vec<StagedLayer>,
) -> Result<Vec<ChainId>> {
    let records = store.layers();
    let mut parent = base.cloned();
    let mut below = match base {
        Some(chain_id) => match records.hold(lease, chain_id)? {
            Some(layer) => Some(layer.snapshot),
            None => return Err(crate::Error::LayerNotFound { chain_id: chain_id.clone() }),
        },
        None => None,
    };
    let mut chain = Vec::with_capacity(layers.len());
    let mut fresh = Vec::new();
    for staged in layers {
        let chain_id = ChainId::next(parent.as_ref(), &staged.diff_id);
        if let Some(known) = records.hold(lease, &chain_id)? {
            records.add_blob(&chain_id, &staged.blob)?;
            if let Some(key) = &staged.key {
                store.snapshots().remove(key)?;
            }
            below = Some(known.snapshot);
        } else {
            // A name of its own: one left by a killed process may lack what never reached the disk.
            let name = unique_key(chain_id.hex())?;
            let unpacked_size = place(store, lease, &staged, below.as_deref(), &name)?;
            fresh.push(Layer {
                chain_id: chain_id.clone(),
                diff_id: staged.diff_id,
                parent: parent.clone(),
                snapshot: name.clone(),
                blobs: vec![staged.blob],
                tar_size: staged.tar_size,
                unpacked_size,
                created: staged.created.unwrap_or_else(|| jiff::Timestamp::now().to_string()),
            });
            below = Some(name);
        }
        parent = Some(chain_id.clone());
        chain.push(chain_id);
    }
    if !fresh.is_empty() {
        store.sync()?;
    }
    for layer in &fresh {
        records.put(lease, layer)?;
    }
    Ok(chain)
}

/// Turns a staged layer into the committed snapshot `name`; returns the size of its files in bytes.
fn place(store: &Store, lease: &Lease, staged: &StagedLayer, below: Option<&str>, name: &str) -> Result<u64> {
    let snapshots = store.snapshots();
    if let Some(key) = &staged.key {
        let complete = match (&staged.need, below) {
            (Need::Directories(implied), Some(below)) => {
                let lower = open_detached(&snapshots.view(below)?)?;
                inherit(&lower, &snapshots.layer_directory(key)?, implied)?
            }
            _ => true,
        };
        if complete {
            let usage = SnapshotUsage { bytes: staged.unpacked_size, inodes: staged.entries };
            snapshots.adopt(lease, name, key, below, Some(usage))?;
            return Ok(staged.unpacked_size);
        }
        snapshots.remove(key)?;
    }
    unpack_on(store, lease, staged, below, name)
}

/// Unpacks a layer again, from its blob, onto the tree that it changes.
fn unpack_on(
    store: &Store,
    lease: &Lease,
    staged: &StagedLayer,
    below: Option<&str>,
    name: &str,
) -> Result<u64> {
    let snapshots = store.snapshots();
    let key = unique_key("apply")?;
    let mounts = snapshots.prepare(lease, &Prepare::new(&key, below))?;
    let layer = || staged.blob.digest.to_string();
    let result = (|| {
        let root = open_detached(&mounts)?;
        let plain = open_plain(store.content().open(&staged.blob.digest)?)
            .map_err(|source| LayerError::Inflate { layer: layer(), source })?;
        let mut reader = tar::Reader::new(BufReader::with_capacity(CHUNK, plain));
        let extracted = tar::extract_into(root.as_fd(), &mut reader, layer_options(store, Whiteouts::Apply))
            .map_err(|source| LayerError::Unpack { layer: layer(), source })?;
        drop(root);
        let usage = SnapshotUsage { bytes: extracted.unpacked_size, inodes: extracted.entries };
        snapshots.commit(lease, name, &key, Some(usage))?;
        Ok(extracted.unpacked_size)
    })();
    if result.is_err() {
        // The lease removes what this cannot; the first error is the one to tell.
        drop(snapshots.remove(&key));
    }
    result
}

/// Gives implied directories the metadata of those that they cover; false when one of them covers something else
/// than a directory, so that the layer's files belong elsewhere.
fn inherit(lower: &OwnedFd, directory: &Path, implied: &[std::path::PathBuf]) -> Result<bool> {
    let upper = sys::fs::open_dir(directory)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for path in implied {
        let fail = |action| {
            move |errno: Errno| LayerError::File { action, path: path.clone(), source: errno.into() }
        };
        let from = match rustix::fs::openat2(lower, path, flags, Mode::empty(), resolve) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => continue,
            Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(false),
            Err(errno) => return Err(fail("open")(errno).into()),
        };
        let to = rustix::fs::openat2(&upper, path, flags, Mode::empty(), resolve).map_err(fail("open"))?;
        copy_metadata(from.as_fd(), to.as_fd()).map_err(fail("set metadata of"))?;
    }
    // Deeper directories were touched above, but changing metadata leaves a parent's time alone.
    Ok(true)
}

fn copy_metadata(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let stat = rustix::fs::fstat(from)?;
    let uid = rustix::fs::Uid::from_raw(stat.st_uid);
    let gid = rustix::fs::Gid::from_raw(stat.st_gid);
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode((stat.st_mode & 0o7777) as RawMode))?;
    for (name, value) in tar::write::read_xattrs(from)?.kept {
        match rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(to, ".", &times, AtFlags::empty())
}
