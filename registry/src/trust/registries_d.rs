//! `registries.d`: where the signatures of images in registries lie.
//!
//! Each `*.yaml` of the directory has `default-docker` and `docker` with settings by scope. A setting comes from the narrowest
//! scope that has it, then from `default-docker`; none stands in two files.

use super::json::shorten;
use super::scope::Origin;
use crate::{Error, Reference, Result, files};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most bytes of one file.
const MAX_FILE: u64 = 4 << 20;

/// Where signatures are configured and, without any configuration, kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignaturePaths {
    /// The directory of `*.yaml`; it need not exist.
    pub registries_d: Option<PathBuf>,
    /// Directory for simple signatures where nothing else is said.
    pub lookaside: Option<PathBuf>,
}

/// Settings of one scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Namespace {
    /// Where simple signatures are read, and written if there is no other place.
    pub lookaside: Option<String>,
    /// Where they are written.
    pub lookaside_staging: Option<String>,
    /// The old name of `lookaside`.
    sigstore: Option<String>,
    /// The old name of `lookaside-staging`.
    sigstore_staging: Option<String>,
    /// Whether sigstore signatures are kept beside the image in its registry.
    pub use_sigstore_attachments: Option<bool>,
}

impl Namespace {
    /// Where simple signatures are read.
    pub fn reading(&self) -> Option<&str> {
        [&self.lookaside, &self.sigstore]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .find(|url| !url.is_empty())
    }

    fn writing(&self) -> Option<&str> {
        let staging = [&self.lookaside_staging, &self.sigstore_staging];
        let found = staging.into_iter().flatten().map(String::as_str).find(|url| !url.is_empty());
        found.or_else(|| self.reading())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(rename = "default-docker")]
    default_docker: Option<Namespace>,
    docker: Option<BTreeMap<String, Option<Namespace>>>,
}

/// The merged files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignatureConfig {
    default: Option<(Namespace, String)>,
    docker: BTreeMap<String, (Namespace, String)>,
    lookaside: Option<PathBuf>,
}

impl SignatureConfig {
    /// Reads the directory.
    pub fn load(paths: &SignaturePaths) -> Result<Self> {
        let mut merged = Self { lookaside: paths.lookaside.clone(), ..Self::default() };
        let Some(directory) = &paths.registries_d else { return Ok(merged) };
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(merged),
            Err(error) => return Err(Error::file("read directory", directory)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::file("read directory", directory))?.path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                names.push(path);
            }
        }
        names.sort();
        for path in names {
            merged.merge(&files::read(&path, MAX_FILE)?, &path.display().to_string())?;
        }
        Ok(merged)
    }

    /// Takes one file in; `source` names it in messages.
    pub fn merge(&mut self, bytes: &[u8], source: &str) -> Result<()> {
        let invalid = |message: String| Error::Config { path: source.to_owned(), message };
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is no text".to_owned()))?;
        let empty = text.lines().all(|line| matches!(line.trim().chars().next(), None | Some('#')));
        if empty {
            return Ok(());
        }
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| invalid(shorten(&error.to_string())))?;
        if let Some(namespace) = document.default_docker {
            if let Some((_, other)) = &self.default {
                return Err(invalid(format!("default-docker stands in {other}, too")));
            }
            self.default = Some((namespace, source.to_owned()));
        }
        for (scope, namespace) in document.docker.unwrap_or_default() {
            if let Some((_, other)) = self.docker.get(&scope) {
                return Err(invalid(format!("docker: {:?} stands in {other}, too", shorten(&scope))));
            }
            self.docker.insert(scope, (namespace.unwrap_or_default(), source.to_owned()));
        }
        Ok(())
    }

    /// What applies to a name, narrowest first.
    fn of(&self, reference: &Reference) -> impl Iterator<Item = &Namespace> {
        let scopes = Origin::registry(reference).scopes;
        let own: Vec<_> = scopes.iter().filter_map(|scope| self.docker.get(scope)).collect();
        own.into_iter().chain(&self.default).map(|(namespace, _)| namespace)
    }

    /// Whether sigstore signatures lie beside the image in its registry.
    pub fn attachments(&self, reference: &Reference) -> bool {
        self.of(reference).find_map(|namespace| namespace.use_sigstore_attachments).unwrap_or(false)
    }

    /// Where simple signatures of a name are read.
    pub fn reading(&self, reference: &Reference) -> Result<Option<Place>> {
        self.place(self.of(reference).find_map(Namespace::reading), reference)
    }

    /// Where simple signatures of a name are written.
    pub fn writing(&self, reference: &Reference) -> Result<Option<Place>> {
        self.place(self.of(reference).find_map(Namespace::writing), reference)
    }

    fn place(&self, url: Option<&str>, reference: &Reference) -> Result<Option<Place>> {
        match (url, &self.lookaside) {
            (Some(url), _) => Place::parse(url, reference).map(Some),
            (None, Some(directory)) => Ok(Some(Place::Directory(directory.join(reference.repository())))),
            (None, None) => Ok(None),
        }
    }

    /// The settings of the scope that is nearest to a scope of a policy.
    pub fn nearest(&self, scope: &str) -> Option<&Namespace> {
        let mut rest = scope;
        loop {
            if let Some((namespace, _)) = self.docker.get(rest) {
                return Some(namespace);
            }
            match rest.rsplit_once('/') {
                Some((parent, _)) => rest = parent,
                None => return self.default.as_ref().map(|(namespace, _)| namespace),
            }
        }
    }
}

/// Where the signatures of one repository lie; `@ALGORITHM=HEX/signature-N` follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path.
    Directory(PathBuf),
    /// An http or https address.
    Server(String),
}

impl Place {
    fn parse(url: &str, reference: &Reference) -> Result<Self> {
        let invalid = |message: &str| Error::Config {
            path: "registries.d".to_owned(),
            message: format!("lookaside {:?}: {message}", shorten(url)),
        };
        if url.contains(['?', '#', '%']) || url.contains(|c: char| c.is_control() || c == ' ') {
            return Err(invalid("it must be a plain address"));
        }
        let base = url.trim_end_matches('/');
        if let Some(path) = base.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(invalid("a file: address has three slashes"));
            }
            return Ok(Self::Directory(Path::new(path).join(reference.repository())));
        }
        if base.starts_with("http://") || base.starts_with("https://") {
            return Ok(Self::Server(format!("{base}/{}", reference.repository())));
        }
        Err(invalid("expected file:///PATH, http://.. or https://.."))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(texts: &[&str]) -> Result<SignatureConfig> {
        let mut config = SignatureConfig::default();
        for (at, text) in texts.iter().enumerate() {
            config.merge(text.as_bytes(), &format!("{at}.yaml"))?;
        }
        Ok(config)
    }

    #[test]
    fn the_narrowest_scope_that_says_something_counts() {
        let config = config(&[
            "# nothing\n",
            "default-docker:\n  lookaside: file:///default\n  use-sigstore-attachments: true\n",
            "docker:\n  r.example:\n    use-sigstore-attachments: false\n    lookaside-staging: file:///staging\n  r.example/a:\n    sigstore: https://s.example/x/\n",
        ])
        .unwrap();
        let name = |text: &str| Reference::parse(text).unwrap();
        assert!(config.attachments(&name("other.example/x")));
        assert!(!config.attachments(&name("r.example/a:1")));
        let at = |place: Result<Option<Place>>| place.unwrap().unwrap();
        assert_eq!(at(config.reading(&name("r.example/b/c"))), Place::Directory("/default/b/c".into()));
        assert_eq!(at(config.writing(&name("r.example/b"))), Place::Directory("/staging/b".into()));
        assert_eq!(at(config.reading(&name("r.example/a"))), Place::Server("https://s.example/x/a".into()));
        assert_eq!(config.nearest("r.example/a/b").unwrap().reading(), Some("https://s.example/x/"));
        assert_eq!(config.nearest("x.example").unwrap().reading(), Some("file:///default"));
    }

    #[test]
    fn nothing_stands_twice_and_addresses_are_plain() {
        assert!(config(&["default-docker: {}\n", "default-docker: {}\n"]).is_err());
        assert!(config(&["docker:\n  a: {}\n", "docker:\n  a: {}\n"]).is_err());
        assert!(config(&["docker: [\n"]).is_err());
        for bad in ["ftp://x", "file://x", "/x", "https://x/?a", "https://x/%2e"] {
            let config = config(&[&format!("default-docker:\n  lookaside: {bad}\n")]).unwrap();
            assert!(config.reading(&Reference::parse("r.example/a").unwrap()).is_err(), "{bad}");
        }
    }
}
