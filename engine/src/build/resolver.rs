//! What the Containerfile names and the context does not have: images, downloads.

use super::events::{BuildEvent, BuildProgress};
use super::git::Git;
use super::requests::BuildRequest;
use crate::images::lookup::Found;
use crate::images::{PullPolicy, PullRequest, TransferEvent};
use crate::{Engine, Error, Result};
use builder::ports::{
    GitAccess, GitSource, HttpAnswer, HttpMemory, HttpRequest, PortError, ResolvedImage, Resolver,
};
use oci::Platform;
use registry::client::{Download, Downloaded, download as download_file};
use rustix::fs::{Mode, OFlags};
use std::path::{Path, PathBuf};

/// Finds base images: the local store by policy, else a registry.
pub(super) struct ImageResolver<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a BuildRequest,
    pub(super) progress: BuildProgress<'a>,
    /// A directory of the build's lease.
    pub(super) scratch: PathBuf,
}

impl ImageResolver<'_> {
    fn git(&self) -> Git<'_> {
        Git {
            environment: &self.request.proxy_env,
            verify: self.request.registry.tls_verify != Some(false),
            known_hosts: self.engine.config().known_hosts(),
        }
    }

    fn resolve(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage> {
        let progress = self.progress;
        let forward = move |event: TransferEvent| progress(BuildEvent::Transfer { event });
        let host = Platform::host();
        let foreign = *platform != host;
        if let Some(found) = self.local(reference, platform)? {
            return self.resolved(found);
        }
        // `--pull=always` fetches bases anew, but what exists only here stays usable
        let pull = PullRequest {
            reference: reference.to_owned(),
            policy: match self.request.pull {
                PullPolicy::Always if reference.starts_with("localhost/") => PullPolicy::Newer,
                policy => policy,
            },
            platform: foreign.then(|| platform.to_string()),
            registry: self.request.registry.clone(),
        };
        let report = self.engine.images().pull(&pull, &forward)?;
        let mut found = self.engine.find_image(&report.id)?;
        found.name = report.name.or(found.name);
        self.resolved(found)
    }

    /// What only the local store has: an image ID, and the images of a list.
    fn local(&self, reference: &str, platform: &Platform) -> Result<Option<Found>> {
        let is_id = reference.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
        if is_id {
            return self.engine.find_image_optional(reference);
        }
        let Some(list) = self.engine.find_list(reference)? else { return Ok(None) };
        let ranked = list.entries.iter().filter_map(|entry| Some((platform.rank(&entry.platform)?, entry)));
        match ranked.min_by_key(|(rank, _)| *rank) {
            Some((_, entry)) => self.engine.find_image_optional(&entry.image.to_string()),
            None => Err(Error::NotFound { what: "image", name: format!("{reference} for {platform}") }),
        }
    }

    fn resolved(&self, found: Found) -> Result<ResolvedImage> {
        let config = self.engine.image_config(&found.image)?;
        let digest = found
            .tag()
            .and_then(|tag| tag.manifest.clone())
            .or_else(|| found.image.record.manifest.as_ref().map(|manifest| manifest.digest.clone()))
            .unwrap_or_else(|| found.id().clone());
        Ok(ResolvedImage {
            name: found.shown(),
            digest,
            config: config.value().clone(),
            chain: found.image.record.layers.clone(),
        })
    }
}

impl Resolver for ImageResolver<'_> {
    fn image(&self, reference: &str, platform: &Platform) -> std::result::Result<ResolvedImage, PortError> {
        self.resolve(reference, platform).map_err(Into::into)
    }

    fn http(&self, request: &HttpRequest<'_>) -> std::result::Result<HttpAnswer, PortError> {
        let options = self.engine.client_options(&self.request.registry)?;
        let cancelled = || request.cancel.is_cancelled();
        let download = Download {
            url: request.url,
            etag: request.known.and_then(|known| known.etag.as_deref()),
            last_modified: request.known.and_then(|known| known.last_modified),
            authorization: request.authorization,
            cancelled: &cancelled,
        };
        // without a name: gone with its last descriptor, whatever happens
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&self.scratch, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| Error::os("make a file for the download", error))?;
        let mut body = std::fs::File::from(file);
        Ok(match download_file(&options, &download, &mut body)? {
            Downloaded::Unchanged => HttpAnswer::Unchanged,
            Downloaded::Written { etag, last_modified } => {
                HttpAnswer::File { body, memory: HttpMemory { etag, last_modified } }
            }
        })
    }

    fn git_commit(
        &self,
        source: &GitSource,
        access: &GitAccess<'_>,
    ) -> std::result::Result<String, PortError> {
        Ok(self.git().commit(source, access)?)
    }

    fn git_checkout(
        &self,
        source: &GitSource,
        access: &GitAccess<'_>,
        commit: &str,
        into: &Path,
    ) -> std::result::Result<i64, PortError> {
        Ok(self.git().checkout(source, access, commit, into)?)
    }
}
