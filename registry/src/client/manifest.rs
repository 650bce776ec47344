//! Manifests, tags and deletions.

use super::Target;
use super::connection::{Payload, Request};
use super::retry::with_retry;
use crate::url::Url;
use crate::{Error, Result};
use oci::{Descriptor, Digest, ManifestOrIndex, Raw, media_type};
use serde::Deserialize;
use ureq::http::Method;

/// What is asked for, in the peers' order.
const ACCEPT: [&str; 6] = [
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
    // refused by us with a clear message, which is better than the registry's conversion or its 404
    media_type::DOCKER_SCHEMA1_SIGNED,
    media_type::DOCKER_SCHEMA1,
];
/// Most bytes of one page of tags.
const MAX_PAGE: u64 = 16 << 20;
/// Most tags of a repository.
const MAX_TAGS: usize = 1_000_000;
/// Tags asked for at a time.
const PAGE: &str = "1000";

impl Target<'_> {
    fn manifest_request(&self, method: Method) -> Result<Request> {
        let path = format!("{}/manifests/{}", self.reference.repository(), self.reference.target());
        let url = self.connection.url(&path)?;
        Ok(Request { method, url, headers: vec![("accept", ACCEPT.join(", "))] })
    }

    fn missing(&self) -> Error {
        Error::NotFound {
            what: format!("manifest {}", self.reference.target()),
            place: self.reference.name(),
        }
    }

    pub(super) fn manifest(&self) -> Result<Raw<ManifestOrIndex>> {
        with_retry(&self.connection.options().retry, || {
            let request = self.manifest_request(Method::GET)?;
            let response = self.send(&[self.pull()], &request, &mut Payload::None)?;
            match response.status() {
                200 => {}
                404 => return Err(self.missing()),
                _ => return Err(response.into_error("GET")),
            }
            let hint = response.header("content-type").map(str::to_owned);
            let promised =
                response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
            let bytes = response.read(oci::MAX_MANIFEST_BYTES)?;
            let what = || format!("manifest {}", self.reference);
            let raw = match (self.reference.digest(), &promised) {
                (Some(wanted), _) => Raw::parse_verified(bytes, hint.as_deref(), wanted),
                (None, Some(promised)) => Raw::parse_verified(bytes, hint.as_deref(), promised),
                (None, None) => Raw::parse(bytes, hint.as_deref()),
            };
            raw.map_err(Error::document(what()))
        })
    }

    pub(super) fn head_manifest(&self) -> Result<Option<Descriptor>> {
        with_retry(&self.connection.options().retry, || {
            let request = self.manifest_request(Method::HEAD)?;
            let response = self.send(&[self.pull()], &request, &mut Payload::None)?;
            match response.status() {
                200 => {}
                404 => return Ok(None),
                _ => return Err(response.into_error("HEAD")),
            }
            let digest =
                response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
            let size = response.header("content-length").and_then(|text| text.parse::<u64>().ok());
            let kind = response.header("content-type").unwrap_or_default().to_owned();
            match (digest, size) {
                (Some(digest), Some(size)) => Ok(Some(Descriptor::new(kind, digest, size))),
                _ => Ok(Some(self.manifest()?.descriptor())),
            }
        })
    }

    pub(super) fn put_manifest(&self, raw: &Raw<ManifestOrIndex>) -> Result<()> {
        if let Some(digest) = self.reference.digest()
            && digest != raw.digest()
        {
            return Err(Error::Document {
                what: format!("push {}", self.reference),
                source: oci::Error::DigestMismatch { expected: digest.clone(), actual: raw.digest().clone() },
            });
        }
        with_retry(&self.connection.options().retry, || {
            let mut request = self.manifest_request(Method::PUT)?;
            request.headers = vec![("content-type", raw.media_type().to_owned())];
            let response = self.send(&[self.push()], &request, &mut Payload::Bytes(raw.bytes()))?;
            if !matches!(response.status(), 200..=202) {
                return Err(response.into_error("PUT"));
            }
            let stored =
                response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
            if let Some(stored) = stored
                && stored.algorithm() == raw.digest().algorithm()
                && stored != *raw.digest()
            {
                return Err(Error::Protocol {
                    url: request.url.shown(),
                    message: format!("it stored {stored} instead of {}", raw.digest()),
                });
            }
            response.drain();
            Ok(())
        })
    }

    pub(super) fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let path = format!("{}/tags/list", self.reference.repository());
        let mut next = Some(self.connection.url(&path)?.with_parameter("n", PAGE));
        let mut tags = Vec::new();
        while let Some(url) = next.take() {
            let (page, following) = with_retry(&self.connection.options().retry, || {
                let request = Request { method: Method::GET, url: url.clone(), headers: Vec::new() };
                let response = self.send(&[self.pull()], &request, &mut Payload::None)?;
                match response.status() {
                    200 => {}
                    404 => {
                        let place = self.reference.registry().to_owned();
                        let what = format!("repository {}", self.reference.repository());
                        return Err(Error::NotFound { what, place });
                    }
                    _ => return Err(response.into_error("GET")),
                }
                let following = response.header("link").and_then(next_link).map(str::to_owned);
                let bytes = response.read(MAX_PAGE)?;
                let page: Page = serde_json::from_slice(&bytes).map_err(|_| Error::Protocol {
                    url: url.shown(),
                    message: "the list of tags is not valid JSON".into(),
                })?;
                Ok((page, following))
            })?;
            let page = page.tags.unwrap_or_default();
            if page.is_empty() {
                break;
            }
            tags.extend(page.into_iter().filter(|tag| crate::reference::is_tag(tag)));
            if tags.len() > MAX_TAGS {
                return Err(Error::TooLarge { what: "list of tags".into(), limit: MAX_TAGS as u64 });
            }
            next = following
                .map(|target| self.same_place(&url, &target))
                .transpose()?
                .filter(|next| *next != url);
        }
        Ok(tags)
    }

    pub(super) fn same_place(&self, url: &Url, target: &str) -> Result<Url> {
        let mut next = url.join(target)?;
        // a proxy in front of the registry may hide its scheme from it
        if next.host() == url.host() {
            next.scheme = url.scheme;
            next.authority.clone_from(&url.authority);
            return Ok(next);
        }
        Err(Error::Protocol { url: url.shown(), message: "the next page of tags is on another host".into() })
    }

    pub(super) fn delete_manifest(&self) -> Result<()> {
        let digest = match self.reference.digest() {
            Some(digest) => digest.clone(),
            None => self.head_manifest()?.ok_or_else(|| self.missing())?.digest,
        };
        let path = format!("{}/manifests/{digest}", self.reference.repository());
        self.delete(&path, || Error::NotFound {
            what: format!("manifest {digest}"),
            place: self.reference.name(),
        })
    }

    pub(super) fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let path = format!("{}/blobs/{digest}", self.reference.repository());
        self.delete(&path, || Error::NotFound {
            what: format!("blob {digest}"),
            place: self.reference.name(),
        })
    }

    fn delete(&self, path: &str, missing: impl Fn() -> Error) -> Result<()> {
        with_retry(&self.connection.options().retry, || {
            let url = self.connection.url(path)?;
            let request = Request { method: Method::DELETE, url, headers: Vec::new() };
            let response = self.send(&[self.reference.scope("delete")], &request, &mut Payload::None)?;
            match response.status() {
                200..=204 => {
                    response.drain();
                    Ok(())
                }
                404 => Err(missing()),
                405 => Err(Error::Unsupported("the registry does not allow deleting")),
                _ => Err(response.into_error("DELETE")),
            }
        })
    }
}

/// The target of `<...>; rel="next"`.
pub(super) fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        parameters.to_ascii_lowercase().contains("rel=\"next\"").then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        assert_eq!(
            next_link("</v2/a/tags/list?last=x&n=1>; rel=\"next\""),
            Some("/v2/a/tags/list?last=x&n=1")
        );
        assert_eq!(next_link("</a>; rel=\"prev\""), None);
        assert_eq!(next_link("junk"), None);
    }
}
