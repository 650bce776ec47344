//! Signing what is pushed.

use super::json::shorten;
use super::payload::{Kind, Payload};
use super::private_key::PrivateKey;
use super::signature::Signature;
use super::{gpg, sigstore};
use crate::{Error, Reference, Result};
use oci::Digest;
use std::path::PathBuf;

/// Who signs.
#[derive(Debug)]
pub enum ImageSigner {
    /// A key of the user's keyring, through `gpg`.
    Gpg {
        /// Fingerprint, address or name.
        key: String,
        /// File whose first line unlocks it; without one, `gpg` asks its agent.
        passphrase_file: Option<PathBuf>,
    },
    /// A key for sigstore.
    Sigstore(PrivateKey),
}

impl ImageSigner {
    /// The kind of signatures that it makes.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Gpg { .. } => Kind::Simple,
            Self::Sigstore(_) => Kind::Sigstore,
        }
    }

    /// Whether one of these signatures is this signer's, for a manifest under a name.
    pub fn has_signed(&self, signatures: &[Signature], digest: &Digest, name: &Reference) -> Result<bool> {
        let wanted = Payload { digest: digest.clone(), reference: name.to_string() };
        for signature in signatures {
            let said = match (self, signature) {
                (Self::Gpg { key, .. }, Signature::Simple(message)) => {
                    gpg::own(key, message)?.and_then(|text| Payload::parse(&text, Kind::Simple).ok())
                }
                (Self::Sigstore(key), Signature::Sigstore { payload, annotations, .. }) => {
                    sigstore::own(key, payload, annotations)
                }
                _ => None,
            };
            if said.as_ref() == Some(&wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Signs a manifest under a name, which has a tag or a digest.
    pub fn sign(&self, digest: &Digest, name: &Reference) -> Result<Signature> {
        let payload = Payload { digest: digest.clone(), reference: name.to_string() };
        let now = jiff::Timestamp::now().as_second();
        match self {
            Self::Gpg { key, passphrase_file } => {
                let text = payload.write(Kind::Simple, now);
                gpg::sign(key, passphrase_file.as_deref(), &text).map(Signature::Simple)
            }
            Self::Sigstore(key) => sigstore::sign(key, &payload, now).map_err(|message| Error::Signing {
                what: format!("sign {name}"),
                message: shorten(&message),
            }),
        }
    }
}
