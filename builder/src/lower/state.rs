//! What a stage is after some of its instructions.

use super::history;
use super::variables::{Arguments, Environment};
use crate::graph::{Place, VertexId};
use oci::{History, ImageConfig, Platform};
use std::cell::Cell;
use std::sync::Arc;

/// What a stage is after some of its instructions.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Its root file system.
    pub(super) vertex: VertexId,
    /// Layers of the image that it began with.
    pub(super) base_layers: usize,
    pub(super) config: ImageConfig,
    /// The image's variables; those of `config` are empty until the end.
    pub(super) env: Environment,
    pub(super) history: Vec<Arc<History>>,
    /// ARGs in scope.
    pub(super) args: Arguments,
    /// What a step sees, as long as no variable changes: many steps share it.
    pub(super) environment: Option<Arc<Vec<String>>>,
    /// Bytes of the values that were asked for and not counted yet.
    pub(super) looked_up: Cell<usize>,
    /// Whether CMD was set in this stage: ENTRYPOINT leaves it then.
    pub(super) cmd_set: bool,
    pub(super) platform: Platform,
    pub(super) no_cache: bool,
    pub(super) label: String,
    /// Number of the stage.
    pub(super) index: usize,
    pub(super) step: usize,
    pub(super) steps: usize,
    /// Line of the instruction at hand.
    pub(super) line: usize,
}

impl State {
    /// ENV, else ARG.
    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        let value = self.env.get(name).or_else(|| self.args.get(name))?;
        self.looked_up.set(self.looked_up.get().saturating_add(value.len()));
        Some(value.to_owned())
    }

    pub(super) fn workdir(&self) -> &str {
        let dir = &self.config.config.working_dir;
        if dir.is_empty() { "/" } else { dir }
    }

    pub(super) fn shell(&self) -> Vec<String> {
        match &self.config.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        }
    }

    /// A path as WORKDIR makes it absolute; a trailing slash, or a last `.`, stays visible.
    pub(super) fn absolute(&self, path: &str) -> String {
        let joined =
            if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.workdir()) };
        let clean = crate::ops::beneath::clean(std::path::Path::new(&joined));
        let directory = path.ends_with('/') || path == "." || path.ends_with("/.");
        let clean = clean.to_string_lossy();
        if directory && !clean.is_empty() { format!("/{clean}/") } else { format!("/{clean}") }
    }

    pub(super) fn note(&mut self, text: &str) {
        self.push(history::entry(text, false, false));
    }

    pub(super) fn push(&mut self, entry: History) {
        self.history.push(Arc::new(entry));
    }

    /// Bytes that a copy takes, about.
    pub(super) fn size(&self) -> usize {
        let config = &self.config.config;
        let labels: usize = config.labels.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        let triggers: usize = config.on_build.iter().map(|text| text.len() + 32).sum();
        let ports = 64 * (config.exposed_ports.len() + config.volumes.len());
        let history = self.history.len() * size_of::<Arc<History>>();
        self.env.size() + self.args.size() + labels + triggers + ports + history
    }

    pub(super) fn place(&self, text: &str) -> Place {
        Place {
            text: text.to_owned(),
            stage: self.label.clone(),
            step: self.step,
            steps: self.steps,
            line: self.line,
        }
    }
}
