//! Writing OCI archives: the tar of a layout, as one stream. Reading is [`Layout::open_archive`].
//!
//! [`Layout::open_archive`]: super::oci_layout::Layout::open_archive

use super::oci_layout::{LAYOUT_FILE, StreamedLayout, append, blob_name};
use super::{Blob, Destination, Placement};
use crate::{Error, Result};
use oci::{Descriptor, Index, ManifestOrIndex, Raw, annotation};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes images into one archive.
pub struct OciArchiveWriter<W: Write + Send> {
    state: Mutex<State<W>>,
    place: String,
}

struct State<W: Write> {
    builder: tar::Builder<W>,
    layout: StreamedLayout,
}

impl<W: Write + Send> std::fmt::Debug for OciArchiveWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OciArchiveWriter").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<W: Write + Send> OciArchiveWriter<W> {
    /// Begins an archive; `place` is for messages.
    pub fn new(sink: W, place: impl Into<String>) -> Self {
        let state = State { builder: tar::Builder::new(sink), layout: StreamedLayout::default() };
        Self { state: Mutex::new(state), place: place.into() }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The destination of one image; `name` becomes its `ref.name` annotation.
    pub fn destination(&self, name: Option<&str>) -> OciArchiveDestination<'_, W> {
        OciArchiveDestination { writer: self, name: name.map(str::to_owned) }
    }

    /// Writes the index and ends the archive. Without this call it is not valid.
    pub fn finish(self) -> Result<W> {
        let State { mut builder, layout } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let raw = Raw::from_value(Index::new(layout.entries)).map_err(Error::document("index.json"))?;
        append(&mut builder, "oci-layout", LAYOUT_FILE.len() as u64, LAYOUT_FILE)?;
        append(&mut builder, "index.json", raw.size(), raw.bytes())?;
        let mut sink = builder.into_inner().map_err(Error::stream(format!("write {}", self.place)))?;
        sink.flush().map_err(Error::stream(format!("write {}", self.place)))?;
        Ok(sink)
    }
}

/// One image of an [`OciArchiveWriter`].
#[derive(Debug)]
pub struct OciArchiveDestination<'a, W: Write + Send> {
    writer: &'a OciArchiveWriter<W>,
    name: Option<String>,
}

impl<W: Write + Send> Destination for OciArchiveDestination<'_, W> {
    fn describe(&self) -> String {
        self.writer.place.clone()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.writer.lock().layout.written.contains(&descriptor.digest))
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Result<()> {
        let descriptor = blob.descriptor();
        let reader = blob.verified()?;
        let mut state = self.writer.lock();
        append(&mut state.builder, &blob_name(&descriptor.digest), descriptor.size, reader)?;
        state.layout.written.insert(descriptor.digest.clone());
        Ok(())
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Result<()> {
        let mut state = self.writer.lock();
        if state.layout.written.insert(raw.digest().clone()) {
            append(&mut state.builder, &blob_name(raw.digest()), raw.size(), raw.bytes())?;
        }
        if placement == Placement::Root {
            let mut descriptor = raw.descriptor();
            if let Some(name) = &self.name {
                descriptor.annotations.insert(annotation::REF_NAME.into(), name.clone());
            }
            state.layout.entries.push(descriptor);
        }
        Ok(())
    }
}
