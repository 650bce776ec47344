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
