//! Docker archives: `manifest.json`, `CONFIGHEX.json` and one plain tar for each layer.
//!
//! Read: archives of all Docker versions since 1.10 (`ID/layer.tar`, links between them, `blobs/sha256/HEX`), with
//! layers that may be compressed; and the older form that has `repositories` and `ID/json` alone, for which a config
//! is made of the chain of `json` files. The manifest is always made here, since the archive has none.

use super::oci_layout::{ArchivedImage, Selector, append};
use super::tar_file::TarFile;
use super::{Blob, BlobRole, Destination, Placement, Source, Which};
use crate::trust::Origin;
use crate::{Error, Reference, Result, files};
use oci::{
    Compression, Descriptor, DiffId, Digest, Digester, History, ImageConfig, Manifest, ManifestOrIndex, Raw,
    media_type,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes of `manifest.json` and `repositories`.
const MAX_TABLE: u64 = 16 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An archive that is read.
#[derive(Debug, Clone)]
pub struct DockerArchive {
    archive: Arc<TarFile>,
    items: Vec<Item>,
    /// The older form: `items` have an ID for a config and no layers.
    old: bool,
}

impl DockerArchive {
    /// Reads the table of images.
    pub fn open(archive: &Arc<TarFile>) -> Result<Self> {
        if let Some(bytes) = archive.read_member("manifest.json", MAX_TABLE)? {
            let items: Vec<Item> = serde_json::from_slice(&bytes)
                .map_err(|error| archive.invalid(format!("manifest.json: {error}")))?;
            return Ok(Self { archive: archive.clone(), items, old: false });
        }
        let Some(bytes) = archive.read_member("repositories", MAX_TABLE)? else {
            return Err(archive.invalid("not a docker archive: manifest.json is missing"));
        };
        let names: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&bytes)
            .map_err(|error| archive.invalid(format!("repositories: {error}")))?;
        let mut by_id: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, tags) in names {
            for (tag, id) in tags {
                by_id.entry(id).or_default().push(format!("{name}:{tag}"));
            }
        }
        let item = |(config, tags)| Item { config, repo_tags: Some(tags), layers: Vec::new() };
        Ok(Self { archive: archive.clone(), items: by_id.into_iter().map(item).collect(), old: true })
    }

    /// The images.
    pub fn images(&self) -> Vec<ArchivedImage> {
        let items = self.items.iter().enumerate();
        items
            .map(|(position, item)| ArchivedImage {
                position,
                names: item.repo_tags.clone().unwrap_or_default(),
            })
            .collect()
    }

    /// One image as a source. Compressed layers are hashed here, which takes a pass over them.
    pub fn source(&self, selector: &Selector) -> Result<DockerArchiveSource> {
        let missing = |what: String| Error::NotFound { what, place: self.archive.name().to_owned() };
        let item = match selector {
            Selector::Position(at) => {
                self.items.get(*at).ok_or_else(|| missing(format!("image number {at}")))?
            }
            Selector::Name(name) => {
                let wanted = Reference::parse_docker(name)?.with_default_tag();
                let has = |tag: &String| {
                    tag == name
                        || Reference::parse_docker(tag).is_ok_and(|tag| tag.with_default_tag() == wanted)
                };
                let found = self.items.iter().find(|item| item.repo_tags.iter().flatten().any(has));
                found.ok_or_else(|| missing(format!("image {name}")))?
            }
            Selector::Only => match self.items.as_slice() {
                [one] => one,
                [] => return Err(missing("any image".into())),
                many => {
                    let message = format!("it has {} images: say which", many.len());
                    return Err(self.archive.invalid(message));
                }
            },
        };
        if self.old { self.old_source(item) } else { self.new_source(item) }
    }

    fn new_source(&self, item: &Item) -> Result<DockerArchiveSource> {
        let archive = &self.archive;
        let bytes = archive
            .read_member(&item.config, oci::MAX_CONFIG_BYTES)?
            .ok_or_else(|| archive.invalid(format!("the config {:?} is missing", item.config)))?;
        let config: Raw<ImageConfig> = Raw::parse(bytes, Some(media_type::OCI_CONFIG))
            .map_err(Error::document(format!("config of {}", archive.name())))?;
        let diff_ids = config.value().diff_ids();
        if diff_ids.len() != item.layers.len() {
            return Err(archive.invalid(format!(
                "the config has {} layers, the archive {}",
                diff_ids.len(),
                item.layers.len()
            )));
        }
        let mut layers = Vec::new();
        let mut members = HashMap::new();
        for (name, diff_id) in item.layers.iter().zip(diff_ids) {
            let descriptor = self.describe_layer(name, Some(diff_id))?;
            members.insert(descriptor.digest.clone(), name.clone());
            layers.push(descriptor);
        }
        self.assemble(config, layers, members)
    }

    /// A layer's descriptor. A plain layer's digest is its diffID, which whoever stores it checks.
    fn describe_layer(&self, name: &str, diff_id: Option<&DiffId>) -> Result<Descriptor> {
        let archive = &self.archive;
        let missing = || archive.invalid(format!("the layer {name:?} is missing"));
        let size = archive.size(name).ok_or_else(missing)?;
        let mut reader = archive.open_member(name, 0).ok_or_else(missing)?;
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic).map_err(archive.failed())?;
        let compression = Compression::from_magic(&magic);
        let digest = match (compression, diff_id) {
            (Compression::None, Some(diff_id)) => diff_id.0.clone(),
            _ => {
                let mut digester = Digester::new();
                digester.update(&magic);
                std::io::copy(&mut reader, &mut digester).map_err(archive.failed())?;
                digester.finish()
            }
        };
        Ok(Descriptor::new(compression.oci_layer(), digest, size))
    }

    fn assemble(
        &self,
        config: Raw<ImageConfig>,
        layers: Vec<Descriptor>,
        members: HashMap<Digest, String>,
    ) -> Result<DockerArchiveSource> {
        let manifest = Raw::from_value(Manifest::new(config.descriptor(), layers))
            .map_err(Error::document(format!("manifest for {}", self.archive.name())))?;
        Ok(DockerArchiveSource { archive: self.archive.clone(), config, manifest: manifest.into(), members })
    }

    /// Makes a config of the chain of `ID/json` files.
    fn old_source(&self, item: &Item) -> Result<DockerArchiveSource> {
        #[derive(Deserialize)]
        struct Link {
            parent: Option<String>,
            created: Option<String>,
            author: Option<String>,
            comment: Option<String>,
            container_config: Option<Command>,
        }
        #[derive(Deserialize)]
        struct Command {
            #[serde(rename = "Cmd")]
            cmd: Option<Vec<String>>,
        }
        let archive = &self.archive;
        let mut chain = Vec::new();
        let mut next = Some(item.config.clone());
        let mut top = None;
        while let Some(id) = next.take().filter(|id| !id.is_empty()) {
            if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(archive.invalid(format!("{id:?} is no layer ID")));
            }
            if chain.len() >= oci::MAX_LAYERS {
                return Err(archive.invalid("the chain of layers is too long"));
            }
            let name = format!("{id}/json");
            let bytes = archive
                .read_member(&name, oci::MAX_CONFIG_BYTES)?
                .ok_or_else(|| archive.invalid(format!("{name} is missing")))?;
            let link: Link = serde_json::from_slice(&bytes)
                .map_err(|error| archive.invalid(format!("{name}: {error}")))?;
            next.clone_from(&link.parent);
            top.get_or_insert(bytes);
            chain.push((id, link));
        }
        chain.reverse();
        let mut config: ImageConfig = serde_json::from_slice(&top.unwrap_or_default())
            .map_err(|error| archive.invalid(format!("the image's json: {error}")))?;
        for key in
            ["id", "parent", "parent_id", "layer_id", "throwaway", "Size", "container", "container_config"]
        {
            config.unknown.remove(key);
        }
        let mut layers = Vec::new();
        let mut members = HashMap::new();
        for (id, link) in chain {
            let name = format!("{id}/layer.tar");
            let descriptor = self.describe_layer(&name, None)?;
            if descriptor.media_type != media_type::OCI_LAYER {
                return Err(archive.invalid(format!("{name} is compressed, which this form does not have")));
            }
            config.rootfs.diff_ids.push(DiffId(descriptor.digest.clone()));
            config.history.push(History {
                created: link.created,
                created_by: link.container_config.and_then(|command| command.cmd).map(|cmd| cmd.join(" ")),
                author: link.author,
                comment: link.comment,
                empty_layer: false,
            });
            members.insert(descriptor.digest.clone(), name);
            layers.push(descriptor);
        }
        let config = Raw::from_value(config).map_err(Error::document("config"))?;
        self.assemble(config, layers, members)
    }
}

/// An image of a Docker archive.
#[derive(Debug, Clone)]
pub struct DockerArchiveSource {
    archive: Arc<TarFile>,
    config: Raw<ImageConfig>,
    manifest: Raw<ManifestOrIndex>,
    members: HashMap<Digest, String>,
}

impl Source for DockerArchiveSource {
    fn describe(&self) -> String {
        self.archive.name().to_owned()
    }

    fn origin(&self) -> Origin {
        Origin::unscoped("docker-archive")
    }

    fn manifest(&self, which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        match which {
            Which::Root => Ok(self.manifest.clone()),
            Which::Entry(_) => Err(Error::Unsupported("a docker archive has no index")),
        }
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        if descriptor.digest == *self.config.digest() {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.config.bytes().len());
            return Ok(Box::new(&self.config.bytes()[offset..]));
        }
        let missing =
            || Error::NotFound { what: format!("blob {}", descriptor.digest), place: self.describe() };
        let name = self.members.get(&descriptor.digest).ok_or_else(missing)?;
        Ok(Box::new(self.archive.open_member(name, offset).ok_or_else(missing)?))
    }
}

/// Writes images into one archive, as a stream. Layers are written plain and named by diffID; those that come
/// compressed pass through a nameless file in `scratch`, because tar wants the size first.
pub struct DockerArchiveWriter<W: Write + Send> {
    state: Mutex<State<W>>,
    place: String,
    scratch: PathBuf,
}

struct State<W: Write> {
    builder: tar::Builder<W>,
    /// Member names that are written.
    written: HashSet<String>,
    /// Blob to diffID, for layers.
    layers: HashMap<Digest, Digest>,
    items: Vec<Item>,
}

impl<W: Write + Send> std::fmt::Debug for DockerArchiveWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerArchiveWriter").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<W: Write + Send> DockerArchiveWriter<W> {
    /// Begins an archive; `place` is for messages.
    pub fn new(sink: W, place: impl Into<String>, scratch: impl Into<PathBuf>) -> Self {
        let state = State {
            builder: tar::Builder::new(sink),
            written: HashSet::new(),
            layers: HashMap::new(),
            items: Vec::new(),
        };
        Self { state: Mutex::new(state), place: place.into(), scratch: scratch.into() }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The destination of one image with these names.
    pub fn destination(&self, names: &[Reference]) -> DockerArchiveDestination<'_, W> {
        let names = names.iter().filter(|name| name.tag().is_some()).map(ToString::to_string).collect();
        DockerArchiveDestination { writer: self, names }
    }

    /// Writes the table of images and ends the archive. Without this call it is not valid.
    pub fn finish(self) -> Result<W> {
        let State { mut builder, items, .. } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let table = serde_json::to_vec(&items)
            .map_err(|error| Error::Archive { path: self.place.clone(), message: error.to_string() })?;
        append(&mut builder, "manifest.json", table.len() as u64, table.as_slice())?;
        let mut sink = builder.into_inner().map_err(Error::stream(format!("write {}", self.place)))?;
        sink.flush().map_err(Error::stream(format!("write {}", self.place)))?;
        Ok(sink)
    }
}

/// One image of a [`DockerArchiveWriter`].
#[derive(Debug)]
pub struct DockerArchiveDestination<'a, W: Write + Send> {
    writer: &'a DockerArchiveWriter<W>,
    names: Vec<String>,
}

impl<W: Write + Send> Destination for DockerArchiveDestination<'_, W> {
    fn describe(&self) -> String {
        self.writer.place.clone()
    }

    fn has_blob(&self, descriptor: &Descriptor) -> Result<bool> {
        let state = self.writer.lock();
        Ok(state.layers.contains_key(&descriptor.digest)
            || state.written.contains(&format!("{}.json", descriptor.digest.hex())))
    }

    fn put_blob(&self, blob: &Blob<'_>) -> Result<()> {
        let descriptor = blob.descriptor();
        let mut reader = blob.verified()?;
        if blob.role() == BlobRole::Config {
            let name = format!("{}.json", descriptor.digest.hex());
            let mut state = self.writer.lock();
            append(&mut state.builder, &name, descriptor.size, reader)?;
            state.written.insert(name);
            return Ok(());
        }
        let failed = || Error::stream(format!("read layer {}", descriptor.digest));
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic).map_err(failed())?;
        let compression = Compression::from_magic(&magic);
        let mut whole = magic.chain_with(reader);
        if compression == Compression::None {
            let name = format!("{}.tar", descriptor.digest.hex());
            let mut state = self.writer.lock();
            if state.written.insert(name.clone()) {
                append(&mut state.builder, &name, descriptor.size, whole)?;
            }
            state.layers.insert(descriptor.digest.clone(), descriptor.digest.clone());
            return Ok(());
        }
        let mut spool = files::unnamed(&self.writer.scratch)?;
        let mut hashing = Hashing { inner: &mut spool, digester: Digester::new(), size: 0 };
        match compression {
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(&mut whole).map_err(failed())?;
                std::io::copy(&mut decoder, &mut hashing).map_err(failed())?;
            }
            _ => {
                let mut decoder = flate2::read::MultiGzDecoder::new(&mut whole);
                std::io::copy(&mut decoder, &mut hashing).map_err(failed())?;
            }
        }
        // what stands after the compressed data belongs to the digest too
        let Hashing { digester, size, .. } = hashing;
        std::io::copy(&mut whole, &mut std::io::sink()).map_err(failed())?;
        let diff_id = digester.finish();
        spool.seek(SeekFrom::Start(0)).map_err(Error::stream("rewind the spool"))?;
        let name = format!("{}.tar", diff_id.hex());
        let mut state = self.writer.lock();
        if state.written.insert(name.clone()) {
            append(&mut state.builder, &name, size, spool)?;
        }
        state.layers.insert(descriptor.digest.clone(), diff_id);
        Ok(())
    }

    fn put_manifest(&self, raw: &Raw<ManifestOrIndex>, _placement: Placement) -> Result<()> {
        let ManifestOrIndex::Manifest(manifest) = raw.value() else {
            return Err(Error::Unsupported("a docker archive cannot hold an index"));
        };
        let mut state = self.writer.lock();
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            let diff_id = state.layers.get(&layer.digest).ok_or_else(|| Error::NotFound {
                what: format!("layer {}", layer.digest),
                place: self.writer.place.clone(),
            })?;
            layers.push(format!("{}.tar", diff_id.hex()));
        }
        let config = format!("{}.json", manifest.config.digest.hex());
        if let Some(item) = state.items.iter_mut().find(|item| item.config == config) {
            item.repo_tags.get_or_insert_default().extend(self.names.iter().cloned());
        } else {
            state.items.push(Item { config, repo_tags: Some(self.names.clone()), layers });
        }
        Ok(())
    }
}

trait ChainWith<R> {
    fn chain_with(self, rest: R) -> std::io::Chain<std::io::Cursor<Vec<u8>>, R>;
}

impl<R: Read> ChainWith<R> for Vec<u8> {
    fn chain_with(self, rest: R) -> std::io::Chain<std::io::Cursor<Vec<u8>>, R> {
        std::io::Cursor::new(self).chain(rest)
    }
}

struct Hashing<'a> {
    inner: &'a mut std::fs::File,
    digester: Digester,
    size: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
