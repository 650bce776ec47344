//! Why a step runs: what of its key differs from the last build that people take for the same one.
//!
//! Every build that changed something leaves a trace beside its image (`storage::traces`): for each step its key, the
//! named parts of its definition, and what it selected of its inputs. The next build of the same line compares a step
//! that misses with the step in the same place, and names what differs. The trace is read only when a step misses.

mod compare;
mod parts;
mod place;
mod trace;

pub(crate) use trace::{Explainer, Miss, cache_mounts};

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of thing made a step miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CauseKind {
    /// The instruction's own text or flags.
    Instruction,
    /// A build argument.
    Arg,
    /// An environment variable.
    Env,
    /// An option of the build, or its platform.
    Setting,
    /// The base image.
    Base,
    /// The step before, or one that it takes from as a whole.
    Parent,
    /// A file that it copies.
    Path,
    /// A file that it mounts.
    Mount,
    /// A downloaded file.
    Download,
    /// The cache was not asked, or has lost the result.
    Cache,
    /// There is nothing to compare with.
    New,
}

/// One thing that differs from the last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind of thing.
    pub kind: CauseKind,
    /// Which one: a path, a variable, a step.
    pub name: String,
    /// How it differs, where there is more than one way: `mode 0644 -> 0755`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub how: String,
    /// Its digest in the last build, shortened; `None` where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Its digest now; `None` where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Cause {
    fn note(kind: CauseKind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), how: String::new(), old: None, new: None }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CauseKind::Instruction => write!(f, "instruction {}", self.name)?,
            CauseKind::Arg => write!(f, "arg {}", self.name)?,
            CauseKind::Env => write!(f, "env {}", self.name)?,
            CauseKind::Setting => write!(f, "setting {}", self.name)?,
            CauseKind::Base => write!(f, "base {}", self.name)?,
            CauseKind::Parent => write!(f, "parent {}", self.name)?,
            CauseKind::Path => write!(f, "path {}", self.name)?,
            CauseKind::Mount => write!(f, "mount source {}", self.name)?,
            CauseKind::Download => write!(f, "download {}", self.name)?,
            CauseKind::Cache | CauseKind::New => return f.write_str(&self.name),
        }
        if !self.how.is_empty() {
            write!(f, ": {}", self.how)?;
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) if old == new => write!(f, " ({new})"),
            (Some(old), Some(new)) => write!(f, " {old} -> {new}"),
            (None, Some(new)) => write!(f, " none -> {new}"),
            (Some(old), None) => write!(f, " {old} -> none"),
            (None, None) => Ok(()),
        }
    }
}

/// How a step of a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is no step to run: a base image.
    Source,
    /// Its result was known.
    Hit,
    /// It ran.
    Ran,
}

/// One step of an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStep {
    /// As progress shows it: `[stage 2/5] RUN make`.
    pub name: String,
    /// Line in the Containerfile, 1 = first.
    pub line: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ran; empty for a hit.
    pub causes: Vec<Cause>,
}

/// Why the steps of the build that made an image ran, from the trace that it left. `None` where it left none.
pub fn explain_image(
    store: &storage::Store,
    image: &oci::Digest,
) -> storage::Result<Option<Vec<ExplainedStep>>> {
    trace::read(store, image)
}
