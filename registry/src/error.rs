//! The crate's error.

use oci::{Digest, Platform};
use std::path::PathBuf;
use std::time::Duration;

/// Result of this crate's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One entry of a registry's error body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The code, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The registry's own words, control characters removed.
    pub message: String,
}

/// What can go wrong between here and a registry or an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no image name.
    #[error("invalid reference {text:?}: {reason}")]
    InvalidReference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name has no host and there is no rule that gives it one.
    #[error("short name {name:?} has no registry: no alias and no unqualified-search-registries in {file}")]
    ShortName {
        /// The name.
        name: String,
        /// Where the rule would stand.
        file: String,
    },
    /// `registries.conf` blocks this registry.
    #[error("registry of {reference} is blocked in {file}")]
    Blocked {
        /// What was asked for.
        reference: String,
        /// Which file says so.
        file: String,
    },
    /// A configuration file is not valid.
    #[error("{path}: {message}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file operation failed.
    #[error("{operation} {path}", path = path.display())]
    File {
        /// Such as `open` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Reading or writing a stream failed.
    #[error("{operation}")]
    Stream {
        /// What was attempted.
        operation: String,
        /// The error of the stream.
        source: std::io::Error,
    },
    /// A credential helper failed.
    #[error("credential helper {program}: {message}")]
    Helper {
        /// The program.
        program: String,
        /// What it said or did.
        message: String,
    },
    /// No connection, or it broke.
    #[error("{operation} {url}")]
    Connection {
        /// Such as `GET`.
        operation: String,
        /// What was asked, without its query.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry did not answer in time.
    #[error("{operation} {url}: no answer for {} s", after.as_secs_f32())]
    Timeout {
        /// Such as `GET`.
        operation: String,
        /// What was asked, without its query.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// Credentials are missing or wrong.
    #[error("{url}: unauthorized: {message}")]
    Unauthorized {
        /// What was asked.
        url: String,
        /// The registry's words.
        message: String,
    },
    /// The registry refused.
    #[error("{operation} {url}: status {status}{}", render(errors))]
    Status {
        /// Such as `PUT`.
        operation: String,
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// The error body's entries.
        errors: Vec<ApiError>,
        /// `Retry-After`, where it was given.
        retry_after: Option<Duration>,
    },
    /// The image, blob or name does not exist there.
    #[error("{what} not found in {place}")]
    NotFound {
        /// Such as `manifest latest`.
        what: String,
        /// Registry and repository, or the archive.
        place: String,
    },
    /// The registry answered something that the protocol does not allow.
    #[error("{url}: {message}")]
    Protocol {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// Content does not have the digest or size that names it.
    #[error(
        "{what}: content has digest {actual} and {actual_size} bytes, not {expected} and {expected_size} bytes"
    )]
    ContentMismatch {
        /// Where it came from.
        what: String,
        /// The digest that names it.
        expected: Digest,
        /// The size that was promised.
        expected_size: u64,
        /// The digest of what came.
        actual: Digest,
        /// The size of what came.
        actual_size: u64,
    },
    /// An answer or file is larger than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which one.
        what: String,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// A manifest, index or config is not valid.
    #[error("{what}")]
    Document {
        /// Where it came from.
        what: String,
        /// What is wrong with it.
        source: oci::Error,
    },
    /// An archive or layout is not valid.
    #[error("{path}: {message}")]
    Archive {
        /// The archive.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// An index has nothing for the platform.
    #[error("no image for {wanted} in {place}, which has {}", list(available))]
    NoPlatform {
        /// What was asked for.
        wanted: Box<Platform>,
        /// Where.
        place: String,
        /// What is there.
        available: Vec<Platform>,
    },
    /// Certificates of `certs.d` are not usable.
    #[error("{path}: {message}", path = path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The policy does not allow an image.
    #[error("{image} may not be used: {reason} (policy {policy})")]
    Rejected {
        /// Where the image comes from.
        image: String,
        /// What is missing.
        reason: String,
        /// The file.
        policy: String,
    },
    /// Signing, or a program that signs or verifies, failed.
    #[error("{what}: {message}")]
    Signing {
        /// The program, or what was to be done.
        what: String,
        /// What it said.
        message: String,
    },
    /// What was asked is not supported at this end.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// All mirrors and the registry itself failed.
    #[error("{reference}: {}", failures.join("; "))]
    AllSources {
        /// What was asked for.
        reference: String,
        /// One line for each place tried before the last.
        failures: Vec<String>,
        /// The error of the last one.
        source: Box<Error>,
    },
    /// The other end, implemented outside this crate, failed.
    #[error("{what}")]
    External {
        /// What was attempted.
        what: String,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn render(errors: &[ApiError]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for error in errors.iter().take(3) {
        let _ = write!(text, ": {}", error.code);
        if !error.message.is_empty() {
            let _ = write!(text, " ({})", error.message);
        }
    }
    text
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none".to_owned();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// An error of a [`Source`](crate::Source) or [`Destination`](crate::Destination) outside this crate.
    pub fn external(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::External { what: what.into(), source: source.into() }
    }

    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { operation, path, source }
    }

    pub(crate) fn stream(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let operation = operation.into();
        move |source| match unwrap_io(source) {
            Ok(error) => error,
            Err(source) => Error::Stream { operation, source },
        }
    }

    pub(crate) fn document(what: impl Into<String>) -> impl FnOnce(oci::Error) -> Self {
        let what = what.into();
        move |source| Error::Document { what, source }
    }

    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::NotFound { .. } => true,
            Error::AllSources { source, .. } => source.is_not_found(),
            _ => false,
        }
    }

    /// Whether credentials are missing, wrong or not sufficient.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Error::Unauthorized { .. } => true,
            Error::Status { status, .. } => *status == 403,
            Error::AllSources { source, .. } => source.is_unauthorized(),
            _ => false,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Status { status, .. } => matches!(status, 429 | 502..=504),
            Error::Timeout { .. } => true,
            Error::Connection { source, .. } => {
                let io = source
                    .downcast_ref::<std::io::Error>()
                    .or_else(|| source.downcast_ref::<ureq::Error>().and_then(io_of));
                io.is_some_and(retryable_io)
            }
            Error::AllSources { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// The error and all its causes in one line.
    pub fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn io_of(error: &ureq::Error) -> Option<&std::io::Error> {
    match error {
        ureq::Error::Io(error) => Some(error),
        _ => None,
    }
}

fn retryable_io(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::UnexpectedEof
            | Kind::TimedOut
            | Kind::WouldBlock
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}

/// Carries an [`Error`] through an interface that knows `io::Error` alone.
pub(crate) fn wrap_io(error: Error) -> std::io::Error {
    std::io::Error::other(error)
}

/// Takes out an [`Error`] that [`wrap_io`] put in.
pub(crate) fn unwrap_io(error: std::io::Error) -> std::result::Result<Error, std::io::Error> {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        match error.into_inner().map(|inner| inner.downcast::<Error>()) {
            Some(Ok(inner)) => Ok(*inner),
            Some(Err(other)) => Err(std::io::Error::other(other)),
            None => Err(std::io::Error::other("no cause")),
        }
    } else {
        Err(error)
    }
}
