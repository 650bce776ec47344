//! `save`, `load`, and archives as either end of `pull` and `push`.

use super::lookup::{Found, local_reference};
use super::outgoing::{Named, send};
use super::store_end::{Form, StoreSource, Wanted};
use super::transfer::{platform, split_transport};
use super::{
    ArchiveFormat, ArchiveInput, Images, LoadReport, PullReport, PullRequest, PushReport, SaveRequest,
    TransferProgress,
};
use crate::build::ImageFormat;
use crate::events::Event;
use crate::{Error, Result};
use oci::{Compression, Platform};
use registry::transport::{
    ArchiveKind, ArchivedImage, DirDestination, DirSource, DockerArchive, DockerArchiveWriter, Layout,
    LayoutDestination, OciArchiveWriter, Selector, TarFile,
};
use registry::trust::Gate;
use registry::{Name, Reference, Source};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::Lease;

/// An archive or layout that is read.
pub(super) enum Opened {
    Docker(DockerArchive),
    Oci(Box<Layout>),
    Directory(PathBuf),
}

impl Opened {
    fn images(&self) -> Vec<ArchivedImage> {
        match self {
            Opened::Docker(archive) => archive.images(),
            Opened::Oci(layout) => layout.images(),
            Opened::Directory(_) => vec![ArchivedImage { position: 0, names: Vec::new() }],
        }
    }

    /// Docker's archives have no manifests: what their source gives as one was made up, with plain layers.
    pub(super) fn has_manifests(&self) -> bool {
        !matches!(self, Opened::Docker(_))
    }

    pub(super) fn source(&self, selector: &Selector) -> registry::Result<Box<dyn Source>> {
        Ok(match self {
            Opened::Docker(archive) => Box::new(archive.source(selector)?),
            Opened::Oci(layout) => Box::new(layout.source(selector)?),
            Opened::Directory(path) => Box::new(DirSource::open(path)?),
        })
    }

    /// The full name under which an image of the archive is recorded.
    fn reference(&self, name: &str) -> Option<String> {
        let parsed = match self {
            // Docker's archives know no other home of a short name than the hub
            Opened::Docker(_) => Reference::parse_docker(name).map(Reference::with_default_tag).ok(),
            _ => match Name::parse(name) {
                Ok(Name::Full(reference)) => Some(reference.with_default_tag()),
                _ => local_reference(name).ok(),
            },
        };
        parsed.map(|reference| reference.to_string())
    }
}

fn open_tar(file: TarFile) -> Result<Opened> {
    let archive = Arc::new(file);
    let failed = |what: &'static str| crate::error::registry(format!("{what} {}", archive.name()));
    match archive.kind() {
        Some(ArchiveKind::Docker) => {
            Ok(Opened::Docker(DockerArchive::open(&archive).map_err(failed("read"))?))
        }
        Some(ArchiveKind::Oci) => {
            Ok(Opened::Oci(Box::new(Layout::open_archive(&archive).map_err(failed("read"))?)))
        }
        None => Err(Error::invalid(
            archive.name().to_owned(),
            "neither a docker archive nor an OCI archive (a file system goes through `import`)",
        )),
    }
}

pub(super) fn open_path(path: &Path, lease: &Lease) -> Result<Opened> {
    let failed = || crate::error::registry(format!("open {}", path.display()));
    if path.is_dir() {
        if path.join("oci-layout").is_file() {
            return Ok(Opened::Oci(Box::new(Layout::open_directory(path).map_err(failed())?)));
        }
        return Ok(Opened::Directory(path.to_owned()));
    }
    let scratch = lease.directory().map_err(crate::error::storage("make a working directory"))?;
    open_tar(TarFile::open(path, &scratch).map_err(failed())?)
}

/// Splits `PATH[:NAME|:@POSITION]`.
pub(super) fn split_path(text: &str) -> (&str, Selector) {
    match text.split_once(':') {
        None => (text, Selector::Only),
        Some((path, rest)) => match rest.strip_prefix('@').and_then(|at| at.parse().ok()) {
            Some(position) => (path, Selector::Position(position)),
            None => (path, Selector::Name(rest.to_owned())),
        },
    }
}

impl Images<'_> {
    /// Brings the images of an archive into the store, as far as a policy allows it (`None` = the one that counts).
    pub fn load(
        &self,
        input: ArchiveInput,
        policy: Option<&Path>,
        progress: TransferProgress<'_>,
    ) -> Result<LoadReport> {
        let gate = Gate::new(self.engine.policy(policy)?);
        let store = self.engine.store()?;
        // also owns the spooled archive
        let lease = store.lease("load").map_err(crate::error::storage("begin to load"))?;
        let opened = match input {
            ArchiveInput::Path(path) => open_path(&path, &lease)?,
            ArchiveInput::Stream(reader) => {
                let scratch = lease.directory().map_err(crate::error::storage("make a working directory"))?;
                let file = TarFile::from_reader(reader, "standard input".to_owned(), &scratch)
                    .map_err(crate::error::registry("read standard input"))?;
                open_tar(file)?
            }
        };
        let images = opened.images();
        if images.is_empty() {
            return Err(Error::invalid("archive", "it has no images"));
        }
        let mut report = LoadReport::default();
        for image in images {
            let names: Vec<String> = image.names.iter().filter_map(|name| opened.reference(name)).collect();
            let source = opened
                .source(&Selector::Position(image.position))
                .map_err(crate::error::registry("read the archive"))?;
            let (record, _, _) = self.engine.receive(
                source.as_ref(),
                &Platform::host(),
                &names,
                opened.has_manifests(),
                &gate,
                progress,
            )?;
            let name = names.first().map_or("", String::as_str);
            self.engine.tell(Event::image("loadfromarchive", record.id.hex(), name));
            if names.is_empty() {
                report.names.push(format!("sha256:{}", record.id.hex()));
            }
            report.names.extend(names);
        }
        Ok(report)
    }

    /// Receives an image of an archive or a layout without giving it the names that it has there.
    pub(crate) fn receive_unnamed(
        &self,
        request: &PullRequest,
        progress: TransferProgress<'_>,
    ) -> Result<PullReport> {
        let (transport, rest) = split_transport(&request.reference);
        self.pull_archive(transport, rest, request, false, progress)
    }

    pub(super) fn pull_archive(
        &self,
        transport: &str,
        rest: &str,
        request: &PullRequest,
        with_names: bool,
        progress: TransferProgress<'_>,
    ) -> Result<PullReport> {
        let gate = self.engine.gate(&request.registry)?;
        let store = self.engine.store()?;
        let lease = store
            .lease(&format!("pull {}", request.reference))
            .map_err(crate::error::storage("begin to pull"))?;
        let (path, selector) = if transport == "dir" { (rest, Selector::Only) } else { split_path(rest) };
        let opened = open_path(Path::new(path), &lease)?;
        let source = opened
            .source(&selector)
            .map_err(crate::error::registry(format!("find the image of {}", request.reference)))?;
        let names: Vec<String> = match &selector {
            Selector::Name(name) => opened.reference(name).into_iter().collect(),
            Selector::Position(at) => {
                let image = opened.images().into_iter().find(|image| image.position == *at);
                image
                    .iter()
                    .flat_map(|image| &image.names)
                    .filter_map(|name| opened.reference(name))
                    .collect()
            }
            Selector::Only => opened
                .images()
                .iter()
                .flat_map(|image| &image.names)
                .filter_map(|name| opened.reference(name))
                .collect(),
        };
        let names = if with_names { names } else { Vec::new() };
        let wanted = platform(request.platform.as_deref())?;
        let (record, digest, warnings) =
            self.engine.receive(source.as_ref(), &wanted, &names, opened.has_manifests(), &gate, progress)?;
        Ok(PullReport {
            id: record.id.hex().to_owned(),
            name: names.into_iter().next(),
            digest: Some(digest.to_string()),
            pulled: true,
            warnings,
        })
    }

    pub(super) fn push_archive(
        &self,
        named: &Named,
        transport: &str,
        rest: &str,
        compression: Compression,
        format: Option<ImageFormat>,
        progress: TransferProgress<'_>,
    ) -> Result<PushReport> {
        let store = self.engine.store()?;
        let lease = store
            .lease(&format!("push to {transport}:{rest}"))
            .map_err(crate::error::storage("begin to push an image"))?;
        let place = format!("{transport}:{rest}");
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) if transport != "dir" => (path, Some(name)),
            _ => (rest, None),
        };
        let failed = || crate::error::registry(format!("write {place}"));
        let create =
            || std::fs::File::create_new(path).map_err(|error| Error::os(format!("create {path}"), error));
        if transport == "docker-archive" {
            let found = match named {
                Named::Image(found) => found,
                Named::List(list) => {
                    return Err(Error::unsupported(
                        format!("a docker archive of the list {}", list.reference),
                        "push it to a registry, or as oci-archive: or oci:",
                    ));
                }
            };
            let source = StoreSource::new(self.engine, &lease, &found.image, Wanted::default(), Form::Plain)?;
            let names: Vec<Reference> = match name {
                Some(name) => vec![
                    Reference::parse_docker(name)
                        .map_err(crate::error::registry(format!("read the name {name}")))?
                        .with_default_tag(),
                ],
                None => found.name.iter().filter_map(|name| Reference::parse(name).ok()).collect(),
            };
            let scratch = lease.directory().map_err(crate::error::storage("make a working directory"))?;
            let writer = DockerArchiveWriter::new(std::io::BufWriter::new(create()?), path, scratch);
            let digest = send(&source, &writer.destination(&names), progress).map_err(failed())?;
            writer.finish().map_err(failed())?;
            return Ok(PushReport {
                digest: digest.to_string(),
                destination: place,
                warnings: source.warnings.clone(),
            });
        }
        let source = named.source(self.engine, &lease, compression, format)?;
        let digest = match transport {
            "oci-archive" => {
                let writer = OciArchiveWriter::new(std::io::BufWriter::new(create()?), path);
                let digest = send(&source, &writer.destination(name), progress).map_err(failed())?;
                writer.finish().map_err(failed())?;
                digest
            }
            "oci" => {
                let to = LayoutDestination::create(Path::new(path), name).map_err(failed())?;
                send(&source, &to, progress).map_err(failed())?
            }
            "dir" => {
                let to = DirDestination::create(Path::new(path)).map_err(failed())?;
                send(&source, &to, progress).map_err(failed())?
            }
            other => {
                return Err(Error::unsupported(
                    format!("transport {other}"),
                    "push to a registry or an archive",
                ));
            }
        };
        Ok(PushReport { digest: digest.to_string(), destination: place, warnings: source.warnings() })
    }

    /// Writes images as an archive.
    pub fn save(
        &self,
        request: &SaveRequest,
        output: &mut (dyn Write + Send),
        progress: TransferProgress<'_>,
    ) -> Result<()> {
        let store = self.engine.store()?;
        let lease = store.lease("save").map_err(crate::error::storage("begin to save"))?;
        let mut groups: Vec<(Found, Vec<Reference>)> = Vec::new();
        for name in &request.images {
            let found = self.engine.find_image(name)?;
            let reference = found.name.as_deref().and_then(|name| Reference::parse(name).ok());
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
        let failed = || crate::error::registry("write the archive");
        match request.format {
            ArchiveFormat::Docker => {
                let scratch = lease.directory().map_err(crate::error::storage("make a working directory"))?;
                let writer = DockerArchiveWriter::new(output, "the archive", scratch);
                for (found, names) in &groups {
                    let source =
                        StoreSource::new(self.engine, &lease, &found.image, Wanted::default(), Form::Plain)?;
                    send(&source, &writer.destination(names), progress).map_err(failed())?;
                }
                writer.finish().map_err(failed())?.flush()
            }
            ArchiveFormat::Oci => {
                let writer = OciArchiveWriter::new(output, "the archive");
                for (found, names) in &groups {
                    let form = Form::Registry(Compression::Gzip);
                    let source =
                        StoreSource::new(self.engine, &lease, &found.image, Wanted::named(found), form)?;
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
        }
        .map_err(|error| Error::os("write the archive", error))?;
        for (found, _) in &groups {
            self.engine.tell(Event::image("save", found.id().hex(), &found.shown()));
        }
        Ok(())
    }
}
