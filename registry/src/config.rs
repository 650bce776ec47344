//! `registries.conf`, version 2: which registries are insecure, blocked or mirrored, and where short names lead.
//!
//! The paths come from the caller, who knows the environment. Mirrors and rewriting concern pulls alone; the name of
//! an image never changes by them.

use crate::reference::is_registry;
use crate::{Error, Reference, Result, ShortName, files};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most bytes that one configuration file may have.
const MAX_FILE: u64 = 4 << 20;

/// Where the configuration lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesPaths {
    /// The main file; it need not exist.
    pub file: Option<PathBuf>,
    /// Directories of `*.conf` drop-ins, in order; later ones win.
    pub drop_ins: Vec<PathBuf>,
    /// The machine's own alias file, which wins over all `[aliases]`.
    pub aliases: Option<PathBuf>,
}

/// What is done with a short name that several registries could have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShortNameMode {
    /// Ask on a terminal; elsewhere only a single choice is allowed.
    Enforcing,
    /// Ask on a terminal; elsewhere try all.
    #[default]
    Permissive,
    /// Try all.
    Disabled,
}

/// For which pulls a mirror is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullFromMirror {
    /// All.
    #[default]
    All,
    /// Those by digest.
    DigestOnly,
    /// Those by tag.
    TagOnly,
}

/// A mirror of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mirror {
    /// Host with port and path, which replaces the matched prefix.
    pub location: String,
    /// Whether TLS is not verified and plain HTTP is allowed.
    #[serde(default)]
    pub insecure: bool,
    /// For which pulls it is used.
    #[serde(default)]
    pub pull_from_mirror: PullFromMirror,
}

/// One `[[registry]]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Registry {
    /// What it applies to: host, `host/namespace`, repository, `repository:tag`, or `*.domain`.
    #[serde(default)]
    pub prefix: String,
    /// What replaces the prefix; empty = nothing is replaced.
    #[serde(default)]
    pub location: String,
    /// Whether TLS is not verified and plain HTTP is allowed.
    #[serde(default)]
    pub insecure: bool,
    /// Whether pulls are refused.
    #[serde(default)]
    pub blocked: bool,
    /// Whether mirrors are used for pulls by digest alone.
    #[serde(default)]
    pub mirror_by_digest_only: bool,
    /// Mirrors, in order.
    #[serde(default, rename = "mirror")]
    pub mirrors: Vec<Mirror>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    credential_helpers: Option<Vec<String>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    registry: Option<Vec<Registry>>,
    registries: Option<VersionOne>,
}

#[derive(Debug, Default, Deserialize)]
struct VersionOne {
    search: Option<VersionOneList>,
    insecure: Option<VersionOneList>,
    block: Option<VersionOneList>,
}

#[derive(Debug, Default, Deserialize)]
struct VersionOneList {
    #[serde(default)]
    registries: Vec<String>,
}

/// The merged configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    search: Vec<String>,
    mode: ShortNameMode,
    helpers: Vec<String>,
    aliases: BTreeMap<String, String>,
    registries: BTreeMap<String, Registry>,
    extra_insecure: Vec<String>,
    source: String,
}

/// One place to pull from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name to ask this place for.
    pub reference: Reference,
    /// Whether TLS is not verified and plain HTTP is allowed.
    pub insecure: bool,
    /// Whether it is a mirror.
    pub mirror: bool,
}

impl Registries {
    /// Reads and merges the files.
    pub fn load(paths: &RegistriesPaths) -> Result<Self> {
        let mut merged = Self::default();
        if let Some(path) = &paths.file {
            merged.source = path.display().to_string();
            merged.merge_file(path)?;
        }
        for directory in &paths.drop_ins {
            for path in drop_ins(directory)? {
                merged.merge_file(&path)?;
            }
        }
        if let Some(path) = &paths.aliases
            && let Some(file) = read(path)?
        {
            merged.merge_aliases(file.aliases);
        }
        Ok(merged)
    }

    /// Parses one text; `source` names it in messages.
    pub fn parse(text: &str, source: &str) -> Result<Self> {
        let mut parsed = Self { source: source.to_owned(), ..Self::default() };
        parsed.merge(parse(text, source)?, source)?;
        Ok(parsed)
    }

    /// Marks a host as insecure, as an option on the command line does.
    pub fn add_insecure(&mut self, host: impl Into<String>) {
        self.extra_insecure.push(host.into());
    }

    fn merge_file(&mut self, path: &Path) -> Result<()> {
        match read(path)? {
            Some(file) => self.merge(file, &path.display().to_string()),
            None => Ok(()),
        }
    }

    fn merge(&mut self, file: File, source: &str) -> Result<()> {
        let invalid = |message: String| Err(Error::Config { path: source.to_owned(), message });
        let has_version_two = file.registry.is_some() || file.unqualified_search_registries.is_some();
        if let Some(old) = file.registries {
            if has_version_two {
                return invalid(
                    "version 1 ([registries.search]) and version 2 keys must not be mixed".into(),
                );
            }
            self.merge_version_one(old);
        }
        if let Some(search) = file.unqualified_search_registries {
            for registry in &search {
                if !is_registry(registry.split('/').next().unwrap_or_default()) {
                    return invalid(format!("unqualified-search-registries: {registry:?} is no registry"));
                }
            }
            self.search = search;
            self.source = source.to_owned();
        }
        match file.short_name_mode.as_deref() {
            None | Some("") => {}
            Some("enforcing") => self.mode = ShortNameMode::Enforcing,
            Some("permissive") => self.mode = ShortNameMode::Permissive,
            Some("disabled") => self.mode = ShortNameMode::Disabled,
            Some(other) => return invalid(format!("short-name-mode: {other:?} is not known")),
        }
        if let Some(helpers) = file.credential_helpers {
            self.helpers = helpers;
        }
        self.merge_aliases(file.aliases);
        for mut registry in file.registry.unwrap_or_default() {
            registry.location = registry.location.trim_end_matches('/').to_owned();
            registry.prefix = registry.prefix.trim_end_matches('/').to_owned();
            if registry.prefix.is_empty() {
                if registry.location.is_empty() {
                    return invalid("a [[registry]] has neither prefix nor location".into());
                }
                registry.prefix.clone_from(&registry.location);
            }
            let wildcard = registry.prefix.starts_with("*.");
            if registry.location.is_empty() && !wildcard {
                return invalid(format!("[[registry]] {}: location is missing", registry.prefix));
            }
            if registry.prefix.contains("://") || registry.location.contains("://") {
                return invalid(format!("[[registry]] {}: a scheme is not allowed", registry.prefix));
            }
            if registry.mirror_by_digest_only
                && registry.mirrors.iter().any(|mirror| mirror.pull_from_mirror != PullFromMirror::All)
            {
                return invalid(format!(
                    "[[registry]] {}: mirror-by-digest-only and pull-from-mirror exclude each other",
                    registry.prefix
                ));
            }
            for mirror in &mut registry.mirrors {
                mirror.location = mirror.location.trim_end_matches('/').to_owned();
                if mirror.location.is_empty() {
                    return invalid(format!("[[registry]] {}: a mirror has no location", registry.prefix));
                }
            }
            self.registries.insert(registry.prefix.clone(), registry);
        }
        Ok(())
    }

    fn merge_version_one(&mut self, old: VersionOne) {
        if let Some(list) = old.search {
            self.search = list.registries;
        }
        let table = |registries: &mut BTreeMap<String, Registry>, host: &str| {
            registries.entry(host.to_owned()).or_insert_with(|| Registry {
                prefix: host.to_owned(),
                location: host.to_owned(),
                ..Registry::default()
            });
        };
        for host in old.insecure.map(|list| list.registries).unwrap_or_default() {
            table(&mut self.registries, &host);
            self.registries.entry(host).and_modify(|registry| registry.insecure = true);
        }
        for host in old.block.map(|list| list.registries).unwrap_or_default() {
            table(&mut self.registries, &host);
            self.registries.entry(host).and_modify(|registry| registry.blocked = true);
        }
    }

    fn merge_aliases(&mut self, aliases: BTreeMap<String, String>) {
        for (name, target) in aliases {
            // an empty target takes away an alias of an earlier file
            if target.is_empty() {
                self.aliases.remove(&name);
            } else {
                self.aliases.insert(name, target);
            }
        }
    }

    /// `unqualified-search-registries`.
    pub fn search_registries(&self) -> &[String] {
        &self.search
    }

    /// `short-name-mode`.
    pub fn short_name_mode(&self) -> ShortNameMode {
        self.mode
    }

    /// `credential-helpers`.
    pub fn credential_helpers(&self) -> &[String] {
        &self.helpers
    }

    /// The table whose prefix matches best.
    pub fn find(&self, reference: &Reference) -> Option<&Registry> {
        self.registries
            .values()
            .filter_map(|registry| Some((matched(&registry.prefix, reference)?, registry)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, registry)| registry)
    }

    /// Whether the registry of a name may be spoken to without verified TLS, or in plain HTTP.
    pub fn is_insecure(&self, reference: &Reference) -> bool {
        self.extra_insecure.iter().any(|host| host == reference.registry())
            || self.find(reference).is_some_and(|registry| registry.insecure)
    }

    /// The places to pull a name from, in order: mirrors, then the registry itself.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let own = |insecure| Endpoint { reference: reference.clone(), insecure, mirror: false };
        let Some(registry) = self.find(reference) else {
            return Ok(vec![own(self.is_insecure(reference))]);
        };
        if registry.blocked {
            return Err(self.blocked(reference));
        }
        let mut endpoints = Vec::new();
        for mirror in &registry.mirrors {
            let by_digest = reference.digest().is_some();
            let wanted = match mirror.pull_from_mirror {
                PullFromMirror::All => by_digest || !registry.mirror_by_digest_only,
                PullFromMirror::DigestOnly => by_digest,
                PullFromMirror::TagOnly => !by_digest,
            };
            if !wanted {
                continue;
            }
            let rewritten = self.rewrite(reference, &registry.prefix, &mirror.location)?;
            if self.find(&rewritten).is_some_and(|other| other.blocked) {
                return Err(self.blocked(&rewritten));
            }
            endpoints.push(Endpoint { reference: rewritten, insecure: mirror.insecure, mirror: true });
        }
        let mut last = own(self.is_insecure(reference));
        if !registry.location.is_empty() && registry.location != registry.prefix {
            last.reference = self.rewrite(reference, &registry.prefix, &registry.location)?;
        }
        endpoints.push(last);
        Ok(endpoints)
    }

    fn blocked(&self, reference: &Reference) -> Error {
        Error::Blocked { reference: reference.to_string(), file: self.source.clone() }
    }

    fn rewrite(&self, reference: &Reference, prefix: &str, location: &str) -> Result<Reference> {
        let full = reference.to_string();
        let rest = if prefix.starts_with("*.") {
            &full[reference.registry().len()..]
        } else {
            full.get(prefix.len()..).unwrap_or_default()
        };
        Reference::parse(&format!("{location}{rest}")).map_err(|_| Error::Config {
            path: self.source.clone(),
            message: format!("{full}: {location}{rest} after rewriting is no valid name"),
        })
    }

    /// The full names that a short name may stand for, in order: its alias alone, else one for each search registry.
    pub fn resolve(&self, short: &ShortName) -> Result<Vec<Reference>> {
        if let Some(target) = self.aliases.get(short.path()) {
            let bad = || Error::Config {
                path: self.source.clone(),
                message: format!("alias {}: {target:?} is no full name", short.path()),
            };
            let mut reference = Reference::parse(target).map_err(|_| bad())?;
            if let Some(tag) = short.tag() {
                reference = reference.with_tag(tag)?;
            }
            if let Some(digest) = short.digest() {
                reference = reference.with_digest(digest.clone());
            }
            return Ok(vec![reference]);
        }
        if self.search.is_empty() {
            let file = if self.source.is_empty() { "registries.conf" } else { &self.source };
            return Err(Error::ShortName { name: short.to_string(), file: file.to_owned() });
        }
        self.search.iter().map(|registry| short.in_registry(registry)).collect()
    }
}

/// Number of characters of the prefix that match, at a separator.
fn matched(prefix: &str, reference: &Reference) -> Option<usize> {
    let full = reference.to_string();
    if let Some(domain) = prefix.strip_prefix('*') {
        let (pattern_host, pattern_path) = match domain.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (domain, None),
        };
        // with a path there would be no telling what is replaced
        let hit = pattern_path.is_none()
            && reference.registry().len() > pattern_host.len()
            && reference.registry().split(':').next().unwrap_or_default().ends_with(pattern_host);
        return hit.then_some(pattern_host.len());
    }
    let rest = full.strip_prefix(prefix)?;
    // "host" must not match "host:5000"; a port is part of the host
    let at_host_end = prefix.len() == reference.registry().len();
    let boundary = match rest.chars().next() {
        None | Some('/') | Some('@') => true,
        Some(':') => prefix.len() > reference.registry().len() || (at_host_end && !prefix.contains(':')),
        _ => false,
    };
    (boundary && prefix.len() >= reference.registry().len()).then_some(prefix.len())
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::File { operation: "read directory", path: directory.into(), source });
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("read directory", directory))?.path();
        if path.extension().is_some_and(|extension| extension == "conf") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Option<File>> {
    let Some(bytes) = files::read_optional(path, MAX_FILE)? else { return Ok(None) };
    let source = path.display().to_string();
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::Config { path: source.clone(), message: "not UTF-8 text".into() })?;
    parse(&text, &source).map(Some)
}

fn parse(text: &str, source: &str) -> Result<File> {
    toml::from_str(text)
        .map_err(|error| Error::Config { path: source.to_owned(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Name;

    fn reference(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn short(text: &str) -> ShortName {
        match Name::parse(text).unwrap() {
            Name::Short(short) => short,
            Name::Full(full) => panic!("{full} is not short"),
        }
    }

    const CONF: &str = r#"
        unqualified-search-registries = ["quay.io", "docker.io"]
        short-name-mode = "disabled"
        [aliases]
        "debian" = "docker.io/library/debian"
        [[registry]]
        location = "plain.example:5000"
        insecure = true
        [[registry]]
        prefix = "docker.io"
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub"
        insecure = true
        [[registry.mirror]]
        location = "second.example"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "moved.example/old"
        location = "new.example/fresh"
        [[registry]]
        prefix = "bad.example"
        location = "bad.example"
        blocked = true
        [[registry]]
        prefix = "*.corp.example"
        insecure = true
    "#;

    fn places(config: &Registries, text: &str) -> Vec<String> {
        config
            .endpoints(&reference(text))
            .unwrap()
            .iter()
            .map(|endpoint| endpoint.reference.to_string())
            .collect()
    }

    #[test]
    fn mirrors_come_first_and_names_are_rewritten() {
        let config = Registries::parse(CONF, "test.conf").unwrap();
        assert_eq!(
            places(&config, "docker.io/library/debian:12"),
            ["mirror.example/hub/library/debian:12", "docker.io/library/debian:12"]
        );
        let digest = format!("docker.io/a/b@{}", oci::Digest::of(b""));
        assert_eq!(places(&config, &digest).len(), 3);
        assert_eq!(places(&config, "moved.example/old/x:1"), ["new.example/fresh/x:1"]);
        assert_eq!(places(&config, "moved.example/older/x"), ["moved.example/older/x"]);
        assert!(matches!(config.endpoints(&reference("bad.example/x")), Err(Error::Blocked { .. })));
        let endpoints = config.endpoints(&reference("docker.io/a/b")).unwrap();
        assert!(endpoints[0].insecure && endpoints[0].mirror && !endpoints[1].insecure);
    }

    #[test]
    fn insecure_registries() {
        let mut config = Registries::parse(CONF, "test.conf").unwrap();
        assert!(config.is_insecure(&reference("plain.example:5000/x")));
        assert!(!config.is_insecure(&reference("plain.example/x")));
        assert!(!config.is_insecure(&reference("plain.example:50001/x")));
        assert!(config.is_insecure(&reference("a.corp.example/x")));
        assert!(config.is_insecure(&reference("a.b.corp.example:443/x")));
        assert!(!config.is_insecure(&reference("evilcorp.example/x")));
        assert!(!config.is_insecure(&reference("localhost:5000/x")));
        config.add_insecure("localhost:5000");
        assert!(config.is_insecure(&reference("localhost:5000/x")));
        assert_eq!(config.endpoints(&reference("localhost:5000/x")).unwrap().len(), 1);
        assert!(config.endpoints(&reference("localhost:5000/x")).unwrap()[0].insecure);
    }

    #[test]
    fn short_names() {
        let config = Registries::parse(CONF, "test.conf").unwrap();
        let names =
            |text| config.resolve(&short(text)).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("debian:12"), ["docker.io/library/debian:12"]);
        assert_eq!(names("x/y:1"), ["quay.io/x/y:1", "docker.io/x/y:1"]);
        assert_eq!(names("alpine"), ["quay.io/alpine", "docker.io/library/alpine"]);
        let error = Registries::parse("", "empty.conf").unwrap().resolve(&short("x")).unwrap_err();
        assert!(error.to_string().contains("empty.conf"), "{error}");
    }

    #[test]
    fn drop_ins_replace() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("registries.conf");
        std::fs::write(&main, CONF).unwrap();
        let drop_in = dir.path().join("registries.conf.d");
        std::fs::create_dir(&drop_in).unwrap();
        std::fs::write(drop_in.join("10-a.conf"), "unqualified-search-registries = [\"x.example\"]").unwrap();
        std::fs::write(
            drop_in.join("20-b.conf"),
            "[[registry]]\nlocation = \"plain.example:5000\"\n[aliases]\ndebian = \"\"",
        )
        .unwrap();
        std::fs::write(drop_in.join("ignored.txt"), "not toml [").unwrap();
        let paths = RegistriesPaths {
            file: Some(main),
            drop_ins: vec![drop_in, dir.path().join("missing")],
            aliases: Some(dir.path().join("missing")),
        };
        let config = Registries::load(&paths).unwrap();
        assert_eq!(config.search_registries(), ["x.example"]);
        assert!(!config.is_insecure(&reference("plain.example:5000/x")));
        assert_eq!(config.resolve(&short("debian")).unwrap()[0].to_string(), "x.example/debian");
    }

    #[test]
    fn version_one_and_mistakes() {
        let old = Registries::parse(
            "[registries.search]\nregistries=[\"a.example\"]\n[registries.insecure]\nregistries=[\"b.example\"]\n[registries.block]\nregistries=[\"c.example\"]",
            "old.conf",
        )
        .unwrap();
        assert_eq!(old.search_registries(), ["a.example"]);
        assert!(old.is_insecure(&reference("b.example/x")));
        assert!(old.endpoints(&reference("c.example/x")).is_err());
        for text in [
            "[[registry]]\nprefix=\"a.b\"",
            "[[registry]]\n",
            "[[registry]]\nlocation=\"https://a.b\"",
            "unqualified-search-registries=[\"a b\"]",
            "short-name-mode=\"x\"",
            "unqualified-search-registries=[\"a.b\"]\n[registries.search]\nregistries=[]",
            "not toml",
        ] {
            assert!(Registries::parse(text, "x").is_err(), "{text}");
        }
    }
}
