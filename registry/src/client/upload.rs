//! Uploading blobs: POST, one streamed PATCH, PUT; or a mount from another repository.

use super::Target;
use super::connection::{Payload, Request};
use super::response::Response;
use super::retry::with_retry;
use crate::url::Url;
use crate::{Error, Reference, Result};
use oci::{Descriptor, Digest};
use std::io::Read;
use ureq::http::Method;

impl Target<'_> {
    pub(super) fn upload_blob<'a>(
        &self,
        descriptor: &Descriptor,
        open: &dyn Fn() -> Result<Box<dyn Read + Send + 'a>>,
    ) -> Result<()> {
        with_retry(&self.connection.options().retry, || {
            let response = self.begin_upload(&[self.push()], &[])?;
            if response.status() != 202 {
                return Err(response.into_error("POST"));
            }
            let session = self.location(&response)?;
            response.drain();
            let sent = self.send_content(&session, descriptor, open);
            if let Err(error) = &sent
                && !matches!(error, Error::Timeout { .. } | Error::Connection { .. })
            {
                self.cancel_upload(&session);
            }
            sent
        })
    }

    fn send_content<'a>(
        &self,
        session: &Url,
        descriptor: &Descriptor,
        open: &dyn Fn() -> Result<Box<dyn Read + Send + 'a>>,
    ) -> Result<()> {
        let mut session = session.clone();
        if descriptor.size > 0 {
            let mut content = Exact { inner: open()?, left: descriptor.size };
            let request = Request {
                method: Method::PATCH,
                url: session.clone(),
                headers: vec![("content-type", "application/octet-stream".to_owned())],
            };
            let mut payload = Payload::Stream(&mut content, descriptor.size);
            let response = self.send(&[self.push()], &request, &mut payload)?;
            if !matches!(response.status(), 200..=204) {
                return Err(response.into_error("PATCH"));
            }
            session = self.location(&response)?;
            response.drain();
            // the reader tells at its end whether the content was what it should be
            let rest = content.inner.read(&mut [0]).map_err(Error::stream("read the end of the blob"))?;
            if rest > 0 {
                let what = format!("blob {}", descriptor.digest);
                return Err(Error::TooLarge { what, limit: descriptor.size });
            }
        }
        let url = session.with_parameter("digest", descriptor.digest.as_str());
        let request = Request { method: Method::PUT, url, headers: Vec::new() };
        let response = self.send(&[self.push()], &request, &mut Payload::Bytes(&[]))?;
        match response.status() {
            200..=204 => {
                response.drain();
                Ok(())
            }
            _ => Err(response.into_error("PUT")),
        }
    }

    pub(super) fn mount_blob(&self, from: &Reference, digest: &Digest) -> Result<bool> {
        let scopes = [self.push(), from.scope("pull")];
        let response =
            self.begin_upload(&scopes, &[("mount", digest.as_str()), ("from", from.repository())]).and_then(
                |response| {
                    if response.status() >= 500 { Err(response.into_error("POST")) } else { Ok(response) }
                },
            );
        match response {
            Ok(response) if response.status() == 201 => {
                response.drain();
                Ok(true)
            }
            Ok(response) => {
                if response.status() == 202
                    && let Ok(session) = self.location(&response)
                {
                    response.drain();
                    self.cancel_upload(&session);
                }
                Ok(false)
            }
            // only a short cut: the upload that follows tells what is really wrong
            Err(_) => Ok(false),
        }
    }

    fn begin_upload(&self, scopes: &[String], parameters: &[(&str, &str)]) -> Result<Response> {
        let mut url = self.connection.url(&format!("{}/blobs/uploads/", self.reference.repository()))?;
        for (key, value) in parameters {
            url = url.with_parameter(key, value);
        }
        let request = Request { method: Method::POST, url, headers: Vec::new() };
        self.send(scopes, &request, &mut Payload::Bytes(&[]))
    }

    fn location(&self, response: &Response) -> Result<Url> {
        let target = response.header("location").ok_or_else(|| Error::Protocol {
            url: response.url.shown(),
            message: "the answer to an upload has no Location".into(),
        })?;
        let mut url = response.url.join(target)?;
        // a proxy that ends TLS may hide the scheme from the registry behind it
        if url.scheme == "http" && response.url.scheme == "https" {
            if url.host() != response.url.host() && !self.connection.insecure() {
                return Err(Error::Protocol {
                    url: response.url.shown(),
                    message: format!("it sends an upload from https to plain http ({})", url.shown()),
                });
            }
            if url.host() == response.url.host() {
                url.scheme = "https";
                url.authority.clone_from(&response.url.authority);
            }
        }
        Ok(url)
    }

    fn cancel_upload(&self, session: &Url) {
        let request = Request { method: Method::DELETE, url: session.clone(), headers: Vec::new() };
        // best effort: the registry lets unfinished sessions expire by itself
        if let Ok(response) = self.send(&[self.push()], &request, &mut Payload::None) {
            response.drain();
        }
    }
}

/// Content of a promised length: ending earlier is an error, because the request could not be completed.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(crate::error::wrap_io(Error::Unsupported("the blob ends before its size")));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
