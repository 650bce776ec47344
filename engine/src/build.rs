//! Building images: options to the builder's request, its ports, tags.

mod cache;
mod containerfile;
mod events;
mod explain;
mod failure;
mod git;
mod requests;
mod resolver;
mod watch;

pub use cache::{CacheFrom, CacheMode, CacheRequest, CacheTo};
pub use events::{BuildEvent, BuildProgress, BuildStep};
pub use explain::ExplainedStep;
pub use requests::{BuildReport, BuildRequest, ContainerfileSource};

use crate::images::lookup::local_reference;
use crate::images::transfer::platform;
use crate::options::Network;
use crate::sandbox::{Names, ResolverFiles, StepExecutor, StepSettings};
use crate::{Engine, Error, Result};
use builder::build::{AssertCached, Context};
use builder::context::find_ignore_file;
use builder::ports::{NetworkMode, Secrets};
use builder::secrets::Search;
use cache::{Export, Imports};
use containerfile::{Containerfile, read_text};
use events::Watcher;
use failure::build_error;
use resolver::ImageResolver;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use watch::Watch;

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
        let watch = Watch::install(request.handle_signals);
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
            on_fail_shell: request.on_fail_shell,
            resized: watch.resized.clone(),
        };
        // what a step can see of these may change what it makes; limits and name servers do not count
        let step_settings = step_settings(request);
        let executor = StepExecutor::new(self, settings)?;
        let resolver = ImageResolver {
            engine: self,
            request,
            progress,
            scratch: lease.directory().map_err(crate::error::storage("begin the build"))?,
        };
        let imports =
            Imports::new(self, &lease, &request.cache.from, &request.registry, &platform, progress)?;
        let watcher = Watcher { progress, names: Mutex::new(BTreeMap::new()), watch: &watch };
        let cancel =
            builder::ports::Cancel::new().map_err(|error| Error::os("make a cancel token", error))?;
        let secrets = Secrets::new();
        let unlimited = self.unlimited(&request.limits)?;
        if let Some(text) = &unlimited {
            progress(BuildEvent::Warning { text: text.clone() });
        }
        let order = builder::build::BuildRequest {
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
            secrets: secrets.clone(),
            ssh: BTreeMap::new(),
            allow: BTreeSet::new(),
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
            cancel: cancel.clone(),
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
        };
        let tell = |text: &str| progress(BuildEvent::Warning { text: text.to_owned() });
        let built = watch.during(&cancel, &tell, || builder::build::build(&order)).map_err(|error| {
            match watch.ended_by() {
                Some(signal) => Error::Interrupted { attempt: "build", signal },
                None => build_error(error),
            }
        })?;
        let id = built.image_id.hex().to_owned();
        let found = self.find_image(&id)?;
        let mut names = Vec::new();
        for name in &request.tags {
            names.push(self.name_image(name, &found)?);
        }
        let to = &request.cache.to;
        let search = Search::new(&secrets);
        let export = Export {
            engine: self,
            lease: &lease,
            built: &built,
            imports: &imports,
            options: &request.registry,
            secrets: search.as_ref(),
            progress,
        };
        let sent = cache::export(&export, to)?;
        let mut warnings = built.warnings;
        warnings.extend(sent);
        warnings.extend(unlimited);
        Ok(BuildReport { id, names, ran: built.ran, cached: built.cached, warnings })
    }
}

/// What makes two builds the same to people: the name, else the place of the files.
fn line(request: &BuildRequest) -> String {
    match request.tags.first() {
        Some(tag) => tag.clone(),
        None => format!("{:?} {:?}", request.context, request.containerfile),
    }
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
