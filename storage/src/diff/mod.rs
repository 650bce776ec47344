//! What a snapshot changes, as a layer's stream.
//!
//! With overlay the directory of a snapshot *is* its layer, and reading it alone gives the stream; other drivers
//! keep whole trees, and a walk of both gives the difference. The stream is canonical (see [`crate::tar::write`]),
//! so it need not be kept: it is made again whenever its bytes are wanted, and checked against the diffID.

mod export;
mod walk;

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use oci::{DiffId, Digester};

pub use export::{export_layer, layer_blob};
pub use walk::write_changes;

use crate::error::Result;
use crate::ingest::LayerError;
use crate::ingest::pipe::{CHUNK, PipeWriter, pipe};
use crate::snapshot::WhiteoutFormat;
use crate::store::Store;
use crate::tar::{self, TreeWriter, WriteOptions, Written};

/// A layer's stream, measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Digest of the plain stream.
    pub diff_id: DiffId,
    /// Length of the plain stream, in bytes.
    pub tar_size: u64,
    /// Sum of the sizes of the layer's files, in bytes.
    pub content_size: u64,
    /// Entries, deletions included; 0 = the snapshot changes nothing.
    pub entries: u64,
}

/// Reads what the snapshot `name`, active or committed, changes and returns the digest of its stream. Reading and
/// hashing overlap, and so does the disk: the files are sent on their way to it, because a sync follows.
pub fn diff_id_of(store: &Store, name: &str) -> Result<Diff> {
    diff_id_watched(store, name, &mut |_| {})
}

/// The same as [`diff_id_of`], and shows the whole stream to `watch`, piece by piece, on its way to the digest. Reading
/// is quicker than hashing, so the reading thread is the one that has the time to look.
pub fn diff_id_watched(store: &Store, name: &str, watch: &mut (dyn FnMut(&[u8]) + Send)) -> Result<Diff> {
    let (sink, mut source) = pipe();
    let sink = Watched { sink, current: Vec::new(), watch };
    let (written, diff_id) = std::thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let mut digester = Digester::new();
            while let Some(chunk) = source.receive() {
                digester.update(&chunk);
                source.give_back(chunk);
            }
            DiffId(digester.finish())
        });
        let options = WriteOptions { layer: true, begin_sync: true, ..WriteOptions::default() };
        let written = write_diff_as(store, name, sink, &options);
        let diff_id = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (written, diff_id)
    });
    let written = written?;
    Ok(Diff {
        diff_id,
        tar_size: written.tar_size,
        content_size: written.content_size,
        entries: written.entries,
    })
}

/// A pipe whose whole buffers are shown to somebody before they are sent.
struct Watched<'a> {
    sink: PipeWriter,
    current: Vec<u8>,
    watch: &'a mut (dyn FnMut(&[u8]) + Send),
}

impl Watched<'_> {
    fn send(&mut self) -> io::Result<()> {
        (self.watch)(&self.current);
        self.sink.send(std::mem::take(&mut self.current))
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.current.capacity() == 0 {
            self.current = self.sink.buffer();
        }
        let length = bytes.len().min(CHUNK - self.current.len());
        self.current.extend_from_slice(&bytes[..length]);
        if self.current.len() == CHUNK {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// The path of the entry that byte `offset` of a snapshot's stream belongs to, be it header or content; `None` behind
/// the last one. Reads the stream up to there again.
pub fn path_at(store: &Store, name: &str, offset: u64) -> Result<Option<Vec<u8>>> {
    let (sink, source) = pipe();
    std::thread::scope(|scope| {
        // Its failure is the reader's end of the stream.
        scope.spawn(move || write_diff(store, name, sink));
        let mut reader = tar::Reader::new(source);
        let fail = |source| LayerError::Diff { snapshot: name.to_owned(), source };
        while let Some(entry) = reader.next_entry().map_err(fail)? {
            loop {
                let length = reader.data().map_err(fail)?.len();
                if length == 0 {
                    break;
                }
                reader.consume(length);
            }
            if reader.offset() > offset {
                return Ok(Some(entry.path));
            }
        }
        Ok(None)
    })
}

/// Writes the plain stream of what the snapshot `name` changes.
pub fn write_diff(store: &Store, name: &str, sink: impl Write) -> Result<Written> {
    write_diff_as(store, name, sink, &WriteOptions { layer: true, ..WriteOptions::default() })
}

/// As [`write_diff`], without the paths for which `skip` is true and what is beneath them.
pub fn write_diff_without(
    store: &Store,
    name: &str,
    skip: tar::write::SkipPath<'_>,
    sink: impl Write,
) -> Result<Written> {
    let options = WriteOptions { layer: true, skip: Some(skip), ..WriteOptions::default() };
    write_diff_as(store, name, sink, &options)
}

fn write_diff_as(store: &Store, name: &str, sink: impl Write, options: &WriteOptions<'_>) -> Result<Written> {
    let snapshots = store.snapshots();
    let directory = sys::fs::open_dir(&snapshots.layer_directory(name)?)?;
    let fail = |source| LayerError::Diff { snapshot: name.to_owned(), source };
    let (_, written) = match snapshots.capabilities().whiteouts {
        WhiteoutFormat::OverlayTrusted | WhiteoutFormat::OverlayUser => {
            tar::write_tree(directory.as_fd(), options, sink).map_err(fail)?
        }
        WhiteoutFormat::Applied => {
            let info = snapshots.stat(name)?;
            let parent = info.as_ref().and_then(|info| info.ancestors.first());
            let lower = match parent {
                Some(parent) => Some(sys::fs::open_dir(&snapshots.layer_directory(parent)?)?),
                None => None,
            };
            changes(lower.as_ref().map(AsFd::as_fd), directory.as_fd(), options, sink).map_err(fail)?
        }
    };
    Ok(written)
}

fn changes<W: Write>(
    lower: Option<BorrowedFd<'_>>,
    upper: BorrowedFd<'_>,
    options: &WriteOptions<'_>,
    sink: W,
) -> std::result::Result<(W, Written), tar::Error> {
    match lower {
        Some(lower) => write_changes(lower, upper, options, sink),
        None => {
            let mut writer = TreeWriter::new(sink, options);
            writer.tree(upper)?;
            writer.finish()
        }
    }
}

/// Brings the times of an active snapshot's files down to `seconds` since 1970 (`SOURCE_DATE_EPOCH`), so that the
/// files and the layer agree. With a driver that keeps whole trees, those of the layers below are later ones too
/// only if they were so before.
pub fn clamp_mtimes(store: &Store, key: &str, seconds: i64) -> Result<()> {
    let directory = sys::fs::open_dir(&store.snapshots().layer_directory(key)?)?;
    walk::clamp(directory.as_fd(), seconds)
        .map_err(|source| LayerError::Diff { snapshot: key.to_owned(), source }.into())
}
