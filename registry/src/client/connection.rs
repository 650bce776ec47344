//! One registry: which scheme it speaks, how it wants to be convinced, and the exchange of single requests.
//!
//! The first use pings `/v2/`, https first; plain http is tried only where the registry is insecure. Redirects are
//! followed here, because `Authorization` must not go to another origin.

use super::response::{self, Response};
use super::retry::with_retry;
use super::token::{self, Token};
use super::{ClientOptions, tls};
use crate::auth::{Challenge, Credentials, Keychain, parse_challenges};
use crate::url::Url;
use crate::{Error, Reference, Result};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use ureq::http::{HeaderMap, Method, header};
use ureq::{Agent, SendBody};

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 10;
/// Most texts of warnings that are kept.
const MAX_WARNINGS: usize = 32;

pub(super) struct Connection {
    registry: String,
    host: String,
    insecure: bool,
    options: Arc<ClientOptions>,
    keychain: Arc<dyn Keychain>,
    agents: Mutex<HashMap<Option<String>, Agent>>,
    tls: OnceLock<ureq::tls::TlsConfig>,
    ready: Mutex<Option<Ready>>,
    credentials: Mutex<HashMap<String, Option<Credentials>>>,
    tokens: Mutex<HashMap<String, Token>>,
    warnings: Arc<Mutex<BTreeSet<String>>>,
}

#[derive(Clone)]
struct Ready {
    scheme: &'static str,
    challenges: Vec<Challenge>,
}

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
}

pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A stream of so many bytes.
    Stream(&'a mut dyn Read, u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    pub(super) fn new(
        reference: &Reference,
        insecure: bool,
        options: &Arc<ClientOptions>,
        keychain: Arc<dyn Keychain>,
        warnings: &Arc<Mutex<BTreeSet<String>>>,
    ) -> Self {
        Self {
            registry: reference.registry().to_owned(),
            host: reference.api_host().to_owned(),
            insecure,
            options: options.clone(),
            keychain,
            agents: Mutex::default(),
            tls: OnceLock::new(),
            ready: Mutex::default(),
            credentials: Mutex::default(),
            tokens: Mutex::default(),
            warnings: warnings.clone(),
        }
    }

    pub(super) fn insecure(&self) -> bool {
        self.insecure
    }

    pub(super) fn options(&self) -> &ClientOptions {
        &self.options
    }

    pub(super) fn uses_https(&self) -> bool {
        // asked by the token code alone, which runs after the ping and may hold no lock on `ready`
        lock(&self.ready).as_ref().is_none_or(|ready| ready.scheme == "https")
    }

    /// The address of a path below `/v2/`.
    pub(super) fn url(&self, path: &str) -> Result<Url> {
        Ok(Url::new(self.ready()?.scheme, &self.host, format!("/v2/{path}")))
    }

    /// Pings once.
    fn ready(&self) -> Result<Ready> {
        let mut ready = lock(&self.ready);
        if let Some(ready) = &*ready {
            return Ok(ready.clone());
        }
        let found = with_retry(&self.options.retry, || self.ping())?;
        *ready = Some(found.clone());
        Ok(found)
    }

    fn ping(&self) -> Result<Ready> {
        match self.ping_with("https") {
            Err(error) if self.insecure => match self.ping_with("http") {
                Ok(ready) => Ok(ready),
                Err(plain @ (Error::Connection { .. } | Error::Timeout { .. })) => {
                    // both failed: the one that says more about a server that is there
                    Err(if error.is_retryable() { error } else { plain })
                }
                Err(plain) => Err(plain),
            },
            other => other,
        }
    }

    fn ping_with(&self, scheme: &'static str) -> Result<Ready> {
        let url = Url::new(scheme, &self.host, "/v2/");
        let request = Request { method: Method::GET, url, headers: Vec::new() };
        let response = self.exchange(&request, &mut Payload::None, None)?;
        let challenges = challenges(&response.headers);
        match response.status() {
            200..=299 | 403 => {}
            401 if !challenges.is_empty() => {}
            401 => {
                return Err(Error::Protocol {
                    url: response.url.shown(),
                    message: "it wants authentication of a kind that is not supported".into(),
                });
            }
            404 | 405 => {
                return Err(Error::Protocol {
                    url: response.url.shown(),
                    message: format!("status {}: this is not a registry", response.status()),
                });
            }
            _ => return Err(response.into_error("GET")),
        }
        response.drain();
        Ok(Ready { scheme, challenges })
    }

    /// Sends a request with authorization for the scopes. A 401 is answered once with a fresh token, unless the body
    /// is a stream.
    pub(super) fn send(
        &self,
        reference: &Reference,
        scopes: &[String],
        request: &Request,
        payload: &mut Payload<'_>,
    ) -> Result<Response> {
        let ready = self.ready()?;
        let authorization = self.authorization(reference, scopes, &ready.challenges, false)?;
        let response = self.exchange(request, payload, authorization.as_deref())?;
        if response.status() != 401 || matches!(payload, Payload::Stream(..)) {
            return Ok(response);
        }
        let given = challenges(&response.headers);
        let again = match given.first() {
            Some(Challenge::Bearer { scope, error, .. }) => {
                let mut wanted = scopes.to_vec();
                if error.as_deref() == Some("insufficient_scope") || authorization.is_none() {
                    wanted.extend(scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned));
                    wanted.sort();
                    wanted.dedup();
                }
                self.authorization(reference, &wanted, &given, true)?
            }
            Some(Challenge::Basic) if authorization.is_none() => {
                self.authorization(reference, scopes, &given, true)?
            }
            _ => None,
        };
        match again {
            Some(again) if Some(&again) != authorization.as_ref() => {
                response.drain();
                self.exchange(request, payload, Some(&again))
            }
            _ => Ok(response),
        }
    }

    fn credentials(&self, reference: &Reference) -> Result<Option<Credentials>> {
        let mut known = lock(&self.credentials);
        let name = reference.name();
        if let Some(found) = known.get(&name) {
            return Ok(found.clone());
        }
        let found = self.keychain.credentials(reference)?;
        known.insert(name, found.clone());
        Ok(found)
    }

    /// The `Authorization` header that answers the challenges.
    fn authorization(
        &self,
        reference: &Reference,
        scopes: &[String],
        challenges: &[Challenge],
        fresh: bool,
    ) -> Result<Option<String>> {
        let Some(challenge) = challenges.first() else { return Ok(None) };
        let credentials = self.credentials(reference)?;
        if let Some(Credentials::RegistryToken(token)) = &credentials {
            return Ok(Some(format!("Bearer {}", token.expose())));
        }
        match challenge {
            Challenge::Basic => Ok(match &credentials {
                Some(Credentials::Basic { username, password }) => {
                    Some(Credentials::basic_header(username, password))
                }
                _ => None,
            }),
            Challenge::Bearer { .. } => {
                let key = format!("{} {}", reference.name(), scopes.join(" "));
                // held while asking: other threads that want the same token wait for it
                let mut tokens = lock(&self.tokens);
                if let Some(token) = tokens.get(&key)
                    && !fresh
                    && token.expires > Instant::now()
                {
                    return Ok(Some(format!("Bearer {}", token.value.expose())));
                }
                let token = with_retry(&self.options.retry, || {
                    token::fetch(self, challenge, scopes, credentials.as_ref())
                })?;
                let header = format!("Bearer {}", token.value.expose());
                tokens.insert(key, token);
                Ok(Some(header))
            }
        }
    }

    /// Whether `GET /v2/` succeeds with the credentials.
    pub(super) fn check(&self, reference: &Reference) -> Result<()> {
        let url = self.url("")?;
        let request = Request { method: Method::GET, url, headers: Vec::new() };
        let response = self.send(reference, &[], &request, &mut Payload::None)?;
        if response.status() == 200 {
            response.drain();
            return Ok(());
        }
        Err(response.into_error("GET"))
    }

    /// One request, with redirects, without retries.
    pub(super) fn exchange(
        &self,
        request: &Request,
        payload: &mut Payload<'_>,
        authorization: Option<&str>,
    ) -> Result<Response> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let authorization = authorization.filter(|_| url.same_origin(&request.url));
            let response = self.exchange_once(request, &url, payload, authorization)?;
            if !matches!(response.status(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            // a registry's 301 of an upload would silently lose the body
            let resend = matches!(request.method, Method::GET | Method::HEAD)
                || (matches!(response.status(), 307 | 308) && !matches!(payload, Payload::Stream(..)));
            let Some(target) = response.header("location").filter(|_| resend) else { return Ok(response) };
            let next = url.join(target)?;
            if url.scheme == "https" && next.scheme == "http" && !self.insecure {
                return Err(Error::Protocol {
                    url: url.shown(),
                    message: format!("it redirects from https to plain http ({})", next.shown()),
                });
            }
            response.drain();
            url = next;
        }
        Err(Error::Protocol { url: request.url.shown(), message: "too many redirects".into() })
    }

    fn exchange_once(
        &self,
        request: &Request,
        url: &Url,
        payload: &mut Payload<'_>,
        authorization: Option<&str>,
    ) -> Result<Response> {
        let agent = self.agent(url)?;
        let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url.to_string());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        let invalid =
            |error: ureq::http::Error| Error::Protocol { url: url.shown(), message: error.to_string() };
        let result = match payload {
            Payload::None => agent.run(builder.body(()).map_err(invalid)?),
            Payload::Bytes(bytes) => agent.run(builder.body(*bytes).map_err(invalid)?),
            Payload::Stream(reader, size) => {
                let builder = builder.header(header::CONTENT_LENGTH, *size);
                agent.run(builder.body(SendBody::from_reader(*reader)).map_err(invalid)?)
            }
        };
        let response = result.map_err(|error| self.transport_error(request, url, error))?;
        let (parts, body) = response.into_parts();
        self.keep_warnings(&parts.headers);
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.into_reader(),
            url: url.clone(),
            read_timeout: self.options.read_timeout,
        })
    }

    fn transport_error(&self, request: &Request, url: &Url, error: ureq::Error) -> Error {
        let operation = request.method.to_string();
        let url = url.shown();
        match error {
            ureq::Error::Timeout(kind) => {
                let after = match kind {
                    ureq::Timeout::Connect | ureq::Timeout::Resolve => self.options.connect_timeout,
                    _ => self.options.read_timeout,
                };
                Error::Timeout { operation, url, after }
            }
            ureq::Error::Io(error) => match crate::error::unwrap_io(error) {
                Ok(own) => own,
                Err(error) => Error::Connection { operation, url, source: Box::new(error) },
            },
            other => Error::Connection { operation, url, source: Box::new(other) },
        }
    }

    fn keep_warnings(&self, headers: &HeaderMap) {
        for value in headers.get_all("warning") {
            let text = value.to_str().ok().and_then(|value| value.trim().strip_prefix("299 - "));
            if let Some(text) = text {
                let mut warnings = lock(&self.warnings);
                if warnings.len() < MAX_WARNINGS {
                    warnings.insert(response::clean(text.trim().trim_matches('"'), 500));
                }
            }
        }
    }

    /// The agent for an address: its proxy makes the difference.
    fn agent(&self, url: &Url) -> Result<Agent> {
        let proxy = self.proxy(url);
        let mut agents = lock(&self.agents);
        if let Some(agent) = agents.get(&proxy) {
            return Ok(agent.clone());
        }
        let tls = match self.tls.get() {
            Some(tls) => tls.clone(),
            None => {
                let tls = tls::settings(&self.options, &self.registry, self.insecure)?;
                self.tls.get_or_init(|| tls).clone()
            }
        };
        let parsed = match &proxy {
            None => None,
            Some(address) => Some(ureq::Proxy::new(address).map_err(|_| Error::Config {
                path: "proxy settings".into(),
                message: "the address of the proxy is not valid".into(),
            })?),
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .proxy(parsed)
            .user_agent(&self.options.user_agent)
            .timeout_connect(Some(self.options.connect_timeout))
            .timeout_resolve(Some(self.options.connect_timeout))
            .timeout_per_read(Some(self.options.read_timeout))
            .timeout_per_write(Some(self.options.read_timeout))
            .max_idle_connections(16)
            .max_idle_connections_per_host(16)
            .input_buffer_size(128 << 10)
            .output_buffer_size(128 << 10)
            .build()
            .new_agent();
        agents.insert(proxy, agent.clone());
        Ok(agent)
    }

    fn proxy(&self, url: &Url) -> Option<String> {
        let options = &self.options.proxy;
        let proxy = if url.scheme == "https" { &options.https } else { &options.http };
        let direct = bypasses_proxy(url.host(), options.no_proxy.as_deref().unwrap_or_default());
        proxy.clone().filter(|proxy| !proxy.is_empty() && !direct)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("host", &self.host).finish_non_exhaustive()
    }
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse_challenges)
        .collect()
}

/// Whether a host is reached directly: this machine, or an entry of the list (`*`, `host`, `.domain`; a host also
/// covers its subdomains, as for Go's clients).
pub(super) fn bypasses_proxy(host: &str, list: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(
        |entry| {
            let entry = entry.split_once(':').map_or(entry.as_str(), |(host, _)| host);
            let domain = entry.trim_start_matches('*').trim_start_matches('.');
            entry == "*"
                || host == domain
                || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_left_out() {
        for (host, list, direct) in [
            ("localhost", "", true),
            ("127.0.0.1", "", true),
            ("r.example", "", false),
            ("r.example", "*", true),
            ("r.example", "a, r.example", true),
            ("r.example", ".example", true),
            ("r.example", "xample", false),
            ("sub.r.example", "r.example", true),
        ] {
            assert_eq!(bypasses_proxy(host, list), direct, "{host} {list}");
        }
    }
}
