//! Traces: what the steps of a build were made of, kept beside its image, to say later why a step ran.
//!
//! ```text
//! traces/IMAGEHEX.json        the trace of the build that made the image
//! traces/line/LINEHEX.json    {"image":"sha256:..","summary":".."}   the last image of a line of builds
//! ```
//! A *line* is a series of builds that people take for the same one: same name, same target. A trace lives as long as
//! its image; where it is the last of its line, also as long as one of its steps has a cache record. None of this is
//! needed for a correct build, so nothing is synced, and what cannot be read is as good as absent.

use crate::error::{Error, Result};
use crate::leases::{Hold, Lease};
use crate::records::{self, Record, Sync};
use crate::store::Store;
use oci::Digest;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub(crate) const TRACES: &str = "traces";
pub(crate) const LINES: &str = "traces/line";

/// What the steps of one build were made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The image that was built.
    pub image: Digest,
    /// Cache keys of the steps.
    pub keys: Vec<String>,
    /// Blobs that it keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Digest>,
    /// When the build ended, RFC 3339.
    pub created: String,
    /// The builder's own part.
    pub data: serde_json::Value,
}

impl Record for Trace {
    const VERSION: u32 = 1;
}

/// The newest build of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Its image, and so its trace.
    pub image: Digest,
    /// Digest of what the build's steps were, to see without reading the trace that nothing changed.
    pub summary: String,
}

impl Record for TraceLine {
    const VERSION: u32 = 1;
}

/// The traces of a store.
#[derive(Debug, Clone, Copy)]
pub struct Traces<'a> {
    pub(crate) store: &'a Store,
}

impl Traces<'_> {
    /// The trace of an image.
    pub fn get(&self, image: &Digest) -> Result<Option<Trace>> {
        readable(&self.path(image))
    }

    /// The newest build of a line, if its trace is still there.
    pub fn line(&self, line: &Digest) -> Result<Option<TraceLine>> {
        let Some(found) = readable::<TraceLine>(&self.line_path(line))? else { return Ok(None) };
        Ok(sys::fs::exists(&self.path(&found.image))?.then_some(found))
    }

    /// Writes the trace of an image whose blobs the lease holds, and makes it the newest of its line.
    pub fn put(&self, lease: &Lease, line: &Digest, summary: &str, trace: &Trace) -> Result<()> {
        sys::fs::create_dir_all(&self.store.path(LINES), 0o700)?;
        for blob in &trace.blobs {
            lease.hold(Hold::Blob(blob.clone()))?;
        }
        let _lock = self.store.lock_shared()?;
        records::write(&self.path(&trace.image), trace, Sync::None)?;
        let newest = TraceLine { image: trace.image.clone(), summary: summary.to_owned() };
        records::write(&self.line_path(line), &newest, Sync::None)
    }

    fn path(&self, image: &Digest) -> PathBuf {
        self.store.path(TRACES).join(format!("{}.json", image.hex()))
    }

    fn line_path(&self, line: &Digest) -> PathBuf {
        self.store.path(LINES).join(format!("{}.json", line.hex()))
    }
}

/// Reads a record; one that cannot be read is removed, for it would be in the way for ever.
fn readable<T: Record>(path: &Path) -> Result<Option<T>> {
    match records::read(path) {
        Err(Error::MalformedRecord { path, .. }) => {
            records::remove(&path)?;
            Ok(None)
        }
        other => other,
    }
}

/// All traces of a store as a sweep needs them: what they keep, and the files that keep nothing any more.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) blobs: HashSet<Digest>,
    pub(crate) stale: Vec<PathBuf>,
}

impl Kept {
    /// Reads the traces. `images` and `keys` are what else there is.
    pub(crate) fn read(
        store: &Store,
        images: &dyn Fn(&Digest) -> bool,
        keys: &HashSet<&str>,
    ) -> Result<Self> {
        let mut kept = Self::default();
        let directory = store.path(LINES);
        let mut lines = Vec::new();
        for name in records::names(&directory)? {
            let path = directory.join(name);
            if let Some(line) = readable::<TraceLine>(&path)? {
                lines.push((path, line.image));
            }
        }
        let newest: HashSet<&Digest> = lines.iter().map(|(_, image)| image).collect();
        let mut gone = HashSet::new();
        let directory = store.path(TRACES);
        let mut found = HashSet::new();
        for name in records::names(&directory)? {
            let path = directory.join(name);
            let Some(trace) = readable::<Trace>(&path)? else { continue };
            let used = images(&trace.image)
                || (newest.contains(&trace.image)
                    && trace.keys.iter().any(|key| keys.contains(key.as_str())));
            if used {
                found.insert(trace.image);
                kept.blobs.extend(trace.blobs);
            } else {
                gone.insert(trace.image);
                kept.stale.push(path);
            }
        }
        let dangling = lines.iter().filter(|(_, image)| gone.contains(image) || !found.contains(image));
        kept.stale.extend(dangling.map(|(path, _)| path.clone()));
        Ok(kept)
    }
}
