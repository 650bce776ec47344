//! Copies an image from any source to any destination.
//!
//! For each manifest: the config first, then the layers in parallel (known ones are skipped, blobs of the same
//! registry mounted), then the manifest; an index comes last. No byte is changed, so no digest changes.

use crate::transport::{Blob, BlobRole, Destination, Placement, Source, Which};
use crate::trust::{Gate, ImageSigner};
use crate::{Error, Result};
use oci::{Descriptor, Digest, Manifest, ManifestOrIndex, Platform, Raw, media_type};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Blobs that are copied at the same time.
pub const PARALLEL_BLOBS: usize = 6;

/// Which images of an index are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The one for this platform; the index itself is not copied.
    Platform(Platform),
    /// All, and the index.
    All,
}

/// What happens to a blob.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// It will be copied.
    Started(&'a Descriptor),
    /// So many more bytes of it were moved. After a failed attempt the bytes may come again.
    Moved(&'a Descriptor, u64),
    /// It was copied.
    Done(&'a Descriptor),
    /// It was there already.
    Skipped(&'a Descriptor),
    /// It was taken from another repository of the same registry.
    Mounted(&'a Descriptor),
}

/// How to copy.
pub struct CopyOptions<'a> {
    /// Which images of an index.
    pub selection: Selection,
    /// Blobs at the same time.
    pub parallel: usize,
    /// Told of every step, from several threads.
    pub progress: &'a (dyn Fn(Event<'_>) + Sync),
    /// Set to stop.
    pub cancel: Option<&'a AtomicBool>,
    /// Asked before the first blob of a manifest moves: whether it may be used. `None` = it is ours.
    pub gate: Option<&'a Gate>,
    /// Whether signatures that the source has go along.
    pub keep_signatures: bool,
    /// Who signs every manifest and index at the destination.
    pub signers: &'a [ImageSigner],
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self {
            selection: Selection::Platform(Platform::host()),
            parallel: PARALLEL_BLOBS,
            progress: &|_| {},
            cancel: None,
            gate: None,
            keep_signatures: false,
            signers: &[],
        }
    }
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("selection", &self.selection)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

/// What was copied.
#[derive(Debug, Clone)]
pub struct Report {
    /// What now has the name at the destination: the chosen manifest, or the index.
    pub root: Raw<ManifestOrIndex>,
    /// The digest of what the source's name led to; differs from the root's where a platform was chosen.
    pub source_digest: Digest,
    /// Blobs that were copied.
    pub copied: usize,
    /// Blobs that were there.
    pub skipped: usize,
    /// Blobs that were mounted.
    pub mounted: usize,
    /// Bytes of the copied blobs.
    pub bytes: u64,
}

#[derive(Default)]
struct Tally {
    copied: usize,
    skipped: usize,
    mounted: usize,
    bytes: u64,
}

/// Copies the image.
pub fn copy(source: &dyn Source, destination: &dyn Destination, options: &CopyOptions<'_>) -> Result<Report> {
    let top = source.manifest(Which::Root)?;
    let source_digest = top.digest().clone();
    let mut tally = Tally::default();
    for signer in options.signers {
        destination.takes_signatures(signer.kind())?;
    }
    let admit = |manifest: &Raw<ManifestOrIndex>, list: Option<&Raw<ManifestOrIndex>>| match options.gate {
        Some(gate) => gate.may_be_used(source, manifest, list),
        None => Ok(()),
    };
    let root = match (top.value(), &options.selection) {
        (ManifestOrIndex::Manifest(manifest), _) => {
            admit(&top, None)?;
            copy_blobs(source, destination, manifest, options, &mut tally)?;
            put_signatures(source, destination, &top, Placement::Root, options)?;
            destination.put_manifest(&top, Placement::Root)?;
            top
        }
        (ManifestOrIndex::Index(_), Selection::Platform(platform)) => {
            let raw = select(source, &top, platform)?;
            let ManifestOrIndex::Manifest(manifest) = raw.value() else {
                return Err(Error::Unsupported("an index within an index is not followed"));
            };
            admit(&raw, Some(&top))?;
            copy_blobs(source, destination, manifest, options, &mut tally)?;
            put_signatures(source, destination, &raw, Placement::Root, options)?;
            destination.put_manifest(&raw, Placement::Root)?;
            raw
        }
        (ManifestOrIndex::Index(index), Selection::All) => {
            admit(&top, None)?;
            let mut seen = HashSet::new();
            for entry in &index.manifests {
                if !seen.insert(entry.digest.clone()) {
                    continue;
                }
                let raw = source.manifest(Which::Entry(entry))?;
                let ManifestOrIndex::Manifest(manifest) = raw.value() else {
                    return Err(Error::Unsupported("an index within an index is not followed"));
                };
                admit(&raw, Some(&top))?;
                copy_blobs(source, destination, manifest, options, &mut tally)?;
                put_signatures(source, destination, &raw, Placement::Entry, options)?;
                destination.put_manifest(&raw, Placement::Entry)?;
            }
            put_signatures(source, destination, &top, Placement::Root, options)?;
            destination.put_manifest(&top, Placement::Root)?;
            top
        }
    };
    Ok(Report {
        root,
        source_digest,
        copied: tally.copied,
        skipped: tally.skipped,
        mounted: tally.mounted,
        bytes: tally.bytes,
    })
}

/// Brings the signatures of a manifest to the destination, before anything there has its name: whoever finds the name
/// finds them.
fn put_signatures(
    source: &dyn Source,
    destination: &dyn Destination,
    manifest: &Raw<ManifestOrIndex>,
    placement: Placement,
    options: &CopyOptions<'_>,
) -> Result<()> {
    let digest = manifest.digest();
    let mut signatures = if options.keep_signatures { source.signatures(digest)?.list } else { Vec::new() };
    if !options.signers.is_empty() {
        let name = destination.signed_name().ok_or_else(|| Error::Signing {
            what: format!("sign what goes to {}", destination.describe()),
            message: "it has no name to sign: push to a registry".to_owned(),
        })?;
        for signer in options.signers {
            // one signature for each push of the same image would soon be too many
            let stored = destination.stored_signatures(digest, signer.kind())?;
            if !signer.has_signed(&stored, digest, &name)? {
                signatures.push(signer.sign(digest, &name)?);
            }
        }
    }
    if signatures.is_empty() { Ok(()) } else { destination.put_signatures(digest, placement, &signatures) }
}

/// Reads the manifest for a platform out of an index; a manifest is given back as it is.
pub fn select(
    source: &dyn Source,
    top: &Raw<ManifestOrIndex>,
    platform: &Platform,
) -> Result<Raw<ManifestOrIndex>> {
    match top.value() {
        ManifestOrIndex::Manifest(_) => Ok(top.clone()),
        ManifestOrIndex::Index(index) => {
            let entry = index.select(platform).ok_or_else(|| Error::NoPlatform {
                wanted: Box::new(platform.clone()),
                place: source.describe(),
                available: index.platforms(),
            })?;
            source.manifest(Which::Entry(entry))
        }
    }
}

fn copy_blobs(
    source: &dyn Source,
    destination: &dyn Destination,
    manifest: &Manifest,
    options: &CopyOptions<'_>,
    tally: &mut Tally,
) -> Result<()> {
    let mut seen = HashSet::new();
    let mut layers = Vec::new();
    seen.insert(&manifest.config.digest);
    for (position, layer) in manifest.layers.iter().enumerate() {
        let foreign = media_type::is_foreign_layer(&layer.media_type) && !layer.urls.is_empty();
        if seen.insert(&layer.digest) && !(foreign && destination.skips_foreign_layers()) {
            layers.push((layer, BlobRole::Layer(position)));
        }
    }
    let tally = Mutex::new(tally);
    copy_blob(source, destination, &manifest.config, BlobRole::Config, options, &tally)?;

    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some((layer, role)) = layers.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = copy_blob(source, destination, layer, *role, options, &tally) {
                failed.store(true, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                failure.get_or_insert(error);
            }
        }
    };
    let threads = options.parallel.clamp(1, 32).min(layers.len());
    if threads <= 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn copy_blob(
    source: &dyn Source,
    destination: &dyn Destination,
    descriptor: &Descriptor,
    role: BlobRole,
    options: &CopyOptions<'_>,
    tally: &Mutex<&mut Tally>,
) -> Result<()> {
    let cancelled = || options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
    if cancelled() {
        return Err(Error::Cancelled);
    }
    let count = |add: &dyn Fn(&mut Tally)| {
        add(&mut tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    };
    if destination.has_blob(descriptor)? {
        (options.progress)(Event::Skipped(descriptor));
        count(&|tally| tally.skipped += 1);
        return Ok(());
    }
    if let Some(from) = source.repository()
        && destination.mount_blob(descriptor, from)?
    {
        (options.progress)(Event::Mounted(descriptor));
        count(&|tally| tally.mounted += 1);
        return Ok(());
    }
    (options.progress)(Event::Started(descriptor));
    let moved = |bytes: u64| (options.progress)(Event::Moved(descriptor, bytes));
    destination.put_blob(&Blob::new(source, descriptor, role, &moved, options.cancel))?;
    (options.progress)(Event::Done(descriptor));
    count(&|tally| {
        tally.copied += 1;
        tally.bytes += descriptor.size;
    });
    Ok(())
}
