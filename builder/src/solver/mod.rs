//! Decides what must be done for a target, and does it with as many steps at once as allowed.
//!
//! The solver knows vertices, keys and jobs, nothing of files or containers: [`Work`] does what it asks. One
//! coordinator (`schedule`) owns all state and hears of the jobs' ends by messages. Demand runs from the target
//! down: the *key* of a vertex first, which needs no results but those whose content counts; a known key ends the
//! demand there, so the inputs of a known result are never touched.

mod compute;
mod schedule;
#[cfg(test)]
mod tests;

use crate::cache::Key;
use crate::explain::Miss;
use crate::graph::{Graph, VertexId};
use crate::ports::{Cancel, Event, Progress};
use oci::Digest;
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(crate) use compute::{Compute, Pending};

/// Does what the solver decides.
pub(crate) trait Work: Sync {
    /// What a vertex gives to those that need it.
    type Output: Clone + Send + Sync;
    /// Why a vertex fails.
    type Error: Send + std::error::Error + From<Broken>;

    /// The output of a vertex that needs no work, and its key where it has one that lasts.
    fn source(&self, vertex: VertexId) -> Option<(Self::Output, Option<Key>)>;
    /// Digest of the vertex's operation without its inputs.
    fn definition(&self, vertex: VertexId) -> Digest;
    /// The content key that was found behind a cheap key before.
    fn known_as(&self, cheap: &Key) -> Option<Key>;
    /// Remembers what [`Work::known_as`] will say.
    fn remember_as(&self, cheap: &Key, key: &Key);
    /// The result that is known under a key, checked to be still there.
    fn look_up(&self, vertex: VertexId, key: &Key) -> Option<Self::Output>;
    /// Whether the result of a key that is not known here may be had from elsewhere.
    fn is_elsewhere(&self, _key: &Key) -> bool {
        false
    }
    /// Brings a result from elsewhere; `None` where that fails.
    fn fetch(&self, _vertex: VertexId, _key: &Key) -> Option<Self::Output> {
        None
    }
    /// Digests of what the vertex selects of its inputs that count by content, in their order.
    fn content(
        &self,
        vertex: VertexId,
        inputs: &[Self::Output],
        step: &Step<'_>,
    ) -> Result<Vec<Digest>, Self::Error>;
    /// Called before a vertex runs; an error ends the build instead.
    fn missed(&self, _miss: &Miss<'_>) -> Result<(), Self::Error> {
        Ok(())
    }
    /// Does the operation and records the result under its key.
    fn run(
        &self,
        vertex: VertexId,
        key: Option<&Key>,
        inputs: &[Self::Output],
        step: &Step<'_>,
    ) -> Result<Self::Output, Self::Error>;
}

/// What a job may use.
pub(crate) struct Step<'a> {
    /// The vertex that it works for.
    pub(crate) vertex: VertexId,
    /// Where it hands computing over.
    pub(crate) compute: Compute,
    /// When to stop.
    pub(crate) cancel: &'a Cancel,
    /// Whom it tells.
    pub(crate) progress: &'a dyn Progress,
}

/// Failures of the solver itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The build was given up.
    #[error("build cancelled")]
    Cancelled,
    /// A job panicked.
    #[error("a build step ended by a panic")]
    Panicked,
    /// Threads could not be started.
    #[error("start the threads of the build")]
    NoThreads,
    /// The target cannot be reached; the graph is wrong.
    #[error("the build graph has no way to its target")]
    Stuck,
}

/// What to solve, and how.
pub(crate) struct Order<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) targets: &'a [VertexId],
    pub(crate) jobs: usize,
    pub(crate) cancel: &'a Cancel,
    pub(crate) progress: &'a dyn Progress,
}

/// Outputs of the targets, and what it took.
#[derive(Debug)]
pub(crate) struct Solved<O> {
    pub(crate) outputs: Vec<O>,
    pub(crate) ran: usize,
    pub(crate) cached: usize,
    /// What each vertex is known under.
    pub(crate) keys: Vec<VertexKeys>,
}

/// The keys of a vertex, as far as they were asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct VertexKeys {
    /// From definitions alone, where that differs from the final one.
    pub(crate) cheap: Option<Key>,
    /// The final one.
    pub(crate) key: Option<Key>,
}

enum Message<O, E> {
    Hashed(VertexId, Result<Vec<Digest>, E>),
    Ran(VertexId, Result<O, E>, Duration),
    Fetched(VertexId, Option<O>),
}

/// Solves for all targets. The first failure cancels everything that runs; its error is returned when all jobs
/// have ended.
pub(crate) fn solve<W: Work>(work: &W, order: &Order<'_>) -> Result<Solved<W::Output>, W::Error> {
    let mut schedule = schedule::Schedule::new(work, order);
    if order.cancel.is_cancelled() {
        return Err(Broken::Cancelled.into());
    }
    schedule.settle();
    // A build whose results are all known starts no thread.
    if schedule.has_ready() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(order.jobs.max(1))
            .thread_name(|index| format!("step-{index}"))
            .build()
            .map_err(|_| W::Error::from(Broken::NoThreads))?;
        let (sender, receiver) = mpsc::channel();
        pool.in_place_scope(|scope| {
            let mut running = 0usize;
            loop {
                while let Some(job) = schedule.take_ready() {
                    running += 1;
                    let sender = sender.clone();
                    scope.spawn(move |_| {
                        // The coordinator outlives all jobs, so the message always has a reader.
                        let _ = sender.send(perform(work, order, job));
                    });
                }
                if running == 0 {
                    break;
                }
                let Ok(message) = receiver.recv() else { break };
                running -= 1;
                schedule.hear(message);
                if order.cancel.is_cancelled() {
                    schedule.stop();
                }
                schedule.settle();
            }
        });
    }
    schedule.finish()
}

fn perform<W: Work>(
    work: &W,
    order: &Order<'_>,
    job: schedule::Job<W::Output>,
) -> Message<W::Output, W::Error> {
    let step =
        Step { vertex: job.vertex, compute: Compute::new(), cancel: order.cancel, progress: order.progress };
    let cancelled = order.cancel.is_cancelled();
    match job.kind {
        schedule::JobKind::Hash => {
            let result = if cancelled {
                Err(Broken::Cancelled.into())
            } else {
                guarded(|| work.content(job.vertex, &job.inputs, &step))
            };
            Message::Hashed(job.vertex, result)
        }
        schedule::JobKind::Fetch { key } => {
            let fetched = guarded(|| Ok::<_, W::Error>(work.fetch(job.vertex, &key)));
            // What cannot be fetched is made.
            Message::Fetched(job.vertex, fetched.ok().flatten().filter(|_| !cancelled))
        }
        schedule::JobKind::Run { key } => {
            let begin = Instant::now();
            let result = if cancelled {
                Err(Broken::Cancelled.into())
            } else {
                order.progress.event(Event::Started(job.vertex.0));
                guarded(|| work.run(job.vertex, key.as_ref(), &job.inputs, &step))
            };
            Message::Ran(job.vertex, result, begin.elapsed())
        }
    }
}

fn guarded<T, E: From<Broken>>(job: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // A panic of one step must reach the coordinator as a failure, or it would wait for ever.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(job))
        .unwrap_or_else(|_| Err(Broken::Panicked.into()))
}
