//! Records: one JSON file per object, replaced as a whole.

use crate::error::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Something that is kept in a file of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// The version of the format that this program writes. Older ones must be understood.
    const VERSION: u32;
}

/// Whether a record must survive a power failure by itself.
pub use sys::fs::Sync;

/// Writes or replaces a record.
pub fn write<T: Record>(path: &Path, value: &T, sync: Sync) -> Result<()> {
    let _ = (path, value, sync);
    todo!()
}

/// Writes a record that must not exist; an existing one is an error of kind `AlreadyExists`.
pub fn write_new<T: Record>(path: &Path, value: &T, sync: Sync) -> Result<()> {
    let _ = (path, value, sync);
    todo!()
}

/// Reads a record, `None` if there is none.
pub fn read<T: Record>(path: &Path) -> Result<Option<T>> {
    let _ = path;
    todo!()
}

/// Reads all records `*.json` of a directory, in order of their file names. A record that is removed meanwhile is
/// left out; a missing directory has none.
pub fn list<T: Record>(directory: &Path) -> Result<Vec<T>> {
    let _ = directory;
    todo!()
}

/// Removes a record and says whether it was there.
pub fn remove(path: &Path) -> Result<bool> {
    Ok(sys::fs::remove_file_if_exists(path)?)
}

/// A file name, with `.json`, for any text: other bytes than letters, digits, `-`, `_` and `.` become `%XX`, and long
/// names end in a digest. Different texts have different names.
pub fn file_name(text: &str) -> String {
    let _ = text;
    todo!()
}
