//! One layer from its source into a directory of its own.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use oci::{Compression, Descriptor, DiffId, Digest, Digester};

use super::LayerError;
use super::pipe::{CHUNK, PipeReader, PipeWriter, is_gone, pipe};
use crate::error::Result;
use crate::leases::Lease;
use crate::snapshot::WhiteoutFormat;
use crate::store::Store;
use crate::tar::{self, ExtractOptions, Extracted, Fault, Ownership, Skipped, Whiteouts};
use crate::{BlobWriter, Claim, NewBlob};

/// What a layer may inflate to whatever its size, in bytes.
const INFLATE_FREELY: u64 = 4 << 30;
/// Beyond that, so many times its blob: gzip never reaches it, and zstd with nothing but one byte repeated.
const INFLATE_RATIO: u64 = 1100;

/// A layer's blob from some offset on.
pub struct LayerReader<'a> {
    /// Position of the first byte that `reader` gives: the one asked for, or 0 where the source cannot skip.
    pub offset: u64,
    /// The bytes from there to the end.
    pub reader: Box<dyn Read + 'a>,
}

impl std::fmt::Debug for LayerReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerReader").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Opens a blob at an offset in bytes.
pub type OpenLayer<'a> = Box<dyn FnOnce(u64) -> io::Result<LayerReader<'a>> + 'a>;

/// Where a layer comes from.
pub struct LayerSource<'a> {
    /// What the manifest says of the blob; absent where no digest is known before (archives of other engines).
    pub descriptor: Option<Descriptor>,
    /// What the config says of the plain stream.
    pub diff_id: Option<DiffId>,
    /// Opens the blob at the offset that is already in the store. Not called when the whole blob is there.
    pub open: OpenLayer<'a>,
    /// Called with the number of bytes of the blob that have arrived so far, those of an earlier attempt included.
    pub progress: &'a dyn Fn(u64),
}

impl std::fmt::Debug for LayerSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerSource")
            .field("descriptor", &self.descriptor)
            .field("diff_id", &self.diff_id)
            .finish_non_exhaustive()
    }
}

/// What a layer needs from those below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Nothing: its directory is complete.
    Nothing,
    /// Metadata of these directories, which it implies without listing them.
    Directories(Vec<PathBuf>),
    /// Their files: it must be unpacked onto them.
    Files,
}

/// A verified layer that lies on nothing yet.
#[derive(Debug)]
pub struct StagedLayer {
    /// Digest of the plain stream.
    pub diff_id: DiffId,
    /// The blob in the store, with the media type that it came with or the OCI one.
    pub blob: Descriptor,
    /// How the blob is compressed, by its content.
    pub compression: Compression,
    /// Length of the plain stream, in bytes.
    pub tar_size: u64,
    /// Sum of the sizes of its files, in bytes; 0 when it is to be unpacked on its parent.
    pub unpacked_size: u64,
    /// What it needs from below.
    pub need: Need,
    /// What could not be made here.
    pub skipped: Skipped,
    /// When the layer was first made, RFC 3339, where somebody knows; else it is made when it is committed.
    pub created: Option<String>,
    pub(super) entries: u64,
    pub(super) key: Option<String>,
}

impl StagedLayer {
    /// Whether the layer depends on those below it (design D2).
    pub fn needs_parent(&self) -> bool {
        self.need != Need::Nothing
    }
}

/// Receives, verifies and unpacks one layer. Several may run at once on one store and lease.
pub fn ingest_layer(store: &Store, lease: &Lease, source: LayerSource<'_>) -> Result<StagedLayer> {
    let snapshots = store.snapshots();
    let capabilities = snapshots.capabilities();
    let key = match capabilities.parent_at_commit {
        true => Some(unique_key("layer")?),
        false => None,
    };
    let directory = match &key {
        Some(key) => Some(snapshots.stage(lease, key)?),
        None => None,
    };
    let result = ingest_into(store, lease, source, directory.as_deref(), capabilities.whiteouts);
    match (result, key) {
        (Ok(mut staged), Some(key)) => {
            if staged.need == Need::Files {
                snapshots.remove(&key)?;
            } else {
                staged.key = Some(key);
            }
            Ok(staged)
        }
        (Ok(staged), None) => Ok(staged),
        (Err(error), key) => {
            if let Some(key) = key {
                // The lease removes what this cannot; the first error is the one to tell.
                drop(snapshots.remove(&key));
            }
            Err(error)
        }
    }
}

/// A key that no other operation uses.
pub(super) fn unique_key(prefix: &str) -> Result<String> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| crate::Error::Random { reason: error.to_string() })?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{prefix}-{hex}"))
}

/// Options with which the layers of a store are unpacked.
pub(crate) fn layer_options(store: &Store, whiteouts: Whiteouts) -> ExtractOptions<'static> {
    ExtractOptions {
        whiteouts,
        ownership: match store.user_namespace() {
            true => Ownership::StreamIfMapped,
            false => Ownership::Stream,
        },
        skip_devices: store.user_namespace(),
        ..ExtractOptions::default()
    }
}

/// Where the bytes of a blob go.
enum BlobSink {
    Known(BlobWriter),
    New(NewBlob),
    /// It is there already.
    Present(Digest),
}

struct Hashed {
    tar_size: u64,
    /// Absent for a plain blob: then it is the blob's own.
    digest: Option<Digest>,
}

fn ingest_into(
    store: &Store,
    lease: &Lease,
    source: LayerSource<'_>,
    directory: Option<&Path>,
    whiteouts: WhiteoutFormat,
) -> Result<StagedLayer> {
    let LayerSource { descriptor, diff_id, open, progress } = source;
    let layer = descriptor.as_ref().map_or_else(|| "(new)".to_owned(), |d| d.digest.to_string());
    let content = store.content();
    let mut sink = match &descriptor {
        Some(descriptor) => match content.claim(lease, &descriptor.digest, Some(descriptor.size))? {
            Claim::Present => BlobSink::Present(descriptor.digest.clone()),
            Claim::Writer(writer) => BlobSink::Known(*writer),
        },
        None => BlobSink::New(content.create(lease)?),
    };
    let options = match whiteouts {
        WhiteoutFormat::OverlayTrusted => Whiteouts::Overlay { user_namespace: false },
        WhiteoutFormat::OverlayUser => Whiteouts::Overlay { user_namespace: true },
        WhiteoutFormat::Applied => Whiteouts::Apply,
    };
    let options = layer_options(store, options);
    let directory = directory.map(sys::fs::open_dir).transpose()?;
    let plain = AtomicBool::new(false);
    let (compressed, to_inflate) = pipe();
    let (inflated, to_hash) = pipe();
    let (hashed, to_unpack) = pipe();
    let declared = descriptor.as_ref().map_or(0, |descriptor| descriptor.size);
    let outcome = std::thread::scope(|scope| {
        let inflating = scope.spawn(|| inflate(to_inflate, inflated, &plain, declared, INFLATE_FREELY));
        let hashing = scope.spawn(|| hash(to_hash, hashed, &plain));
        let unpacking = scope.spawn(move || unpack(to_unpack, directory.as_ref(), options));
        let size = descriptor.as_ref().map(|d| d.size);
        let received = receive(store, &mut sink, size, open, progress, compressed);
        (received, join(inflating), join(hashing), join(unpacking))
    });
    let (received, inflated, hashed, unpacked) = outcome;
    // The first stage that failed by itself has the reason; the others saw only that a neighbour ended.
    let own = |error: &io::Error| !is_gone(error);
    match received {
        Err(ReceiveError::Store(error)) => return Err(error),
        Err(ReceiveError::Source(source)) => return Err(LayerError::Receive { layer, source }.into()),
        Err(ReceiveError::Sink(source)) if own(&source) => {
            return Err(LayerError::Store { layer, source }.into());
        }
        Ok(()) | Err(ReceiveError::Sink(_)) => {}
    }
    let broken = match (inflated, hashed, unpacked) {
        (Ok(compression), Ok(hashed), Ok(unpacked)) => Ok((compression, hashed, unpacked)),
        (Err(source), ..) if own(&source) => Err(LayerError::Inflate { layer: layer.clone(), source }),
        (_, _, Err(source)) => Err(LayerError::Unpack { layer: layer.clone(), source }),
        (Err(source), ..) | (_, Err(source), _) => Err(LayerError::Inflate { layer: layer.clone(), source }),
    };
    let (compression, hashed, (extracted, needs_files)) = match broken {
        Ok(all) => all,
        Err(error) => {
            // Bytes that came damaged must not be resumed for ever; those that found no place here may be.
            let local = matches!(error, LayerError::Unpack { source: tar::Error::Io { .. }, .. });
            if let (BlobSink::Known(writer), false) = (&mut sink, local) {
                writer.restart()?;
            }
            return Err(error.into());
        }
    };
    let (digest, size) = match sink {
        BlobSink::Known(writer) => {
            let size = writer.finish()?;
            let digest = descriptor.as_ref().map(|d| d.digest.clone());
            (digest.unwrap_or_else(|| Digest::of(b"")), size)
        }
        BlobSink::New(blob) => blob.finish()?,
        BlobSink::Present(digest) => {
            let size = content.size(&digest)?.ok_or(crate::Error::BlobNotFound { digest: digest.clone() })?;
            (digest, size)
        }
    };
    let actual = DiffId(hashed.digest.unwrap_or_else(|| digest.clone()));
    if let Some(expected) = diff_id
        && expected != actual
    {
        return Err(LayerError::WrongDiffId { layer, expected, actual }.into());
    }
    let mut blob = descriptor.unwrap_or_else(|| Descriptor::new(compression.oci_layer(), digest, size));
    if Compression::from_media_type(&blob.media_type) != Some(compression) {
        // The content decides: a wrong media type would make every later reader fail.
        blob.media_type = compression.oci_layer().to_owned();
    }
    let need = match (needs_files, extracted.implied) {
        (true, _) => Need::Files,
        (false, implied) if implied.is_empty() => Need::Nothing,
        (false, implied) => Need::Directories(implied),
    };
    Ok(StagedLayer {
        diff_id: actual,
        blob,
        compression,
        tar_size: hashed.tar_size,
        unpacked_size: extracted.unpacked_size,
        need,
        skipped: extracted.skipped,
        created: None,
        entries: extracted.entries,
        key: None,
    })
}

fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

enum ReceiveError {
    Store(crate::Error),
    Source(io::Error),
    Sink(io::Error),
}

impl From<crate::Error> for ReceiveError {
    fn from(error: crate::Error) -> Self {
        ReceiveError::Store(error)
    }
}

/// Reads the blob, stores what is new of it and passes all of it on.
fn receive(
    store: &Store,
    sink: &mut BlobSink,
    size: Option<u64>,
    open: OpenLayer<'_>,
    progress: &dyn Fn(u64),
    mut out: PipeWriter,
) -> std::result::Result<(), ReceiveError> {
    let mut position = 0;
    if let BlobSink::Present(digest) = sink {
        let file = store.content().open(digest)?;
        return copy(file, None, &mut position, progress, &mut out, u64::MAX);
    }
    let asked = match sink {
        BlobSink::Known(writer) => writer.offset(),
        _ => 0,
    };
    let source = match asked > 0 && Some(asked) == size {
        // All of it came before; the writer was killed before it could say so.
        true => None,
        false => Some(open(asked).map_err(ReceiveError::Source)?),
    };
    if let (BlobSink::Known(writer), Some(source)) = (&mut *sink, &source)
        && source.offset != asked
    {
        if source.offset != 0 {
            let text = format!("source begins at byte {} instead of {asked}", source.offset);
            return Err(ReceiveError::Source(io::Error::other(text)));
        }
        writer.restart()?;
    }
    let kept = source.as_ref().map_or(asked, |source| source.offset);
    if let (BlobSink::Known(writer), true) = (&*sink, kept > 0) {
        copy(writer.received()?, None, &mut position, progress, &mut out, kept)?;
    }
    let Some(source) = source else { return Ok(()) };
    let blob: &mut dyn Write = match sink {
        BlobSink::Known(writer) => writer,
        BlobSink::New(blob) => blob,
        BlobSink::Present(_) => return Ok(()),
    };
    copy(source.reader, Some(blob), &mut position, progress, &mut out, u64::MAX)
}

fn copy(
    mut source: impl Read,
    mut blob: Option<&mut dyn Write>,
    position: &mut u64,
    progress: &dyn Fn(u64),
    out: &mut PipeWriter,
    limit: u64,
) -> std::result::Result<(), ReceiveError> {
    let mut source = (&mut source).take(limit);
    loop {
        let mut buffer = out.buffer();
        (&mut source).take(CHUNK as u64).read_to_end(&mut buffer).map_err(ReceiveError::Source)?;
        if buffer.is_empty() {
            return Ok(());
        }
        *position += buffer.len() as u64;
        if let Some(blob) = &mut blob {
            blob.write_all(&buffer).map_err(ReceiveError::Sink)?;
        }
        progress(*position);
        out.send(buffer).map_err(ReceiveError::Sink)?;
    }
}

/// Bytes passed on, seen from outside.
struct Counted<'a> {
    inner: PipeReader,
    count: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        self.inner.consume(length);
    }
}

/// Inflates a blob of which `declared` bytes are to come, as far as its size allows.
fn inflate(
    source: PipeReader,
    mut out: PipeWriter,
    plain: &AtomicBool,
    declared: u64,
    freely: u64,
) -> io::Result<Compression> {
    let count = AtomicU64::new(0);
    let (format, mut reader) = crate::compress::decoder(Counted { inner: source, count: &count })?;
    let Some(compression) = format.compression() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{format:?} is no layer compression"),
        ));
    };
    plain.store(compression == Compression::None, Ordering::Release);
    let mut inflated = 0;
    loop {
        let mut buffer = out.buffer();
        (&mut reader).take(CHUNK as u64).read_to_end(&mut buffer)?;
        if buffer.is_empty() {
            return Ok(compression);
        }
        inflated += buffer.len() as u64;
        let blob = declared.max(count.load(Ordering::Relaxed));
        if inflated > freely.saturating_add(blob.saturating_mul(INFLATE_RATIO)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "it inflates to more than {inflated} bytes, over {INFLATE_RATIO} times its size: refused as a decompression bomb"
                ),
            ));
        }
        out.send(buffer)?;
    }
}

fn hash(mut source: PipeReader, mut out: PipeWriter, plain: &AtomicBool) -> io::Result<Hashed> {
    let mut digester = Digester::new();
    let mut tar_size = 0;
    let mut known = false;
    while let Some(chunk) = source.receive() {
        // Set before the first chunk was sent.
        known = plain.load(Ordering::Acquire);
        tar_size += chunk.len() as u64;
        if !known {
            digester.update(&chunk);
        }
        source.give_back(out.buffer());
        out.send(chunk)?;
    }
    Ok(Hashed { tar_size, digest: (!known).then(|| digester.finish()) })
}

/// Unpacks; the flag says that the layer must be unpacked on its parent instead.
fn unpack(
    source: PipeReader,
    directory: Option<&std::os::fd::OwnedFd>,
    options: ExtractOptions<'static>,
) -> std::result::Result<(Extracted, bool), tar::Error> {
    let mut reader = tar::Reader::new(source);
    let Some(directory) = directory else {
        reader.drain()?;
        return Ok((Extracted::default(), true));
    };
    let result = tar::extract_into(directory.as_fd(), &mut reader, options);
    let outcome = match result {
        Ok(extracted) => (extracted, false),
        Err(tar::Error::Entry { fault: Fault::NeedsParent, .. }) => (Extracted::default(), true),
        Err(error) => return Err(error),
    };
    // What follows the end mark belongs to the diffID.
    reader.drain()?;
    Ok(outcome)
}

/// The plain stream of a blob in the store.
pub(crate) fn open_plain(file: File) -> io::Result<Box<dyn Read + Send>> {
    let (_, reader) = crate::compress::decoder(io::BufReader::with_capacity(CHUNK, file))?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A zstd frame of `blocks` blocks, each of which says in four bytes that 128 KiB of zeros come.
    fn bomb(blocks: usize) -> Vec<u8> {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
        for at in 1..=blocks {
            let header = (131_072_u32 << 3) | (1 << 1) | u32::from(at == blocks);
            bytes.extend_from_slice(&header.to_le_bytes()[..3]);
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn what_inflates_without_end_is_refused() {
        let bytes = bomb(400);
        let plain = 400 * 131_072;
        for (freely, declared, fits) in [(plain, 0, true), (1 << 20, 0, false), (1 << 20, 50_000, true)] {
            let (mut compressed, to_inflate) = pipe();
            let (inflated, mut to_count) = pipe();
            std::thread::scope(|scope| {
                let inflating = scope
                    .spawn(move || inflate(to_inflate, inflated, &AtomicBool::new(false), declared, freely));
                let counting = scope.spawn(move || {
                    let mut count = 0;
                    while let Some(chunk) = to_count.receive() {
                        count += chunk.len() as u64;
                    }
                    count
                });
                compressed.send(bytes.clone()).unwrap();
                drop(compressed);
                let result = inflating.join().unwrap();
                assert_eq!(result.is_ok(), fits, "{freely} {declared}: {result:?}");
                let count = counting.join().unwrap();
                assert!(if fits { count == plain } else { count < plain }, "{count}");
            });
        }
    }
}
