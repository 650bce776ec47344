//! What leaves the store: an image, or a list of images with all of them.

use super::lookup::{Found, local_reference};
use super::store_end::{Form, StoreSource, Wanted};
use super::transfer::forwarder;
use super::{ArchiveFormat, Images, TransferProgress};
use crate::build::ImageFormat;
use crate::{Engine, Error, Result};
use oci::{Compression, Descriptor, Digest, Index, ManifestOrIndex, Platform, Raw, media_type};
use registry::transport::{DockerArchiveWriter, LayoutDestination, OciArchiveWriter};
use registry::{CopyOptions, Destination, Reference, Selection, Source, Which, copy};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use storage::{Image, Lease, ListEntry, ListRecord, ManifestForm};

/// What a manifest or index is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSummary {
    /// Its digest.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
}

impl From<&Raw<ManifestOrIndex>> for ManifestSummary {
    fn from(raw: &Raw<ManifestOrIndex>) -> Self {
        Self { digest: raw.digest().to_string(), size: raw.size(), media_type: raw.media_type().to_owned() }
    }
}

/// What leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// What a name stands for: an image, or a list.
    Named(String),
    /// The image with this ID.
    Image(String),
    /// Images by platform, as a list that has no name.
    Several(Vec<(Platform, String)>),
}

/// What a name stands for.
pub(super) enum Named {
    Image(Box<Found>),
    List(ListRecord),
}

impl Named {
    /// ID of the image, 64 hex digits; a list has none.
    pub(super) fn image_id(&self) -> &str {
        match self {
            Named::Image(found) => found.id().hex(),
            Named::List(_) => "",
        }
    }
}

/// An image or a list on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Image(Box<StoreSource>),
    List(Box<ListSource>),
}

/// The images of a list, and the index over them.
#[derive(Debug)]
pub(crate) struct ListSource {
    name: String,
    index: Raw<ManifestOrIndex>,
    sources: Vec<StoreSource>,
    repository: Option<Reference>,
}

impl Engine {
    /// The list of that name, if it names one.
    pub(crate) fn find_list(&self, text: &str) -> Result<Option<ListRecord>> {
        let Ok(name) = registry::Name::parse(text) else { return Ok(None) };
        let store = self.store()?;
        for candidate in self.candidates(&name)? {
            if candidate.digest().is_some() {
                continue;
            }
            let reference = candidate.with_default_tag().to_string();
            let failed = || crate::error::storage(format!("look up {reference}"));
            if let Some(list) = store.lists().get(&reference).map_err(failed())? {
                return Ok(Some(list));
            }
            // an image of a better name comes first
            if store.images().tag_record(&reference).map_err(failed())?.is_some() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn subject(&self, subject: &Subject) -> Result<Named> {
        match subject {
            Subject::Named(name) => self.find_named(name),
            Subject::Image(id) => Ok(Named::Image(Box::new(self.find_image(id)?))),
            Subject::Several(images) => {
                let mut entries = Vec::new();
                for (platform, id) in images {
                    entries.push(ListEntry {
                        image: self.find_image(id)?.id().clone(),
                        platform: platform.clone(),
                        manifest: None,
                        form: None,
                        annotations: BTreeMap::new(),
                    });
                }
                Ok(Named::List(ListRecord {
                    reference: "of several platforms".to_owned(),
                    entries,
                    annotations: BTreeMap::new(),
                    index: None,
                    updated: String::new(),
                }))
            }
        }
    }

    /// What a name stands for; an ID is always an image.
    pub(super) fn find_named(&self, text: &str) -> Result<Named> {
        match self.find_list(text)? {
            Some(list) => Ok(Named::List(list)),
            None => Ok(Named::Image(Box::new(self.find_image(text)?))),
        }
    }
}

impl Named {
    /// Prepares it to leave.
    pub(super) fn source(
        &self,
        engine: &Engine,
        lease: &Lease,
        compression: Compression,
        format: Option<ImageFormat>,
    ) -> Result<Outgoing> {
        match self {
            Named::Image(found) => {
                let own = Wanted::named(found);
                let form = in_format(&found.image, own, format);
                let wanted = form.as_ref().map_or(own, |form| Wanted { manifest: None, form: Some(form) });
                let form = Form::Registry(compression);
                let source = StoreSource::new(engine, lease, &found.image, wanted, form)?;
                Ok(Outgoing::Image(Box::new(source)))
            }
            Named::List(list) => {
                Ok(Outgoing::List(Box::new(ListSource::new(engine, lease, list, compression, format)?)))
            }
        }
    }

    /// The name that it has here.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Named::Image(found) => found.name.as_deref(),
            Named::List(list) => Some(&list.reference),
        }
    }

    /// Other names of the same images.
    pub(super) fn other_names(&self) -> Vec<Reference> {
        let names: Vec<&str> = match self {
            Named::Image(found) => found.image.tags.iter().map(|tag| tag.reference.as_str()).collect(),
            Named::List(_) => Vec::new(),
        };
        names.into_iter().filter_map(|name| Reference::parse(name).ok()).collect()
    }
}

impl ListSource {
    fn new(
        engine: &Engine,
        lease: &Lease,
        list: &ListRecord,
        compression: Compression,
        format: Option<ImageFormat>,
    ) -> Result<Self> {
        let store = engine.store()?;
        let mut sources = Vec::new();
        let mut entries = Vec::new();
        for entry in &list.entries {
            let image = store
                .images()
                .image(&entry.image)
                .map_err(crate::error::storage(format!("look up an image of {}", list.reference)))?
                .ok_or_else(|| Error::NotFound { what: "image", name: entry.image.to_string() })?;
            let form = Form::Registry(compression);
            let own = Wanted { manifest: entry.manifest.as_ref(), form: entry.form.as_ref() };
            let other = in_format(&image, own, format);
            let wanted = other.as_ref().map_or(own, |form| Wanted { manifest: None, form: Some(form) });
            let source = StoreSource::new(engine, lease, &image, wanted, form)?;
            let mut descriptor = source.root().descriptor();
            descriptor.platform = Some(entry.platform.clone());
            descriptor.annotations = entry.annotations.clone();
            entries.push(descriptor);
            sources.push(source);
        }
        let docker = format != Some(ImageFormat::Oci)
            && !entries.is_empty()
            && entries.iter().all(|entry| entry.media_type == media_type::DOCKER_MANIFEST)
            && (list.annotations.is_empty() || format == Some(ImageFormat::Docker));
        // as it came, if its entries would still be the same
        if format.is_none()
            && let Some(digest) = &list.index
            && let Ok(bytes) = store.content().read_verified(digest, oci::MAX_MANIFEST_BYTES)
            && let Ok(raw) = Raw::<ManifestOrIndex>::parse_verified(bytes, None, digest)
            && let ManifestOrIndex::Index(kept) = raw.value()
            && kept.manifests.iter().map(|entry| &entry.digest).eq(entries.iter().map(|entry| &entry.digest))
        {
            return Ok(Self { name: list.reference.clone(), index: raw, sources, repository: None });
        }
        let mut index = Index::new(entries);
        if docker {
            // lists of Docker's have no annotations, as images in its format
            index.manifests.iter_mut().for_each(|entry| entry.annotations.clear());
            index.media_type = Some(media_type::DOCKER_LIST.to_owned());
        } else {
            index.annotations = list.annotations.clone();
        }
        let index = Raw::from_value(ManifestOrIndex::Index(index))
            .map_err(crate::error::document("write the index"))?;
        Ok(Self { name: list.reference.clone(), index, sources, repository: None })
    }
}

impl Outgoing {
    /// The manifest, or the index.
    pub(crate) fn root(&self) -> &Raw<ManifestOrIndex> {
        match self {
            Outgoing::Image(source) => source.root(),
            Outgoing::List(list) => &list.index,
        }
    }

    /// Lets a registry mount blobs from the repository that the images have there.
    pub(super) fn in_repository(self, repository: Option<Reference>) -> Self {
        match self {
            Outgoing::Image(source) => Outgoing::Image(Box::new(source.in_repository(repository))),
            Outgoing::List(list) => Outgoing::List(Box::new(ListSource { repository, ..*list })),
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        match self {
            Outgoing::Image(source) => source.warnings.clone(),
            Outgoing::List(list) => {
                list.sources.iter().flat_map(|source| source.warnings.iter().cloned()).collect()
            }
        }
    }
}

impl Source for Outgoing {
    fn describe(&self) -> String {
        match self {
            Outgoing::Image(source) => source.describe(),
            Outgoing::List(list) => format!("list {} of the local store", list.name),
        }
    }

    fn manifest(&self, which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        match (self, which) {
            (Outgoing::Image(source), which) => source.manifest(which),
            (Outgoing::List(list), Which::Root) => Ok(list.index.clone()),
            (Outgoing::List(list), Which::Entry(entry)) => {
                let found = list.sources.iter().find(|source| source.root().digest() == &entry.digest);
                let missing =
                    || registry::Error::external(format!("manifest {}", entry.digest), "not in the list");
                found.map(|source| source.root().clone()).ok_or_else(missing)
            }
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        match self {
            Outgoing::Image(source) => source.blob(descriptor, offset),
            Outgoing::List(list) => {
                // layers lie in the store, which all of them give from; configs are held by their own image's
                let of = |source: &&StoreSource| source.has(&descriptor.digest);
                let source = list.sources.iter().find(of).ok_or_else(|| {
                    registry::Error::external(format!("blob {}", descriptor.digest), "not in the list")
                })?;
                source.blob(descriptor, offset)
            }
        }
    }

    fn repository(&self) -> Option<&Reference> {
        match self {
            Outgoing::Image(source) => source.repository(),
            Outgoing::List(list) => list.repository.as_ref(),
        }
    }
}

/// The form of a manifest in a format that the image's own has not; `None` where it has.
pub(super) fn in_format(image: &Image, own: Wanted<'_>, format: Option<ImageFormat>) -> Option<ManifestForm> {
    let docker = format? == ImageFormat::Docker;
    let record = &image.record;
    let mut known = record.manifest.iter().chain(&record.other_manifests);
    let form = own.form.cloned().or_else(|| record.form());
    let is_docker = match own.manifest.and_then(|digest| known.find(|known| known.digest == *digest)) {
        Some(manifest) => manifest.media_type == media_type::DOCKER_MANIFEST,
        None => match &form {
            Some(form) => form.docker,
            None => record.manifest.as_ref().is_some_and(|own| own.media_type == media_type::DOCKER_MANIFEST),
        },
    };
    let annotations = form.filter(|_| !docker).map(|form| form.annotations).unwrap_or_default();
    (docker != is_docker).then_some(ManifestForm { docker, annotations })
}

/// Copies through one stream.
pub(super) fn send(
    source: &dyn Source,
    destination: &dyn Destination,
    progress: TransferProgress<'_>,
) -> registry::Result<Digest> {
    let event = forwarder(progress);
    // one stream takes one blob after the other
    let options =
        CopyOptions { selection: Selection::All, parallel: 1, progress: &event, ..CopyOptions::default() };
    Ok(copy(source, destination, &options)?.root.digest().clone())
}

impl Images<'_> {
    /// What a full name stands for, prepared to leave.
    pub(crate) fn outgoing(&self, name: &str, lease: &Lease, compression: Compression) -> Result<Outgoing> {
        self.engine.find_named(name)?.source(self.engine, lease, compression, None)
    }

    /// Makes the manifest or index, and tells what it is known by.
    pub fn manifest(&self, subject: &Subject) -> Result<ManifestSummary> {
        let store = self.engine.store()?;
        let lease = store.lease("make a manifest").map_err(crate::error::storage("make a manifest"))?;
        let named = self.engine.subject(subject)?;
        Ok(named.source(self.engine, &lease, Compression::Gzip, None)?.root().into())
    }

    /// Writes an image, or with [`ArchiveFormat::Oci`] a list, as an archive in which it has these names.
    pub fn write_archive(
        &self,
        subject: &Subject,
        names: &[String],
        format: ArchiveFormat,
        output: &mut (dyn Write + Send),
        progress: TransferProgress<'_>,
    ) -> Result<ManifestSummary> {
        let store = self.engine.store()?;
        let lease = store.lease("write an archive").map_err(crate::error::storage("begin to save"))?;
        let named = self.engine.subject(subject)?;
        let failed = || crate::error::registry("write the archive");
        match (format, &named) {
            (ArchiveFormat::Docker, Named::List(list)) => Err(Error::unsupported(
                format!("a docker archive of the list {}", list.reference),
                "it has one image for each name: write an OCI archive",
            )),
            (ArchiveFormat::Docker, Named::Image(found)) => {
                let mut references = Vec::new();
                for name in names {
                    references.push(local_reference(name)?);
                }
                let scratch = lease.directory().map_err(crate::error::storage("make a working directory"))?;
                let source =
                    StoreSource::new(self.engine, &lease, &found.image, Wanted::default(), Form::Plain)?;
                let writer = DockerArchiveWriter::new(output, "the archive", scratch);
                send(&source, &writer.destination(&references), progress).map_err(failed())?;
                writer
                    .finish()
                    .map_err(failed())?
                    .flush()
                    .map_err(|error| Error::os("write the archive", error))?;
                Ok(source.root().into())
            }
            (ArchiveFormat::OciDirectory | ArchiveFormat::DockerDirectory, _) => {
                Err(Error::invalid("a directory", "it cannot be written to a stream: name a path"))
            }
            (ArchiveFormat::Oci, named) => {
                let source = named.source(self.engine, &lease, Compression::Gzip, None)?;
                let writer = OciArchiveWriter::new(output, "the archive");
                if names.is_empty() {
                    send(&source, &writer.destination(None), progress).map_err(failed())?;
                }
                for name in names {
                    send(&source, &writer.destination(Some(name)), progress).map_err(failed())?;
                }
                writer
                    .finish()
                    .map_err(failed())?
                    .flush()
                    .map_err(|error| Error::os("write the archive", error))?;
                Ok(source.root().into())
            }
        }
    }

    /// Writes an image or a list into an OCI layout directory in which it has these names.
    pub fn write_layout(
        &self,
        subject: &Subject,
        names: &[String],
        directory: &Path,
        progress: TransferProgress<'_>,
    ) -> Result<ManifestSummary> {
        let store = self.engine.store()?;
        let lease = store.lease("write a layout").map_err(crate::error::storage("begin to save"))?;
        let source = self.engine.subject(subject)?.source(self.engine, &lease, Compression::Gzip, None)?;
        let failed = || crate::error::registry(format!("write {}", directory.display()));
        let unnamed = [None];
        let named: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        for name in if named.is_empty() { unnamed.as_slice() } else { named.as_slice() } {
            let to = LayoutDestination::create(directory, *name).map_err(failed())?;
            send(&source, &to, progress).map_err(failed())?;
        }
        Ok(source.root().into())
    }
}
