//! What a cache's config says: which keys have which layers.
//!
//! ```text
//! {"version":1,
//!  "layers":[{"parent":N?,"diffId":"sha256:..","blob":{descriptor}?,"created":".."}],
//!  "results":[["KEY",N]], "aliases":[["KEY","KEY"]], "mounts":[{"id":"..","index":{descriptor}}]}
//! ```
//! A layer's parent stands before it. One without a blob is a base image's: whoever imports has it already, or has no
//! hit. Nothing in it names the machine or the time of the export, so that an unchanged cache has an unchanged digest.

use crate::{Error, Result};
use builder::build::INLINE_CACHE;
use oci::{ChainId, Descriptor, DiffId, Digest, ImageConfig, Manifest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Media type of a cache's config.
pub(super) const CONFIG: &str = "application/vnd.davit.buildcache.config.v1+json";
/// Artifact type of a cache's manifest.
pub(super) const ARTIFACT: &str = "application/vnd.davit.buildcache.v1";
/// Largest config that is read, in bytes.
pub(super) const CONFIG_LIMIT: u64 = 32 << 20;
const VERSION: u32 = 1;

/// A cache's config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    pub(super) version: u32,
    pub(super) layers: Vec<LayerEntry>,
    pub(super) results: Vec<(Digest, usize)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<(Digest, Digest)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<MountEntry>,
}

/// A layer on those below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<usize>,
    pub(super) diff_id: DiffId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) blob: Option<Descriptor>,
    /// When it was first made: part of the images that are made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
}

/// A cache mount that travels along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MountEntry {
    pub(super) id: String,
    pub(super) index: Descriptor,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: VERSION,
            layers: Vec::new(),
            results: Vec::new(),
            aliases: Vec::new(),
            mounts: Vec::new(),
        }
    }
}

/// A config that was checked, to be asked.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) layers: Vec<LayerEntry>,
    /// Of each layer.
    pub(super) chains: Vec<ChainId>,
    results: HashMap<Digest, usize>,
    aliases: HashMap<Digest, Digest>,
    pub(super) mounts: Vec<MountEntry>,
}

impl Table {
    /// Reads a cache's config, whoever wrote it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let config: Config = serde_json::from_slice(bytes)
            .map_err(|error| Error::invalid("the config of a cache", error.to_string()))?;
        if config.version != VERSION {
            return Err(Error::unsupported(format!("build cache version {}", config.version), "it is newer"));
        }
        Self::new(config)
    }

    /// The cache in an image's own config.
    pub(super) fn inline(config: &ImageConfig, manifest: &Manifest) -> Result<Self> {
        let Some(value) = config.unknown.get(INLINE_CACHE) else { return Ok(Self::default()) };
        let entries: Vec<(Digest, serde_json::Value)> = serde_json::from_value(value.clone())
            .map_err(|error| Error::invalid("the cache of an image's config", error.to_string()))?;
        let mut times = config
            .history
            .iter()
            .filter(|entry| !entry.empty_layer)
            .map(|entry| entry.created.clone())
            .collect::<Vec<_>>();
        times.resize(config.diff_ids().len(), None);
        let layers = config.diff_ids().iter().zip(&manifest.layers).zip(times).enumerate();
        let layers = layers.map(|(position, ((diff_id, blob), created))| LayerEntry {
            parent: position.checked_sub(1),
            diff_id: diff_id.clone(),
            blob: Some(blob.clone()),
            created,
        });
        let mut found = Config { layers: layers.collect(), ..Config::default() };
        for (key, value) in entries {
            match value {
                serde_json::Value::Number(count) => {
                    let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
                    if let Some(top) = count.and_then(|count| count.checked_sub(1)) {
                        found.results.push((key, top));
                    }
                }
                serde_json::Value::String(text) => {
                    if let Ok(digest) = text.parse() {
                        found.aliases.push((key, digest));
                    }
                }
                _ => {}
            }
        }
        Self::new(found)
    }

    fn new(config: Config) -> Result<Self> {
        let wrong = |what: &str| Error::invalid("the config of a cache", what.to_owned());
        let mut chains: Vec<ChainId> = Vec::with_capacity(config.layers.len());
        for layer in &config.layers {
            let below = match layer.parent {
                None => None,
                Some(parent) => Some(chains.get(parent).ok_or_else(|| wrong("a layer lies on a later one"))?),
            };
            let next = ChainId::next(below, &layer.diff_id);
            chains.push(next);
        }
        if config.results.iter().any(|(_, top)| *top >= chains.len()) {
            return Err(wrong("a result has a layer that is not there"));
        }
        Ok(Self {
            layers: config.layers,
            chains,
            results: config.results.into_iter().collect(),
            aliases: config.aliases.into_iter().collect(),
            mounts: config.mounts,
        })
    }

    /// The final key behind one that is made of definitions alone.
    pub(super) fn alias(&self, cheap: &Digest) -> Option<&Digest> {
        self.aliases.get(cheap)
    }

    /// Positions of a result's layers, lowest first.
    pub(super) fn result(&self, key: &Digest) -> Option<Vec<usize>> {
        let mut positions = Vec::new();
        let mut next = self.results.get(key).copied();
        next?;
        while let Some(position) = next {
            positions.push(position);
            next = self.layers[position].parent;
        }
        positions.reverse();
        Some(positions)
    }

    /// Whether the result of a key is there.
    pub(super) fn has(&self, key: &Digest) -> bool {
        self.results.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn diff(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    #[test]
    fn results_are_found_and_nonsense_is_refused() {
        let layer =
            |parent, name: &str| LayerEntry { parent, diff_id: diff(name), blob: None, created: None };
        let key = Digest::of(b"key");
        let mut config = Config {
            layers: vec![layer(None, "a"), layer(Some(0), "b"), layer(Some(0), "c")],
            results: vec![(key.clone(), 2)],
            ..Config::default()
        };
        let table = Table::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(table.result(&key), Some(vec![0, 2]));
        assert_eq!(table.chains[2], ChainId::chain(&[diff("a"), diff("c")])[1]);
        assert_eq!(table.result(&Digest::of(b"other")), None);
        config.layers[1].parent = Some(1);
        assert!(Table::new(config.clone()).is_err());
        config.layers[1].parent = Some(0);
        config.results[0].1 = 3;
        assert!(Table::new(config).is_err());
        assert!(Table::parse(b"{\"version\":2,\"layers\":[],\"results\":[]}").is_err());
        assert!(Table::parse(b"[]").is_err());
    }
}
