//! Image and tag records: all that a listing shows, so that no blob is read for it.

use crate::error::{Error, Result};
use crate::leases::{Hold, Lease};
use crate::records::{self, Record, Sync};
use crate::store::Store;
use oci::{Algorithm, ChainId, Descriptor, Digest, Platform, media_type};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// Annotations that a manifest made here gets; `None` for an image that came with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a manifest that is made here says besides what it names. Builds that differ in nothing else give one image ID,
/// and each its names a form of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestForm {
    /// Whether its media types are Docker's instead of the OCI's.
    #[serde(default)]
    pub docker: bool,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl ImageRecord {
    /// The form of manifests that are made for no name in particular: that of the last build; `None` for an image that
    /// came with its own.
    pub fn form(&self) -> Option<ManifestForm> {
        let annotations = self.annotations.clone()?;
        Some(ManifestForm { docker: self.config.media_type == media_type::DOCKER_CONFIG, annotations })
    }

    /// Whether manifests of both are the same where their layers are: annotations and media types, which the image ID
    /// does not cover.
    pub fn is_sent_like(&self, other: &ImageRecord) -> bool {
        self.annotations == other.annotations && self.config.media_type == other.config.media_type
    }
}

impl Record for ImageRecord {
    const VERSION: u32 = 1;
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
    /// The form of the manifest that is made where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<ManifestForm>,
    /// When the name was given, RFC 3339.
    pub updated: String,
}

impl Record for TagRecord {
    const VERSION: u32 = 1;
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
        // Before the locks: this is the wait for the disk.
        self.store.sync()?;
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        lease.inner().note(Hold::Image(record.id.clone()))?;
        let record = match self.get(&record.id)? {
            Some(known) => merged(record.clone(), known),
            None => record.clone(),
        };
        records::write(&self.path(&record.id), &record, Sync::Data)
    }

    /// The image with this ID.
    pub fn get(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        records::read(&self.path(id))
    }

    /// IDs that begin with these hex digits, sorted.
    pub fn with_prefix(&self, hex: &str) -> Result<Vec<Digest>> {
        let names = records::names(&self.store.path("images"))?;
        Ok(names.iter().filter(|name| name.starts_with(hex)).filter_map(|name| id_of(name)).collect())
    }

    /// The record of a full reference. The name of a list counts as one of the image that it means on this host.
    pub fn tag_record(&self, reference: &str) -> Result<Option<TagRecord>> {
        match records::read(&self.tag_path(reference))? {
            Some(tag) => Ok(Some(tag)),
            None => Ok(self.store.lists().read(reference)?.and_then(|list| list.as_tag())),
        }
    }

    /// The image that a full reference names.
    pub fn by_reference(&self, reference: &str) -> Result<Option<Image>> {
        match self.tag_record(reference)? {
            Some(tag) => self.image(&tag.image),
            None => Ok(None),
        }
    }

    /// An image with its names.
    pub fn image(&self, id: &Digest) -> Result<Option<Image>> {
        let Some(record) = self.get(id)? else { return Ok(None) };
        let tags = self.tags()?.into_iter().filter(|tag| tag.image == *id).collect();
        Ok(Some(Image { record, tags }))
    }

    /// Gives a name to an image, taking it from the one that has it. Returns the record that was replaced.
    pub fn tag(&self, tag: &TagRecord) -> Result<Option<TagRecord>> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        if self.get(&tag.image)?.is_none() {
            return Err(Error::ImageNotFound { id: tag.image.clone() });
        }
        let old = self.tag_record(&tag.reference)?;
        let is_same = |old: &TagRecord| {
            (&old.image, &old.manifest, &old.index, &old.form)
                == (&tag.image, &tag.manifest, &tag.index, &tag.form)
        };
        // A build of which everything is known gives its name again, and need not wait for the disk. The name of a list
        // is no such name, whatever image it means here.
        if old.as_ref().is_some_and(is_same) && self.store.lists().read(&tag.reference)?.is_none() {
            return Ok(old);
        }
        records::write(&self.tag_path(&tag.reference), tag, Sync::Data)?;
        records::remove(&self.store.lists().path(&tag.reference))?;
        if let Some(old) = &old
            && old.image != tag.image
        {
            self.add_to_history(old)?;
        }
        Ok(old)
    }

    /// Takes a name away, that of a list with the list; returns its record if there was one. The image stays.
    pub fn untag(&self, reference: &str) -> Result<Option<TagRecord>> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        let Some(old) = self.tag_record(reference)? else { return Ok(None) };
        self.add_to_history(&old)?;
        records::remove(&self.tag_path(reference))?;
        records::remove(&self.store.lists().path(reference))?;
        Ok(Some(old))
    }

    /// Takes a name from the image that has it; the caller has the records' lock.
    pub(crate) fn remove_tag(&self, reference: &str) -> Result<()> {
        let old: Option<TagRecord> = records::read(&self.tag_path(reference))?;
        if let Some(old) = old {
            self.add_to_history(&old)?;
            records::remove(&self.tag_path(reference))?;
        }
        Ok(())
    }

    /// All names, sorted by reference; those of lists count for the images that they mean on this host.
    pub fn tags(&self) -> Result<Vec<TagRecord>> {
        let mut tags: Vec<TagRecord> = records::list(&self.store.path("tags"))?;
        for list in self.store.lists().all()? {
            if let Some(tag) = list.as_tag()
                && !tags.iter().any(|known| known.reference == tag.reference)
            {
                tags.push(tag);
            }
        }
        tags.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(tags)
    }

    /// All images with their names, in order of ID. Reads records only.
    pub fn list(&self) -> Result<Vec<Image>> {
        // Names first: a name that is younger than the listing is left out, but none is shown without its image.
        let mut tags: BTreeMap<Digest, Vec<TagRecord>> = BTreeMap::new();
        for tag in self.tags()? {
            tags.entry(tag.image.clone()).or_default().push(tag);
        }
        let images: Vec<ImageRecord> = records::list(&self.store.path("images"))?;
        Ok(images
            .into_iter()
            .map(|record| Image { tags: tags.remove(&record.id).unwrap_or_default(), record })
            .collect())
    }

    /// Removes an image's names and record; what it needed is left to the sweep. Says whether it was there.
    pub fn remove(&self, id: &Digest) -> Result<bool> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        self.remove_locked(id)
    }

    /// Removes an image that nothing needs, as [`Images::remove`] does: not one that a running operation holds, as the
    /// build that has just made it and is about to name it, and with `unnamed` not one that has a name by now. Says whether
    /// it was removed.
    pub fn prune(&self, id: &Digest, unnamed: bool) -> Result<bool> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        if crate::leases::is_held(self.store, &Hold::Image(id.clone()))?
            || (unnamed && self.tags()?.iter().any(|tag| tag.image == *id))
        {
            return Ok(false);
        }
        self.remove_locked(id)
    }

    fn remove_locked(&self, id: &Digest) -> Result<bool> {
        // Names first, so that none ever leads nowhere.
        let tags: Vec<TagRecord> = records::list(&self.store.path("tags"))?;
        for tag in tags.iter().filter(|tag| tag.image == *id) {
            records::remove(&self.tag_path(&tag.reference))?;
        }
        self.store.lists().forget(id)?;
        records::remove(&self.path(id))
    }

    fn add_to_history(&self, lost: &TagRecord) -> Result<()> {
        let Some(mut record) = self.get(&lost.image)? else { return Ok(()) };
        if record.names_history.contains(&lost.reference) {
            return Ok(());
        }
        record.names_history.push(lost.reference.clone());
        records::write(&self.path(&record.id), &record, Sync::Data)
    }

    pub(crate) fn path(&self, id: &Digest) -> PathBuf {
        self.store.path("images").join(format!("{}.json", id.hex()))
    }

    pub(crate) fn tag_path(&self, reference: &str) -> PathBuf {
        self.store.path("tags").join(records::file_name(reference))
    }
}

/// The ID that a record's file name says.
fn id_of(name: &str) -> Option<Digest> {
    let hex = name.strip_suffix(".json")?;
    let algorithm = if hex.len() == 128 { Algorithm::Sha512 } else { Algorithm::Sha256 };
    Digest::from_hex(algorithm, hex).ok()
}

/// The new record of an image that was known already, with what only the old one knows.
fn merged(mut new: ImageRecord, known: ImageRecord) -> ImageRecord {
    let alike = new.is_sent_like(&known);
    let ImageRecord { manifest, added, parent, other_manifests, names_history, annotations, .. } = known;
    if new.manifest.is_none() && alike {
        new.manifest = manifest.clone();
    }
    let current = new.manifest.as_ref().map(|manifest| manifest.digest.clone());
    for other in manifest.into_iter().chain(other_manifests) {
        let is_known = Some(&other.digest) == current.as_ref()
            || new.other_manifests.iter().any(|manifest| manifest.digest == other.digest);
        if !is_known {
            new.other_manifests.push(other);
        }
    }
    for name in names_history {
        if !new.names_history.contains(&name) {
            new.names_history.push(name);
        }
    }
    new.parent = new.parent.or(parent);
    new.annotations = new.annotations.or(annotations);
    new.added = added;
    new
}
