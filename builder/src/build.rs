//! One build from text to image: the order of the parts, and nothing of their work.

use crate::ports::{Cancel, Executor, NetworkMode, Progress, Resolver, Secrets};
use oci::{ChainId, DiffId, Digest, Platform};
use std::collections::BTreeMap;
use std::path::PathBuf;
use storage::{Lease, Store};

/// What to build, and with what.
pub struct BuildRequest<'a> {
    /// Where layers, cache and image go.
    pub store: &'a Store,
    /// Owns what the build makes until the image is recorded.
    pub lease: &'a Lease,
    /// The build context.
    pub context: Context,
    /// `--build-context NAME=..`.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Name of the Containerfile in messages.
    pub containerfile_name: String,
    /// Its text.
    pub containerfile: String,
    /// The ignore file's name and text, chosen by [`crate::context::find_ignore_file`] or by the caller.
    pub ignore: Option<(String, String)>,
    /// `--target`: name or number of a stage; the last one where `None`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// Proxy variables that RUN steps see without ARG; never part of a cache key.
    pub proxy: Vec<(String, String)>,
    /// `--secret`.
    pub secrets: Secrets,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages that are built anew.
    pub no_cache_filter: Vec<String>,
    /// Steps that may run at once; `None` is one for each CPU, but at least 2.
    pub jobs: Option<usize>,
    /// Platform of the image.
    pub platform: Platform,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--env`/`--unsetenv` style changes of the config are not the builder's; this is `--network`.
    pub network: NetworkMode,
    /// What in the executor's settings changes what a step does (names of extra hosts, say): part of the steps' keys.
    pub step_settings: String,
    /// Time of the image and limit of its files' times, seconds since 1970 (`--timestamp`, `SOURCE_DATE_EPOCH`).
    pub timestamp: Option<i64>,
    /// Runs the RUN steps.
    pub executor: &'a dyn Executor,
    /// Finds images and downloads.
    pub resolver: &'a dyn Resolver,
    /// Watches.
    pub progress: &'a dyn Progress,
    /// Ends the build early.
    pub cancel: Cancel,
}

impl std::fmt::Debug for BuildRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildRequest")
            .field("containerfile", &self.containerfile_name)
            .field("target", &self.target)
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// The build context.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory.
    Directory(PathBuf),
    /// Nothing: COPY and ADD of local files fail.
    Empty,
}

/// A named context.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory.
    Directory(PathBuf),
    /// An image reference.
    Image(String),
}

/// The result of a build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image's ID: the digest of its config. The image record and the config blob are in the store; the image
    /// has no tag yet, and no manifest until it is pushed or saved.
    pub image_id: Digest,
    /// The config's bytes.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps whose result was known.
    pub cached: usize,
    /// Warnings of the parser and of the build, ready to print.
    pub warnings: Vec<String>,
}

/// One layer of a built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// The stack up to this layer.
    pub chain_id: ChainId,
    /// Digest of its plain tar.
    pub diff_id: DiffId,
}
