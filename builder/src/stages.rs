//! Which stages a build needs, what they are based on, and the global arguments.

use crate::diagnostic::Diagnostic;
use crate::instruction::Containerfile;
use std::collections::{BTreeMap, BTreeSet};

/// What the choice of stages depends on besides the file.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `--target`: name or number; `None` = last stage.
    pub target: Option<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// TARGETPLATFORM and its like: known in FROM lines without ARG.
    pub platform_args: BTreeMap<String, String>,
    /// Names of `--build-context`; they win over stages and images.
    pub contexts: BTreeSet<String>,
}

/// The stages of a build.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All stages, in the file's order.
    pub stages: Vec<StagePlan>,
    /// Number of the stage that is the result.
    pub target: usize,
    /// Values of the global ARGs; a stage sees one after a bare `ARG NAME`.
    pub global_args: BTreeMap<String, String>,
    /// Names of build arguments that FROM lines or global ARGs used.
    pub used_build_args: BTreeSet<String>,
}

/// What is known about a stage before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// What it starts from.
    pub base: Base,
    /// `--platform`, expanded.
    pub platform: Option<String>,
    /// Stages that it refers to: FROM, `COPY --from`, `RUN --mount=from`. Not those of the base's ONBUILD triggers.
    pub dependencies: BTreeSet<usize>,
    /// Whether the target needs it.
    pub needed: bool,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// The result of an earlier stage.
    Stage(usize),
    /// A named context.
    Context(String),
    /// An image.
    Image(String),
}

/// Evaluates global arguments and FROM lines, and follows references from the target.
pub fn plan(file: &Containerfile, options: &PlanOptions) -> Result<Plan, Vec<Diagnostic>> {
    let _ = (file, options);
    todo!()
}

impl Containerfile {
    /// The stage that `--from=NAME` means in the stage with number `before`: the latest of that name above it,
    /// whatever the case, or the one with that number.
    pub fn stage_above(&self, name: &str, before: usize) -> Option<usize> {
        let _ = (name, before);
        todo!()
    }

    /// Names of the stages above the one with number `before`, for suggestions.
    pub fn stage_names(&self, before: usize) -> impl Iterator<Item = &str> {
        self.stages.iter().take(before).filter_map(|stage| stage.name.as_ref()).map(|name| name.node.as_str())
    }
}
