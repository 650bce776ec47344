//! `build`.

use std::io::Read;
use std::path::PathBuf;

use engine::Engine;
use engine::build::{BuildEvent, BuildRequest, CacheFrom, CacheRequest, CacheTo, ContainerfileSource};
use engine::images::{PullPolicy, RegistryOptions};
use engine::options::{Limits, Mount, Network, parse_size};

use super::create::{lines, platform, proxies, read_text, security, ulimits};
use crate::args::{BuildArgs, OnFail, ProgressMode};
use crate::error::{Attempt, Failure, Outcome};
use crate::output::{self, progress};

/// Most bytes of a Containerfile.
const CONTAINERFILE_LIMIT: u64 = 16 << 20;

/// `davit build`
pub(crate) fn build(engine: &Engine, args: BuildArgs) -> Outcome {
    let request = request(&args)?;
    let progress = progress::Build::new(args.progress, args.quiet, args.timings.as_deref());
    let explain = args.explain;
    let result = engine.build(&request, &|event| {
        if explain && let Some(line) = explanation(&event) {
            progress.tell(&line);
        }
        progress.event(&event);
    });
    let report = progress.finish(result.map_err(Failure::from))?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, format!("sha256:{}", report.id)).attempt(format!("write {}", path.display()))?;
    }
    if !args.quiet && args.progress != ProgressMode::Json {
        for name in &report.names {
            output::note(&format!("Successfully tagged {name}"));
        }
    }
    output::line(&report.id);
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

fn request(args: &BuildArgs) -> Result<BuildRequest, Failure> {
    if let Some(format) = args.format.as_deref()
        && format != "oci"
    {
        return Err(Failure::new(format!(
            "--format={format} is not built yet: images are built in the OCI format"
        )));
    }
    let (context, containerfile) = sources(args)?;
    let here = std::env::current_dir().attempt("find the current directory")?;
    let registry = RegistryOptions {
        tls_verify: args.tls_verify,
        credentials: args.creds.clone(),
        authfile: args.authfile.clone(),
        cert_dir: args.cert_dir.clone(),
        ..RegistryOptions::default()
    };
    let epoch = match (&args.timestamp, &args.source_date_epoch) {
        (Some(seconds), _) => Some(*seconds),
        (None, Some(text)) if !text.is_empty() => {
            Some(text.parse::<i64>().attempt(format!("--source-date-epoch={text}"))?)
        }
        _ => None,
    };
    Ok(BuildRequest {
        context,
        containerfile,
        ignore_file: args.ignorefile.clone(),
        tags: args.tag.clone(),
        target: args.target.clone(),
        build_args: build_args(args)?,
        labels: super::create::pairs(&args.label),
        annotations: super::create::pairs(&args.annotation),
        env: Vec::new(),
        no_cache: args.no_cache,
        jobs: args.jobs,
        platform: platform(
            args.platform.as_ref(),
            args.os.as_ref(),
            args.arch.as_ref(),
            args.variant.as_ref(),
        ),
        network: args.network.as_ref().map(|text| Network::parse(text)).transpose()?.unwrap_or_default(),
        pull: args.pull.parse::<PullPolicy>()?,
        registry,
        mounts: args.volume.iter().map(|text| Mount::parse_volume(text, &here)).collect::<Result<_, _>>()?,
        add_hosts: args.add_host.clone(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        limits: limits(args)?,
        ulimits: ulimits(&args.ulimit)?,
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        security: security(&args.security_opt)?,
        shm_size: args.shm_size.as_ref().map(|text| parse_size("--shm-size", text)).transpose()?,
        source_date_epoch: epoch,
        rewrite_timestamp: args.timestamp.is_some(),
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

/// The context and the Containerfile. Several files are one text, in the order given.
fn sources(args: &BuildArgs) -> Result<(Option<PathBuf>, ContainerfileSource), Failure> {
    let address =
        |text: &str| text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/");
    if address(&args.context) {
        return Err(Failure::new(format!(
            "the context {} is an address: remote contexts are not built yet",
            args.context
        )));
    }
    if args.context == "-" {
        if !args.file.is_empty() {
            return Err(Failure::new("a context archive on standard input is not built yet")
                .hint("unpack it into a directory, and name that"));
        }
        return Ok((
            None,
            ContainerfileSource::Text { name: "Containerfile".to_owned(), text: standard_input()? },
        ));
    }
    let context = PathBuf::from(&args.context);
    let meta = std::fs::metadata(&context).attempt(format!("build context {}", args.context))?;
    if !meta.is_dir() {
        return Err(Failure::new(format!("build context {}: it is not a directory", args.context)));
    }
    let source = match args.file.as_slice() {
        [] => ContainerfileSource::Lookup,
        [one] if one == "-" => {
            ContainerfileSource::Text { name: "Containerfile".to_owned(), text: standard_input()? }
        }
        [one] => ContainerfileSource::Path(PathBuf::from(one)),
        several => {
            let mut text = String::new();
            for name in several {
                let path = PathBuf::from(name);
                let path = if path.exists() { path } else { context.join(name) };
                text.push_str(&read_text(&path)?);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
            }
            ContainerfileSource::Text { name: several.join("+"), text }
        }
    };
    Ok((Some(context), source))
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let attempt = "read the Containerfile from standard input";
    std::io::stdin().take(CONTAINERFILE_LIMIT + 1).read_to_string(&mut text).attempt(attempt)?;
    if text.len() as u64 > CONTAINERFILE_LIMIT {
        return Err(Failure::new(format!("{attempt}: it is larger than {CONTAINERFILE_LIMIT} bytes"))
            .hint("a context archive on standard input is not built yet"));
    }
    Ok(text)
}

fn build_args(args: &BuildArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut words = Vec::new();
    for file in &args.build_arg_file {
        words.extend(lines(file)?);
    }
    words.extend(args.build_arg.iter().cloned());
    let mut out = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => out.push((name.to_owned(), value.to_owned())),
            None => {
                if let Some(value) = std::env::var_os(&word).and_then(|value| value.into_string().ok()) {
                    out.push((word, value));
                }
            }
        }
    }
    Ok(out)
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
