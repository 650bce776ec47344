//! `manifest`: lists of images, one name for several platforms.

use super::lookup::local_reference;
use super::outgoing::Named;
use super::transfer::platform;
use super::{Images, PullPolicy, PullRequest, RegistryOptions, TransferProgress};
use crate::time::Instant;
use crate::{Error, Result};
use oci::{Compression, Platform};
use std::collections::BTreeMap;
use storage::{ListEntry, ListRecord};

/// Make a list.
#[derive(Debug, Clone, Default)]
pub struct ListCreateRequest {
    /// Its name.
    pub name: String,
    /// Images of the store that it begins with.
    pub images: Vec<String>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// A list that exists is added to; without this it is an error.
    pub amend: bool,
}

/// Add an image to a list.
#[derive(Debug, Clone, Default)]
pub struct ListAddRequest {
    /// The list.
    pub list: String,
    /// The image; one that is not in the store is pulled.
    pub image: String,
    /// Platform in the index; `None` = what the image says.
    pub platform: Option<String>,
    /// Annotations of the entry.
    pub annotations: BTreeMap<String, String>,
    /// How an image is pulled.
    pub registry: RegistryOptions,
}

impl Images<'_> {
    /// Makes a list; returns its full name.
    pub fn list_create(&self, request: &ListCreateRequest) -> Result<String> {
        let reference = local_reference(&request.name)?.to_string();
        let mut entries = Vec::new();
        for image in &request.images {
            entries.push(self.entry(image, None, BTreeMap::new())?);
        }
        if self.engine.store()?.lists().get(&reference).map_err(failed(&reference))?.is_none()
            && self.engine.find_image_optional(&reference)?.is_some()
        {
            return Err(taken("image", &reference));
        }
        let list = self.change(&reference, |known| {
            let mut list = match known {
                Some(_) if !request.amend => return None,
                Some(known) => known,
                None => empty(&reference),
            };
            for entry in entries {
                put(&mut list, entry);
            }
            list.annotations.extend(request.annotations.clone());
            Some(list)
        })?;
        list.map(|list| list.reference).ok_or_else(|| taken("manifest list", &reference))
    }

    fn change(
        &self,
        reference: &str,
        change: impl FnOnce(Option<ListRecord>) -> Option<ListRecord>,
    ) -> Result<Option<ListRecord>> {
        let now = || Instant::now().rfc3339();
        let change = |known| change(known).map(|list| ListRecord { updated: now(), ..list });
        self.engine.store()?.lists().change(reference, change).map_err(failed(reference))
    }

    /// Adds an image to a list, in place of one for the same platform; returns the list's full name.
    pub fn list_add(&self, request: &ListAddRequest, progress: TransferProgress<'_>) -> Result<String> {
        let known = self.engine.find_list(&request.list)?;
        let known =
            known.ok_or_else(|| Error::NotFound { what: "manifest list", name: request.list.clone() })?;
        let image = request.image.strip_prefix("containers-storage:").unwrap_or(&request.image);
        let name = if self.engine.find_image_optional(image)?.is_some() {
            image.to_owned()
        } else {
            let pull = PullRequest {
                reference: image.to_owned(),
                policy: PullPolicy::Missing,
                platform: request.platform.clone(),
                registry: request.registry.clone(),
            };
            self.pull(&pull, progress)?.id
        };
        let entry = self.entry(&name, request.platform.as_deref(), request.annotations.clone())?;
        self.add_entries(&known.reference, vec![entry])
    }

    /// Adds images to a list, which is made when missing.
    pub(crate) fn add_to_list(
        &self,
        name: &str,
        images: &[(Platform, String)],
        replace: bool,
    ) -> Result<String> {
        let reference = local_reference(name)?.to_string();
        let mut entries = Vec::new();
        for (platform, image) in images {
            let mut entry = self.entry(image, None, BTreeMap::new())?;
            entry.platform = platform.clone();
            entries.push(entry);
        }
        if replace {
            self.change(&reference, |_| Some(ListRecord { entries, ..empty(&reference) }))?;
            return Ok(reference);
        }
        self.add_entries(&reference, entries)
    }

    fn add_entries(&self, reference: &str, entries: Vec<ListEntry>) -> Result<String> {
        self.change(reference, |known| {
            let mut list = known.unwrap_or_else(|| empty(reference));
            for entry in entries {
                put(&mut list, entry);
            }
            Some(list)
        })?;
        Ok(reference.to_owned())
    }

    fn entry(
        &self,
        image: &str,
        wanted: Option<&str>,
        annotations: BTreeMap<String, String>,
    ) -> Result<ListEntry> {
        let found = self.engine.find_image(image)?;
        let platform = match wanted {
            Some(_) => platform(wanted)?,
            None => found.image.record.platform.clone(),
        };
        Ok(ListEntry {
            image: found.id().clone(),
            platform,
            manifest: found.tag().and_then(|tag| tag.manifest.clone()),
            form: found.form(),
            annotations,
        })
    }

    /// The index of a list as JSON, for which the manifests of its images are made.
    pub fn list_inspect(&self, name: &str) -> Result<String> {
        let Named::List(list) = self.engine.find_named(name)? else {
            return Err(Error::NotFound { what: "manifest list", name: name.to_owned() });
        };
        let store = self.engine.store()?;
        let lease = store.lease("make an index").map_err(crate::error::storage("make an index"))?;
        let source = Named::List(list).source(self.engine, &lease, Compression::Gzip)?;
        Ok(String::from_utf8_lossy(source.root().bytes()).into_owned())
    }

    /// Whether a list of this name exists.
    pub fn list_exists(&self, name: &str) -> Result<bool> {
        Ok(self.engine.find_list(name)?.is_some())
    }

    /// Removes a list; its images stay. Returns its full name.
    pub fn list_remove(&self, name: &str) -> Result<String> {
        let list = self.engine.find_list(name)?;
        let list = list.ok_or_else(|| Error::NotFound { what: "manifest list", name: name.to_owned() })?;
        self.engine
            .store()?
            .lists()
            .remove(&list.reference)
            .map_err(crate::error::storage(format!("remove the list {}", list.reference)))?;
        Ok(list.reference)
    }

    /// Names of the lists that an image is part of.
    pub(super) fn lists_with(&self, image: &oci::Digest) -> Result<Vec<String>> {
        let lists = self.engine.store()?.lists().all().map_err(crate::error::storage("read the lists"))?;
        let with = |list: &ListRecord| list.entries.iter().any(|entry| entry.image == *image);
        Ok(lists.into_iter().filter(with).map(|list| list.reference).collect())
    }
}

fn failed(reference: &str) -> impl FnOnce(storage::Error) -> Error {
    crate::error::storage(format!("change the list {reference}"))
}

fn empty(reference: &str) -> ListRecord {
    ListRecord {
        reference: reference.to_owned(),
        entries: Vec::new(),
        annotations: BTreeMap::new(),
        updated: String::new(),
    }
}

/// Adds an entry, in place of the one for the same platform or of the same image.
fn put(list: &mut ListRecord, entry: ListEntry) {
    let same = |known: &&mut ListEntry| known.platform == entry.platform || known.image == entry.image;
    match list.entries.iter_mut().find(same) {
        Some(known) => *known = entry,
        None => list.entries.push(entry),
    }
}

fn taken(what: &'static str, reference: &str) -> Error {
    Error::NameTaken { what, name: reference.to_owned(), id: reference.to_owned() }
}
