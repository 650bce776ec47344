//! `load`, and archives as either end of `pull` and `push`.

use super::lookup::local_reference;
use super::outgoing::{Named, send};
use super::store_end::{Form, StoreSource, Wanted};
use super::transfer::{platform, split_transport};
use super::{
    ArchiveInput, Images, LoadReport, LoadRequest, PullReport, PullRequest, PushReport, TransferProgress,
};
use crate::build::ImageFormat;
use crate::events::Event;
use crate::{Error, Result};
use oci::{Compression, ImageConfig, MAX_CONFIG_BYTES, ManifestOrIndex, Platform, Raw};
use registry::transport::{
    ArchiveKind, ArchivedImage, DirDestination, DirSource, DockerArchive, DockerArchiveWriter, Layout,
    LayoutDestination, OciArchiveWriter, Selector, TarFile, read_blob,
};
use registry::trust::Gate;
use registry::{Name, Reference, Source, Which};
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

pub(super) fn open_tar(file: TarFile) -> Result<Opened> {
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

/// Fails where a source has one image alone, and that for another platform: an index tells by itself what it lacks.
fn check_platform(source: &dyn Source, wanted: &Platform) -> Result<()> {
    let failed = || crate::error::registry("read the archive");
    let root = source.manifest(Which::Root).map_err(failed())?;
    let ManifestOrIndex::Manifest(manifest) = root.value() else { return Ok(()) };
    let bytes = read_blob(source, &manifest.config, MAX_CONFIG_BYTES).map_err(failed())?;
    let config = Raw::<ImageConfig>::parse(bytes, Some(&manifest.config.media_type))
        .map_err(crate::error::document("read the config"))?;
    let found = config.value().platform();
    if wanted.accepts(&found) {
        return Ok(());
    }
    Err(Error::NotFound {
        what: "image",
        name: format!("for {wanted} in the archive: it has one for {found}"),
    })
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
    /// Brings the images of an archive into the store, as far as a policy allows it.
    pub fn load(&self, request: LoadRequest, progress: TransferProgress<'_>) -> Result<LoadReport> {
        let LoadRequest { input, signature_policy, platform: wanted } = request;
        let gate = Gate::new(self.engine.policy(signature_policy.as_deref())?);
        let wanted = wanted.filter(|wanted| !wanted.is_empty());
        let platform = platform(wanted.as_deref())?;
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
            if wanted.is_some() {
                check_platform(source.as_ref(), &platform)?;
            }
            let (record, _, _) = self.engine.receive(
                source.as_ref(),
                &platform,
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
}
