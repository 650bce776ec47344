//! A bounded stream of bytes between two threads; buffers go round instead of being allocated anew.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Size of one buffer, in bytes.
pub(crate) const CHUNK: usize = 128 * 1024;
/// Full buffers under way at most.
const DEPTH: usize = 4;

/// The end that is written to; dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    current: Vec<u8>,
}

/// The end that is read from; dropping it makes writing fail with [`Gone`].
#[derive(Debug)]
pub(crate) struct PipeReader {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

/// The reader went away; it has the better error.
#[derive(Debug, thiserror::Error)]
#[error("the reading thread ended")]
pub(crate) struct Gone;

/// Whether an error says only that the next thread ended.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Gone>())
}

pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (full_sender, full) = sync_channel(DEPTH);
    let (empty_sender, empty) = channel();
    (
        PipeWriter { full: full_sender, empty, current: Vec::new() },
        PipeReader { full, empty: empty_sender, current: Vec::new(), position: 0 },
    )
}

impl PipeWriter {
    /// An empty buffer of [`CHUNK`] bytes capacity, used before if there is one.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.empty.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(CHUNK);
        buffer
    }

    /// Passes a whole buffer on without copying it.
    pub(crate) fn send(&mut self, buffer: Vec<u8>) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        self.full.send(buffer).map_err(|_| io::Error::other(Gone))
    }

    fn send_current(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.current);
        self.send(buffer)
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.current.capacity() == 0 {
            self.current = self.buffer();
        }
        let length = bytes.len().min(CHUNK - self.current.len());
        self.current.extend_from_slice(&bytes[..length]);
        if self.current.len() == CHUNK {
            self.send_current()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_current()
    }
}

impl PipeReader {
    /// Takes the next whole buffer; `None` at the end of the stream.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        self.full.recv().ok()
    }

    /// Gives a buffer back for reuse.
    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        // The writer may have ended before.
        drop(self.empty.send(buffer));
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            self.position = 0;
            let done = std::mem::take(&mut self.current);
            if done.capacity() > 0 {
                self.give_back(done);
            }
            self.current = self.receive().unwrap_or_default();
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}
