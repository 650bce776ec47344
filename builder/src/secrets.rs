//! Looks for the values of secrets in what a build makes: layers, config, history.
//!
//! A value is looked for as it is, in base64 (both alphabets, at each of the three places where it can begin in a
//! group of bytes), in hexadecimal and URL-encoded. Of a long base64 or hexadecimal form two neighbouring windows are
//! looked for, because programs break such text into lines, and a line end can be in one of them only. What was found
//! is told by the secret's ID; neither a value nor a part of one leaves this module.

mod forms;
mod grams;
#[cfg(test)]
mod tests;

use crate::ports::Secrets;
use grams::{Grams, Match};
use std::borrow::Cow;

/// Values with fewer bytes are not looked for: they are found everywhere.
pub const SHORTEST: usize = 6;

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Raw,
    /// Base64.
    Base64,
    /// Hexadecimal.
    Hex,
    /// URL-encoded.
    Url,
}

impl Form {
    /// For messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Form::Raw => "as it is",
            Form::Base64 => "in base64",
            Form::Hex => "in hexadecimal",
            Form::Url => "URL-encoded",
        }
    }
}

/// A value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The secret's ID.
    pub id: String,
    /// How it was written.
    pub form: Form,
    /// Offset of its first byte in what was looked through.
    pub offset: u64,
}

/// All forms of all values, ready to be looked for.
pub struct Search {
    grams: Grams,
    /// Secret and form of each pattern.
    patterns: Vec<(usize, Form)>,
    ids: Vec<String>,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl Search {
    /// Prepares the values that are long enough; `None` if there are none. Values too short are told by
    /// [`too_short`].
    pub fn new(secrets: &Secrets) -> Option<Self> {
        let mut patterns = Vec::new();
        let mut texts: Vec<Vec<u8>> = Vec::new();
        let ids: Vec<String> = secrets.keys().cloned().collect();
        for (number, value) in secrets.values().enumerate() {
            let value = trimmed(value);
            if value.len() < SHORTEST {
                continue;
            }
            for (form, text) in forms::of(value) {
                if !texts.contains(&text) {
                    texts.push(text);
                    patterns.push((number, form));
                }
            }
        }
        Some(Self { grams: Grams::new(texts)?, patterns, ids })
    }

    /// The first value in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<Found> {
        let Match { pattern, start, .. } = self.grams.find(bytes)?;
        let (secret, form) = self.patterns[pattern];
        Some(Found { id: self.ids[secret].clone(), form, offset: start as u64 })
    }

    /// The path without the values that are in it, nor what may be the rest of them.
    pub fn redact_path(&self, path: &str) -> String {
        let parts: Vec<Cow<'_, str>> = path.split('/').map(|part| self.redact(part)).collect();
        let redacted = parts.join("/");
        if self.find(redacted.as_bytes()).is_some() { "***".to_owned() } else { redacted }
    }

    /// A word without the values that are in it, nor what may be the rest of them.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = String::new();
        let mut rest = text.as_bytes();
        while let Some(Match { pattern, start, end }) = self.grams.find(rest) {
            let (start, end) = match self.patterns[pattern].1 {
                Form::Raw => (start, end),
                // A pattern is only what the value alone determines, or a window.
                Form::Base64 | Form::Hex | Form::Url => {
                    let more = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_%".contains(byte);
                    let before = rest[..start].iter().rev().take_while(|byte| more(byte)).count();
                    let after = rest[end..].iter().take_while(|byte| more(byte)).count();
                    (start - before, end + after)
                }
            };
            out.push_str(&String::from_utf8_lossy(&rest[..start]));
            out.push_str("***");
            rest = &rest[end..];
        }
        if out.is_empty() {
            return Cow::Borrowed(text);
        }
        out.push_str(&String::from_utf8_lossy(rest));
        Cow::Owned(out)
    }

    /// Looks through a stream that comes piece by piece.
    pub fn stream(&self) -> Stream<'_> {
        Stream { search: self, tail: Vec::new(), position: 0, found: None }
    }
}

/// IDs of secrets whose values are too short to be looked for.
pub fn too_short(secrets: &Secrets) -> Vec<&str> {
    secrets.iter().filter(|(_, value)| trimmed(value).len() < SHORTEST).map(|(id, _)| id.as_str()).collect()
}

/// The value without the line end of the file that it came from.
fn trimmed(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// A stream that is looked through.
#[derive(Debug)]
pub struct Stream<'a> {
    search: &'a Search,
    /// The last bytes of what came before, one less than the longest pattern has.
    tail: Vec<u8>,
    /// Bytes that came before.
    position: u64,
    found: Option<Found>,
}

impl Stream<'_> {
    /// Looks at the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.found.is_none() {
            self.look(bytes);
        }
        self.position += bytes.len() as u64;
    }

    fn look(&mut self, bytes: &[u8]) {
        let keep = self.search.grams.longest() - 1;
        let before = self.tail.len();
        self.tail.extend_from_slice(&bytes[..bytes.len().min(keep)]);
        let across = self.search.find(&self.tail).map(|found| (found, self.position - before as u64));
        let within = || self.search.find(bytes).map(|found| (found, self.position));
        if let Some((found, start)) = across.or_else(within) {
            self.found = Some(Found { offset: start + found.offset, ..found });
            return;
        }
        if bytes.len() >= keep {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - keep..]);
        } else {
            let surplus = self.tail.len().saturating_sub(keep);
            self.tail.drain(..surplus);
        }
    }

    /// The first value in all that came.
    pub fn finish(self) -> Option<Found> {
        self.found
    }
}
