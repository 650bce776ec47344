//! `diff`: which paths a container, or an image's last layer, changes.

use super::Containers;
use super::files::piped;
use crate::images::lookup::Found;
use crate::sandbox::View;
use crate::state::ContainerRecord;
use crate::{Engine, Error, Result};
use rustix::fs::OFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufReader, BufWriter, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use storage::diff::{write_changes, write_diff_without};
use storage::tar::{Reader, WriteOptions};

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Added,
    /// It is another one now, or a directory in which something changed.
    Changed,
    /// It is gone.
    Deleted,
}

/// A changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute.
    pub path: PathBuf,
    /// What became of it.
    pub kind: ChangeKind,
}

/// What is compared.
enum Side {
    Container(Box<ContainerRecord>),
    Image(Box<Found>),
}

impl Containers<'_> {
    /// The paths, in order, that a container changes in its image, or an image in what lies below its last layer; with
    /// `other` those in which `name` differs from it. `containers`, `images`: what names may stand for.
    pub fn diff(
        &self,
        name: &str,
        other: Option<&str>,
        containers: bool,
        images: bool,
    ) -> Result<Vec<Change>> {
        let engine = self.engine;
        let side = engine.side(name, containers, images)?;
        if let Some(other) = other {
            let lower = engine.view(&engine.side(other, containers, images)?)?;
            let upper = engine.view(&side)?;
            return compare(lower.as_ref(), upper.as_ref());
        }
        match side {
            Side::Container(record) => {
                let stubs = engine.stubs(&record)?;
                let base = engine.base_view(&record)?;
                engine.changes_of(&record.snapshot, base.as_ref(), &stubs)
            }
            Side::Image(found) => {
                let layers = &found.image.record.layers;
                let Some(top) = layers.last() else { return Ok(Vec::new()) };
                let below = match layers.len().checked_sub(2).and_then(|index| layers.get(index)) {
                    Some(chain) => Some(engine.chain_view(chain)?),
                    None => None,
                };
                let layer = engine
                    .store()?
                    .layers()
                    .get(top)
                    .map_err(crate::error::storage("read the layers"))?
                    .ok_or_else(|| Error::NotFound { what: "layer", name: top.to_string() })?;
                engine.changes_of(&layer.snapshot, below.as_ref(), &BTreeSet::new())
            }
        }
    }
}

impl Engine {
    fn side(&self, name: &str, containers: bool, images: bool) -> Result<Side> {
        if containers {
            match self.state().find(name) {
                Ok(record) => return Ok(Side::Container(Box::new(record))),
                Err(Error::NotFound { .. }) if images => {}
                Err(error) => return Err(error),
            }
        }
        match self.find_image(name) {
            Ok(found) => Ok(Side::Image(Box::new(found))),
            Err(Error::NotFound { .. }) if containers => {
                Err(Error::NotFound { what: "container or image", name: name.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    fn view(&self, side: &Side) -> Result<Option<View>> {
        match side {
            Side::Container(record) => self.container_view(record).map(Some),
            Side::Image(found) => {
                found.image.record.layers.last().map(|chain| self.chain_view(chain)).transpose()
            }
        }
    }

    /// What the snapshot's own layer changes in `base`.
    fn changes_of(
        &self,
        snapshot: &str,
        base: Option<&View>,
        skip: &BTreeSet<Vec<u8>>,
    ) -> Result<Vec<Change>> {
        let store = self.store()?;
        piped(
            |mut sink: BufWriter<PipeWriter>| {
                write_diff_without(store, snapshot, &|path| skip.contains(path), &mut sink)
                    .map_err(crate::error::storage("read the layer"))?;
                sink.flush().map_err(|error| Error::os("write to a pipe", error))
            },
            |stream| read_changes(stream, base),
        )
    }
}

/// What turns `lower` into `upper`.
fn compare(lower: Option<&View>, upper: Option<&View>) -> Result<Vec<Change>> {
    let (Some(upper), lower_tree) = (upper, lower.map(View::tree).transpose()?) else {
        return Ok(Vec::new());
    };
    let upper = upper.tree()?;
    let failed = |error| Error::os("compare the file systems", std::io::Error::other(error));
    piped(
        |sink| {
            let options = WriteOptions { layer: true, ..WriteOptions::default() };
            let (mut sink, _) = match &lower_tree {
                Some(lower) => write_changes(lower.as_fd(), upper.as_fd(), &options, sink),
                None => storage::tar::write_tree(upper.as_fd(), &options, sink),
            }
            .map_err(failed)?;
            sink.flush().map_err(|error| Error::os("write to a pipe", error))
        },
        |stream| read_changes(stream, lower),
    )
}

/// Reads a layer's stream as changes of `base`.
fn read_changes(stream: BufReader<PipeReader>, base: Option<&View>) -> Result<Vec<Change>> {
    let failed = |error| Error::os("read the layer", std::io::Error::other(error));
    let exists = |path: &[u8]| base.is_some_and(|base| is_there(base, path));
    let mut kinds: BTreeMap<Vec<u8>, ChangeKind> = BTreeMap::new();
    let mut opaque = Vec::new();
    let mut reader = Reader::new(stream);
    while let Some(entry) = reader.next_entry().map_err(failed)? {
        let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path).to_vec();
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        match path[start..].strip_prefix(b".wh.") {
            Some(b".wh..opq") => opaque.push(path[..start].to_vec()),
            Some(name) => {
                kinds.insert([&path[..start], name].concat(), ChangeKind::Deleted);
            }
            None => {
                let kind = if exists(&path) { ChangeKind::Changed } else { ChangeKind::Added };
                kinds.insert(path, kind);
            }
        }
    }
    // a directory that was made anew hides what was in the old one
    for directory in opaque {
        let Some(base) = base else { continue };
        for name in entries(base, &directory) {
            kinds.entry([&directory[..], &name].concat()).or_insert(ChangeKind::Deleted);
        }
    }
    let absolute = |path: Vec<u8>| Path::new("/").join(OsStr::from_bytes(&path));
    let mut changes: Vec<Change> =
        kinds.into_iter().map(|(path, kind)| Change { path: absolute(path), kind }).collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

fn is_there(base: &View, path: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(Some((parent, name))) = sys::beneath::open_parent_in_root(base.root(), path) else { return false };
    rustix::fs::openat(&parent, &name, flags, rustix::fs::Mode::empty()).is_ok()
}

fn entries(base: &View, directory: &[u8]) -> Vec<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(directory));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = sys::beneath::open_in_root(base.root(), path, flags, 0) else { return Vec::new() };
    let Ok(entries) = rustix::fs::Dir::read_from(&fd) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_bytes().to_vec())
        .filter(|name| name != b"." && name != b"..")
        .collect()
}
