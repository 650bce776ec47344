//! Public keys, and whether a signature is theirs: ECDSA (P-256, P-384), Ed25519 and RSA (PKCS #1, from 2048 bits), each
//! over SHA-256 where the algorithm leaves a choice.

use super::encoding::{BIT_STRING, Der, OBJECT, SEQUENCE, pem, whole_bits};
use super::json::Parsed;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

pub(super) const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
pub(super) const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
pub(super) const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
pub(super) const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// As the algorithm wants it.
    key: Vec<u8>,
    /// `SubjectPublicKeyInfo`; empty for keys that came in another form.
    der: Vec<u8>,
}

impl PublicKey {
    /// Parses the one key of a PEM text.
    pub fn parse_pem(text: &[u8]) -> Parsed<Self> {
        let mut blocks = pem(text)?.into_iter();
        let (Some(block), None) = (blocks.next(), blocks.next()) else {
            return Err("there is not exactly one key in it".to_owned());
        };
        match block.label.as_str() {
            "PUBLIC KEY" => Self::parse_der(&block.bytes),
            "RSA PUBLIC KEY" => {
                Ok(Self { algorithm: Algorithm::Rsa, key: block.bytes.clone(), der: Vec::new() })
            }
            label if label.contains("PRIVATE") => {
                Err("it is a private key, where a public one is wanted".to_owned())
            }
            label => Err(format!("it is a {label:?}, not a PUBLIC KEY")),
        }
    }

    /// Parses a `SubjectPublicKeyInfo`.
    pub fn parse_der(der: &[u8]) -> Parsed<Self> {
        let mut outer = Der(der);
        let mut info = Der(outer.take(SEQUENCE)?);
        outer.end()?;
        let mut kind = Der(info.take(SEQUENCE)?);
        let key = whole_bits(info.take(BIT_STRING)?)?.to_owned();
        info.end()?;
        let algorithm = match kind.take(OBJECT)? {
            OID_EC => match kind.take(OBJECT)? {
                OID_P256 => Algorithm::P256,
                OID_P384 => Algorithm::P384,
                _ => return Err("its elliptic curve is not supported: use P-256 or P-384".to_owned()),
            },
            OID_RSA => Algorithm::Rsa,
            OID_ED25519 => Algorithm::Ed25519,
            _ => return Err("its algorithm is not supported: use ECDSA, Ed25519 or RSA".to_owned()),
        };
        Ok(Self { algorithm, key, der: der.to_owned() })
    }

    /// `SubjectPublicKeyInfo`; empty for keys that came in another form.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it is one for ECDSA.
    pub(super) fn is_ecdsa(&self) -> bool {
        matches!(self.algorithm, Algorithm::P256 | Algorithm::P384)
    }

    /// Whether the signature over the message is this key's.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::P384 => &signature::ECDSA_P384_SHA256_ASN1,
            Algorithm::Ed25519 => &signature::ED25519,
            Algorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_public_key_is_refused() {
        let pem =
            |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        for bad in [
            String::new(),
            pem("PRIVATE KEY", "MAA="),
            pem("CERTIFICATE", "MAA="),
            pem("PUBLIC KEY", "MAA="),
            pem("PUBLIC KEY", "") + &pem("PUBLIC KEY", ""),
        ] {
            assert!(PublicKey::parse_pem(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
