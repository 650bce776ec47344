//! `build`.

mod inputs;
mod logfile;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use engine::Engine;
use engine::build::{
    BuildEvent, BuildReport, BuildRequest, CacheFrom, CacheRequest, CacheTo, ImageFormat, Output,
    RewriteTimes, Squash,
};
use engine::images::{PullPolicy, RegistryOptions};
use engine::options::{Device, Limits, Mount, Network, parse_size};

use super::call;
use super::create::{pairs, platform, proxies, security, ulimits};
use super::registry::retry_delay;
use crate::args::{BuildArgs, OnFail, ProgressMode};
use crate::error::{Attempt, Failure, Outcome};
use crate::output::{self, progress};
use logfile::LogFile;

/// The build argument that is the image's time.
const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// `davit build`
pub(crate) fn build(engine: &Engine, args: BuildArgs) -> Outcome {
    let (method, manner) = call::parse(if args.check { "check" } else { &args.call })?;
    let request = request(&args)?;
    if let Some(method) = method {
        return call::call(engine, &request, method, manner);
    }
    let log = args.logfile.as_deref().map(LogFile::create).transpose()?;
    // as Podman: with a log file nothing else shows what happens
    let progress = progress::Build::new(args.progress, args.quiet || log.is_some(), args.timings.as_deref());
    if args.isolation.as_deref() == Some("chroot") {
        progress.tell("Warning: --isolation=chroot: steps get namespaces of their own all the same");
    }
    let explain = args.explain;
    let result = engine.build(&request, &|event| {
        if explain && let Some(line) = explanation(&event) {
            progress.tell(&line);
        }
        match &log {
            Some(log) => log.event(&event),
            None => progress.event(&event),
        }
    });
    let report = progress.finish(result.map_err(Failure::from));
    if let (Some(log), Some(path)) = (log, &args.logfile) {
        log.finish(path)?;
    }
    let report = report?;
    if let Some(path) = &args.iidfile {
        // several images have one name: the digest of their list, as Docker's
        let id = match &report.manifest {
            Some(list) if report.images.len() > 1 => list.digest.clone(),
            _ => format!("sha256:{}", report.id),
        };
        write(path, id.as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let text = serde_json::to_string_pretty(&metadata(&report)).attempt("write the metadata")?;
        write(path, text.as_bytes())?;
    }
    if !args.quiet && args.progress != ProgressMode::Json {
        for name in &report.names {
            output::note(&format!("Successfully tagged {name}"));
        }
        for name in &report.pushed {
            output::note(&format!("Pushed {name}"));
        }
    }
    // what else is written there must stay whole
    if !request.outputs.iter().any(Output::is_stdout) {
        for image in &report.images {
            output::line(&image.id);
        }
    }
    Ok(0)
}

/// What `--explain` says of an event.
fn explanation(event: &BuildEvent) -> Option<String> {
    match event {
        BuildEvent::Cached { name, .. } => Some(verdict(name, None)),
        BuildEvent::Missed { name, causes, .. } => Some(verdict(name, Some(causes.as_slice()))),
        _ => None,
    }
}

/// One line on one step.
fn verdict(name: &str, causes: Option<&[String]>) -> String {
    // the first line of a here-document says enough
    let first = name.lines().next().unwrap_or_default();
    match causes {
        None => format!("HIT  {first}"),
        Some(causes) => format!("MISS {first}: {}", causes.join("; ")),
    }
}

/// `davit image explain`
pub(crate) fn explain(engine: &Engine, image: &str) -> Outcome {
    for step in engine.explain(image)?.iter().filter(|step| step.is_step) {
        output::line(&verdict(&step.name, step.causes.as_deref()));
    }
    Ok(0)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).attempt(format!("write {}", path.display()))
}

/// The keys that BuildKit writes.
fn metadata(report: &BuildReport) -> serde_json::Value {
    let mut value = serde_json::Map::new();
    if let [one] = report.images.as_slice() {
        value.insert("containerimage.config.digest".to_owned(), format!("sha256:{}", one.id).into());
    }
    if let Some(manifest) = &report.manifest {
        value.insert("containerimage.digest".to_owned(), manifest.digest.clone().into());
        value.insert(
            "containerimage.descriptor".to_owned(),
            serde_json::json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.size,
            }),
        );
    }
    if !report.names.is_empty() {
        value.insert("image.name".to_owned(), report.names.join(",").into());
    }
    value.into()
}

fn request(args: &BuildArgs) -> Result<BuildRequest, Failure> {
    if let Some(isolation) = args.isolation.as_deref()
        && !matches!(isolation, "" | "default" | "oci" | "rootless" | "chroot")
    {
        return Err(Failure::new(format!("--isolation={isolation}: expected oci, rootless or chroot")));
    }
    let (context, containerfile) = inputs::sources(args)?;
    let here = std::env::current_dir().attempt("find the current directory")?;
    let registry = RegistryOptions {
        tls_verify: args.tls_verify,
        credentials: args.creds.clone(),
        authfile: args.authfile.clone(),
        cert_dir: args.cert_dir.clone(),
        retry: Some(args.retry),
        retry_delay: retry_delay(args.retry_delay.as_ref())?,
        signature_policy: args.trust.signature_policy.clone(),
    };
    let mut build_args = inputs::build_args(args)?;
    let epoch = match (&args.timestamp, &args.source_date_epoch) {
        (Some(seconds), _) => Some(*seconds),
        // known only when the context is
        (None, Some(text)) if text == "context" => {
            if !build_args.iter().any(|(name, _)| name == SOURCE_DATE_EPOCH) {
                build_args.push((SOURCE_DATE_EPOCH.to_owned(), text.clone()));
            }
            None
        }
        (None, Some(text)) if !text.is_empty() => {
            Some(text.parse::<i64>().attempt(format!("--source-date-epoch={text}"))?)
        }
        _ => None,
    };
    let outputs: Vec<Output> =
        args.output.iter().map(|text| Output::parse(text, &here)).collect::<Result<_, _>>()?;
    let stdout = if outputs.iter().any(Output::is_stdout) {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Failure::new(
                "standard output is a terminal: redirect it, or name a file with dest=",
            ));
        }
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().attempt("write to standard output")?;
        Some(Arc::new(stdout))
    } else {
        None
    };
    Ok(BuildRequest {
        context,
        build_contexts: inputs::build_contexts(&args.build_context, &here)?,
        containerfile,
        ignore_file: args.ignorefile.clone(),
        tags: args.tag.clone(),
        manifest: args.manifest.clone(),
        from: args.from.clone(),
        all_stages: !args.skip_unused_stages,
        target: args.target.clone(),
        build_args,
        labels: pairs(&args.label),
        unset_labels: args.unsetlabel.clone(),
        drop_base_labels: !args.inherit_labels,
        annotations: pairs(&args.annotation),
        env: args.env.iter().cloned().filter_map(inputs::assignment).collect(),
        unset_env: args.unsetenv.clone(),
        secrets: inputs::secrets(&args.secret)?,
        ssh: inputs::agents(&args.ssh, &here)?,
        allow: args.allow.clone(),
        no_cache: args.no_cache || !args.layers,
        no_cache_filter: args.no_cache_filter.clone(),
        squash: match args {
            BuildArgs { squash_all: true, .. } => Squash::All,
            BuildArgs { squash: true, .. } | BuildArgs { layers: false, .. } => Squash::New,
            _ => Squash::No,
        },
        omit_history: args.omit_history,
        format: args.format.parse::<ImageFormat>()?,
        outputs,
        stdout,
        push: args.push,
        want_digest: args.metadata_file.is_some()
            || (args.iidfile.is_some()
                && (args.platform.len() > 1 || args.platform.iter().any(|list| list.contains(',')))),
        jobs: args.jobs,
        platforms: match platform(None, args.os.as_ref(), args.arch.as_ref(), args.variant.as_ref()) {
            Some(platform) => vec![platform],
            None => args.platform.clone(),
        },
        network: args.network.as_ref().map(|text| Network::parse(text)).transpose()?.unwrap_or_default(),
        pull: pull_policy(args)?,
        registry,
        mounts: args.volume.iter().map(|text| Mount::parse_volume(text, &here)).collect::<Result<_, _>>()?,
        add_hosts: args.add_host.clone(),
        dns: args.dns.clone(),
        dns_search: args.dns_search.clone(),
        dns_options: args.dns_option.clone(),
        no_hosts: args.no_hosts,
        no_hostname: args.no_hostname,
        devices: args.device.iter().map(|text| Device::parse(text)).collect::<Result<_, _>>()?,
        groups: args.group_add.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        limits: limits(args)?,
        ulimits: ulimits(&args.ulimit)?,
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        security: security(&args.security_opt)?,
        shm_size: args.shm_size.as_ref().map(|text| parse_size("--shm-size", text)).transpose()?,
        source_date_epoch: epoch,
        rewrite_times: match (
            args.timestamp,
            args.rewrite_timestamp || args.output.iter().any(|text| Output::rewrites_times(text)),
        ) {
            (Some(_), _) => RewriteTimes::Set,
            (None, true) => RewriteTimes::Clamp,
            (None, false) => RewriteTimes::No,
        },
        cache: CacheRequest {
            assert_cached: args
                .assert_cached
                .as_ref()
                .map(|stage| (!stage.is_empty()).then(|| stage.clone())),
            from: args
                .cache_from
                .iter()
                .map(|text| CacheFrom::parse(text, &here))
                .collect::<Result<_, _>>()?,
            to: args.cache_to.iter().map(|text| CacheTo::parse(text, &here)).collect::<Result<_, _>>()?,
        },
        on_fail_shell: on_fail_shell(args)?,
        handle_signals: true,
        proxy_env: if args.http_proxy { proxies() } else { Vec::new() },
    })
}

/// Whether a failed step is left to a shell, which needs standard input for itself.
fn on_fail_shell(args: &BuildArgs) -> Result<bool, Failure> {
    let shell = args.on_fail == OnFail::Shell;
    if shell && (args.context == "-" || args.file.iter().any(|file| file == "-")) {
        return Err(Failure::new("--on-fail=shell needs standard input, which the build is read from"));
    }
    Ok(shell)
}

/// Of a build, `--pull=false` means: what is missing.
fn pull_policy(args: &BuildArgs) -> Result<PullPolicy, Failure> {
    match args.pull.as_str() {
        _ if args.pull_always => Ok(PullPolicy::Always),
        _ if args.pull_never => Ok(PullPolicy::Never),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(PullPolicy::Missing),
        text => Ok(text.parse::<PullPolicy>()?),
    }
}

fn limits(args: &BuildArgs) -> Result<Limits, Failure> {
    let size = |option: &str, text: Option<&String>| text.map(|text| parse_size(option, text)).transpose();
    Ok(Limits {
        memory: size("--memory", args.memory.as_ref())?,
        memory_swap: size("--memory-swap", args.memory_swap.as_ref())?,
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpu_shares: args.cpu_shares,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        ..Limits::default()
    })
}
