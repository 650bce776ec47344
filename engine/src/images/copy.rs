//! `copy`: images from anywhere to anywhere, unpacking nothing unless the local store is where they go.

use super::archive::{Opened, open_path, open_tar, split_path};
use super::lookup::local_reference;
use super::outgoing::Outgoing;
use super::transfer::{forwarder, platform, split_transport};
use super::{Images, RegistryOptions, SignRequest, TransferEvent, TransferProgress};
use crate::{Error, Result};
use oci::{Compression, Descriptor, Digest, ManifestOrIndex, Platform, Raw};
use registry::copy::PARALLEL_BLOBS;
use registry::transport::{
    DirDestination, DockerArchiveWriter, DockerDaemon, LayoutDestination, OciArchiveWriter,
    RemoteDestination, RemoteSource, Selector, TarFile,
};
use registry::{
    Client, CopyOptions, Destination, Name, Reference, Selection, Source, Which, copy as copy_image,
};
use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};
use storage::{Lease, ListEntry, ListRecord};

/// What is copied where. Both ends are `TRANSPORT:REST`, or the name of an image of the local store.
#[derive(Debug, Clone, Default)]
pub struct ImageCopyRequest {
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Every image of a list, and the list.
    pub all: bool,
    /// Which image of a list; `None` = that for this host.
    pub platform: Option<String>,
    /// Fail where a manifest could not stay as it is.
    pub preserve_digests: bool,
    /// Socket of docker's daemon that is the source, `unix://PATH`; `None` = the usual one.
    pub from_daemon: Option<String>,
    /// Socket of docker's daemon that is the destination.
    pub to_daemon: Option<String>,
    /// Leave signatures behind.
    pub remove_signatures: bool,
    /// How the registry of the source is reached.
    pub from_registry: RegistryOptions,
    /// How the registry of the destination is reached.
    pub to_registry: RegistryOptions,
    /// Compression of layers of the local store that have none yet: `gzip`, `zstd`.
    pub compression: Option<String>,
    /// Who signs at the destination.
    pub sign: SignRequest,
}

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCopyReport {
    /// Digest of what the destination's name leads to.
    pub digest: String,
    /// ID of the image, where it went to the local store: 64 hex digits.
    pub id: Option<String>,
    /// Blobs that moved.
    pub copied: usize,
    /// Blobs that were there.
    pub skipped: usize,
    /// Blobs that a registry took from another of its repositories.
    pub mounted: usize,
    /// Bytes that moved.
    pub bytes: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// One end, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End<'a> {
    Registry(&'a str),
    Store(&'a str),
    /// Transport and what is behind its colon.
    File(&'static str, &'a str),
}

fn end(text: &str) -> Result<End<'_>> {
    for own in ["containers-storage:", "davit-storage:"] {
        if let Some(rest) = text.strip_prefix(own) {
            // what stands in brackets names another store
            if rest.starts_with('[') {
                return Err(Error::unsupported(text.to_owned(), "another store is named by --root"));
            }
            return Ok(End::Store(rest));
        }
    }
    match split_transport(text) {
        ("docker", rest) if text.starts_with("docker://") => Ok(End::Registry(rest)),
        ("docker", name) => Ok(End::Store(name)),
        (transport, rest) => Ok(End::File(transport, rest)),
    }
}

/// An image of an index, as if it were all that there is.
struct OneOf<'a> {
    source: &'a dyn Source,
    entry: &'a Descriptor,
}

impl Source for OneOf<'_> {
    fn describe(&self) -> String {
        format!("{} of {}", self.entry.digest.short(), self.source.describe())
    }

    fn manifest(&self, _which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        self.source.manifest(Which::Entry(self.entry))
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        self.source.blob(descriptor, offset)
    }

    fn origin(&self) -> registry::trust::Origin {
        self.source.origin()
    }

    fn signatures(&self, manifest: &Digest) -> registry::Result<registry::trust::Signatures> {
        self.source.signatures(manifest)
    }
}

/// What the ends of a copy need for as long as it lasts.
struct Ends {
    lease: Lease,
    from: Option<Client>,
    to: Option<Client>,
    archive: Option<(Opened, Selector)>,
    outgoing: Option<Outgoing>,
}

/// A file that is written under another name until it is whole.
struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    done: bool,
}

impl NewFile {
    fn create(path: &str) -> Result<(Self, File)> {
        let path = PathBuf::from(path);
        let failed = |error| Error::os(format!("create {}", path.display()), error);
        if path.symlink_metadata().is_ok() {
            return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(name);
        let file = File::create_new(&temporary).map_err(failed)?;
        Ok((Self { path, temporary, done: false }, file))
    }

    fn finish(mut self) -> Result<()> {
        let failed = |error| Error::os(format!("write {}", self.path.display()), error);
        std::fs::rename(&self.temporary, &self.path).map_err(failed)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn full_name(text: &str) -> Result<Reference> {
    let failed = || crate::error::registry(format!("read the name {text}"));
    Ok(match Name::parse(text).map_err(failed())? {
        Name::Full(reference) => reference.with_default_tag(),
        // no registry is guessed: the hub is what a name without one means
        Name::Short(short) => {
            Reference::parse_docker(&short.to_string()).map_err(failed())?.with_default_tag()
        }
    })
}

/// The source of a copy, from what was opened for it.
fn source<'e>(from: &End<'_>, request: &ImageCopyRequest, ends: &'e Ends) -> Result<Box<dyn Source + 'e>> {
    match (from, &ends.from, &ends.outgoing, &ends.archive) {
        (End::Registry(text), Some(client), ..) => {
            let name = full_name(text)?;
            let failed = crate::error::registry(format!("ask for {name}"));
            Ok(Box::new(RemoteSource::new(client, &name).map_err(failed)?))
        }
        (_, _, Some(outgoing), _) => Ok(Box::new(outgoing)),
        (_, _, _, Some((opened, selector))) => {
            let failed = crate::error::registry(format!("find the image of {}", request.from));
            opened.source(selector).map_err(failed)
        }
        _ => Err(Error::invalid(request.from.clone(), "it was not opened")),
    }
}

impl Images<'_> {
    /// Copies an image, or with `all` a list, from one place to another.
    pub fn copy(
        &self,
        request: &ImageCopyRequest,
        progress: TransferProgress<'_>,
    ) -> Result<ImageCopyReport> {
        let (from, to) = (end(&request.from)?, end(&request.to)?);
        let store = self.engine.store()?;
        let what = format!("copy {} to {}", request.from, request.to);
        let lease = store.lease(&what).map_err(crate::error::storage("begin to copy"))?;
        let mut ends = Ends { lease, from: None, to: None, archive: None, outgoing: None };
        if let End::Registry(_) = from {
            ends.from = Some(self.engine.client(&request.from_registry)?);
        }
        if let End::Registry(_) = to {
            ends.to = Some(self.engine.client(&request.to_registry)?);
        }
        let made_up =
            [&from, &to].iter().any(|end| matches!(end, End::File("docker-archive" | "docker-daemon", _)));
        if request.preserve_digests && made_up {
            return Err(Error::unsupported(
                "--preserve-digests with docker-archive: or docker-daemon:",
                "Docker's archives have no manifests: use oci-archive:",
            ));
        }
        progress(TransferEvent::Resolving { reference: request.from.clone() });
        self.open(&from, request, &mut ends)?;
        let source = source(&from, request, &ends)?;
        let mut report = self.send_on(source.as_ref(), &to, request, &ends, progress)?;
        for client in [&ends.from, &ends.to].into_iter().flatten() {
            report.warnings.extend(client.take_warnings());
        }
        progress(TransferEvent::Manifest { digest: report.digest.clone() });
        Ok(report)
    }

    /// Opens what lies here: an archive, or an image that is prepared to leave.
    fn open(&self, from: &End<'_>, request: &ImageCopyRequest, ends: &mut Ends) -> Result<()> {
        match from {
            End::Registry(_) => {}
            End::Store(name) => {
                let compression = match request.compression.as_deref() {
                    None | Some("" | "gzip") => Compression::Gzip,
                    Some("zstd") => Compression::Zstd,
                    Some(other) => {
                        return Err(Error::unsupported(format!("compression {other}"), "use gzip or zstd"));
                    }
                };
                ends.outgoing = Some(self.outgoing(name, &ends.lease, compression)?);
            }
            End::File("docker-daemon", name) => {
                let daemon = DockerDaemon::new(request.from_daemon.as_deref());
                let body = daemon.and_then(|daemon| Ok((daemon.export(name)?, daemon.describe())));
                let (body, place) = body.map_err(crate::error::registry(format!("read {}", request.from)))?;
                let scratch =
                    ends.lease.directory().map_err(crate::error::storage("make a working directory"))?;
                let file = TarFile::from_reader(body, place, &scratch)
                    .map_err(crate::error::registry(format!("read {}", request.from)))?;
                ends.archive = Some((open_tar(file)?, Selector::Only));
            }
            End::File(transport, rest) => {
                let (path, selector) = match *transport {
                    "dir" => (*rest, Selector::Only),
                    _ => split_path(rest),
                };
                ends.archive = Some((open_path(Path::new(path), &ends.lease)?, selector));
            }
        }
        Ok(())
    }

    fn send_on(
        &self,
        source: &dyn Source,
        to: &End<'_>,
        request: &ImageCopyRequest,
        ends: &Ends,
        progress: TransferProgress<'_>,
    ) -> Result<ImageCopyReport> {
        match to {
            End::Registry(text) => {
                let name = full_name(text)?;
                let client = ends.to.as_ref().expect("made for this end");
                let to = RemoteDestination::new(client, &name);
                self.run(source, &to, request, ends, PARALLEL_BLOBS, progress)
            }
            End::Store(name) => self.receive_into(source, name, request, ends, progress),
            End::File("oci", rest) => {
                let (path, name) =
                    rest.split_once(':').map_or((*rest, None), |(path, name)| (path, Some(name)));
                let to = LayoutDestination::create(Path::new(path), name)
                    .map_err(crate::error::registry(format!("write {path}")))?;
                self.run(source, &to, request, ends, PARALLEL_BLOBS, progress)
            }
            End::File("dir", path) => {
                let to = DirDestination::create(Path::new(path))
                    .map_err(crate::error::registry(format!("write {path}")))?;
                self.run(source, &to, request, ends, PARALLEL_BLOBS, progress)
            }
            End::File("oci-archive", rest) => {
                let (path, name) =
                    rest.split_once(':').map_or((*rest, None), |(path, name)| (path, Some(name)));
                let (file, out) = NewFile::create(path)?;
                let writer = OciArchiveWriter::new(BufWriter::new(out), path);
                let report = self.run(source, &writer.destination(name), request, ends, 1, progress)?;
                let out = writer.finish().map_err(crate::error::registry(format!("write {path}")))?;
                out.into_inner().map_err(|error| Error::os(format!("write {path}"), error.into_error()))?;
                file.finish()?;
                Ok(report)
            }
            End::File("docker-daemon", name) => self.hand_to_daemon(source, name, request, ends, progress),
            End::File(_, rest) => {
                let (path, name) =
                    rest.split_once(':').map_or((*rest, None), |(path, name)| (path, Some(name)));
                let failed = || crate::error::registry(format!("write {path}"));
                let names = match name {
                    Some(name) => {
                        vec![Reference::parse_docker(name).map_err(failed())?.with_default_tag()]
                    }
                    None => Vec::new(),
                };
                if request.all {
                    return Err(Error::unsupported(
                        "--all to docker-archive:",
                        "it has one image for each name: use oci-archive:",
                    ));
                }
                let scratch =
                    ends.lease.directory().map_err(crate::error::storage("make a working directory"))?;
                let (file, out) = NewFile::create(path)?;
                let writer = DockerArchiveWriter::new(BufWriter::new(out), path, scratch);
                let report = self.run(source, &writer.destination(&names), request, ends, 1, progress)?;
                let out = writer.finish().map_err(failed())?;
                out.into_inner().map_err(|error| Error::os(format!("write {path}"), error.into_error()))?;
                file.finish()?;
                Ok(report)
            }
        }
    }

    /// Hands an image to docker's daemon, which gets an archive.
    fn hand_to_daemon(
        &self,
        source: &dyn Source,
        name: &str,
        request: &ImageCopyRequest,
        ends: &Ends,
        progress: TransferProgress<'_>,
    ) -> Result<ImageCopyReport> {
        let failed = || crate::error::registry(format!("write {}", request.to));
        if request.all {
            return Err(Error::unsupported(
                "--all to docker-daemon:",
                "it takes one image: name its --platform",
            ));
        }
        let names = vec![Reference::parse_docker(name).map_err(failed())?.with_default_tag()];
        let scratch = ends.lease.directory().map_err(crate::error::storage("make a working directory"))?;
        let daemon = DockerDaemon::new(request.to_daemon.as_deref()).map_err(failed())?;
        let mut failure = None;
        let sent = daemon.load(|out| {
            let writer = DockerArchiveWriter::new(out, "docker-daemon", scratch);
            let report = self.run(source, &writer.destination(&names), request, ends, 1, progress);
            match report {
                Ok(report) => writer.finish().map(|_| Some(report)),
                Err(error) => {
                    failure = Some(error);
                    Err(registry::Error::Cancelled)
                }
            }
        });
        match (failure, sent) {
            (Some(error), _) => Err(error),
            (None, Ok(Some(report))) => Ok(report),
            (None, Ok(None)) => Err(Error::invalid(request.to.clone(), "nothing was sent")),
            (None, Err(error)) => Err(failed()(error)),
        }
    }

    fn run(
        &self,
        source: &dyn Source,
        to: &dyn Destination,
        request: &ImageCopyRequest,
        ends: &Ends,
        parallel: usize,
        progress: TransferProgress<'_>,
    ) -> Result<ImageCopyReport> {
        let signers = request.sign.signers()?;
        let gate = match ends.outgoing {
            // what is here was let in
            Some(_) => None,
            None => Some(self.engine.gate(&request.from_registry)?),
        };
        let event = forwarder(progress);
        let options = CopyOptions {
            selection: match request.all {
                true => Selection::All,
                false => Selection::Platform(platform(request.platform.as_deref())?),
            },
            parallel,
            progress: &event,
            gate: gate.as_ref(),
            keep_signatures: !request.remove_signatures
                && ends.outgoing.is_none()
                && to.takes_signatures(registry::trust::Kind::Sigstore).is_ok(),
            signers: &signers,
            ..CopyOptions::default()
        };
        let report = copy_image(source, to, &options).map_err(crate::error::registry(format!(
            "copy {} to {}",
            source.describe(),
            to.describe()
        )))?;
        Ok(ImageCopyReport {
            digest: report.root.digest().to_string(),
            id: None,
            copied: report.copied,
            skipped: report.skipped,
            mounted: report.mounted,
            bytes: report.bytes,
            warnings: ends.outgoing.as_ref().map(Outgoing::warnings).unwrap_or_default(),
        })
    }

    /// Receives an image, or every image of an index, into the local store.
    fn receive_into(
        &self,
        source: &dyn Source,
        name: &str,
        request: &ImageCopyRequest,
        ends: &Ends,
        progress: TransferProgress<'_>,
    ) -> Result<ImageCopyReport> {
        let name = local_reference(name)?.to_string();
        let gate = self.engine.gate(&request.from_registry)?;
        let authentic = ends.archive.as_ref().is_none_or(|(opened, _)| opened.has_manifests());
        let wanted = platform(request.platform.as_deref())?;
        let made = |id: String, digest: String, warnings| ImageCopyReport {
            digest,
            id: Some(id),
            copied: 0,
            skipped: 0,
            mounted: 0,
            bytes: 0,
            warnings,
        };
        if request.all {
            let failed = || crate::error::registry(format!("read {}", source.describe()));
            let root = source.manifest(Which::Root).map_err(failed())?;
            if let ManifestOrIndex::Index(index) = root.value() {
                let mut warnings = Vec::new();
                for entry in &index.manifests {
                    let one = OneOf { source, entry };
                    let (.., told) =
                        self.engine.receive(&one, &Platform::host(), &[], true, &gate, progress)?;
                    warnings.extend(told);
                }
                self.record_index(&ends.lease, &root, &name)?;
                return Ok(made(String::new(), root.digest().to_string(), warnings));
            }
        }
        let names = [name];
        let (record, digest, warnings) =
            self.engine.receive(source, &wanted, &names, authentic, &gate, progress)?;
        Ok(made(record.id.hex().to_owned(), digest.to_string(), warnings))
    }

    /// Records an index whose images are here as a list of this name, which keeps the index as it came.
    pub(crate) fn record_index(&self, lease: &Lease, raw: &Raw<ManifestOrIndex>, name: &str) -> Result<()> {
        let store = self.engine.store()?;
        let entries = self.index_entries(raw)?;
        let digest =
            store.content().put(lease, raw.bytes()).map_err(crate::error::storage("keep the index"))?;
        let annotations = match raw.value() {
            ManifestOrIndex::Index(index) => index.annotations.clone(),
            ManifestOrIndex::Manifest(_) => Default::default(),
        };
        let list = ListRecord {
            reference: name.to_owned(),
            entries,
            annotations,
            index: Some(digest),
            updated: crate::time::Instant::now().rfc3339(),
        };
        let failed = crate::error::storage(format!("record the list {name}"));
        store.lists().change(name, |_| Some(list)).map_err(failed).map(drop)
    }

    /// The images of the store that an index names by their manifests.
    pub(crate) fn index_entries(&self, raw: &Raw<ManifestOrIndex>) -> Result<Vec<ListEntry>> {
        let images = self.engine.store()?.images().list().map_err(crate::error::storage("list images"))?;
        let ManifestOrIndex::Index(index) = raw.value() else { return Ok(Vec::new()) };
        let entry = |entry: &Descriptor| {
            let has = |image: &&storage::Image| {
                let mut known = image.record.manifest.iter().chain(&image.record.other_manifests);
                known.any(|manifest| manifest.digest == entry.digest)
            };
            let missing = || Error::NotFound { what: "manifest", name: entry.digest.to_string() };
            let image = images.iter().find(has).ok_or_else(missing)?;
            Ok(ListEntry {
                image: image.record.id.clone(),
                platform: entry.platform.clone().unwrap_or_else(|| image.record.platform.clone()),
                manifest: Some(entry.digest.clone()),
                form: None,
                annotations: entry.annotations.clone(),
            })
        };
        index.manifests.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(end("docker://a/b:1").unwrap(), End::Registry("a/b:1"));
        assert_eq!(end("app").unwrap(), End::Store("app"));
        assert_eq!(end("localhost:5000/app").unwrap(), End::Store("localhost:5000/app"));
        assert_eq!(end("containers-storage:app").unwrap(), End::Store("app"));
        assert_eq!(end("oci:/x:y").unwrap(), End::File("oci", "/x:y"));
        assert_eq!(end("docker-archive:/x").unwrap(), End::File("docker-archive", "/x"));
        assert_eq!(end("docker-daemon:x:1").unwrap(), End::File("docker-daemon", "x:1"));
        assert!(end("containers-storage:[overlay@/x]y").is_err());
    }
}
