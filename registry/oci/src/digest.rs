//! Digests and the identities that are built on them.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// The digest algorithms that image-spec registers and this engine verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Number of hex digits of a digest.
    pub fn hex_length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A valid `algorithm:hex` digest. The hex part is lower case and of the algorithm's length, so it is safe as a
/// file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    text: Box<str>,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digester = Digester::new();
        digester.update(bytes);
        digester.finish()
    }

    /// The digest with these 32 bytes of SHA-256 output.
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        Self::from_parts(Algorithm::Sha256, &bytes)
    }

    fn from_parts(algorithm: Algorithm, bytes: &[u8]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(algorithm.as_str().len() + 1 + bytes.len() * 2);
        text.push_str(algorithm.as_str());
        text.push(':');
        for byte in bytes {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        Self { text: text.into_boxed_str() }
    }

    /// Makes a digest of the algorithm and the hex digits, without the colon.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self> {
        Self::from_str(&format!("{}:{hex}", algorithm.as_str()))
    }

    /// Which algorithm made it.
    pub fn algorithm(&self) -> Algorithm {
        if self.text.starts_with("sha512") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The hex digits alone.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm().as_str().len() + 1..]
    }

    /// The first 12 hex digits, as image and container IDs are shown.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// The whole text, `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Checks that `bytes` have this digest, with its own algorithm.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        let mut digester = Digester::for_digest(self);
        digester.update(bytes);
        let actual = digester.finish();
        if actual == *self { Ok(()) } else { Err(Error::DigestMismatch { expected: self.clone(), actual }) }
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason| {
            let mut shown: String = text.chars().take(160).collect();
            if shown.len() < text.len() {
                shown.push_str("..");
            }
            Err(Error::InvalidDigest { text: shown, reason })
        };
        let Some((algorithm, hex)) = text.split_once(':') else {
            return invalid("no colon after the algorithm");
        };
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return invalid("unknown algorithm"),
        };
        if hex.len() != algorithm.hex_length() {
            return invalid("wrong number of hex digits");
        }
        if !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return invalid("not lower-case hex digits");
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Digest of a layer's uncompressed tar, as the config's `rootfs.diff_ids` lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// Identity of a stack of layers: the first diffID, then `sha256(parent + " " + diffID)` for each further layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chainID of `diff` on top of `parent`; without a parent it is the diffID itself.
    pub fn next(parent: Option<&ChainId>, diff: &DiffId) -> ChainId {
        match parent {
            None => ChainId(diff.0.clone()),
            Some(parent) => ChainId(Digest::of(format!("{} {}", parent.0, diff.0).as_bytes())),
        }
    }

    /// The chainIDs of all prefixes of the stack, lowest first; as many as there are diffIDs.
    pub fn chain(diffs: &[DiffId]) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::with_capacity(diffs.len());
        for diff in diffs {
            let next = ChainId::next(chain.last(), diff);
            chain.push(next);
        }
        chain
    }
}

macro_rules! identity {
    ($name:ident) => {
        impl $name {
            /// The digest inside.
            pub fn digest(&self) -> &Digest {
                &self.0
            }

            /// The hex digits of the digest inside.
            pub fn hex(&self) -> &str {
                self.0.hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                text.parse().map(Self)
            }
        }
    };
}
identity!(DiffId);
identity!(ChainId);

/// Computes a digest while bytes pass. Also an [`std::io::Write`] that never fails.
#[derive(Clone)]
pub struct Digester {
    state: State,
}

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Digester {
    /// Starts a SHA-256 computation.
    pub fn new() -> Self {
        Self::with_algorithm(Algorithm::Sha256)
    }

    /// Starts a computation with the given algorithm.
    pub fn with_algorithm(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(sha2::Sha512::new())),
        };
        Self { state }
    }

    /// Starts a computation whose result can be compared with `expected`.
    pub fn for_digest(expected: &Digest) -> Self {
        Self::with_algorithm(expected.algorithm())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        match self.state {
            State::Sha256(state) => Digest::from_parts(Algorithm::Sha256, &state.finalize()),
            State::Sha512(state) => Digest::from_parts(Algorithm::Sha512, &state.finalize()),
        }
    }
}

impl Default for Digester {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").finish_non_exhaustive()
    }
}

impl std::io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_well_known_one() {
        let digest = Digest::of(b"");
        assert_eq!(digest.as_str(), EMPTY);
        assert_eq!(digest.hex().len(), 64);
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert_eq!(digest.algorithm(), Algorithm::Sha256);
    }

    #[test]
    fn bad_digests_are_refused() {
        let long = format!("sha256:{}", "a".repeat(65));
        let upper = EMPTY.to_uppercase().replace("SHA", "sha");
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha256:zz",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &long,
            &upper,
            "sha256:../../../etc/passwd",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Digest>("\"sha256:1\"").is_err());
    }

    #[test]
    fn sha512_is_verified_with_its_own_algorithm() {
        let mut digester = Digester::with_algorithm(Algorithm::Sha512);
        digester.update(b"abc");
        let digest = digester.finish();
        assert!(digest.as_str().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        digest.verify(b"abc").unwrap();
        assert!(matches!(digest.verify(b"abd"), Err(Error::DigestMismatch { .. })));
    }

    #[test]
    fn chain_ids_follow_image_spec() {
        let a = DiffId(Digest::of(b"a"));
        let b = DiffId(Digest::of(b"b"));
        let chain = ChainId::chain(&[a.clone(), b.clone()]);
        assert_eq!(chain[0].0, a.0);
        assert_eq!(chain[1].0, Digest::of(format!("{a} {b}").as_bytes()));
        assert!(ChainId::chain(&[]).is_empty());
    }

    #[test]
    fn digests_are_strings_in_json() {
        let digest: Digest = serde_json::from_str(&format!("\"{EMPTY}\"")).unwrap();
        assert_eq!(serde_json::to_string(&DiffId(digest)).unwrap(), format!("\"{EMPTY}\""));
    }
}
