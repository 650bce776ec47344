//! The little of URLs that the protocol needs: origin, joining a `Location`, adding to a query.

use crate::{Error, Result};
use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Host and port as written, lower case.
    pub(crate) authority: String,
    /// Begins with a slash.
    pub(crate) path: String,
    /// Without the question mark.
    pub(crate) query: Option<String>,
}

impl Url {
    pub(crate) fn new(scheme: &'static str, authority: &str, path: impl Into<String>) -> Self {
        Self { scheme, authority: authority.to_ascii_lowercase(), path: path.into(), query: None }
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |message: &str| Error::Protocol {
            url: text.chars().take(200).collect(),
            message: format!("not a usable address: {message}"),
        };
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let (scheme, rest) = if lower.starts_with("https://") {
            ("https", &text[8..])
        } else if lower.starts_with("http://") {
            ("http", &text[7..])
        } else {
            return Err(invalid("neither http nor https"));
        };
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(invalid("it has spaces or control characters"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.is_empty() || authority.contains('@') {
            return Err(invalid("no host, or a user name in it"));
        }
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { scheme, authority: authority.to_ascii_lowercase(), path: path.to_owned(), query })
    }

    /// Resolves a `Location` or `Link` target against this address.
    pub(crate) fn join(&self, target: &str) -> Result<Self> {
        if target.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"))
            || target.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
        {
            return Self::parse(target);
        }
        if target.starts_with("//") {
            return Self::parse(&format!("{}:{target}", self.scheme));
        }
        let origin = format!("{}://{}", self.scheme, self.authority);
        if target.starts_with('/') {
            return Self::parse(&format!("{origin}{target}"));
        }
        if target.starts_with('?') {
            return Self::parse(&format!("{origin}{}{target}", self.path));
        }
        let directory = &self.path[..=self.path.rfind('/').unwrap_or(0)];
        Self::parse(&format!("{origin}{directory}{target}"))
    }

    /// Adds a parameter to the query, keeping what is there.
    pub(crate) fn with_parameter(mut self, key: &str, value: &str) -> Self {
        let added = format!("{key}={}", encode(value));
        self.query = Some(match self.query.take().filter(|query| !query.is_empty()) {
            Some(query) => format!("{query}&{added}"),
            None => added,
        });
        self
    }

    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        self.scheme == other.scheme && self.host_and_port() == other.host_and_port()
    }

    fn host_and_port(&self) -> (&str, &str) {
        let default = if self.scheme == "https" { "443" } else { "80" };
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (&self.authority, default),
        }
    }

    /// The host without its port.
    pub(crate) fn host(&self) -> &str {
        self.host_and_port().0
    }

    /// Without the query, which may hold signatures.
    pub(crate) fn shown(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)?;
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Percent-encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base = Url::parse("https://R.example:5000/v2/a/blobs/uploads/?x=1").unwrap();
        for (target, result) in [
            ("/v2/b?_state=a%2Fb", "https://r.example:5000/v2/b?_state=a%2Fb"),
            ("uuid", "https://r.example:5000/v2/a/blobs/uploads/uuid"),
            ("?n=2", "https://r.example:5000/v2/a/blobs/uploads/?n=2"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("HTTP://other/x#frag", "http://other/x"),
            ("https://other", "https://other/"),
        ] {
            assert_eq!(base.join(target).unwrap().to_string(), result);
        }
        for target in ["https://", "https://u:p@h/", "http://a b/", "http://a/\r\nX: y"] {
            assert!(base.join(target).is_err(), "{target}");
        }
    }

    #[test]
    fn queries_are_kept() {
        let url = Url::parse("http://h/p?_state=1").unwrap().with_parameter("digest", "sha256:ab");
        assert_eq!(url.to_string(), "http://h/p?_state=1&digest=sha256%3Aab");
        assert_eq!(url.shown(), "http://h/p");
    }

    #[test]
    fn origins() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://h/a").same_origin(&url("https://H:443/b")));
        assert!(!url("https://h/a").same_origin(&url("http://h/a")));
        assert!(!url("https://h/a").same_origin(&url("https://h:444/a")));
        assert!(url("http://[::1]/a").same_origin(&url("http://[::1]:80/a")));
    }
}
