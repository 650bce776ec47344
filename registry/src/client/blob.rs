//! Reading blobs, with resumption of broken connections by range.

use super::connection::{Payload, Request};
use super::response::body_error;
use super::retry::with_retry;
use super::{OwnedTarget, Target};
use crate::error::wrap_io;
use crate::{Error, Result};
use oci::{Descriptor, Digest};
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// So much progress allows another resumption.
const PROGRESS: u64 = 1 << 20;
/// So long since the last resumption allows another one.
const PAUSE: Duration = Duration::from_secs(60);

impl Target<'_> {
    pub(super) fn has_blob(&self, digest: &Digest, scope: String) -> Result<bool> {
        with_retry(&self.connection.options().retry, || {
            let url = self.connection.url(&format!("{}/blobs/{digest}", self.reference.repository()))?;
            let request = Request { method: Method::HEAD, url, headers: Vec::new() };
            let response = self.send(std::slice::from_ref(&scope), &request, &mut Payload::None)?;
            match response.status() {
                200..=299 => Ok(true),
                404 => Ok(false),
                _ => Err(response.into_error("HEAD")),
            }
        })
    }

    /// Opens the body of a blob from `offset` on, which must be below its size.
    fn open_blob(&self, descriptor: &Descriptor, offset: u64) -> Result<ureq::BodyReader<'static>> {
        let digest = &descriptor.digest;
        let url = self.connection.url(&format!("{}/blobs/{digest}", self.reference.repository()))?;
        let mut headers = Vec::new();
        if offset > 0 {
            headers.push(("range", format!("bytes={offset}-")));
        }
        let request = Request { method: Method::GET, url, headers };
        let response = self.send(&[self.pull()], &request, &mut Payload::None)?;
        let protocol = |message: String| Error::Protocol { url: response.url.shown(), message };
        match (response.status(), offset) {
            (200, 0) => {
                let length = response.header("content-length").and_then(|text| text.parse::<u64>().ok());
                if let Some(length) = length.filter(|length| *length != descriptor.size) {
                    return Err(protocol(format!(
                        "blob {digest} has {length} bytes, but the manifest says {}",
                        descriptor.size
                    )));
                }
            }
            (206, 1..) => {
                let range = response.header("content-range").unwrap_or_default();
                let from = range.trim().strip_prefix("bytes ").and_then(|rest| rest.split('-').next());
                if from.and_then(|from| from.trim().parse::<u64>().ok()) != Some(offset) {
                    return Err(protocol(format!("asked for bytes from {offset}, the answer has {range:?}")));
                }
            }
            (200, 1..) => return Err(protocol("it cannot resume: it ignores ranges".into())),
            (404, _) => {
                return Err(Error::NotFound { what: format!("blob {digest}"), place: self.reference.name() });
            }
            _ => return Err(response.into_error("GET")),
        }
        Ok(response.body)
    }
}

/// A blob's bytes. Checks the size, not the digest.
pub(super) struct BlobReader {
    target: OwnedTarget,
    descriptor: Descriptor,
    position: u64,
    body: Option<ureq::BodyReader<'static>>,
    resumed: Option<(Instant, u64)>,
}

impl BlobReader {
    pub(super) fn open(target: OwnedTarget, descriptor: &Descriptor, offset: u64) -> Result<Self> {
        let mut reader =
            Self { target, descriptor: descriptor.clone(), position: offset, body: None, resumed: None };
        if offset < descriptor.size || (offset == 0 && descriptor.size == 0) {
            reader.connect()?;
        }
        Ok(reader)
    }

    fn connect(&mut self) -> Result<()> {
        let policy = self.target.connection.options().retry;
        let body = with_retry(&policy, || self.target.borrow().open_blob(&self.descriptor, self.position))?;
        self.body = Some(body);
        Ok(())
    }

    fn shown(&self) -> String {
        format!("blob {} of {}", self.descriptor.digest, self.target.reference.name())
    }

    /// After a broken read: connects again, where that is likely to help.
    fn resume(&mut self, error: Error) -> Result<()> {
        let allowed = match self.resumed {
            None => true,
            Some((when, position)) => self.position >= position + PROGRESS || when.elapsed() >= PAUSE,
        };
        if !allowed || self.target.connection.options().retry.retries == 0 {
            return Err(error);
        }
        self.resumed = Some((Instant::now(), self.position));
        std::thread::sleep(self.target.connection.options().retry.first_delay);
        // a server that cannot resume makes the first error the interesting one
        self.connect().map_err(|again| match again {
            Error::Protocol { .. } => error,
            other => other,
        })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.descriptor.size.saturating_sub(self.position);
        if left == 0 || buffer.is_empty() {
            if let Some(mut body) = self.body.take().filter(|_| left == 0) {
                // the end must be here; reading it also frees the connection for the next request
                let mut probe = [0_u8; 1];
                if matches!(body.read(&mut probe), Ok(1)) {
                    return Err(wrap_io(Error::Protocol {
                        url: self.shown(),
                        message: format!(
                            "it is longer than the {} bytes of the manifest",
                            self.descriptor.size
                        ),
                    }));
                }
            }
            return Ok(0);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        loop {
            let Some(body) = &mut self.body else {
                return Err(wrap_io(Error::Protocol {
                    url: self.shown(),
                    message: "it was read past a failure".into(),
                }));
            };
            let error = match body.read(&mut buffer[..wanted]) {
                Ok(0) => std::io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.body = None;
            let after = self.target.connection.options().read_timeout;
            let error = body_error(error, &self.shown(), after);
            self.resume(error).map_err(wrap_io)?;
        }
    }
}
