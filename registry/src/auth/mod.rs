//! Credentials: where they are found, how they are stored, how they are presented.

pub(crate) mod challenge;
pub(crate) mod files;
mod helper;

pub(crate) use challenge::{Challenge, parse_challenges};
pub use files::{
    AuthFile, FileKeychain, StoredLogin, list_logins, remove_all_logins, remove_login, store_login,
};
pub use helper::{Helper, helper_get};

use crate::{Reference, Result};
use std::fmt;

/// A password or token. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, to be sent or stored.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a registry accepts as proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, which the token service exchanges.
    IdentityToken(Secret),
    /// A bearer token that is sent as it is.
    RegistryToken(Secret),
}

impl Credentials {
    /// User and password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Credentials::Basic { username: username.into(), password: Secret::new(password) }
    }

    /// Parses `user:password`, as `--creds` takes it; without a colon the password is empty.
    pub fn parse(text: &str) -> Self {
        let (username, password) = text.split_once(':').unwrap_or((text, ""));
        Self::basic(username, password)
    }

    /// The value of an `Authorization: Basic` header.
    pub fn basic_header(username: &str, password: &Secret) -> String {
        use base64::Engine as _;
        let text = format!("{username}:{}", password.expose());
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }
}

/// Knows the credentials for repositories.
pub trait Keychain: Send + Sync + fmt::Debug {
    /// The credentials for a repository, most specific first; `None` = anonymous.
    fn credentials(&self, reference: &Reference) -> Result<Option<Credentials>>;
}

/// No credentials for anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeychain;

impl Keychain for NoKeychain {
    fn credentials(&self, _reference: &Reference) -> Result<Option<Credentials>> {
        Ok(None)
    }
}

/// The same credentials for everything, as `--creds` gives them.
#[derive(Debug, Clone)]
pub struct FixedKeychain(pub Credentials);

impl Keychain for FixedKeychain {
    fn credentials(&self, _reference: &Reference) -> Result<Option<Credentials>> {
        Ok(Some(self.0.clone()))
    }
}

/// The key under which a registry's or repository's credentials stand: schemes, paths of old index addresses and
/// the hub's many names are brought to one form.
pub(crate) fn normalize_key(key: &str) -> String {
    let had_scheme = key.contains("://");
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let bare = bare.trim_end_matches('/');
    // https://host/v1 and https://host/v2 are addresses, host/v1 may be a namespace
    let bare = if had_scheme { bare.split('/').next().unwrap_or(bare) } else { bare };
    let (host, path) = match bare.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (bare, None),
    };
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => crate::reference::HUB.to_owned(),
        _ => host,
    };
    match path {
        Some("v1" | "v2") if host == crate::reference::HUB => host,
        Some(path) => format!("{host}/{path}"),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", Credentials::basic("user", "geheim"));
        assert!(shown.contains("user") && !shown.contains("geheim"), "{shown}");
        assert!(!format!("{:?}", Credentials::IdentityToken(Secret::new("geheim"))).contains("geheim"));
    }

    #[test]
    fn keys_have_one_form() {
        for (key, normal) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("https://R.example:5000/v2/", "r.example:5000"),
            ("http://r.example", "r.example"),
            ("r.example/ns/repo", "r.example/ns/repo"),
        ] {
            assert_eq!(normalize_key(key), normal, "{key}");
        }
    }
}
