//! The blocking distribution client.

use crate::auth::{Credentials, Keychain};
use crate::config::Registries;
use crate::{Reference, Result};
use oci::{Descriptor, Digest, ManifestOrIndex, Raw};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often and how soon a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt, for connections, timeouts, 502, 503 and 504.
    pub retries: u32,
    /// Retries after 429.
    pub rate_limit_retries: u32,
    /// Delay before the first retry; each further one doubles.
    pub first_delay: Duration,
    /// Longest delay, also of `Retry-After`.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 3,
            rate_limit_retries: 4,
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
        }
    }
}

/// Proxies, as the caller found them in its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyOptions {
    /// Proxy for plain HTTP.
    pub http: Option<String>,
    /// Proxy for HTTPS.
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    pub no_proxy: Option<String>,
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Insecure, blocked and mirrored registries.
    pub registries: Arc<Registries>,
    /// Credentials.
    pub keychain: Arc<dyn Keychain>,
    /// `--tls-verify`: overrides what the configuration says; `Some(false)` also allows plain HTTP.
    pub tls_verify: Option<bool>,
    /// `--cert-dir`: used instead of `certs.d` for all registries.
    pub cert_dir: Option<PathBuf>,
    /// Directories like `/etc/containers/certs.d`, searched in order for one named after the registry.
    pub certs_d: Vec<PathBuf>,
    /// Bundles of the system's certificate authorities; the first that exists is used, else a built-in set.
    pub ca_bundles: Vec<PathBuf>,
    /// Proxies.
    pub proxy: ProxyOptions,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Longest time without a byte from the registry.
    pub read_timeout: Duration,
    /// Retries.
    pub retry: RetryPolicy,
    /// `User-Agent`.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            registries: Arc::new(Registries::default()),
            keychain: Arc::new(crate::auth::NoKeychain),
            tls_verify: None,
            cert_dir: None,
            certs_d: vec!["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()],
            ca_bundles: vec![
                "/etc/ssl/certs/ca-certificates.crt".into(),
                "/etc/pki/tls/certs/ca-bundle.crt".into(),
                "/etc/ssl/ca-bundle.pem".into(),
                "/etc/ssl/cert.pem".into(),
            ],
            proxy: ProxyOptions::default(),
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            user_agent: format!("davit/{}", env!("CARGO_PKG_VERSION")),
        }
    }
}

/// A client for all registries; connections, challenges and tokens are shared between its clones and threads.
#[derive(Debug, Clone)]
pub struct Client {
    options: Arc<ClientOptions>,
}

impl Client {
    /// A client; nothing is read or connected yet.
    pub fn new(options: ClientOptions) -> Self {
        Self { options: Arc::new(options) }
    }

    /// The settings.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Reads the manifest or index of a name; its digest is checked where the name has one.
    pub fn manifest(&self, _reference: &Reference) -> Result<Raw<ManifestOrIndex>> {
        todo!()
    }

    /// Asks for the descriptor of a manifest without reading it; `None` if it does not exist.
    pub fn head_manifest(&self, _reference: &Reference) -> Result<Option<Descriptor>> {
        todo!()
    }

    /// Opens a blob at an offset. The reader resumes broken connections by range, and fails if the size is wrong;
    /// the digest is not checked.
    pub fn blob(
        &self,
        _reference: &Reference,
        _descriptor: &Descriptor,
        _offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        todo!()
    }

    /// Whether the repository has a blob.
    pub fn has_blob(&self, _reference: &Reference, _digest: &Digest) -> Result<bool> {
        todo!()
    }

    /// Uploads a blob. `open` gives its content from the beginning, again for each attempt.
    pub fn upload_blob<'a>(
        &self,
        _reference: &Reference,
        _descriptor: &Descriptor,
        _open: &dyn Fn() -> Result<Box<dyn Read + Send + 'a>>,
    ) -> Result<()> {
        todo!()
    }

    /// Takes a blob from another repository of the same registry; false where the registry does not do it.
    pub fn mount_blob(&self, _to: &Reference, _from: &Reference, _digest: &Digest) -> Result<bool> {
        todo!()
    }

    /// Stores a manifest or index under the name's tag, or its digest.
    pub fn put_manifest(&self, _reference: &Reference, _raw: &Raw<ManifestOrIndex>) -> Result<()> {
        todo!()
    }

    /// Lists the tags of a repository.
    pub fn tags(&self, _reference: &Reference) -> Result<Vec<String>> {
        todo!()
    }

    /// Deletes the manifest that the name's tag or digest leads to.
    pub fn delete_manifest(&self, _reference: &Reference) -> Result<()> {
        todo!()
    }

    /// Deletes a blob.
    pub fn delete_blob(&self, _reference: &Reference, _digest: &Digest) -> Result<()> {
        todo!()
    }

    /// Checks credentials with a registry, as `login` does.
    pub fn check_login(&self, _registry: &str, _credentials: &Credentials) -> Result<()> {
        todo!()
    }

    /// Takes the texts of `Warning` headers seen since the last call, each once.
    pub fn take_warnings(&self) -> Vec<String> {
        todo!()
    }
}
