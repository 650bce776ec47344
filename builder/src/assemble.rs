//! The image of its parts: config, then the record that makes it visible.
//!
//! A built image has no manifest: that needs compressed layers, which are made by the first push or save
//! (`storage::diff::layer_blob`) and kept.

use crate::build::{BuildRequest, Error, INLINE_CACHE, NamedLayer};
use crate::lower::Lowered;
use oci::{Descriptor, Digest, History, ImageConfig, media_type};
use storage::ImageRecord;

/// A recorded image.
pub(crate) struct Image {
    pub(crate) id: Digest,
    pub(crate) config: Vec<u8>,
}

/// Writes the config and records the image.
pub(crate) fn assemble(
    request: &BuildRequest<'_>,
    lowered: &Lowered,
    layers: &[NamedLayer],
    inline_cache: Option<serde_json::Value>,
) -> Result<Image, Error> {
    let now = jiff::Timestamp::now();
    // Seconds that no calendar has are the request's mistake; now is as good as any.
    let fixed =
        request.time().map(|seconds| jiff::Timestamp::from_second(seconds).unwrap_or(now).to_string());
    let mut entries = lowered.history.clone();
    fold(&mut entries, layers.len());
    let mut history = history(&entries, layers, fixed.as_deref(), &now.to_string());
    let last = history.last().and_then(|entry| entry.created.clone());
    if request.image.omit_history {
        history.clear();
    }
    let created = fixed.or(last).unwrap_or_else(|| now.to_string());
    let mut config = config(lowered, layers, history, &created);
    if let Some(cache) = inline_cache {
        config.unknown.insert(INLINE_CACHE.to_owned(), cache);
    }
    // Only strings, numbers and lists; serialising them cannot fail.
    let bytes = serde_json::to_vec(&config).expect("an image config is plain data");
    let id = request.store.content().put(request.lease, &bytes)?;
    let kind = if request.image.docker { media_type::DOCKER_CONFIG } else { media_type::OCI_CONFIG };
    let descriptor = Descriptor::new(kind, id.clone(), bytes.len() as u64);
    let size = layers.iter().map(|layer| layer.size).sum::<u64>() + bytes.len() as u64;
    let record = ImageRecord {
        id: id.clone(),
        manifest: None,
        config: descriptor,
        layers: layers.iter().map(|layer| layer.chain_id.clone()).collect(),
        created: Some(created),
        added: now.to_string(),
        size,
        platform: config.platform(),
        labels: config.config.labels.clone(),
        other_manifests: Vec::new(),
        parent: None,
        names_history: Vec::new(),
        annotations: Some(request.image.annotations.clone()),
    };
    // A known image with the same ID has all of this already, and perhaps manifests: it stays as it is.
    match request.store.images().get(&id)? {
        Some(known) if known.layers == record.layers && known.is_sent_like(&record) => {}
        _ => request.store.images().put(request.lease, &record)?,
    }
    Ok(Image { id, config: bytes })
}

/// Leaves the history with as many layers as there are: those that became one are told by the last of them.
fn fold(history: &mut [History], layers: usize) {
    let with_layer = history.iter().filter(|entry| !entry.empty_layer).count();
    let Some(surplus) = with_layer.checked_sub(layers) else { return };
    let folded = history.iter_mut().filter(|entry| !entry.empty_layer).skip(layers.saturating_sub(1));
    for entry in folded.take(surplus) {
        entry.empty_layer = true;
    }
}

/// The history with its times.
///
/// Without a fixed time, a new layer's entry has the time at which the layer was first made, and one without a layer
/// that of the layer before it (the first new one, where there is none before): so a build of known results gives the
/// same image again, as with `BuildKit`.
fn history(entries: &[History], layers: &[NamedLayer], fixed: Option<&str>, now: &str) -> Vec<History> {
    let mut history = entries.to_vec();
    let is_new = |entry: &History| entry.created.is_none();
    if let Some(fixed) = fixed {
        for entry in history.iter_mut().filter(|entry| is_new(entry)) {
            entry.created = Some(fixed.to_owned());
        }
        return history;
    }
    let first_new = history.iter().position(is_new).unwrap_or(history.len());
    let mut times = layers.iter().rev();
    for entry in history[first_new..].iter_mut().rev().filter(|entry| !entry.empty_layer) {
        entry.created = times.next().map(|layer| layer.created.clone());
    }
    let first_time = history[first_new..].iter().find_map(|entry| entry.created.clone());
    let before = history[..first_new].iter().rev().find_map(|entry| entry.created.clone());
    let mut time = first_time.or(before).unwrap_or_else(|| now.to_owned());
    for entry in &mut history[first_new..] {
        match &entry.created {
            Some(created) => time.clone_from(created),
            None => entry.created = Some(time.clone()),
        }
    }
    history
}

/// The config: what the instructions left, with layers, history and times.
fn config(lowered: &Lowered, layers: &[NamedLayer], history: Vec<History>, created: &str) -> ImageConfig {
    let mut config = lowered.config.clone();
    config.created = Some(created.to_owned());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.history = history;
    if config.config.working_dir.is_empty() {
        "/".clone_into(&mut config.config.working_dir);
    }
    config
}
