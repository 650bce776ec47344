//! Where a cache lies, as `--cache-from` and `--cache-to` say it.

use crate::images::RegistryOptions;
use crate::{Engine, Error, Result};
use registry::transport::{LayoutDestination, LayoutSource, RemoteDestination, RemoteSource, Selector};
use registry::{Destination, Reference, Source};
use std::path::{Path, PathBuf};

/// Tag of a cache whose repository is named without one.
const DEFAULT_TAG: &str = "buildcache";

/// A cache to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    pub(super) place: Place,
    /// Where else it may be: an image that a repository's name alone means for Docker.
    pub(super) otherwise: Option<Place>,
}

/// A cache to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    pub(super) place: Place,
    /// Which results.
    pub mode: CacheMode,
    /// Cache mounts that travel too, by name; `*` is all of the build.
    pub mounts: Vec<String>,
    /// Whether a failure is only a warning.
    pub ignore_error: bool,
}

/// Which results a cache gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those that the image is made of.
    #[default]
    Min,
    /// All.
    Max,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Registry(Reference),
    Layout { path: PathBuf, tag: String },
    Inline,
}

/// `NAME=VALUE,..` as a list; without any `=` it is one name of a repository.
fn options(flag: &str, text: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((name, value)) => found.push((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
            None if !text.contains('=') => found.push(("ref".to_owned(), part.to_owned())),
            None => return Err(Error::invalid(format!("{flag} {text}"), format!("{part:?} has no value"))),
        }
    }
    Ok(found)
}

fn switch(flag: &str, name: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::invalid(format!("{flag} {name}={value}"), "it is neither true nor false")),
    }
}

fn reference(flag: &str, text: &str) -> Result<Reference> {
    let named = Reference::parse(text).or_else(|_| Reference::parse_docker(text));
    let reference = named.map_err(crate::error::registry(format!("read {flag} {text}")))?;
    if reference.tag().is_none() && reference.digest().is_none() {
        return reference
            .with_tag(DEFAULT_TAG)
            .map_err(crate::error::registry(format!("read {flag} {text}")));
    }
    Ok(reference)
}

/// The kind of a cache: the `type`, or a registry where none is given.
fn kind(options: &[(String, String)]) -> &str {
    options.iter().find(|(name, _)| name == "type").map_or("registry", |(_, value)| value)
}

fn required<'a>(flag: &str, kind: &str, name: &str, options: &'a [(String, String)]) -> Result<&'a str> {
    let found = options.iter().find(|(option, value)| option == name && !value.is_empty());
    found
        .map(|(_, value)| value.as_str())
        .ok_or_else(|| Error::invalid(format!("{flag} type={kind}"), format!("it needs {name}=..")))
}

fn unknown(flag: &str, kind: &str, name: &str) -> Error {
    Error::unsupported(format!("{flag} type={kind},{name}=.."), "the option is not known")
}

fn unknown_kind(flag: &str, kind: &str) -> Error {
    Error::unsupported(format!("{flag} type={kind}"), "use registry, local or inline")
}

impl CacheFrom {
    /// Reads `REPOSITORY[:TAG]`, `type=registry,ref=REFERENCE` or `type=local,src=DIRECTORY[,tag=TAG]`.
    pub fn parse(text: &str, here: &Path) -> Result<Self> {
        const FLAG: &str = "--cache-from";
        let options = options(FLAG, text)?;
        let kind = kind(&options);
        let mut otherwise = None;
        let place = match kind {
            // an image with an inline cache is found like any other cache
            "registry" | "inline" => {
                for (name, _) in &options {
                    if !matches!(name.as_str(), "type" | "ref") {
                        return Err(unknown(FLAG, kind, name));
                    }
                }
                let name = required(FLAG, kind, "ref", &options)?;
                let place = reference(FLAG, name)?;
                if !text.contains('=') && !text.contains('@') && place.tag() == Some(DEFAULT_TAG) {
                    otherwise = place.with_tag("latest").ok().map(Place::Registry);
                }
                Place::Registry(place)
            }
            "local" => {
                let mut tag = "latest".to_owned();
                for (name, value) in &options {
                    match name.as_str() {
                        "type" | "src" => {}
                        "tag" => tag.clone_from(value),
                        _ => return Err(unknown(FLAG, kind, name)),
                    }
                }
                Place::Layout { path: here.join(required(FLAG, kind, "src", &options)?), tag }
            }
            other => return Err(unknown_kind(FLAG, other)),
        };
        Ok(Self { place, otherwise })
    }
}

impl CacheTo {
    /// Reads `REPOSITORY[:TAG]`, `type=registry,ref=REFERENCE`, `type=local,dest=DIRECTORY[,tag=TAG]` or `type=inline`;
    /// the first three with `mode=min|max`, `mounts=NAME:NAME..` and `ignore-error=true`.
    pub fn parse(text: &str, here: &Path) -> Result<Self> {
        const FLAG: &str = "--cache-to";
        let options = options(FLAG, text)?;
        let kind = kind(&options).to_owned();
        let mut to =
            Self { place: Place::Inline, mode: CacheMode::Min, mounts: Vec::new(), ignore_error: false };
        let mut tag = "latest".to_owned();
        for (name, value) in &options {
            match (name.as_str(), kind.as_str()) {
                ("type", _) | ("ref", "registry") | ("dest", "local") => {}
                ("tag", "local") => tag.clone_from(value),
                ("mode", "registry" | "local") => {
                    to.mode = match value.as_str() {
                        "min" => CacheMode::Min,
                        "max" => CacheMode::Max,
                        _ => {
                            return Err(Error::invalid(
                                format!("{FLAG} mode={value}"),
                                "it is neither min nor max",
                            ));
                        }
                    }
                }
                ("mounts", "registry" | "local") => {
                    to.mounts = value.split(':').filter(|id| !id.is_empty()).map(str::to_owned).collect();
                }
                ("ignore-error", _) => to.ignore_error = switch(FLAG, name, value)?,
                // the form that is always written
                ("oci-mediatypes" | "image-manifest", "registry" | "local") => {
                    if !switch(FLAG, name, value)? {
                        return Err(Error::unsupported(
                            format!("{FLAG} {name}=false"),
                            "caches are OCI manifests",
                        ));
                    }
                }
                ("compression", "registry" | "local") if value == "gzip" => {}
                _ => return Err(unknown(FLAG, &kind, name)),
            }
        }
        to.place = match kind.as_str() {
            "registry" => Place::Registry(reference(FLAG, required(FLAG, &kind, "ref", &options)?)?),
            "local" => Place::Layout { path: here.join(required(FLAG, &kind, "dest", &options)?), tag },
            "inline" => Place::Inline,
            other => return Err(unknown_kind(FLAG, other)),
        };
        Ok(to)
    }

    /// Whether the image's config gets the cache.
    pub(crate) fn is_inline(&self) -> bool {
        self.place == Place::Inline
    }
}

impl Place {
    pub(super) fn describe(&self) -> String {
        match self {
            Place::Registry(reference) => reference.to_string(),
            Place::Layout { path, tag } => format!("{}:{tag}", path.display()),
            Place::Inline => "the image".to_owned(),
        }
    }

    /// Opens the place to read; `None` where nothing can be there.
    pub(super) fn source(
        &self,
        engine: &Engine,
        options: &RegistryOptions,
    ) -> Result<Option<Box<dyn Source>>> {
        let failed = || crate::error::registry(format!("open the cache {}", self.describe()));
        Ok(match self {
            Place::Registry(reference) => {
                let client = engine.client(options)?;
                Some(Box::new(RemoteSource::new(&client, reference).map_err(failed())?))
            }
            Place::Layout { path, tag } => {
                if !path.join("index.json").exists() {
                    return Ok(None);
                }
                Some(Box::new(LayoutSource::open(path, &Selector::Name(tag.clone())).map_err(failed())?))
            }
            Place::Inline => None,
        })
    }

    /// Opens the place to write.
    pub(super) fn destination(
        &self,
        engine: &Engine,
        options: &RegistryOptions,
    ) -> Result<Option<Box<dyn Destination>>> {
        let failed = || crate::error::registry(format!("open the cache {}", self.describe()));
        Ok(match self {
            Place::Registry(reference) => {
                let client = engine.client(options)?;
                Some(Box::new(RemoteDestination::new(&client, reference)))
            }
            Place::Layout { path, tag } => {
                Some(Box::new(LayoutDestination::create(path, Some(tag)).map_err(failed())?))
            }
            Place::Inline => None,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_form_is_read() {
        let here = Path::new("/here");
        let to = |text: &str| CacheTo::parse(text, here);
        let from = |text: &str| CacheFrom::parse(text, here);
        let plain = to("reg.example:5000/a/b").unwrap();
        assert_eq!(plain.place.describe(), "reg.example:5000/a/b:buildcache");
        assert_eq!(from("reg.example:5000/a/b").unwrap().place, plain.place);
        assert_eq!(from("reg.example/a:1").unwrap().place.describe(), "reg.example/a:1");
        let full = to("type=registry,ref=reg.example/a:c,mode=max,mounts=apt:pip,ignore-error=true").unwrap();
        assert_eq!((full.mode, full.mounts.len(), full.ignore_error), (CacheMode::Max, 2, true));
        let local = to("type=local,dest=cache,mode=max").unwrap();
        assert_eq!(local.place, from("type=local,src=cache").unwrap().place);
        assert_eq!(local.place.describe(), "/here/cache:latest");
        assert!(to("type=inline").unwrap().is_inline());
        for wrong in [
            "type=gha",
            "type=local",
            "type=registry",
            "ref=a,mode=some",
            "type=inline,mode=max",
            "ref=a,x=y",
            "type=local,dest",
        ] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
        assert!(from("type=s3,bucket=x").is_err());
        assert!(from("type=local,dest=x").is_err());
    }
}
