//! `manifest`: lists of images, one name for several platforms.

use super::lookup::local_reference;
use super::outgoing::Named;
use super::{Images, PullPolicy, PullRequest, RegistryOptions, TransferProgress};
use crate::time::Instant;
use crate::{Error, Result};
use oci::{Compression, Digest, Platform};
use std::collections::BTreeMap;
use storage::{ListEntry, ListRecord};

/// Make a list.
#[derive(Debug, Clone, Default)]
pub struct ListCreateRequest {
    /// Its name.
    pub name: String,
    /// Images that it begins with; those that are not in the store are pulled.
    pub images: Vec<String>,
    /// All images of those that are lists, not only the one for this host.
    pub all: bool,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
    /// A list that exists is added to; without this it is an error.
    pub amend: bool,
    /// How images are pulled.
    pub registry: RegistryOptions,
}

/// Add an image to a list.
#[derive(Debug, Clone, Default)]
pub struct ListAddRequest {
    /// The list.
    pub list: String,
    /// The image; one that is not in the store is pulled.
    pub image: String,
    /// All images of one that is a list itself, not only the one for the platform.
    pub all: bool,
    /// Platform in the index; `None` = what the image says.
    pub platform: Option<String>,
    /// What is said of the entry besides.
    pub change: EntryChange,
    /// How an image is pulled.
    pub registry: RegistryOptions,
}

/// What is said of an entry of a list; what is not given stays.
#[derive(Debug, Clone, Default)]
pub struct EntryChange {
    /// Operating system.
    pub os: Option<String>,
    /// CPU architecture.
    pub architecture: Option<String>,
    /// Variant of the architecture.
    pub variant: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Features of the operating system.
    pub os_features: Vec<String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl EntryChange {
    fn apply(&self, entry: &mut ListEntry) {
        let platform = &mut entry.platform;
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        if let Some(architecture) = &self.architecture {
            platform.architecture.clone_from(architecture);
        }
        if self.variant.is_some() {
            platform.variant.clone_from(&self.variant);
        }
        if self.os_version.is_some() {
            platform.os_version.clone_from(&self.os_version);
        }
        if !self.os_features.is_empty() {
            platform.os_features.clone_from(&self.os_features);
        }
        entry.annotations.extend(self.annotations.clone());
    }
}

impl Images<'_> {
    /// Makes a list; returns its full name.
    pub fn list_create(&self, request: &ListCreateRequest, progress: TransferProgress<'_>) -> Result<String> {
        let reference = local_reference(&request.name)?.to_string();
        let mut entries = Vec::new();
        for image in &request.images {
            entries.extend(self.entries(image, request.all, None, &request.registry, progress)?);
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
        let change = |known| change(known).map(|list| ListRecord { updated: now(), index: None, ..list });
        self.engine.store()?.lists().change(reference, change).map_err(failed(reference))
    }

    /// Adds an image to a list, in place of one for the same platform; returns the list's full name.
    pub fn list_add(&self, request: &ListAddRequest, progress: TransferProgress<'_>) -> Result<String> {
        let known = self.known_list(&request.list)?;
        let platform = request.platform.as_deref();
        let mut entries = self.entries(&request.image, request.all, platform, &request.registry, progress)?;
        if let ([entry], Some(_)) = (entries.as_mut_slice(), platform) {
            entry.platform = super::transfer::platform(platform)?;
        }
        entries.iter_mut().for_each(|entry| request.change.apply(entry));
        self.add_entries(&known.reference, entries)
    }

    /// The image as an entry; with `all`, of a list the entries of all its images. What is not in the store is pulled.
    fn entries(
        &self,
        image: &str,
        all: bool,
        platform: Option<&str>,
        registry: &RegistryOptions,
        progress: TransferProgress<'_>,
    ) -> Result<Vec<ListEntry>> {
        let image = image.strip_prefix("containers-storage:").unwrap_or(image);
        if all && let Some(list) = self.engine.find_list(image)? {
            return Ok(list.entries);
        }
        let pull = |reference: String, platform: Option<String>| {
            let pull =
                PullRequest { reference, policy: PullPolicy::Missing, platform, registry: registry.clone() };
            self.pull(&pull, progress).map(|report| report.id)
        };
        // Of an index, the store has one image only.
        let indexed = match self.engine.find_image_optional(image)? {
            Some(found) => found.tag().is_some_and(|tag| tag.index.is_some()),
            None => true,
        };
        if all && indexed {
            let (name, root) = self.remote_root(image, registry)?;
            if let Some(index) = root.value().index() {
                let mut entries = Vec::new();
                for descriptor in &index.manifests {
                    // What runs nowhere says something of an image.
                    let Some(platform) = &descriptor.platform else { continue };
                    if platform.os == "unknown" {
                        continue;
                    }
                    let reference = format!("{}@{}", name.without_target(), descriptor.digest);
                    let id = pull(reference, Some(platform.to_string()))?;
                    let mut entry = self.entry(&id)?;
                    entry.platform = platform.clone();
                    entry.manifest = Some(descriptor.digest.clone());
                    entry.annotations = descriptor.annotations.clone();
                    entries.push(entry);
                }
                return Ok(entries);
            }
        }
        match self.engine.find_image_optional(image)? {
            Some(_) => Ok(vec![self.entry(image)?]),
            None => Ok(vec![self.entry(&pull(image.to_owned(), platform.map(str::to_owned))?)?]),
        }
    }

    /// Says more of an entry, given by its image or the digest of its manifest; returns the list's full name.
    pub fn list_annotate(&self, list: &str, image: &str, change: &EntryChange) -> Result<String> {
        let (reference, position) = self.position(list, image)?;
        self.change_entries(&reference, |entries| {
            if let Some(entry) = entries.get_mut(position) {
                change.apply(entry);
            }
        })
    }

    /// Says more of a list itself; returns its full name.
    pub fn list_annotate_index(&self, list: &str, annotations: &BTreeMap<String, String>) -> Result<String> {
        let list = self.known_list(list)?;
        self.change(&list.reference, |known| {
            let mut list = known?;
            list.annotations.extend(annotations.clone());
            Some(list)
        })?;
        Ok(list.reference)
    }

    /// Takes an entry out of a list, given by the digest of its manifest or by its image; returns the list's full name.
    pub fn list_take(&self, list: &str, image: &str) -> Result<String> {
        let (reference, position) = self.position(list, image)?;
        self.change_entries(&reference, |entries| {
            if position < entries.len() {
                entries.remove(position);
            }
        })
    }

    fn known_list(&self, name: &str) -> Result<ListRecord> {
        self.engine
            .find_list(name)?
            .ok_or_else(|| Error::NotFound { what: "manifest list", name: name.to_owned() })
    }

    fn change_entries(&self, reference: &str, edit: impl FnOnce(&mut Vec<ListEntry>)) -> Result<String> {
        self.change(reference, |known| {
            let mut list = known?;
            edit(&mut list.entries);
            Some(list)
        })?;
        Ok(reference.to_owned())
    }

    /// Where in a list an image stands, and the list's full name.
    fn position(&self, list: &str, image: &str) -> Result<(String, usize)> {
        let list = self.known_list(list)?;
        let missing =
            || Error::NotFound { what: "entry of the list", name: format!("{image} in {}", list.reference) };
        if let Ok(digest) = image.parse::<Digest>() {
            let by_id = list.entries.iter().position(|entry| entry.image == digest);
            let known = list.entries.iter().position(|entry| entry.manifest.as_ref() == Some(&digest));
            if let Some(position) = known.or(by_id) {
                return Ok((list.reference, position));
            }
            // The digests that the list's index tells are those of manifests that are made for it.
            let store = self.engine.store()?;
            let lease = store.lease("make an index").map_err(crate::error::storage("make an index"))?;
            let named = Named::List(list.clone());
            let source = named.source(self.engine, &lease, Compression::Gzip, None)?;
            let index = source.root().value().index();
            let made =
                index.and_then(|index| index.manifests.iter().position(|entry| entry.digest == digest));
            return made.map(|position| (list.reference.clone(), position)).ok_or_else(missing);
        }
        let found = self.engine.find_image(image)?;
        let position = list.entries.iter().position(|entry| entry.image == *found.id());
        position.map(|position| (list.reference.clone(), position)).ok_or_else(missing)
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
            let mut entry = self.entry(image)?;
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

    fn entry(&self, image: &str) -> Result<ListEntry> {
        let found = self.engine.find_image(image)?;
        Ok(ListEntry {
            image: found.id().clone(),
            platform: found.image.record.platform.clone(),
            manifest: found.tag().and_then(|tag| tag.manifest.clone()),
            form: found.form(),
            annotations: BTreeMap::new(),
        })
    }

    /// The index of a list as JSON, for which the manifests of its images are made; of a name that is no list's here,
    /// what the registry has.
    pub fn list_inspect(&self, name: &str, registry: &RegistryOptions) -> Result<String> {
        let Some(list) = self.engine.find_list(name)? else {
            if self
                .engine
                .find_image_optional(name)?
                .is_some_and(|found| found.name.as_deref().is_some_and(|name| name.starts_with("localhost/")))
            {
                return Err(Error::NotFound { what: "manifest list", name: name.to_owned() });
            }
            let (_, root) = self.remote_root(name, registry)?;
            return Ok(String::from_utf8_lossy(root.bytes()).into_owned());
        };
        let store = self.engine.store()?;
        let lease = store.lease("make an index").map_err(crate::error::storage("make an index"))?;
        let source = Named::List(list).source(self.engine, &lease, Compression::Gzip, None)?;
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
        index: None,
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
