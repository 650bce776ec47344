//! `artifact`.

use engine::artifacts::{
    ArtifactAddRequest, ArtifactExtractRequest, ArtifactPullRequest, ArtifactPushRequest, ArtifactSummary,
};
use engine::images::RegistryOptions;
use engine::{Engine, ErrorKind};
use serde_json::{Value, json};

use super::create::pairs;
use super::lists::{print, short, split_name, time};
use super::registry::{options, retry_delay};
use crate::args::{
    ArtifactAddArgs, ArtifactCommand, ArtifactInspectArgs, ArtifactLsArgs, ArtifactPullArgs,
    ArtifactPushArgs, ArtifactRmArgs, Deferred,
};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output::{self, human, json as written, progress, template};

/// `davit artifact …`
pub(crate) fn artifact(engine: &Engine, command: ArtifactCommand) -> Outcome {
    match command {
        ArtifactCommand::Add(Deferred(args)) => add(engine, args),
        ArtifactCommand::Extract(Deferred(args)) => {
            engine.artifacts().extract(&ArtifactExtractRequest {
                name: args.artifact,
                path: args.path,
                title: args.title,
                digest: args.digest,
            })?;
            Ok(0)
        }
        ArtifactCommand::Inspect(Deferred(args)) => inspect(engine, &args),
        ArtifactCommand::Ls(Deferred(args)) => list(engine, &args),
        ArtifactCommand::Pull(Deferred(args)) => pull(engine, args),
        ArtifactCommand::Push(Deferred(args)) => push(engine, args),
        ArtifactCommand::Rm(Deferred(args)) => remove(engine, &args),
    }
}

/// A digest as Podman prints it: without its algorithm.
fn hex(digest: &str) -> &str {
    digest.split_once(':').map_or(digest, |(_, hex)| hex)
}

fn add(engine: &Engine, args: ArtifactAddArgs) -> Outcome {
    for annotation in &args.annotation {
        if !annotation.contains('=') {
            return Err(Failure::new(format!("--annotation={annotation}: expected KEY=VALUE")));
        }
    }
    let request = ArtifactAddRequest {
        name: args.artifact,
        files: args.paths,
        append: args.append,
        replace: args.replace,
        artifact_type: args.r#type,
        file_type: args.file_type,
        annotations: pairs(&args.annotation).into_iter().collect(),
    };
    let digest = match engine.artifacts().add(&request) {
        Err(error) if error.kind() == ErrorKind::Conflict && !request.append && !request.replace => {
            return Err(Failure::from(error).hint("--append adds files to it, --replace makes it anew"));
        }
        other => other?,
    };
    output::line(hex(&digest));
    Ok(0)
}

fn inspect(engine: &Engine, args: &ArtifactInspectArgs) -> Outcome {
    let report = serde_json::to_value(engine.artifacts().inspect(&args.artifact)?);
    let report = report.expect("reports are plain data");
    if args.format == "json" {
        output::line(&written::pretty(&report).map_err(template::Error::from)?);
    } else {
        let compiled = template::compile(&args.format)?;
        output::line(&template::render(&compiled, &template::value(&report))?);
    }
    Ok(0)
}

const TABLE: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Created}}\t{{.Size}}";

const HEADINGS: [(&str, &str); 6] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("Created", "CREATED"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
];

fn row(artifact: &ArtifactSummary, whole: bool) -> Value {
    let (repository, tag) = split_name(&artifact.name);
    let digest = hex(&artifact.digest);
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": if whole { digest } else { short(digest) },
        "Created": artifact.created.map_or_else(String::new, |seconds| human::ago(time(seconds))),
        "Size": human::image_size(artifact.size),
        "VirtualSize": artifact.size,
    })
}

fn list(engine: &Engine, args: &ArtifactLsArgs) -> Outcome {
    let all = engine.artifacts().list()?;
    let rows: Vec<Value> = all.iter().map(|artifact| row(artifact, args.no_trunc)).collect();
    let json = || {
        let line = |artifact: &ArtifactSummary| {
            let (repository, tag) = split_name(&artifact.name);
            json!({
                "Repository": repository,
                "Tag": tag,
                "Digest": artifact.digest,
                "Created": artifact.created.map(|seconds| time(seconds).to_string()),
                "Size": artifact.size,
            })
        };
        all.iter().map(line).collect()
    };
    print(args.format.as_deref(), TABLE, &rows, json, &HEADINGS, !args.noheading)
}

fn pull(engine: &Engine, args: ArtifactPullArgs) -> Outcome {
    let registry = RegistryOptions {
        retry: Some(args.retry),
        retry_delay: retry_delay(args.retry_delay.as_ref())?,
        ..options(args.registry)?
    };
    let request = ArtifactPullRequest { name: args.artifact, registry };
    let progress = progress::Transfer::new(args.quiet);
    let pulled = engine.artifacts().pull(&request, &|event| progress.event(&event));
    progress.finish();
    let (digest, warnings) = pulled?;
    for warning in warnings {
        output::note(&format!("Warning: {warning}"));
    }
    output::line(hex(&digest));
    Ok(0)
}

fn push(engine: &Engine, args: ArtifactPushArgs) -> Outcome {
    let registry = RegistryOptions {
        retry: Some(args.retry),
        retry_delay: retry_delay(args.retry_delay.as_ref())?,
        ..options(args.registry)?
    };
    let request = ArtifactPushRequest {
        name: args.artifact,
        destination: args.destination,
        registry,
        sign: super::trust::signers(args.sign),
    };
    let progress = progress::Transfer::new(args.quiet);
    let pushed = engine.artifacts().push(&request, &|event| progress.event(&event));
    progress.finish();
    let report = pushed?;
    for warning in report.warnings {
        output::note(&format!("Warning: {warning}"));
    }
    if let Some(path) = args.digestfile {
        std::fs::write(&path, &report.digest).attempt(format!("write {}", path.display()))?;
    }
    Ok(0)
}

fn remove(engine: &Engine, args: &ArtifactRmArgs) -> Outcome {
    let (removed, failures) = engine.artifacts().remove(&args.artifacts, args.all);
    output::lines(removed.iter().map(String::as_str));
    let mut code = 0;
    for error in failures {
        if args.ignore && error.kind() == ErrorKind::NotFound {
            continue;
        }
        code = FAILED;
        Failure::from(error).print();
    }
    Ok(code)
}
