//! Lists of images: one name for the images of several platforms.
//!
//! A list names images of the store by ID; their manifests, and the index over them, are made when the list leaves.
//! A name is either a tag or a list: where a kill left both, the tag counts.

use crate::error::{Error, Result};
use crate::images::{Images, ManifestForm, TagRecord};
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
    /// Digest of the index that it came as, which is in the store; none once it was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
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
    /// The form of the manifest that is made where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<ManifestForm>,
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
            form: entry.form.clone(),
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
            // what is left is another list
            if list.entries.iter().any(|entry| entry.image == *image) {
                list.index = None;
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::images::ImageRecord;
    use crate::store::{Driver, StoreOptions};
    use oci::{Descriptor, media_type};

    fn image(store: &Store, platform: &str) -> Digest {
        let lease = store.lease("test").unwrap();
        let bytes = platform.as_bytes();
        let id = store.content().put(&lease, bytes).unwrap();
        let record = ImageRecord {
            id: id.clone(),
            manifest: None,
            config: Descriptor::of(media_type::OCI_CONFIG, bytes),
            layers: Vec::new(),
            created: None,
            added: "2026-01-01T00:00:00Z".to_owned(),
            size: 0,
            platform: platform.parse().unwrap(),
            labels: BTreeMap::new(),
            other_manifests: Vec::new(),
            parent: None,
            names_history: Vec::new(),
            annotations: None,
        };
        store.images().put(&lease, &record).unwrap();
        id
    }

    fn list(reference: &str, images: &[(&str, &Digest)]) -> ListRecord {
        let entry = |(platform, image): &(&str, &Digest)| ListEntry {
            image: (*image).clone(),
            platform: platform.parse().unwrap(),
            manifest: None,
            form: None,
            annotations: BTreeMap::new(),
        };
        ListRecord {
            reference: reference.to_owned(),
            entries: images.iter().map(entry).collect(),
            annotations: BTreeMap::new(),
            index: None,
            updated: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn tag(reference: &str, image: &Digest) -> TagRecord {
        TagRecord {
            reference: reference.to_owned(),
            image: image.clone(),
            manifest: None,
            index: None,
            form: None,
            updated: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn a_name_is_a_list_or_a_tag() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let store = Store::open(StoreOptions { root, driver: Driver::Vfs, user_namespace: false }).unwrap();
        let host = Platform::host().to_string();
        let (one, other) = (image(&store, &host), image(&store, "linux/mips64le"));
        let name = "localhost/a:1";
        let (lists, images) = (store.lists(), store.images());
        images.tag(&tag(name, &other)).unwrap();
        let made = list(name, &[("linux/mips64le", &other), (&host, &one)]);
        assert_eq!(
            lists.change(name, |known| known.is_none().then(|| made.clone())).unwrap(),
            Some(made.clone())
        );
        assert_eq!(lists.get(name).unwrap(), Some(made.clone()));
        // As a name of an image it means the one for this host.
        assert_eq!(images.by_reference(name).unwrap().unwrap().record.id, one);
        assert_eq!(images.tags().unwrap().len(), 1);
        assert_eq!(images.get(&other).unwrap().unwrap().names_history, [name]);
        // A change may be declined, and needs images that exist.
        assert_eq!(lists.change(name, |_| None).unwrap(), None);
        let missing = list(name, &[(&host, &Digest::of(b"missing"))]);
        assert!(lists.change(name, |_| Some(missing)).is_err());
        assert_eq!(lists.get(name).unwrap(), Some(made.clone()));
        // An image that goes leaves the list, and the last one takes it along.
        assert!(images.remove(&one).unwrap());
        assert_eq!(lists.get(name).unwrap().unwrap().entries.len(), 1);
        assert_eq!(images.by_reference(name).unwrap().unwrap().record.id, other);
        assert!(images.remove(&other).unwrap());
        assert_eq!(lists.get(name).unwrap(), None);
        // A tag takes a list's place; where a kill left both, it counts.
        let one = image(&store, &host);
        let made = list(name, &[(&host, &one)]);
        lists.change(name, |_| Some(made.clone())).unwrap();
        images.tag(&tag(name, &one)).unwrap();
        assert_eq!(lists.get(name).unwrap(), None);
        assert!(lists.all().unwrap().is_empty());
        records::write(&lists.path(name), &made, Sync::None).unwrap();
        assert_eq!(lists.get(name).unwrap(), None);
        assert_eq!(images.tags().unwrap().len(), 1);
        assert!(images.untag(name).unwrap().is_some());
        assert!(lists.all().unwrap().is_empty(), "nothing comes back");
    }
}
