//! `--build-context NAME=VALUE`.

use super::address::{Fetched, Fetcher, is_address};
use super::requests::BuildRequest;
use crate::images::{Images, PullPolicy, PullRequest, TransferProgress};
use crate::{Error, Result};
use builder::build::NamedContext;
use builder::context::find_ignore_file;
use oci::Platform;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Prefixes of values that are references of images.
const IMAGES: [&str; 3] = ["docker-image://", "container-image://", "docker://"];
/// Prefix of values that are OCI layouts.
const LAYOUT: &str = "oci-layout://";

/// Fetches the named contexts that lie behind addresses; gives their directories.
pub(super) fn fetch(request: &BuildRequest, fetcher: &Fetcher<'_>) -> Result<BTreeMap<String, PathBuf>> {
    let mut directories = BTreeMap::new();
    for (name, value) in &request.build_contexts {
        let local = IMAGES.iter().any(|prefix| value.starts_with(prefix)) || value.starts_with(LAYOUT);
        if local || !is_address(value) {
            continue;
        }
        match fetcher.fetch(value)? {
            Fetched::Directory(place) => {
                directories.insert(name.clone(), place.directory);
            }
            Fetched::Text(..) => {
                return Err(Error::invalid(
                    format!("build context {name}"),
                    "what lies there is no archive and no repository",
                ));
            }
        }
    }
    Ok(directories)
}

/// The named contexts of a build for one platform.
pub(super) fn open(
    images: Images<'_>,
    request: &BuildRequest,
    platform: &Platform,
    fetched: &BTreeMap<String, PathBuf>,
    progress: TransferProgress<'_>,
) -> Result<BTreeMap<String, NamedContext>> {
    let mut contexts = BTreeMap::new();
    for (name, value) in &request.build_contexts {
        let what = || format!("build context {name}={value}");
        let image = IMAGES.iter().find_map(|prefix| value.strip_prefix(prefix));
        let context = if let Some(reference) = image {
            NamedContext::Image(reference.to_owned())
        } else if let Some(layout) = value.strip_prefix(LAYOUT) {
            NamedContext::Image(load_layout(images, &what(), layout, request, platform, progress)?)
        } else if let Some(directory) = fetched.get(name) {
            NamedContext::Directory(directory.clone())
        } else {
            let directory = PathBuf::from(value);
            if !directory.is_dir() {
                return Err(Error::os(
                    format!("open the {}", what()),
                    std::io::Error::from(std::io::ErrorKind::NotADirectory),
                ));
            }
            NamedContext::Directory(directory)
        };
        contexts.insert(name.clone(), context);
    }
    Ok(contexts)
}

/// The ignore files of named contexts that are directories, as Docker reads them. What was fetched has none: that is
/// what its authors sent.
pub(super) fn ignores(request: &BuildRequest) -> Result<BTreeMap<String, (String, String)>> {
    let mut files = BTreeMap::new();
    for (name, value) in &request.build_contexts {
        let is_image = IMAGES.iter().any(|prefix| value.starts_with(prefix));
        if is_image || value.starts_with(LAYOUT) || is_address(value) {
            continue;
        }
        if let Some(path) = find_ignore_file(std::path::Path::new(value), None) {
            let text = super::containerfile::read_text(&path, std::time::Duration::ZERO)?;
            files.insert(name.clone(), (path.display().to_string(), text));
        }
    }
    Ok(files)
}

/// Brings an image of a layout (`PATH[:NAME][@DIGEST]`) into the store; gives a reference that the resolver knows.
fn load_layout(
    images: Images<'_>,
    what: &str,
    text: &str,
    request: &BuildRequest,
    platform: &Platform,
    progress: TransferProgress<'_>,
) -> Result<String> {
    let (place, digest) = match text.rsplit_once("@sha256:") {
        Some((place, hex)) => (place, Some(format!("sha256:{hex}"))),
        None => (text, None),
    };
    let pull = PullRequest {
        reference: format!("oci:{place}"),
        policy: PullPolicy::Always,
        platform: Some(platform.to_string()),
        registry: request.registry.clone(),
    };
    let report = images.receive_unnamed(&pull, progress)?;
    if let Some(digest) = digest
        && report.digest.as_ref() != Some(&digest)
    {
        return Err(Error::invalid(what, format!("the layout has {}", report.digest.unwrap_or_default())));
    }
    Ok(format!("sha256:{}", report.id))
}
