//! The two ends of a copy, and the places that can be one.
//!
//! [`Source`] and [`Destination`] are just general enough that a registry, an archive and the engine's own store
//! can all be either. Bytes pass through unchanged: whoever stores them checks digest and size ([`Blob::verified`]).

use crate::trust::{Kind, Origin, Signature, Signatures};
use crate::{Error, Reference, Result};
use oci::{Descriptor, Digest, Digester, ManifestOrIndex, Raw};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

mod attachments;
pub mod dir;
pub mod docker_archive;
pub mod docker_daemon;
pub mod oci_archive;
pub mod oci_layout;
pub mod remote;
mod tar_file;

pub use dir::{DirDestination, DirSource};
pub use docker_archive::{DockerArchive, DockerArchiveDestination, DockerArchiveSource, DockerArchiveWriter};
pub use docker_daemon::DockerDaemon;
pub use oci_archive::{OciArchiveDestination, OciArchiveWriter};
pub use oci_layout::{ArchivedImage, Layout, LayoutDestination, LayoutSource, Selector};
pub use remote::{RemoteDestination, RemoteSource};
pub use tar_file::{ArchiveKind, TarFile};

/// Which manifest of a source.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The one that the source was opened for.
    Root,
    /// An entry of the index that the root is.
    Entry(&'a Descriptor),
}

/// Where a manifest goes at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// It is what the destination was opened for: it gets the name.
    Root,
    /// It is an entry of an index that comes later: reachable by digest alone.
    Entry,
}

/// What a blob is within its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobRole {
    /// The config.
    Config,
    /// The layer with this position in the manifest, 0 = lowest. A layer that occurs twice is given once.
    Layer(usize),
}

/// Where an image comes from.
pub trait Source: Send + Sync {
    /// What it is, for messages.
    fn describe(&self) -> String;

    /// Reads a manifest or index. Those named by a descriptor are checked against it.
    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>>;

    /// Opens a blob at an offset in bytes. The reader gives at most the descriptor's size and need not check the
    /// digest.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>>;

    /// Where it is, for policies. What does not say so falls under a policy's default.
    fn origin(&self) -> Origin {
        Origin::unscoped("")
    }

    /// The signatures of a manifest or index, which nobody has verified.
    fn signatures(&self, _manifest: &Digest) -> Result<Signatures> {
        Ok(Signatures::default())
    }

    /// The repository that the blobs lie in, where a destination in the same registry could mount them from.
    fn repository(&self) -> Option<&Reference> {
        None
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn describe(&self) -> String {
        (**self).describe()
    }

    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        (**self).manifest(which)
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        (**self).blob(descriptor, offset)
    }

    fn origin(&self) -> Origin {
        (**self).origin()
    }

    fn signatures(&self, manifest: &Digest) -> Result<Signatures> {
        (**self).signatures(manifest)
    }

    fn repository(&self) -> Option<&Reference> {
        (**self).repository()
    }
}

/// Where an image goes.
pub trait Destination: Send + Sync {
    /// What it is, for messages.
    fn describe(&self) -> String;

    /// Whether the blob is already there.
    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Takes the blob from another repository of the same registry without moving bytes; false where that is not
    /// possible.
    fn mount_blob(&self, _descriptor: &Descriptor, _from: &Reference) -> Result<bool> {
        Ok(false)
    }

    /// Stores a blob. Called from several threads at once; the config comes first and alone.
    fn put_blob(&self, blob: &Blob<'_>) -> Result<()>;

    /// Stores a manifest or index whose blobs and entries are all there.
    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Result<()>;

    /// Fails where signatures of a kind cannot be stored.
    fn takes_signatures(&self, _kind: Kind) -> Result<()> {
        Err(Error::Signing {
            what: format!("keep signatures in {}", self.describe()),
            message: "it has no place for them".to_owned(),
        })
    }

    /// The signatures of a kind that are stored for a manifest or index.
    fn stored_signatures(&self, _manifest: &Digest, _kind: Kind) -> Result<Vec<Signature>> {
        Ok(Vec::new())
    }

    /// Stores signatures of a manifest or index, besides those that are there.
    fn put_signatures(
        &self,
        _manifest: &Digest,
        _placement: Placement,
        signatures: &[Signature],
    ) -> Result<()> {
        match signatures.first() {
            Some(signature) => self.takes_signatures(signature.kind()),
            None => Ok(()),
        }
    }

    /// The name that signatures are made for, where the destination gives one.
    fn signed_name(&self) -> Option<Reference> {
        None
    }

    /// Whether layers whose bytes lie elsewhere (`urls`) are left out.
    fn skips_foreign_layers(&self) -> bool {
        false
    }
}

/// A blob on its way: can be opened again when a destination has to start over.
pub struct Blob<'a> {
    source: &'a dyn Source,
    descriptor: &'a Descriptor,
    role: BlobRole,
    progress: &'a (dyn Fn(u64) + Sync),
    cancel: Option<&'a AtomicBool>,
}

impl<'a> Blob<'a> {
    /// A blob of a source. `progress` is told the number of bytes of every read.
    pub fn new(
        source: &'a dyn Source,
        descriptor: &'a Descriptor,
        role: BlobRole,
        progress: &'a (dyn Fn(u64) + Sync),
        cancel: Option<&'a AtomicBool>,
    ) -> Self {
        Self { source, descriptor, role, progress, cancel }
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> &'a Descriptor {
        self.descriptor
    }

    /// What it is within its image.
    pub fn role(&self) -> BlobRole {
        self.role
    }

    /// Opens it at an offset in bytes, without checking the digest: for destinations that do so themselves.
    pub fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        let inner = self.source.blob(self.descriptor, offset)?;
        Ok(Box::new(Counted { inner, progress: self.progress, cancel: self.cancel }))
    }

    /// Opens it from the beginning; the reader fails at the end if digest or size are wrong.
    pub fn verified(&self) -> Result<Verified<Box<dyn Read + Send + 'a>>> {
        Ok(Verified::new(self.open(0)?, self.descriptor.clone(), self.source.describe()))
    }
}

impl std::fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blob")
            .field("descriptor", &self.descriptor)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    progress: &'a (dyn Fn(u64) + Sync),
    cancel: Option<&'a AtomicBool>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(crate::error::wrap_io(Error::Cancelled));
        }
        let count = self.inner.read(buffer)?;
        (self.progress)(count as u64);
        Ok(count)
    }
}

/// A reader that fails at its end, or past it, if the bytes are not those of the descriptor.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    digester: Option<Digester>,
    seen: u64,
    expected: Descriptor,
    place: String,
}

impl<R: Read> Verified<R> {
    /// Checks what `inner` gives against `expected`; `place` is for the message.
    pub fn new(inner: R, expected: Descriptor, place: String) -> Self {
        let digester = Some(Digester::for_digest(&expected.digest));
        Self { inner, digester, seen: 0, expected, place }
    }

    fn mismatch(&mut self, digester: Digester) -> Error {
        Error::ContentMismatch {
            what: format!("blob from {}", self.place),
            expected: self.expected.digest.clone(),
            expected_size: self.expected.size,
            actual: digester.finish(),
            actual_size: self.seen,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        let Some(mut digester) = self.digester.take() else { return Ok(0) };
        digester.update(&buffer[..count]);
        self.seen += count as u64;
        if self.seen > self.expected.size {
            return Err(crate::error::wrap_io(self.mismatch(digester)));
        }
        if count > 0 {
            self.digester = Some(digester);
            return Ok(count);
        }
        let actual = digester.clone().finish();
        if actual != self.expected.digest || self.seen != self.expected.size {
            return Err(crate::error::wrap_io(self.mismatch(digester)));
        }
        Ok(0)
    }
}

/// Reads a whole blob that must fit into memory, and checks it.
pub fn read_blob(source: &dyn Source, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    if descriptor.size > limit {
        return Err(Error::TooLarge { what: format!("blob {}", descriptor.digest), limit });
    }
    let reader = source.blob(descriptor, 0)?;
    let mut bytes = Vec::new();
    Verified::new(reader, descriptor.clone(), source.describe())
        .read_to_end(&mut bytes)
        .map_err(Error::stream(format!("read blob {} of {}", descriptor.digest, source.describe())))?;
    Ok(bytes)
}

pub(crate) fn check_manifest(
    bytes: Vec<u8>,
    descriptor: &Descriptor,
    place: &str,
) -> Result<Raw<ManifestOrIndex>> {
    let hint = Some(descriptor.media_type.as_str()).filter(|hint| !hint.is_empty());
    Raw::parse_verified(bytes, hint, &descriptor.digest)
        .map_err(Error::document(format!("manifest {} of {place}", descriptor.digest)))
}
