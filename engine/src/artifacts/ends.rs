//! `artifact pull`, `artifact push`: the store's artifacts as either end of a copy.

use super::{Artifacts, local_name, record};
use crate::images::transfer::forwarder;
use crate::images::{PushReport, RegistryOptions, SignRequest, TransferEvent, TransferProgress};
use crate::{Error, Result};
use oci::{Descriptor, ManifestOrIndex, Raw};
use registry::copy::PARALLEL_BLOBS;
use registry::transport::{RemoteDestination, RemoteSource};
use registry::{Blob, CopyOptions, Destination, Name, Placement, Reference, Source, Which, copy};
use std::io::{Read, Seek, SeekFrom};
use storage::{ArtifactRecord, Hold, Lease, Store};

/// Fetch an artifact.
#[derive(Debug, Clone, Default)]
pub struct ArtifactPullRequest {
    /// Name at the registry, and here.
    pub name: String,
    /// How.
    pub registry: RegistryOptions,
}

/// Send an artifact.
#[derive(Debug, Clone, Default)]
pub struct ArtifactPushRequest {
    /// Its name, which is that at the registry.
    pub name: String,
    /// Another name at the registry.
    pub destination: Option<String>,
    /// How.
    pub registry: RegistryOptions,
    /// Who signs.
    pub sign: SignRequest,
}

fn external<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    descriptor: &Descriptor,
) -> impl FnOnce(E) -> registry::Error {
    let what = format!("blob {}", descriptor.digest);
    move |error| registry::Error::external(what, error)
}

/// Receives an artifact: every blob as it is.
struct Keeper<'a> {
    store: &'a Store,
    lease: &'a Lease,
}

impl Destination for Keeper<'_> {
    fn describe(&self) -> String {
        "the local store".to_owned()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> registry::Result<bool> {
        self.lease.hold(Hold::Blob(descriptor.digest.clone())).map_err(external(descriptor))
    }

    fn put_blob(&self, blob: &Blob<'_>) -> registry::Result<()> {
        let descriptor = blob.descriptor();
        let writer = self.store.content().writer(self.lease, &descriptor.digest, Some(descriptor.size));
        let mut writer = writer.map_err(external(descriptor))?;
        let mut reader = blob.open(writer.offset())?;
        std::io::copy(&mut reader, &mut writer).map_err(external(descriptor))?;
        writer.finish().map(drop).map_err(external(descriptor))
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, _placement: Placement) -> registry::Result<()> {
        let put = self.store.content().put(self.lease, raw.bytes());
        put.map(drop).map_err(external(&raw.descriptor()))
    }
}

/// Gives an artifact.
struct Kept {
    store: Store,
    name: String,
    manifest: Raw<ManifestOrIndex>,
}

impl Source for Kept {
    fn describe(&self) -> String {
        format!("artifact {}", self.name)
    }

    fn manifest(&self, _which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        Ok(self.manifest.clone())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        let mut file = self.store.content().open(&descriptor.digest).map_err(external(descriptor))?;
        file.seek(SeekFrom::Start(offset)).map_err(external(descriptor))?;
        Ok(Box::new(file))
    }
}

impl Artifacts<'_> {
    /// Fetches an artifact; returns the digest of its manifest and what the user should know.
    pub fn pull(
        &self,
        request: &ArtifactPullRequest,
        progress: TransferProgress<'_>,
    ) -> Result<(String, Vec<String>)> {
        let text = request.name.strip_prefix("docker://").unwrap_or(&request.name);
        let reference = remote(self, text)?;
        let store = self.engine.store()?;
        let what = || format!("pull artifact {reference}");
        let client = self.engine.client(&request.registry)?;
        let gate = self.engine.gate(&request.registry)?;
        let lease = store.lease(&what()).map_err(crate::error::storage(what()))?;
        progress(TransferEvent::Resolving { reference: reference.to_string() });
        let source = RemoteSource::new(&client, &reference).map_err(crate::error::registry(what()))?;
        let event = forwarder(progress);
        let options = CopyOptions {
            parallel: PARALLEL_BLOBS,
            progress: &event,
            gate: Some(&gate),
            ..CopyOptions::default()
        };
        let report = copy(&source, &Keeper { store, lease: &lease }, &options)
            .map_err(crate::error::registry(what()))?;
        let record = record(reference.to_string(), &report.root);
        store.artifacts().put(&lease, &record, |_| true).map_err(crate::error::storage(what()))?;
        let digest = report.root.digest();
        progress(TransferEvent::Manifest { digest: digest.to_string() });
        Ok((digest.to_string(), client.take_warnings()))
    }

    /// Sends an artifact to a registry.
    pub fn push(&self, request: &ArtifactPushRequest, progress: TransferProgress<'_>) -> Result<PushReport> {
        let record = self.find(&request.name)?;
        let place = request.destination.as_deref().unwrap_or(&record.reference);
        let reference = Reference::parse(place.strip_prefix("docker://").unwrap_or(place))
            .map_err(crate::error::registry(format!("read the destination {place}")))?
            .with_default_tag();
        let what = || format!("push artifact {reference}");
        let store = self.engine.store()?;
        let lease = store.lease(&what()).map_err(crate::error::storage(what()))?;
        let source = self.leaving(&record, &lease)?;
        let client = self.engine.client(&request.registry)?;
        let signers = request.sign.signers()?;
        let event = forwarder(progress);
        let options = CopyOptions {
            parallel: PARALLEL_BLOBS,
            progress: &event,
            signers: &signers,
            ..CopyOptions::default()
        };
        let to = RemoteDestination::new(&client, &reference);
        let report = copy(&source, &to, &options).map_err(crate::error::registry(what()))?;
        let digest = report.root.digest().to_string();
        progress(TransferEvent::Manifest { digest: digest.clone() });
        Ok(PushReport { digest, destination: reference.to_string(), warnings: client.take_warnings() })
    }

    /// Prepares an artifact to leave: the lease holds it, also where it is removed meanwhile.
    fn leaving(&self, record: &ArtifactRecord, lease: &Lease) -> Result<Kept> {
        let what = || format!("read artifact {}", record.reference);
        for digest in record.blobs.iter().chain([&record.manifest.digest]) {
            if !lease.hold(Hold::Blob(digest.clone())).map_err(crate::error::storage(what()))? {
                return Err(Error::NotFound { what: "blob", name: digest.to_string() });
            }
        }
        Ok(Kept {
            store: self.engine.store()?.clone(),
            name: record.reference.clone(),
            manifest: self.manifest(record)?,
        })
    }
}

/// The name of an artifact at a registry: an alias or a search registry completes one without.
fn remote(artifacts: &Artifacts<'_>, text: &str) -> Result<Reference> {
    let failed = || crate::error::registry(format!("read the name {text}"));
    let reference = match Name::parse(text).map_err(failed())? {
        Name::Full(reference) => reference.with_default_tag(),
        Name::Short(short) => {
            let names = artifacts.engine.registries()?.resolve(&short).map_err(failed())?;
            names
                .into_iter()
                .next()
                .map(Reference::with_default_tag)
                .ok_or_else(|| Error::NotFound { what: "registry for", name: text.to_owned() })?
        }
    };
    // a name that is none here is refused before anything is fetched
    local_name(&reference.to_string())?;
    Ok(reference)
}
