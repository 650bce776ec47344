//! From instructions to the graph, and to the config that the image will have.
//!
//! Only what changes files becomes a vertex; the rest changes the config. Nothing is read or run here: base images
//! come through [`Images`], already resolved.

mod files;
mod history;
mod run;
mod stage;
#[cfg(test)]
mod tests;

use crate::diagnostic::{Diagnostic, Report};
use crate::graph::{Graph, VertexId};
use crate::instruction::Containerfile;
use crate::parse::Span;
use crate::ports::{NetworkMode, PortError, ResolvedImage};
use crate::stages::Plan;
use oci::{History, ImageConfig, Platform};
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
    pub(crate) labels: &'a [(String, String)],
    pub(crate) env: &'a [(String, String)],
}

/// Gives images by reference; asked once for each reference and platform.
pub(crate) type Images<'a> = &'a dyn Fn(&str, &Platform) -> Result<Arc<ResolvedImage>, PortError>;

/// The graph of a build, and what the image will be.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) graph: Graph,
    pub(crate) target: VertexId,
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
        stages: BTreeMap::new(),
        directories: BTreeMap::new(),
        roots: BTreeMap::new(),
        used_args: plan.used_build_args.clone(),
    };
    let state = lowering.stage(plan.target)?;
    let mut config = state.config.clone();
    for (key, value) in options.labels {
        config.config.labels.insert(key.clone(), value.clone());
    }
    for (name, value) in options.env {
        stage::set_env(&mut config.config.env, name, value);
    }
    Ok(Lowered {
        target: state.vertex,
        config,
        history: state.history.clone(),
        graph: lowering.graph,
        used_args: lowering.used_args,
    })
}

struct Lowering<'a> {
    file: &'a Containerfile,
    plan: &'a Plan,
    options: &'a Options<'a>,
    images: Images<'a>,
    graph: Graph,
    /// Stages that are lowered.
    stages: BTreeMap<usize, Arc<stage::State>>,
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

    fn refuse(&self, span: Span, message: impl Into<String>) -> Error {
        self.fail(Diagnostic::error(span, message))
    }
}
