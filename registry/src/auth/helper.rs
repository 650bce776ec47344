//! Credential helpers: `docker-credential-NAME` with `get`, `store` and `erase` on standard input and output.

use super::{Credentials, Secret};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// Most bytes that a helper's answer may have.
const MAX_ANSWER: u64 = 1 << 20;

/// A helper program by the suffix of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    program: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper {
    /// `docker-credential-SUFFIX`, searched in `PATH`. The suffix must be a plain name.
    pub fn new(suffix: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if suffix.is_empty() || !suffix.bytes().all(plain) {
            return Err(Error::Helper {
                program: format!("docker-credential-{suffix:?}"),
                message: "the name may have letters, digits, '-', '_' and '.' alone".into(),
            });
        }
        Ok(Self { program: format!("docker-credential-{suffix}") })
    }

    /// A helper program by its path.
    pub fn at(path: &std::path::Path) -> Self {
        Self { program: path.display().to_string() }
    }

    /// Asks for the credentials of a server; `None` if the helper has none.
    pub fn get(&self, server: &str) -> Result<Option<Credentials>> {
        let (success, output) = self.run("get", server.as_bytes())?;
        if !success {
            let message = String::from_utf8_lossy(&output).trim().to_owned();
            // the text by which all helpers say it
            if message.to_ascii_lowercase().contains("credentials not found") {
                return Ok(None);
            }
            return Err(self.error(message));
        }
        let answer: Answer =
            serde_json::from_slice(&output).map_err(|_| self.error("its answer is not valid JSON"))?;
        if answer.secret.is_empty() && answer.username.is_empty() {
            return Ok(None);
        }
        Ok(Some(if answer.username == "<token>" {
            Credentials::IdentityToken(Secret::new(answer.secret))
        } else {
            Credentials::basic(answer.username, answer.secret)
        }))
    }

    /// Stores credentials for a server.
    pub fn store(&self, server: &str, credentials: &Credentials) -> Result<()> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.clone(), password),
            Credentials::IdentityToken(token) => ("<token>".to_owned(), token),
            Credentials::RegistryToken(_) => {
                return Err(self.error("bearer tokens cannot be stored by a helper"));
            }
        };
        let request = Answer { server_url: server.to_owned(), username, secret: secret.expose().to_owned() };
        let input = serde_json::to_vec(&request).map_err(|error| self.error(error.to_string()))?;
        self.expect_success("store", &input)
    }

    /// Removes the credentials of a server.
    pub fn erase(&self, server: &str) -> Result<()> {
        self.expect_success("erase", server.as_bytes())
    }

    fn expect_success(&self, verb: &str, input: &[u8]) -> Result<()> {
        let (success, output) = self.run(verb, input)?;
        if success { Ok(()) } else { Err(self.error(String::from_utf8_lossy(&output).trim())) }
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::Helper { program: self.program.clone(), message: message.into() }
    }

    fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>)> {
        let failed = |what: &str, error: std::io::Error| self.error(format!("{what}: {error}"));
        let mut child = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| failed("start", error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // a helper that does not read its input still gives its answer
            let _ = stdin.write_all(input);
        }
        let mut output = Vec::new();
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut output),
            None => Ok(0),
        };
        let status = child.wait().map_err(|error| failed("wait", error))?;
        read.map_err(|error| failed("read its answer", error))?;
        Ok((status.success(), output))
    }
}

/// Asks the helper with this suffix for the credentials of a server.
pub fn helper_get(suffix: &str, server: &str) -> Result<Option<Credentials>> {
    Helper::new(suffix)?.get(server)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_helper_is_asked_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        let store = dir.path().join("store");
        let script = format!(
            "#!/bin/sh\ncase $1 in\nget) read -r s; if [ \"$s\" = r.example ]; then printf '{{\"ServerURL\":\"r.example\",\"Username\":\"u\",\"Secret\":\"p\"}}'; elif [ \"$s\" = tok ]; then printf '{{\"Username\":\"<token>\",\"Secret\":\"t\"}}'; else echo 'credentials not found in native keychain'; exit 1; fi;;\nstore) cat > {0};;\nerase) rm {0};;\nesac\n",
            store.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let helper = Helper::at(&path);
        assert_eq!(helper.get("r.example").unwrap(), Some(Credentials::basic("u", "p")));
        assert_eq!(helper.get("tok").unwrap(), Some(Credentials::IdentityToken(Secret::new("t"))));
        assert_eq!(helper.get("other").unwrap(), None);
        helper.store("x.example", &Credentials::basic("a", "b")).unwrap();
        assert_eq!(
            std::fs::read_to_string(&store).unwrap(),
            "{\"ServerURL\":\"x.example\",\"Username\":\"a\",\"Secret\":\"b\"}"
        );
        helper.erase("x.example").unwrap();
        assert!(!store.exists());
        assert!(Helper::new("../evil").is_err());
        assert!(Helper::new("does-not-exist-at-all").unwrap().get("x").is_err());
    }
}
