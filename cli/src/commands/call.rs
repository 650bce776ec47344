//! `build --call` and `build --check`: a Containerfile is looked at and not built. The shapes of the JSON are those of
//! `docker build --call=METHOD,format=json`.

use engine::Engine;
use engine::build::{BuildRequest, BuildTarget, Checked, Lines, Outline, OutlineMount};
use serde_json::{Value, json};

use crate::args::parse_go_bool;
use crate::error::{Failure, Outcome};
use crate::output::{self, base64};

/// Exit code of a Containerfile that cannot be built, as Docker's.
const WRONG: u8 = 1;

/// What `--call` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Check,
    Outline,
    Targets,
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manner {
    /// As JSON.
    json: bool,
    /// Warnings are no failure.
    ignore_status: bool,
}

/// Reads `METHOD[,format=json|text][,ignorestatus=BOOL]`; `None` is a build.
pub(super) fn parse(text: &str) -> Result<(Option<Method>, Manner), Failure> {
    let mut words = text.split(',');
    let method = match words.next().unwrap_or_default() {
        "build" | "" => None,
        "check" | "lint" => Some(Method::Check),
        "outline" => Some(Method::Outline),
        "targets" => Some(Method::Targets),
        other => {
            return Err(Failure::new(format!("--call={other} is not supported"))
                .hint("there are build, check, outline and targets"));
        }
    };
    let mut manner = Manner::default();
    for word in words {
        match word.split_once('=') {
            Some(("format", "json")) => manner.json = true,
            Some(("format", "text")) => manner.json = false,
            Some(("ignorestatus", value)) => {
                manner.ignore_status = parse_go_bool(value)
                    .map_err(|error| Failure::new(format!("--call={text}: ignorestatus: {error}")))?;
            }
            _ => {
                return Err(Failure::new(format!("--call={text}: {word} is not understood"))
                    .hint("behind the method there are format=json, format=text and ignorestatus=true"));
            }
        }
    }
    Ok((method, manner))
}

/// Answers.
pub(super) fn call(engine: &Engine, request: &BuildRequest, method: Method, manner: Manner) -> Outcome {
    let json = manner.json;
    match method {
        Method::Check => check(&engine.check_build(request)?, manner),
        Method::Outline => {
            let outline = engine.outline_build(request).map_err(wrong)?;
            if json {
                print(&outline_json(&outline))
            } else {
                outline_text(&outline)
            }
            Ok(0)
        }
        Method::Targets => {
            let (targets, text) = engine.build_targets(request).map_err(wrong)?;
            if json {
                print(&targets_json(&targets, &text))
            } else {
                targets_text(&targets)
            }
            Ok(0)
        }
    }
}

fn wrong(error: engine::Error) -> Failure {
    let code = if matches!(error, engine::Error::Containerfile { .. }) { Some(WRONG) } else { None };
    let failure = Failure::from(error);
    match code {
        Some(code) => failure.code(code),
        None => failure,
    }
}

fn print(value: &Value) {
    output::line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

fn check(checked: &Checked, manner: Manner) -> Outcome {
    let (warnings, errors): (Vec<_>, Vec<_>) = checked
        .findings
        .iter()
        .partition(|finding| finding.rule.is_some() || finding.rendered.starts_with("warning"));
    let failed = !errors.is_empty() || (checked.strict && !warnings.is_empty());
    // As Docker: who asks for a check wants to know of warnings, and a build that has some goes on.
    let code = if failed || !(warnings.is_empty() || manner.ignore_status) { WRONG } else { 0 };
    if manner.json {
        let location = |finding: &&engine::build::Finding| {
            let place = |place: Option<(usize, usize)>| {
                place.map_or_else(
                    || json!({}),
                    |(line, character)| json!({"line": line, "character": character}),
                )
            };
            json!({"sourceIndex": 0, "ranges": [{"start": place(finding.start), "end": place(finding.end)}]})
        };
        let list: Vec<Value> = warnings
            .iter()
            .map(|finding| {
                json!({
                    "ruleName": finding.rule.unwrap_or("InvalidCheckDirective"), "description": finding.description,
                    "url": finding.url, "detail": finding.message, "location": location(finding),
                })
            })
            .collect();
        let data = base64(checked.text.as_bytes());
        let mut value = json!({
            "warnings": list,
            // the definition is how BuildKit would build it
            "sources": [
                {"fileName": checked.file, "language": "Dockerfile", "definition": null, "data": data}
            ],
        });
        if let Some(error) = errors.first() {
            value["buildError"] = json!({"message": error.message, "location": location(error)});
        } else if failed {
            value["buildError"] =
                json!({"message": "lint violation found for rules: ".to_owned() + &names(&warnings)});
        }
        print(&value);
        return Ok(code);
    }
    for finding in checked.findings.iter() {
        output::line(&finding.rendered);
        output::line("");
    }
    if !errors.is_empty() {
        output::line(&format!("Check failed: {} cannot be built.", checked.file));
    } else {
        output::line(&match warnings.len() {
            0 => "Check complete, no warnings found.".to_owned(),
            1 => "Check complete, 1 warning has been found!".to_owned(),
            count => format!("Check complete, {count} warnings have been found!"),
        });
        if failed {
            output::line("They count as errors, because of `# check=error=true`.");
        }
    }
    Ok(code)
}

/// Where something stands in the one file that there is.
fn location((start, end): Lines) -> Value {
    let place = |(line, character): (usize, usize)| json!({"line": line, "character": character});
    json!({"sourceIndex": 0, "ranges": [{"start": place(start), "end": place(end)}]})
}

fn names(findings: &[&engine::build::Finding]) -> String {
    let mut names: Vec<&str> = findings.iter().filter_map(|finding| finding.rule).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// Columns, each as wide as its widest word; a last one that is empty throughout is left out.
fn columns(rows: &[Vec<String>]) {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|word| word.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in rows {
        let words = row.iter().zip(&widths).map(|(word, width)| format!("{word:width$}"));
        output::line(words.collect::<Vec<_>>().join("   ").trim_end());
    }
}

fn required(required: bool) -> String {
    if required { "true".to_owned() } else { String::new() }
}

fn outline_text(outline: &Outline) {
    let mut head = vec![vec!["TARGET:".to_owned(), outline.target.clone()]];
    head.extend(outline.description.iter().map(|text| vec!["DESCRIPTION:".to_owned(), text.clone()]));
    columns(&head);
    if !outline.args.is_empty() {
        output::line("");
        let mut rows = vec![vec!["BUILD ARG".to_owned(), "VALUE".to_owned(), "DESCRIPTION".to_owned()]];
        rows.extend(outline.args.iter().map(|arg| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![arg.name.clone(), text(&arg.value), text(&arg.description)]
        }));
        columns(&rows);
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !list.is_empty() {
            output::line("");
            let mut rows = vec![vec![title.to_owned(), "REQUIRED".to_owned()]];
            rows.extend(list.iter().map(|mount| vec![mount.id.clone(), required(mount.required)]));
            columns(&rows);
        }
    }
}

fn outline_json(outline: &Outline) -> Value {
    let args: Vec<Value> = outline
        .args
        .iter()
        .map(|arg| {
            let mut value = json!({"name": arg.name, "location": location(arg.lines)});
            if let Some(text) = &arg.description {
                value["description"] = json!(text);
            }
            if let Some(text) = &arg.value {
                value["value"] = json!(text);
            }
            value
        })
        .collect();
    let mounts = |key: &str, list: &[OutlineMount]| -> Vec<Value> {
        let mount = |mount: &OutlineMount| {
            let mut value = json!({key: mount.id, "location": location(mount.lines)});
            if mount.required {
                value["required"] = json!(true);
            }
            value
        };
        list.iter().map(mount).collect()
    };
    let mut value = json!({"sources": [base64(outline.text.as_bytes())]});
    if outline.is_named {
        value["name"] = json!(outline.target);
    }
    if !args.is_empty() {
        value["args"] = json!(args);
    }
    if let Some(text) = &outline.description {
        value["description"] = json!(text);
    }
    if !outline.secrets.is_empty() {
        value["secrets"] = json!(mounts("name", &outline.secrets));
    }
    if !outline.ssh.is_empty() {
        value["ssh"] = json!(mounts("name", &outline.ssh));
    }
    if !outline.caches.is_empty() {
        value["cache"] = json!(mounts("ID", &outline.caches));
    }
    value
}

fn targets_text(targets: &[BuildTarget]) {
    let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    rows.extend(targets.iter().map(|target| {
        let name = match (&target.name, target.default) {
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
            (None, _) => "(default)".to_owned(),
        };
        vec![name, target.description.clone().unwrap_or_default()]
    }));
    columns(&rows);
}

fn targets_json(targets: &[BuildTarget], text: &str) -> Value {
    let list: Vec<Value> = targets
        .iter()
        .map(|target| {
            let mut value = json!({"base": target.base, "location": location(target.lines)});
            if let Some(platform) = &target.platform {
                value["platform"] = json!(platform);
            }
            if let Some(name) = &target.name {
                value["name"] = json!(name);
            }
            if target.default {
                value["default"] = json!(true);
            }
            if let Some(text) = &target.description {
                value["description"] = json!(text);
            }
            value
        })
        .collect();
    json!({"targets": list, "sources": [base64(text.as_bytes())]})
}
