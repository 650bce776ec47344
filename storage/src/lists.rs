//! Lists of images: one name for the images of several platforms.
//!
//! A list names images of the store by ID; their manifests, and the index over them, are made when the list leaves.
//! A name is either a tag or a list: where a kill left both, the tag counts.

use crate::error::{Error, Result};
use crate::images::{Images, TagRecord};
use crate::records::{self, Record, Sync};
use crate::store::Store;
use oci::{Digest, Platform};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A list of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRecord {
    /// The full reference that is its name.
    pub reference: String,
    /// The images, in order.
    #[serde(default)]
    pub entries: Vec<ListEntry>,
    /// Annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When it was last changed, RFC 3339.
    pub updated: String,
}

/// An image of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// The image ID.
    pub image: Digest,
    /// What it runs on, as the index says it.
    pub platform: Platform,
    /// Digest of the manifest that is meant, where the image came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// Annotations of the entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Record for ListRecord {
    const VERSION: u32 = 1;
}

impl ListRecord {
    /// The image that the list's name means on this host: the one for its platform, else the first.
    pub fn chosen(&self) -> Option<&ListEntry> {
        let host = Platform::host();
        let ranked = self.entries.iter().filter_map(|entry| Some((host.rank(&entry.platform)?, entry)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry).or_else(|| self.entries.first())
    }

    /// The list's name as a name of the image that it means here.
    pub(crate) fn as_tag(&self) -> Option<TagRecord> {
        let entry = self.chosen()?;
        Some(TagRecord {
            reference: self.reference.clone(),
            image: entry.image.clone(),
            manifest: entry.manifest.clone(),
            index: None,
            updated: self.updated.clone(),
        })
    }
}

/// The lists of a store.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    pub(crate) store: &'a Store,
}

impl Lists<'_> {
    /// The list of this full reference.
    pub fn get(&self, reference: &str) -> Result<Option<ListRecord>> {
        if sys::fs::exists(&self.images().tag_path(reference))? {
            return Ok(None);
        }
        self.read(reference)
    }

    /// All lists, sorted by reference.
    pub fn all(&self) -> Result<Vec<ListRecord>> {
        let mut lists: Vec<ListRecord> = records::list(&self.store.path("lists"))?;
        lists.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(lists)
    }

    /// Changes a list under the records' lock, or makes one; `change` gets what is there, and may decline. An image
    /// that has the name loses it.
    pub fn change(
        &self,
        reference: &str,
        change: impl FnOnce(Option<ListRecord>) -> Option<ListRecord>,
    ) -> Result<Option<ListRecord>> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        let Some(list) = change(self.get(reference)?) else { return Ok(None) };
        for entry in &list.entries {
            if self.images().get(&entry.image)?.is_none() {
                return Err(Error::ImageNotFound { id: entry.image.clone() });
            }
        }
        records::write(&self.path(reference), &list, Sync::Data)?;
        self.images().remove_tag(reference)?;
        Ok(Some(list))
    }

    /// Removes a list; its images stay. Says whether it was there.
    pub fn remove(&self, reference: &str) -> Result<bool> {
        let _lock = self.store.lock_shared()?;
        let _records = self.store.lock_records()?;
        records::remove(&self.path(reference))
    }

    pub(crate) fn read(&self, reference: &str) -> Result<Option<ListRecord>> {
        records::read(&self.path(reference))
    }

    /// Takes an image out of all lists; the caller has the records' lock.
    pub(crate) fn forget(&self, image: &Digest) -> Result<()> {
        for mut list in self.all()? {
            let before = list.entries.len();
            list.entries.retain(|entry| entry.image != *image);
            if list.entries.len() == before {
                continue;
            }
            // a list that lost its last image means nothing any more
            if list.entries.is_empty() {
                records::remove(&self.path(&list.reference))?;
            } else {
                records::write(&self.path(&list.reference), &list, Sync::Data)?;
            }
        }
        Ok(())
    }

    fn images(&self) -> Images<'_> {
        self.store.images()
    }

    pub(crate) fn path(&self, reference: &str) -> PathBuf {
        self.store.path("lists").join(records::file_name(reference))
    }
}
