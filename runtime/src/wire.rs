//! Packets between the caller, the monitor and init.
//!
//! ```text
//! caller -> spawner   'R', or 'N' = name the monitor, with the request socket
//! spawner -> caller   'P' + process ID of the monitor, after 'N'
//! caller -> monitor   'R' + number of descriptors, with up to 250 of them; packets of further ones; later 'F' = finished
//! monitor -> caller   'L' = launched | 'E' = failed; later 'X' + the exit record as JSON
//! stage -> monitor    'P' + process ID of init
//! monitor -> init     'G' = go on: id maps are written, hooks have run; then the state that hooks read, as JSON
//! init -> start        'G' = heard: of several who start a container, one is
//! init -> monitor     'T' with the terminal's master | 'M' = mounted, waits for 'G' | 'Y' = ready to be started
//!                     | 'S' with the filter's listener | 'E' | end of file: executed
//!                     | four bytes: errno of the trampoline, 0x10000 added where the label is why
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Error, Stage};

pub(crate) const REQUEST: u8 = b'R';
/// A request whose monitor is to be named before it is told what to do.
pub(crate) const NAMED_REQUEST: u8 = b'N';
pub(crate) const FINISHED: u8 = b'F';
pub(crate) const LAUNCHED: u8 = b'L';
pub(crate) const FAILED: u8 = b'E';
pub(crate) const EXITED: u8 = b'X';
pub(crate) const PID: u8 = b'P';
pub(crate) const GO: u8 = b'G';
pub(crate) const TERMINAL: u8 = b'T';
pub(crate) const MOUNTED: u8 = b'M';
pub(crate) const READY: u8 = b'Y';
pub(crate) const LISTENER: u8 = b'S';

/// Longest packet: a failure with a path, an exit record.
pub(crate) const MAX_PACKET: usize = 16 * 1024;
/// Descriptors a packet; the kernel takes 253.
const DESCRIPTORS_PER_PACKET: usize = 250;

/// A failure on its way from the process that met it to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    /// 0 = none, only text.
    pub(crate) errno: i32,
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(stage: Stage, subject: impl Into<String>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        let text = if errno == 0 { error.to_string() } else { String::new() };
        Self { stage, errno, subject: subject.into(), text }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut packet = vec![FAILED, self.stage as u8];
        packet.extend(self.errno.to_le_bytes());
        let mut subject = self.subject.as_bytes();
        subject = &subject[..subject.len().min(8 * 1024)];
        packet.extend(u16::try_from(subject.len()).unwrap_or(0).to_le_bytes());
        packet.extend_from_slice(subject);
        packet.extend_from_slice(&self.text.as_bytes()[..self.text.len().min(4 * 1024)]);
        packet
    }

    pub(crate) fn decode(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_at_checked(8)?;
        if header[0] != FAILED {
            return None;
        }
        let errno = i32::from_le_bytes(header[2..6].try_into().ok()?);
        let length = u16::from_le_bytes(header[6..8].try_into().ok()?);
        let (subject, text) = rest.split_at_checked(usize::from(length))?;
        let string = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(Self {
            stage: Stage::from_number(header[1]),
            errno,
            subject: string(subject),
            text: string(text),
        })
    }

    pub(crate) fn into_error(self) -> Error {
        let source = match self.errno {
            0 => io::Error::other(self.text),
            errno => io::Error::from_raw_os_error(errno),
        };
        match (self.stage, source.kind()) {
            (Stage::Exec, io::ErrorKind::NotFound) => Error::CommandNotFound { command: self.subject },
            (Stage::Exec, _) => Error::CommandNotRunnable { command: self.subject, source },
            (stage, _) => Error::Stage { stage, subject: self.subject, source },
        }
    }
}

/// Adds stage and subject to an error of the kernel.
pub(crate) trait At<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Result<T, Failure>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, subject, &error))
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, subject, &error.into()))
    }
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, subject, &error.into()))
    }
}

impl<T> At<T> for sys::mount::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| {
            let subject = subject.into();
            let what = if error.subject.is_empty() { error.action.to_owned() } else { error.to_string() };
            Failure::new(
                stage,
                if subject.is_empty() { what } else { format!("{subject}: {what}") },
                &error.source,
            )
        })
    }
}

impl<T> At<T> for crate::cgroup::Result<T> {
    fn at(self, stage: Stage, subject: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Failure::new(stage, subject, &io::Error::other(text))
        })
    }
}

/// Descriptors on their way to another process, named by their index.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    pub(crate) fn push(&mut self, descriptor: OwnedFd) -> usize {
        self.0.push(Some(descriptor));
        self.0.len() - 1
    }

    /// Puts another descriptor in the place of one.
    pub(crate) fn replace(&mut self, index: usize, descriptor: OwnedFd) {
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(descriptor);
        }
    }

    pub(crate) fn get(&self, index: usize) -> io::Result<BorrowedFd<'_>> {
        let slot = self.0.get(index).and_then(Option::as_ref);
        Ok(slot.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.as_fd())
    }

    pub(crate) fn take(&mut self, index: usize) -> io::Result<OwnedFd> {
        self.0
            .get_mut(index)
            .and_then(Option::take)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }

    /// Sends all, in as many packets as it takes.
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let all: Vec<BorrowedFd<'_>> = self.0.iter().flatten().map(AsFd::as_fd).collect();
        let mut first = vec![REQUEST];
        first.extend(u32::try_from(all.len()).map_err(io::Error::other)?.to_le_bytes());
        for (index, chunk) in all.chunks(DESCRIPTORS_PER_PACKET).enumerate() {
            sys::scm::send(socket, if index == 0 { &first } else { &[REQUEST] }, chunk)?;
        }
        Ok(())
    }

    /// Receives what [`Descriptors::send`] sent; `None` when the peer closes instead.
    pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        let mut header = [0; 16];
        let mut received = sys::scm::receive(socket, &mut header)?;
        if received.length == 0 {
            return Ok(None);
        }
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        if received.length != 5 || header[0] != REQUEST {
            return Err(malformed());
        }
        let count = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
        let count = usize::try_from(count).map_err(|_| malformed())?;
        let mut all: Vec<Option<OwnedFd>> = received.descriptors.drain(..).map(Some).collect();
        while all.len() < count {
            let more = sys::scm::receive(socket, &mut header)?;
            if more.length == 0 || more.descriptors.is_empty() {
                return Err(malformed());
            }
            all.extend(more.descriptors.into_iter().map(Some));
        }
        Ok(Some(Self(all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_round_trip() {
        let failure = Failure { stage: Stage::Mount, errno: 2, subject: "/a".into(), text: String::new() };
        assert_eq!(Failure::decode(&failure.encode()).unwrap(), failure);
        let failure = Failure { stage: Stage::Hook, errno: 0, subject: String::new(), text: "why".into() };
        assert_eq!(Failure::decode(&failure.encode()).unwrap(), failure);
        assert_eq!(Failure::decode(b"E"), None);
    }

    #[test]
    fn a_missing_command_is_told_from_one_that_cannot_run() {
        let of = |errno| {
            Failure { stage: Stage::Exec, errno, subject: "x".into(), text: String::new() }.into_error()
        };
        assert!(matches!(of(2), Error::CommandNotFound { .. }));
        assert!(matches!(of(13), Error::CommandNotRunnable { .. }));
    }

    #[test]
    fn many_descriptors_are_sent_in_several_packets() {
        let (left, right) = sys::scm::packet_pair().unwrap();
        let mut descriptors = Descriptors::default();
        for _ in 0..300 {
            descriptors.push(sys::memfd::sealed("x", &[]).unwrap());
        }
        descriptors.send(left.as_fd()).unwrap();
        let mut received = Descriptors::receive(right.as_fd()).unwrap().unwrap();
        assert!(received.get(299).is_ok());
        assert!(received.take(0).is_ok() && received.take(0).is_err());
        assert!(received.get(300).is_err());
    }
}
