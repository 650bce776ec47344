//! Credentials: checking and keeping them.

use crate::images::RegistryOptions;
use crate::{Engine, Error, Result};
use registry::auth::{Credentials, FileKeychain, remove_all_logins, remove_login, store_login};
use std::path::PathBuf;

/// Check credentials and keep them.
#[derive(Debug, Clone, Default)]
pub struct LoginRequest {
    /// Registry, or repository of one; with or without a scheme.
    pub registry: String,
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// How the registry is talked to; `authfile` = the file that keeps the credentials.
    pub options: RegistryOptions,
    /// Docker's configuration file as the place instead.
    pub compat_auth_file: Option<PathBuf>,
}

/// Forget credentials.
#[derive(Debug, Clone, Default)]
pub struct LogoutRequest {
    /// Registry or repository; `None` with `all`.
    pub registry: Option<String>,
    /// All registries.
    pub all: bool,
    /// The file that keeps them.
    pub authfile: Option<PathBuf>,
    /// Docker's configuration file as the place instead.
    pub compat_auth_file: Option<PathBuf>,
}

impl Engine {
    /// Checks credentials against the registry and keeps them; returns the file that holds them.
    pub fn login(&self, request: &LoginRequest) -> Result<PathBuf> {
        let key = key(&request.registry);
        let credentials = Credentials::basic(request.username.clone(), request.password.clone());
        let attempt = || format!("log in to {key}");
        let client = self.client(&request.options)?;
        client.check_login(host(&key), &credentials).map_err(crate::error::registry(attempt()))?;
        let file = match &request.compat_auth_file {
            Some(file) => file.clone(),
            None => self.config().login_file_or(request.options.authfile.as_deref()),
        };
        if let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            crate::state::files::create_directory(parent)?;
        }
        store_login(&file, &key, &credentials).map_err(crate::error::registry(attempt()))?;
        Ok(file)
    }

    /// The user that is logged in to a registry, if any.
    pub fn logged_in(&self, registry: &str, options: &RegistryOptions) -> Result<Option<String>> {
        let keychain = FileKeychain::new(
            self.config().auth_files(options.authfile.as_deref()),
            self.registries()?.credential_helpers().to_vec(),
        );
        let found = keychain
            .lookup(&key(registry))
            .map_err(crate::error::registry(format!("look up the login of {registry}")))?;
        Ok(match found {
            Some(Credentials::Basic { username, .. }) => Some(username),
            Some(_) => Some("<token>".to_owned()),
            None => None,
        })
    }

    /// Forgets credentials; returns the registries that were forgotten.
    pub fn logout(&self, request: &LogoutRequest) -> Result<Vec<String>> {
        let file = match &request.compat_auth_file {
            Some(file) => file.clone(),
            None => self.config().login_file_or(request.authfile.as_deref()),
        };
        if request.all {
            return remove_all_logins(&file).map_err(crate::error::registry("log out of all registries"));
        }
        let Some(registry) = &request.registry else {
            return Err(Error::invalid("logout", "no registry was named"));
        };
        let key = key(registry);
        let removed =
            remove_login(&file, &key).map_err(crate::error::registry(format!("log out of {key}")))?;
        if !removed {
            let elsewhere = self.logged_in(
                registry,
                &RegistryOptions { authfile: request.authfile.clone(), ..RegistryOptions::default() },
            )?;
            if elsewhere.is_some() {
                return Err(Error::Denied {
                    what: format!("log out of {key}"),
                    reason: "the credentials lie in a file that davit does not write (docker login?)"
                        .to_owned(),
                });
            }
            return Err(Error::NotFound { what: "login", name: key });
        }
        Ok(vec![key])
    }
}

/// The key under which credentials are kept: without scheme, tag and trailing slash.
fn key(registry: &str) -> String {
    let bare = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    bare.trim_end_matches('/').to_owned()
}

fn host(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}
