//! Blobs by digest, compressed as they came.
//!
//! A blob of known digest is received in `ingest/partial/ALGORITHM-HEX`, which its writer keeps locked; killed, it
//! leaves the file to the next writer of the same digest, which reads it once for the digest and goes on. A second
//! writer at the same time gets a file in its lease's directory instead.

use crate::error::{Error, Failures, Result};
use crate::leases::{Hold, Inner, Lease};
use crate::store::{Store, random_name};
use oci::{Digest, Digester};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use sys::writeback::Writeback;

/// The blobs of a store.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    pub(crate) store: &'a Store,
}

/// How long an unfinished blob waits for somebody who resumes it.
const PARTIAL_LIFE: Duration = Duration::from_secs(24 * 3600);

impl Content<'_> {
    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        Ok(sys::fs::exists(&self.path(digest))?)
    }

    /// Size of the blob in bytes, if it is there.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(sys::fs::optional(sys::fs::metadata(&self.path(digest)))?.map(|metadata| metadata.len()))
    }

    /// Where the blob lies, or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Opens a blob for reading.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        sys::fs::optional(sys::fs::open(&self.path(digest)))?
            .ok_or_else(|| Error::BlobNotFound { digest: digest.clone() })
    }

    /// Reads a blob of at most `max` bytes.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let mut file = self.open(digest)?;
        let failed = |source| sys::fs::Error::new("read", self.path(digest), source);
        let size = file.metadata().map_err(failed)?.len();
        if size > max {
            return Err(Error::BlobTooLarge { digest: digest.clone(), size, limit: max });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// As [`Content::read`], and verifies the digest.
    pub fn read_verified(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let bytes = self.read(digest, max)?;
        let mut digester = Digester::for_digest(digest);
        digester.update(&bytes);
        let actual = digester.finish();
        if actual == *digest {
            Ok(bytes)
        } else {
            Err(Error::DigestMismatch { digest: digest.clone(), actual })
        }
    }

    /// Stores bytes and holds them by the lease.
    pub fn put(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.size(&digest)? == Some(length) && lease.hold(Hold::Blob(digest.clone()))? {
            return Ok(digest);
        }
        let mut blob = self.create(lease)?;
        let path = blob.path.clone();
        blob.write_all(bytes).map_err(|source| sys::fs::Error::new("write", path, source))?;
        Ok(blob.finish()?.0)
    }

    /// As [`Content::writer`], unless the blob is there already, or another process receives it and ends meanwhile: each blob
    /// comes once. What a process left that was killed is gone on with; one that gets nothing more for a while is not
    /// waited for.
    pub fn claim(&self, lease: &Lease, digest: &Digest, size: Option<u64>) -> Result<Claim> {
        let shared = self.partial(digest);
        let mut patience = Patience::default();
        loop {
            if lease.hold(Hold::Blob(digest.clone()))? {
                return Ok(Claim::Present);
            }
            let Some(file) = lock_partial(&shared)? else {
                if patience.wait(&shared)? {
                    continue;
                }
                return self.writer(lease, digest, size).map(|writer| Claim::Writer(Box::new(writer)));
            };
            // it may have come between the look and the lock
            if lease.hold(Hold::Blob(digest.clone()))? {
                sys::fs::remove_file_if_exists(&shared)?;
                return Ok(Claim::Present);
            }
            let writer = self.begin(lease, digest, size, shared, file)?;
            return Ok(Claim::Writer(Box::new(writer)));
        }
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        self.store.path("ingest/partial").join(name)
    }

    /// Begins or resumes receiving a blob whose digest is known. A blob that is already there is not looked for here:
    /// ask `lease.hold(Hold::Blob(..))` first.
    pub fn writer(&self, lease: &Lease, digest: &Digest, size: Option<u64>) -> Result<BlobWriter> {
        let shared = self.partial(digest);
        let (path, file) = match lock_partial(&shared)? {
            Some(file) => (shared, file),
            None => {
                let path = lease.directory()?.join(random_name()?);
                let file = sys::fs::create_new(&path, 0o600)?;
                (path, file)
            }
        };
        self.begin(lease, digest, size, path, file)
    }

    fn begin(
        &self,
        lease: &Lease,
        digest: &Digest,
        size: Option<u64>,
        path: PathBuf,
        file: File,
    ) -> Result<BlobWriter> {
        let mut writer = BlobWriter {
            lease: Arc::clone(lease.inner()),
            digester: Digester::for_digest(digest),
            digest: digest.clone(),
            path,
            file,
            size,
            offset: 0,
            writeback: Writeback::new(),
        };
        writer.resume()?;
        Ok(writer)
    }

    /// Begins a blob whose digest is known only at its end.
    pub fn create(&self, lease: &Lease) -> Result<NewBlob> {
        let path = lease.directory()?.join(random_name()?);
        let file = sys::fs::create_new(&path, 0o600)?;
        let lease = Arc::clone(lease.inner());
        Ok(NewBlob {
            lease,
            digester: Digester::new(),
            path,
            file,
            size: 0,
            writeback: Writeback::new(),
            finished: false,
        })
    }

    /// Removes a blob, whoever needs it; says whether it was there.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        Ok(sys::fs::remove_file_if_exists(&self.path(digest))?)
    }

    /// All blobs with their sizes in bytes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let directory = self.directory(algorithm);
            for name in sys::fs::read_names(&directory)? {
                let Some(name) = name.to_str() else { continue };
                let Ok(digest) = format!("{algorithm}:{name}").parse::<Digest>() else { continue };
                if let Some(metadata) = sys::fs::optional(sys::fs::symlink_metadata(&directory.join(name)))? {
                    blobs.push((digest, metadata.len()));
                }
            }
        }
        Ok(blobs)
    }

    fn directory(&self, algorithm: &str) -> PathBuf {
        let mut path = self.store.path("blobs");
        path.push(algorithm);
        path
    }
}

/// What [`Content::claim`] found.
#[derive(Debug)]
pub enum Claim {
    /// It is to be received.
    Writer(Box<BlobWriter>),
    /// It is there, and held by the lease.
    Present,
}

/// Waiting for another process, as long as that gets on.
#[derive(Debug, Default)]
struct Patience {
    length: u64,
    since: Option<std::time::Instant>,
    waited: u32,
}

impl Patience {
    /// Waits a moment; `false` where nothing was added to the file for too long.
    fn wait(&mut self, file: &Path) -> Result<bool> {
        const LONGEST: Duration = Duration::from_secs(30);
        let length = sys::fs::optional(sys::fs::symlink_metadata(file))?.map_or(0, |found| found.len());
        let now = std::time::Instant::now();
        if length != self.length || self.since.is_none() {
            (self.length, self.since) = (length, Some(now));
        }
        if self.since.is_some_and(|since| now.duration_since(since) > LONGEST) {
            return Ok(false);
        }
        // a lock tells nobody when it is given up to whom also something else may happen
        self.waited = (self.waited + 1).min(10);
        std::thread::sleep(Duration::from_millis(u64::from(self.waited) * 5));
        Ok(true)
    }
}

/// Opens and locks a partial blob, `None` while another writer has it.
fn lock_partial(path: &Path) -> Result<Option<File>> {
    loop {
        let file = sys::fs::open_or_create(path, 0o600)?;
        let Ok(lock) = sys::lock::try_lock_file(file) else { return Ok(None) };
        // The last writer may have finished it, and so renamed it away, before we had the lock.
        if lock.is_at(path)? {
            return Ok(Some(lock.into_file()));
        }
    }
}

/// Removes unfinished blobs that nobody has come back to.
pub(crate) fn reap_partial(store: &Store) -> Result<()> {
    remove_partial(store, PARTIAL_LIFE).map(|_| ())
}

/// Removes unfinished blobs that nobody is writing and that were last written longer ago than `age`; returns their
/// number and size in bytes.
pub(crate) fn remove_partial(store: &Store, age: Duration) -> Result<(u64, u64)> {
    let directory = store.path("ingest/partial");
    let mut failures = Failures::default();
    let (mut count, mut bytes) = (0, 0);
    for name in sys::fs::read_names(&directory)? {
        let path = directory.join(name);
        let Some(metadata) = sys::fs::optional(sys::fs::symlink_metadata(&path))? else { continue };
        let idle = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
        if idle < age {
            continue;
        }
        let Some(file) = sys::fs::optional(sys::fs::open(&path))? else { continue };
        let Ok(lock) = sys::lock::try_lock_file(file) else { continue };
        if lock.is_at(&path)? && failures.note(sys::fs::remove_file(&path).map_err(Error::from)).is_some() {
            count += 1;
            bytes += metadata.len();
        }
    }
    failures.into_result().map(|()| (count, bytes))
}

/// Receives a blob of known digest. What was written survives the writer, also a killed one, and is resumed by the
/// next writer of the same digest.
#[derive(Debug)]
pub struct BlobWriter {
    lease: Arc<Inner>,
    digester: Digester,
    digest: Digest,
    path: PathBuf,
    // Locked where it is the partial blob that others may resume.
    file: File,
    size: Option<u64>,
    offset: u64,
    writeback: Writeback,
}

impl BlobWriter {
    /// How many bytes are already there: the next byte to be written is the one at this offset.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes that are already there, from the first on, for whoever unpacks while receiving.
    pub fn received(&self) -> Result<impl Read + use<>> {
        Ok(sys::fs::open(&self.path)?.take(self.offset))
    }

    /// Forgets what is there and begins at offset 0, as when a server does not serve ranges.
    pub fn restart(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|source| self.failed(source))?;
        self.digester = Digester::for_digest(&self.digest);
        self.offset = 0;
        self.writeback = Writeback::new();
        Ok(())
    }

    /// Verifies size and digest and makes the blob visible, held by the lease; returns its size in bytes. A short blob
    /// stays for a later writer; a wrong one is removed.
    pub fn finish(self) -> Result<u64> {
        let Self { lease, digester, digest, path, file, size, offset, writeback } = self;
        if let Some(expected) = size
            && expected != offset
        {
            if offset > expected {
                sys::fs::remove_file_if_exists(&path)?;
            }
            return Err(Error::SizeMismatch { digest, expected, actual: offset });
        }
        let actual = digester.finish();
        if actual != digest {
            sys::fs::remove_file_if_exists(&path)?;
            return Err(Error::DigestMismatch { digest, actual });
        }
        writeback.finish(&file);
        publish(&lease, &path, digest)?;
        drop(file);
        Ok(offset)
    }

    /// Reads what an earlier writer left, for the digest and the offset.
    fn resume(&mut self) -> Result<()> {
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    self.digester.update(&buffer[..length]);
                    let read = u64::try_from(length).unwrap_or(0);
                    self.offset += read;
                    self.writeback.advance(&self.file, read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        if self.size.is_some_and(|size| self.offset > size) {
            self.restart()?;
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        sys::fs::Error::new("receive", &self.path, source).into()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.digester.update(&bytes[..length]);
        let written = u64::try_from(length).unwrap_or(0);
        self.offset += written;
        self.writeback.advance(&self.file, written);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives a blob whose digest is computed meanwhile. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct NewBlob {
    lease: Arc<Inner>,
    digester: Digester,
    path: PathBuf,
    file: File,
    size: u64,
    writeback: Writeback,
    finished: bool,
}

impl NewBlob {
    /// Makes the blob visible, held by the lease; returns its digest and its size in bytes.
    pub fn finish(mut self) -> Result<(Digest, u64)> {
        let digest = std::mem::replace(&mut self.digester, Digester::new()).finish();
        std::mem::take(&mut self.writeback).finish(&self.file);
        publish(&self.lease, &self.path, digest.clone())?;
        self.finished = true;
        Ok((digest, self.size))
    }
}

impl NewBlob {
    /// As [`NewBlob::finish`], where the content has this digest; else nothing is kept. Returns the digest that it has.
    pub fn finish_as(mut self, expected: &Digest) -> Result<Digest> {
        let found = std::mem::replace(&mut self.digester, Digester::new()).finish();
        if found == *expected {
            std::mem::take(&mut self.writeback).finish(&self.file);
            publish(&self.lease, &self.path, found.clone())?;
            self.finished = true;
        }
        Ok(found)
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.file.write(bytes)?;
        self.digester.update(&bytes[..length]);
        let written = u64::try_from(length).unwrap_or(0);
        self.size += written;
        self.writeback.advance(&self.file, written);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.finished {
            let _ = sys::fs::remove_file_if_exists(&self.path);
        }
    }
}

/// Gives a verified file its final name. An older file of that name is replaced: it may be damaged, and its readers
/// keep it.
fn publish(lease: &Inner, path: &Path, digest: Digest) -> Result<()> {
    let store = lease.store();
    let target = store.content().path(&digest);
    let _lock = store.lock_shared()?;
    lease.note(Hold::Blob(digest))?;
    Ok(sys::fs::rename(path, &target)?)
}
