//! `commit`, `cp`, `diff`, `export`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use engine::Engine;
use engine::containers::{Change, ChangeKind, CommitRequest, CopyEnd, CopyRequest};
use serde_json::json;

use crate::args::{CommitArgs, CpArgs, DiffArgs, ExportArgs};
use crate::error::{Attempt, Failure, Outcome};
use crate::output::{self, json, template};

/// `davit commit`
pub(crate) fn commit(engine: &Engine, args: CommitArgs) -> Outcome {
    let request = CommitRequest {
        container: args.container,
        image: args.image,
        author: args.author,
        message: args.message,
        changes: args.change,
        config: args.config,
        docker_format: args.format == "docker",
        pause: args.pause,
        squash: args.squash,
        include_volumes: args.include_volumes,
    };
    let id = engine.containers().commit(&request)?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, format!("sha256:{id}")).attempt(format!("write {}", path.display()))?;
    }
    output::line(&id);
    Ok(0)
}

/// `CONTAINER:PATH`, a path, or `-`. What begins with `/` or `.` is a path whatever follows.
fn end(text: &str) -> CopyEnd {
    if text == "-" {
        return CopyEnd::Stream;
    }
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() && !name.starts_with(['/', '.']) => {
            CopyEnd::Container { name: name.to_owned(), path: PathBuf::from(path) }
        }
        _ => CopyEnd::Host(PathBuf::from(text)),
    }
}

/// `davit cp`
pub(crate) fn cp(engine: &Engine, args: &CpArgs) -> Outcome {
    let (from, to) = (end(&args.source), end(&args.destination));
    let is_container = |end: &CopyEnd| matches!(end, CopyEnd::Container { .. });
    if !is_container(&from) && !is_container(&to) {
        return Err(Failure::new(format!(
            "neither {} nor {} is a path in a container: write it as CONTAINER:PATH",
            args.source, args.destination
        )));
    }
    if to == CopyEnd::Stream && std::io::stdout().is_terminal() {
        return Err(Failure::new("an archive is no text for a terminal: redirect standard output"));
    }
    let request = CopyRequest { from, to, archive: args.archive, overwrite: args.overwrite };
    let input = (request.from == CopyEnd::Stream).then(|| Box::new(std::io::stdin()) as Box<_>);
    engine.containers().copy(&request, input, &mut std::io::stdout())?;
    Ok(0)
}

fn letter(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "A",
        ChangeKind::Changed => "C",
        ChangeKind::Deleted => "D",
    }
}

/// `davit diff`: of containers, of images, or of whatever the name means.
pub(crate) fn diff(engine: &Engine, args: &DiffArgs, containers: bool, images: bool) -> Outcome {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => engine.containers().latest()?,
    };
    let changes = engine.containers().diff(&name, args.other.as_deref(), containers, images)?;
    let shown = |change: &Change| change.path.to_string_lossy().into_owned();
    match args.format.as_deref() {
        None | Some("") => {
            let mut text = String::new();
            for change in &changes {
                text.push_str(letter(change.kind));
                text.push(' ');
                text.push_str(&shown(change));
                text.push('\n');
            }
            output::raw(text.as_bytes());
        }
        Some("json") => {
            let mut object = serde_json::Map::new();
            for (key, kind) in [
                ("changed", ChangeKind::Changed),
                ("added", ChangeKind::Added),
                ("deleted", ChangeKind::Deleted),
            ] {
                let paths: Vec<_> = changes.iter().filter(|change| change.kind == kind).map(shown).collect();
                if !paths.is_empty() {
                    object.insert(key.to_owned(), json!(paths));
                }
            }
            output::line(&json::pretty(&object).map_err(template::Error::from)?);
        }
        Some(_) => {
            return Err(Failure::new("diff prints its lines or json: --format takes json alone"));
        }
    }
    Ok(0)
}

/// `davit export`
pub(crate) fn export(engine: &Engine, args: &ExportArgs) -> Outcome {
    match &args.output {
        Some(path) => {
            let attempt = || format!("write {}", path.display());
            let mut file = std::fs::File::create(path).attempt(attempt())?;
            let result = engine.containers().export(&args.container, &mut file);
            if result.is_err() {
                // half an archive is of no use
                let _ = std::fs::remove_file(path);
            }
            result?;
            file.flush().attempt(attempt())?;
        }
        None if std::io::stdout().is_terminal() => {
            return Err(Failure::new("an archive is no text for a terminal: use --output or redirect"));
        }
        None => {
            let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
            engine.containers().export(&args.container, &mut out)?;
            out.flush().attempt("write the archive")?;
        }
    }
    Ok(0)
}
