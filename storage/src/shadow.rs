//! What the layers of an image hide of each other: bytes that nobody sees any more, and bytes that are there twice.

use crate::diff::write_diff;
use crate::error::Result;
use crate::ingest::LayerError;
use crate::layers::Layer;
use crate::store::Store;
use crate::tar::{EntryKind, Reader};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read};

/// How much is read at once, bytes.
const CHUNK: usize = 128 << 10;

/// What a layer is within its image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerShare {
    /// Bytes of its files.
    pub size: u64,
    /// Bytes of files in lower layers that it replaces or removes.
    pub shadows: u64,
    /// Bytes of its files whose content the layers below have at the same path: only owner, mode or time changed.
    pub duplicates: u64,
}

/// A regular file as the layers so far show it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    size: u64,
    crc: u32,
}

/// The files of the layers so far, by path.
#[derive(Debug, Default)]
struct Tree(BTreeMap<Vec<u8>, Seen>);

impl Tree {
    /// Takes away what is below a path; gives its bytes.
    fn clear_below(&mut self, path: &[u8]) -> u64 {
        let (from, to) = match path {
            [] => (Vec::new(), None),
            path => ([path, b"/"].concat(), Some([path, b"0"].concat())),
        };
        let inside = |key: &Vec<u8>| to.as_ref().is_none_or(|to| key < to);
        let gone: Vec<Vec<u8>> =
            self.0.range(from..).map(|(key, _)| key).take_while(|key| inside(key)).cloned().collect();
        gone.iter().filter_map(|key| self.0.remove(key)).map(|seen| seen.size).sum()
    }

    /// Takes a path away with all below it; gives their bytes.
    fn remove(&mut self, path: &[u8]) -> u64 {
        self.0.remove(path).map_or(0, |seen| seen.size) + self.clear_below(path)
    }
}

impl Store {
    /// What each layer of an image is within it, the lowest first. Reads all files of the layers.
    pub fn layer_shares(&self, layers: &[Layer]) -> Result<Vec<LayerShare>> {
        let mut tree = Tree::default();
        layers.iter().map(|layer| self.layer_share(layer, &mut tree)).collect()
    }

    fn layer_share(&self, layer: &Layer, tree: &mut Tree) -> Result<LayerShare> {
        let failed = |source| LayerError::Store { layer: layer.chain_id.to_string(), source };
        let (reader, writer) = io::pipe().map_err(failed)?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                write_diff(self, &layer.snapshot, BufWriter::with_capacity(CHUNK, writer)).map(drop)
            });
            let read = add(BufReader::with_capacity(CHUNK, reader), tree);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // a writer whose reader went away says nothing of use
            match read {
                Ok(share) => written.map(|()| share),
                Err(source) => Err(failed(source).into()),
            }
        })
    }
}

/// Lays a layer's stream over what the layers below it show.
fn add(source: impl BufRead, tree: &mut Tree) -> io::Result<LayerShare> {
    let mut reader = Reader::new(source);
    let mut share = LayerShare::default();
    // its own files count as below for none of its whiteouts
    let mut own: Vec<(Vec<u8>, Option<Seen>)> = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(io::Error::other)? {
        let parts = entry.path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let parts: Vec<&[u8]> = parts.collect();
        let Some((name, above)) = parts.split_last() else { continue };
        let directory = above.join(&b'/');
        let at = |name: &[u8]| {
            if directory.is_empty() { name.to_vec() } else { [&directory, &b"/"[..], name].concat() }
        };
        if *name == b".wh..wh..opq" {
            share.shadows += tree.clear_below(&directory);
            continue;
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            share.shadows += tree.remove(&at(hidden));
            continue;
        }
        let path = at(name);
        match entry.kind {
            EntryKind::Directory => share.shadows += tree.0.remove(&path).map_or(0, |seen| seen.size),
            EntryKind::File => {
                let seen = Seen { size: entry.size, crc: checksum(reader.content())? };
                share.size += seen.size;
                if let Some(old) = tree.0.get(&path)
                    && (old.size, old.crc) == (seen.size, seen.crc)
                    && entry.sparse.is_none()
                {
                    share.duplicates += seen.size;
                }
                share.shadows += tree.remove(&path);
                own.push((path, Some(seen)));
            }
            _ => {
                share.shadows += tree.remove(&path);
                own.push((path, None));
            }
        }
    }
    tree.0.extend(own.into_iter().filter_map(|(path, seen)| Some((path, seen?))));
    Ok(share)
}

fn checksum(mut content: impl Read) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Entry, TarWriter};

    fn stream(entries: &[(&str, EntryKind, &[u8])]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for (path, kind, content) in entries {
            let mut entry = Entry::new(*kind, *path);
            entry.size = content.len() as u64;
            writer.append(&entry, *content).unwrap();
        }
        writer.finish().unwrap().0
    }

    #[test]
    fn shadows_and_duplicates_are_counted() {
        use EntryKind::{Directory, File};
        let mut tree = Tree::default();
        let mut over = |entries: &[(&str, EntryKind, &[u8])]| {
            let share = add(stream(entries).as_slice(), &mut tree).unwrap();
            (share.size, share.shadows, share.duplicates)
        };
        let below: &[(&str, EntryKind, &[u8])] = &[
            ("d", Directory, b""),
            ("d/a", File, b"12345"),
            ("d/b", File, b"123"),
            ("d0", File, b"1234567"),
        ];
        assert_eq!(over(below), (15, 0, 0));
        // a chmod of one, another content of the other
        assert_eq!(over(&[("d/a", File, b"12345"), ("d/b", File, b"xyz")]), (8, 8, 5));
        // a whiteout of a directory, and new files in it by the same layer
        assert_eq!(over(&[("d/new", File, b"1"), ("d/.wh..wh..opq", File, b"")]), (1, 8, 0));
        assert_eq!(over(&[(".wh.d", File, b"")]), (0, 1, 0));
        assert_eq!(over(&[("d0", Directory, b"")]), (0, 7, 0));
    }
}
