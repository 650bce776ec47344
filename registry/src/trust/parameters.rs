//! The file of `--sign-by-sigstore`: how to sign.

use super::json::shorten;
use crate::{Error, Result, files};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Most bytes of the file.
const MAX_FILE: u64 = 1 << 20;

/// How to sign for sigstore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningParameters {
    /// The private key.
    pub private_key: PathBuf,
    /// The file with its passphrase.
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    private_key_file: Option<PathBuf>,
    private_key_passphrase_file: Option<PathBuf>,
    fulcio: Option<serde_json::Value>,
    #[serde(rename = "rekorURL")]
    rekor_url: Option<String>,
}

impl SigningParameters {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let invalid = |message: String| Error::Config { path: source.clone(), message };
        let bytes = files::read(path, MAX_FILE)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid("it is no text".to_owned()))?;
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| invalid(shorten(&error.to_string())))?;
        for (key, there) in
            [("fulcio", document.fulcio.is_some()), ("rekorURL", document.rekor_url.is_some())]
        {
            if there {
                return Err(invalid(format!("{key} is not supported: sign with a privateKeyFile alone")));
            }
        }
        let private_key = document
            .private_key_file
            .filter(|path| !path.as_os_str().is_empty())
            .ok_or_else(|| invalid("it has no privateKeyFile".to_owned()))?;
        Ok(Self { private_key, passphrase_file: document.private_key_passphrase_file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.yaml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            SigningParameters::load(&path)
        };
        let found = load("privateKeyFile: /k\nprivateKeyPassphraseFile: /p\n").unwrap();
        assert_eq!(found.private_key, Path::new("/k"));
        for bad in ["", "privateKeyFile: ''", "privateKeyFile: /k\nrekorURL: http://x", "fulcio: {}", "x: 1"]
        {
            assert!(load(bad).is_err(), "{bad}");
        }
    }
}
