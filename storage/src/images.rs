//! Image and tag records: all that a listing shows, so that no blob is read for it.

use crate::error::Result;
use crate::leases::Lease;
use crate::store::Store;
use oci::{ChainId, Descriptor, Digest, Platform};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The image ID: digest of the config.
    pub id: Digest,
    /// The manifest as it was pulled or built, in the content store; absent for an image that has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Descriptor>,
    /// The config, in the content store.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default)]
    pub layers: Vec<ChainId>,
    /// When the config says it was created, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it came into the store, RFC 3339.
    pub added: String,
    /// Size in bytes as a listing shows it: files of all layers, and config and manifest.
    pub size: u64,
    /// What it runs on.
    pub platform: Platform,
    /// Labels of the config, for filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Digests of further manifests that have this config (other compressions), in the content store or known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_manifests: Vec<Descriptor>,
    /// The image that this one was built from, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// References that the image had and lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names_history: Vec<String>,
}

/// A name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagRecord {
    /// The full reference: `docker.io/library/alpine:latest`, or `NAME@sha256:..`.
    pub reference: String,
    /// The image ID.
    pub image: Digest,
    /// Digest of the manifest under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Digest of the index that led to the manifest, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// When the name was given, RFC 3339.
    pub updated: String,
}

/// An image with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The image.
    pub record: ImageRecord,
    /// Its names, sorted by reference.
    pub tags: Vec<TagRecord>,
}

/// The image and tag records of a store.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    pub(crate) store: &'a Store,
}

impl Images<'_> {
    /// Records an image whose blobs and layers are in the store and held by the lease: syncs the content, then writes
    /// the record. An older record of the same image is replaced; its other manifests and names' history are kept.
    pub fn put(&self, lease: &Lease, record: &ImageRecord) -> Result<()> {
        let _ = (lease, record);
        todo!()
    }

    /// The image with this ID.
    pub fn get(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        let _ = id;
        todo!()
    }

    /// IDs that begin with these hex digits, sorted.
    pub fn with_prefix(&self, hex: &str) -> Result<Vec<Digest>> {
        let _ = hex;
        todo!()
    }

    /// The record of a full reference.
    pub fn tag_record(&self, reference: &str) -> Result<Option<TagRecord>> {
        let _ = reference;
        todo!()
    }

    /// The image that a full reference names.
    pub fn by_reference(&self, reference: &str) -> Result<Option<Image>> {
        let _ = reference;
        todo!()
    }

    /// An image with its names.
    pub fn image(&self, id: &Digest) -> Result<Option<Image>> {
        let _ = id;
        todo!()
    }

    /// Gives a name to an image, taking it from the one that has it. Returns the record that was replaced.
    pub fn tag(&self, tag: &TagRecord) -> Result<Option<TagRecord>> {
        let _ = tag;
        todo!()
    }

    /// Takes a name away; returns its record if there was one. The image stays.
    pub fn untag(&self, reference: &str) -> Result<Option<TagRecord>> {
        let _ = reference;
        todo!()
    }

    /// All names, sorted by reference.
    pub fn tags(&self) -> Result<Vec<TagRecord>> {
        todo!()
    }

    /// All images with their names, in order of ID. Reads records only.
    pub fn list(&self) -> Result<Vec<Image>> {
        todo!()
    }

    /// Removes an image's names and record; what it needed is left to the sweep. Says whether it was there.
    pub fn remove(&self, id: &Digest) -> Result<bool> {
        let _ = id;
        todo!()
    }
}
