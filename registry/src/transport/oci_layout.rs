//! OCI layouts: a directory, or the tar of one, with `oci-layout`, `index.json` and `blobs/ALGORITHM/HEX`.

use super::tar_file::TarFile;
use super::{Blob, Destination, Placement, Source, Which, check_manifest};
use crate::trust::Origin;
use crate::{Error, Result, files};
use oci::{Descriptor, Digest, Index, ManifestOrIndex, Raw, annotation};
use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const LAYOUT_FILE: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

#[derive(Debug, Clone)]
enum Place {
    Directory(PathBuf),
    Archive(Arc<TarFile>),
}

/// A layout that is read.
#[derive(Debug, Clone)]
pub struct Layout {
    place: Place,
    index: Index,
}

/// Which image of a layout or archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selector {
    /// The only one.
    #[default]
    Only,
    /// The one with this name: the whole `ref.name` annotation, or a tag of a Docker archive.
    Name(String),
    /// The one at this position.
    Position(usize),
}

/// An image of a layout or archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// Its position, for [`Selector::Position`].
    pub position: usize,
    /// Its names as they stand there; may be none.
    pub names: Vec<String>,
}

impl Place {
    fn name(&self) -> String {
        match self {
            Place::Directory(path) => path.display().to_string(),
            Place::Archive(archive) => archive.name().to_owned(),
        }
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        match self {
            Place::Directory(path) => files::read_optional(&path.join(name), limit),
            Place::Archive(archive) => archive.read_member(name, limit),
        }
    }

    fn open(&self, name: &str, offset: u64) -> Result<Option<Box<dyn Read + Send>>> {
        match self {
            Place::Directory(path) => {
                let path = path.join(name);
                let mut file = match std::fs::File::open(&path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(Error::file("open", path)(error)),
                };
                file.seek(SeekFrom::Start(offset)).map_err(Error::file("seek", path))?;
                Ok(Some(Box::new(file)))
            }
            Place::Archive(archive) => {
                Ok(archive.open_member(name, offset).map(|section| Box::new(section) as Box<dyn Read + Send>))
            }
        }
    }
}

pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

impl Layout {
    /// Opens a directory.
    pub fn open_directory(path: &Path) -> Result<Self> {
        Self::open(Place::Directory(path.to_owned()))
    }

    /// Opens the tar of a layout.
    pub fn open_archive(archive: &Arc<TarFile>) -> Result<Self> {
        Self::open(Place::Archive(archive.clone()))
    }

    fn open(place: Place) -> Result<Self> {
        let invalid = |message: &str| Error::Archive { path: place.name(), message: message.into() };
        if place.read("oci-layout", 4096)?.is_none() {
            return Err(invalid("not an OCI layout: oci-layout is missing"));
        }
        let bytes = place
            .read("index.json", oci::MAX_MANIFEST_BYTES)?
            .ok_or_else(|| invalid("index.json is missing"))?;
        let raw: Raw<Index> =
            Raw::parse(bytes, None).map_err(Error::document(format!("index.json of {}", place.name())))?;
        let (_, index) = raw.into_parts();
        Ok(Self { place, index })
    }

    /// The images.
    pub fn images(&self) -> Vec<ArchivedImage> {
        let names = |entry: &Descriptor| {
            let full = entry.annotations.get(annotation::CONTAINERD_NAME);
            full.or_else(|| entry.annotations.get(annotation::REF_NAME)).cloned().into_iter().collect()
        };
        let entries = self.index.manifests.iter().enumerate();
        entries.map(|(position, entry)| ArchivedImage { position, names: names(entry) }).collect()
    }

    /// One image as a source.
    pub fn source(&self, selector: &Selector) -> Result<LayoutSource> {
        let entries = &self.index.manifests;
        let missing = |what: String| Error::NotFound { what, place: self.place.name() };
        let root = match selector {
            Selector::Position(at) => {
                entries.get(*at).ok_or_else(|| missing(format!("image number {at}")))?
            }
            Selector::Name(name) => entries
                .iter()
                .find(|entry| {
                    [annotation::REF_NAME, annotation::CONTAINERD_NAME]
                        .iter()
                        .any(|key| entry.annotations.get(*key) == Some(name))
                })
                .ok_or_else(|| missing(format!("image {name}")))?,
            Selector::Only => match entries.as_slice() {
                [one] => one,
                [] => return Err(missing("any image".into())),
                _ => {
                    return Err(Error::Archive {
                        path: self.place.name(),
                        message: format!("it has {} images: say which", entries.len()),
                    });
                }
            },
        };
        let name = root.annotations.get(annotation::REF_NAME).map(String::as_str);
        let origin = match &self.place {
            Place::Directory(path) => Origin::path("oci", path, name),
            Place::Archive(archive) => match archive.path() {
                Some(path) => Origin::path("oci-archive", path, name),
                None => Origin::unscoped("oci-archive"),
            },
        };
        Ok(LayoutSource { place: self.place.clone(), root: root.clone(), origin })
    }
}

/// An image of a layout.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    place: Place,
    root: Descriptor,
    origin: Origin,
}

impl LayoutSource {
    /// Opens one image of a directory.
    pub fn open(path: &Path, selector: &Selector) -> Result<Self> {
        Layout::open_directory(path)?.source(selector)
    }
}

impl Source for LayoutSource {
    fn describe(&self) -> String {
        self.place.name()
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        let descriptor = match which {
            Which::Root => &self.root,
            Which::Entry(entry) => entry,
        };
        let missing =
            || Error::NotFound { what: format!("manifest {}", descriptor.digest), place: self.place.name() };
        let bytes =
            self.place.read(&blob_name(&descriptor.digest), oci::MAX_MANIFEST_BYTES)?.ok_or_else(missing)?;
        check_manifest(bytes, descriptor, &self.place.name())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        let missing =
            || Error::NotFound { what: format!("blob {}", descriptor.digest), place: self.place.name() };
        let reader = self.place.open(&blob_name(&descriptor.digest), offset)?.ok_or_else(missing)?;
        // one byte more, so that a file that is too long is noticed by whoever checks
        Ok(Box::new(reader.take(descriptor.size.saturating_sub(offset).saturating_add(1))))
    }
}

/// A directory that becomes or is a layout; other images in it stay.
#[derive(Debug)]
pub struct LayoutDestination {
    path: PathBuf,
    name: Option<String>,
}

impl LayoutDestination {
    /// Opens or creates the directory. `name` becomes the `ref.name` annotation.
    pub fn create(path: &Path, name: Option<&str>) -> Result<Self> {
        std::fs::create_dir_all(path.join("blobs/sha256")).map_err(Error::file("create directory", path))?;
        let marker = path.join("oci-layout");
        if files::read_optional(&marker, 4096)?.is_none() {
            files::write_atomic(&marker, LAYOUT_FILE, 0o644)?;
        }
        Ok(Self { path: path.to_owned(), name: name.map(str::to_owned) })
    }

    fn blob_path(&self, digest: &Digest) -> Result<PathBuf> {
        let path = self.path.join(blob_name(digest));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::file("create directory", parent))?;
        }
        Ok(path)
    }

    fn add_to_index(&self, mut descriptor: Descriptor) -> Result<()> {
        let marker = self.path.join("oci-layout");
        let lock = std::fs::File::open(&marker).map_err(Error::file("open", &marker))?;
        lock.lock().map_err(Error::file("lock", &marker))?;
        let path = self.path.join("index.json");
        let mut index = match files::read_optional(&path, oci::MAX_MANIFEST_BYTES)? {
            None => Index::new(Vec::new()),
            Some(bytes) => {
                let what = path.display().to_string();
                Raw::<Index>::parse(bytes, None).map_err(Error::document(what))?.into_parts().1
            }
        };
        let name_of = |entry: &Descriptor| entry.annotations.get(annotation::REF_NAME).cloned();
        match &self.name {
            Some(name) => index.manifests.retain(|entry| name_of(entry).as_ref() != Some(name)),
            None => {
                index.manifests.retain(|entry| name_of(entry).is_some() || entry.digest != descriptor.digest)
            }
        }
        if let Some(name) = &self.name {
            descriptor.annotations.insert(annotation::REF_NAME.into(), name.clone());
        }
        index.manifests.push(descriptor);
        let raw = Raw::from_value(index).map_err(Error::document("index.json"))?;
        files::write_atomic(&path, raw.bytes(), 0o644)
    }
}

impl Destination for LayoutDestination {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let path = self.blob_path(&descriptor.digest)?;
        Ok(std::fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size))
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Result<()> {
        store_file(blob, &self.blob_path(&blob.descriptor().digest)?)
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, placement: Placement) -> Result<()> {
        files::write_atomic(&self.blob_path(raw.digest())?, raw.bytes(), 0o644)?;
        match placement {
            Placement::Entry => Ok(()),
            Placement::Root => self.add_to_index(raw.descriptor()),
        }
    }
}

/// Writes a blob, verified, to its place.
pub(crate) fn store_file(blob: &Blob<'_>, path: &Path) -> Result<()> {
    let mut pending = files::Pending::beside(path, 0o644)?;
    let mut reader = blob.verified()?;
    let what = format!("write blob {} to {}", blob.descriptor().digest, path.display());
    std::io::copy(&mut reader, pending.file()).map_err(Error::stream(what))?;
    pending.commit(path)
}

/// The parts of a layout that is written as a stream.
#[derive(Debug, Default)]
pub(crate) struct StreamedLayout {
    pub(crate) written: HashSet<Digest>,
    pub(crate) entries: Vec<Descriptor>,
}

/// Adds a member of known size.
pub(crate) fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    reader: impl Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    builder.append_data(&mut header, name, reader).map_err(Error::stream(format!("write {name}")))
}
