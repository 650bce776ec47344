//! Archives that ADD unpacks, known by their content.

use super::Error;
use super::owner::Owner;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use storage::tar::{ExtractOptions, Ownership, Reader, extract_into};

/// The plain bytes of an archive.
pub(crate) type Archive = Box<dyn Read + Send>;

/// The archive that a file is, or `None` where it is none.
pub(crate) fn open(mut file: File, shown: &str) -> Result<Option<Archive>, Error> {
    let failed = |error: std::io::Error| Error::Unpack { path: shown.to_owned(), source: Box::new(error) };
    if storage::compress::sniff_tar(BufReader::new(&file)).map_err(failed)?.is_none() {
        return Ok(None);
    }
    file.rewind().map_err(failed)?;
    let (_, plain) = storage::compress::decoder(BufReader::with_capacity(1 << 17, file)).map_err(failed)?;
    Ok(Some(plain))
}

/// Unpacks an archive into a directory beneath the root; links in the archive lead nowhere outside of the root.
pub(crate) fn extract(
    archive: Archive,
    root: BorrowedFd<'_>,
    destination: &Path,
    owner: Option<Owner>,
    shown: &str,
) -> Result<(), Error> {
    let failed =
        |error: storage::tar::Error| Error::Unpack { path: shown.to_owned(), source: Box::new(error) };
    let ownership = owner.map_or(Ownership::StreamIfMapped, |owner| Ownership::Fixed(owner.uid, owner.gid));
    let options = ExtractOptions {
        ownership,
        destination: destination.to_owned(),
        skip_devices: true,
        ..ExtractOptions::default()
    };
    let mut reader = Reader::new(BufReader::with_capacity(1 << 17, archive));
    extract_into(root.as_fd(), &mut reader, options).map_err(failed)?;
    Ok(())
}
