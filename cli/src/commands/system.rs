//! davit about itself.

use clap::Command;
use engine::{CheckRequest, Engine};
use serde_json::{Value, json};

use crate::args::{self, CompletionArgs, InfoArgs, ManPagesArgs, SystemCheckArgs, VersionArgs};
use crate::error::{Attempt, Failure, Outcome};
use crate::output::table::Table;
use crate::output::template::{self, Format};
use crate::output::{self, json};

/// `davit version`
pub(crate) fn version(args: &VersionArgs) -> Outcome {
    let version = engine::version();
    let data = json!({ "Client": {
        "APIVersion": version.api_version,
        "Version": version.version,
        "GitCommit": version.git_commit,
        "OsArch": version.os_arch,
    }});
    match args.format.as_deref().map(Format::parse) {
        None => {
            let mut table = Table::new();
            table
                .row(["Client:", "davit"])
                .row(["Version:", &version.version])
                .row(["OS/Arch:", &version.os_arch]);
            if !version.git_commit.is_empty() {
                table.row(["Git Commit:", &version.git_commit]);
            }
            output::raw(table.render().as_bytes());
        }
        Some(Format::Json) => output::line(&json::pretty(&data).map_err(template::Error::from)?),
        Some(Format::Table(source) | Format::Plain(source)) => {
            output::line(&template::render(&template::compile(source)?, &template::value(&data))?);
        }
    }
    Ok(0)
}

/// `davit info`
pub(crate) fn info(engine: &Engine, args: &InfoArgs) -> Outcome {
    let info = engine.info()?;
    match args.format.as_deref().map(Format::parse) {
        None => {
            let mut text = String::new();
            outline(&info, 0, &mut text);
            output::raw(text.as_bytes());
        }
        Some(Format::Json) => output::line(&json::pretty(&info).map_err(template::Error::from)?),
        Some(Format::Table(source) | Format::Plain(source)) => {
            let data = with_field_names(&info);
            output::line(&template::render(&template::compile(source)?, &template::value(&data))?);
        }
    }
    Ok(0)
}

/// JSON as an indented outline, as YAML shows plain data.
fn outline(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push_str(&format!("{indent}{key}:\n"));
                        outline(field, depth + 1, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push_str(&format!("{indent}{key}:\n"));
                        for item in items {
                            out.push_str(&format!("{indent}- {}\n", scalar(item)));
                        }
                    }
                    _ => out.push_str(&format!("{indent}{key}: {}\n", scalar(field))),
                }
            }
        }
        other => out.push_str(&format!("{indent}{}\n", scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The same data where each field can also be named as in Podman's Go structures: `host` as `Host`.
fn with_field_names(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut out = serde_json::Map::new();
            for (key, field) in fields {
                let field = with_field_names(field);
                let mut letters = key.chars();
                if let Some(first) = letters.next() {
                    out.insert(format!("{}{}", first.to_uppercase(), letters.as_str()), field.clone());
                }
                out.insert(key.clone(), field);
            }
            Value::Object(out)
        }
        Value::Array(items) => items.iter().map(with_field_names).collect(),
        other => other.clone(),
    }
}

/// `davit system check`
pub(crate) fn check(engine: &Engine, args: &SystemCheckArgs) -> Outcome {
    let request = CheckRequest { quick: args.quick, repair: args.repair, force: args.force };
    let report = engine.check(&request)?;
    report.repaired.iter().for_each(|finding| output::line(&format!("Repaired: {finding}")));
    report.damage.iter().for_each(|finding| output::line(&format!("Damage: {finding}")));
    if report.damage.is_empty() {
        return Ok(0);
    }
    let failure = Failure::new("the store is damaged");
    Err(match args.repair {
        false => failure.hint("`davit system check --repair` brings back what it can"),
        true => failure.hint("pull or build these images again, or remove them with --repair --force"),
    })
}

/// `davit completion`
pub(crate) fn completion(args: CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::whole_command(), "davit", &mut script);
    match args.file {
        Some(path) => std::fs::write(&path, script).attempt(format!("write {}", path.display()))?,
        None => output::raw(&script),
    }
    Ok(0)
}

/// `davit man-pages`
pub(crate) fn man_pages(args: &ManPagesArgs) -> Outcome {
    let attempt = || format!("write manual pages into {}", args.directory.display());
    std::fs::create_dir_all(&args.directory).attempt(attempt())?;
    let command = args::whole_command();
    write_page(&args.directory, &command, "davit").attempt(attempt())?;
    Ok(0)
}

fn write_page(directory: &std::path::Path, command: &Command, name: &str) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.to_owned())).render(&mut page)?;
    std::fs::write(directory.join(format!("{name}.1")), page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_page(directory, sub, &format!("{name}-{}", sub.get_name()))?;
    }
    Ok(())
}
