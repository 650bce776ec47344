//! `pull` and `push`.

use super::lookup::Found;
use super::outgoing::Named;
use super::store_end::StoreDestination;
use super::{
    BlobDone, BlobKind, Images, PullPolicy, PullReport, PullRequest, PushReport, PushRequest,
    RegistryOptions, TransferEvent, TransferProgress,
};
use crate::events::Event as Told;
use crate::time::Instant;
use crate::{Engine, Error, Result};
use oci::{Compression, Descriptor, Digest, ManifestOrIndex, Platform, Raw, media_type};
use registry::auth::{Credentials, FileKeychain, FixedKeychain};
use registry::client::RetryPolicy;
use registry::copy::PARALLEL_BLOBS;
use registry::transport::{RemoteDestination, RemoteSource};
use registry::trust::Gate;
use registry::{
    Client, ClientOptions, CopyOptions, Event, Keychain, Name, Reference, Selection, Source, Which, copy,
};
use std::sync::Arc;
use storage::{ImageRecord, TagRecord};

/// Names of the transports that a reference may begin with.
const TRANSPORTS: [&str; 7] =
    ["docker://", "oci-archive:", "docker-archive:", "oci:", "dir:", "docker-daemon:", "containers-storage:"];

/// Splits `TRANSPORT:REST`; `docker://` where there is none.
pub(super) fn split_transport(text: &str) -> (&'static str, &str) {
    for transport in TRANSPORTS {
        if let Some(rest) = text.strip_prefix(transport) {
            return (transport.trim_end_matches("//").trim_end_matches(':'), rest);
        }
    }
    ("docker", text)
}

pub(crate) fn platform(text: Option<&str>) -> Result<Platform> {
    match text {
        None | Some("") => Ok(Platform::host()),
        Some(text) => text
            .parse()
            .map_err(|error: oci::Error| Error::invalid(format!("platform {text}"), error.to_string())),
    }
}

impl Engine {
    /// A client for registries.
    pub(crate) fn client(&self, options: &RegistryOptions) -> Result<Client> {
        Ok(Client::new(self.client_options(options)?))
    }

    /// Settings for registries and downloads.
    pub(crate) fn client_options(&self, options: &RegistryOptions) -> Result<ClientOptions> {
        let config = self.config();
        let registries = self.registries()?.clone();
        let keychain: Arc<dyn Keychain> = match &options.credentials {
            Some(text) => Arc::new(FixedKeychain(Credentials::parse(text))),
            None => Arc::new(FileKeychain::new(
                config.auth_files(options.authfile.as_deref()),
                registries.credential_helpers().to_vec(),
            )),
        };
        let mut retry = RetryPolicy::default();
        if let Some(retries) = options.retry {
            retry.retries = retries;
        }
        if let Some(delay) = options.retry_delay {
            retry.first_delay = delay;
        }
        Ok(ClientOptions {
            registries,
            keychain,
            tls_verify: options.tls_verify,
            cert_dir: options.cert_dir.clone(),
            certs_d: config.certs_d(),
            proxy: config.proxy(),
            retry,
            signatures: config.signatures(),
            ..ClientOptions::default()
        })
    }

    /// Receives the image of a source, if the policy allows it, and records it under these names. `authentic`: its manifest
    /// is its own, so that a later push sends the same bytes.
    #[allow(clippy::too_many_arguments, reason = "each is a different thing, and all are needed")]
    pub(crate) fn receive(
        &self,
        source: &dyn Source,
        selection: &Platform,
        names: &[String],
        authentic: bool,
        gate: &Gate,
        progress: TransferProgress<'_>,
    ) -> Result<(ImageRecord, Digest, Vec<String>)> {
        let store = self.store()?;
        let lease = store
            .lease(&format!("receive {}", source.describe()))
            .map_err(crate::error::storage("begin to receive an image"))?;
        let advanced = |digest: &Digest, done: u64| {
            progress(TransferEvent::Advanced { digest: digest.to_string(), done });
        };
        let destination = StoreDestination::new(store, &lease, authentic, &advanced);
        let event = |event: Event<'_>| match event {
            Event::Done(descriptor) => {
                let how = if destination.existed(&descriptor.digest) {
                    BlobDone::Existed
                } else {
                    BlobDone::Copied
                };
                progress(TransferEvent::Finished { digest: descriptor.digest.to_string(), how });
            }
            // layers tell what has arrived themselves, with what an earlier attempt left
            Event::Moved(..) => {}
            other => forward(other, progress, &mut 0),
        };
        let options = CopyOptions {
            selection: Selection::Platform(selection.clone()),
            parallel: PARALLEL_BLOBS,
            progress: &event,
            gate: Some(gate),
            ..CopyOptions::default()
        };
        let report = copy(source, &destination, &options)
            .map_err(crate::error::registry(format!("fetch {}", source.describe())))?;
        let (record, warnings) = destination.finish()?;
        let manifest = report.root.digest().clone();
        let record_manifest = record.manifest.as_ref().map(|manifest| manifest.digest.clone());
        progress(TransferEvent::Manifest { digest: manifest.to_string() });
        for name in names {
            let index = Some(report.source_digest.clone()).filter(|digest| *digest != manifest);
            store
                .images()
                .tag(&TagRecord {
                    reference: name.clone(),
                    image: record.id.clone(),
                    manifest: if authentic { Some(manifest.clone()) } else { record_manifest.clone() },
                    index: index.filter(|_| authentic),
                    form: None,
                    updated: Instant::now().rfc3339(),
                })
                .map_err(crate::error::storage(format!("give the name {name}")))?;
        }
        Ok((record, manifest, warnings))
    }
}

fn kind(descriptor: &Descriptor) -> BlobKind {
    if media_type::is_config(&descriptor.media_type) {
        BlobKind::Config
    } else if Compression::from_media_type(&descriptor.media_type).is_some() {
        BlobKind::Layer
    } else {
        BlobKind::Other
    }
}

/// Hands an event of a copy on; `done` sums the bytes of one blob up where only increments come.
fn forward(event: Event<'_>, progress: TransferProgress<'_>, done: &mut u64) {
    let digest = |descriptor: &Descriptor| descriptor.digest.to_string();
    progress(match event {
        Event::Started(blob) => {
            TransferEvent::Started { digest: digest(blob), what: kind(blob), size: blob.size }
        }
        Event::Moved(blob, bytes) => {
            *done = (*done + bytes).min(blob.size);
            TransferEvent::Advanced { digest: digest(blob), done: *done }
        }
        Event::Done(blob) => TransferEvent::Finished { digest: digest(blob), how: BlobDone::Copied },
        Event::Skipped(blob) => TransferEvent::Finished { digest: digest(blob), how: BlobDone::Existed },
        Event::Mounted(blob) => TransferEvent::Finished { digest: digest(blob), how: BlobDone::Mounted },
    });
}

/// Hands the events of a copy to another place on.
pub(crate) fn forwarder<'a>(progress: TransferProgress<'a>) -> impl Fn(Event<'_>) + Sync + 'a {
    let sums = std::sync::Mutex::new(std::collections::BTreeMap::<Digest, u64>::new());
    move |event| {
        let mut sums = sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let blob = match event {
            Event::Started(blob)
            | Event::Moved(blob, _)
            | Event::Done(blob)
            | Event::Skipped(blob)
            | Event::Mounted(blob) => blob,
        };
        let done = sums.entry(blob.digest.clone()).or_insert(0);
        forward(event, progress, done);
    }
}

impl Images<'_> {
    /// Fetches an image from a registry or an archive (`docker://`, `oci-archive:`, `docker-archive:`, `oci:`, `dir:`).
    pub fn pull(&self, request: &PullRequest, progress: TransferProgress<'_>) -> Result<PullReport> {
        let report = self.pull_from(request, progress);
        match &report {
            Ok(report) if report.pulled => {
                let name = report.name.as_deref().unwrap_or(&request.reference);
                self.engine.tell(Told::image("pull", &report.id, name));
            }
            Ok(_) => {}
            Err(error) => {
                let error = error.to_string();
                let event = Told::image("pull-error", "", &request.reference);
                self.engine.tell(Told { error, ..event });
            }
        }
        report
    }

    fn pull_from(&self, request: &PullRequest, progress: TransferProgress<'_>) -> Result<PullReport> {
        let (transport, rest) = split_transport(&request.reference);
        match transport {
            "docker" => self.pull_remote(rest, request, progress),
            "docker-daemon" | "containers-storage" => Err(Error::unsupported(
                format!("transport {transport}"),
                "pull from a registry or an archive, or use `davit copy`",
            )),
            transport => self.pull_archive(transport, rest, request, true, progress),
        }
    }

    fn pull_remote(
        &self,
        reference: &str,
        request: &PullRequest,
        progress: TransferProgress<'_>,
    ) -> Result<PullReport> {
        let engine = self.engine;
        let wanted = platform(request.platform.as_deref())?;
        let local = match request.policy {
            PullPolicy::Always => None,
            _ => engine
                .find_image_optional(reference)?
                .filter(|found| request.platform.is_none() || wanted.accepts(&found.image.record.platform)),
        };
        let present = |found: Found| PullReport {
            id: found.id().hex().to_owned(),
            digest: found.image.record.manifest.as_ref().map(|manifest| manifest.digest.to_string()),
            name: found.name,
            pulled: false,
            warnings: Vec::new(),
        };
        match (request.policy, local) {
            (PullPolicy::Missing | PullPolicy::Never, Some(found)) => Ok(present(found)),
            (PullPolicy::Never, None) => Err(Error::NotFound { what: "image", name: reference.to_owned() }),
            (PullPolicy::Newer, Some(found)) => match self.is_newer(reference, &found, request) {
                Ok(true) => self.fetch(reference, request, &wanted, progress),
                // an unreachable registry is no error here
                Ok(false) | Err(_) => Ok(present(found)),
            },
            (_, _) => self.fetch(reference, request, &wanted, progress),
        }
    }

    /// The manifest or index that a registry has under a name, and the name that led there.
    pub(super) fn remote_root(
        &self,
        reference: &str,
        options: &RegistryOptions,
    ) -> Result<(Reference, Raw<ManifestOrIndex>)> {
        let client = self.engine.client(options)?;
        let mut failure = None;
        let reference = reference.strip_prefix("docker://").unwrap_or(reference);
        for name in self.remote_names(reference)? {
            let asked = RemoteSource::new(&client, &name).and_then(|source| source.manifest(Which::Root));
            match asked.map_err(crate::error::registry(format!("ask for {name}"))) {
                Ok(root) => return Ok((name, root)),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::NotFound { what: "image", name: reference.to_owned() }))
    }

    /// The names that may be asked for, in order.
    fn remote_names(&self, reference: &str) -> Result<Vec<Reference>> {
        let name =
            Name::parse(reference).map_err(crate::error::registry(format!("read the name {reference}")))?;
        match name {
            Name::Full(reference) => Ok(vec![reference.with_default_tag()]),
            Name::Short(short) => {
                let names = self
                    .engine
                    .registries()?
                    .resolve(&short)
                    .map_err(crate::error::registry(format!("find a registry for {reference}")))?;
                Ok(names.into_iter().map(Reference::with_default_tag).collect())
            }
        }
    }

    fn is_newer(&self, reference: &str, found: &Found, request: &PullRequest) -> Result<bool> {
        let client = self.engine.client(&request.registry)?;
        let names = self.remote_names(found.name.as_deref().unwrap_or(reference))?;
        let Some(name) = names.first() else { return Ok(false) };
        let source =
            RemoteSource::new(&client, name).map_err(crate::error::registry(format!("ask for {name}")))?;
        let manifest =
            source.manifest(Which::Root).map_err(crate::error::registry(format!("ask for {name}")))?;
        let known = found.tag().is_some_and(|tag| {
            tag.manifest.as_ref() == Some(manifest.digest()) || tag.index.as_ref() == Some(manifest.digest())
        });
        Ok(!known)
    }

    fn fetch(
        &self,
        reference: &str,
        request: &PullRequest,
        wanted: &Platform,
        progress: TransferProgress<'_>,
    ) -> Result<PullReport> {
        let client = self.engine.client(&request.registry)?;
        let gate = self.engine.gate(&request.registry)?;
        let names = self.remote_names(reference)?;
        let mut failure = None;
        for name in &names {
            progress(TransferEvent::Resolving { reference: name.to_string() });
            let source =
                RemoteSource::new(&client, name).map_err(crate::error::registry(format!("fetch {name}")))?;
            match self.engine.receive(&source, wanted, &[name.to_string()], true, &gate, progress) {
                Ok((record, digest, mut warnings)) => {
                    warnings.extend(client.take_warnings());
                    if !wanted.accepts(&record.platform) {
                        warnings.push(format!("the image is for {}, not for {wanted}", record.platform));
                    }
                    return Ok(PullReport {
                        id: record.id.hex().to_owned(),
                        name: Some(name.to_string()),
                        digest: Some(digest.to_string()),
                        pulled: true,
                        warnings,
                    });
                }
                // the first registry's answer says most, unless it only said that it has no such image
                Err(error) => match &failure {
                    Some(old) if Error::kind(old) != crate::ErrorKind::NotFound => {}
                    _ => failure = Some(error),
                },
            }
        }
        Err(failure.unwrap_or_else(|| Error::NotFound { what: "image", name: reference.to_owned() }))
    }

    /// Sends an image to a registry, or a list with all its images. What was pulled goes out with the very bytes it
    /// came with.
    pub fn push(&self, request: &PushRequest, progress: TransferProgress<'_>) -> Result<PushReport> {
        let named = self.engine.find_named(&request.image)?;
        let report = self.push_to(&named, request, progress)?;
        self.engine.tell(Told::image("push", named.image_id(), &report.destination));
        Ok(report)
    }

    fn push_to(
        &self,
        named: &Named,
        request: &PushRequest,
        progress: TransferProgress<'_>,
    ) -> Result<PushReport> {
        let engine = self.engine;
        let compression = match request.compression.as_deref() {
            None | Some("" | "gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            Some(other) => {
                return Err(Error::unsupported(format!("compression {other}"), "use gzip or zstd"));
            }
        };
        let destination = match &request.destination {
            Some(destination) => destination.clone(),
            None => named.name().map(str::to_owned).ok_or_else(|| {
                Error::invalid(format!("image {}", request.image), "an ID names no place: give a destination")
            })?,
        };
        let (transport, rest) = split_transport(&destination);
        // a policy never forbids to push, but one that was named must be one
        if request.registry.signature_policy.is_some() {
            engine.gate(&request.registry)?;
        }
        let signers = request.sign.signers()?;
        if transport != "docker" {
            if !signers.is_empty() {
                return Err(Error::unsupported(
                    format!("signing what goes to {transport}:"),
                    "signatures are made for names in registries: push to one",
                ));
            }
            return self.push_archive(named, transport, rest, compression, request.format, progress);
        }
        let reference = match Name::parse(rest)
            .map_err(crate::error::registry(format!("read the destination {rest}")))?
        {
            Name::Full(reference) => reference.with_default_tag(),
            // pushes never guess a registry, but the hub is what a name without one means
            Name::Short(short) => Reference::parse_docker(&short.to_string())
                .map_err(crate::error::registry(format!("read the destination {rest}")))?
                .with_default_tag(),
        };
        let client = engine.client(&request.registry)?;
        let store = engine.store()?;
        let lease = store
            .lease(&format!("push {reference}"))
            .map_err(crate::error::storage("begin to push an image"))?;
        progress(TransferEvent::Resolving { reference: reference.to_string() });
        let sibling = named.other_names().into_iter().find(|name| {
            name.registry() == reference.registry() && name.repository() != reference.repository()
        });
        let source = named.source(engine, &lease, compression, request.format)?.in_repository(sibling);
        let to = RemoteDestination::new(&client, &reference);
        let event = forwarder(progress);
        let options = CopyOptions {
            selection: Selection::All,
            parallel: PARALLEL_BLOBS,
            progress: &event,
            signers: &signers,
            ..CopyOptions::default()
        };
        let report =
            copy(&source, &to, &options).map_err(crate::error::registry(format!("push {reference}")))?;
        let digest = report.root.digest().clone();
        progress(TransferEvent::Manifest { digest: digest.to_string() });
        let mut warnings = source.warnings();
        warnings.extend(client.take_warnings());
        Ok(PushReport { digest: digest.to_string(), destination: reference.to_string(), warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports() {
        assert_eq!(split_transport("docker://a/b"), ("docker", "a/b"));
        assert_eq!(split_transport("oci-archive:/x.tar:n"), ("oci-archive", "/x.tar:n"));
        assert_eq!(split_transport("oci:/x"), ("oci", "/x"));
        assert_eq!(split_transport("localhost:5000/x"), ("docker", "localhost:5000/x"));
    }
}
