//! The image of its parts: config, then the record that makes it visible.
//!
//! A built image has no manifest: that needs compressed layers, which are made by the first push or save
//! (`storage::diff::layer_blob`) and kept.

use crate::build::{BuildRequest, Error, NamedLayer};
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
) -> Result<Image, Error> {
    let now = jiff::Timestamp::now();
    let created = match request.timestamp {
        // Seconds that no calendar has are the request's mistake; the epoch's end is near enough.
        Some(seconds) => jiff::Timestamp::from_second(seconds).unwrap_or(now),
        None => now,
    }
    .to_string();
    let config = config(lowered, layers, &created);
    // Only strings, numbers and lists; serialising them cannot fail.
    let bytes = serde_json::to_vec(&config).expect("an image config is plain data");
    let id = request.store.content().put(request.lease, &bytes)?;
    let descriptor = Descriptor::new(media_type::OCI_CONFIG, id.clone(), bytes.len() as u64);
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
    };
    // A known image with the same ID has all of this already, and perhaps manifests: it stays as it is.
    match request.store.images().get(&id)? {
        Some(known) if known.layers == record.layers => {}
        _ => request.store.images().put(request.lease, &record)?,
    }
    Ok(Image { id, config: bytes })
}

/// The config: what the instructions left, with layers, history and times.
fn config(lowered: &Lowered, layers: &[NamedLayer], created: &str) -> ImageConfig {
    let mut config = lowered.config.clone();
    config.created = Some(created.to_owned());
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.history = lowered
        .history
        .iter()
        .map(|entry| History {
            created: entry.created.clone().or_else(|| Some(created.to_owned())),
            ..entry.clone()
        })
        .collect();
    if config.config.working_dir.is_empty() {
        "/".clone_into(&mut config.config.working_dir);
    }
    config
}
