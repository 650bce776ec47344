//! The index of known results: one record of the store a key.
//!
//! A record is written as soon as a step is done, naming the step's snapshot; when the layer's digest is known, it is
//! written again with the chain ID. A build that was killed in between loses nothing. The builder's part of a record:
//! ```text
//! {"same": KEY}                       a cheap key: the result is found under this content key
//! {"base": CHAIN_ID?, "own": [NAME..]}  known layers, and snapshots of layers without a digest on top
//! ```

use crate::cache::Key;
use crate::ops::Error;
use crate::ops::snapshot::{Own, Rootfs, Workspace};
use oci::ChainId;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, OnceLock};
use storage::CacheRecord;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Data {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<ChainId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    own: Vec<String>,
    /// What made the result, for `system df` and `prune`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
}

/// The content key behind a cheap key.
pub(crate) fn alias(workspace: &Workspace<'_>, cheap: &Key) -> Option<Key> {
    let record = workspace.store.cache().get(cheap.0.hex()).ok()??;
    let data: Data = serde_json::from_value(record.data).ok()?;
    data.same.and_then(|hex| format!("sha256:{hex}").parse().ok()).map(Key)
}

/// Remembers the content key behind a cheap key.
pub(crate) fn put_alias(workspace: &Workspace<'_>, cheap: &Key, key: &Key) -> Result<(), Error> {
    let data = Data { same: Some(key.0.hex().to_owned()), ..Data::default() };
    put(workspace, cheap, data, Vec::new(), Vec::new(), 0)
}

/// The result under a key, held by the build's lease. What cannot be read or is gone is not known.
pub(crate) fn look_up(workspace: &Workspace<'_>, key: &Key) -> Option<Rootfs> {
    let record = workspace.store.cache().hold(workspace.lease, key.0.hex()).ok()??;
    let data: Data = serde_json::from_value(record.data).ok()?;
    if data.same.is_some() || (data.base.is_none() && data.own.is_empty()) {
        return None;
    }
    if let Some(base) = &data.base {
        workspace.store.layers().hold(workspace.lease, base).ok()??;
    }
    let mut below: Option<Arc<Own>> = None;
    for snapshot in data.own {
        if !workspace.hold_snapshot(&snapshot).ok()? {
            return None;
        }
        below = Some(Arc::new(Own {
            snapshot,
            below: below.take(),
            pending: Mutex::new(None),
            named: OnceLock::new(),
        }));
    }
    Some(Rootfs { base: data.base, own: below })
}

/// Records a result whose new layers have no digests yet.
pub(crate) fn put_result(
    workspace: &Workspace<'_>,
    key: &Key,
    rootfs: &Rootfs,
    text: &str,
) -> Result<(), Error> {
    let own = rootfs.own_snapshots();
    let snapshots = own.last().cloned().into_iter().collect();
    let layers = rootfs.base.clone().into_iter().collect();
    let data = Data { base: rootfs.base.clone(), own, text: text.to_owned(), same: None };
    put(workspace, key, data, layers, snapshots, 0)
}

/// Records a result by the name of its top layer.
pub(crate) fn put_named(
    workspace: &Workspace<'_>,
    key: &Key,
    chain_id: &ChainId,
    size: u64,
    text: &str,
) -> Result<(), Error> {
    let data = Data { base: Some(chain_id.clone()), text: text.to_owned(), ..Data::default() };
    put(workspace, key, data, vec![chain_id.clone()], Vec::new(), size)
}

fn put(
    workspace: &Workspace<'_>,
    key: &Key,
    data: Data,
    layers: Vec<ChainId>,
    snapshots: Vec<String>,
    size: u64,
) -> Result<(), Error> {
    let now = jiff::Timestamp::now().to_string();
    // Only strings and lists of strings.
    let data = serde_json::to_value(data).expect("plain data");
    let record = CacheRecord {
        key: key.0.hex().to_owned(),
        layers,
        snapshots,
        blobs: Vec::new(),
        created: now.clone(),
        last_used: now,
        size,
        data,
    };
    Ok(workspace.store.cache().put(&record)?)
}
