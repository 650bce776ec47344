//! Signatures as they are kept: simple ones are GPG's bytes, sigstore's are a payload with annotations.

use super::json::{Parsed, Strict};
use super::payload::Kind;
use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// Media type of a sigstore payload.
pub const SIGSTORE_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The signature over the payload, base64.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The transparency log's word.
pub(super) const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// The signer's certificate.
pub(super) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Certificates above it, the root last.
pub(super) const CHAIN: &str = "dev.sigstore.cosign/chain";
/// Most bytes of one signature.
pub const MAX_SIGNATURE: u64 = 4 << 20;
/// Most bytes of all signatures of one image.
const MAX_ALL_SIGNATURES: u64 = 16 << 20;
/// Most signatures of one image that are looked at.
pub const MAX_SIGNATURES: usize = 128;

/// Begins a file with a sigstore signature: no GPG message begins so.
const SIGSTORE_FILE: &[u8] = b"\0sigstore-json\n";
const SIMPLE_FILE: &[u8] = b"\0simple-signing\n";

/// A signature that nobody has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// A GPG message around the payload.
    Simple(Vec<u8>),
    /// A payload and what is said about it.
    Sigstore {
        /// Media type of the payload.
        media_type: String,
        /// What is signed.
        payload: Vec<u8>,
        /// Signature, certificate and more.
        annotations: BTreeMap<String, String>,
    },
}

impl Signature {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Simple(_) => Kind::Simple,
            Self::Sigstore { .. } => Kind::Sigstore,
        }
    }

    /// Parses a signature as directories and lookaside servers keep it.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        if let Some(rest) = bytes.strip_prefix(SIGSTORE_FILE) {
            let mut object = Strict::parse(rest)?.object("the signature")?;
            let media_type = object.text("mimeType")?;
            let payload = object.base64("payload")?;
            let mut annotations = BTreeMap::new();
            match object.optional("annotations") {
                None | Some(Strict::Null) => {}
                Some(value) => {
                    for (key, value) in value.object("\"annotations\"")?.entries() {
                        let text = value.text("an annotation")?;
                        annotations.insert(key, text);
                    }
                }
            }
            return Ok(Self::Sigstore { media_type, payload, annotations });
        }
        // the name of the kind may be left out
        let message = bytes.strip_prefix(SIMPLE_FILE).unwrap_or(bytes);
        match message.first() {
            // a packet of OpenPGP has the highest bit set; armour is not used for signatures
            Some(first) if first & 0x80 != 0 => Ok(Self::Simple(message.to_owned())),
            Some(_) => Err("it is neither a GPG message nor a sigstore signature".to_owned()),
            None => Err("it is empty".to_owned()),
        }
    }

    /// The bytes for a directory or a lookaside server.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Simple(bytes) => bytes.clone(),
            Self::Sigstore { media_type, payload, annotations } => {
                let text = serde_json::json!({
                    "mimeType": media_type,
                    "payload": STANDARD.encode(payload),
                    "annotations": annotations,
                });
                [SIGSTORE_FILE, text.to_string().as_bytes()].concat()
            }
        }
    }
}

/// Counts the bytes of an image's signatures, which come from strangers.
#[derive(Debug, Default)]
pub(crate) struct Budget(u64);

impl Budget {
    /// Takes these bytes in; fails when there are too many.
    pub(crate) fn take(&mut self, bytes: u64, place: &str) -> Result<()> {
        self.0 = self.0.saturating_add(bytes);
        if bytes > MAX_SIGNATURE {
            return Err(Error::TooLarge { what: format!("a signature of {place}"), limit: MAX_SIGNATURE });
        }
        if self.0 > MAX_ALL_SIGNATURES {
            let what = format!("the signatures of {place} together");
            return Err(Error::TooLarge { what, limit: MAX_ALL_SIGNATURES });
        }
        Ok(())
    }
}

/// The signatures of an image, and what could not be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// What was found.
    pub list: Vec<Signature>,
    /// Where nobody looked, and how to have it looked at.
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_are_bounded_one_by_one_and_together() {
        assert!(Budget::default().take(MAX_SIGNATURE + 1, "x").is_err());
        let mut budget = Budget::default();
        for _ in 0..4 {
            budget.take(MAX_SIGNATURE, "x").unwrap();
        }
        assert!(budget.take(1, "x").is_err());
    }

    #[test]
    fn what_is_written_is_read() {
        let sigstore = Signature::Sigstore {
            media_type: SIGSTORE_TYPE.into(),
            payload: b"{}".to_vec(),
            annotations: [(SIGNATURE.to_owned(), "eA==".to_owned())].into(),
        };
        for signature in [sigstore, Signature::Simple(vec![0x90, 1, 2])] {
            assert_eq!(Signature::parse(&signature.to_bytes()).unwrap(), signature);
        }
        let simple = Signature::Simple(vec![0x90]);
        assert_eq!(Signature::parse(b"\0simple-signing\n\x90").unwrap(), simple);
        for bad in [
            &b""[..],
            b"text",
            b"\0other\n{}",
            b"\0simple-signing\nx",
            b"\0sigstore-json\n{}",
            b"\0sigstore-json\n",
        ] {
            assert!(Signature::parse(bad).is_err(), "{bad:?}");
        }
    }
}
