//! Small files of the state directory.

use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Longest file that is read as a record, bytes.
const MAX_RECORD: u64 = 16 << 20;

fn file(
    attempt: &'static str,
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::File { attempt, path: path.to_owned(), source: source.into() }
}

/// Makes a directory with its parents, mode 0700.
pub(crate) fn create_directory(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(file("create", path, error)),
    }
}

/// Reads a JSON file; `None` when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(opened) = open(path)? else { return Ok(None) };
    // Most records fit: one read then, because a short one of a file means its end, and nothing on the heap.
    let mut buffer = [0; 4096];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&opened, &mut buffer))
        .map_err(|error| file("read", path, error))?;
    let parsed = if length < buffer.len() {
        serde_json::from_slice(&buffer[..length])
    } else {
        serde_json::from_slice(&rest(opened, path, buffer.to_vec())?)
    };
    parsed.map(Some).map_err(|error| file("parse", path, error))
}

fn open(path: &Path) -> Result<Option<std::fs::File>> {
    match std::fs::File::open(path) {
        Ok(opened) => Ok(Some(opened)),
        // a directory on the way that is being removed reads as absent too
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(file("open", path, error)),
    }
}

/// Reads to the end of a file, behind what was read of it.
fn rest(opened: std::fs::File, path: &Path, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    use std::io::Read;
    let room = (MAX_RECORD + 1).saturating_sub(bytes.len() as u64);
    opened.take(room).read_to_end(&mut bytes).map_err(|error| file("read", path, error))?;
    if bytes.len() as u64 > MAX_RECORD {
        return Err(file("read", path, "the file is too large for a record"));
    }
    Ok(bytes)
}

/// Reads a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    open(path)?.map(|opened| rest(opened, path, Vec::with_capacity(4096))).transpose()
}

/// Writes a JSON file under a temporary name and renames it. `sync` = it must survive a power cut.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, sync: bool) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| file("serialise", path, error))?;
    write(path, &bytes, 0o600, sync)
}

/// Writes a file under a temporary name and renames it.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32, sync: bool) -> Result<()> {
    use std::io::Write;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = std::path::PathBuf::from(temporary);
    let attempt = || -> std::io::Result<()> {
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        out.write_all(bytes)?;
        if sync {
            out.sync_data()?;
        }
        drop(out);
        std::fs::rename(&temporary, path)
    };
    attempt().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        file("write", path, error)
    })
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file("remove", path, error)),
    }
}

/// Removes a directory with all that is in it, without following links; one that is not there is no error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file("remove", path, error)),
    }
}
