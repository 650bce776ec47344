//! The few file operations of this crate; errors carry the path.

use crate::{Error, Result};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a file of at most `limit` bytes; `None` if it does not exist.
pub(crate) fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(Error::File { operation: "open", path: path.into(), source }),
    };
    read_bounded(file, limit, &path.display().to_string(), || Error::file("read", path)).map(Some)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_optional(path, limit)?.ok_or_else(|| Error::file("open", path)(ErrorKind::NotFound.into()))
}

/// Reads a stream of at most `limit` bytes to its end.
pub(crate) fn read_bounded<F: FnOnce(std::io::Error) -> Error>(
    reader: impl Read,
    limit: u64,
    what: &str,
    error: impl FnOnce() -> F,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|source| error()(source))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { what: what.to_owned(), limit });
    }
    Ok(bytes)
}

/// A temporary file beside its final place; removed unless committed.
#[derive(Debug)]
pub(crate) struct Pending {
    path: std::path::PathBuf,
    file: Option<std::fs::File>,
}

impl Pending {
    /// Creates `NAME.RANDOM.tmp` beside `target`.
    pub(crate) fn beside(target: &Path, mode: u32) -> Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", random_hex()));
        let path = target.with_file_name(name);
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(Error::file("create", &path))?;
        Ok(Self { path, file: Some(file) })
    }

    pub(crate) fn file(&mut self) -> &mut std::fs::File {
        self.file.as_mut().expect("the file is taken by commit alone, which consumes the value")
    }

    /// Writes it out and renames it to `target`.
    pub(crate) fn commit(mut self, target: &Path) -> Result<()> {
        self.file().sync_data().map_err(Error::file("sync", &self.path))?;
        std::fs::rename(&self.path, target).map_err(Error::file("rename to", target))?;
        self.file = None;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // nothing can be done about a failure here, and the name is never mistaken for content
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Replaces a file: temporary name, sync, rename.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut pending = Pending::beside(path, mode)?;
    pending.file().write_all(bytes).map_err(Error::file("write", path))?;
    pending.commit(path)
}

/// Creates a file in `directory` that has no name any more: it vanishes with its descriptor.
pub(crate) fn unnamed(directory: &Path) -> Result<std::fs::File> {
    let pending = Pending::beside(&directory.join("spool"), 0o600)?;
    let file = pending.file.as_ref().expect("just created").try_clone();
    file.map_err(Error::file("duplicate", directory))
}

/// 16 random hex digits.
pub(crate) fn random_hex() -> String {
    let mut bytes = [0_u8; 8];
    if getrandom::fill(&mut bytes).is_err() {
        // only the uniqueness of a name depends on it, and names are created exclusively
        bytes = std::process::id().to_le_bytes().repeat(2).try_into().unwrap_or_default();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
