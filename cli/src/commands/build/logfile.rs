//! `--logfile`: what a build says, in a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use engine::build::BuildEvent;

use crate::error::{Attempt, Failure};

/// Writes the events of a build, a line each, as they come.
pub(super) struct LogFile {
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    started: BTreeMap<usize, Instant>,
    failure: Option<std::io::Error>,
}

impl LogFile {
    /// Makes the file, or empties it.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).attempt(format!("write {}", path.display()))?;
        Ok(Self { inner: Mutex::new(Inner { file, started: BTreeMap::new(), failure: None }) })
    }

    /// Writes an event.
    pub(super) fn event(&self, event: &BuildEvent) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            BuildEvent::Started { vertex, name } => {
                inner.started.insert(*vertex, Instant::now());
                format!("#{vertex} {name}")
            }
            BuildEvent::Cached { vertex, name } => format!("#{vertex} {name}\n#{vertex} CACHED"),
            BuildEvent::Output { vertex, line, .. } => {
                let seconds = inner.started.get(vertex).map_or(0.0, |start| start.elapsed().as_secs_f64());
                format!("#{vertex} {seconds:.3} {line}")
            }
            BuildEvent::Done { vertex, elapsed } => {
                format!("#{vertex} DONE {:.1}s", elapsed.as_secs_f64())
            }
            BuildEvent::Failed { vertex, message } => format!("#{vertex} FAILED {message}"),
            BuildEvent::Warning { text } => format!("Warning: {}", text.trim_end()),
            _ => return,
        };
        if let Err(error) = writeln!(inner.file, "{line}") {
            inner.failure.get_or_insert(error);
        }
    }

    /// Tells whether everything was written.
    pub(super) fn finish(self, path: &Path) -> Result<(), Failure> {
        let inner = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.failure.map_or(Ok(()), Err).attempt(format!("write {}", path.display()))
    }
}
