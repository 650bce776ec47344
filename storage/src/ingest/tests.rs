#![allow(clippy::unwrap_used)]
//! Layers through the whole store, on both drivers.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci::{ChainId, Compression, Descriptor, DiffId, Digest};

use super::*;
use crate::compress::Encoder;
use crate::diff::{clamp_mtimes, diff_id_of, export_layer, layer_blob};
use crate::leases::Lease;
use crate::snapshot::{Prepare, open_detached};
use crate::store::{Driver, Store, StoreOptions};
use crate::tar::{Entry, EntryKind, TarWriter, Timestamp};
use crate::{Error, Layer};

/// Stores of each driver that works here; none without root, which CI has.
fn stores() -> Vec<(tempfile::TempDir, Store)> {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root");
    if !root {
        eprintln!("skipped: needs root");
        return Vec::new();
    }
    [Driver::Overlay, Driver::Vfs]
        .into_iter()
        .map(|driver| {
            let top = tempfile::tempdir().unwrap();
            let root = top.path().join("store");
            let store = Store::open(StoreOptions { root, driver, user_namespace: false }).unwrap();
            (top, store)
        })
        .collect()
}

fn layer(list: &[(EntryKind, &str, &str)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (kind, name, text) in list {
        let mut entry = Entry::new(*kind, *name);
        entry.mtime = Timestamp { seconds: 1_600_000_000, nanoseconds: 5_000 };
        if *kind == EntryKind::File {
            entry.size = text.len() as u64;
            tar.append(&entry, text.as_bytes()).unwrap();
        } else {
            entry.link = text.as_bytes().to_vec();
            tar.header(&entry).unwrap();
        }
    }
    tar.finish().unwrap().0
}

fn compress(plain: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), compression, None);
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn ingest(store: &Store, lease: &Lease, blob: &[u8], diff_id: Option<DiffId>) -> crate::Result<StagedLayer> {
    let source = LayerSource {
        descriptor: Some(Descriptor::of(oci::media_type::OCI_LAYER_GZIP, blob)),
        diff_id,
        open: Box::new(|offset| {
            let mut reader = Cursor::new(blob.to_vec());
            reader.set_position(offset);
            Ok(LayerReader { offset, reader: Box::new(reader) })
        }),
        progress: &|_| (),
    };
    ingest_layer(store, lease, source)
}

/// Ingests and commits plain streams on top of each other.
fn image(store: &Store, lease: &Lease, layers: &[Vec<u8>]) -> crate::Result<Vec<ChainId>> {
    let mut staged = Vec::new();
    for plain in layers {
        let diff_id = DiffId(Digest::of(plain));
        staged.push(ingest(store, lease, &compress(plain, Compression::Gzip), Some(diff_id))?);
    }
    commit_chain(store, lease, None, staged)
}

fn record(store: &Store, chain: &[ChainId]) -> Layer {
    store.layers().get(chain.last().unwrap()).unwrap().unwrap()
}

/// Paths with mode, owner, time and content of what a snapshot looks like.
fn look(store: &Store, snapshot: &str) -> BTreeMap<PathBuf, String> {
    fn walk(at: &Path, top: &Path, out: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let mut text = format!(
                "{:o} {}:{} {}.{}",
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.mtime(),
                stat.mtime_nsec()
            );
            if stat.is_file() {
                text += &format!(" {:?} links {}", std::fs::read_to_string(&path).unwrap(), stat.nlink());
            } else if stat.is_symlink() {
                text += &format!(" -> {:?}", std::fs::read_link(&path).unwrap());
            }
            out.insert(path.strip_prefix(top).unwrap().to_path_buf(), text);
            if stat.is_dir() {
                walk(&path, top, out);
            }
        }
    }
    let fd = open_detached(&store.snapshots().view(snapshot).unwrap()).unwrap();
    let top = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let mut out = BTreeMap::new();
    walk(&top, &top, &mut out);
    out
}

use EntryKind::{Directory, File, HardLink, Symlink};

fn base() -> Vec<u8> {
    layer(&[
        (Directory, "etc", ""),
        (File, "etc/conf", "base"),
        (File, "etc/old", "old"),
        (Symlink, "lib", "usr/lib"),
        (Directory, "usr", ""),
        (Directory, "usr/lib", ""),
        (File, "usr/lib/libc", "c"),
    ])
}

#[test]
fn layers_lie_on_each_other_the_same_on_every_driver() {
    let second = layer(&[
        (Directory, "etc", ""),
        (File, "etc/.wh.old", ""),
        (File, "etc/conf", "changed"),
        (Directory, "usr", ""),
        (Directory, "usr/lib", ""),
        (File, "usr/lib/.wh..wh..opq", ""),
        (File, "usr/lib/new", "n"),
    ]);
    let mut seen = Vec::new();
    for (_top, store) in stores() {
        let lease = store.lease("test").unwrap();
        let chain = image(&store, &lease, &[base(), second.clone()]).unwrap();
        assert_eq!(chain, ChainId::chain(&[DiffId(Digest::of(&base())), DiffId(Digest::of(&second))]));
        let top = record(&store, &chain);
        assert_eq!(top.parent.as_ref(), Some(&chain[0]));
        assert_eq!(top.tar_size, second.len() as u64);
        let tree = look(&store, &top.snapshot);
        assert!(tree[Path::new("etc/conf")].contains("\"changed\""));
        assert!(tree.contains_key(Path::new("usr/lib/new")));
        assert!(!tree.contains_key(Path::new("etc/old")) && !tree.contains_key(Path::new("usr/lib/libc")));
        seen.push(tree);
        // Again, as another pull would: known layers stay.
        let again = image(&store, &lease, &[base(), second.clone()]).unwrap();
        assert_eq!((again, record(&store, &chain).snapshot), (chain.clone(), top.snapshot));
        // The blob is copied as it came, and other forms are made from it.
        let mut plain = Vec::new();
        export_layer(&store, &chain[1], Compression::None, &mut plain).unwrap();
        assert_eq!(plain, second);
        let mut same = Vec::new();
        export_layer(&store, &chain[1], Compression::Gzip, &mut same).unwrap();
        assert_eq!(same, compress(&second, Compression::Gzip));
        let zstd = layer_blob(&store, &lease, &chain[1], Compression::Zstd).unwrap();
        assert_eq!(zstd, layer_blob(&store, &lease, &chain[1], Compression::Zstd).unwrap());
        assert_eq!(zstd.digest, Digest::of(&compress(&second, Compression::Zstd)));
        assert_eq!(record(&store, &chain).blobs.len(), 2);
    }
    if let [overlay, vfs] = &seen[..] {
        assert_eq!(overlay, vfs);
    }
}

#[test]
fn layers_that_need_their_parent_get_it() {
    for (_top, store) in stores() {
        let lease = store.lease("test").unwrap();
        for (list, path, want) in [
            (&[(HardLink, "etc/link", "etc/conf")][..], "etc/link", "\"base\" links 2"),
            (&[(File, "lib/x", "in usr")], "usr/lib/x", "\"in usr\""),
            (&[(Symlink, "run", "usr/lib"), (File, "run/y", "1")], "usr/lib/y", "\"1\""),
            (&[(File, "etc/more", "m")], "etc/more", "\"m\""),
        ] {
            let chain = image(&store, &lease, &[base(), layer(list)]).unwrap();
            let tree = look(&store, &record(&store, &chain).snapshot);
            assert!(tree[Path::new(path)].contains(want), "{list:?}: {tree:?}");
            // Implied directories look as they did below.
            assert_eq!(tree[Path::new("etc")], "40755 0:0 1600000000.5000", "{list:?}");
            assert!(tree[Path::new("lib")].contains("usr/lib"));
        }
    }
}

#[test]
fn nothing_is_visible_of_a_layer_that_fails() {
    let good = compress(&base(), Compression::Gzip);
    for (_top, store) in stores() {
        let lease = store.lease("test").unwrap();
        let wrong = DiffId(Digest::of(b"other"));
        let result = ingest(&store, &lease, &good, Some(wrong));
        assert!(matches!(result, Err(Error::Layer(LayerError::WrongDiffId { .. }))), "{result:?}");

        let digest = Digest::of(b"announced");
        let bytes = good.clone();
        let source = LayerSource {
            descriptor: Some(Descriptor::new(oci::media_type::OCI_LAYER_GZIP, digest, good.len() as u64)),
            diff_id: None,
            open: Box::new(move |offset| Ok(LayerReader { offset, reader: Box::new(Cursor::new(bytes)) })),
            progress: &|_| (),
        };
        let result = ingest_layer(&store, &lease, source);
        assert!(matches!(result, Err(Error::DigestMismatch { .. })), "{result:?}");

        let cut = compress(&base()[..700], Compression::Gzip);
        let result = ingest(&store, &lease, &cut, None);
        let truncated = matches!(
            result,
            Err(Error::Layer(LayerError::Unpack { source: crate::tar::Error::Truncated { .. }, .. }))
        );
        // A driver that unpacks on the parent alone finds out there.
        assert!(
            truncated || result.is_ok_and(|staged| commit_chain(&store, &lease, None, vec![staged]).is_err())
        );

        let mut damaged = good.clone();
        damaged.truncate(good.len() - 9);
        let result = ingest(&store, &lease, &damaged, None);
        assert!(matches!(result, Err(Error::Layer(LayerError::Inflate { .. }))), "{result:?}");

        let hostile = compress(&layer(&[(File, "../../evil", "x")]), Compression::Gzip);
        let refused = ingest(&store, &lease, &hostile, None)
            .and_then(|staged| commit_chain(&store, &lease, None, vec![staged]));
        assert!(matches!(refused, Err(Error::Layer(LayerError::Unpack { .. }))), "{refused:?}");
        assert!(store.layers().list().unwrap().is_empty());
        assert!(store.snapshots().walk().unwrap().is_empty());
    }
}

/// Gives some bytes and then fails, as a lost connection does.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            length => Ok(length),
        }
    }
}

#[test]
fn an_interrupted_layer_goes_on_where_it_stopped() {
    let text = "x".repeat(3_000_000);
    let plain = layer(&[(File, "big", &text)]);
    let blob = plain.clone();
    for (_top, store) in stores() {
        let lease = store.lease("test").unwrap();
        let descriptor = Descriptor::of(oci::media_type::OCI_LAYER, &blob);
        let half = blob[..2_000_000].to_vec();
        let source = LayerSource {
            descriptor: Some(descriptor.clone()),
            diff_id: None,
            open: Box::new(move |offset| {
                assert_eq!(offset, 0);
                Ok(LayerReader { offset, reader: Box::new(Failing(Cursor::new(half))) })
            }),
            progress: &|_| (),
        };
        let result = ingest_layer(&store, &lease, source);
        assert!(matches!(result, Err(Error::Layer(LayerError::Receive { .. }))), "{result:?}");
        let most = std::cell::Cell::new(0);
        let source = LayerSource {
            descriptor: Some(descriptor),
            diff_id: Some(DiffId(Digest::of(&plain))),
            open: Box::new(|offset| {
                assert!(offset > 1_000_000, "{offset}");
                let rest = blob[usize::try_from(offset).unwrap()..].to_vec();
                Ok(LayerReader { offset, reader: Box::new(Cursor::new(rest)) })
            }),
            progress: &|bytes| most.set(bytes),
        };
        let staged = ingest_layer(&store, &lease, source).unwrap();
        assert_eq!(most.get(), blob.len() as u64);
        assert_eq!(staged.compression, Compression::None);
        let chain = commit_chain(&store, &lease, None, vec![staged]).unwrap();
        assert!(look(&store, &record(&store, &chain).snapshot).contains_key(Path::new("big")));
    }
}

#[test]
fn what_a_step_changes_becomes_a_layer_and_back() {
    for (_top, store) in stores() {
        let lease = store.lease("test").unwrap();
        let chain = image(&store, &lease, &[base()]).unwrap();
        let below = record(&store, &chain).snapshot;
        let mounts = store.snapshots().prepare(&lease, &Prepare::new("step", Some(&below))).unwrap();
        {
            let fd = open_detached(&mounts).unwrap();
            let top = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            std::fs::write(top.join("etc/conf"), "stepped").unwrap();
            std::fs::remove_file(top.join("etc/old")).unwrap();
            std::fs::remove_dir_all(top.join("usr/lib")).unwrap();
            std::fs::create_dir(top.join("usr/lib")).unwrap();
            std::fs::write(top.join("usr/lib/fresh"), "f").unwrap();
            std::fs::hard_link(top.join("usr/lib/fresh"), top.join("usr/lib/twin")).unwrap();
            std::fs::set_permissions(top.join("usr"), std::fs::Permissions::from_mode(0o711)).unwrap();
            std::fs::write(top.join("usr/lib/fresh"), "f2").unwrap();
        }
        clamp_mtimes(&store, "step", 1_700_000_000).unwrap();
        let diff = diff_id_of(&store, "step").unwrap();
        assert_eq!(diff, diff_id_of(&store, "step").unwrap());
        store.snapshots().commit(&lease, "stepped", "step", None).unwrap();
        assert_eq!(diff, diff_id_of(&store, "stepped").unwrap());
        let chain_id = ChainId::next(chain.last(), &diff.diff_id);
        let layer = Layer {
            chain_id: chain_id.clone(),
            diff_id: diff.diff_id.clone(),
            parent: chain.last().cloned(),
            snapshot: "stepped".to_owned(),
            blobs: Vec::new(),
            tar_size: diff.tar_size,
            unpacked_size: diff.content_size,
            created: "2026-01-01T00:00:00Z".to_owned(),
        };
        store.layers().put(&lease, &layer).unwrap();
        let blob = layer_blob(&store, &lease, &chain_id, Compression::Gzip).unwrap();
        assert_eq!(store.content().size(&blob.digest).unwrap(), Some(blob.size));

        // The same on the other side, whatever its driver.
        let mut plain = Vec::new();
        export_layer(&store, &chain_id, Compression::None, &mut plain).unwrap();
        let here = look(&store, "stepped");
        assert!(here[Path::new("etc/conf")].contains("1700000000.0"), "{here:?}");
        for (_top, other) in stores() {
            let lease = other.lease("test").unwrap();
            let chain = image(&other, &lease, &[base(), plain.clone()]).unwrap();
            assert_eq!(chain.last(), Some(&chain_id));
            assert_eq!(look(&other, &record(&other, &chain).snapshot), here);
        }
    }
}
