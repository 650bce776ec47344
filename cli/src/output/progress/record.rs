//! What a build did when, for the page of timings.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use engine::build::BuildEvent;
use engine::images::TransferEvent;

use super::lock;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Ran,
    Cached,
    Failed,
    Cancelled,
}

/// One row of the page.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: usize,
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) line: usize,
    pub(super) inputs: Vec<usize>,
    pub(super) state: State,
    /// Seconds since the build began.
    pub(super) start: f64,
    pub(super) end: f64,
    /// Size of the files in its layer.
    pub(super) bytes: Option<u64>,
}

/// A blob that was fetched.
#[derive(Debug, Clone)]
pub(super) struct Fetched {
    pub(super) digest: String,
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) bytes: u64,
}

/// All that happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorded {
    pub(super) rows: BTreeMap<usize, Row>,
    pub(super) fetched: Vec<Fetched>,
    /// Seconds that the build took.
    pub(super) total: f64,
}

pub(super) struct Record {
    start: Instant,
    recorded: Mutex<Recorded>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), recorded: Mutex::default() }
    }

    pub(super) fn event(&self, event: &BuildEvent) {
        let now = self.start.elapsed().as_secs_f64();
        let mut recorded = lock(&self.recorded);
        let mut end = |vertex: &usize, state: State| {
            if let Some(row) = recorded.rows.get_mut(vertex) {
                if row.state == State::Pending && row.start == 0.0 {
                    row.start = now;
                }
                row.state = state;
                row.end = now;
            }
        };
        match event {
            BuildEvent::Planned { steps } => {
                recorded.rows = steps
                    .iter()
                    .map(|step| {
                        let row = Row {
                            id: step.vertex,
                            name: step.name.clone(),
                            stage: step.stage.clone(),
                            line: step.line,
                            inputs: step.inputs.clone(),
                            state: State::Pending,
                            start: 0.0,
                            end: 0.0,
                            bytes: None,
                        };
                        (step.vertex, row)
                    })
                    .collect();
            }
            BuildEvent::Started { vertex, .. } => {
                if let Some(row) = recorded.rows.get_mut(vertex) {
                    row.start = now;
                }
            }
            BuildEvent::Cached { vertex, .. } => end(vertex, State::Cached),
            BuildEvent::Done { vertex, .. } => end(vertex, State::Ran),
            BuildEvent::Failed { vertex, .. } => end(vertex, State::Failed),
            BuildEvent::Cancelled { vertex } => end(vertex, State::Cancelled),
            BuildEvent::Layer { vertex, bytes, .. } => {
                if let Some(row) = recorded.rows.get_mut(vertex) {
                    row.bytes = Some(*bytes);
                }
            }
            BuildEvent::Transfer { event: TransferEvent::Started { digest, size, .. } } => {
                let fetched = Fetched { digest: digest.clone(), start: now, end: now, bytes: *size };
                recorded.fetched.push(fetched);
            }
            BuildEvent::Transfer { event: TransferEvent::Finished { digest, .. } } => {
                if let Some(fetched) = recorded.fetched.iter_mut().find(|blob| blob.digest == *digest) {
                    fetched.end = now;
                }
            }
            _ => {}
        }
    }

    pub(super) fn finish(&self) -> Recorded {
        let mut recorded = lock(&self.recorded).clone();
        recorded.total = self.start.elapsed().as_secs_f64();
        recorded
    }
}
