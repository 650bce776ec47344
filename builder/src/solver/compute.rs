//! The only way from a step to the pool that computes.
//!
//! A rayon worker that waits in `join` or `scope` runs other jobs meanwhile, which would put a whole RUN step on
//! top of a hash; so steps can only hand work over and wait on a channel.

use super::Broken;
use std::sync::{OnceLock, mpsc};

/// Hands computing over to the pool that is made for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compute(());

/// Work that was handed over.
#[derive(Debug)]
pub(crate) struct Pending<T>(mpsc::Receiver<T>);

/// The pool that computes; `None` where no threads can be had. Not rayon's global one by `rayon::spawn`: that stays in
/// the pool of the thread that calls it, here the one of the steps, whose only thread may be the one that waits.
fn pool() -> Option<&'static rayon::ThreadPool> {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new().thread_name(|index| format!("compute-{index}")).build().ok()
    })
    .as_ref()
}

impl Compute {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Hands work over.
    pub(crate) fn spawn<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let work = move || {
            // rayon ends the process on a panic in `spawn`; here the sender is dropped and the waiter hears of it.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
                let _ = sender.send(value);
            }
        };
        match pool() {
            Some(pool) => pool.spawn(work),
            None => work(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_only_thread_of_the_steps_can_wait() {
        let steps = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let (sender, receiver) = mpsc::channel();
        steps.spawn(move || {
            let computed = Compute::new().spawn(|| 6 * 7).wait();
            let _ = sender.send(computed.ok());
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(Some(42)));
    }
}
