//! `save`: images as an archive or a directory.

use super::lookup::{Found, local_reference};
use super::outgoing::{in_format, send};
use super::store_end::{Form, StoreSource, Wanted};
use super::{ArchiveFormat, Images, SaveRequest, TransferProgress};
use crate::build::ImageFormat;
use crate::events::Event;
use crate::{Error, Result};
use oci::Compression;
use registry::Reference;
use registry::transport::{DirDestination, DockerArchiveWriter, LayoutDestination, OciArchiveWriter};
use std::io::Write;
use std::path::Path;
use storage::Lease;

/// An image, and the names that it gets.
type Group = (Found, Vec<Reference>);

impl Images<'_> {
    /// Writes images as an archive.
    pub fn save(
        &self,
        request: &SaveRequest,
        output: &mut (dyn Write + Send),
        progress: TransferProgress<'_>,
    ) -> Result<()> {
        let store = self.engine.store()?;
        let lease = store.lease("save").map_err(crate::error::storage("begin to save"))?;
        let groups = self.groups(request)?;
        let failed = || crate::error::registry("write the archive");
        match request.format {
            ArchiveFormat::Docker => {
                let scratch = lease.directory().map_err(crate::error::storage("make a working directory"))?;
                let writer = DockerArchiveWriter::new(output, "the archive", scratch);
                for (found, names) in &groups {
                    let source = self.prepared(found, &lease, request)?;
                    send(&source, &writer.destination(names), progress).map_err(failed())?;
                }
                writer.finish().map_err(failed())?.flush()
            }
            ArchiveFormat::Oci => {
                let writer = OciArchiveWriter::new(output, "the archive");
                for (found, names) in &groups {
                    let source = self.prepared(found, &lease, request)?;
                    if names.is_empty() {
                        send(&source, &writer.destination(None), progress).map_err(failed())?;
                    }
                    for name in names {
                        let name = name.to_string();
                        send(&source, &writer.destination(Some(&name)), progress).map_err(failed())?;
                    }
                }
                writer.finish().map_err(failed())?.flush()
            }
            ArchiveFormat::OciDirectory | ArchiveFormat::DockerDirectory => {
                return Err(Error::invalid("a directory", "it cannot be written to a stream: name a path"));
            }
        }
        .map_err(|error| Error::os("write the archive", error))?;
        self.tell_saved(&groups);
        Ok(())
    }

    /// Writes images into a directory: an OCI layout, in which others stay, or Docker's form, which has one.
    pub fn save_directory(
        &self,
        request: &SaveRequest,
        directory: &Path,
        progress: TransferProgress<'_>,
    ) -> Result<()> {
        let store = self.engine.store()?;
        let lease = store.lease("save").map_err(crate::error::storage("begin to save"))?;
        let groups = self.groups(request)?;
        let failed = || crate::error::registry(format!("write {}", directory.display()));
        let docker = request.format == ArchiveFormat::DockerDirectory;
        if docker && groups.len() > 1 {
            return Err(Error::invalid(
                "--format=docker-dir",
                "it has one image: use docker-archive, oci-archive or oci-dir for several",
            ));
        }
        for (found, names) in &groups {
            let source = self.prepared(found, &lease, request)?;
            if docker {
                let to = DirDestination::create(directory).map_err(failed())?;
                send(&source, &to, progress).map_err(failed())?;
                continue;
            }
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let named = names.iter().map(|name| Some(name.as_str()));
            for name in named.chain(names.is_empty().then_some(None)) {
                let to = LayoutDestination::create(directory, name).map_err(failed())?;
                send(&source, &to, progress).map_err(failed())?;
            }
        }
        self.tell_saved(&groups);
        Ok(())
    }

    /// The images that are meant, each with its names.
    fn groups(&self, request: &SaveRequest) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        for name in &request.images {
            let found = match self.engine.find_image_for(name, request.platform.as_deref()) {
                Err(Error::NotFound { .. }) if request.further_names && !groups.is_empty() => {
                    let reference = local_reference(name)?;
                    groups[0].1.push(reference);
                    continue;
                }
                other => other?,
            };
            // of a list, its own name leads to one of its images
            let named = found.name.as_deref().or_else(|| request.platform.as_ref().map(|_| name.as_str()));
            let reference = named.and_then(|name| match &found.name {
                Some(full) => Reference::parse(full).ok(),
                None => {
                    self.engine.find_list(name).ok()?.and_then(|list| Reference::parse(&list.reference).ok())
                }
            });
            let manifest = |found: &Found| found.tag().and_then(|tag| tag.manifest.clone());
            // in an OCI archive, names of one image may have manifests of their own
            let alike = |known: &Found| {
                request.format == ArchiveFormat::Docker
                    || (known.form(), manifest(known)) == (found.form(), manifest(&found))
            };
            match groups.iter_mut().find(|(known, _)| known.id() == found.id() && alike(known)) {
                Some((_, names)) => names.extend(reference),
                None => groups.push((found, reference.into_iter().collect())),
            }
        }
        Ok(groups)
    }

    fn prepared(&self, found: &Found, lease: &Lease, request: &SaveRequest) -> Result<StoreSource> {
        let (engine, image) = (self.engine, &found.image);
        let own = Wanted::named(found);
        match request.format {
            ArchiveFormat::Docker => StoreSource::new(engine, lease, image, Wanted::default(), Form::Plain),
            _ if request.uncompressed => {
                StoreSource::new(engine, lease, image, Wanted::default(), Form::Plain)
            }
            ArchiveFormat::Oci | ArchiveFormat::OciDirectory => {
                StoreSource::new(engine, lease, image, own, Form::Registry(Compression::Gzip))
            }
            ArchiveFormat::DockerDirectory => {
                let other = in_format(image, own, Some(ImageFormat::Docker));
                let wanted = other.as_ref().map_or(own, |form| Wanted { manifest: None, form: Some(form) });
                let form = if request.compress { Form::Packed } else { Form::Registry(Compression::Gzip) };
                StoreSource::new(engine, lease, image, wanted, form)
            }
        }
    }

    fn tell_saved(&self, groups: &[Group]) {
        for (found, _) in groups {
            self.engine.tell(Event::image("save", found.id().hex(), &found.shown()));
        }
    }
}
