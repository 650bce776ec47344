//! What the Containerfile names and the context does not have: images, downloads.

use super::events::{BuildEvent, BuildProgress};
use super::requests::BuildRequest;
use crate::images::{PullPolicy, PullRequest, TransferEvent};
use crate::{Engine, Error, Result};
use builder::ports::{HttpAnswer, HttpMemory, PortError, ResolvedImage, Resolver};
use oci::Platform;

/// Finds base images: the local store by policy, else a registry.
pub(super) struct ImageResolver<'a> {
    pub(super) engine: &'a Engine,
    pub(super) request: &'a BuildRequest,
    pub(super) progress: BuildProgress<'a>,
}

impl ImageResolver<'_> {
    fn resolve(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage> {
        let progress = self.progress;
        let forward = move |event: TransferEvent| progress(BuildEvent::Transfer { event });
        let host = Platform::host();
        let foreign = *platform != host;
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

    fn http(&self, url: &str, _known: Option<&HttpMemory>) -> std::result::Result<HttpAnswer, PortError> {
        Err(Error::unsupported(format!("ADD {url}"), "downloads by ADD are not built yet: use RUN with curl")
            .into())
    }
}
