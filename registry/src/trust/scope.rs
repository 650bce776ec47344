//! Where an image comes from, in the words of a policy: a transport, and scopes from the narrowest to the widest.

use crate::Reference;
use std::path::Path;

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `docker`, `dir`, `oci`, `oci-archive`, `docker-archive`, `tarball`; empty = none that a policy knows.
    pub(super) transport: &'static str,
    /// Narrowest first.
    pub(super) scopes: Vec<String>,
    /// The name that signatures are compared with, where the transport gives one.
    pub(super) reference: Option<Reference>,
}

impl Origin {
    /// A name in a registry.
    pub fn registry(reference: &Reference) -> Self {
        // where a name has both, the digest is what is asked for
        let reference = match reference.digest() {
            Some(digest) => reference.with_digest(digest.clone()),
            None => reference.clone().with_default_tag(),
        };
        let mut scopes = vec![reference.to_string()];
        scopes.extend(namespaces(&reference));
        Self { transport: "docker", scopes, reference: Some(reference) }
    }

    /// A file or directory, with the image's name within it; `transport` is `dir`, `oci` or `oci-archive`.
    pub fn path(transport: &'static str, path: &Path, name: Option<&str>) -> Self {
        // links are followed: a scope speaks of places
        let real = path.canonicalize().or_else(|_| std::path::absolute(path));
        let real = real.unwrap_or_else(|_| path.to_owned());
        let text = real.to_string_lossy().into_owned();
        let mut scopes = Vec::new();
        scopes.extend(name.map(|name| format!("{text}:{name}")));
        let mut rest = text.as_str();
        while !rest.is_empty() {
            scopes.push(rest.to_owned());
            rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        Self { transport, scopes, reference: None }
    }

    /// A transport that has no scopes but the empty one.
    pub fn unscoped(transport: &'static str) -> Self {
        Self { transport, scopes: Vec::new(), reference: None }
    }
}

/// What contains a name: its repository, the namespaces above it, the registry, and `*.DOMAIN` for each domain above
/// the registry's host.
pub(super) fn namespaces(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut found = Vec::new();
    let mut rest = name.as_str();
    loop {
        found.push(rest.to_owned());
        let Some((parent, _)) = rest.rsplit_once('/') else { break };
        rest = parent;
    }
    let host = reference.registry();
    let mut host = host.split_once(':').map_or(host, |(host, _)| host);
    while let Some((_, domain)) = host.split_once('.') {
        found.push(format!("*.{domain}"));
        host = domain;
    }
    found
}

/// Whether a policy may name this scope of this transport.
pub(super) fn check_scope(transport: &str, scope: &str) -> Result<(), &'static str> {
    if scope.is_empty() {
        return Ok(());
    }
    match transport {
        "docker-archive" | "tarball" => Err("this transport has no scopes but the empty one"),
        "dir" | "oci" | "oci-archive" => {
            if !scope.starts_with('/') {
                return Err("it must be an absolute path");
            }
            if scope == "/" {
                return Err("use the empty scope for all paths");
            }
            let plain = scope[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
            if plain { Ok(()) } else { Err("it must have no empty parts, no . and no ..") }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scopes_of_names_grow() {
        let of = |text: &str| Origin::registry(&Reference::parse(text).unwrap()).scopes;
        assert_eq!(
            of("a.b.example:5000/ns/repo:1"),
            [
                "a.b.example:5000/ns/repo:1",
                "a.b.example:5000/ns/repo",
                "a.b.example:5000/ns",
                "a.b.example:5000",
                "*.b.example",
                "*.example"
            ]
        );
        assert_eq!(of("docker.io/busybox")[0], "docker.io/library/busybox:latest");
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(of(&format!("localhost/x:1@{digest}"))[0], format!("localhost/x@{digest}"));
    }

    #[test]
    fn scopes_of_paths_grow_and_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        std::fs::create_dir(real.join("image")).unwrap();
        let scopes = Origin::path("oci", &real.join("link/image"), Some("1.0")).scopes;
        assert_eq!(scopes[0], format!("{}/image:1.0", real.display()));
        assert_eq!(scopes[1], format!("{}/image", real.display()));
        assert_eq!(scopes[2], real.display().to_string());
        assert!(!scopes.iter().any(|scope| scope == "/" || scope.is_empty()));
    }

    #[test]
    fn scopes_of_a_policy_are_checked() {
        assert!(check_scope("dir", "/a/b").is_ok());
        for bad in ["a", "/", "/a/", "/a/../b", "/a//b"] {
            assert!(check_scope("oci", bad).is_err(), "{bad}");
        }
        assert!(check_scope("docker-archive", "/a").is_err());
        assert!(check_scope("docker", "anything").is_ok());
    }
}
