//! An attached session: the caller's streams on one side, the monitor's socket on the other.

use super::{SessionEnd, Streams};
use crate::{Error, Result};
use runtime::attach::{Client, PumpEnd, PumpStreams};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::relay::Relay;

const SIGWINCH: i32 = 28;

/// All catchable signals but those that report on this process itself: CHLD, PIPE, URG, the faults and WINCH.
fn relayed() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| {
        !matches!(signal, 4 | 5 | 6 | 7 | 8 | 9 | 11 | 13 | 17 | 19 | 23 | 28 | 31 | 32 | 33)
    })
}

/// Signal handlers of a session, installed before its process starts, so that none is lost.
#[derive(Debug)]
pub(crate) struct Signals {
    relay: Option<Relay>,
}

impl Signals {
    pub(crate) fn install(streams: &Streams, tty: bool) -> Self {
        let mut signals: Vec<i32> = if streams.signal_proxy { relayed().collect() } else { Vec::new() };
        if tty {
            signals.push(SIGWINCH);
        }
        // in a process that serves several sessions only the first one has the signals
        Self { relay: if signals.is_empty() { None } else { Relay::install(&signals).ok() } }
    }

    /// Nothing is handed on: the process has handlers of its own.
    pub(crate) fn none() -> Self {
        Self { relay: None }
    }

    /// Runs `body` while a thread hands signals on.
    pub(crate) fn while_relaying<T>(
        &self,
        run_dir: &Path,
        resize: impl Fn() + Sync,
        body: impl FnOnce() -> T,
    ) -> T {
        let Some(relay) = &self.relay else { return body() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Ok(Some(signal)) = relay.receive() {
                    if signal == SIGWINCH {
                        resize();
                    } else {
                        // the process may have ended meanwhile
                        let _ = runtime::kill(run_dir, signal);
                    }
                }
            });
            let result = body();
            relay.stop();
            result
        })
    }
}

/// A terminal in raw mode, put back when dropped.
#[derive(Debug)]
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn new(terminal: BorrowedFd<'_>) -> Result<Option<Self>> {
        if !isatty(terminal) {
            return Ok(None);
        }
        let attempt = |error: rustix::io::Errno| Error::os("put the terminal into raw mode", error);
        let terminal =
            terminal.try_clone_to_owned().map_err(|error| Error::os("duplicate the terminal", error))?;
        let before = tcgetattr(&terminal).map_err(attempt)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw).map_err(attempt)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Size of the caller's terminal: rows, columns.
pub(crate) fn terminal_size(streams: &Streams) -> Option<(u16, u16)> {
    [&streams.stdout, &streams.stdin, &streams.stderr].into_iter().flatten().find_map(|fd| {
        let size = tcgetwinsize(fd).ok()?;
        (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
    })
}

/// How a pump ended.
pub(crate) enum Pumped {
    Exited(runtime::ExitRecord),
    Detached,
    /// The monitor went away.
    Lost,
}

/// Copies between the streams and a process until it exits or the detach keys are typed.
pub(crate) fn pump(
    client: &Client,
    run_dir: &Path,
    streams: &Streams,
    tty: bool,
    signals: &Signals,
) -> Result<Pumped> {
    let raw = match &streams.stdin {
        Some(stdin) if tty => Raw::new(stdin.as_fd())?,
        _ => None,
    };
    let resize = || {
        if let Some((rows, columns)) = terminal_size(streams) {
            let _ = client.resize(rows, columns);
        }
    };
    if tty {
        resize();
    }
    let pumped = signals.while_relaying(run_dir, resize, || {
        client.pump(&PumpStreams {
            stdin: streams.stdin.as_ref().map(AsFd::as_fd),
            stdout: streams.stdout.as_ref().map(AsFd::as_fd),
            stderr: streams.stderr.as_ref().map(AsFd::as_fd),
            detach_keys: if tty { &streams.detach_keys } else { &[] },
        })
    });
    drop(raw);
    match pumped.map_err(|error| crate::error::runtime("talk to the container's monitor", error))? {
        PumpEnd::Exited(record) => Ok(Pumped::Exited(record)),
        PumpEnd::Detached => Ok(Pumped::Detached),
        PumpEnd::Closed => Ok(Pumped::Lost),
    }
}

impl Pumped {
    /// The session's end, with the exit record from the run directory where the monitor did not send it.
    pub(crate) fn end(self, run_dir: &Path) -> Result<SessionEnd> {
        Ok(match self {
            Pumped::Exited(record) => SessionEnd::of(&record),
            Pumped::Detached => SessionEnd::Detached,
            Pumped::Lost => {
                let record = runtime::wait(run_dir, None)
                    .map_err(|error| crate::error::runtime("wait for the container", error))?;
                record.as_ref().map_or(SessionEnd::Exited(255), SessionEnd::of)
            }
        })
    }
}
