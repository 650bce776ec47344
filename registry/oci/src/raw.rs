//! A document with the bytes it was received as.

use crate::{
    Descriptor, Digest, Error, ImageConfig, Index, MAX_CONFIG_BYTES, MAX_HISTORY, MAX_INDEX_ENTRIES,
    MAX_LAYERS, MAX_MANIFEST_BYTES, Manifest, ManifestOrIndex, Result, media_type,
};
use serde::{Deserialize, Serialize};

/// A kind of document that [`Raw`] can hold.
pub trait Document: Sized + Serialize {
    /// Parses and checks the bytes; gives the value and its media type. `hint` is the type that the bytes were
    /// served or described with.
    fn parse(bytes: &[u8], hint: Option<&str>) -> Result<(Self, String)>;

    /// The media type of a value that was made here.
    fn media_type_of(&self) -> String;
}

/// A document, its bytes as received, their digest and media type. The bytes are never made again from the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw<T> {
    bytes: Vec<u8>,
    value: T,
    digest: Digest,
    media_type: String,
}

impl<T: std::fmt::Debug> std::fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw")
            .field("media_type", &self.media_type)
            .field("digest", &self.digest)
            .field("size", &self.bytes.len())
            .field("value", &self.value)
            .finish()
    }
}

impl<T: Document> Raw<T> {
    /// Parses the bytes. The digest is the SHA-256 of the bytes.
    pub fn parse(bytes: Vec<u8>, media_type_hint: Option<&str>) -> Result<Self> {
        let (value, media_type) = T::parse(&bytes, media_type_hint)?;
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, value, digest, media_type })
    }

    /// Parses bytes that were asked for by `expected`, after checking that they have this digest.
    pub fn parse_verified(bytes: Vec<u8>, media_type_hint: Option<&str>, expected: &Digest) -> Result<Self> {
        expected.verify(&bytes)?;
        let (value, media_type) = T::parse(&bytes, media_type_hint)?;
        Ok(Self { bytes, value, digest: expected.clone(), media_type })
    }

    /// Serialises a value that was made here, once.
    pub fn from_value(value: T) -> Result<Self> {
        let bytes = serde_json::to_vec(&value)
            .map_err(|error| Error::InvalidDocument { what: "document", message: error.to_string() })?;
        let digest = Digest::of(&bytes);
        let media_type = value.media_type_of();
        Ok(Self { bytes, value, digest, media_type })
    }
}

impl<T> Raw<T> {
    /// The bytes as received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parsed value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A descriptor of these bytes.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest.clone(), self.size())
    }

    /// Bytes and value.
    pub fn into_parts(self) -> (Vec<u8>, T) {
        (self.bytes, self.value)
    }
}

impl Raw<ManifestOrIndex> {
    /// The manifest with the same bytes; an error if this is an index.
    pub fn into_manifest(self) -> Result<Raw<Manifest>> {
        match self.value {
            ManifestOrIndex::Manifest(value) => {
                Ok(Raw { bytes: self.bytes, value, digest: self.digest, media_type: self.media_type })
            }
            ManifestOrIndex::Index(_) => Err(Error::InvalidDocument {
                what: "manifest",
                message: "an index stands where a manifest was expected".into(),
            }),
        }
    }

    /// The index with the same bytes; an error if this is a manifest.
    pub fn into_index(self) -> Result<Raw<Index>> {
        match self.value {
            ManifestOrIndex::Index(value) => {
                Ok(Raw { bytes: self.bytes, value, digest: self.digest, media_type: self.media_type })
            }
            ManifestOrIndex::Manifest(_) => Err(Error::InvalidDocument {
                what: "index",
                message: "a manifest stands where an index was expected".into(),
            }),
        }
    }
}

impl From<Raw<Manifest>> for Raw<ManifestOrIndex> {
    fn from(raw: Raw<Manifest>) -> Self {
        Raw {
            bytes: raw.bytes,
            value: ManifestOrIndex::Manifest(raw.value),
            digest: raw.digest,
            media_type: raw.media_type,
        }
    }
}

impl From<Raw<Index>> for Raw<ManifestOrIndex> {
    fn from(raw: Raw<Index>) -> Self {
        Raw {
            bytes: raw.bytes,
            value: ManifestOrIndex::Index(raw.value),
            digest: raw.digest,
            media_type: raw.media_type,
        }
    }
}

/// The few fields by which the kind of a document is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

fn limit_bytes(what: &'static str, bytes: &[u8], limit: u64) -> Result<()> {
    let actual = bytes.len() as u64;
    if actual > limit { Err(Error::TooLarge { what, unit: "bytes", actual, limit }) } else { Ok(()) }
}

fn limit_entries(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        Err(Error::TooLarge { what, unit: "entries", actual: actual as u64, limit: limit as u64 })
    } else {
        Ok(())
    }
}

fn from_json<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::InvalidDocument { what, message: error.to_string() })
}

fn check_sizes<'a>(what: &'static str, descriptors: impl Iterator<Item = &'a Descriptor>) -> Result<()> {
    for descriptor in descriptors {
        // Go's readers hold sizes in an int64; sums of ours must not overflow either
        if descriptor.size > (i64::MAX as u64) / 8192 {
            return Err(Error::InvalidDocument {
                what,
                message: format!("absurd size {} of {}", descriptor.size, descriptor.digest),
            });
        }
    }
    Ok(())
}

impl Document for ManifestOrIndex {
    fn parse(bytes: &[u8], hint: Option<&str>) -> Result<(Self, String)> {
        limit_bytes("manifest", bytes, MAX_MANIFEST_BYTES)?;
        let outline: Outline = from_json("manifest", bytes)?;
        // parameters such as "; charset=utf-8" are no part of the type
        let hint = hint.map(|hint| hint.split(';').next().unwrap_or_default().trim());
        let declared = outline.media_type.as_deref().filter(|text| !text.is_empty());
        if outline.schema_version == Some(1) || outline.fs_layers.is_some() {
            let media_type = declared.or(hint).unwrap_or(media_type::DOCKER_SCHEMA1).to_owned();
            return Err(Error::UnsupportedManifest { media_type });
        }
        if outline.schema_version != Some(2) {
            return Err(Error::InvalidDocument {
                what: "manifest",
                message: "schemaVersion is not 2".into(),
            });
        }
        let invalid =
            |message: &str| Err(Error::InvalidDocument { what: "manifest", message: message.into() });
        let is_index =
            match (outline.layers.is_some() || outline.config.is_some(), outline.manifests.is_some()) {
                // CVE-2021-41190: two readers of one digest must not see two different images
                (true, true) => return invalid("it has both the fields of a manifest and those of an index"),
                (true, false) => false,
                (false, true) => true,
                (false, false) => return invalid("it has neither layers nor manifests"),
            };
        let known = |text: &&str| media_type::is_manifest(text) || media_type::is_index(text);
        if let Some(declared) = declared {
            if !known(&declared) {
                return Err(Error::UnsupportedManifest { media_type: declared.to_owned() });
            }
            if media_type::is_index(declared) != is_index {
                return invalid("its mediaType contradicts its fields");
            }
        }
        let hint = hint.filter(known).filter(|hint| media_type::is_index(hint) == is_index);
        let fallback = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
        let media_type = declared.or(hint).unwrap_or(fallback).to_owned();
        let value = if is_index {
            let index: Index = from_json("index", bytes)?;
            limit_entries("index", index.manifests.len(), MAX_INDEX_ENTRIES)?;
            check_sizes("index", index.manifests.iter())?;
            ManifestOrIndex::Index(index)
        } else {
            let manifest: Manifest = from_json("manifest", bytes)?;
            limit_entries("list of layers", manifest.layers.len(), MAX_LAYERS)?;
            check_sizes("manifest", manifest.layers.iter().chain([&manifest.config]))?;
            ManifestOrIndex::Manifest(manifest)
        };
        Ok((value, media_type))
    }

    fn media_type_of(&self) -> String {
        match self {
            ManifestOrIndex::Manifest(manifest) => manifest.media_type_of(),
            ManifestOrIndex::Index(index) => index.media_type_of(),
        }
    }
}

impl Document for Manifest {
    fn parse(bytes: &[u8], hint: Option<&str>) -> Result<(Self, String)> {
        match ManifestOrIndex::parse(bytes, hint)? {
            (ManifestOrIndex::Manifest(manifest), media_type) => Ok((manifest, media_type)),
            (ManifestOrIndex::Index(_), _) => {
                Err(Error::InvalidDocument { what: "manifest", message: "it is an index".into() })
            }
        }
    }

    fn media_type_of(&self) -> String {
        self.media_type.clone().unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned())
    }
}

impl Document for Index {
    fn parse(bytes: &[u8], hint: Option<&str>) -> Result<(Self, String)> {
        match ManifestOrIndex::parse(bytes, hint)? {
            (ManifestOrIndex::Index(index), media_type) => Ok((index, media_type)),
            (ManifestOrIndex::Manifest(_), _) => {
                Err(Error::InvalidDocument { what: "index", message: "it is a manifest".into() })
            }
        }
    }

    fn media_type_of(&self) -> String {
        self.media_type.clone().unwrap_or_else(|| media_type::OCI_INDEX.to_owned())
    }
}

impl Document for ImageConfig {
    fn parse(bytes: &[u8], hint: Option<&str>) -> Result<(Self, String)> {
        limit_bytes("image config", bytes, MAX_CONFIG_BYTES)?;
        let config: ImageConfig = from_json("image config", bytes)?;
        limit_entries("list of diffIDs", config.rootfs.diff_ids.len(), MAX_LAYERS)?;
        limit_entries("history", config.history.len(), MAX_HISTORY)?;
        Ok((config, hint.unwrap_or(media_type::OCI_CONFIG).to_owned()))
    }

    fn media_type_of(&self) -> String {
        media_type::OCI_CONFIG.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manifest() -> Manifest {
        Manifest::new(
            Descriptor::of(media_type::OCI_CONFIG, b"{}"),
            vec![Descriptor::of(media_type::OCI_LAYER_GZIP, b"layer")],
        )
    }

    #[test]
    fn bytes_are_kept_as_they_came() {
        let text = serde_json::to_string_pretty(&manifest()).unwrap();
        let raw =
            Raw::<ManifestOrIndex>::parse(text.clone().into_bytes(), Some("application/json; charset=utf-8"))
                .unwrap();
        assert_eq!(raw.bytes(), text.as_bytes());
        assert_eq!(*raw.digest(), Digest::of(text.as_bytes()));
        assert_eq!(raw.media_type(), media_type::OCI_MANIFEST);
        assert_eq!(raw.into_manifest().unwrap().value(), &manifest());
    }

    #[test]
    fn docker_type_comes_from_the_hint_when_the_body_is_silent() {
        let mut value = manifest();
        value.media_type = None;
        let bytes = serde_json::to_vec(&value).unwrap();
        let raw = Raw::<ManifestOrIndex>::parse(bytes.clone(), Some(media_type::DOCKER_MANIFEST)).unwrap();
        assert_eq!(raw.media_type(), media_type::DOCKER_MANIFEST);
        let raw = Raw::<ManifestOrIndex>::parse(bytes, Some(media_type::DOCKER_LIST)).unwrap();
        assert_eq!(raw.media_type(), media_type::OCI_MANIFEST);
    }

    #[test]
    fn ambiguous_and_foreign_documents_are_refused() {
        let digest = Digest::of(b"");
        let descriptor = format!("{{\"mediaType\":\"a\",\"digest\":\"{digest}\",\"size\":1}}");
        for text in [
            "{}".to_owned(),
            "[]".to_owned(),
            "{\"schemaVersion\":2}".to_owned(),
            "{\"schemaVersion\":1,\"fsLayers\":[]}".to_owned(),
            format!("{{\"schemaVersion\":2,\"config\":{descriptor},\"layers\":[],\"manifests\":[]}}"),
            format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"config\":{descriptor},\"layers\":[]}}",
                media_type::OCI_INDEX
            ),
            format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"text/html\",\"config\":{descriptor},\"layers\":[]}}"
            ),
        ] {
            assert!(Raw::<ManifestOrIndex>::parse(text.clone().into_bytes(), None).is_err(), "{text}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut value = manifest();
        value.layers = vec![value.config.clone(); MAX_LAYERS + 1];
        let bytes = serde_json::to_vec(&value).unwrap();
        assert!(matches!(Raw::<Manifest>::parse(bytes, None), Err(Error::TooLarge { unit: "entries", .. })));
        let spaces = vec![b' '; 5 << 20];
        assert!(matches!(Raw::<Manifest>::parse(spaces, None), Err(Error::TooLarge { unit: "bytes", .. })));
        let mut value = manifest();
        value.layers[0].size = u64::MAX;
        assert!(Raw::<Manifest>::parse(serde_json::to_vec(&value).unwrap(), None).is_err());
        let deep = format!("{{\"schemaVersion\":2,\"layers\":{}", "[".repeat(100_000));
        assert!(Raw::<Manifest>::parse(deep.into_bytes(), None).is_err());
    }

    #[test]
    fn wrong_digest_is_told() {
        let bytes = serde_json::to_vec(&manifest()).unwrap();
        assert!(matches!(
            Raw::<Manifest>::parse_verified(bytes, None, &Digest::of(b"x")),
            Err(Error::DigestMismatch { .. })
        ));
    }

    #[test]
    fn own_values_are_serialised_once() {
        let raw = Raw::from_value(manifest()).unwrap();
        assert_eq!(raw.descriptor().size, raw.size());
        assert_eq!(Raw::<Manifest>::parse(raw.bytes().to_vec(), None).unwrap(), raw);
    }
}
