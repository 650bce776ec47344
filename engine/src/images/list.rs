//! `images`, `image inspect`, `history`.

use super::{GraphDriver, HistoryEntry, ImageInspect, ImageListRequest, ImageSummary, Images, InspectRootFs};
use crate::filters::{Filters, glob_matches, parse_bool};
use crate::time::Instant;
use crate::{Engine, Error, Result};
use oci::Digest;
use registry::Reference;
use std::collections::BTreeMap;
use storage::{Image, TagRecord};

const KEYS: [&str; 13] = [
    "reference",
    "label",
    "label!",
    "dangling",
    "before",
    "since",
    "after",
    "id",
    "digest",
    "until",
    "containers",
    "intermediate",
    "readonly",
];

impl Images<'_> {
    /// Lists images by their records alone: no blob is read. Newest first.
    pub fn list(&self, request: &ImageListRequest) -> Result<Vec<ImageSummary>> {
        let filters = Filters::parse("images", &request.filters, &KEYS)?;
        let store = self.engine.store()?;
        let images = store.images().list().map_err(crate::error::storage("list images"))?;
        let uses = self.engine.image_uses()?;
        let created_of = |names: &[String]| -> Result<Option<i64>> {
            let times: Result<Vec<i64>> =
                names.iter().map(|name| Ok(created(&self.engine.find_image(name)?.image))).collect();
            Ok(times?.into_iter().min())
        };
        let before = created_of(filters.values("before"))?;
        let since = created_of(filters.values("since"))?.max(created_of(filters.values("after"))?);
        let mut rows: Vec<ImageSummary> = Vec::new();
        for image in images {
            let mut row = summary(&image, uses.get(image.record.id.hex()).copied().unwrap_or(0));
            if let Some(wanted) = &request.name {
                row.names.retain(|name| names_match(wanted, name));
                if row.names.is_empty() && !(wanted.len() >= 3 && row.id.starts_with(wanted.as_str())) {
                    continue;
                }
            }
            if keep(&filters, &image, &row, before, since)? {
                rows.push(row);
            }
        }
        rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.names.cmp(&b.names)));
        Ok(rows)
    }

    /// Describes an image in Podman's JSON shape; of a list that for `platform`, or for this host.
    pub fn inspect(&self, name: &str, platform: Option<&str>) -> Result<ImageInspect> {
        let found = self.engine.find_image_for(name, platform)?;
        let image = &found.image;
        let config = self.engine.image_config(image)?;
        let store = self.engine.store()?;
        let raw: serde_json::Value = serde_json::from_slice(config.bytes())
            .map_err(|error| Error::os("read the config", std::io::Error::other(error)))?;
        let text =
            |key: &str| raw.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let value = config.value();
        let form = found.form();
        let docker = form.as_ref().is_some_and(|form| form.docker);
        let mut annotations = form.map(|form| form.annotations).unwrap_or_default();
        // the name's own, where the image was found by one
        let manifest = found.manifest();
        if let Some(manifest) = manifest
            && let Ok(bytes) = store.content().read(&manifest.digest, 4 << 20)
            && let Ok(manifest) = oci::Raw::<oci::Manifest>::parse(bytes, Some(&manifest.media_type))
        {
            annotations = manifest.value().annotations.clone();
        }
        let labels = value.config.labels.clone();
        Ok(ImageInspect {
            id: image.record.id.hex().to_owned(),
            digest: manifest.map(|manifest| manifest.digest.to_string()).unwrap_or_default(),
            repo_tags: image.tags.iter().filter(|tag| is_tag(tag)).map(|tag| tag.reference.clone()).collect(),
            repo_digests: repo_digests(&image.tags),
            parent: image.record.parent.as_ref().map(|id| id.hex().to_owned()).unwrap_or_default(),
            comment: value.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
            created: value.created.clone(),
            config: raw.get("config").cloned().unwrap_or_default(),
            version: text("docker_version"),
            author: value.author.clone().unwrap_or_default(),
            architecture: value.architecture.clone(),
            variant: value.variant.clone().unwrap_or_default(),
            os: value.os.clone(),
            size: image.record.size,
            virtual_size: image.record.size,
            graph_driver: self.engine.graph_driver(image.record.layers.last())?,
            root_fs: InspectRootFs {
                r#type: "layers".to_owned(),
                layers: value.diff_ids().iter().map(ToString::to_string).collect(),
            },
            labels: if labels.is_empty() { None } else { Some(labels) },
            annotations,
            manifest_type: manifest.map_or_else(
                || match docker {
                    true => oci::media_type::DOCKER_MANIFEST.to_owned(),
                    false => oci::media_type::OCI_MANIFEST.to_owned(),
                },
                |manifest| manifest.media_type.clone(),
            ),
            user: value.config.user.clone(),
            history: value.history.clone(),
            names_history: image.record.names_history.clone(),
        })
    }

    /// Lists the steps that made an image, newest first; of a list that for `platform`, or for this host.
    pub fn history(&self, name: &str, platform: Option<&str>) -> Result<Vec<HistoryEntry>> {
        let found = self.engine.find_image_for(name, platform)?;
        let config = self.engine.image_config(&found.image)?;
        let store = self.engine.store()?;
        let mut sizes = Vec::new();
        for chain in &found.image.record.layers {
            let layer = store
                .layers()
                .get(chain)
                .map_err(crate::error::storage(format!("read the layers of {name}")))?;
            sizes.push(layer.map_or(0, |layer| layer.unpacked_size));
        }
        let mut sizes = sizes.into_iter();
        let mut entries: Vec<HistoryEntry> = config
            .value()
            .history
            .iter()
            .map(|step| HistoryEntry {
                id: "<missing>".to_owned(),
                created: step.created.as_deref().and_then(Instant::parse_rfc3339).map(Instant::seconds),
                created_by: step.created_by.clone().unwrap_or_default(),
                size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
                comment: step.comment.clone().unwrap_or_default(),
                tags: Vec::new(),
            })
            .collect();
        // an image need not tell its history, but its layers are there all the same
        entries.extend(sizes.map(|size| HistoryEntry {
            id: "<missing>".to_owned(),
            size,
            ..HistoryEntry::default()
        }));
        entries.reverse();
        if let Some(newest) = entries.first_mut() {
            newest.id = found.id().hex().to_owned();
            newest.tags = found.image.tags.iter().map(|tag| tag.reference.clone()).collect();
        }
        Ok(entries)
    }
}

impl Engine {
    /// Number of containers by image ID.
    pub(crate) fn image_uses(&self) -> Result<BTreeMap<String, usize>> {
        let mut uses = BTreeMap::new();
        for record in self.state().list()? {
            *uses.entry(record.image_id).or_insert(0) += 1;
        }
        Ok(uses)
    }

    /// Where the layers of an image lie, in overlay's words.
    pub(crate) fn graph_driver(&self, top: Option<&oci::ChainId>) -> Result<GraphDriver> {
        let store = self.store()?;
        let snapshots = store.snapshots();
        let mut data = BTreeMap::new();
        if let Some(top) = top
            && let Ok(Some(layer)) = store.layers().get(top)
            && let Ok(Some(info)) = snapshots.stat(&layer.snapshot)
        {
            let directory = |name: &String| {
                snapshots.layer_directory(name).ok().map(|path| path.to_string_lossy().into_owned())
            };
            data.extend(directory(&layer.snapshot).map(|upper| ("UpperDir".to_owned(), upper)));
            let lower: Vec<String> = info.ancestors.iter().filter_map(directory).collect();
            if !lower.is_empty() {
                data.insert("LowerDir".to_owned(), lower.join(":"));
            }
        }
        Ok(GraphDriver { name: snapshots.name().to_owned(), data })
    }
}

fn is_tag(tag: &TagRecord) -> bool {
    !tag.reference.contains('@')
}

fn created(image: &Image) -> i64 {
    image.record.created.as_deref().and_then(Instant::parse_rfc3339).map_or(0, Instant::seconds)
}

fn repo_digests(tags: &[TagRecord]) -> Vec<String> {
    let mut digests = Vec::new();
    for tag in tags {
        let Ok(reference) = Reference::parse(&tag.reference) else { continue };
        for digest in [&tag.index, &tag.manifest].into_iter().flatten() {
            let text = format!("{}@{digest}", reference.without_target());
            if !digests.contains(&text) {
                digests.push(text);
            }
        }
    }
    digests
}

fn summary(image: &Image, containers: usize) -> ImageSummary {
    let record = &image.record;
    ImageSummary {
        id: record.id.hex().to_owned(),
        names: image.tags.iter().filter(|tag| is_tag(tag)).map(|tag| tag.reference.clone()).collect(),
        repo_digests: repo_digests(&image.tags),
        digest: record.manifest.as_ref().map(|manifest| manifest.digest.to_string()),
        digests: image
            .tags
            .iter()
            .filter_map(|tag| Some((tag.reference.clone(), tag.manifest.as_ref()?.to_string())))
            .collect(),
        created: created(image),
        size: record.size,
        labels: record.labels.clone(),
        containers,
        dangling: image.tags.is_empty(),
        platform: record.platform.to_string(),
    }
}

fn keep(
    filters: &Filters,
    image: &Image,
    row: &ImageSummary,
    before: Option<i64>,
    since: Option<i64>,
) -> Result<bool> {
    let truth = |key: &str, value: bool| -> Result<bool> {
        for text in filters.values(key) {
            if parse_bool(key, text)? != value {
                return Ok(false);
            }
        }
        Ok(true)
    };
    Ok(filters.labels(&row.labels)
        && filters.any("reference", |pattern| row.names.iter().any(|name| names_match(pattern, name)))
        && filters.any("id", |id| row.id.starts_with(id.strip_prefix("sha256:").unwrap_or(id)))
        && filters.any("digest", |digest| has_digest(image, digest))
        && truth("dangling", row.dangling)?
        && truth("containers", row.containers > 0)?
        && truth("intermediate", false)?
        && truth("readonly", false)?
        && before.is_none_or(|before| row.created < before)
        && since.is_none_or(|since| row.created > since)
        && filters.until(Instant(row.created.saturating_mul(1_000_000_000)))?)
}

fn has_digest(image: &Image, wanted: &str) -> bool {
    let matches = |digest: &Digest| digest.as_str().starts_with(wanted) || digest.hex().starts_with(wanted);
    image.record.manifest.iter().map(|manifest| &manifest.digest).any(matches)
        || image.tags.iter().flat_map(|tag| [&tag.manifest, &tag.index]).flatten().any(matches)
}

/// Whether a name is meant by a repository, a reference or a pattern with `*`, with or without registry.
fn names_match(pattern: &str, name: &str) -> bool {
    let untagged = Reference::parse(name).map(|name| name.without_target().to_string()).unwrap_or_default();
    let tail = |text: &str| -> Vec<String> {
        let mut tails = vec![text.to_owned()];
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once('/') {
            tails.push(behind.to_owned());
            rest = behind;
        }
        tails
    };
    tail(name).iter().chain(&tail(&untagged)).any(|text| glob_matches(pattern, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_repository_reference_and_pattern() {
        let name = "docker.io/library/debian:12";
        for pattern in
            ["debian", "debian:12", "library/debian", "docker.io/library/debian", "deb*", "*:12", name]
        {
            assert!(names_match(pattern, name), "{pattern}");
        }
        assert!(!names_match("debia", name));
        assert!(!names_match("debian:11", name));
    }
}
