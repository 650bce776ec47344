//! A registry as source or destination.

use super::{Blob, Destination, Placement, Source, Which, attachments};
use crate::client::Client;
use crate::config::Endpoint;
use crate::trust::{Kind, Origin, Place, Signature, Signatures, read_place, write_place};
use crate::{Error, Reference, Result};
use oci::{Descriptor, Digest, ManifestOrIndex, Raw};
use std::io::Read;
use std::sync::OnceLock;

/// An image in a registry, or in one of its mirrors.
#[derive(Debug)]
pub struct RemoteSource {
    client: Client,
    reference: Reference,
    endpoints: Vec<Endpoint>,
    /// The endpoint that gave the manifest: its blobs are asked for there first.
    chosen: OnceLock<usize>,
}

impl RemoteSource {
    /// The image of a name. Mirrors of the configuration are tried first; a blocked registry is an error.
    pub fn new(client: &Client, reference: &Reference) -> Result<Self> {
        let endpoints = client.options().registries.endpoints(reference)?;
        Ok(Self { client: client.clone(), reference: reference.clone(), endpoints, chosen: OnceLock::new() })
    }

    /// The name.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Asks the endpoints in order, the chosen one first.
    fn first<T>(&self, ask: impl Fn(&Endpoint) -> Result<T>) -> Result<(usize, T)> {
        let chosen = self.chosen.get().copied();
        let order = chosen.into_iter().chain((0..self.endpoints.len()).filter(|at| Some(*at) != chosen));
        let mut failures = Vec::new();
        let mut last = None;
        for at in order {
            let endpoint = &self.endpoints[at];
            match ask(endpoint) {
                Ok(value) => return Ok((at, value)),
                Err(error) => {
                    if let Some((name, error)) = last.replace((endpoint.reference.name(), error)) {
                        failures.push(format!("{name}: {}", Error::full_text(&error)));
                    }
                }
            }
        }
        match last {
            Some((_, error)) if failures.is_empty() => Err(error),
            Some((_, error)) => Err(Error::AllSources {
                reference: self.reference.to_string(),
                failures,
                source: Box::new(error),
            }),
            None => {
                Err(Error::NotFound { what: "a place to pull from".into(), place: self.reference.name() })
            }
        }
    }
}

impl Source for RemoteSource {
    fn describe(&self) -> String {
        self.reference.to_string()
    }

    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        let (at, raw) = self.first(|endpoint| match which {
            Which::Root => self.client.endpoint_manifest(&endpoint.reference, endpoint.insecure),
            Which::Entry(descriptor) => {
                let reference = endpoint.reference.with_digest(descriptor.digest.clone());
                self.client.endpoint_manifest(&reference, endpoint.insecure)
            }
        })?;
        // the first answer decides; another thread's equal choice does no harm
        let _ = self.chosen.set(at);
        Ok(raw)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let (_, reader) = self.first(|endpoint| {
            self.client.endpoint_blob(&endpoint.reference, endpoint.insecure, descriptor, offset)
        })?;
        Ok(reader)
    }

    fn origin(&self) -> Origin {
        Origin::registry(&self.reference)
    }

    fn signatures(&self, manifest: &Digest) -> Result<Signatures> {
        // the configuration speaks of names, the attachments lie where the manifest came from
        let config = self.client.signature_config()?;
        let mut found = Signatures::default();
        if let Some(place) = config.reading(&self.reference)? {
            found.list = read_place(&place, manifest, self.client.options())?;
        }
        if config.attachments(&self.reference) {
            let at = self.chosen.get().copied().unwrap_or(0);
            let endpoint = self.endpoints.get(at).ok_or_else(|| Error::NotFound {
                what: "a place to pull from".into(),
                place: self.reference.name(),
            })?;
            found.list.extend(attachments::read(&self.client, endpoint, manifest)?);
        } else {
            found.note = Some(format!(
                "those beside images in the registry are not looked at: set use-sigstore-attachments for {} in registries.d",
                self.reference.registry()
            ));
        }
        Ok(found)
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.reference)
    }
}

/// A name in a registry to push to.
#[derive(Debug)]
pub struct RemoteDestination {
    client: Client,
    reference: Reference,
}

impl RemoteDestination {
    /// Pushes to this name.
    pub fn new(client: &Client, reference: &Reference) -> Self {
        Self { client: client.clone(), reference: reference.clone() }
    }
}

impl Destination for RemoteDestination {
    fn describe(&self) -> String {
        self.reference.to_string()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        self.client.has_blob(&self.reference, &descriptor.digest)
    }

    fn mount_blob(&self, descriptor: &Descriptor, from: &Reference) -> Result<bool> {
        self.client.mount_blob(&self.reference, from, &descriptor.digest)
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Result<()> {
        self.client.upload_blob(&self.reference, blob.descriptor(), &|| {
            let verified: Box<dyn Read + Send + '_> = Box::new(blob.verified()?);
            Ok(verified)
        })
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Result<()> {
        match placement {
            Placement::Root => self.client.put_manifest(&self.reference, raw),
            Placement::Entry => {
                self.client.put_manifest(&self.reference.with_digest(raw.digest().clone()), raw)
            }
        }
    }

    fn takes_signatures(&self, kind: Kind) -> Result<()> {
        let config = self.client.signature_config()?;
        let refused = |message: &str| {
            Err(Error::Signing {
                what: format!("keep signatures of {}", self.reference),
                message: message.into(),
            })
        };
        match kind {
            Kind::Sigstore if config.attachments(&self.reference) => Ok(()),
            Kind::Sigstore => refused(
                "sigstore signatures beside images are not allowed: set use-sigstore-attachments for the registry in registries.d",
            ),
            Kind::Simple => match config.writing(&self.reference)? {
                Some(Place::Directory(_)) => Ok(()),
                Some(Place::Server(_)) => refused(
                    "its lookaside server is only read: set lookaside-staging to a file:/// address in registries.d",
                ),
                None => refused("no place is known: set lookaside-staging in registries.d"),
            },
        }
    }

    fn stored_signatures(&self, manifest: &Digest, kind: Kind) -> Result<Vec<Signature>> {
        match (kind, self.client.signature_config()?.writing(&self.reference)?) {
            (Kind::Sigstore, _) => attachments::stored(&self.client, &self.reference, manifest),
            (Kind::Simple, Some(place)) => read_place(&place, manifest, self.client.options()),
            (Kind::Simple, None) => Ok(Vec::new()),
        }
    }

    fn put_signatures(
        &self,
        manifest: &Digest,
        _placement: Placement,
        signatures: &[Signature],
    ) -> Result<()> {
        for kind in [Kind::Simple, Kind::Sigstore] {
            let of_kind: Vec<Signature> =
                signatures.iter().filter(|signature| signature.kind() == kind).cloned().collect();
            if of_kind.is_empty() {
                continue;
            }
            self.takes_signatures(kind)?;
            match (kind, self.client.signature_config()?.writing(&self.reference)?) {
                (Kind::Sigstore, _) => attachments::write(&self.client, &self.reference, manifest, &of_kind)?,
                (Kind::Simple, Some(place)) => write_place(&place, manifest, &of_kind)?,
                (Kind::Simple, None) => {}
            }
        }
        Ok(())
    }

    fn signed_name(&self) -> Option<Reference> {
        Some(self.reference.clone().with_default_tag())
    }

    fn skips_foreign_layers(&self) -> bool {
        true
    }
}
