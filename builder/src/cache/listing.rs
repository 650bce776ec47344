//! What a step selected of an input, path by path: kept so that a later build can say which path changed.
//!
//! A short listing stands in the trace itself, a long one in a blob of the store:
//! ```text
//! "davit listing 1\n"  then for each path: mode in octal, space, digest, space, path, NUL
//! ```
//! Above [`MOST`] paths, directories stand for what is below them.

use oci::{Digest, Digester};
use std::collections::BTreeMap;

const MAGIC: &[u8] = b"davit listing 1\n";
/// Most entries of a listing.
pub(crate) const MOST: usize = 100_000;
/// Type and permission bits of an entry that stands for a directory with all below it.
const FOLDED: u32 = 0;

/// One selected path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As seen from the root of the input.
    pub(crate) path: Vec<u8>,
    /// Type and permission bits.
    pub(crate) mode: u32,
    /// Of content or link target, and extended attributes; not of the mode.
    pub(crate) digest: Digest,
}

/// The selected paths of one input, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing(pub(crate) Vec<Entry>);

impl Listing {
    /// Sorts, drops what is named twice, and folds what is too much.
    pub(crate) fn new(mut entries: Vec<Entry>, most: usize) -> Self {
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries.dedup_by(|one, other| one.path == other.path);
        if entries.len() <= most {
            return Self(entries);
        }
        for depth in (1..=16).rev() {
            let folded = fold(&entries, depth);
            if folded.len() <= most || depth == 1 {
                return Self(folded.into_iter().take(most).collect());
            }
        }
        Self::default()
    }

    /// The bytes of a listing's blob.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(format!("{:o} {} ", entry.mode, entry.digest).as_bytes());
            bytes.extend_from_slice(&entry.path);
            bytes.push(0);
        }
        bytes
    }

    /// Reads them back; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let mut entries = Vec::new();
        for line in rest.split(|byte| *byte == 0) {
            if line.is_empty() {
                continue;
            }
            let mut words = line.splitn(3, |byte| *byte == b' ');
            let mode = u32::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 8).ok()?;
            let digest = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
            entries.push(Entry { path: words.next()?.to_vec(), mode, digest });
            if entries.len() > MOST {
                return None;
            }
        }
        Some(Self(entries))
    }
}

/// Groups what has the same first `depth` names.
fn fold(entries: &[Entry], depth: usize) -> Vec<Entry> {
    let mut groups: BTreeMap<Vec<u8>, (usize, Digester, &Entry)> = BTreeMap::new();
    for entry in entries {
        let names: Vec<&[u8]> = entry.path.split(|byte| *byte == b'/').take(depth).collect();
        let group = groups.entry(names.join(&b'/')).or_insert_with(|| (0, Digester::new(), entry));
        group.0 += 1;
        group.1.update(&entry.path);
        group.1.update(&entry.mode.to_le_bytes());
        group.1.update(entry.digest.as_str().as_bytes());
    }
    groups
        .into_iter()
        .map(|(path, (count, digester, first))| match count {
            1 => first.clone(),
            _ => Entry { path, mode: FOLDED, digest: digester.finish() },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(path: &str, content: &str) -> Entry {
        Entry { path: path.into(), mode: 0o100_644, digest: Digest::of(content.as_bytes()) }
    }

    #[test]
    fn a_listing_survives_its_blob_and_damage_is_no_listing() {
        let listing = Listing::new(vec![entry("b", "1"), entry("a b/\u{fffd}\n", "2")], MOST);
        assert_eq!(listing.0[0].path, "a b/\u{fffd}\n".as_bytes());
        let bytes = listing.encode();
        assert_eq!(Listing::decode(&bytes).unwrap(), listing);
        assert_eq!(Listing::decode(b"davit listing 1\n644 nodigest a\0"), None);
        assert_eq!(Listing::decode(&bytes[1..]), None);
    }

    #[test]
    fn a_long_one_is_folded_and_still_sees_a_change() {
        let many = |last: &str| {
            let mut entries: Vec<Entry> = (0..50).map(|index| entry(&format!("a/b/{index}"), "x")).collect();
            entries.push(entry("a/c", last));
            Listing::new(entries, 10)
        };
        let (one, other) = (many("1"), many("2"));
        assert_eq!(one.0.len(), 2);
        assert_eq!(one.0[0], other.0[0]);
        assert_ne!(one.0[1], other.0[1]);
        assert_eq!((one.0[0].path.as_slice(), one.0[0].mode), (&b"a/b"[..], FOLDED));
    }
}
