//! The index of a cache mount: its files, their chunks, and the packs that have these.
//!
//! ```text
//! zstd of {"version":1,
//!   "packs":[{"blob":{descriptor},"chunks":[["sha256:..",LENGTH],..]}],
//!   "entries":[{"path":"a/b","mode":33188,"owner":[0,0],"time":[SECONDS,NANOSECONDS],"target":"..","chunks":[N,..]}]}
//! ```
//! A pack is the zstd of its chunks behind each other. Chunks are numbered through all packs. Bytes of a path that are
//! not UTF-8, and `%`, stand as `%XX`.

use crate::{Error, Result};
use oci::{Compression, Descriptor, Digest};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use storage::chunker::LONGEST;
use storage::compress::{Encoder, decoder};

/// Media type of an index.
pub(in crate::build::cache) const INDEX: &str = "application/vnd.davit.buildcache.mount.v1+json+zstd";
/// Media type of a pack.
pub(super) const PACK: &str = "application/vnd.davit.buildcache.pack.v1+zstd";
/// Largest index, compressed, in bytes.
pub(in crate::build::cache) const INDEX_LIMIT: u64 = 64 << 20;
/// Largest index, in bytes.
const PLAIN_LIMIT: u64 = 512 << 20;
/// Most bytes that one mount may have.
const TOTAL_LIMIT: u64 = 256 << 30;
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::build::cache) struct Index {
    pub(super) version: u32,
    pub(super) packs: Vec<Pack>,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pack {
    pub(super) blob: Descriptor,
    pub(super) chunks: Vec<(Digest, u32)>,
}

/// A file, directory or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    path: String,
    /// Type and permission bits.
    pub(super) mode: u32,
    #[serde(default, skip_serializing_if = "is_root")]
    pub(super) owner: (u32, u32),
    pub(super) time: (i64, u32),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) chunks: Vec<usize>,
}

fn is_root(owner: &(u32, u32)) -> bool {
    *owner == (0, 0)
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
}

impl Entry {
    pub(super) fn new(path: &Path, mode: u32, owner: (u32, u32), time: (i64, u32)) -> Self {
        let path = escape(path.as_os_str().as_bytes());
        Self { path, mode, owner, time, target: None, chunks: Vec::new() }
    }

    pub(super) fn with_target(mut self, target: &[u8]) -> Self {
        self.target = Some(escape(target));
        self
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match self.mode & 0o170_000 {
            0o100_000 => Some(Kind::File),
            0o040_000 => Some(Kind::Directory),
            0o120_000 => Some(Kind::Link),
            _ => None,
        }
    }

    /// The path, which cannot leave the mount by its own names.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let path = PathBuf::from(unescape(&self.path)?);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        // compared as bytes: paths are equal whatever their slashes
        let clean = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
        (plain && clean && !path.as_os_str().is_empty() && !path.as_os_str().as_bytes().contains(&0))
            .then_some(path)
    }

    pub(super) fn target(&self) -> Option<OsString> {
        unescape(self.target.as_deref()?)
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for part in bytes.utf8_chunks() {
        text.push_str(&part.valid().replace('%', "%25"));
        for byte in part.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn unescape(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(OsString::from_vec(bytes))
}

impl Index {
    pub(super) fn new(packs: Vec<Pack>, entries: Vec<Entry>) -> Self {
        Self { version: VERSION, packs, entries }
    }

    /// The bytes of the index's blob.
    pub(in crate::build::cache) fn encode(&self) -> Result<Vec<u8>> {
        let attempt = "write the index of a cache mount";
        let plain = serde_json::to_vec(self).map_err(|error| Error::invalid(attempt, error.to_string()))?;
        let mut encoder = Encoder::new(Vec::new(), Compression::Zstd, None);
        encoder.write_all(&plain).map_err(|error| Error::os(attempt, error))?;
        encoder.finish().map_err(|error| Error::os(attempt, error))
    }

    /// Reads and checks an index, whoever wrote it.
    pub(in crate::build::cache) fn decode(bytes: &[u8]) -> Result<Self> {
        let attempt = "read the index of a cache mount";
        let (_, plain) = decoder(bytes).map_err(|error| Error::os(attempt, error))?;
        let mut text = Vec::new();
        plain.take(PLAIN_LIMIT + 1).read_to_end(&mut text).map_err(|error| Error::os(attempt, error))?;
        let wrong = |what: &str| Error::invalid("the index of a cache mount", what.to_owned());
        if text.len() as u64 > PLAIN_LIMIT {
            return Err(wrong("it is too large"));
        }
        let index: Self = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
        if index.version != VERSION {
            return Err(wrong("it has a version that is not known"));
        }
        let lengths: Vec<u32> =
            index.packs.iter().flat_map(|pack| pack.chunks.iter().map(|(_, length)| *length)).collect();
        if lengths.iter().any(|length| *length as usize > LONGEST) {
            return Err(wrong("a chunk is too long"));
        }
        let mut total = 0u64;
        for entry in &index.entries {
            if entry.path().is_none() || entry.kind().is_none() {
                return Err(wrong("an entry has a path or a type that cannot be"));
            }
            for chunk in &entry.chunks {
                let length = lengths.get(*chunk).ok_or_else(|| wrong("a chunk is in no pack"))?;
                total += u64::from(*length);
            }
            if total > TOTAL_LIMIT {
                return Err(wrong("its files are too large"));
            }
        }
        Ok(index)
    }

    /// The blobs that it needs.
    pub(in crate::build::cache) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.packs.iter().map(|pack| &pack.blob)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_index_survives_and_a_hostile_one_is_refused() {
        let name = OsString::from_vec(b"a/100%\xff\n".to_vec());
        let entry = Entry::new(Path::new(&name), 0o100_644, (1, 2), (3, 4));
        assert_eq!(entry.path().unwrap(), Path::new(&name));
        let good = Index::new(Vec::new(), vec![entry]);
        assert_eq!(Index::decode(&good.encode().unwrap()).unwrap(), good);
        let refused = |entry: Entry| {
            let index = Index::new(Vec::new(), vec![entry]);
            Index::decode(&index.encode().unwrap()).unwrap_err()
        };
        for path in ["../x", "/etc/passwd", "a/../../x", "", ".", "a//b", "a/%00", "a/", "./a", "%2F"] {
            let mut entry = Entry::new(Path::new("x"), 0o100_644, (0, 0), (0, 0));
            entry.path = path.to_owned();
            refused(entry);
        }
        refused(Entry::new(Path::new("null"), 0o020_666, (0, 0), (0, 0)));
        let mut entry = Entry::new(Path::new("x"), 0o100_644, (0, 0), (0, 0));
        entry.chunks = vec![0];
        refused(entry);
        assert!(Index::decode(b"junk").is_err());
    }
}
