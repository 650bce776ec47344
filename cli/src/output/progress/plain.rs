//! A line for each event: `#STEP [stage n/m] INSTRUCTION`, then `#STEP [stage] SECONDS TEXT`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use engine::build::{BuildEvent, BuildReport};

use super::{Transfer, View, lock};
use crate::error::Failure;
use crate::output::note;

pub(super) struct Plain {
    start: Instant,
    transfer: Transfer,
    steps: Mutex<HashMap<usize, Instant>>,
    /// Stage of each step, where there are several stages.
    stages: Mutex<HashMap<usize, String>>,
}

impl Plain {
    pub(super) fn new() -> Self {
        let transfer = Transfer::among(None);
        Self { start: Instant::now(), transfer, steps: Mutex::default(), stages: Mutex::default() }
    }
}

impl View for Plain {
    fn event(&self, event: &BuildEvent) {
        match event {
            BuildEvent::Planned { steps } if steps.iter().any(|step| step.stage != steps[0].stage) => {
                let stages = steps.iter().map(|step| (step.vertex, step.stage.clone()));
                *lock(&self.stages) = stages.collect();
            }
            BuildEvent::Started { vertex, name } => {
                lock(&self.steps).insert(*vertex, Instant::now());
                note(&format!("#{vertex} {name}"));
            }
            BuildEvent::Cached { vertex, name } => note(&format!("#{vertex} {name}\n#{vertex} CACHED")),
            BuildEvent::Output { vertex, line, .. } => {
                let start = lock(&self.steps).get(vertex).copied().unwrap_or(self.start);
                let seconds = start.elapsed().as_secs_f64();
                let stage =
                    lock(&self.stages).get(vertex).map_or_else(String::new, |name| format!("[{name}] "));
                note(&format!("#{vertex} {stage}{seconds:.3} {line}"));
            }
            BuildEvent::Done { vertex, elapsed } => {
                note(&format!("#{vertex} DONE {:.1}s", elapsed.as_secs_f64()));
            }
            BuildEvent::Failed { vertex, message } => {
                note(&format!("#{vertex} FAILED {}", message.lines().next().unwrap_or_default()));
            }
            BuildEvent::Cancelled { vertex } => note(&format!("#{vertex} CANCELLED")),
            BuildEvent::Transfer { event } => self.transfer.event(event),
            BuildEvent::Warning { text } => self.warning(text.trim_end()),
            _ => {}
        }
    }

    fn warning(&self, text: &str) {
        note(&super::warning(text));
    }

    fn tell(&self, text: &str) {
        note(text);
    }

    fn suspend(&self, text: &str) {
        note(text);
    }

    fn finish(&self, _end: Result<&BuildReport, &Failure>) -> bool {
        self.transfer.finish();
        false
    }
}
