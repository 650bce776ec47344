//! The attach protocol: how clients talk with a monitor.
//!
//! A `SOCK_SEQPACKET` socket, one frame a packet: a kind byte, then the payload. Client to monitor: `0` input bytes,
//! `1` end of input, `2` resize (rows, columns: big-endian u16). Monitor to client: `1` output bytes, `2` error bytes,
//! `3` the exit record as JSON, after which the monitor closes. Several clients see the same output.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{Error, Result, Stage};
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

pub(crate) const STDIN: u8 = 0;
pub(crate) const END_OF_INPUT: u8 = 1;
pub(crate) const RESIZE: u8 = 2;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const EXIT: u8 = 3;

fn lost(source: io::Error) -> Error {
    Error::Spawner { source }
}

impl Client {
    /// Connects to the monitor of a run directory.
    pub fn connect(run_dir: &Path) -> Result<Self> {
        let directory =
            sys::beneath::open_root(run_dir).map_err(|source| Error::file("open", run_dir, source))?;
        let failed = |errno: rustix::io::Errno| match errno {
            rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED => {
                Error::NotRunning { run_dir: run_dir.to_owned() }
            }
            errno => Error::file("connect to", run_dir.join("attach.sock"), errno),
        };
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
        // The path may be longer than a socket address holds.
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/attach.sock", directory.as_raw_fd()));
        rustix::net::connect(&socket, &address.map_err(failed)?).map_err(failed)?;
        Ok(Self { socket })
    }

    fn send(&self, frame: &[u8]) -> Result<()> {
        sys::scm::send(&self.socket, frame, &[]).map_err(lost)
    }

    /// Sends input; blocks while the process does not read.
    pub fn send_stdin(&self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(MAX_PAYLOAD) {
            let mut frame = Vec::with_capacity(chunk.len() + 1);
            frame.push(STDIN);
            frame.extend_from_slice(chunk);
            self.send(&frame)?;
        }
        Ok(())
    }

    /// Says that there is no more input.
    pub fn close_stdin(&self) -> Result<()> {
        self.send(&[END_OF_INPUT])
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let ([a, b], [c, d]) = (rows.to_be_bytes(), columns.to_be_bytes());
        self.send(&[RESIZE, a, b, c, d])
    }

    /// Waits for the next event.
    pub fn receive(&self) -> Result<Event> {
        let mut buffer = vec![0; MAX_PAYLOAD + 1];
        let length = self.receive_frame(&mut buffer)?;
        Ok(match &buffer[..length] {
            [STDOUT, bytes @ ..] => Event::Stdout(bytes.to_vec()),
            [STDERR, bytes @ ..] => Event::Stderr(bytes.to_vec()),
            [EXIT, json @ ..] => {
                Event::Exit(serde_json::from_slice(json).map_err(|error| lost(error.into()))?)
            }
            _ => Event::Closed,
        })
    }

    fn receive_frame(&self, buffer: &mut [u8]) -> Result<usize> {
        match sys::scm::receive(&self.socket, buffer) {
            Ok(received) => Ok(received.length),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            Err(error) => Err(lost(error)),
        }
    }

    /// Copies between the streams and the process until one of them ends.
    pub fn pump(&self, streams: &PumpStreams<'_>) -> Result<PumpEnd> {
        let mut buffer = vec![0; MAX_PAYLOAD + 1];
        let mut keys = DetachKeys::new(streams.detach_keys);
        let mut stdin = streams.stdin;
        loop {
            let mut entries = vec![PollFd::new(&self.socket, PollFlags::IN)];
            if let Some(stdin) = &stdin {
                entries.push(PollFd::from_borrowed_fd(*stdin, PollFlags::IN));
            }
            match poll(&mut entries, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(lost(errno.into())),
            }
            let has = |index: usize| entries.get(index).is_some_and(|entry| !entry.revents().is_empty());
            let (from_process, from_user) = (has(0), has(1));
            if from_process {
                let length = self.receive_frame(&mut buffer)?;
                match &buffer[..length] {
                    [STDOUT, bytes @ ..] => write_all(streams.stdout, bytes)?,
                    [STDERR, bytes @ ..] => write_all(streams.stderr, bytes)?,
                    [EXIT, json @ ..] => {
                        return serde_json::from_slice(json)
                            .map(PumpEnd::Exited)
                            .map_err(|error| lost(error.into()));
                    }
                    _ => return Ok(PumpEnd::Closed),
                }
            }
            if let (true, Some(descriptor)) = (from_user, stdin) {
                match rustix::io::read(descriptor, &mut buffer[..MAX_PAYLOAD]) {
                    Ok(0) => {
                        self.close_stdin_if_open()?;
                        stdin = None;
                    }
                    Ok(length) => match keys.filter(&buffer[..length]) {
                        (bytes, false) => self.send_stdin_if_open(&bytes)?,
                        (bytes, true) => {
                            self.send_stdin_if_open(&bytes)?;
                            return Ok(PumpEnd::Detached);
                        }
                    },
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    // A terminal that is gone reads as an error.
                    Err(_) => {
                        self.close_stdin_if_open()?;
                        stdin = None;
                    }
                }
            }
        }
    }

    /// A monitor that has just ended is noticed by the next receive, with the exit record before it.
    fn send_stdin_if_open(&self, bytes: &[u8]) -> Result<()> {
        match self.send_stdin(bytes) {
            Err(Error::Spawner { source }) if is_closed(&source) => Ok(()),
            result => result,
        }
    }

    fn close_stdin_if_open(&self) -> Result<()> {
        match self.close_stdin() {
            Err(Error::Spawner { source }) if is_closed(&source) => Ok(()),
            result => result,
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn write_all(descriptor: Option<BorrowedFd<'_>>, mut bytes: &[u8]) -> Result<()> {
    let Some(descriptor) = descriptor else { return Ok(()) };
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)], None);
            }
            Err(errno) => return Err(Error::stage(Stage::Stdio, "write output", errno)),
        }
    }
    Ok(())
}

/// Recognises a sequence of keys in a stream of input.
struct DetachKeys<'a> {
    keys: &'a [u8],
    matched: usize,
}

impl<'a> DetachKeys<'a> {
    fn new(keys: &'a [u8]) -> Self {
        Self { keys, matched: 0 }
    }

    /// What to pass on, and whether the sequence is complete. The beginning of a possible sequence is held back until
    /// it is clear what it is.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys[self.matched] == *byte {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys[0] == *byte {
                self.matched = 1;
            } else {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads() {
        let mut keys = DetachKeys::new(&[16, 17]);
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"\x11c"), (Vec::new(), true));
        assert_eq!(keys.filter(b"\x10x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
        let mut none = DetachKeys::new(&[]);
        assert_eq!(none.filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
