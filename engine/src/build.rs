//! Building images: options to the builder's request, its ports, tags.

use crate::images::lookup::local_reference;
use crate::images::transfer::platform;
use crate::images::{PullPolicy, PullRequest, RegistryOptions, TransferEvent};
use crate::options::{Limits, Mount, Network, Security, Ulimit};
use crate::sandbox::{Names, ResolverFiles, StepExecutor, StepSettings};
use crate::{Engine, Error, ErrorKind, Result};
use builder::build::Context;
use builder::context::find_ignore_file;
use builder::ports::{
    Event, HttpAnswer, HttpMemory, NetworkMode, PortError, Progress, ResolvedImage, Resolver, Stream,
};
use oci::Platform;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where the Containerfile comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ContainerfileSource {
    /// `Containerfile`, else `Dockerfile`, in the context directory.
    #[default]
    Lookup,
    /// A file; a relative path is tried at the caller's directory first, then in the context.
    Path(PathBuf),
    /// Its text, read by the caller (`-f -`, or `-` as the context).
    Text {
        /// Name in diagnostics.
        name: String,
        /// The text.
        text: String,
    },
}

/// Build an image.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Context directory; `None` = no context (the Containerfile came from standard input).
    pub context: Option<PathBuf>,
    /// The Containerfile.
    pub containerfile: ContainerfileSource,
    /// Ignore file; `None` = `NAME.containerignore`, `NAME.dockerignore`, `.containerignore`, `.dockerignore`.
    pub ignore_file: Option<PathBuf>,
    /// Names of the image.
    pub tags: Vec<String>,
    /// Stage; `None` = the last one.
    pub target: Option<String>,
    /// `ARG` values; `None` as the value means: not given.
    pub build_args: Vec<(String, String)>,
    /// Labels of the image.
    pub labels: Vec<(String, String)>,
    /// Annotations of the manifest.
    pub annotations: Vec<(String, String)>,
    /// Environment variables of the image (`--env`).
    pub env: Vec<(String, String)>,
    /// Run every step again.
    pub no_cache: bool,
    /// Steps at once; `None` or 0 = the number of CPUs.
    pub jobs: Option<usize>,
    /// `os/arch[/variant]`; `None` = the host's.
    pub platform: Option<String>,
    /// Network of the steps; [`Network::Default`] = the host's.
    pub network: Network,
    /// When base images are pulled.
    pub pull: PullPolicy,
    /// How.
    pub registry: RegistryOptions,
    /// Host paths inside the steps (`-v`), which are never part of the image.
    pub mounts: Vec<Mount>,
    /// Lines `name:ip` for /etc/hosts of the steps.
    pub add_hosts: Vec<String>,
    /// Name servers of the steps; empty = the host's.
    pub dns: Vec<String>,
    /// Search domains of the steps.
    pub dns_search: Vec<String>,
    /// Resolver options of the steps.
    pub dns_options: Vec<String>,
    /// Limits of each step.
    pub limits: Limits,
    /// Process limits of each step.
    pub ulimits: Vec<Ulimit>,
    /// Capabilities to add to steps.
    pub cap_add: Vec<String>,
    /// Capabilities to take from steps.
    pub cap_drop: Vec<String>,
    /// Confinement of steps.
    pub security: Security,
    /// Bytes of /dev/shm of steps.
    pub shm_size: Option<i64>,
    /// Time of the image, seconds since 1970 (`SOURCE_DATE_EPOCH`, `--timestamp`); `None` = now.
    pub source_date_epoch: Option<i64>,
    /// Also clamps the times of new files in layers to `source_date_epoch`.
    pub rewrite_timestamp: bool,
    /// Variables that steps get without becoming part of the image or of a cache key (the caller's proxy settings).
    pub proxy_env: Vec<(String, String)>,
}

/// What a build made.
#[derive(Debug, Clone)]
pub struct BuildReport {
    /// Image ID, 64 hex digits.
    pub id: String,
    /// Names that it got, complete.
    pub names: Vec<String>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that came from the cache.
    pub cached: usize,
    /// What the user should know: lint findings, unused build arguments, ...
    pub warnings: Vec<String>,
}

/// What happens during a build. `vertex` counts from 1 and stands for one step; events of different steps interleave.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum BuildEvent {
    /// The steps of the build, before any of them runs.
    Planned {
        /// Number of steps.
        total: usize,
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
    /// A step wrote output.
    Output {
        /// Which.
        vertex: usize,
        /// Whether to standard error.
        stderr: bool,
        /// A line without its newline, or what there is of one.
        line: String,
    },
    /// A step is done.
    Done {
        /// Which.
        vertex: usize,
        /// How long it took.
        elapsed: Duration,
    },
    /// A step failed.
    Failed {
        /// Which.
        vertex: usize,
        /// Why.
        message: String,
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

/// Receives the events of a build, from several threads.
pub type BuildProgress<'a> = &'a (dyn Fn(BuildEvent) + Send + Sync);

impl Engine {
    /// Builds an image. A failing RUN is [`crate::Error::StepFailed`] with its exit code.
    pub fn build(&self, request: &BuildRequest, progress: BuildProgress<'_>) -> Result<BuildReport> {
        self.spawner()?;
        if !request.annotations.is_empty() {
            return Err(Error::unsupported(
                "annotation",
                "a built image has no manifest to annotate until it is pushed or saved",
            ));
        }
        for name in &request.tags {
            local_reference(name)?;
        }
        let context = match &request.context {
            Some(directory) if directory.is_dir() => Context::Directory(directory.clone()),
            Some(directory) => {
                return Err(Error::os(
                    format!("open the build context {}", directory.display()),
                    std::io::Error::from(std::io::ErrorKind::NotADirectory),
                ));
            }
            None => Context::Empty,
        };
        let file = Containerfile::find(request)?;
        let ignore = match (&request.ignore_file, &request.context) {
            (Some(path), _) => Some((path.display().to_string(), read_text(path)?)),
            (None, Some(directory)) => match find_ignore_file(directory, file.path.as_deref()) {
                Some(path) => Some((path.display().to_string(), read_text(&path)?)),
                None => None,
            },
            (None, None) => None,
        };
        let platform = platform(request.platform.as_deref())?;
        let store = self.store()?;
        self.state().reap(self)?;
        let lease = store
            .lease(&format!("build {}", request.tags.first().map_or("image", String::as_str)))
            .map_err(crate::error::storage("begin the build"))?;
        let shm_size = request
            .shm_size
            .map(|size| {
                u64::try_from(size).map_err(|_| Error::invalid(format!("shm-size {size}"), "it is below 0"))
            })
            .transpose()?;
        let settings = StepSettings {
            network: request.network,
            mounts: request.mounts.clone(),
            names: Names {
                add_hosts: request.add_hosts.clone(),
                resolver: ResolverFiles {
                    servers: request.dns.clone(),
                    search: request.dns_search.clone(),
                    options: request.dns_options.clone(),
                },
                ..Names::default()
            },
            limits: request.limits.clone(),
            ulimits: request.ulimits.clone(),
            cap_add: request.cap_add.clone(),
            cap_drop: request.cap_drop.clone(),
            security: request.security.clone(),
            shm_size,
        };
        // what a step can see of these may change what it makes; limits and name servers do not count
        let step_settings = step_settings(request);
        let executor = StepExecutor::new(self, settings)?;
        let resolver = ImageResolver { engine: self, request, progress };
        let watcher = Watcher { progress, names: Mutex::new(BTreeMap::new()) };
        let cancel =
            builder::ports::Cancel::new().map_err(|error| Error::os("make a cancel token", error))?;
        let built = builder::build::build(&builder::build::BuildRequest {
            store,
            lease: &lease,
            context,
            named_contexts: BTreeMap::new(),
            containerfile_name: file.name,
            containerfile: file.text,
            ignore,
            target: request.target.clone(),
            build_args: request.build_args.iter().cloned().collect(),
            proxy: request.proxy_env.clone(),
            secrets: BTreeMap::new(),
            no_cache: request.no_cache,
            no_cache_filter: Vec::new(),
            jobs: request.jobs.filter(|jobs| *jobs > 0),
            platform,
            labels: request.labels.clone(),
            env: request.env.clone(),
            network: match request.network {
                Network::None => NetworkMode::None,
                Network::Host | Network::Default => NetworkMode::Host,
            },
            step_settings,
            timestamp: request.source_date_epoch,
            rewrite_timestamp: request.rewrite_timestamp,
            executor: &executor,
            resolver: &resolver,
            progress: &watcher,
            cancel,
        })
        .map_err(build_error)?;
        let id = built.image_id.hex().to_owned();
        let found = self.find_image(&id)?;
        let mut names = Vec::new();
        for name in &request.tags {
            names.push(self.name_image(name, &found)?);
        }
        let mut warnings = built.warnings;
        warnings.extend(self.unlimited(&request.limits));
        Ok(BuildReport { id, names, ran: built.ran, cached: built.cached, warnings })
    }
}

/// The Containerfile that a request means.
struct Containerfile {
    name: String,
    text: String,
    path: Option<PathBuf>,
}

impl Containerfile {
    fn find(request: &BuildRequest) -> Result<Self> {
        let read = |path: PathBuf| -> Result<Self> {
            Ok(Self { name: path.display().to_string(), text: read_text(&path)?, path: Some(path) })
        };
        match &request.containerfile {
            ContainerfileSource::Text { name, text } => {
                Ok(Self { name: name.clone(), text: text.clone(), path: None })
            }
            ContainerfileSource::Path(path) => {
                if path.is_file() || path.is_absolute() {
                    return read(path.clone());
                }
                match &request.context {
                    Some(context) if context.join(path).is_file() => read(context.join(path)),
                    _ => read(path.clone()),
                }
            }
            ContainerfileSource::Lookup => {
                let Some(context) = &request.context else {
                    return Err(Error::invalid(
                        "build",
                        "there is no context to look for a Containerfile in",
                    ));
                };
                for name in ["Containerfile", "Dockerfile"] {
                    let path = context.join(name);
                    if path.is_file() {
                        return read(path);
                    }
                }
                Err(Error::NotFound {
                    what: "Containerfile or Dockerfile in",
                    name: context.display().to_string(),
                })
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = crate::state::files::read(path)?.ok_or_else(|| {
        Error::os(format!("read {}", path.display()), std::io::Error::from(std::io::ErrorKind::NotFound))
    })?;
    String::from_utf8(bytes).map_err(|_| Error::invalid(path.display().to_string(), "it is not UTF-8 text"))
}

fn step_settings(request: &BuildRequest) -> String {
    let mut text = String::new();
    for line in &request.add_hosts {
        let _ = write!(text, "host {line};");
    }
    for mount in &request.mounts {
        let _ = write!(text, "mount {mount:?};");
    }
    let mut capabilities = |what: &str, names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        for name in names {
            let _ = write!(text, "{what} {name};");
        }
    };
    capabilities("add", &request.cap_add);
    capabilities("drop", &request.cap_drop);
    text
}

fn build_error(error: builder::build::Error) -> Error {
    use builder::build::Error as Broken;
    match &error {
        Broken::Containerfile(report) => {
            Error::Containerfile { rendered: report.render(false), kind: ErrorKind::Invalid }
        }
        Broken::Step { .. } if error.step_exit().is_some() => {
            let code = error.step_exit().map_or(1, |(exit, _)| exit.code);
            Error::StepFailed { step: error.to_string(), code }
        }
        Broken::Image { place, source, .. } => {
            let kind = source.downcast_ref::<Error>().map_or(ErrorKind::Internal, Error::kind);
            let mut place = place.clone();
            for diagnostic in &mut place.diagnostics {
                diagnostic.message = with_causes(&diagnostic.message, Some(&**source));
            }
            Error::Containerfile { rendered: place.render(false), kind }
        }
        Broken::IgnoreFile { .. } => {
            Error::Part { attempt: "build".to_owned(), kind: ErrorKind::Invalid, source: Box::new(error) }
        }
        _ => Error::Part { attempt: "build".to_owned(), kind: ErrorKind::Internal, source: Box::new(error) },
    }
}

/// A message with its causes on the same line; what is said already is left out.
fn with_causes(message: &str, source: Option<&dyn std::error::Error>) -> String {
    let mut text = message.to_owned();
    let mut next = source;
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            let _ = write!(text, ": {words}");
        }
        next = cause.source();
    }
    text
}

/// Finds base images: the local store by policy, else a registry.
struct ImageResolver<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    progress: BuildProgress<'a>,
}

impl ImageResolver<'_> {
    fn resolve(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage> {
        let progress = self.progress;
        let forward = move |event: TransferEvent| progress(BuildEvent::Transfer { event });
        let host = Platform::host();
        let foreign = *platform != host;
        // `--pull=always` fetches bases anew, but what exists only here stays usable
        let pull = PullRequest {
            reference: reference.to_owned(),
            policy: match self.request.pull {
                PullPolicy::Always if reference.starts_with("localhost/") => PullPolicy::Newer,
                policy => policy,
            },
            platform: foreign.then(|| platform.to_string()),
            registry: self.request.registry.clone(),
        };
        let report = self.engine.images().pull(&pull, &forward)?;
        let mut found = self.engine.find_image(&report.id)?;
        found.name = report.name.or(found.name);
        let config = self.engine.image_config(&found.image)?;
        let digest = found
            .tag()
            .and_then(|tag| tag.manifest.clone())
            .or_else(|| found.image.record.manifest.as_ref().map(|manifest| manifest.digest.clone()))
            .unwrap_or_else(|| found.id().clone());
        Ok(ResolvedImage {
            name: found.shown(),
            digest,
            config: config.value().clone(),
            chain: found.image.record.layers.clone(),
        })
    }
}

impl Resolver for ImageResolver<'_> {
    fn image(&self, reference: &str, platform: &Platform) -> std::result::Result<ResolvedImage, PortError> {
        self.resolve(reference, platform).map_err(Into::into)
    }

    fn http(&self, url: &str, _known: Option<&HttpMemory>) -> std::result::Result<HttpAnswer, PortError> {
        Err(Error::unsupported(format!("ADD {url}"), "downloads by ADD are not built yet: use RUN with curl")
            .into())
    }
}

/// Hands the builder's events on.
struct Watcher<'a> {
    progress: BuildProgress<'a>,
    names: Mutex<BTreeMap<usize, String>>,
}

impl Watcher<'_> {
    fn name(&self, vertex: usize) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&vertex).cloned().unwrap_or_default()
    }
}

impl Progress for Watcher<'_> {
    fn event(&self, event: Event<'_>) {
        (self.progress)(match event {
            Event::Plan(vertices) => {
                let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                names.extend(vertices.iter().map(|vertex| (vertex.id, vertex.name.clone())));
                BuildEvent::Planned { total: vertices.len() }
            }
            Event::Warning(text) => BuildEvent::Warning { text: text.to_owned() },
            Event::Started(id) => BuildEvent::Started { vertex: id + 1, name: self.name(id) },
            Event::Cached(id) => BuildEvent::Cached { vertex: id + 1, name: self.name(id) },
            Event::Done(id, elapsed) => BuildEvent::Done { vertex: id + 1, elapsed },
            Event::Failed(id, message) => BuildEvent::Failed { vertex: id + 1, message: message.to_owned() },
            Event::Cancelled(id) => BuildEvent::Failed { vertex: id + 1, message: "cancelled".to_owned() },
            Event::Log { vertex, stream, text } => BuildEvent::Output {
                vertex: vertex + 1,
                stderr: stream == Stream::Stderr,
                line: String::from_utf8_lossy(text).trim_end_matches(['\n', '\r']).to_owned(),
            },
            _ => return,
        });
    }
}
