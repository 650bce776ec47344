//! `KEY=VALUE` filters of listings. The same key again means "or", different keys mean "and"; labels mean "and".

use crate::time::Instant;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Filters by key.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    by_key: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Reads them; `known` are the keys of the listing, `what` names it in errors.
    pub(crate) fn parse(what: &str, texts: &[String], known: &[&str]) -> Result<Self> {
        let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in texts {
            // label!=x is the key "label!"
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Error::invalid(format!("filter {text}"), "expected KEY=VALUE"))?;
            if !known.contains(&key) {
                return Err(Error::invalid(
                    format!("filter {text}"),
                    format!("{what} know the keys {}", known.join(", ")),
                ));
            }
            by_key.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(Self { by_key })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether any value of the key matches; true when the key is not filtered by.
    pub(crate) fn any(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    /// Label filters: all `label`, no `label!`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(|wanted| has(wanted))
            && !self.values("label!").iter().any(|unwanted| has(unwanted))
    }

    /// `until`: made before all of these times.
    pub(crate) fn until(&self, created: Instant) -> Result<bool> {
        let now = Instant::now();
        for text in self.values("until") {
            if created >= Instant::parse("until", text, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads Go's words for true and false.
pub(crate) fn parse_bool(filter: &str, text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("filter {filter}={text}"), "expected true or false")),
    }
}

/// Name filters of the peers are regular expressions; the forms in use are covered: `^` and `$` anchors, `.` and
/// `.*`, else a plain part of the name.
pub(crate) fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, from_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (pattern, to_end) = pattern.strip_suffix('$').map_or((pattern, false), |rest| (rest, true));
    let glob = pattern.replace(".*", "*");
    let glob = match (from_start, to_end) {
        (true, true) => glob,
        (true, false) => format!("{glob}*"),
        (false, true) => format!("*{glob}"),
        (false, false) => format!("*{glob}*"),
    };
    glob_matches(&glob, name)
}

/// `*` any text, `?` any character.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == text[t] || pattern[p] == b'?') {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let texts = ["label=a=1".to_owned(), "label!=b".to_owned(), "name=x".to_owned(), "name=y".to_owned()];
        let filters = Filters::parse("containers", &texts, &["label", "label!", "name"]).unwrap();
        let labels = |text: &[(&str, &str)]| {
            text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(filters.labels(&labels(&[("a", "1")])));
        assert!(!filters.labels(&labels(&[("a", "1"), ("b", "")])));
        assert!(filters.any("name", |name| name == "y"));
        assert!(!filters.any("name", |name| name == "z"));
        assert!(filters.any("id", |_| false));
        assert!(Filters::parse("containers", &["nope=1".to_owned()], &["name"]).is_err());
    }

    #[test]
    fn names() {
        assert!(name_matches("web", "my-web-1"));
        assert!(name_matches("^web$", "web"));
        assert!(!name_matches("^web$", "web1"));
        assert!(name_matches("^we.*1$", "web1"));
        assert!(glob_matches("docker.io/*/x:*", "docker.io/library/x:1"));
    }
}
