//! The sweep: removes what no image, active snapshot, lease or cache record needs.
//!
//! Why it is safe beside running operations: whoever begins to rely on existing content notes it in a lease, and
//! whoever makes content notes it before it becomes visible, both under the shared lock. The sweep decides and renames
//! under the exclusive lock, so it sees either the note or no content; it deletes after the lock. An operation that
//! ends writes its record before its lease goes, and the sweep reads leases before records.
//!
//! A record that cannot be read may name anything: then nothing is removed.

use crate::error::{Failures, Result};
use crate::leases::{self, Hold};
use crate::snapshot::directory::{self, SnapshotRecord};
use crate::store::{self, Store};
use crate::traces;
use crate::{CacheRecord, ImageRecord, Layer};
use oci::{ChainId, Digest};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

/// What a sweep removes besides garbage.
#[derive(Debug, Clone, Copy, Default)]
pub struct SweepOptions {
    /// Also unfinished blobs that nobody is receiving now: the next pull of them begins at the start.
    pub partial_blobs: bool,
    /// Also blobs whose layer is unpacked. A push then compresses again, with the same digests only for layers that
    /// were built here.
    pub unpacked_blobs: bool,
    /// Only says what would be removed.
    pub dry_run: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes: recorded sizes.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Layer records.
    pub layers: u64,
    /// Snapshots.
    pub snapshots: u64,
}

impl Store {
    /// Removes what nothing needs. Safe beside running operations of this and other processes.
    pub fn sweep(&self, options: SweepOptions) -> Result<Freed> {
        let mut failures = Failures::default();
        if !options.dry_run {
            failures.note(self.reap());
        }
        let (mut freed, trash) = {
            let _lock = self.lock_exclusive()?;
            let plan = Plan::make(self, options)?;
            let freed = plan.freed();
            let trash = if options.dry_run { Vec::new() } else { plan.carry_out(self, &mut failures) };
            (freed, trash)
        };
        for path in trash {
            failures.note(store::delete_trash(&path));
        }
        if options.partial_blobs
            && !options.dry_run
            && let Some((count, bytes)) = failures.note(crate::content::remove_partial(self, Duration::ZERO))
        {
            freed.blobs += count;
            freed.bytes += bytes;
        }
        failures.into_result().map(|()| freed)
    }
}

/// All that is in the store, read in the order that the module's rule wants.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) blobs: Vec<(Digest, u64)>,
    pub(crate) snapshots: HashMap<String, SnapshotRecord>,
    pub(crate) active: Vec<(String, SnapshotRecord)>,
    pub(crate) layers: HashMap<ChainId, Layer>,
    live_leases: HashSet<String>,
    holds: Vec<Hold>,
    pub(crate) images: HashMap<Digest, ImageRecord>,
    pub(crate) cache: Vec<CacheRecord>,
    /// Indexes that lists came as, and all that artifacts name.
    kept: Vec<Digest>,
    traces: traces::Kept,
}

impl Contents {
    pub(crate) fn read(store: &Store) -> Result<Self> {
        let blobs = store.content().list()?;
        let snapshots = directory::read_all(&store.path("snapshots"))?.into_iter().collect();
        let active = directory::read_all(&store.path("active"))?;
        let layers =
            store.layers().list()?.into_iter().map(|layer| (layer.chain_id.clone(), layer)).collect();
        let (live_leases, holds) = leases::all_holds(store)?;
        let images = crate::records::list::<ImageRecord>(&store.path("images"))?;
        let images = images.into_iter().map(|image| (image.id.clone(), image)).collect();
        let cache = store.cache().list()?;
        let mut kept: Vec<Digest> = store.lists().all()?.into_iter().filter_map(|list| list.index).collect();
        for artifact in store.artifacts().all()? {
            kept.push(artifact.manifest.digest);
            kept.extend(artifact.blobs);
        }
        let images: HashMap<Digest, ImageRecord> = images;
        let keys = cache.iter().map(|record| record.key.as_str()).collect();
        let traces = traces::Kept::read(store, &|image| images.contains_key(image), &keys)?;
        Ok(Self { blobs, snapshots, active, layers, live_leases, holds, images, cache, kept, traces })
    }

    fn is_live(&self, record: &SnapshotRecord) -> Result<bool> {
        if self.live_leases.contains(&record.lease) {
            return Ok(true);
        }
        Ok(match &record.holder {
            Some(holder) => sys::fs::exists(holder)?,
            None => false,
        })
    }
}

/// What the roots reach.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) layers: HashSet<ChainId>,
    pub(crate) snapshots: HashSet<String>,
    pub(crate) active: HashSet<String>,
}

impl Marks {
    fn all(contents: &Contents) -> Result<Self> {
        let mut marks = Self::default();
        for hold in &contents.holds {
            marks.hold(contents, hold);
        }
        for image in contents.images.values() {
            marks.image(contents, image);
        }
        for record in &contents.cache {
            record.layers.iter().for_each(|layer| marks.layer(contents, layer));
            record.snapshots.iter().for_each(|name| marks.snapshot(contents, name));
            marks.blobs.extend(record.blobs.iter().cloned());
        }
        marks.blobs.extend(contents.traces.blobs.iter().cloned());
        marks.blobs.extend(contents.kept.iter().cloned());
        for (key, record) in &contents.active {
            if marks.active.contains(key) || contents.is_live(record)? {
                marks.active.insert(key.clone());
                record.ancestors.iter().for_each(|name| marks.snapshot(contents, name));
            }
        }
        // A container's layers stay known as layers after its image is gone: a commit of it wants their identity.
        for layer in contents.layers.values() {
            if marks.snapshots.contains(&layer.snapshot) {
                marks.layer(contents, &layer.chain_id);
            }
        }
        Ok(marks)
    }

    fn hold(&mut self, contents: &Contents, hold: &Hold) {
        match hold {
            Hold::Blob(digest) => {
                self.blobs.insert(digest.clone());
            }
            Hold::Layer(chain_id) => self.layer(contents, chain_id),
            Hold::Snapshot(name) => self.snapshot(contents, name),
            Hold::Image(id) => {
                if let Some(image) = contents.images.get(id) {
                    self.image(contents, image);
                }
            }
            Hold::Active(key) => {
                self.active.insert(key.clone());
            }
        }
    }

    pub(crate) fn image(&mut self, contents: &Contents, image: &ImageRecord) {
        self.blobs.insert(image.config.digest.clone());
        let manifests = image.manifest.iter().chain(&image.other_manifests);
        self.blobs.extend(manifests.map(|manifest| manifest.digest.clone()));
        for layer in &image.layers {
            self.layer(contents, layer);
        }
    }

    fn layer(&mut self, contents: &Contents, chain_id: &ChainId) {
        let mut next = Some(chain_id);
        while let Some(layer) = next.and_then(|chain_id| contents.layers.get(chain_id)) {
            if !self.layers.insert(layer.chain_id.clone()) {
                break;
            }
            self.snapshot(contents, &layer.snapshot);
            self.blobs.extend(layer.blobs.iter().map(|blob| blob.digest.clone()));
            next = layer.parent.as_ref();
        }
    }

    fn snapshot(&mut self, contents: &Contents, name: &str) {
        let Some(record) = contents.snapshots.get(name) else { return };
        if self.snapshots.insert(name.to_owned()) {
            self.snapshots.extend(record.ancestors.iter().cloned());
        }
    }
}

/// What goes.
#[derive(Debug)]
pub(crate) struct Plan {
    blobs: Vec<(Digest, u64)>,
    layers: Vec<ChainId>,
    /// Directories of snapshots with their recorded sizes in bytes.
    snapshots: Vec<(PathBuf, u64)>,
    /// Files of traces that nothing needs.
    traces: Vec<PathBuf>,
}

impl Plan {
    fn make(store: &Store, options: SweepOptions) -> Result<Self> {
        let contents = Contents::read(store)?;
        let mut marks = Marks::all(&contents)?;
        if options.unpacked_blobs {
            drop_unpacked(&contents, &mut marks);
        }
        Ok(Self::of(store, &contents, &marks))
    }

    pub(crate) fn of(store: &Store, contents: &Contents, marks: &Marks) -> Self {
        let blobs =
            contents.blobs.iter().filter(|(digest, _)| !marks.blobs.contains(digest)).cloned().collect();
        let layers = contents.layers.keys().filter(|id| !marks.layers.contains(*id)).cloned().collect();
        let committed = contents.snapshots.iter().filter(|(name, _)| !marks.snapshots.contains(*name)).map(
            |(name, record)| {
                (directory::committed(store.root(), name), record.usage.map_or(0, |usage| usage.bytes))
            },
        );
        let active = contents.active.iter().filter(|(key, _)| !marks.active.contains(key)).map(|(key, _)| {
            let path = directory::active(store.root(), key);
            let bytes = directory::measure(&path.join("fs")).map_or(0, |usage| usage.bytes);
            (path, bytes)
        });
        let snapshots = committed.chain(active).collect();
        Self { blobs, layers, snapshots, traces: contents.traces.stale.clone() }
    }

    pub(crate) fn freed(&self) -> Freed {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let blobs: u64 = self.blobs.iter().map(|(_, size)| size).sum();
        let snapshots: u64 = self.snapshots.iter().map(|(_, size)| size).sum();
        Freed {
            bytes: blobs + snapshots,
            blobs: count(self.blobs.len()),
            layers: count(self.layers.len()),
            snapshots: count(self.snapshots.len()),
        }
    }

    /// Records first, then what they named. Returns the directories that are left to delete.
    fn carry_out(self, store: &Store, failures: &mut Failures) -> Vec<PathBuf> {
        for chain_id in &self.layers {
            failures.note(store.layers().remove(chain_id));
        }
        for (digest, _) in &self.blobs {
            failures.note(store.content().remove(digest));
        }
        for path in &self.traces {
            failures.note(crate::records::remove(path));
        }
        let mut trash = Vec::new();
        for (path, _) in &self.snapshots {
            trash.extend(failures.note(store::move_to_trash(store.root(), path)).flatten());
        }
        remove_temporary(store, failures);
        trash
    }
}

/// Records are written under the shared lock, so what has a temporary name now was left by a killed writer.
fn remove_temporary(store: &Store, failures: &mut Failures) {
    let directories = [
        "layers",
        "images",
        "tags",
        "lists",
        "artifacts",
        "cache",
        "cache/pending",
        traces::TRACES,
        traces::LINES,
    ];
    for directory in directories {
        let directory = store.path(directory);
        let names = sys::fs::optional(sys::fs::read_names(&directory)).map_err(Into::into);
        for name in failures.note(names).flatten().unwrap_or_default() {
            if name.as_encoded_bytes().starts_with(sys::fs::TEMPORARY_PREFIX.as_bytes()) {
                failures.note(crate::records::remove(&directory.join(name)));
            }
        }
    }
}

/// Takes the marks from blobs of unpacked layers, but for those that an operation holds by themselves.
fn drop_unpacked(contents: &Contents, marks: &mut Marks) {
    let held: HashSet<&Digest> = contents
        .holds
        .iter()
        .filter_map(|hold| if let Hold::Blob(digest) = hold { Some(digest) } else { None })
        .collect();
    for layer in contents.layers.values() {
        if contents.snapshots.contains_key(&layer.snapshot) {
            for blob in layer.blobs.iter().filter(|blob| !held.contains(&blob.digest)) {
                marks.blobs.remove(&blob.digest);
            }
        }
    }
}

impl Store {
    /// What a sweep with these options would remove, and all that is in the store.
    pub(crate) fn survey(&self) -> Result<(Contents, Freed)> {
        let _lock = self.lock_shared()?;
        let contents = Contents::read(self)?;
        let marks = Marks::all(&contents)?;
        let freed = Plan::of(self, &contents, &marks).freed();
        Ok((contents, freed))
    }
}
