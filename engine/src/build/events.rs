//! What happens during a build, as its watchers see it.

use super::watch::Watch;
use crate::images::TransferEvent;
use builder::ports::{Event, Progress, Stream};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What happens during a build. `vertex` counts from 1 and stands for one step; events of different steps interleave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BuildEvent {
    /// The steps of the build, before any of them runs.
    Planned {
        /// The steps, inputs first.
        steps: Vec<BuildStep>,
    },
    /// A step begins.
    Started {
        /// Which.
        vertex: usize,
        /// `[stage 2/5] RUN make`.
        name: String,
    },
    /// A step's result was known.
    Cached {
        /// Which.
        vertex: usize,
        /// As in [`BuildEvent::Started`].
        name: String,
    },
    /// A step's result was not known: it runs, unless the build must not.
    Missed {
        /// Which.
        vertex: usize,
        /// As in [`BuildEvent::Started`].
        name: String,
        /// What changed since the last such build, each with old and new digest.
        causes: Vec<String>,
    },
    /// A step wrote output.
    Output {
        /// Which.
        vertex: usize,
        /// Whether to standard error.
        stderr: bool,
        /// A line without its newline, or what there is of one.
        line: String,
    },
    /// A step writes one line over again and again: what there is of it, now and then.
    Partial {
        /// Which.
        vertex: usize,
        /// The text since the line began.
        line: String,
    },
    /// A step is done.
    Done {
        /// Which.
        vertex: usize,
        /// How long it took.
        elapsed: Duration,
    },
    /// The new layer of a step is known; comes at the end of a build.
    Layer {
        /// Of which step.
        vertex: usize,
        /// Sum of the sizes of its files.
        bytes: u64,
        /// Length of its plain tar.
        tar_bytes: u64,
    },
    /// A step failed.
    Failed {
        /// Which.
        vertex: usize,
        /// Why.
        message: String,
    },
    /// A step was given up, because another one failed or the build was cancelled.
    Cancelled {
        /// Which.
        vertex: usize,
    },
    /// A command failed, and until [`BuildEvent::ShellClosed`] a shell has the terminal.
    ShellOpened {
        /// Of which step.
        vertex: usize,
        /// How the command ended.
        message: String,
    },
    /// The terminal is free again.
    ShellClosed {
        /// The step.
        vertex: usize,
    },
    /// A base image is being fetched.
    Transfer {
        /// What happens.
        event: TransferEvent,
    },
    /// Something the user should know.
    Warning {
        /// Complete text, several lines for one with a place in the Containerfile.
        text: String,
    },
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildStep {
    /// Its number in the events.
    pub vertex: usize,
    /// `[stage 2/5] RUN make`.
    pub name: String,
    /// Name or number of its stage.
    pub stage: String,
    /// Number of the step in its stage, 1 = FROM; 0 for what no instruction asks for by itself.
    pub step: usize,
    /// Steps of the stage.
    pub steps: usize,
    /// Line of the Containerfile, 1 = first; 0 for what no line asks for.
    pub line: usize,
    /// What it is made of, steps or not.
    pub inputs: Vec<usize>,
}

/// Receives the events of a build, from several threads.
pub type BuildProgress<'a> = &'a (dyn Fn(BuildEvent) + Send + Sync);

/// Hands the builder's events on.
pub(super) struct Watcher<'a> {
    pub(super) progress: BuildProgress<'a>,
    pub(super) names: Mutex<BTreeMap<usize, String>>,
    pub(super) watch: &'a Watch,
}

impl Watcher<'_> {
    fn name(&self, vertex: usize) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&vertex).cloned().unwrap_or_default()
    }
}

impl Progress for Watcher<'_> {
    fn event(&self, event: Event<'_>) {
        // What belongs to another step is not told: it was not planned.
        if let Event::Started(id) | Event::Cached(id) | Event::Done(id, _) = &event
            && self.name(*id).is_empty()
        {
            return;
        }
        (self.progress)(match event {
            Event::Plan(vertices) => {
                self.watch.solving.store(true, std::sync::atomic::Ordering::SeqCst);
                let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                names.extend(vertices.iter().map(|vertex| (vertex.id, vertex.name.clone())));
                let steps = vertices.iter().map(|vertex| BuildStep {
                    vertex: vertex.id + 1,
                    name: vertex.name.clone(),
                    stage: vertex.stage.clone(),
                    step: vertex.step,
                    steps: vertex.steps,
                    line: vertex.line,
                    inputs: vertex.inputs.iter().map(|id| id + 1).collect(),
                });
                BuildEvent::Planned { steps: steps.collect() }
            }
            Event::Warning(text) => BuildEvent::Warning { text: text.to_owned() },
            Event::Started(id) => BuildEvent::Started { vertex: id + 1, name: self.name(id) },
            Event::Cached(id) => BuildEvent::Cached { vertex: id + 1, name: self.name(id) },
            Event::Missed(id, causes) => BuildEvent::Missed {
                vertex: id + 1,
                name: self.name(id),
                causes: causes.iter().map(ToString::to_string).collect(),
            },
            Event::Done(id, elapsed) => BuildEvent::Done { vertex: id + 1, elapsed },
            Event::Failed(id, message) => BuildEvent::Failed { vertex: id + 1, message: message.to_owned() },
            Event::Cancelled(id) => BuildEvent::Cancelled { vertex: id + 1 },
            Event::ShellOpened(id, message) => {
                BuildEvent::ShellOpened { vertex: id + 1, message: message.to_owned() }
            }
            Event::Layer { vertex, content_size, tar_size } => {
                BuildEvent::Layer { vertex: vertex + 1, bytes: content_size, tar_bytes: tar_size }
            }
            Event::ShellClosed(id) => BuildEvent::ShellClosed { vertex: id + 1 },
            Event::Partial { vertex, text } => {
                BuildEvent::Partial { vertex: vertex + 1, line: String::from_utf8_lossy(text).into_owned() }
            }
            Event::Log { vertex, stream, text } => BuildEvent::Output {
                vertex: vertex + 1,
                stderr: stream == Stream::Stderr,
                line: String::from_utf8_lossy(text).trim_end_matches(['\n', '\r']).to_owned(),
            },
            _ => return,
        });
    }
}
