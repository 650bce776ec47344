//! Private keys for sigstore: PKCS #8, plain or encrypted as cosign does it (scrypt, then NaCl's secretbox).

use super::encoding::{Der, INTEGER, OBJECT, OCTET_STRING, SEQUENCE, pem};
use super::json::{Object, Parsed, Strict};
use super::keys::{OID_EC, OID_ED25519, OID_P256, OID_RSA};
use crate::Secret;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit as _;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit as _, StreamCipher as _};

/// Most bytes of memory that deriving a key may take: four times what is usual.
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A key that signs.
pub struct PrivateKey {
    pair: Pair,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// It is encrypted, and there is no passphrase or a wrong one.
    Passphrase(String),
    /// Anything else.
    Other(String),
}

impl From<String> for KeyError {
    fn from(message: String) -> Self {
        KeyError::Other(message)
    }
}

impl PrivateKey {
    /// Parses the one key of a PEM text.
    pub fn parse_pem(text: &[u8], passphrase: Option<&Secret>) -> Result<Self, KeyError> {
        let mut blocks = pem(text)?.into_iter();
        let (Some(block), None) = (blocks.next(), blocks.next()) else {
            return Err("there is not exactly one key in it".to_owned().into());
        };
        let plain = match block.label.as_str() {
            "PRIVATE KEY" => block.bytes,
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let Some(passphrase) = passphrase else {
                    return Err(KeyError::Passphrase(
                        "it is encrypted, and there is no passphrase".to_owned(),
                    ));
                };
                decrypt(&block.bytes, passphrase)?
            }
            "EC PRIVATE KEY" | "RSA PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
                return Err(format!(
                    "it is in the form {:?}: `openssl pkcs8 -topk8 -nocrypt` makes a PRIVATE KEY of it",
                    block.label
                )
                .into());
            }
            label => return Err(format!("it is a {label:?}, not a PRIVATE KEY").into()),
        };
        Ok(Self::parse_pkcs8(&plain)?)
    }

    fn parse_pkcs8(der: &[u8]) -> Parsed<Self> {
        let mut outer = Der(der);
        let mut info = Der(outer.take(SEQUENCE)?);
        outer.end()?;
        info.take(INTEGER)?;
        let mut kind = Der(info.take(SEQUENCE)?);
        let unusable = |error: ring::error::KeyRejected| format!("it is not usable: {error}");
        let pair = match kind.take(OBJECT)? {
            OID_EC if kind.take(OBJECT)? == OID_P256 => {
                let random = SystemRandom::new();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random);
                Pair::Ecdsa(pair.map_err(unusable)?)
            }
            OID_EC => return Err("its elliptic curve is not supported for signing: use P-256".to_owned()),
            OID_ED25519 => Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(unusable)?),
            OID_RSA => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).map_err(unusable)?)),
            _ => return Err("its algorithm is not supported: use ECDSA, Ed25519 or RSA".to_owned()),
        };
        info.take(OCTET_STRING)?;
        Ok(Self { pair })
    }

    /// Whether a signature over a message is this key's.
    pub fn made(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, public): (&dyn VerificationAlgorithm, &[u8]) = match &self.pair {
            Pair::Ecdsa(pair) => (&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref()),
            Pair::Ed25519(pair) => (&ED25519, pair.public_key().as_ref()),
            Pair::Rsa(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
        };
        UnparsedPublicKey::new(algorithm, public).verify(message, signature).is_ok()
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Parsed<Vec<u8>> {
        let random = SystemRandom::new();
        let failed = |_| "the system gives no random numbers".to_owned();
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_owned()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_owned()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// Decrypts what the JSON text describes.
fn decrypt(text: &[u8], passphrase: &Secret) -> Result<Vec<u8>, KeyError> {
    let mut object = Strict::parse(text)?.object("the encrypted key")?;
    let mut kdf = object.object("kdf")?;
    expect(&mut kdf, "name", "scrypt")?;
    let mut params = kdf.object("params")?;
    let (n, r, p) = (params.integer("N")?, params.integer("r")?, params.integer("p")?);
    let salt = kdf.base64("salt")?;
    let mut cipher = object.object("cipher")?;
    expect(&mut cipher, "name", "nacl/secretbox")?;
    let nonce = cipher.base64("nonce")?;
    let sealed = object.base64("ciphertext")?;

    let odd = || "its parameters of scrypt are not usable".to_owned();
    let n = u64::try_from(n).ok().filter(|n| n.is_power_of_two() && *n > 1).ok_or_else(odd)?;
    let r = u32::try_from(r).ok().filter(|r| (1..=64).contains(r)).ok_or_else(odd)?;
    let p = u32::try_from(p).ok().filter(|p| (1..=16).contains(p)).ok_or_else(odd)?;
    if n.checked_mul(128 * u64::from(r)).is_none_or(|memory| memory > MAX_SCRYPT_MEMORY) {
        return Err(format!("deriving its key would take more than {} MiB", MAX_SCRYPT_MEMORY >> 20).into());
    }
    let log = u8::try_from(n.trailing_zeros()).map_err(|_| odd())?;
    let params = scrypt::Params::new(log, r, p).map_err(|_| odd())?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase.expose().as_bytes(), &salt, &params, &mut key).map_err(|_| odd())?;
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| "its nonce has no 24 bytes".to_owned())?;
    open_box(&key, &nonce, &sealed).ok_or_else(|| KeyError::Passphrase("the passphrase is wrong".to_owned()))
}

fn expect(object: &mut Object, key: &str, value: &str) -> Parsed<()> {
    let found = object.text(key)?;
    if found == value { Ok(()) } else { Err(format!("{} is not {value:?}", object.path(key))) }
}

/// NaCl's secretbox: a Poly1305 tag, then XSalsa20; the first 32 bytes of the stream are the tag's key.
fn open_box(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8]) -> Option<Vec<u8>> {
    let (tag, text) = sealed.split_at_checked(16)?;
    let mut stream = XSalsa20::new(key.into(), nonce.into());
    let mut tag_key = [0; 32];
    stream.apply_keystream(&mut tag_key);
    let expected = Poly1305::new((&tag_key).into()).compute_unpadded(text);
    // the whole tag is looked at, whatever differs first
    let differs = expected.as_slice().iter().zip(tag).fold(0, |sum, (one, other)| sum | (one ^ other));
    if differs != 0 {
        return None;
    }
    let mut plain = text.to_owned();
    stream.apply_keystream(&mut plain);
    Some(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    /// Locked by another program, see `testdata/trust/README.md`.
    const SEALED: &str = include_str!("../../../testdata/trust/sealed.key");
    const PUBLIC: &[u8] = include_bytes!("../../../testdata/trust/sealed.pub");

    fn parse(text: &str, passphrase: &str) -> Result<PrivateKey, KeyError> {
        PrivateKey::parse_pem(text.as_bytes(), Some(&Secret::new(passphrase)))
    }

    /// The key with something else in what describes its lock.
    fn changed(from: &str, to: &str) -> String {
        let body: String = SEALED.lines().filter(|line| !line.starts_with('-')).collect();
        let text = String::from_utf8(STANDARD.decode(body).unwrap()).unwrap();
        assert!(text.contains(from), "{text}");
        let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
        let body = STANDARD.encode(text.replacen(from, to, 1));
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn a_locked_key_opens_and_fits_its_public_half() {
        let key = parse(SEALED, "davit").unwrap();
        let signature = key.sign(b"message").unwrap();
        let public = crate::trust::PublicKey::parse_pem(PUBLIC).unwrap();
        assert!(public.verify(b"message", &signature) && !public.verify(b"other", &signature));
        assert!(key.made(b"message", &signature) && !key.made(b"other", &signature));
        assert!(matches!(parse(SEALED, "Davit"), Err(KeyError::Passphrase(_))));
        assert!(matches!(PrivateKey::parse_pem(SEALED.as_bytes(), None), Err(KeyError::Passphrase(_))));
    }

    #[test]
    fn what_would_cost_too_much_or_is_not_known_is_refused() {
        for (from, to) in [
            ("32768", "1073741824"),
            ("32768", "32767"),
            ("32768", "-1"),
            ("\"r\":8", "\"r\":4096"),
            ("\"p\":1", "\"p\":1000000"),
            ("scrypt", "argon2"),
            ("nacl/secretbox", "none"),
            ("\"nonce\":\"", "\"nonce\":\"AAAA"),
            ("\"kdf\"", "\"kdf\":{},\"kdf\""),
        ] {
            assert!(matches!(parse(&changed(from, to), "davit"), Err(KeyError::Other(_))), "{to}");
        }
        // one bit of what is locked
        assert!(matches!(
            parse(&changed("ciphertext\":\"u", "ciphertext\":\"v"), "davit"),
            Err(KeyError::Passphrase(_))
        ));
    }
}
