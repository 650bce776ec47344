//! Blobs by digest.

use crate::error::Result;
use crate::leases::Lease;
use crate::store::Store;
use oci::Digest;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// The blobs of a store.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    pub(crate) store: &'a Store,
}

impl Content<'_> {
    /// Whether the blob is there.
    pub fn has(&self, digest: &Digest) -> Result<bool> {
        let _ = digest;
        todo!()
    }

    /// Size of the blob in bytes, if it is there.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let _ = digest;
        todo!()
    }

    /// Where the blob lies, or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let _ = digest;
        todo!()
    }

    /// Opens a blob for reading.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        let _ = digest;
        todo!()
    }

    /// Reads a blob of at most `max` bytes.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let _ = (digest, max);
        todo!()
    }

    /// Stores bytes and holds them by the lease.
    pub fn put(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let _ = (lease, bytes);
        todo!()
    }

    /// Begins or resumes receiving a blob whose digest is known. A blob that is already there is not looked for here:
    /// ask `lease.hold(Hold::Blob(..))` first.
    pub fn writer(&self, lease: &Lease, digest: &Digest, size: Option<u64>) -> Result<BlobWriter> {
        let _ = (lease, digest, size);
        todo!()
    }

    /// Begins a blob whose digest is known only at its end.
    pub fn create(&self, lease: &Lease) -> Result<NewBlob> {
        let _ = lease;
        todo!()
    }

    /// Removes a blob, whoever needs it; says whether it was there.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let _ = digest;
        todo!()
    }

    /// All blobs with their sizes in bytes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        todo!()
    }
}

/// Receives a blob of known digest. What was written survives the writer, also a killed one, and is resumed by the
/// next writer of the same digest.
#[derive(Debug)]
pub struct BlobWriter {}

impl BlobWriter {
    /// How many bytes are already there: the next byte to be written is the one at this offset.
    pub fn offset(&self) -> u64 {
        todo!()
    }

    /// Forgets what is there and begins at offset 0, as when a server does not serve ranges.
    pub fn restart(&mut self) -> Result<()> {
        todo!()
    }

    /// Verifies size and digest and makes the blob visible. A short blob stays for a later writer; a wrong one is
    /// removed.
    pub fn finish(self) -> Result<u64> {
        todo!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = bytes;
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives a blob whose digest is computed meanwhile. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct NewBlob {}

impl NewBlob {
    /// Makes the blob visible; returns its digest and its size in bytes.
    pub fn finish(self) -> Result<(Digest, u64)> {
        todo!()
    }
}

impl Write for NewBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = bytes;
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
