//! Images: one file a verb, and what the verbs share.

mod requests;

pub use requests::*;

use crate::{Engine, Result};
use std::io::{Read, Write};

/// The images of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    pub(crate) engine: &'a Engine,
}

impl Images<'_> {
    /// Lists images by their records alone: no blob is read. Newest first.
    pub fn list(&self, _request: &ImageListRequest) -> Result<Vec<ImageSummary>> {
        todo!()
    }

    /// Describes an image in Podman's JSON shape.
    pub fn inspect(&self, _name: &str) -> Result<ImageInspect> {
        todo!()
    }

    /// Tells whether an image of this name or ID exists.
    pub fn exists(&self, _name: &str) -> Result<bool> {
        todo!()
    }

    /// Lists the steps that made an image, newest first.
    pub fn history(&self, _name: &str) -> Result<Vec<HistoryEntry>> {
        todo!()
    }

    /// Gives an image further names.
    pub fn tag(&self, _name: &str, _targets: &[String]) -> Result<()> {
        todo!()
    }

    /// Takes names from an image; all when `names` is empty.
    pub fn untag(&self, _name: &str, _names: &[String]) -> Result<()> {
        todo!()
    }

    /// Removes names, and images whose last name goes. Every name is tried; failures are returned beside what was done.
    pub fn remove(&self, _request: &ImageRemoveRequest) -> (Vec<ImageRemoved>, Vec<crate::Error>) {
        todo!()
    }

    /// Removes images that nothing needs.
    pub fn prune(&self, _request: &ImagePruneRequest) -> Result<PruneReport> {
        todo!()
    }

    /// Fetches an image from a registry or an archive (`docker://`, `oci-archive:`, `docker-archive:`, `oci:`, `dir:`).
    pub fn pull(&self, _request: &PullRequest, _progress: TransferProgress<'_>) -> Result<PullReport> {
        todo!()
    }

    /// Sends an image to a registry. What was pulled goes out with the very bytes it came with.
    pub fn push(&self, _request: &PushRequest, _progress: TransferProgress<'_>) -> Result<PushReport> {
        todo!()
    }

    /// Writes images as an archive.
    pub fn save(
        &self,
        _request: &SaveRequest,
        _output: &mut (dyn Write + Send),
        _progress: TransferProgress<'_>,
    ) -> Result<()> {
        todo!()
    }

    /// Brings the images of an archive into the store.
    pub fn load(&self, _input: ArchiveInput, _progress: TransferProgress<'_>) -> Result<LoadReport> {
        todo!()
    }

    /// Makes an image of one layer from a tar archive, which may be compressed. Returns the image ID, 64 hex digits.
    pub fn import(
        &self,
        _request: &ImportRequest,
        _input: Box<dyn Read + Send>,
        _progress: TransferProgress<'_>,
    ) -> Result<String> {
        todo!()
    }
}
