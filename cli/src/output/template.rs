//! `--format`: Go templates over the fields of a row.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{MissingKey, Template, Value};

use super::table::Table;

/// A format that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The template does not parse, or names a field that is not there.
    #[error("template: {0}")]
    Template(String),
    /// A value cannot be written as JSON.
    #[error("write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What `--format` asks for.
#[derive(Debug)]
pub(crate) enum Format<'a> {
    /// `json`
    Json,
    /// `table TEMPLATE`: headings and columns.
    Table(&'a str),
    /// `TEMPLATE`: a line for each row.
    Plain(&'a str),
}

impl<'a> Format<'a> {
    /// Reads the value of `--format`.
    pub(crate) fn parse(text: &'a str) -> Self {
        if text.trim() == "json" {
            return Self::Json;
        }
        match text.trim_start().strip_prefix("table") {
            Some("") => Self::Table(""),
            Some(rest) if rest.starts_with(char::is_whitespace) || rest.starts_with("{{") => {
                Self::Table(rest.trim_start())
            }
            _ => Self::Plain(text),
        }
    }
}

/// `\t` and `\n` typed in a shell mean the characters.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

/// Converts JSON to template data; objects become maps, whose missing keys are errors.
pub(crate) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(bool) => Value::Bool(*bool),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Value::Int(int),
            (None, Some(uint)) => Value::Uint(uint),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(text.as_str().into()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(value).collect()),
        serde_json::Value::Object(fields) => {
            let map: BTreeMap<Arc<str>, Value> =
                fields.iter().map(|(key, field)| (Arc::from(key.as_str()), value(field))).collect();
            Value::Map(Arc::new(map))
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil | Value::Function(_) => serde_json::Value::Null,
        Value::Bool(bool) => (*bool).into(),
        Value::Int(int) => (*int).into(),
        Value::Uint(uint) => (*uint).into(),
        Value::Float(float) => (*float).into(),
        Value::String(text) => text.as_ref().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => map.iter().map(|(key, field)| (key.to_string(), json(field))).collect(),
    }
}

fn text(args: &[Value], index: usize) -> String {
    args.get(index).map(ToString::to_string).unwrap_or_default()
}

fn string(text: String) -> gotmpl::Result<Value> {
    Ok(Value::String(text.into()))
}

fn count(args: &[Value], index: usize) -> usize {
    args.get(index).and_then(Value::as_int).and_then(|int| usize::try_from(int).ok()).unwrap_or(0)
}

/// Parses a template with the functions that the originals add to Go's.
pub(crate) fn compile(source: &str) -> Result<Template, Error> {
    Template::new("format")
        .missing_key(MissingKey::Error)
        .func("json", |args| string(args.first().map(json).unwrap_or_default().to_string()))
        .func("lower", |args| string(text(args, 0).to_lowercase()))
        .func("upper", |args| string(text(args, 0).to_uppercase()))
        .func("title", |args| string(title(&text(args, 0))))
        .func("split", |args| {
            Ok(Value::List(
                text(args, 0).split(&text(args, 1)).map(|part| Value::String(part.into())).collect(),
            ))
        })
        .func("join", |args| match args.first() {
            Some(Value::List(items)) => {
                string(items.iter().map(ToString::to_string).collect::<Vec<_>>().join(&text(args, 1)))
            }
            _ => string(text(args, 0)),
        })
        .func("pad", |args| {
            let inner = text(args, 0);
            let (before, after) = (" ".repeat(count(args, 1)), " ".repeat(count(args, 2)));
            string(if inner.is_empty() { inner } else { format!("{before}{inner}{after}") })
        })
        .func("truncate", |args| string(text(args, 0).chars().take(count(args, 1)).collect()))
        .parse(&unescape(source))
        .map_err(|error| Error::Template(error.to_string()))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut first = true;
    for character in text.chars() {
        if first {
            out.extend(character.to_uppercase())
        } else {
            out.push(character)
        }
        first = character.is_whitespace();
    }
    out
}

/// Fills a template with one value.
pub(crate) fn render(template: &Template, data: &Value) -> Result<String, Error> {
    template.execute_to_string(data).map_err(|error| Error::Template(error.to_string()))
}

/// The lines of a list under a format. `headings` maps fields to the words above their columns; a field that is
/// not listed is headed by its name in capitals.
pub(crate) fn rows(
    format: &Format<'_>,
    rows: &[serde_json::Value],
    headings: &[(&str, &str)],
    with_headings: bool,
) -> Result<String, Error> {
    match format {
        Format::Json => Ok(super::json::pretty(&rows)? + "\n"),
        Format::Plain(source) => {
            let template = compile(source)?;
            let mut out = String::new();
            for row in rows {
                out.push_str(&render(&template, &value(row))?);
                if !out.ends_with('\n') {
                    out.push('\n');
                }
            }
            Ok(out)
        }
        Format::Table(source) => {
            // blanks between two fields of a table mean columns, as in Podman
            let template = compile(&source.replace("}} {{", "}}\t{{"))?;
            let mut table = Table::new();
            if with_headings {
                table.text(&render(&template, &heading_row(rows, headings))?);
            }
            for row in rows {
                table.text(&render(&template, &value(row))?);
            }
            Ok(table.render())
        }
    }
}

fn heading_row(rows: &[serde_json::Value], headings: &[(&str, &str)]) -> Value {
    let mut map: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    if let Some(fields) = rows.first().and_then(serde_json::Value::as_object) {
        for key in fields.keys() {
            map.insert(key.as_str().into(), Value::String(key.to_uppercase().into()));
        }
    }
    for (key, heading) in headings {
        map.insert((*key).into(), Value::String((*heading).into()));
    }
    Value::Map(Arc::new(map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn formats_are_told_apart() {
        assert!(matches!(Format::parse("json"), Format::Json));
        assert!(matches!(Format::parse("table {{.ID}}"), Format::Table("{{.ID}}")));
        assert!(matches!(Format::parse("{{.ID}}"), Format::Plain(_)));
        assert!(matches!(Format::parse("tableau"), Format::Plain(_)));
    }

    #[test]
    fn tables_get_headings() {
        let data = [json!({"ID": "abc", "Names": "x"})];
        let out =
            rows(&Format::parse("table {{.ID}}\\t{{.Names}}"), &data, &[("ID", "IMAGE ID")], true).unwrap();
        assert_eq!(out, "IMAGE ID    NAMES\nabc         x\n");
        let blanks = rows(&Format::parse("table {{.ID}} {{.Names}}"), &data, &[("ID", "IMAGE ID")], true);
        assert_eq!(blanks.unwrap(), out);
    }

    #[test]
    fn functions_and_missing_fields() {
        let data = [json!({"L": ["a", "b"], "N": 3, "M": {"k": "<v>"}})];
        let render = |source: &str| rows(&Format::Plain(source), &data, &[], false);
        assert_eq!(render("{{join .L \"-\"}} {{upper \"x\"}} {{.N}}").unwrap(), "a-b X 3\n");
        assert_eq!(render("{{json .M}}").unwrap(), "{\"k\":\"<v>\"}\n");
        assert!(render("{{.Missing}}").is_err());
    }
}
