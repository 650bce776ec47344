//! Sigstore signatures: whether one is accepted, and making one.

use super::certificate::{self, Wanted};
use super::encoding::pem;
use super::json::{Parsed, base64, shorten};
use super::keys::PublicKey;
use super::payload::{Kind, Payload};
use super::policy::{Keyless, Material, Signer};
use super::private_key::PrivateKey;
use super::rekor::{self, Entry};
use super::signature::{BUNDLE, CERTIFICATE, CHAIN, SIGNATURE, SIGSTORE_TYPE, Signature};
use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// Whose certificates are believed, the files read.
struct Authorities<'a> {
    keyless: &'a Keyless,
    /// PEM.
    roots: Vec<Vec<u8>>,
    /// PEM of certificates between those and a signer's.
    between: Vec<Vec<u8>>,
}

/// What a policy asks for, its files read.
pub(super) struct Trusted<'a> {
    keys: Vec<PublicKey>,
    rekor: Vec<PublicKey>,
    certificate: Option<Authorities<'a>>,
    /// Seconds since 1970.
    now: i64,
}

impl<'a> Trusted<'a> {
    /// Reads the files of a requirement. An error here is one of the policy, not of a signature.
    pub(super) fn new(signer: &'a Signer, rekor: Option<&Material>, now: i64) -> Result<Self> {
        let mut trusted = Self { keys: Vec::new(), rekor: Vec::new(), certificate: None, now };
        match signer {
            Signer::Keys(material) => trusted.keys = keys(material, "public key of the policy")?,
            Signer::Certificate(keyless) => {
                let (roots, between) = match keyless {
                    Keyless::Fulcio { authorities, .. } => (authorities.read()?, Vec::new()),
                    Keyless::Pki { roots, intermediates, .. } => {
                        let between = intermediates.as_ref().map(Material::read).transpose()?;
                        (roots.read()?, between.unwrap_or_default())
                    }
                };
                trusted.certificate = Some(Authorities { keyless, roots, between });
            }
        }
        if let Some(material) = rekor {
            let what = "key of Rekor in the policy";
            trusted.rekor = keys(material, what)?;
            if trusted.rekor.iter().any(|key| !key.is_ecdsa()) {
                return Err(Error::Config { path: what.to_owned(), message: "it is not for ECDSA".into() });
            }
        }
        Ok(trusted)
    }

    /// What a signature says, if it is one of those asked for.
    pub(super) fn verify(&self, payload: &[u8], annotations: &BTreeMap<String, String>) -> Parsed<Payload> {
        let annotation =
            |key: &str| annotations.get(key).ok_or_else(|| format!("it has no annotation {key}"));
        let signature = base64(annotation(SIGNATURE)?).ok_or("the signature is not valid base64")?;
        let logged = |signer: &[u8]| {
            let entry = Entry { signer, signature: &signature, payload };
            rekor::verify(&self.rekor, annotation(BUNDLE)?, &entry)
        };
        let key = match &self.certificate {
            None => {
                let own = self.keys.iter().find(|key| key.verify(payload, &signature));
                let key = own.ok_or("it was not made with a key of the policy")?.clone();
                if !self.rekor.is_empty() {
                    logged(key.der())?;
                }
                key
            }
            Some(Authorities { keyless, roots, between }) => {
                let text = annotation(CERTIFICATE)?.as_bytes();
                let chain = annotations.get(CHAIN).map(String::as_bytes);
                let mut wanted = Wanted {
                    authorities: roots,
                    intermediates: between,
                    time: self.now,
                    oidc_issuer: None,
                    subject_email: None,
                    subject_hostname: None,
                };
                match keyless {
                    Keyless::Fulcio { oidc_issuer, subject_email, .. } => {
                        let blocks = pem(text)?;
                        let [leaf] = blocks.as_slice() else {
                            return Err("there is not exactly one certificate of the signer".to_owned());
                        };
                        wanted.time = logged(&leaf.bytes)?;
                        wanted.oidc_issuer = Some(oidc_issuer);
                        wanted.subject_email = Some(subject_email);
                    }
                    Keyless::Pki { subject_email, subject_hostname, .. } => {
                        wanted.subject_email = subject_email.as_deref();
                        wanted.subject_hostname = subject_hostname.as_deref();
                    }
                }
                certificate::verify(text, chain, &wanted)?
            }
        };
        if !key.verify(payload, &signature) {
            return Err("the signature does not fit".to_owned());
        }
        Payload::parse(payload, Kind::Sigstore)
    }
}

fn keys(material: &Material, what: &str) -> Result<Vec<PublicKey>> {
    let named = |at: usize| match material {
        Material::Paths(paths) => paths[at].display().to_string(),
        Material::Data(_) => what.to_owned(),
    };
    let texts = material.read()?;
    let parsed = texts.iter().enumerate().map(|(at, text)| {
        PublicKey::parse_pem(text)
            .map_err(|message| Error::Config { path: named(at), message: shorten(&message) })
    });
    parsed.collect()
}

/// What a signature says, if this key made it.
pub(super) fn own(
    key: &PrivateKey,
    payload: &[u8],
    annotations: &BTreeMap<String, String>,
) -> Option<Payload> {
    let signature = base64(annotations.get(SIGNATURE)?)?;
    if !key.made(payload, &signature) {
        return None;
    }
    Payload::parse(payload, Kind::Sigstore).ok()
}

/// Makes a signature. `created` is in seconds since 1970.
pub(super) fn sign(key: &PrivateKey, payload: &Payload, created: i64) -> Parsed<Signature> {
    let payload = payload.write(Kind::Sigstore, created);
    let signature = STANDARD.encode(key.sign(&payload)?);
    Ok(Signature::Sigstore {
        media_type: SIGSTORE_TYPE.to_owned(),
        payload,
        annotations: [(SIGNATURE.to_owned(), signature)].into(),
    })
}
