//! Everything of davit that survives a reboot and is not container state: blobs, layers, snapshots, images, the build
//! cache's records, and what keeps them alive.
//!
//! ```text
//! ROOT/
//!   version               {"version":1}
//!   boot                  boot ID of the last start-up sweep
//!   gc.lock               shared by whoever takes hold of existing content, exclusive for a sweep
//!   blobs/sha256/HEX      content by digest, compressed as it came
//!   ingest/partial/ALG-HEX  blobs being received, locked by their writer, resumed by the next one
//!   ingest/LEASE/         working directory of one lease
//!   active/KEY/           snapshots being written: record.json, fs/, work/
//!   snapshots/NAME/       committed snapshots: record.json, fs/
//!   layers/CHAINHEX.json  images/IDHEX.json  tags/ESCAPED.json  lists/ESCAPED.json  cache/ESCAPED.json  cache/pending/ESCAPED.json
//!   traces/IDHEX.json  traces/line/HEX.json   what the steps of builds were made of
//!   build/                stat memories of contexts; build/mounts: cache mounts, see [`cache_mounts`]
//!   leases/ID             locked by the living owner; lists what it holds
//!   trash/                on its way to deletion
//! ```
//!
//! The rule of every write: content first (temporary name, sync, rename), then the record that names it. Whoever reads
//! a record may rely on what it names. Several processes use one store at the same time, and each may be killed at any
//! instant; see [`leases`] and [`gc`] for why that loses nothing and leaks nothing.
//!
//! The crate knows nothing of containers, registries or Containerfiles, and never asks above itself what is alive.

#![forbid(unsafe_code)]

pub mod artifacts;
pub mod cache;
pub mod cache_mounts;
pub mod check;
pub mod chunker;
pub mod compress;
pub mod content;
pub mod diff;
mod error;
pub mod gc;
pub mod images;
pub mod ingest;
pub mod layers;
pub mod leases;
pub mod lists;
pub mod records;
pub mod shadow;
pub mod snapshot;
mod store;
pub mod tar;
pub mod testing;
pub mod traces;
pub mod usage;

pub use artifacts::{ArtifactRecord, Artifacts};
pub use cache::CacheRecord;
pub use cache_mounts::{CacheMount, CacheMounts, MountUse};
pub use content::{BlobWriter, Claim, NewBlob};
pub use error::{Error, Result};
pub use gc::{Freed, SweepOptions};
pub use images::{Image, ImageRecord, ManifestForm, TagRecord};
pub use layers::Layer;
pub use leases::{Hold, Lease};
pub use lists::{ListEntry, ListRecord, Lists};
pub use snapshot::{
    Capabilities, Prepare, SnapshotInfo, SnapshotKind, SnapshotUsage, Snapshotter, WhiteoutFormat,
};
pub use store::{Driver, Store, StoreOptions};
pub use traces::{Trace, TraceLine, Traces};
