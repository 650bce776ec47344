//! One build from text to image: the order of the parts, and nothing of their work.

mod exposure;
mod failure;
mod image_options;
mod remote;
mod squash;
mod work;

pub use image_options::{ImageOptions, Layers};
pub(crate) use work::NamedLayer;

use crate::assemble;
use crate::context;
use crate::diagnostic::{Report, Severity, with_causes};
use crate::explain::{self, Explainer};
use crate::graph::{FileTimes, Graph, Op, Place};
use crate::ignore::Ignore;
use crate::instruction::Containerfile;
use crate::lint::LintOptions;
use crate::lower::{self, Lowered};
use crate::ops;
use crate::ports::{
    Cancel, Event, Executor, NetworkMode, PortError, Progress, RemoteCache, ResolvedImage, Resolver, Secrets,
    SshAgents, VertexInfo,
};
use crate::secrets::{self, Search};
use crate::solver::{self, Broken, Order};
use crate::stages::{self, Base, Plan, PlanOptions};
use crate::{lint, parse};
use oci::{ChainId, DiffId, Digest, Platform};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Name and text of the ignore files of those that have one.
    pub named_ignores: BTreeMap<String, (String, String)>,
    /// Name of the Containerfile in messages.
    pub containerfile_name: String,
    /// Its text.
    pub containerfile: String,
    /// The ignore file's name and text; [`crate::context::find_ignore_file`] finds it.
    pub ignore: Option<(String, String)>,
    /// `--target`: name or number of a stage; the last one where `None`.
    pub target: Option<String>,
    /// `--from`: what the first FROM names instead of what is written there.
    pub from: Option<String>,
    /// `--skip-unused-stages=false`: stages that the target does not need are built as well.
    pub all_stages: bool,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// Proxy variables that RUN steps see without ARG; never part of a cache key.
    pub proxy: Vec<(String, String)>,
    /// `--secret`.
    pub secrets: Secrets,
    /// `--ssh`.
    pub ssh: SshAgents,
    /// `--allow`: `security.insecure`, `device`.
    pub allow: BTreeSet<String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages that are built anew.
    pub no_cache_filter: Vec<String>,
    /// Steps that may run at once; `None` is one for each CPU, but at least 2.
    pub jobs: Option<usize>,
    /// Platform of the image.
    pub platform: Platform,
    /// What the image is besides the result of its instructions.
    pub image: ImageOptions,
    /// `--network`
    pub network: NetworkMode,
    /// What in the executor's settings changes what a step does (names of extra hosts, say): part of the steps' keys.
    pub step_settings: String,
    /// Time of the image, seconds since 1970 (`--timestamp`, `SOURCE_DATE_EPOCH`); `None` = now.
    pub timestamp: Option<i64>,
    /// The time that all files of the context have, in seconds since 1970, where it is part of what was asked for: then
    /// a layer with other times is another one. `None` where times are whatever they are, and count nowhere.
    pub context_time: Option<i64>,
    /// What `timestamp` does to the times of new files.
    pub rewrite_times: RewriteTimes,
    /// Runs the RUN steps.
    pub executor: &'a dyn Executor,
    /// Finds images and downloads.
    pub resolver: &'a dyn Resolver,
    /// Watches.
    pub progress: &'a dyn Progress,
    /// Ends the build early.
    pub cancel: Cancel,
    /// How the cache is used besides.
    pub cache: CacheOptions<'a>,
}

/// How the cache of a build is used, explained and handed on.
#[derive(Default)]
pub struct CacheOptions<'a> {
    /// Names the line of builds that this one belongs to, whose steps are compared with its own: the image's name, or
    /// where the context lies; the platform and the target belong to it too.
    pub line: String,
    /// `--assert-cached`: which steps must not run.
    pub assert_cached: Option<AssertCached>,
    /// `--cache-from`
    pub remote: Option<&'a dyn RemoteCache>,
    /// Whether [`Built::cache`] tells of the results.
    pub export: bool,
    /// Whether the image's config tells of them too (`--cache-to type=inline`).
    pub inline: bool,
}

impl std::fmt::Debug for CacheOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheOptions")
            .field("line", &self.line)
            .field("assert_cached", &self.assert_cached)
            .field("export", &self.export)
            .finish_non_exhaustive()
    }
}

/// What the image's time does to the times of files in new layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RewriteTimes {
    /// Nothing.
    #[default]
    No,
    /// Later ones become that time (`--rewrite-timestamp`).
    Clamp,
    /// All become that time (`--timestamp`).
    Set,
}

/// Which steps must not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssertCached {
    /// None of them.
    All,
    /// None of this stage, given by its name or number.
    Stage(String),
}

/// A result as a cache elsewhere keeps it. Equal on every machine: no path, time or secret of this one is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The key of the result.
    pub key: Digest,
    /// The key from definitions alone, where that is another one.
    pub cheap: Option<Digest>,
    /// The top of the result's layers, which may be in a cache elsewhere; `None` where only the key is known.
    pub chain: Option<ChainId>,
    /// Whether the image is made of it.
    pub in_image: bool,
}

/// Key of an image config under which the keys of its steps stand: `[[KEY, LAYERS], ..]`, where LAYERS counts the
/// layers that the step and those below it have, or `[[CHEAP, KEY], ..]`.
pub const INLINE_CACHE: &str = "davit.buildcache.v1";

impl BuildRequest<'_> {
    /// Time of the image: the caller's, else that of the build argument `SOURCE_DATE_EPOCH`.
    pub(crate) fn time(&self) -> Option<i64> {
        self.timestamp.or_else(|| crate::epoch::seconds(&self.build_args))
    }

    /// What becomes of the times of files in new layers.
    fn file_times(&self) -> FileTimes {
        match (self.rewrite_times, self.time()) {
            (RewriteTimes::No, _) | (_, None) => FileTimes::Kept,
            (RewriteTimes::Clamp, Some(seconds)) => FileTimes::AtMost(seconds),
            (RewriteTimes::Set, Some(seconds)) => FileTimes::Exactly(seconds),
        }
    }
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
    /// What a cache elsewhere should know, where it was asked for.
    pub cache: Vec<CacheEntry>,
    /// Names of the cache mounts of all steps.
    pub cache_mounts: Vec<String>,
    /// Layers of images that the build took from: these need no place in its cache.
    pub foreign_layers: Vec<ChainId>,
}

/// One layer of a built image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// The stack up to this layer.
    pub chain_id: ChainId,
    /// Digest of its plain tar.
    pub diff_id: DiffId,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Containerfile is wrong, or asks for something that is not supported; nothing ran.
    #[error(transparent)]
    Containerfile(#[from] Report),
    /// A build argument that the builder itself reads is wrong.
    #[error("build argument {name}: {value:?} is not {what}")]
    Argument {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        what: &'static str,
    },
    /// The ignore file is wrong.
    #[error("{name}: {source}")]
    IgnoreFile {
        /// Its name.
        name: String,
        /// Where and what.
        source: crate::ignore::BadPattern,
    },
    /// The context directory cannot be opened.
    #[error("open build context")]
    Context {
        /// Why.
        source: sys::fs::Error,
    },
    /// An image that the Containerfile names could not be had.
    #[error("resolve image {reference}")]
    Image {
        /// The image.
        reference: String,
        /// Where the Containerfile names it, with the stage that may have been meant as advice.
        place: Report,
        /// Why.
        source: PortError,
    },
    /// The image's config would have had the value of a secret in it; nothing ran.
    #[error("the value of secret {id:?} would be in the image, {}: {place}", .form.as_str())]
    Exposed {
        /// The secret's ID.
        id: String,
        /// How it is written there.
        form: secrets::Form,
        /// What of the config or the history has it, and where it comes from; without the value.
        place: String,
    },
    /// A step failed.
    #[error("{file}:{}: stage {}: {}", place.line, place.stage, place.text)]
    Step {
        /// The Containerfile.
        file: String,
        /// Stage, line and text of the instruction.
        place: Place,
        /// All that is known about the failure, beside the instruction.
        report: Box<Report>,
        /// Why; of a failed RUN its exit status and last lines.
        source: Box<ops::Error>,
    },
    /// `--assert-cached` names a stage that is not there.
    #[error("--assert-cached={name}: there is no such stage")]
    UnknownStage {
        /// As given.
        name: String,
    },
    /// A step would have run that must be cached.
    #[error("{file}:{}: {name} is not cached: {why}", place.line)]
    NotCached {
        /// The Containerfile.
        file: String,
        /// Stage, line and text of the instruction.
        place: Box<Place>,
        /// The step as progress shows it.
        name: String,
        /// What changed, and old and new digest of it.
        why: String,
    },
    /// The build was given up.
    #[error("build cancelled")]
    Cancelled,
    /// The solver failed, not a step.
    #[error("{message}")]
    Solver {
        /// How.
        message: String,
    },
    /// The image could not be made of its layers.
    #[error("assemble the image")]
    Assemble(#[source] ops::Error),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Cancelled => Error::Cancelled,
            other => Error::Solver { message: other.to_string() },
        }
    }
}

impl Error {
    /// How the command of a failed RUN ended, and its last lines of output.
    pub fn step_exit(&self) -> Option<(crate::ports::StepExit, &[String])> {
        match self {
            Error::Step { source, .. } => match &**source {
                ops::Error::Exit { exit, last_lines, .. } => Some((*exit, last_lines)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Steps that run at once where nobody says: one for each CPU, but at least 2, because most steps wait.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).max(2)
}

/// Builds an image.
///
/// The first failing step cancels those that run beside it, through `request.cancel`. What was built before a failure
/// stays in the cache.
pub fn build(request: &BuildRequest<'_>) -> Result<Built, Error> {
    crate::epoch::check(&request.build_args)?;
    let parsed = parse::parse(&request.containerfile_name, &request.containerfile);
    let mut file = parsed.into_result()?;
    if let (Some(from), Some(first)) = (&request.from, file.stages.first_mut()) {
        first.replace_base(from);
    }
    let platform_args = platform_args(&request.platform, request.target.as_deref());
    let options = PlanOptions {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        platform_args: platform_args.clone(),
        contexts: request.named_contexts.keys().cloned().collect(),
    };
    let mut plan =
        stages::plan(&file, &options).map_err(|diagnostics| Report::new(file.source.clone(), diagnostics))?;
    if request.all_stages {
        plan.stages.iter_mut().for_each(|stage| stage.needed = true);
    }
    let asserted = asserted(&file, request)?;
    let ignore = read_ignore(request)?;
    let images = ImageTable { resolver: request.resolver, known: Mutex::default() };
    images.prefetch(&plan, request);
    let lowered = lower::lower(
        &file,
        &plan,
        &lower::Options {
            build_args: &request.build_args,
            platform_args: &platform_args,
            platform: &request.platform,
            contexts: &request.named_contexts,
            network: request.network,
            step_settings: &request.step_settings,
            proxy: &proxies(request),
            no_cache: request.no_cache,
            no_cache_filter: &request.no_cache_filter,
            image: &request.image,
            all_stages: request.all_stages,
            allow: &request.allow,
            is_device: &|name| match request.executor.described_device(name) {
                Ok(found) => Ok(found.is_some()),
                Err(error) => Err(with_causes(error.as_ref())),
            },
            times: request.file_times(),
        },
        &|reference, platform| images.get(reference, platform),
    )
    .map_err(|error| match error {
        lower::Error::Report(report) => Error::Containerfile(report),
        lower::Error::Image { reference, place, source } => Error::Image { reference, place, source },
    })?;
    let mut warnings = check(&file, options, ignore.as_deref(), &images)?;
    warnings.extend(unused_args(request, &lowered.used_args));
    for warning in &warnings {
        request.progress.event(Event::Warning(warning));
    }
    let search = Search::new(&request.secrets);
    if let Some(search) = &search {
        exposure::check(request, &lowered, search)?;
    }
    for id in secrets::too_short(&request.secrets) {
        let text = format!(
            "secret {id:?} is too short to be looked for: layers and config are not searched for values below {} bytes",
            secrets::SHORTEST
        );
        request.progress.event(Event::Warning(&text));
        warnings.push(text);
    }
    solve(request, &lowered, asserted.as_ref(), ignore, search.as_ref(), warnings)
}

/// `--assert-cached` with the stage as the graph calls it.
fn asserted(file: &Containerfile, request: &BuildRequest<'_>) -> Result<Option<AssertCached>, Error> {
    let Some(AssertCached::Stage(name)) = &request.cache.assert_cached else {
        return Ok(request.cache.assert_cached.clone());
    };
    let found = file.stages.iter().enumerate().map(|(index, stage)| (index, stage.label()));
    let mut found = found
        .filter(|(index, label)| label.eq_ignore_ascii_case(name) || name.parse::<usize>() == Ok(*index));
    match found.next() {
        Some((_, label)) => Ok(Some(AssertCached::Stage(label))),
        None => Err(Error::UnknownStage { name: name.clone() }),
    }
}

fn read_ignore(request: &BuildRequest<'_>) -> Result<Option<Arc<Ignore>>, Error> {
    request.ignore.as_ref().map(parse_ignore).transpose()
}

fn parse_ignore((name, text): &(String, String)) -> Result<Arc<Ignore>, Error> {
    context::parse_ignore(text).map_err(|source| Error::IgnoreFile { name: name.clone(), source })
}

/// The build checks: warnings ready to print, or an error where the file says that they are errors.
fn check(
    file: &Containerfile,
    plan: PlanOptions,
    ignore: Option<&Ignore>,
    images: &ImageTable<'_>,
) -> Result<Vec<String>, Error> {
    let settings = lint::settings(file, plan.build_args.get("BUILDKIT_DOCKERFILE_CHECK"))
        .map_err(|diagnostic| Report::new(file.source.clone(), vec![diagnostic]))?;
    let options =
        LintOptions { plan, ignore, environments: images.environments(), platforms: images.platforms() };
    let mut found = lint::check(file, &settings, &options);
    if settings.error && !found.is_empty() {
        for diagnostic in &mut found {
            diagnostic.severity = Severity::Error;
        }
        return Err(Report::new(file.source.clone(), found).into());
    }
    Ok(found.iter().map(|warning| warning.render(&file.source, false)).collect())
}

fn solve(
    request: &BuildRequest<'_>,
    lowered: &Lowered,
    asserted: Option<&AssertCached>,
    ignore: Option<Arc<Ignore>>,
    search: Option<&Search>,
    mut warnings: Vec<String>,
) -> Result<Built, Error> {
    let infos = vertex_infos(&lowered.graph);
    request.progress.event(Event::Plan(&infos));
    let times = request.file_times();
    let workspace = ops::snapshot::Workspace::new(request.store, request.lease, times).looking_for(search);
    let explainer =
        Explainer::new(request.store, request.lease, &lowered.graph, &infos, &line(&request.cache, request));
    let work = work::Build::new(request, &lowered.graph, &workspace, ignore, &explainer, asserted)?;
    let mut targets = vec![lowered.target];
    targets.extend(&lowered.others);
    let order = Order {
        graph: &lowered.graph,
        targets: &targets,
        jobs: request.jobs.filter(|jobs| *jobs > 0).unwrap_or_else(default_jobs),
        cancel: &request.cancel,
        progress: request.progress,
    };
    let solved = solver::solve(&work, &order);
    // What was hashed need not be hashed again, whatever became of the build.
    work.write_memories();
    let solved = solved?;
    let rootfs = match solved.outputs.into_iter().next() {
        Some(work::Output::Rootfs(rootfs)) => rootfs,
        _ => return Err(Broken::Stuck.into()),
    };
    let layers = work.name_layers(&rootfs).map_err(Error::Assemble)?;
    let cache = match request.cache.export || request.cache.inline {
        true => work.export(lowered.target, &solved.keys).map_err(Error::Assemble)?,
        false => Vec::new(),
    };
    let layers = work.squash(layers, lowered.base_layers, request.image.layers).map_err(Error::Assemble)?;
    let inline = request.cache.inline.then(|| inline_cache(&cache, &layers));
    let image = assemble::assemble(request, lowered, &layers, inline)?;
    let keys: Vec<_> = solved.keys.iter().map(|keys| keys.key.clone()).collect();
    // An explanation that is lost is no reason to fail.
    let _ = explainer.write(&image.id, &keys);
    for place in work.changed_by_hand() {
        let text = failure::changed_by_hand(place);
        request.progress.event(Event::Warning(&text));
        warnings.push(text);
    }
    Ok(Built {
        image_id: image.id,
        config: image.config,
        layers: layers
            .iter()
            .map(|layer| BuiltLayer { chain_id: layer.chain_id.clone(), diff_id: layer.diff_id.clone() })
            .collect(),
        ran: solved.ran,
        cached: solved.cached,
        warnings,
        cache,
        cache_mounts: explain::cache_mounts(&lowered.graph).into_iter().collect(),
        foreign_layers: foreign_layers(&lowered.graph),
    })
}

/// The text that names a build's line.
fn line(options: &CacheOptions<'_>, request: &BuildRequest<'_>) -> String {
    let target = request.target.as_deref().unwrap_or_default();
    format!("{}\0{target}\0{}", options.line, request.platform)
}

/// The cache as it stands in the image's own config.
fn inline_cache(cache: &[CacheEntry], layers: &[NamedLayer]) -> serde_json::Value {
    let mut entries = Vec::new();
    for entry in cache.iter().filter(|entry| entry.in_image) {
        let position = layers.iter().position(|layer| Some(&layer.chain_id) == entry.chain.as_ref());
        if let Some(position) = position {
            entries.push(serde_json::json!([entry.key, position + 1]));
        }
        if let Some(cheap) = &entry.cheap {
            entries.push(serde_json::json!([cheap, entry.key]));
        }
    }
    serde_json::Value::Array(entries)
}

fn foreign_layers(graph: &Graph) -> Vec<ChainId> {
    let mut layers = BTreeSet::new();
    for (_, vertex) in graph.vertices() {
        if let Op::Image(image) = &vertex.op {
            layers.extend(image.chain.iter().cloned());
        }
    }
    layers.into_iter().collect()
}

/// Images by reference and platform, each resolved once.
struct ImageTable<'a> {
    resolver: &'a dyn Resolver,
    known: Mutex<BTreeMap<(String, String), Arc<ResolvedImage>>>,
}

impl ImageTable<'_> {
    fn get(&self, reference: &str, platform: &Platform) -> Result<Arc<ResolvedImage>, PortError> {
        let key = (reference.to_owned(), platform.to_string());
        if let Some(image) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(image.clone());
        }
        let image = Arc::new(self.resolver.image(reference, platform)?);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, image.clone());
        Ok(image)
    }

    /// Names of the variables that images set, by reference.
    fn environments(&self) -> BTreeMap<String, BTreeSet<String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|((reference, _), image)| {
                let names = image.config.config.env.iter().filter_map(|entry| entry.split('=').next());
                (reference.clone(), names.map(str::to_owned).collect())
            })
            .collect()
    }

    /// Platforms of images, by reference and the platform that was asked for.
    fn platforms(&self) -> BTreeMap<(String, String), Platform> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(key, image)| (key.clone(), image.config.platform())).collect()
    }

    /// Resolves the bases of all stages that are needed, at the same time. What fails, fails again in its place.
    fn prefetch(&self, plan: &Plan, request: &BuildRequest<'_>) {
        let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
        for stage in plan.stages.iter().filter(|stage| stage.needed) {
            if let Base::Image(reference) = &stage.base {
                let platform = stage.platform.clone().unwrap_or_else(|| request.platform.to_string());
                wanted.insert((reference.clone(), platform));
            }
        }
        if wanted.len() < 2 {
            return;
        }
        std::thread::scope(|scope| {
            for (reference, platform) in &wanted {
                if let Ok(platform) = platform.parse::<Platform>() {
                    scope.spawn(move || self.get(reference, &platform).map(|_| ()));
                }
            }
        });
    }
}

pub(crate) fn platform_args(target: &Platform, stage: Option<&str>) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", &Platform::host())] {
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
        args.insert(format!("{prefix}OSVERSION"), platform.os_version.clone().unwrap_or_default());
    }
    args.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
    args
}

/// Names of the proxy arguments, which steps see without ARG.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Proxies of the steps: those given as arguments before those of the caller.
fn proxies(request: &BuildRequest<'_>) -> Vec<(String, String)> {
    let given = request.build_args.iter().filter(|(name, _)| {
        PROXIES.contains(&name.to_ascii_uppercase().as_str())
            && (**name == name.to_ascii_uppercase() || **name == name.to_ascii_lowercase())
    });
    let mut all: Vec<(String, String)> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in &request.proxy {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.clone(), value.clone()));
        }
    }
    all
}

/// Build arguments that nothing asked for, as buildah warns of them.
fn unused_args(request: &BuildRequest<'_>, used: &BTreeSet<String>) -> Option<String> {
    let unused: Vec<&str> = request
        .build_args
        .keys()
        .filter(|name| {
            !used.contains(*name)
                && !PROXIES.contains(&name.to_ascii_uppercase().as_str())
                && !name.starts_with("BUILDKIT_")
                && *name != crate::epoch::NAME
        })
        .map(String::as_str)
        .collect();
    (!unused.is_empty()).then(|| format!("build arguments that nothing uses: {}", unused.join(", ")))
}

fn vertex_infos(graph: &Graph) -> Vec<VertexInfo> {
    let stages: BTreeSet<&str> = graph
        .vertices()
        .filter(|(_, vertex)| vertex.place.step > 0)
        .map(|(_, vertex)| vertex.place.stage.as_str())
        .collect();
    graph
        .vertices()
        .filter(|(_, vertex)| vertex.place.step > 0 || matches!(vertex.op, Op::Http(_) | Op::Git(_)))
        .map(|(id, vertex)| {
            let place = &vertex.place;
            let counted = format!("{}/{}", place.step, place.steps);
            let name = if place.step == 0 {
                place.text.clone()
            } else if stages.len() > 1 {
                let stage = match place.stage.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => format!("stage-{}", place.stage),
                    false => place.stage.clone(),
                };
                format!("[{stage} {counted}] {}", place.text)
            } else {
                format!("[{counted}] {}", place.text)
            };
            VertexInfo {
                id: id.0,
                name,
                stage: place.stage.clone(),
                step: place.step,
                steps: place.steps,
                line: place.line,
                inputs: vertex.inputs.iter().map(|edge| edge.from.0).collect(),
            }
        })
        .collect()
}
