//! Credentials: checking and keeping them.

use crate::images::RegistryOptions;
use crate::{Engine, Result};
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
    pub fn login(&self, _request: &LoginRequest) -> Result<PathBuf> {
        todo!()
    }

    /// The user that is logged in to a registry, if any.
    pub fn logged_in(&self, _registry: &str, _options: &RegistryOptions) -> Result<Option<String>> {
        todo!()
    }

    /// Forgets credentials; returns the registries that were forgotten.
    pub fn logout(&self, _request: &LogoutRequest) -> Result<Vec<String>> {
        todo!()
    }
}
