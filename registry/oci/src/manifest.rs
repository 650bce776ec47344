//! Manifest and index.

use crate::{Descriptor, Platform, media_type, null_is_default};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Manifest of one image, OCI or Docker schema 2 (they differ in media types alone).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An OCI manifest of this config and these layers.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// Index of manifests, OCI index or Docker manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Type of the artifact, where it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries, in order of preference.
    #[serde(deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index of these entries.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Chooses the entry for a platform: best variant first, then zstd before gzip, then the first in the list.
    /// Entries without a platform match last; attestations and nested indexes never.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let mut best: Option<((u32, bool), &Descriptor)> = None;
        for entry in &self.manifests {
            if entry.is_attestation() || media_type::is_index(&entry.media_type) {
                continue;
            }
            let rank = match &entry.platform {
                Some(platform) => match wanted.rank(platform) {
                    Some(rank) => rank,
                    None => continue,
                },
                None => u32::MAX,
            };
            let plain = entry
                .annotations
                .get(crate::annotation::COMPRESSION_ZSTD)
                .is_none_or(|value| value != "true");
            let key = (rank, plain);
            if best.as_ref().is_none_or(|(other, _)| key < *other) {
                best = Some((key, entry));
            }
        }
        best.map(|(_, entry)| entry)
    }

    /// The platforms of all entries that are images, for messages.
    pub fn platforms(&self) -> Vec<Platform> {
        self.manifests
            .iter()
            .filter(|entry| !entry.is_attestation())
            .filter_map(|entry| entry.platform.clone())
            .collect()
    }
}

/// What a tag or digest may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a process holds a handful of them")]
pub enum ManifestOrIndex {
    /// One image.
    Manifest(Manifest),
    /// Several, to choose from by platform.
    Index(Index),
}

impl ManifestOrIndex {
    /// The manifest, if it is one.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            ManifestOrIndex::Manifest(manifest) => Some(manifest),
            ManifestOrIndex::Index(_) => None,
        }
    }

    /// The index, if it is one.
    pub fn index(&self) -> Option<&Index> {
        match self {
            ManifestOrIndex::Index(index) => Some(index),
            ManifestOrIndex::Manifest(_) => None,
        }
    }
}

impl Serialize for ManifestOrIndex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ManifestOrIndex::Manifest(manifest) => manifest.serialize(serializer),
            ManifestOrIndex::Index(index) => index.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(name: &str, platform: &str) -> Descriptor {
        let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, name.as_bytes());
        descriptor.annotations.insert("name".into(), name.into());
        if !platform.is_empty() {
            let mut parts = platform.split('/').map(str::to_owned);
            descriptor.platform = Some(Platform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
                ..Platform::default()
            });
        }
        descriptor
    }

    fn chosen(entries: &[(&str, &str)], wanted: &str) -> Option<String> {
        let index = Index::new(entries.iter().map(|(name, platform)| entry(name, platform)).collect());
        index.select(&wanted.parse().unwrap()).map(|found| found.annotations["name"].clone())
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let entries = [
            ("x", "unknown/unknown"),
            ("5", "linux/arm/v5"),
            ("7", "linux/arm/v7"),
            ("6", "linux/arm/v6"),
            ("64", "linux/arm64/v8"),
        ];
        assert_eq!(chosen(&entries, "linux/arm/v7").unwrap(), "7");
        assert_eq!(chosen(&entries, "linux/arm/v8").unwrap(), "7");
        assert_eq!(chosen(&entries, "linux/arm/v6").unwrap(), "6");
        assert_eq!(chosen(&entries, "linux/arm64").unwrap(), "64");
        assert_eq!(chosen(&entries, "linux/amd64"), None);
        assert_eq!(chosen(&entries, "linux/arm/v4"), None);
    }

    #[test]
    fn entries_without_platform_match_last_and_zstd_is_preferred() {
        assert_eq!(chosen(&[("none", ""), ("amd", "linux/amd64")], "linux/amd64").unwrap(), "amd");
        assert_eq!(chosen(&[("none", ""), ("arm", "linux/arm64")], "linux/amd64").unwrap(), "none");
        assert_eq!(chosen(&[("a", "linux/amd64"), ("b", "linux/amd64")], "linux/amd64").unwrap(), "a");
        let mut zstd = entry("z", "linux/amd64");
        zstd.annotations.insert(crate::annotation::COMPRESSION_ZSTD.into(), "true".into());
        let index = Index::new(vec![entry("g", "linux/amd64"), zstd.clone()]);
        assert_eq!(index.select(&"linux/amd64".parse().unwrap()), Some(&zstd));
    }

    #[test]
    fn amd64_levels_match_exactly_or_plain() {
        assert_eq!(
            chosen(&[("v3", "linux/amd64/v3"), ("plain", "linux/amd64")], "linux/amd64").unwrap(),
            "plain"
        );
        assert_eq!(
            chosen(&[("v3", "linux/amd64/v3"), ("plain", "linux/amd64")], "linux/amd64/v3").unwrap(),
            "v3"
        );
        assert_eq!(chosen(&[("v3", "linux/amd64/v3")], "linux/amd64/v2"), None);
    }
}
