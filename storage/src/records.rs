//! Records: one JSON file per object, replaced as a whole (`{"version":N,"record":{..}}`).
//!
//! Other crates keep their objects in the same form: containers, volumes, networks.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Something that is kept in a file of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// The version of the format that this program writes. Older ones must be understood.
    const VERSION: u32;
}

/// Whether a record must survive a power failure by itself.
pub use sys::fs::Sync;

/// Records are small; a larger file is none.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    record: &'a T,
}

#[derive(Deserialize)]
struct Read<T> {
    record: T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Writes or replaces a record.
pub fn write<T: Record>(path: &Path, value: &T, sync: Sync) -> Result<()> {
    Ok(sys::fs::write_atomic(path, &to_bytes(path, value)?, 0o600, sync)?)
}

/// Writes a record that must not exist; an existing one is a file error of kind `AlreadyExists`.
pub fn write_new<T: Record>(path: &Path, value: &T, sync: Sync) -> Result<()> {
    Ok(sys::fs::write_new(path, &to_bytes(path, value)?, 0o600, sync)?)
}

/// The bytes of a record; `path` is for the error only.
pub(crate) fn to_bytes<T: Record>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&Written { version: T::VERSION, record: value })
        .map_err(|source| Error::UnwritableRecord { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a record, `None` if there is none.
pub fn read<T: Record>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = sys::fs::optional(sys::fs::read_limited(path, MAX_BYTES))? else { return Ok(None) };
    match serde_json::from_slice::<Read<T>>(&bytes) {
        Ok(read) => {
            // Fields may have changed their meaning without changing their shape. The version comes first in what we
            // write, so this second look is short.
            check_version::<T>(path, &bytes)?;
            Ok(Some(read.record))
        }
        Err(source) => {
            check_version::<T>(path, &bytes)?;
            Err(Error::MalformedRecord { path: path.to_owned(), source })
        }
    }
}

fn check_version<T: Record>(path: &Path, bytes: &[u8]) -> Result<()> {
    let found = match leading_version(bytes) {
        Some(version) => version,
        None => {
            serde_json::from_slice::<Version>(bytes)
                .map_err(|source| Error::MalformedRecord { path: path.to_owned(), source })?
                .version
        }
    };
    if found > T::VERSION {
        return Err(Error::NewerRecord { path: path.to_owned(), found, known: T::VERSION });
    }
    Ok(())
}

/// The version where it stands at the very beginning, as in all that this module writes.
fn leading_version(bytes: &[u8]) -> Option<u32> {
    let rest = bytes.strip_prefix(b"{\"version\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if rest.get(digits) != Some(&b',') {
        return None;
    }
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

/// Reads all records `*.json` of a directory, in order of their file names. A record that is removed meanwhile is
/// left out; a missing directory has none.
pub fn list<T: Record>(directory: &Path) -> Result<Vec<T>> {
    let mut records = Vec::new();
    for name in names(directory)? {
        if let Some(record) = read(&directory.join(name))? {
            records.push(record);
        }
    }
    Ok(records)
}

/// File names of the records of a directory, sorted.
pub fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = sys::fs::optional(sys::fs::read_names(directory))?
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.ends_with(".json") && !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Removes a record and says whether it was there.
pub fn remove(path: &Path) -> Result<bool> {
    Ok(sys::fs::remove_file_if_exists(path)?)
}

/// A file name, with `.json`, for any text: other bytes than letters, digits, `-`, `_` and `.` become `%XX`, and long
/// names end in a digest. Different texts have different names.
pub fn file_name(text: &str) -> String {
    use std::fmt::Write;
    // NAME_MAX is 255; some room for `.json` and a temporary name.
    const LONGEST: usize = 200;
    let mut name = String::with_capacity(text.len() + 8);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'.' if index == 0 => name.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
            _ => {
                let _ = write!(name, "%{byte:02X}");
            }
        }
    }
    if name.len() > LONGEST {
        // `~` is no byte of an escaped name, so a shortened name is never another's full one.
        name.truncate(LONGEST - 65);
        name.push('~');
        name.push_str(oci::Digest::of(text.as_bytes()).hex());
    }
    name.push_str(".json");
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
    }

    impl Record for Thing {
        const VERSION: u32 = 2;
    }

    #[test]
    fn names_are_safe_and_differ() {
        assert_eq!(file_name("docker.io/library/a:1"), "docker.io%2Flibrary%2Fa%3A1.json");
        assert_eq!(file_name(".."), "%2E..json");
        assert_eq!(file_name("%2F"), "%252F.json");
        let long = "x/".repeat(300);
        let other = format!("{}y", "x/".repeat(299));
        assert!(file_name(&long).len() < 215);
        assert_ne!(file_name(&long), file_name(&other));
        assert!(!file_name("a\0b\n").contains('\0'));
    }

    #[test]
    fn records_are_written_read_listed_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name("a/b"));
        assert_eq!(read::<Thing>(&path).unwrap(), None);
        let thing = Thing { name: "a/b".to_owned() };
        write_new(&path, &thing, Sync::Data).unwrap();
        assert!(matches!(write_new(&path, &thing, Sync::None), Err(Error::File(error))
            if error.kind() == std::io::ErrorKind::AlreadyExists));
        write(&path, &thing, Sync::None).unwrap();
        std::fs::write(directory.path().join(".tmp-1-2-3"), "{").unwrap();
        assert_eq!(list::<Thing>(directory.path()).unwrap(), [thing]);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert_eq!(list::<Thing>(&directory.path().join("missing")).unwrap(), []);
    }

    #[test]
    fn newer_and_broken_records_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        std::fs::write(&path, r#"{"version":3,"record":{"name":"x"}}"#).unwrap();
        assert!(matches!(read::<Thing>(&path), Err(Error::NewerRecord { found: 3, known: 2, .. })));
        std::fs::write(&path, r#"{"record":{"other":1}, "version": 7}"#).unwrap();
        assert!(matches!(read::<Thing>(&path), Err(Error::NewerRecord { found: 7, .. })));
        std::fs::write(&path, r#"{"version":1,"record":{"name":"old"}}"#).unwrap();
        assert_eq!(read::<Thing>(&path).unwrap().unwrap().name, "old");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read::<Thing>(&path), Err(Error::MalformedRecord { .. })));
    }
}
