//! What is signed: a JSON text that binds a manifest's digest to a name.

use super::json::{Parsed, Strict, shorten};
use oci::Digest;
use serde_json::json;

/// Who signs in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Simple signing: GPG around the text.
    Simple,
    /// Sigstore: the signature beside the text.
    Sigstore,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Simple => "atomic container signature",
            Kind::Sigstore => "cosign container image signature",
        }
    }
}

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The manifest.
    pub digest: Digest,
    /// The name.
    pub reference: String,
}

impl Payload {
    /// Parses a text that was signed: every key of the critical part must be known.
    pub fn parse(bytes: &[u8], kind: Kind) -> Parsed<Self> {
        let mut object = Strict::parse(bytes)?.object("the signed text")?;
        let mut critical = object.object("critical")?;
        match critical.text("type")? {
            name if name == kind.name() => {}
            other => return Err(format!("it is {:?}, not {:?}", shorten(&other), kind.name())),
        }
        let mut image = critical.object("image")?;
        let digest = image.text("docker-manifest-digest")?;
        image.end()?;
        let mut identity = critical.object("identity")?;
        let reference = identity.text("docker-reference")?;
        identity.end()?;
        critical.end()?;
        match object.required("optional")? {
            // what others write where they have nothing to say
            Strict::Null if kind == Kind::Sigstore => {}
            value => {
                let mut optional = value.object("\"optional\"")?;
                optional.optional_text("creator")?;
                optional.optional_integer("timestamp")?;
            }
        }
        object.end()?;
        let digest =
            digest.parse().map_err(|_| format!("{:?} is no digest of a manifest", shorten(&digest)))?;
        Ok(Self { digest, reference })
    }

    /// The text to sign. `created` is in seconds since 1970.
    pub fn write(&self, kind: Kind, created: i64) -> Vec<u8> {
        let text = json!({
            "critical": {
                "identity": { "docker-reference": self.reference },
                "image": { "docker-manifest-digest": self.digest.as_str() },
                "type": kind.name(),
            },
            "optional": {
                "creator": concat!("davit ", env!("CARGO_PKG_VERSION")),
                "timestamp": created,
            },
        });
        text.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let payload = Payload { digest: Digest::of(b"x"), reference: "r.example/a:1".into() };
        for (kind, other) in [(Kind::Simple, Kind::Sigstore), (Kind::Sigstore, Kind::Simple)] {
            let text = payload.write(kind, 7);
            assert_eq!(Payload::parse(&text, kind).unwrap(), payload);
            assert!(Payload::parse(&text, other).is_err());
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let digest = Digest::of(b"x").to_string();
        let good = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        assert_eq!(Payload::parse(good.as_bytes(), Kind::Sigstore).unwrap().reference, "a");
        for (old, new) in [
            ("\"optional\":null", "\"optional\":1"),
            ("\"optional\":null", "\"optional\":{\"timestamp\":\"x\"}"),
            ("\"optional\":null", "\"other\":null"),
            ("\"type\"", "\"x\":1,\"type\""),
            ("\"docker-reference\":\"a\"", "\"docker-reference\":\"a\",\"docker-reference\":\"b\""),
            ("sha256:", "sha256:x"),
            ("{\"critical\"", "{\"x\":1,\"critical\""),
        ] {
            let bad = good.replace(old, new);
            assert_ne!(bad, good);
            assert!(Payload::parse(bad.as_bytes(), Kind::Sigstore).is_err(), "{bad}");
        }
        let extra = good.replace("null", "{\"creator\":\"c\",\"more\":[1]}");
        assert!(Payload::parse(extra.as_bytes(), Kind::Sigstore).is_ok());
    }
}
