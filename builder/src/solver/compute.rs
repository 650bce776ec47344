//! The only way from a step to the pool that computes.
//!
//! A rayon worker that waits in `join` or `scope` runs other jobs meanwhile, which would put a whole RUN step on
//! top of a hash; so steps can only hand work over and wait on a channel.

use super::Broken;
use std::sync::mpsc;

/// Hands computing over to the global pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute(());

/// Work that was handed over.
#[derive(Debug)]
pub(crate) struct Pending<T>(mpsc::Receiver<T>);

impl Compute {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Hands work over.
    pub(crate) fn spawn<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        rayon::spawn(move || {
            // rayon ends the process on a panic in `spawn`; here the sender is dropped and the waiter hears of it.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                let _ = sender.send(value);
            }
        });
        Pending(receiver)
    }
}

impl<T> Pending<T> {
    /// A result that is there already.
    pub(crate) fn ready(value: T) -> Self {
        let (sender, receiver) = mpsc::sync_channel(1);
        // There is room for one, and the receiver lives.
        let _ = sender.send(value);
        Self(receiver)
    }

    /// Waits for the result.
    pub(crate) fn wait(self) -> Result<T, Broken> {
        self.0.recv().map_err(|_| Broken::Panicked)
    }
}
