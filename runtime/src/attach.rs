//! The attach protocol: how clients talk with a monitor.
//!
//! A `SOCK_SEQPACKET` socket, one frame a packet: a kind byte, then the payload. Client to monitor: `0` input bytes,
//! `1` end of input, `2` resize (rows, columns: big-endian u16). Monitor to client: `1` output bytes, `2` error bytes,
//! `3` the exit record as JSON, after which the monitor closes. Several clients see the same output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::Result;
use crate::record::ExitRecord;

/// Longest payload of a frame in bytes.
pub const MAX_PAYLOAD: usize = 32 * 1024;

/// A connection to a monitor. Sending and receiving take `&self`, so that one thread may do each.
#[derive(Debug)]
pub struct Client {
    pub(crate) socket: OwnedFd,
}

/// What a monitor sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes of standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// The process has ended and all its output was sent.
    Exit(ExitRecord),
    /// The monitor is gone.
    Closed,
}

/// How a [`Client::pump`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PumpEnd {
    /// The process ended.
    Exited(ExitRecord),
    /// The detach keys were typed.
    Detached,
    /// The monitor went away without a record.
    Closed,
}

/// The streams of a [`Client::pump`].
#[derive(Debug, Default)]
pub struct PumpStreams<'a> {
    /// Sent to the process; absent = nothing is sent.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Receives standard output; absent = dropped.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Receives standard error; absent = dropped.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Bytes that, typed in sequence on `stdin`, end the pump; empty = none.
    pub detach_keys: &'a [u8],
}

impl Client {
    /// Connects to the monitor of a run directory.
    pub fn connect(_run_dir: &Path) -> Result<Self> {
        todo!()
    }

    /// Sends input; blocks while the process does not read.
    pub fn send_stdin(&self, _bytes: &[u8]) -> Result<()> {
        todo!()
    }

    /// Says that there is no more input.
    pub fn close_stdin(&self) -> Result<()> {
        todo!()
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, _rows: u16, _columns: u16) -> Result<()> {
        todo!()
    }

    /// Waits for the next event.
    pub fn receive(&self) -> Result<Event> {
        todo!()
    }

    /// Copies between the streams and the process until one of them ends.
    pub fn pump(&self, _streams: &PumpStreams<'_>) -> Result<PumpEnd> {
        todo!()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
