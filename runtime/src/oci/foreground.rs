//! A process in the foreground: its terminal is ours, signals go to it, and its end is ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use super::{Error, Result};

/// Signals are noted from here on, not delivered.
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks every signal that can be passed on, and the end of children.
    pub(super) fn take() -> Result<Self> {
        let mut mask = SigSet::all();
        // What the process itself does wrong, and what the terminal asks of background processes.
        for signal in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGTTIN,
            Signal::SIGTTOU,
            Signal::SIGPIPE,
        ] {
            mask.remove(signal);
        }
        let attempt = || {
            nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        };
        attempt().map(Self).map_err(|errno| Error::os("take the signals", errno))
    }
}

/// Accompanies a child to its end; returns its exit code, 128 + number for a signal.
pub(super) fn supervise(pid: u32, terminal: Option<OwnedFd>, signals: &Signals) -> Result<i32> {
    let failed = |error: io::Error| Error::os("wait for the process", error);
    let _raw = terminal.as_ref().and_then(|_| RawMode::enter());
    let mut relay = terminal.map(Terminal::new).transpose().map_err(failed)?;
    if let Some(relay) = &relay {
        relay.copy_size();
        rustix::io::ioctl_fionbio(&relay.master, true).map_err(|errno| failed(errno.into()))?;
    }
    let child = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| failed(Errno::SRCH.into()))?;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            // An orphan that came to us.
            Ok(Some((other, _))) if other != child => continue,
            Ok(Some((_, status))) => {
                if let Some(relay) = &mut relay {
                    while relay.pass_output() {}
                }
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                return Ok(signal.or(status.exit_status()).unwrap_or(255));
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let stdin = rustix::stdio::stdin();
        let mut entries = vec![PollFd::new(&signals.0, PollFlags::IN)];
        if let Some(relay) = &relay {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, !relay.input.is_empty());
            entries.push(PollFd::from_borrowed_fd(relay.master.as_fd(), flags));
            if relay.input.is_empty() && !relay.input_ended {
                entries.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
        }
        match poll(&mut entries, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let ready: Vec<PollFlags> = entries.iter().map(PollFd::revents).collect();
        if let Some(relay) = &mut relay {
            if !ready[1].is_empty() {
                relay.pass_output();
                relay.pass_input();
            }
            if ready.get(2).is_some_and(|flags| !flags.is_empty()) {
                relay.read_input();
                relay.pass_input();
            }
        }
        while let Ok(Some(signal)) = signals.0.read_signal() {
            match i32::try_from(signal.ssi_signo).unwrap_or(0) {
                17 => {}
                28 if relay.is_some() => relay.iter().for_each(Terminal::copy_size),
                // One that has just ended needs no signal; its number is its own until it is waited for.
                number => drop(sys::pidfd::open(pid).and_then(|init| sys::pidfd::send_signal(init, number))),
            }
        }
    }
}

struct Terminal {
    master: OwnedFd,
    input: Vec<u8>,
    input_ended: bool,
    /// Without it reading fails while no process has the other end open.
    _slave: OwnedFd,
}

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        let slave = sys::pty::open_slave(&master)?;
        Ok(Self { master, input: Vec::new(), input_ended: false, _slave: slave })
    }

    fn copy_size(&self) {
        if let Ok((rows, columns)) = sys::pty::size(rustix::stdio::stdin()) {
            let _ = sys::pty::resize(&self.master, rows, columns);
        }
    }

    /// Returns whether there may be more.
    fn pass_output(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(length @ 1..) => {
                let mut rest = &buffer[..length];
                while let Ok(written @ 1..) = rustix::io::write(rustix::stdio::stdout(), rest) {
                    rest = &rest[written..];
                    if rest.is_empty() {
                        break;
                    }
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            _ => false,
        }
    }

    fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(length @ 1..) => self.input.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => self.input_ended = true,
        }
    }

    fn pass_input(&mut self) {
        if self.input.is_empty() {
            return;
        }
        match rustix::io::write(&self.master, &self.input) {
            Ok(written) => drop(self.input.drain(..written)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input.clear(),
        }
    }
}

/// The caller's terminal without line editing, until it is dropped.
struct RawMode(rustix::termios::Termios);

impl RawMode {
    fn enter() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let before = rustix::termios::tcgetattr(stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin, rustix::termios::OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), now, &self.0);
    }
}
