//! From what users write to an image of the store.

use super::Images;
use crate::{Engine, Error, Result};
use oci::{Descriptor, Digest, ImageConfig, MAX_CONFIG_BYTES, Raw};
use registry::{Name, Reference};
use storage::{Image, ManifestForm, TagRecord};

/// An image, and the name that led to it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) image: Image,
    /// The full reference, where a name led to it and not an ID.
    pub(crate) name: Option<String>,
}

impl Found {
    pub(crate) fn id(&self) -> &Digest {
        &self.image.record.id
    }

    /// The name to show: the one that led here, else the first one, else the ID.
    pub(crate) fn shown(&self) -> String {
        self.name
            .clone()
            .or_else(|| self.image.tags.first().map(|tag| tag.reference.clone()))
            .unwrap_or_else(|| self.id().hex().to_owned())
    }

    /// The record of the name that led here.
    pub(crate) fn tag(&self) -> Option<&TagRecord> {
        let name = self.name.as_ref()?;
        self.image.tags.iter().find(|tag| tag.reference == *name)
    }

    /// The manifest of the name that led here, or of the image; one of another form is not it.
    pub(crate) fn manifest(&self) -> Option<&Descriptor> {
        let record = &self.image.record;
        let mut all = record.manifest.iter().chain(&record.other_manifests);
        match self.tag() {
            Some(TagRecord { manifest: Some(digest), .. }) => all.find(|known| known.digest == *digest),
            Some(TagRecord { form: Some(form), .. }) if record.form().as_ref() != Some(form) => None,
            _ => record.manifest.as_ref(),
        }
    }

    /// The form of manifests that are made for the name that led here, or for none.
    pub(crate) fn form(&self) -> Option<ManifestForm> {
        self.tag().and_then(|tag| tag.form.clone()).or_else(|| self.image.record.form())
    }
}

/// The reference under which a name that the user gives is recorded: a short name is local.
pub(crate) fn local_reference(text: &str) -> Result<Reference> {
    let reference =
        Reference::parse_local(text).map_err(crate::error::registry(format!("read the name {text}")))?;
    Ok(reference.with_default_tag())
}

impl Engine {
    /// Finds an image by name, ID or prefix of one.
    pub(crate) fn find_image(&self, text: &str) -> Result<Found> {
        self.find_image_optional(text)?
            .ok_or_else(|| Error::NotFound { what: "image", name: text.to_owned() })
    }

    /// As [`Engine::find_image`]; of a list the image for this platform, and no image of another one.
    pub(crate) fn find_image_for(&self, text: &str, platform: Option<&str>) -> Result<Found> {
        let Some(platform) = platform.filter(|platform| !platform.is_empty()) else {
            return self.find_image(text);
        };
        let wanted = super::transfer::platform(Some(platform))?;
        let missing = || Error::NotFound { what: "image", name: format!("{text} for {platform}") };
        if let Some(list) = self.find_list(text)? {
            let ranked = list.entries.iter().filter_map(|entry| Some((wanted.rank(&entry.platform)?, entry)));
            let (_, entry) = ranked.min_by_key(|(rank, _)| *rank).ok_or_else(missing)?;
            return self.find_image(entry.image.hex());
        }
        let found = self.find_image(text)?;
        if wanted.accepts(&found.image.record.platform) { Ok(found) } else { Err(missing()) }
    }

    pub(crate) fn find_image_optional(&self, text: &str) -> Result<Option<Found>> {
        let text = text.strip_prefix("containers-storage:").unwrap_or(text);
        let images = self.store()?;
        let images = images.images();
        let failed = || crate::error::storage(format!("look up image {text}"));
        let (bare, is_digest) = text.strip_prefix("sha256:").map_or((text, false), |hex| (hex, true));
        if !is_digest && let Ok(name) = Name::parse(text) {
            for reference in self.candidates(&name)? {
                if let Some(digest) = reference.digest() {
                    if let Some(found) = self.find_by_digest(&reference, digest)? {
                        return Ok(Some(found));
                    }
                    continue;
                }
                let full = reference.with_default_tag().to_string();
                if let Some(image) = images.by_reference(&full).map_err(failed())? {
                    return Ok(Some(Found { image, name: Some(full) }));
                }
            }
        }
        let hex = !bare.is_empty() && bare.len() <= 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex {
            return Ok(None);
        }
        let mut ids = images.with_prefix(&bare.to_ascii_lowercase()).map_err(failed())?;
        if ids.len() > 1 {
            return Err(Error::Ambiguous {
                what: "image",
                name: text.to_owned(),
                matches: ids.iter().map(|id| id.short().to_owned()).collect(),
            });
        }
        let Some(id) = ids.pop() else { return Ok(None) };
        let image = images.image(&id).map_err(failed())?;
        Ok(image.map(|image| Found { image, name: None }))
    }

    /// Full names that a name may stand for in the local store, best first.
    pub(crate) fn candidates(&self, name: &Name) -> Result<Vec<Reference>> {
        let short = match name {
            Name::Full(reference) => return Ok(vec![reference.clone()]),
            Name::Short(short) => short,
        };
        let mut candidates = Vec::new();
        candidates.extend(short.in_registry("localhost"));
        // no search registries configured is an error only when something is to be pulled
        candidates.extend(self.registries()?.resolve(short).unwrap_or_default());
        candidates.extend(Reference::parse_docker(&short.to_string()));
        let mut seen = Vec::new();
        candidates.retain(|candidate| {
            let new = !seen.contains(candidate);
            seen.push(candidate.clone());
            new
        });
        Ok(candidates)
    }

    fn find_by_digest(&self, reference: &Reference, digest: &Digest) -> Result<Option<Found>> {
        let store = self.store()?;
        let repository = reference.without_target();
        let tags = store.images().tags().map_err(crate::error::storage("list names"))?;
        for tag in tags {
            let same = Reference::parse(&tag.reference).is_ok_and(|name| name.without_target() == repository);
            if same && (tag.manifest.as_ref() == Some(digest) || tag.index.as_ref() == Some(digest)) {
                let image = store
                    .images()
                    .image(&tag.image)
                    .map_err(crate::error::storage(format!("look up image {reference}")))?;
                return Ok(image.map(|image| Found { image, name: Some(tag.reference) }));
            }
        }
        Ok(None)
    }

    /// Reads the config of an image.
    pub(crate) fn image_config(&self, image: &Image) -> Result<Raw<ImageConfig>> {
        let config = &image.record.config;
        let bytes = self.store()?.content().read(&config.digest, MAX_CONFIG_BYTES).map_err(
            crate::error::storage(format!("read the config of image {}", image.record.id.short())),
        )?;
        Raw::parse_verified(bytes, Some(&config.media_type), &config.digest)
            .map_err(crate::error::document(format!("read the config of image {}", image.record.id.short())))
    }
}

impl Images<'_> {
    /// Tells whether an image of this name or ID exists.
    pub fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.engine.find_image_optional(name)?.is_some())
    }
}
