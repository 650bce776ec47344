//! From instructions to the graph, and to the config that the image will have.
//!
//! Only what changes files becomes a vertex; the rest changes the config. Nothing is read or run here: base images
//! come through [`Images`], already resolved.

mod files;
mod git;
mod history;
mod mounts;
mod run;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod variables;

pub use git::{parse as parse_git_address, without_password};

use crate::diagnostic::{Diagnostic, Report};
use crate::graph::{Graph, VertexId};
use crate::instruction::Containerfile;
use crate::parse::Span;
use crate::ports::{NetworkMode, PortError, ResolvedImage};
use crate::stages::{Base, MAX_EXPANDED, Plan, too_large};
use oci::{History, ImageConfig, Platform};
use state::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What lowering depends on besides the file.
pub(crate) struct Options<'a> {
    pub(crate) build_args: &'a BTreeMap<String, String>,
    /// TARGETPLATFORM and its like.
    pub(crate) platform_args: &'a BTreeMap<String, String>,
    pub(crate) platform: &'a Platform,
    /// Named contexts: directories, and images.
    pub(crate) contexts: &'a BTreeMap<String, crate::build::NamedContext>,
    pub(crate) network: NetworkMode,
    pub(crate) step_settings: &'a str,
    pub(crate) proxy: &'a [(String, String)],
    pub(crate) no_cache: bool,
    pub(crate) no_cache_filter: &'a [String],
    pub(crate) image: &'a crate::build::ImageOptions,
    /// Whether stages that the target does not need are lowered too.
    pub(crate) all_stages: bool,
    /// What steps may ask for beyond the usual.
    pub(crate) allow: &'a BTreeSet<String>,
    /// Whether a vendor describes a device of this name here, or why that cannot be said.
    pub(crate) is_device: &'a dyn Fn(&str) -> Result<bool, String>,
    /// What becomes of the times of new files.
    pub(crate) times: crate::graph::FileTimes,
}

/// Gives images by reference; asked once for each reference and platform.
pub(crate) type Images<'a> = &'a dyn Fn(&str, &Platform) -> Result<Arc<ResolvedImage>, PortError>;

/// The graph of a build, and what the image will be.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) graph: Graph,
    pub(crate) target: VertexId,
    /// Stages that are built for their own sake.
    pub(crate) others: Vec<VertexId>,
    /// How many of the result's layers are those of an image that its stages began with.
    pub(crate) base_layers: usize,
    /// The config without layers, times and history.
    pub(crate) config: ImageConfig,
    pub(crate) history: Vec<History>,
    /// Names of build arguments that something used.
    pub(crate) used_args: BTreeSet<String>,
}

/// Why a file cannot be lowered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It says something that is wrong or not supported.
    #[error(transparent)]
    Report(#[from] Report),
    /// A base image could not be had.
    #[error("resolve image {reference}")]
    Image { reference: String, place: Report, source: PortError },
}

/// Lowers the target stage and all that it needs.
pub(crate) fn lower(
    file: &Containerfile,
    plan: &Plan,
    options: &Options<'_>,
    images: Images<'_>,
) -> Result<Lowered, Error> {
    let mut lowering = Lowering {
        file,
        plan,
        options,
        images,
        graph: Graph::default(),
        vertices: BTreeMap::new(),
        states: BTreeMap::new(),
        users: users(plan),
        depth: 0,
        spent: 0,
        directories: BTreeMap::new(),
        roots: BTreeMap::new(),
        used_args: plan.used_build_args.clone(),
    };
    lowering.stage(plan.target, file.stages[plan.target].span)?;
    let mut others = Vec::new();
    if options.all_stages {
        for (index, stage) in file.stages.iter().enumerate() {
            others.push(lowering.stage(index, stage.span)?);
        }
    }
    lowering.graph.set_times(options.times);
    let Some(mut state) = lowering.states.remove(&plan.target) else {
        return Err(lowering.refuse(Span::NOWHERE, "the target stage was not made"));
    };
    others.sort();
    others.dedup();
    others.retain(|vertex| *vertex != state.vertex);
    state.env.apply(&options.image.env, &options.image.unset_env);
    let mut config = state.config;
    config.config.env = state.env.entries().to_vec();
    for key in &options.image.unset_labels {
        config.config.labels.remove(key);
    }
    config.config.labels.extend(options.image.labels.iter().cloned());
    Ok(Lowered {
        target: state.vertex,
        others,
        base_layers: state.base_layers,
        config,
        history: state.history.iter().map(|entry| (**entry).clone()).collect(),
        graph: lowering.graph,
        used_args: lowering.used_args,
    })
}

/// How many stages are built on each; one more for the target, whose state is the result.
fn users(plan: &Plan) -> Vec<usize> {
    let mut users = vec![0; plan.stages.len()];
    users[plan.target] = 1;
    for stage in &plan.stages {
        if let Base::Stage(index) = stage.base {
            users[index] += 1;
        }
    }
    users
}

struct Lowering<'a> {
    file: &'a Containerfile,
    plan: &'a Plan,
    options: &'a Options<'a>,
    images: Images<'a>,
    graph: Graph,
    /// Results of the stages that are lowered.
    vertices: BTreeMap<usize, VertexId>,
    /// What those of them are that others are still to be built on.
    states: BTreeMap<usize, State>,
    /// Stages that are still to be built on each.
    users: Vec<usize>,
    /// Stages that are being lowered because a trigger of another one asked for them.
    depth: usize,
    /// Bytes that were made out of variables and of what instructions inherit.
    spent: usize,
    /// Vertices of contexts.
    directories: BTreeMap<Option<String>, VertexId>,
    /// Vertices of images, by their layers; scratch is the empty list.
    roots: BTreeMap<Vec<oci::ChainId>, VertexId>,
    used_args: BTreeSet<String>,
}

impl Lowering<'_> {
    /// An error at a place in the file.
    fn fail(&self, diagnostic: Diagnostic) -> Error {
        Report::new(self.file.source.clone(), vec![diagnostic]).into()
    }

    /// Counts what grows faster than the file: values of variables, environments of steps, copies of configs. A file
    /// of a megabyte could ask for terabytes of it.
    fn spend(&mut self, bytes: usize, span: Span) -> Result<(), Error> {
        self.spent = self.spent.saturating_add(bytes);
        if self.spent > MAX_EXPANDED { Err(self.fail(too_large(span))) } else { Ok(()) }
    }

    fn refuse(&self, span: Span, message: impl Into<String>) -> Error {
        self.fail(Diagnostic::error(span, message))
    }
}
