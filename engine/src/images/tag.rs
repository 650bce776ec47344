//! `tag`, `untag`, `rmi`, `image prune`.

use super::lookup::{Found, local_reference};
use super::{ImagePruneRequest, ImageRemoveRequest, ImageRemoved, Images, PruneReport};
use crate::events::Event;
use crate::filters::Filters;
use crate::time::Instant;
use crate::{Engine, Error, Result};
use storage::{ManifestForm, SweepOptions, TagRecord};

impl Engine {
    /// Gives a name to an image.
    pub(crate) fn name_image(&self, name: &str, found: &Found) -> Result<String> {
        let reference = local_reference(name)?;
        if reference.digest().is_some() {
            return Err(Error::invalid(format!("name {name}"), "a name with a digest cannot be given"));
        }
        let reference = reference.to_string();
        let source = found.tag();
        self.put_name(&reference, found, source, found.form())
    }

    /// Gives a name to an image that was just built, whose manifest under this name will have this form.
    pub(crate) fn name_built(&self, name: &str, found: &Found, form: ManifestForm) -> Result<String> {
        self.put_name(&local_reference(name)?.to_string(), found, None, Some(form))
    }

    fn put_name(
        &self,
        reference: &str,
        found: &Found,
        source: Option<&TagRecord>,
        form: Option<ManifestForm>,
    ) -> Result<String> {
        let record = &found.image.record;
        let own = record.manifest.as_ref().filter(|_| form == record.form());
        let tag = TagRecord {
            reference: reference.to_owned(),
            image: found.id().clone(),
            manifest: source
                .and_then(|tag| tag.manifest.clone())
                .or_else(|| own.map(|manifest| manifest.digest.clone())),
            index: source.and_then(|tag| tag.index.clone()),
            form,
            updated: Instant::now().rfc3339(),
        };
        self.store()?
            .images()
            .tag(&tag)
            .map_err(crate::error::storage(format!("give the name {reference}")))?;
        self.tell(Event::image("tag", found.id().hex(), reference));
        Ok(reference.to_owned())
    }
}

impl Images<'_> {
    /// Gives an image further names.
    pub fn tag(&self, name: &str, targets: &[String]) -> Result<()> {
        let found = self.engine.find_image(name)?;
        // all are read before the first is written
        for target in targets {
            local_reference(target)?;
        }
        for target in targets {
            self.engine.name_image(target, &found)?;
        }
        Ok(())
    }

    /// Takes names from an image; all when `names` is empty.
    pub fn untag(&self, name: &str, names: &[String]) -> Result<()> {
        let found = self.engine.find_image(name)?;
        let store = self.engine.store()?;
        let mut gone = Vec::new();
        if names.is_empty() {
            gone.extend(found.image.tags.iter().map(|tag| tag.reference.clone()));
        }
        for name in names {
            let other = self.engine.find_image(name)?;
            match other.name {
                Some(reference) if other.image.record.id == *found.id() => gone.push(reference),
                _ => return Err(Error::NotFound { what: "name of this image", name: name.clone() }),
            }
        }
        for reference in gone {
            store
                .images()
                .untag(&reference)
                .map_err(crate::error::storage(format!("take the name {reference}")))?;
            self.engine.tell(Event::image("untag", found.id().hex(), &reference));
        }
        Ok(())
    }

    /// Removes names, and images whose last name goes. Every name is tried; failures are returned beside what was done.
    pub fn remove(&self, request: &ImageRemoveRequest) -> (Vec<ImageRemoved>, Vec<Error>) {
        let mut done = Vec::new();
        let mut errors = Vec::new();
        let mut names = request.images.clone();
        if request.all {
            match self
                .engine
                .store()
                .and_then(|store| store.images().list().map_err(crate::error::storage("list images")))
            {
                Ok(images) => names.extend(images.iter().map(|image| image.record.id.hex().to_owned())),
                Err(error) => errors.push(error),
            }
        }
        for name in &names {
            match self.remove_one(name, request, &mut done) {
                Ok(()) => {}
                Err(Error::NotFound { .. }) if request.ignore || request.force || request.all => {}
                Err(error) => errors.push(error),
            }
        }
        if done.iter().any(|done| matches!(done, ImageRemoved::Deleted { .. }))
            && let Err(error) = self.sweep()
        {
            errors.push(error);
        }
        (done, errors)
    }

    fn remove_one(
        &self,
        name: &str,
        request: &ImageRemoveRequest,
        done: &mut Vec<ImageRemoved>,
    ) -> Result<()> {
        if self.list_exists(name)? {
            // the images of a list are images of their own
            done.push(ImageRemoved::Untagged { name: self.list_remove(name)? });
            return Ok(());
        }
        let found = self.engine.find_image(name)?;
        let store = self.engine.store()?;
        let images = store.images();
        let id = found.id().clone();
        if let Some(reference) = &found.name
            && found.image.tags.len() > 1
        {
            images.untag(reference).map_err(crate::error::storage(format!("remove the name {reference}")))?;
            self.engine.tell(Event::image("untag", id.hex(), reference));
            done.push(ImageRemoved::Untagged { name: reference.clone() });
            return Ok(());
        }
        if found.name.is_none() && found.image.tags.len() > 1 && !request.force && !request.all {
            return Err(Error::InUse {
                what: "image",
                name: id.short().to_owned(),
                by: format!(
                    "{} names: {}",
                    found.image.tags.len(),
                    found.image.tags.iter().map(|tag| tag.reference.as_str()).collect::<Vec<_>>().join(", ")
                ),
            });
        }
        let lists = self.lists_with(&id)?;
        if let Some(list) = lists.first()
            && !request.force
            && !request.all
        {
            return Err(Error::InUse {
                what: "image",
                name: found.shown(),
                by: format!("manifest list {list}"),
            });
        }
        if let Some(place) = self.engine.shown_at(id.hex()) {
            if !request.force {
                return Err(Error::InUse {
                    what: "image",
                    name: found.shown(),
                    by: format!("the mount at {}; `davit image unmount` ends that", place.display()),
                });
            }
            self.engine.unmount(id.hex(), true)?;
        }
        let users: Vec<_> =
            self.engine.state().list()?.into_iter().filter(|record| record.image_id == id.hex()).collect();
        if let Some(user) = users.first()
            && !request.force
        {
            return Err(Error::InUse {
                what: "image",
                name: found.shown(),
                by: format!("container {} ({})", user.name, &user.id[..12]),
            });
        }
        for user in &users {
            self.engine.containers().remove_one(user, true, Some(0))?;
        }
        images.remove(&id).map_err(crate::error::storage(format!("remove image {}", id.short())))?;
        self.engine.tell(Event::image("remove", id.hex(), &found.shown()));
        done.extend(
            found.image.tags.iter().map(|tag| ImageRemoved::Untagged { name: tag.reference.clone() }),
        );
        done.push(ImageRemoved::Deleted { id: id.hex().to_owned() });
        Ok(())
    }

    fn sweep(&self) -> Result<u64> {
        let freed = self
            .engine
            .store()?
            .sweep(SweepOptions::default())
            .map_err(crate::error::storage("free what nothing needs"))?;
        Ok(freed.bytes)
    }

    /// Removes images that nothing needs.
    pub fn prune(&self, request: &ImagePruneRequest) -> Result<PruneReport> {
        let filters =
            Filters::parse("image prunes", &request.filters, &["label", "label!", "until", "dangling"])?;
        let store = self.engine.store()?;
        let uses = self.engine.image_uses()?;
        let mut report = PruneReport::default();
        for image in store.images().list().map_err(crate::error::storage("list images"))? {
            let created =
                image.record.created.as_deref().and_then(Instant::parse_rfc3339).unwrap_or(Instant(0));
            if uses.contains_key(image.record.id.hex())
                || self.engine.shown_at(image.record.id.hex()).is_some()
                || (!request.all && !self.lists_with(&image.record.id)?.is_empty())
                || !(request.all || image.tags.is_empty())
                || !filters.labels(&image.record.labels)
                || !filters.until(created)?
            {
                continue;
            }
            let gone = store
                .images()
                .prune(&image.record.id, !request.all)
                .map_err(crate::error::storage(format!("remove image {}", image.record.id.short())))?;
            if !gone {
                continue;
            }
            let name = image.tags.first().map_or("", |tag| tag.reference.as_str());
            self.engine.tell(Event::image("remove", image.record.id.hex(), name));
            report.removed.push(image.record.id.hex().to_owned());
        }
        report.reclaimed = self.sweep()?;
        self.engine.tell(Event::image("prune", "", ""));
        Ok(report)
    }
}
