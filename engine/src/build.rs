//! Building images: options to the builder's request, its ports, names, outputs.

mod address;
mod cache;
mod call;
mod containerfile;
mod context;
mod events;
mod explain;
mod failure;
mod git;
mod named;
mod outputs;
mod requests;
mod resolver;
mod ship;
mod ssh;
mod watch;

pub use address::is_address;
pub use builder::build::RewriteTimes;
pub use cache::{CacheFrom, CacheMode, CacheRequest, CacheTo};
pub use call::{BuildTarget, Checked, Finding, Lines, Outline, OutlineArg, OutlineMount};
pub use events::{BuildEvent, BuildProgress, BuildStep};
pub use explain::ExplainedStep;
pub use outputs::{Output, Target};
pub use requests::{
    BuildReport, BuildRequest, BuiltImage, ContainerfileSource, ContextSource, ImageFormat, Secrets, Squash,
};

use crate::images::lookup::local_reference;
use crate::images::transfer::platform;
use crate::options::Network;
use crate::sandbox::{Names, ResolverFiles, StepExecutor, StepSettings};
use crate::{Engine, Error, Result};
use address::Fetcher;
use builder::build::{AssertCached, ImageOptions, Layers};
use builder::ports::{Cancel, NetworkMode};
use builder::secrets::Search;
use cache::{Export, Imports, Results};
use containerfile::Containerfile;
use context::{Opened, scratch};
use events::Watcher;
use failure::build_error;
use oci::Platform;
use resolver::ImageResolver;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use storage::Lease;
use watch::Watch;

/// What `--allow` may name.
const ENTITLEMENTS: [&str; 3] = ["security.insecure", "network.host", "device"];

impl Engine {
    /// Builds an image, or one for each platform. A failing RUN is [`crate::Error::StepFailed`] with its exit code.
    pub fn build(&self, request: &BuildRequest, progress: BuildProgress<'_>) -> Result<BuildReport> {
        self.spawner()?;
        let platforms = platforms(&request.platforms)?;
        check(request)?;
        let store = self.store()?;
        raise_descriptor_limit();
        self.state().reap(self)?;
        let lease = store
            .lease(&format!("build {}", request.tags.first().map_or("image", String::as_str)))
            .map_err(crate::error::storage("begin the build"))?;
        let agents = match request.ssh.as_slice() {
            [] => ssh::Agents::default(),
            wanted => ssh::Agents::new(wanted, &scratch(&lease, "ssh")?)?,
        };
        let cancel = Cancel::new().map_err(|error| Error::os("make a cancel token", error))?;
        let directory = lease.directory().map_err(crate::error::storage("begin the build"))?;
        let resolver = || ImageResolver { engine: self, request, progress, scratch: directory.clone() };
        let fetcher =
            Fetcher { resolver: resolver(), lease: &lease, agents: &agents.sockets, cancel: &cancel };
        let opened = Opened::new(request, &lease, &fetcher)?;
        let fetched = named::fetch(request, &fetcher)?;
        let file = Containerfile::find(request, &opened)?;
        let ignore = file.ignore_file(request, &opened)?;
        let (build_args, context_time) = settle_time(request, &file, &opened)?;
        let watch = Watch::install(request.handle_signals);
        let executor = StepExecutor::new(self, settings(request, &watch)?)?;
        let job = Job {
            engine: self,
            request,
            lease: &lease,
            opened: &opened,
            fetched,
            file,
            ignore,
            build_args,
            context_time,
            agents: &agents,
            executor,
            watch: &watch,
            cancel: &cancel,
            progress,
        };
        let tell = |text: &str| progress(BuildEvent::Warning { text: text.to_owned() });
        let unlimited = self.unlimited(&request.limits)?;
        if let Some(text) = &unlimited {
            tell(text);
        }
        let mut report = watch.during(&cancel, &tell, || job.run(&platforms))?;
        drop(job);
        // what follows has no step that a signal would have to cancel
        drop(watch);
        report.warnings.extend(unlimited);
        ship::name(self, request, &platforms, &mut report)?;
        ship::write_outputs(self, request, &platforms, &report, &lease, progress)?;
        ship::push(self, request, &mut report, progress)?;
        for image in &report.images {
            let name = report.names.first().map_or("", String::as_str);
            self.tell(crate::events::Event::image("build", &image.id, name));
        }
        Ok(report)
    }
}

/// What is the same for all platforms of a build.
struct Job<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    lease: &'a Lease,
    opened: &'a Opened,
    /// Directories of named contexts that lay behind addresses.
    fetched: BTreeMap<String, PathBuf>,
    file: Containerfile,
    ignore: Option<(String, String)>,
    /// With the time that counts.
    build_args: BTreeMap<String, String>,
    /// The time that all files of the context have, where somebody wants them to.
    context_time: Option<i64>,
    agents: &'a ssh::Agents,
    executor: StepExecutor<'a>,
    watch: &'a Watch,
    cancel: &'a Cancel,
    progress: BuildProgress<'a>,
}

impl Job<'_> {
    /// Builds one platform after the other: what their stages share is in the cache when the next one comes.
    fn run(&self, platforms: &[Platform]) -> Result<BuildReport> {
        let mut report = BuildReport::default();
        let mut results = Results::default();
        for (position, platform) in platforms.iter().enumerate() {
            let is_last = position + 1 == platforms.len();
            let (built, warnings) = self.build(platform, &mut results, is_last)?;
            report
                .images
                .push(BuiltImage { platform: platform.to_string(), id: built.image_id.hex().to_owned() });
            report.ran += built.ran;
            report.cached += built.cached;
            for warning in built.warnings.into_iter().chain(warnings) {
                if !report.warnings.contains(&warning) {
                    report.warnings.push(warning);
                }
            }
        }
        report.id = report.images.first().map(|image| image.id.clone()).unwrap_or_default();
        Ok(report)
    }

    /// Builds for one platform; after the last one a cache gets the results of all. Gives also what the cache's export
    /// has to say.
    fn build(
        &self,
        platform: &Platform,
        results: &mut Results,
        is_last: bool,
    ) -> Result<(builder::build::Built, Vec<String>)> {
        let Self { engine, request, progress, .. } = *self;
        let forward = move |event| progress(BuildEvent::Transfer { event });
        let named_contexts = named::open(engine.images(), request, platform, &self.fetched, &forward)?;
        let scratch = self.lease.directory().map_err(crate::error::storage("begin the build"))?;
        let resolver = ImageResolver { engine, request, progress, scratch };
        let imports =
            Imports::new(engine, self.lease, &request.cache.from, &request.registry, platform, progress)?;
        let watcher = Watcher { progress, names: Mutex::new(BTreeMap::new()), watch: self.watch };
        let built = builder::build::build(&builder::build::BuildRequest {
            store: engine.store()?,
            lease: self.lease,
            context: self.opened.context.clone(),
            named_ignores: named::ignores(request)?,
            named_contexts,
            containerfile_name: self.file.name.clone(),
            containerfile: self.file.text.clone(),
            ignore: self.ignore.clone(),
            target: request.target.clone(),
            from: request.from.clone(),
            all_stages: request.all_stages,
            build_args: self.build_args.clone(),
            proxy: request.proxy_env.clone(),
            secrets: request.secrets.0.clone(),
            ssh: self.agents.sockets.clone(),
            allow: request.allow.iter().cloned().collect(),
            no_cache: request.no_cache,
            no_cache_filter: request.no_cache_filter.clone(),
            jobs: request.jobs.filter(|jobs| *jobs > 0),
            platform: platform.clone(),
            image: image_options(request),
            network: match request.network {
                Network::None => NetworkMode::None,
                _ => NetworkMode::Host,
            },
            // what a step can see of these may change what it makes; limits and name servers do not count
            step_settings: step_settings(request),
            timestamp: request.source_date_epoch,
            context_time: self.context_time,
            rewrite_times: request.rewrite_times,
            cache: builder::build::CacheOptions {
                line: line(request),
                assert_cached: request.cache.assert_cached.clone().map(|stage| match stage {
                    Some(stage) => AssertCached::Stage(stage),
                    None => AssertCached::All,
                }),
                remote: (!request.cache.from.is_empty()).then_some(&imports),
                export: request.cache.to.iter().any(|to| !to.is_inline()),
                inline: request.cache.to.iter().any(CacheTo::is_inline),
            },
            executor: &self.executor,
            resolver: &resolver,
            progress: &watcher,
            cancel: self.cancel.clone(),
        })
        .map_err(|error| match self.watch.ended_by() {
            Some(signal) => Error::Interrupted { attempt: "build", signal },
            None => build_error(error),
        })?;
        results.add(&built);
        if !is_last {
            return Ok((built, Vec::new()));
        }
        let to = &request.cache.to;
        let search = Search::new(&request.secrets.0);
        let export = Export {
            engine,
            lease: self.lease,
            results,
            imports: &imports,
            options: &request.registry,
            secrets: search.as_ref(),
            progress,
        };
        let warnings = cache::export(&export, to)?;
        Ok((built, warnings))
    }
}

/// The build arguments with the `SOURCE_DATE_EPOCH` that counts, and the time that all files of the context have. Where
/// there is an epoch, the files of a repository that is the context get the time of its commit instead of the time at
/// which it was fetched.
fn settle_time(
    request: &BuildRequest,
    file: &Containerfile,
    opened: &Opened,
) -> Result<(BTreeMap<String, String>, Option<i64>)> {
    let mut build_args = request.build_args.iter().cloned().collect();
    builder::epoch::settle(&mut build_args, &file.text, opened.time);
    let is_set = build_args.get(builder::epoch::NAME).is_some_and(|value| !value.is_empty());
    if (is_set || request.source_date_epoch.is_some())
        && let (Some(directory), Some(seconds)) = (&opened.fresh, opened.time)
    {
        git::set_times(directory, seconds)?;
        return Ok((build_args, Some(seconds)));
    }
    Ok((build_args, opened.time.filter(|_| opened.dated)))
}

/// What makes two builds the same to people: the name, else the place of the files.
fn line(request: &BuildRequest) -> String {
    match (request.tags.first(), &request.context) {
        (Some(tag), _) => tag.clone(),
        // its number says nothing
        (None, ContextSource::Stream(_)) => format!("standard input {:?}", request.containerfile),
        (None, context) => format!("{context:?} {:?}", request.containerfile),
    }
}

/// Finds what is wrong with a request before anything is done.
fn check(request: &BuildRequest) -> Result<()> {
    for name in request.tags.iter().chain(&request.manifest) {
        local_reference(name)?;
    }
    if request.format == ImageFormat::Docker && !request.annotations.is_empty() {
        return Err(Error::invalid("annotation", "manifests in docker's format have none"));
    }
    if let Some(unknown) = request.allow.iter().find(|word| !ENTITLEMENTS.contains(&word.as_str())) {
        return Err(Error::invalid(
            format!("allow {unknown}"),
            format!("expected one of {}", ENTITLEMENTS.join(", ")),
        ));
    }
    ship::check(request)
}

/// The platforms of a build, each once; the host's where none is named.
fn platforms(words: &[String]) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for word in words.iter().flat_map(|word| word.split(',')).map(str::trim) {
        let platform = platform(Some(word).filter(|word| *word != "local"))?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    Ok(platforms)
}

fn image_options(request: &BuildRequest) -> ImageOptions {
    ImageOptions {
        labels: request.labels.clone(),
        unset_labels: request.unset_labels.clone(),
        drop_base_labels: request.drop_base_labels,
        env: request.env.clone(),
        unset_env: request.unset_env.clone(),
        annotations: request.annotations.iter().cloned().collect(),
        layers: match request.squash {
            Squash::No => Layers::Keep,
            Squash::New => Layers::Squash,
            Squash::All => Layers::SquashAll,
        },
        omit_history: request.omit_history,
        docker: request.format == ImageFormat::Docker,
    }
}

/// What all steps get.
fn settings(request: &BuildRequest, watch: &Watch) -> Result<StepSettings> {
    let shm_size = request
        .shm_size
        .map(|size| {
            u64::try_from(size).map_err(|_| Error::invalid(format!("shm-size {size}"), "it is below 0"))
        })
        .transpose()?;
    if let Network::Container(_) | Network::Path(_) = &request.network {
        return Err(Error::unsupported(
            "network of another container in a build",
            "steps have the host's network or none: use --network host or none",
        ));
    }
    Ok(StepSettings {
        network: request.network.clone(),
        mounts: request.mounts.clone(),
        names: Names {
            add_hosts: request.add_hosts.clone(),
            resolver: ResolverFiles {
                servers: request.dns.clone(),
                search: request.dns_search.clone(),
                options: request.dns_options.clone(),
            },
            no_hosts: request.no_hosts,
            no_hostname: request.no_hostname,
            ..Names::default()
        },
        limits: request.limits.clone(),
        ulimits: request.ulimits.clone(),
        cap_add: request.cap_add.clone(),
        cap_drop: request.cap_drop.clone(),
        security: request.security.clone(),
        shm_size,
        devices: request.devices.clone(),
        groups: request.groups.clone(),
        cgroup_parent: request.cgroup_parent.clone(),
        on_fail_shell: request.on_fail_shell,
        resized: watch.resized.clone(),
    })
}

fn step_settings(request: &BuildRequest) -> String {
    let mut text = String::new();
    for line in &request.add_hosts {
        let _ = write!(text, "host {line};");
    }
    for mount in &request.mounts {
        let _ = write!(text, "mount {mount:?};");
    }
    for device in &request.devices {
        let _ = write!(text, "device {device:?};");
    }
    for group in &request.groups {
        let _ = write!(text, "group {group};");
    }
    if request.no_hosts {
        text.push_str("no hosts;");
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

/// A copy keeps the directories on its way open, and a tree may be two thousand deep. Containers do not inherit this:
/// the process that starts them was forked before.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, only such trees fail, with an error that says why.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
