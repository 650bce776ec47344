//! `--squash` and `--squash-all`: many layers become one.

use super::{Layers, NamedLayer, work};
use crate::ops::snapshot::Rootfs;
use crate::ops::{self, io_error};
use crate::solver::Broken;
use std::os::fd::{AsFd, BorrowedFd};
use storage::diff::write_changes;
use storage::snapshot::readable;
use storage::tar::{ExtractOptions, Reader, Whiteouts, WriteOptions, extract_into, write_tree};

impl work::Build<'_> {
    /// The image's layers as `how` wants them; `base` of them are the base image's.
    pub(super) fn squash(
        &self,
        layers: Vec<NamedLayer>,
        base: usize,
        how: Layers,
    ) -> Result<Vec<NamedLayer>, ops::Error> {
        let kept = match how {
            Layers::Keep => return Ok(layers),
            Layers::Squash => base.min(layers.len()),
            Layers::SquashAll => 0,
        };
        if layers.len() - kept < 2 {
            return Ok(layers);
        }
        let rootfs = |layer: Option<&NamedLayer>| Rootfs {
            base: layer.map(|layer| layer.chain_id.clone()),
            own: None,
        };
        let below = rootfs(layers[..kept].last());
        let upper = readable(self.workspace().read(&rootfs(layers.last()))?.root())?;
        let lower = match &below.base {
            Some(_) => Some(readable(self.workspace().read(&below)?.root())?),
            None => None,
        };
        let squashed = self.workspace().write_layer(&below, |layer| {
            apply_changes(lower.as_ref().map(AsFd::as_fd), upper.as_fd(), layer.root)
        })?;
        self.name_layers(&squashed)
    }
}

/// Makes of `root`, which is like `lower`, what `upper` is. The difference is a stream of which only a pipe's worth
/// is in memory.
fn apply_changes(
    lower: Option<BorrowedFd<'_>>,
    upper: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
) -> Result<(), ops::Error> {
    let (reader, writer) = std::io::pipe().map_err(io_error("create", "pipe"))?;
    let failed = |source: storage::tar::Error| ops::Error::Squash { source: Box::new(source) };
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let options = WriteOptions { layer: true, ..WriteOptions::default() };
            let sink = std::io::BufWriter::with_capacity(1 << 17, writer);
            let (mut sink, _) = match lower {
                Some(lower) => write_changes(lower, upper, &options, sink)?,
                None => write_tree(upper, &options, sink)?,
            };
            // What does not arrive is missed by the reader.
            let _ = std::io::Write::flush(&mut sink);
            Ok(())
        });
        let options = ExtractOptions { whiteouts: Whiteouts::Apply, ..ExtractOptions::default() };
        let mut reader = Reader::new(std::io::BufReader::with_capacity(1 << 17, reader));
        let read = extract_into(root.as_fd(), &mut reader, options);
        drop(reader);
        let written: Result<(), storage::tar::Error> = writing.join().map_err(|_| Broken::Panicked)?;
        match (read, written) {
            (Ok(_), Ok(())) => Ok(()),
            (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(failed(error)),
            // A failing writer is why the reader fails, unless the reader went first and broke the pipe.
            (Err(read), Err(written)) if crate::diagnostic::is_broken_pipe(&written) => Err(failed(read)),
            (Err(_), Err(written)) => Err(failed(written)),
        }
    })
}
