//! Image names: `[HOST[:PORT]/]PATH[:TAG][@ALGORITHM:HEX]`.
//!
//! The first component is a host if it has a `.` or a `:` or is `localhost`; a name without a host is *short*.
//! On the hub (`docker.io`) a single path component gets `library/` before it.

use crate::{Error, Result};
use oci::Digest;
use std::fmt;
use std::str::FromStr;

/// The public hub's name in references.
pub const HUB: &str = "docker.io";
/// The host that serves the hub's API.
pub const HUB_API: &str = "registry-1.docker.io";
/// Longest host and path together.
const MAX_NAME: usize = 255;

/// A full image name: registry, repository, and a tag or a digest or both or neither.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A name as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// It names its registry.
    Full(Reference),
    /// It does not.
    Short(ShortName),
}

/// A name without a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortName {
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Name {
    /// Parses a name with or without a host.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |reason| Err(Error::InvalidReference { text: shorten(text), reason });
        if text.is_empty() {
            return invalid("it is empty");
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => match digest.parse::<Digest>() {
                Ok(digest) => (rest, Some(digest)),
                Err(_) => return invalid("the digest after '@' is not valid"),
            },
        };
        // a colon after the last slash begins the tag; one before it belongs to a port
        let name_start = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[name_start..].split_once(':') {
            None => (rest, None),
            Some((last, tag)) => (&rest[..name_start + last.len()], Some(tag)),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return invalid("the tag is not valid");
        }
        if name.len() > MAX_NAME {
            return invalid("host and path have more than 255 characters");
        }
        let (host, path) = match name.split_once('/') {
            Some((first, path)) if is_host_like(first) => (Some(first), path),
            _ => (None, name),
        };
        if let Err(reason) = check_repository(path) {
            return invalid(reason);
        }
        let tag = tag.map(str::to_owned);
        match host {
            Some(host) if !is_host(host) => invalid("the host is not valid"),
            Some(host) => {
                Ok(Name::Full(Reference::assemble(host.to_ascii_lowercase(), path.to_owned(), tag, digest)))
            }
            None if path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                invalid("64 hex digits are an image ID, not a name")
            }
            None => Ok(Name::Short(ShortName { path: path.to_owned(), tag, digest })),
        }
    }
}

impl ShortName {
    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full name in a registry, or in a namespace of one (`host/namespace`).
    pub fn in_registry(&self, registry: &str) -> Result<Reference> {
        match Name::parse(&format!("{registry}/{self}"))? {
            Name::Full(reference) => Ok(reference),
            Name::Short(_) => Err(Error::InvalidReference {
                text: shorten(registry),
                reason: "a registry needs a dot, a port or the name localhost",
            }),
        }
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        suffix(f, self.tag.as_deref(), self.digest.as_ref())
    }
}

impl Reference {
    fn assemble(registry: String, path: String, tag: Option<String>, digest: Option<Digest>) -> Self {
        let registry = match registry.as_str() {
            "index.docker.io" | HUB_API => HUB.to_owned(),
            _ => registry,
        };
        let repository =
            if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path };
        Self { registry, repository, tag, digest }
    }

    /// Parses a name that has a host.
    pub fn parse(text: &str) -> Result<Self> {
        match Name::parse(text)? {
            Name::Full(reference) => Ok(reference),
            Name::Short(_) => {
                Err(Error::InvalidReference { text: shorten(text), reason: "it does not name its registry" })
            }
        }
    }

    /// Parses a name; one without a host is on the public hub, as for Docker.
    pub fn parse_docker(text: &str) -> Result<Self> {
        match Name::parse(text)? {
            Name::Full(reference) => Ok(reference),
            Name::Short(short) => short.in_registry(HUB),
        }
    }

    /// Parses the name of an image that is made here: one without a host gets `localhost/`.
    pub fn parse_local(text: &str) -> Result<Self> {
        match Name::parse(text)? {
            Name::Full(reference) => Ok(reference),
            Name::Short(short) => short.in_registry("localhost"),
        }
    }

    /// The registry: host and port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The host and port that serve the API; differs from the registry for the hub alone.
    pub fn api_host(&self) -> &str {
        if self.registry == HUB { HUB_API } else { &self.registry }
    }

    /// The path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `host/path`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What stands in `/manifests/`: the digest if there is one, else the tag, else `latest`.
    pub fn target(&self) -> &str {
        self.digest.as_ref().map_or_else(|| self.tag().unwrap_or("latest"), Digest::as_str)
    }

    /// The same with `:latest`, if it has neither tag nor digest.
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(Error::InvalidReference { text: shorten(tag), reason: "the tag is not valid" });
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository alone, without tag and digest.
    pub fn without_target(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The name as Docker shows it: the hub's host and `library/` are left out.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else { return full };
        let short = rest.strip_prefix("library/").unwrap_or(rest);
        // a path of the hub may begin like the name of another registry
        match Self::parse_docker(short) {
            Ok(same) if same == *self => short.to_owned(),
            _ => full,
        }
    }

    /// The token scope for actions on this repository: `repository:NAME:pull,push`.
    pub fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.repository)
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        suffix(f, self.tag.as_deref(), self.digest.as_ref())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn suffix(f: &mut fmt::Formatter<'_>, tag: Option<&str>, digest: Option<&Digest>) -> fmt::Result {
    if let Some(tag) = tag {
        write!(f, ":{tag}")?;
    }
    if let Some(digest) = digest {
        write!(f, "@{digest}")?;
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(300).collect();
    if short.len() < text.len() {
        short.push_str("..");
    }
    short
}

/// Whether a registry name, host with optional port, is valid.
pub fn is_registry(text: &str) -> bool {
    is_host(text)
}

fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn is_host(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match after.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if after.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.len() <= 253 && host.split('.').all(label))
        && port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
        && tag.len() <= 128
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the name is empty");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("the name must be lower case");
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err("the name may have lower-case letters, digits, and single separators between them")
    }
}

fn is_path_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    if bytes.is_empty() || !alphanumeric(bytes[0]) || !alphanumeric(bytes[bytes.len() - 1]) {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if alphanumeric(bytes[at]) {
            at += 1;
            continue;
        }
        let end = bytes[at..].iter().position(|byte| alphanumeric(*byte)).map_or(bytes.len(), |len| at + len);
        let separator = &bytes[at..end];
        if !(matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')) {
            return false;
        }
        at = end;
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn full_names() {
        let text = format!("registry.example:5000/a/b_c/d--e:v1.0@sha256:{HEX}");
        let reference = Reference::parse(&text).unwrap();
        assert_eq!(reference.registry(), "registry.example:5000");
        assert_eq!(reference.repository(), "a/b_c/d--e");
        assert_eq!(reference.tag(), Some("v1.0"));
        assert_eq!(reference.target(), format!("sha256:{HEX}"));
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.scope("pull"), "repository:a/b_c/d--e:pull");
        for text in ["localhost/x", "localhost:5000/x:1", "127.0.0.1:5000/x", "[::1]:5000/x/y:z", "a.b/c"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_hub_is_special() {
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian", "debian"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("a/b", "docker.io/a/b", "a/b"),
            ("docker.io/debian", "docker.io/library/debian", "debian"),
            ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
            ("quay.io/a", "quay.io/a", "quay.io/a"),
        ] {
            let reference = Reference::parse_docker(text).unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
        }
        assert_eq!(Reference::parse_docker("x").unwrap().api_host(), "registry-1.docker.io");
        assert_eq!(
            Reference::parse_local("app").unwrap().with_default_tag().to_string(),
            "localhost/app:latest"
        );
    }

    #[test]
    fn bad_names_are_refused() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long_name = "a".repeat(256);
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:12",
            "a b",
            "a:b:c",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "localhost/A",
            "a.b:port/c",
            "a.b:0/c",
            "a.b:70000/c",
            "-a.b/c",
            "a.b",
            "a.b/",
            "../x",
            "[::1/x",
            "a\n",
            "ä",
            "http://a.b/c",
            HEX,
            &long_tag,
            &long_name,
        ] {
            // "a.b" alone is a valid short name: the dot makes a host only before a slash
            if text == "a.b" {
                assert!(matches!(Name::parse(text).unwrap(), Name::Short(_)));
                continue;
            }
            assert!(Name::parse(text).is_err(), "{text}");
        }
        assert!(Reference::parse("debian").is_err());
    }

    #[test]
    fn parsing_what_was_formatted_gives_the_same() {
        for text in [
            "a",
            "a/b:c",
            "x.y/z",
            "localhost/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            match Name::parse(text).unwrap() {
                Name::Full(reference) => {
                    assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference)
                }
                Name::Short(short) => assert_eq!(short.to_string(), text),
            }
        }
    }
}
