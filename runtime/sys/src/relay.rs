//! Signals as bytes: handlers that note each signal in a pipe, for programs that hand signals on.
//!
//! A handler, unlike a blocked signal behind a signalfd, works whatever threads exist already.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// Write end of the pipe of the one relay that may exist; -1 = none.
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(signal: libc::c_int) {
    let pipe = PIPE.load(Ordering::Relaxed);
    let byte = signal.to_ne_bytes()[if cfg!(target_endian = "little") { 0 } else { 3 }];
    if pipe >= 0 {
        // SAFETY: write(2) is async-signal-safe; errno is put back, as interrupted code may be about to read it; the
        // byte lives during the call. The descriptor is closed only after the handlers are gone (`Relay::drop`).
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(pipe, (&raw const byte).cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

/// While it lives, the given signals of this process arrive in [`Relay::receive`] and do nothing else.
pub struct Relay {
    read: OwnedFd,
    write: OwnedFd,
    old: Vec<(i32, libc::sigaction)>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("read", &self.read).finish_non_exhaustive()
    }
}

impl Relay {
    /// Installs the handlers. Signals that are ignored now stay ignored. EBUSY while another relay exists.
    pub fn install(signals: &[i32]) -> io::Result<Self> {
        // Non-blocking, so that a handler never waits; 64 KiB of pending signals are enough.
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        PIPE.compare_exchange(-1, write.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst)
            .map_err(|_| io::Error::from(Errno::BUSY))?;
        let mut relay = Self { read, write, old: Vec::new() };
        for signal in signals {
            // nix and rustix have sigaction as unsafe or not at all.
            // SAFETY: both structs are plain data for which zeroes are valid; the handler is async-signal-safe.
            let (result, old) = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                let mut old: libc::sigaction = std::mem::zeroed();
                libc::sigaction(*signal, std::ptr::null(), &raw mut old);
                if old.sa_sigaction == libc::SIG_IGN {
                    continue;
                }
                action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = libc::SA_RESTART;
                libc::sigemptyset(&raw mut action.sa_mask);
                (libc::sigaction(*signal, &raw const action, &raw mut old), old)
            };
            // dropping puts back what was installed
            if result == -1 {
                return Err(io::Error::last_os_error());
            }
            relay.old.push((*signal, old));
        }
        Ok(relay)
    }

    /// Waits for the next signal; `None` after [`Relay::stop`].
    pub fn receive(&self) -> io::Result<Option<i32>> {
        let mut byte = [0_u8];
        loop {
            match rustix::io::read(&self.read, &mut byte) {
                Ok(1) if byte[0] == 0 => return Ok(None),
                Ok(1) => return Ok(Some(i32::from(byte[0]))),
                Ok(_) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut wait = [rustix::event::PollFd::new(&self.read, rustix::event::PollFlags::IN)];
                    match rustix::event::poll(&mut wait, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts the old handlers back and sends the signal to this process, which it ends unless somebody had other plans
    /// for it before.
    pub fn give_back(&self, signal: i32) -> io::Result<()> {
        self.restore();
        let signal = rustix::process::Signal::from_named_raw(signal).ok_or(Errno::INVAL)?;
        Ok(rustix::process::kill_process(rustix::process::getpid(), signal)?)
    }

    fn restore(&self) {
        for (signal, old) in &self.old {
            // SAFETY: the struct is the one that the kernel gave for this signal.
            unsafe { libc::sigaction(*signal, old, std::ptr::null_mut()) };
        }
    }

    /// Wakes [`Relay::receive`] for the last time; may be called from another thread.
    pub fn stop(&self) {
        // A full pipe is readable anyway, and the reader comes to its end later.
        let _ = rustix::io::write(&self.write, &[0]);
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.restore();
        PIPE.store(-1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_arrive_as_numbers() {
        let relay = Relay::install(&[libc::SIGUSR2]).unwrap();
        assert_eq!(Relay::install(&[]).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR2).unwrap();
        relay.stop();
        assert_eq!(relay.receive().unwrap(), Some(libc::SIGUSR2));
        assert_eq!(relay.receive().unwrap(), None);
    }
}
