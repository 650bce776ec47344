//! The local store as a registry: what `davit registry serve` answers from.
//!
//! Manifests that were made for an image are its own from then on; layers that were built here are compressed once. What is
//! pushed lies in the store under the lease of the server until its manifest makes an image or a list of it.

mod names;
mod receive;

use crate::images::Outgoing;
use crate::{Engine, Error, Result};
use oci::{Compression, Descriptor, Digest, MAX_MANIFEST_BYTES, ManifestOrIndex, Raw};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::{Hold, Lease, NewBlob, Store};

/// Most uploads that may be open at a time.
const MAX_UPLOADS: usize = 1024;

/// The store, offered to clients of registries.
#[derive(Debug)]
pub struct Share {
    engine: Engine,
    lease: Lease,
    uploads: Mutex<HashMap<String, Arc<Mutex<Upload>>>>,
    /// Indexes and manifests that are made when they are asked for, by digest.
    made: Mutex<BTreeMap<Digest, Raw<ManifestOrIndex>>>,
}

/// A manifest or an index on its way out.
#[derive(Debug, Clone)]
pub struct SharedManifest {
    /// Its digest, `sha256:HEX`.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The very bytes.
    pub bytes: Vec<u8>,
}

/// A blob on its way out.
#[derive(Debug)]
pub struct SharedBlob {
    /// The file, at its beginning.
    pub file: File,
    /// Bytes.
    pub size: u64,
}

/// What a client sends piece by piece.
#[derive(Debug)]
struct Upload {
    blob: NewBlob,
    size: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest_of(text: &str) -> Result<Digest> {
    text.parse().map_err(|error: oci::Error| Error::invalid(format!("digest {text}"), error.to_string()))
}

fn missing(what: &'static str, name: &str) -> Error {
    Error::NotFound { what, name: name.to_owned() }
}

impl Engine {
    /// Offers the store.
    pub fn share(&self) -> Result<Share> {
        let lease =
            self.store()?.lease("serve the store").map_err(crate::error::storage("serve the store"))?;
        Ok(Share { engine: self.clone(), lease, uploads: Mutex::default(), made: Mutex::default() })
    }
}

impl Share {
    fn store(&self) -> Result<&Store> {
        self.engine.store()
    }

    /// The repositories, sorted.
    pub fn repositories(&self) -> Result<Vec<String>> {
        let mut found = BTreeSet::new();
        for name in self.all_names()? {
            found.insert(names::repository_of(&name));
        }
        Ok(found.into_iter().collect())
    }

    fn all_names(&self) -> Result<Vec<registry::Reference>> {
        let failed = || crate::error::storage("list names");
        let tags = self.store()?.images().tags().map_err(failed())?;
        let artifacts = self.store()?.artifacts().all().map_err(failed())?;
        let names = tags.into_iter().map(|tag| tag.reference);
        let names = names.chain(artifacts.into_iter().map(|artifact| artifact.reference));
        Ok(names.filter_map(|name| registry::Reference::parse(&name).ok()).collect())
    }

    /// The tags of a repository, sorted; `None` where there is no such repository.
    pub fn tags(&self, repository: &str) -> Result<Option<Vec<String>>> {
        let all = self.all_names()?;
        for candidate in names::candidates(repository) {
            let tags: BTreeSet<String> = all
                .iter()
                .filter(|name| name.name() == candidate)
                .filter_map(|name| name.tag().map(str::to_owned))
                .collect();
            if !tags.is_empty() {
                return Ok(Some(tags.into_iter().collect()));
            }
        }
        Ok(None)
    }

    /// A manifest or an index, by tag or digest; `None` where there is none. Layers that were never compressed are now.
    pub fn manifest(&self, repository: &str, target: &str) -> Result<Option<SharedManifest>> {
        if target.contains(':') {
            return Ok(self.manifest_by_digest(&digest_of(target)?)?.map(|raw| shared(&raw)));
        }
        if let Some(artifact) = self.artifact(repository, target)? {
            return Ok(self.manifest_by_digest(&artifact.manifest.digest)?.map(|raw| shared(&raw)));
        }
        let Some(name) = self.name_of(repository, target)? else { return Ok(None) };
        let source = self.outgoing(&name)?;
        let raw = source.root().clone();
        let mut made = lock(&self.made);
        if let Outgoing::List(_) = &source {
            // its entries' manifests lie in the store, it itself may not
            made.insert(raw.digest().clone(), raw.clone());
        }
        Ok(Some(shared(&raw)))
    }

    fn outgoing(&self, name: &str) -> Result<Outgoing> {
        self.engine.images().outgoing(name, &self.lease, Compression::Gzip)
    }

    /// The recorded name that a repository and a tag stand for.
    fn name_of(&self, repository: &str, tag: &str) -> Result<Option<String>> {
        let images = self.store()?.images();
        for reference in names::references(repository, tag) {
            let name = reference.to_string();
            if images.tag_record(&name).map_err(crate::error::storage("look up a name"))?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// What is no image and has this tag.
    fn artifact(&self, repository: &str, tag: &str) -> Result<Option<storage::ArtifactRecord>> {
        for reference in names::references(repository, tag) {
            let found = self.store()?.artifacts().get(&reference.to_string());
            if let Some(found) = found.map_err(crate::error::storage("look up a name"))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn manifest_by_digest(&self, digest: &Digest) -> Result<Option<Raw<ManifestOrIndex>>> {
        if let Some(raw) = lock(&self.made).get(digest) {
            return Ok(Some(raw.clone()));
        }
        let content = self.store()?.content();
        let failed = || crate::error::storage(format!("read {digest}"));
        match content.size(digest).map_err(failed())? {
            Some(size) if size <= MAX_MANIFEST_BYTES => {}
            _ => return Ok(None),
        }
        let bytes = content.read_verified(digest, MAX_MANIFEST_BYTES).map_err(failed())?;
        // a config or a small layer is none
        Ok(Raw::parse_verified(bytes, None, digest).ok())
    }

    /// A blob; `None` where there is none.
    pub fn blob(&self, digest: &str) -> Result<Option<SharedBlob>> {
        let digest = digest_of(digest)?;
        let content = self.store()?.content();
        let failed = || crate::error::storage(format!("open {digest}"));
        let Some(size) = content.size(&digest).map_err(failed())? else { return Ok(None) };
        Ok(Some(SharedBlob { file: content.open(&digest).map_err(failed())?, size }))
    }

    /// Whether a blob is here, which is then kept for a manifest that is to come.
    pub fn keep(&self, digest: &str) -> Result<bool> {
        let digest = digest_of(digest)?;
        self.lease.hold(Hold::Blob(digest)).map_err(crate::error::storage("look for a blob"))
    }

    /// Begins an upload; gives its ID.
    pub fn begin_upload(&self) -> Result<String> {
        let id = crate::state::names::random_id()?;
        let blob =
            self.store()?.content().create(&self.lease).map_err(crate::error::storage("begin an upload"))?;
        let mut uploads = lock(&self.uploads);
        if uploads.len() >= MAX_UPLOADS {
            return Err(Error::invalid("upload", "too many are open: finish or cancel some"));
        }
        uploads.insert(id.clone(), Arc::new(Mutex::new(Upload { blob, size: 0 })));
        Ok(id)
    }

    fn upload(&self, id: &str) -> Result<Arc<Mutex<Upload>>> {
        lock(&self.uploads).get(id).cloned().ok_or_else(|| missing("upload", id))
    }

    /// Bytes that an upload has.
    pub fn upload_size(&self, id: &str) -> Result<u64> {
        Ok(lock(&*self.upload(id)?).size)
    }

    /// Adds to an upload what a client sends; gives the bytes that it has then. What came before a failure stays.
    pub fn append(&self, id: &str, input: &mut dyn Read) -> Result<u64> {
        let upload = self.upload(id)?;
        let mut upload = lock(&upload);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => return Ok(upload.size),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::os("receive a blob", error)),
            };
            std::io::Write::write_all(&mut upload.blob, &buffer[..read])
                .map_err(|error| Error::os("write a blob", error))?;
            upload.size += read as u64;
        }
    }

    /// Ends an upload: the blob is in the store, if its digest is this one.
    pub fn finish_upload(&self, id: &str, digest: &str) -> Result<()> {
        let digest = digest_of(digest)?;
        if digest.algorithm() != oci::Algorithm::Sha256 {
            return Err(Error::unsupported(format!("digest {digest}"), "pushed blobs are named by sha256"));
        }
        let upload = lock(&self.uploads).remove(id).ok_or_else(|| missing("upload", id))?;
        let upload = Arc::try_unwrap(upload)
            .map_err(|_| Error::invalid("upload", "a request still adds to it"))?
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let found = upload.blob.finish_as(&digest).map_err(crate::error::storage("keep a blob"))?;
        if found != digest {
            return Err(Error::invalid(format!("digest {digest}"), format!("the content has {found}")));
        }
        Ok(())
    }

    /// Gives an upload up.
    pub fn cancel_upload(&self, id: &str) -> Result<()> {
        lock(&self.uploads).remove(id).map(drop).ok_or_else(|| missing("upload", id))
    }

    /// Takes a name away, or with a digest all names of the repository that have this manifest.
    pub fn delete_manifest(&self, repository: &str, target: &str) -> Result<()> {
        let images = self.store()?.images();
        let mut gone = Vec::new();
        if target.contains(':') {
            for tag in self.tags(repository)?.unwrap_or_default() {
                if let Some(found) = self.manifest(repository, &tag)?
                    && found.digest == target
                {
                    gone.extend(self.name_of(repository, &tag)?);
                }
            }
        } else if let Some(artifact) = self.artifact(repository, target)? {
            let removed = self.store()?.artifacts().remove(&artifact.reference);
            return removed.map(drop).map_err(crate::error::storage("remove an artifact"));
        } else {
            gone.extend(self.name_of(repository, target)?);
        }
        if gone.is_empty() {
            return Err(missing("manifest", target));
        }
        for name in gone {
            images.untag(&name).map_err(crate::error::storage(format!("remove the name {name}")))?;
            self.engine.tell(crate::events::Event::image("untag", "", &name));
        }
        Ok(())
    }

    /// The manifests of a repository that name another one as their subject.
    pub fn referrers(&self, repository: &str, subject: &str) -> Result<Vec<Descriptor>> {
        let subject = digest_of(subject)?;
        let mut found: Vec<Descriptor> = Vec::new();
        let mut look = |root: &Raw<ManifestOrIndex>| {
            let Some(manifest) = root.value().manifest() else { return };
            let is_referrer = manifest.subject.as_ref().is_some_and(|named| named.digest == subject);
            if is_referrer && !found.iter().any(|known| known.digest == *root.digest()) {
                let mut descriptor = root.descriptor();
                // what an artifact does not say of itself, its config does
                let kind = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
                descriptor.artifact_type = Some(kind.clone());
                descriptor.annotations = manifest.annotations.clone();
                found.push(descriptor);
            }
        };
        let candidates = names::candidates(repository);
        let artifacts = self.store()?.artifacts().all().map_err(crate::error::storage("list artifacts"))?;
        for artifact in artifacts {
            let name = registry::Reference::parse(&artifact.reference).map(|name| name.name());
            if name.is_ok_and(|name| candidates.contains(&name))
                && let Some(raw) = self.manifest_by_digest(&artifact.manifest.digest)?
            {
                look(&raw);
            }
        }
        for tag in self.tags(repository)?.unwrap_or_default() {
            if let Some(name) = self.name_of(repository, &tag)? {
                look(self.outgoing(&name)?.root());
            }
        }
        Ok(found)
    }
}

fn shared(raw: &Raw<ManifestOrIndex>) -> SharedManifest {
    SharedManifest {
        digest: raw.digest().to_string(),
        media_type: raw.media_type().to_owned(),
        bytes: raw.bytes().to_vec(),
    }
}
