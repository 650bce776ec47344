//! The named parts of an operation's definition: what the user would look at to find the change.

use super::CauseKind;
use crate::graph::Op;
use oci::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Longest text that is kept of a part, in bytes.
const LONGEST: usize = 1024;

/// One part of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) kind: CauseKind,
    pub(super) name: String,
    /// Digest of its value, shortened.
    pub(super) digest: String,
    /// Its value, or the beginning of it.
    pub(super) shown: String,
}

impl Part {
    fn new(kind: CauseKind, name: impl Into<String>, value: &str) -> Self {
        let mut end = value.len().min(LONGEST);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            kind,
            name: name.into(),
            digest: short(&Digest::of(value.as_bytes())),
            shown: value[..end].into(),
        }
    }
}

/// A digest as explanations show it.
pub(super) fn short(digest: &Digest) -> String {
    format!("sha256:{}", digest.short())
}

/// The parts of an operation; `keyword` is the instruction's.
pub(super) fn parts(op: &Op, keyword: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let args: BTreeSet<&str> = match op {
        Op::Exec(op) => op.args.iter().map(String::as_str).collect(),
        _ => BTreeSet::new(),
    };
    // An op is plain data; one that could not be written had no key either.
    let Ok(Value::Object(tagged)) = serde_json::to_value(op) else { return parts };
    let Some(Value::Object(fields)) = tagged.into_iter().next().map(|(_, fields)| fields) else {
        return parts;
    };
    for (field, value) in fields {
        match (field.as_str(), value) {
            ("env", Value::Array(entries)) => {
                for entry in entries.iter().filter_map(Value::as_str) {
                    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
                    let kind = if args.contains(name) { CauseKind::Arg } else { CauseKind::Env };
                    parts.push(Part::new(kind, name, value));
                }
            }
            ("argv", Value::Array(words)) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                parts.push(Part::new(CauseKind::Instruction, keyword, &words.join(" ")));
            }
            (list @ ("mounts" | "sources"), Value::Array(entries)) => {
                let what = list.trim_end_matches('s');
                for (number, entry) in entries.iter().enumerate() {
                    let name = format!("{keyword} {what} {}", number + 1);
                    parts.push(Part::new(CauseKind::Instruction, name, &shown(entry)));
                }
            }
            ("settings", value) => {
                parts.push(Part::new(CauseKind::Setting, "options of the build", &shown(&value)));
            }
            ("platform", value) => parts.push(Part::new(CauseKind::Setting, "platform", &shown(&value))),
            ("hostname", value) => parts.push(Part::new(CauseKind::Setting, "host name", &shown(&value))),
            ("times", value) => {
                parts.push(Part::new(CauseKind::Setting, "times of new files", &value.to_string()));
            }
            ("cwd", value) => {
                parts.push(Part::new(CauseKind::Instruction, "WORKDIR", &shown(&value)));
            }
            ("user", value) => parts.push(Part::new(CauseKind::Instruction, "USER", &shown(&value))),
            (field, value) => {
                let name = format!("{keyword} {field}");
                parts.push(Part::new(CauseKind::Instruction, name, &shown(&value)));
            }
        }
    }
    parts
}

/// A value as a user would have written it, as far as that goes.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.len() == 1 => {
            fields.iter().next().map(|(_, inner)| shown(inner)).unwrap_or_default()
        }
        Value::Object(fields) => match (fields.get("path"), fields.get("name")) {
            (Some(Value::String(path)), None) => path.clone(),
            _ => value.to_string(),
        },
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Two values side by side, cut down to where they differ.
pub(super) fn side_by_side(old: &str, new: &str) -> String {
    format!("{:?} -> {:?}", excerpt(old, new), excerpt(new, old))
}

fn excerpt(text: &str, other: &str) -> String {
    const BEFORE: usize = 12;
    const LENGTH: usize = 48;
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= LENGTH {
        return text.to_owned();
    }
    let same = text.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let from = same.saturating_sub(BEFORE).min(letters.len() - LENGTH / 2);
    let mut out = String::new();
    if from > 0 {
        out.push('…');
    }
    out.extend(&letters[from..letters.len().min(from + LENGTH)]);
    if from + LENGTH < letters.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_to_where_they_differ() {
        let old = format!("{}one", "x".repeat(100));
        let new = format!("{}two", "x".repeat(100));
        let text = side_by_side(&old, &new);
        assert!(text.contains("xone\"") && text.contains("xtwo\"") && text.len() < 90, "{text}");
        assert_eq!(side_by_side("1", "2"), "\"1\" -> \"2\"");
    }
}
