//! Signals during a build.
//!
//! The first one cancels the steps that run, and the build ends with its number when they are gone. A second one, or one
//! that comes while images are still being looked up, ends the process at once: that is safe at any time, it only
//! leaves something for the next command to clear away.

use builder::ports::Cancel;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use sys::relay::Relay;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// The handlers, while it lives.
#[derive(Debug)]
pub(super) struct Watch {
    relay: Option<Relay>,
    /// Counts the new sizes of the terminal.
    pub(super) resized: Option<Arc<OwnedFd>>,
    /// Whether steps may run, so that there is something to cancel.
    pub(super) solving: AtomicBool,
    ended_by: AtomicI32,
}

impl Watch {
    /// Takes the signals over if they are `wanted` and nobody in this process has them yet.
    pub(super) fn install(wanted: bool) -> Self {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let resized = if wanted { eventfd(0, flags).ok().map(Arc::new) } else { None };
        let relay = if wanted { Relay::install(&[SIGHUP, SIGINT, SIGTERM, SIGWINCH]).ok() } else { None };
        Self { relay, resized, solving: AtomicBool::new(false), ended_by: AtomicI32::new(0) }
    }

    /// The signal that cancelled the build.
    pub(super) fn ended_by(&self) -> Option<i32> {
        match self.ended_by.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Runs `body` while a thread waits for signals; `tell` hears of what they do.
    pub(super) fn during<T>(
        &self,
        cancel: &Cancel,
        tell: &(dyn Fn(&str) + Sync),
        body: impl FnOnce() -> T,
    ) -> T {
        let Some(relay) = &self.relay else { return body() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Ok(Some(signal)) = relay.receive() {
                    if signal == SIGWINCH {
                        if let Some(resized) = &self.resized {
                            let _ = rustix::io::write(resized, &1_u64.to_ne_bytes());
                        }
                    } else if self.solving.load(Ordering::SeqCst) && self.ended_by().is_none() {
                        self.ended_by.store(signal, Ordering::SeqCst);
                        tell("cancelling the build; once more to leave at once");
                        cancel.cancel();
                    } else {
                        tell("the build was cancelled");
                        let _ = relay.give_back(signal);
                    }
                }
            });
            // Also when the build panics, or the thread would be waited for without end.
            let _stop = Stop(relay);
            body()
        })
    }
}

struct Stop<'a>(&'a Relay);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
