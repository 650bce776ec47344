//! The descriptor: type, digest and size of some content.

use crate::{Digest, Platform, null_is_default};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Annotation keys that this engine reads or writes.
pub mod annotation {
    /// Name of an entry in an OCI layout's `index.json`.
    pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
    /// Full image name beside the tag, as containerd writes it into layouts.
    pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
    /// When the image was created.
    pub const CREATED: &str = "org.opencontainers.image.created";
    /// Set to `true` on index entries whose layers are zstd.
    pub const COMPRESSION_ZSTD: &str = "io.github.containers.compression.zstd";
    /// Marks index entries that are no image, for example `attestation-manifest`.
    pub const DOCKER_REFERENCE_TYPE: &str = "vnd.docker.reference.type";
}

/// Type, digest and size of some content, with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Places where the content may be found besides the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64 in JSON.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_option")]
    pub data: Option<Vec<u8>>,
    /// In an index: what the entry runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of the artifact, where the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor of the three required fields.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of these bytes.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// Whether an index entry is no image but says something about one, such as `BuildKit`'s attestations.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key(annotation::DOCKER_REFERENCE_TYPE)
            || self
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown")
    }
}

mod base64_option {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "serde hands the field over by reference")]
    pub(super) fn serialize<S: Serializer>(data: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        match data {
            Some(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            None => Ok(None),
            Some(text) => STANDARD.decode(text).map(Some).map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_stand_in_the_usual_order_and_empty_ones_are_left_out() {
        let mut descriptor = Descriptor::of("text/plain", b"{}");
        assert_eq!(
            serde_json::to_string(&descriptor).unwrap(),
            "{\"mediaType\":\"text/plain\",\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2}"
        );
        descriptor.data = Some(b"{}".to_vec());
        let text = serde_json::to_string(&descriptor).unwrap();
        assert!(text.ends_with(",\"data\":\"e30=\"}"), "{text}");
        assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), descriptor);
    }

    #[test]
    fn negative_sizes_and_nulls() {
        let digest = Digest::of(b"");
        assert!(
            serde_json::from_str::<Descriptor>(&format!(
                "{{\"mediaType\":\"a\",\"digest\":\"{digest}\",\"size\":-1}}"
            ))
            .is_err()
        );
        let text = format!(
            "{{\"mediaType\":\"a\",\"digest\":\"{digest}\",\"size\":1,\"urls\":null,\"annotations\":null}}"
        );
        assert!(serde_json::from_str::<Descriptor>(&text).unwrap().urls.is_empty());
    }
}
