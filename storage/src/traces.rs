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

/// What a sweep reads of a trace.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    image: Digest,
    keys: Vec<String>,
    #[serde(default)]
    blobs: Vec<Digest>,
}

impl Record for Head {
    const VERSION: u32 = Trace::VERSION;
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
            let Some(trace) = readable::<Head>(&path)? else { continue };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::now;
    use crate::{CacheRecord, Driver, StoreOptions, SweepOptions};

    #[test]
    fn a_trace_lives_with_its_image_or_with_the_cache_if_it_is_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let store = Store::open(StoreOptions { root, driver: Driver::Vfs, user_namespace: false }).unwrap();
        let lease = store.lease("test").unwrap();
        let blob = store.content().put(&lease, b"listing").unwrap();
        let line = Digest::of(b"line");
        let trace = |name: &str, blobs: &[Digest]| Trace {
            image: Digest::of(name.as_bytes()),
            keys: vec!["key".to_owned()],
            blobs: blobs.to_vec(),
            created: now(),
            data: serde_json::json!({"steps": []}),
        };
        let (old, new) = (trace("old", &[]), trace("new", std::slice::from_ref(&blob)));
        store.traces().put(&lease, &line, "1", &old).unwrap();
        store.traces().put(&lease, &line, "2", &new).unwrap();
        assert_eq!(store.traces().line(&line).unwrap().unwrap().image, new.image);
        let record = CacheRecord {
            key: "key".to_owned(),
            layers: Vec::new(),
            snapshots: Vec::new(),
            blobs: Vec::new(),
            created: now(),
            last_used: now(),
            size: 0,
            data: serde_json::Value::Null,
        };
        store.cache().put(&record).unwrap();
        drop(lease);
        store.sweep(SweepOptions::default()).unwrap();
        assert_eq!(store.traces().get(&old.image).unwrap(), None);
        assert_eq!(store.traces().get(&new.image).unwrap(), Some(new.clone()));
        assert!(store.content().has(&blob).unwrap());

        // One that a power failure tore is as good as absent, and stops no sweep.
        std::fs::write(store.path(TRACES).join(format!("{}.json", old.image.hex())), "{").unwrap();
        store.cache().remove("key").unwrap();
        store.sweep(SweepOptions::default()).unwrap();
        assert_eq!(store.traces().get(&new.image).unwrap(), None);
        assert_eq!(store.traces().line(&line).unwrap(), None);
        assert!(!store.content().has(&blob).unwrap());
        assert!(std::fs::read_dir(store.path(LINES)).unwrap().next().is_none());
    }
}
