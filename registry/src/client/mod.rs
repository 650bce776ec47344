//! The blocking distribution client.
//!
//! One [`Client`] serves all registries. Per registry and kind of security it keeps one connection: the scheme and
//! the challenge found by one ping, pooled sockets, and tokens by scope. Every body is bounded, every wait has a
//! deadline ([`ClientOptions::read_timeout`]), and what may pass is tried again ([`RetryPolicy`]).

mod blob;
mod connection;
mod download;
mod manifest;
mod response;
mod retry;
mod search;
mod tls;
mod token;
mod upload;

pub use download::{Download, Downloaded, download};
pub use search::FoundRepository;

use crate::auth::{Credentials, FixedKeychain, Keychain};
use crate::config::Registries;
use crate::trust::{SignatureConfig, SignaturePaths};
use crate::{Reference, Result};
use connection::{Connection, Payload, Request};
use oci::{Descriptor, Digest, ManifestOrIndex, Raw};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
    /// Where signatures lie.
    pub signatures: SignaturePaths,
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
            signatures: SignaturePaths::default(),
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Arc<ClientOptions>,
    /// By API host and whether TLS is unverified.
    connections: Mutex<HashMap<(String, bool), Arc<Connection>>>,
    warnings: Arc<Mutex<BTreeSet<String>>>,
    /// Read when the first signature is looked for.
    signatures: OnceLock<SignatureConfig>,
}

/// A name and the connection that serves it.
struct Target<'a> {
    reference: &'a Reference,
    connection: &'a Connection,
}

struct OwnedTarget {
    reference: Reference,
    connection: Arc<Connection>,
}

impl OwnedTarget {
    fn borrow(&self) -> Target<'_> {
        Target { reference: &self.reference, connection: &self.connection }
    }
}

impl Target<'_> {
    fn pull(&self) -> String {
        self.reference.scope("pull")
    }

    fn push(&self) -> String {
        self.reference.scope("pull,push")
    }

    fn send(
        &self,
        scopes: &[String],
        request: &Request,
        payload: &mut Payload<'_>,
    ) -> Result<response::Response> {
        self.connection.send(self.reference, scopes, request, payload)
    }
}

impl Client {
    /// A client; nothing is read or connected yet.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            inner: Arc::new(Inner {
                options: Arc::new(options),
                connections: Mutex::default(),
                warnings: Arc::default(),
                signatures: OnceLock::new(),
            }),
        }
    }

    /// The settings.
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// Where signatures lie, read on first use.
    pub fn signature_config(&self) -> Result<&SignatureConfig> {
        if let Some(config) = self.inner.signatures.get() {
            return Ok(config);
        }
        let config = SignatureConfig::load(&self.inner.options.signatures)?;
        Ok(self.inner.signatures.get_or_init(|| config))
    }

    /// Whether the registry of a name may be spoken to without verified TLS.
    pub(crate) fn is_insecure(&self, reference: &Reference) -> bool {
        self.insecure(reference)
    }

    fn insecure(&self, reference: &Reference) -> bool {
        match self.inner.options.tls_verify {
            Some(verify) => !verify,
            None => self.inner.options.registries.is_insecure(reference),
        }
    }

    fn target(&self, reference: &Reference, insecure: bool) -> OwnedTarget {
        let mut connections = self.inner.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connections
            .entry((reference.api_host().to_owned(), insecure))
            .or_insert_with(|| {
                let keychain = self.inner.options.keychain.clone();
                Arc::new(Connection::new(
                    reference,
                    insecure,
                    &self.inner.options,
                    keychain,
                    &self.inner.warnings,
                ))
            })
            .clone();
        OwnedTarget { reference: reference.clone(), connection }
    }

    fn default_target(&self, reference: &Reference) -> OwnedTarget {
        self.target(reference, self.insecure(reference))
    }

    /// For mirrors, whose security stands with the mirror.
    fn endpoint_target(&self, reference: &Reference, insecure: bool) -> OwnedTarget {
        self.target(reference, self.inner.options.tls_verify.map_or(insecure, |verify| !verify))
    }

    pub(crate) fn endpoint_manifest(
        &self,
        reference: &Reference,
        insecure: bool,
    ) -> Result<Raw<ManifestOrIndex>> {
        self.endpoint_target(reference, insecure).borrow().manifest()
    }

    pub(crate) fn endpoint_blob(
        &self,
        reference: &Reference,
        insecure: bool,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        let target = self.endpoint_target(reference, insecure);
        Ok(Box::new(blob::BlobReader::open(target, descriptor, offset)?))
    }

    /// Reads the manifest or index of a name; its digest is checked where the name has one. Mirrors are not asked:
    /// that is what [`RemoteSource`](crate::transport::RemoteSource) does.
    pub fn manifest(&self, reference: &Reference) -> Result<Raw<ManifestOrIndex>> {
        self.default_target(reference).borrow().manifest()
    }

    /// Asks for the descriptor of a manifest without reading it; `None` if it does not exist.
    pub fn head_manifest(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        self.default_target(reference).borrow().head_manifest()
    }

    /// Opens a blob at an offset. The reader resumes broken connections by range, and fails if the size is wrong;
    /// the digest is not checked.
    pub fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>> {
        let target = self.default_target(reference);
        Ok(Box::new(blob::BlobReader::open(target, descriptor, offset)?))
    }

    /// Whether the repository has a blob. Asked with the right to push, since pushes alone need to know.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let target = self.default_target(reference);
        let target = target.borrow();
        target.has_blob(digest, target.push())
    }

    /// Uploads a blob. `open` gives its content from the beginning, again for each attempt.
    pub fn upload_blob<'a>(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: &dyn Fn() -> Result<Box<dyn Read + Send + 'a>>,
    ) -> Result<()> {
        self.default_target(reference).borrow().upload_blob(descriptor, open)
    }

    /// Takes a blob from another repository of the same registry; false where the registry does not do it.
    pub fn mount_blob(&self, to: &Reference, from: &Reference, digest: &Digest) -> Result<bool> {
        if to.registry() != from.registry() || to.repository() == from.repository() {
            return Ok(false);
        }
        self.default_target(to).borrow().mount_blob(from, digest)
    }

    /// Stores a manifest or index under the name's digest, else its tag, else `latest`.
    pub fn put_manifest(&self, reference: &Reference, raw: &Raw<ManifestOrIndex>) -> Result<()> {
        self.default_target(reference).borrow().put_manifest(raw)
    }

    /// Looks for repositories of a registry (host and port) whose names or descriptions have a term.
    pub fn search(&self, registry: &str, term: &str, limit: usize) -> Result<Vec<FoundRepository>> {
        // the repository's name is needed for nothing
        let reference = Reference::parse(&format!("{registry}/search"))?;
        self.default_target(&reference).borrow().search(term, limit)
    }

    /// Lists the tags of a repository.
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        self.default_target(reference).borrow().tags()
    }

    /// Deletes the manifest that the name's tag or digest leads to.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<()> {
        self.default_target(reference).borrow().delete_manifest()
    }

    /// Deletes a blob.
    pub fn delete_blob(&self, reference: &Reference, digest: &Digest) -> Result<()> {
        self.default_target(reference).borrow().delete_blob(digest)
    }

    /// Checks credentials with a registry (host and port), as `login` does. The keychain is not asked.
    pub fn check_login(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        // the repository's name is needed for nothing: the check asks for no scope
        let reference = Reference::parse(&format!("{registry}/login"))?;
        let keychain = Arc::new(FixedKeychain(credentials.clone()));
        let insecure = self.insecure(&reference);
        let options = &self.inner.options;
        Connection::new(&reference, insecure, options, keychain, &self.inner.warnings).check(&reference)
    }

    /// Takes the texts of `Warning` headers seen since the last call, each once.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *warnings).into_iter().collect()
    }
}
