//! A registry in this process, for tests: on loopback, with authentication, and with faults on demand.
//!
//! It speaks as much of the distribution protocol as clients use, over plain HTTP, keeps everything in memory, and
//! counts what it is asked. One thread a connection.

mod http;
pub mod promises;
mod store;

use oci::Digest;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the server wants before it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// User and password with every request.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A bearer token from the server's own `/token`, which gives one for user and password, or for the refresh
    /// token; anonymous tokens can pull where that is allowed.
    Bearer {
        /// The user.
        username: String,
        /// The password.
        password: String,
        /// The refresh (identity) token.
        refresh_token: String,
        /// Whether tokens without credentials can pull.
        anonymous_pull: bool,
    },
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing comes after so many bytes of the body.
    Stall(usize),
    /// The byte at this position of the body is changed.
    Corrupt(usize),
    /// The body, and its announced length, end after so many bytes.
    Truncate(usize),
    /// This status, with this `Retry-After` in seconds where it is given.
    Status(u16, Option<u32>),
    /// The body continues for so many bytes past its end.
    Extend(usize),
}

/// A fault for requests that match.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The method.
    pub method: String,
    /// A part of the path.
    pub path: String,
    /// What goes wrong.
    pub kind: FaultKind,
    /// How many matching requests it befalls.
    pub times: usize,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// Bytes of the request's body.
    pub body_bytes: u64,
    /// The status that was answered.
    pub status: u16,
}

/// Settings of a [`Server`].
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// What it wants before it answers.
    pub auth: Auth,
    /// Redirect GETs of blobs to this origin (`http://host:port`), with the same path.
    pub redirect_blobs: Option<String>,
    /// Whether mounts are done; else they become uploads (202).
    pub refuse_mounts: bool,
    /// Whether ranges are ignored.
    pub ignore_ranges: bool,
    /// Text of a `Warning` header.
    pub warning: Option<String>,
}

#[derive(Debug)]
struct Shared {
    options: ServerOptions,
    address: SocketAddr,
    state: Mutex<store::State>,
    faults: Mutex<Vec<Fault>>,
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server. It ends with this value.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// Starts a server on a free loopback port.
    pub fn start(options: ServerOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            options,
            address,
            state: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::Builder::new().name("test-registry".into()).spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, accepting.clone()) else { continue };
                std::thread::spawn(move || shared.serve(&stream));
            }
        })?;
        Ok(Self { shared })
    }

    /// `127.0.0.1:PORT`, to stand in references.
    pub fn address(&self) -> String {
        self.shared.address.to_string()
    }

    /// Adds a fault.
    pub fn fault(&self, method: &str, path: &str, kind: FaultKind, times: usize) {
        let fault = Fault { method: method.into(), path: path.into(), kind, times };
        lock(&self.shared.faults).push(fault);
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Number of requests with this method whose target has this part.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.requests().iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        lock(&self.shared.seen).clear();
    }

    /// Forgets the tokens that were given out, as if they had expired.
    pub fn forget_tokens(&self) {
        lock(&self.shared.state).tokens.clear();
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        lock(&self.shared.state).put_blob(repository, bytes.to_vec())
    }

    /// Puts a manifest into a repository, under its digest and a tag.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> Digest {
        lock(&self.shared.state).put_manifest(repository, tag, media_type, bytes.to_vec())
    }

    /// A blob's bytes, if the repository has it.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        lock(&self.shared.state).blob(repository, digest).map(|bytes| bytes.to_vec())
    }

    /// A manifest's bytes by tag or digest.
    pub fn manifest(&self, repository: &str, target: &str) -> Option<Vec<u8>> {
        lock(&self.shared.state).manifest(repository, target).map(|(_, bytes)| bytes.to_vec())
    }

    /// Uploads that were begun and neither finished nor cancelled.
    pub fn open_uploads(&self) -> usize {
        lock(&self.shared.state).open_uploads()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // wakes the accepting thread, so that it sees the flag
        let _ = TcpStream::connect_timeout(&self.shared.address, Duration::from_secs(1));
    }
}
