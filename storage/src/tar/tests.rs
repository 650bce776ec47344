#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
//! Trees through the writer and back, hostile streams, and streams made by GNU tar.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags};

use super::*;

fn open(path: &Path) -> OwnedFd {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .unwrap()
}

/// Tests that need root fail on CI without it, and say so elsewhere.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn extract(bytes: &[u8], directory: &Path, options: ExtractOptions<'_>) -> Result<Extracted, Error> {
    extract_into(open(directory).as_fd(), &mut Reader::new(bytes), options)
}

fn write(directory: &Path, options: &WriteOptions<'_>) -> Vec<u8> {
    write_tree(open(directory).as_fd(), options, Vec::new()).unwrap().0
}

fn with_owner(whiteouts: Whiteouts) -> ExtractOptions<'static> {
    let ownership = match rustix::process::geteuid().is_root() {
        true => Ownership::Stream,
        false => Ownership::Caller,
    };
    ExtractOptions { whiteouts, ownership, ..Default::default() }
}

/// All that a tree consists of, by path; inodes with several names by their first.
fn describe(directory: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(
        root: &Path,
        at: &Path,
        firsts: &mut BTreeMap<u64, PathBuf>,
        out: &mut BTreeMap<PathBuf, String>,
    ) {
        let mut names: Vec<_> =
            std::fs::read_dir(root.join(at)).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let path = at.join(name);
            let full = root.join(&path);
            let stat = std::fs::symlink_metadata(&full).unwrap();
            let kind = stat.file_type();
            let mut text = format!(
                "{:o} {}:{} {}.{:09}",
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.mtime(),
                stat.mtime_nsec()
            );
            if kind.is_symlink() {
                text += &format!(" -> {:?}", std::fs::read_link(&full).unwrap());
            } else if kind.is_file() {
                text += &format!(" {} {:08x}", stat.len(), crc32fast::hash(&std::fs::read(&full).unwrap()));
            } else if !kind.is_dir() {
                text += &format!(" dev {:x}", stat.rdev());
            }
            if kind.is_file() || kind.is_dir() {
                let fd = rustix::fs::openat(CWD, &full, OFlags::RDONLY, Mode::empty()).unwrap();
                text += &format!(" {:?}", write::read_xattrs(fd.as_fd()).unwrap().kept);
            }
            if !kind.is_dir() && stat.nlink() > 1 {
                text += &format!(" = {:?}", firsts.entry(stat.ino()).or_insert_with(|| path.clone()));
            }
            out.insert(path.clone(), text);
            if kind.is_dir() {
                walk(root, &path, firsts, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(directory, Path::new(""), &mut BTreeMap::new(), &mut out);
    out
}

#[derive(Debug, Clone)]
enum Node {
    File { size: usize, hole: bool },
    Directory,
    Symlink(String),
    Fifo,
    Device(u32),
    LinkToFirst,
}

#[derive(Debug, Clone)]
struct Item {
    parent: prop::sample::Index,
    name: String,
    node: Node,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattr: Option<Vec<u8>>,
}

fn item() -> impl Strategy<Value = Item> {
    let node = prop_oneof![
        4 => (0..40_000_usize, any::<bool>()).prop_map(|(size, hole)| Node::File { size, hole }),
        3 => Just(Node::Directory),
        1 => "[a-z/.]{1,120}".prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
        1 => (1..200_u32).prop_map(Node::Device),
        1 => Just(Node::LinkToFirst),
    ];
    (
        any::<prop::sample::Index>(),
        "[a-zA-Z0-9 ._é\n-]{1,70}",
        node,
        0..0o10000_u32,
        (0..3_000_000_u32, 0..70_000_u32),
        (-2_000_000_000..9_000_000_000_i64, prop_oneof![Just(0), 0..1_000_000_000_u32]),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
    )
        .prop_map(|(parent, name, node, mode, owner, mtime, xattr)| Item {
            parent,
            name,
            node,
            mode,
            owner,
            mtime,
            xattr,
        })
}

fn build(root: &Path, items: &[Item]) {
    let mut directories = vec![root.to_path_buf()];
    let mut first: Option<PathBuf> = None;
    let mut settle = Vec::new();
    for item in items {
        if item.name == "." || item.name == ".." || item.name.starts_with(".wh.") {
            continue;
        }
        let path = item.parent.get(&directories).join(&item.name);
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match &item.node {
            Node::File { size, hole } => {
                let mut data = vec![b'x'; *size];
                if *hole {
                    data.iter_mut().skip(4096).take(12_000).for_each(|b| *b = 0);
                }
                std::fs::write(&path, data).unwrap();
                first.get_or_insert_with(|| path.clone());
            }
            Node::Directory => {
                std::fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            Node::Symlink(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
            Node::Fifo => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            }
            Node::Device(minor) => {
                let device = rustix::fs::makedev(1, *minor);
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, device).unwrap();
            }
            Node::LinkToFirst => match &first {
                Some(first) => {
                    std::fs::hard_link(first, &path).unwrap();
                    continue;
                }
                None => continue,
            },
        }
        settle.push((path, item));
    }
    for (path, item) in settle.iter().rev() {
        let kind = path.symlink_metadata().unwrap().file_type();
        std::os::unix::fs::lchown(path, Some(item.owner.0), Some(item.owner.1)).unwrap();
        if !kind.is_symlink() {
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(item.mode), AtFlags::empty()).unwrap();
        }
        if let (Some(value), true) = (&item.xattr, kind.is_file() || kind.is_dir()) {
            rustix::fs::setxattr(path, "user.test", value, XattrFlags::empty()).unwrap();
        }
        let stamp = rustix::fs::Timespec { tv_sec: item.mtime.0, tv_nsec: item.mtime.1.into() };
        let times = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_extracts_to_the_same_tree(items in prop::collection::vec(item(), 0..40)) {
        if !root() {
            return Ok(());
        }
        let (from, to, staged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        build(from.path(), &items);
        let bytes = write(from.path(), &WriteOptions::default());
        prop_assert_eq!(bytes.len() % 512, 0);
        extract(&bytes, to.path(), ExtractOptions::default()).unwrap();
        prop_assert_eq!(describe(from.path()), describe(to.path()));
        // The bytes depend on the tree alone, also through the layer form.
        let again = write(to.path(), &WriteOptions::default()) == bytes;
        prop_assert!(again);
        let layer = Whiteouts::Overlay { user_namespace: false };
        let report = extract(&bytes, staged.path(), with_owner(layer)).unwrap();
        prop_assert!(report.implied.is_empty());
        let same = write(staged.path(), &WriteOptions { layer: true, ..Default::default() }) == bytes;
        prop_assert!(same);
    }

    #[test]
    fn changed_bytes_never_panic(seed in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in any::<prop::sample::Index>()) {
        let mut bytes = corpus();
        for (at, value) in &seed {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        // Headers are refused by their sum almost always; repaired sums reach the code behind it.
        for block in bytes.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                let mut header = ::tar::Header::new_old();
                header.as_mut_bytes().copy_from_slice(block);
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        let end = cut.index(bytes.len() * 2).min(bytes.len());
        let mut reader = Reader::new(&bytes[..end]);
        while let Ok(Some(_)) = reader.next_entry() {}
        let to = tempfile::tempdir().unwrap();
        let jail = to.path().join("jail");
        std::fs::create_dir(&jail).unwrap();
        let _ = extract(&bytes[..end], &jail, ExtractOptions {
            ownership: Ownership::Caller,
            limits: Limits { unpacked: 1 << 24, ..Limits::default() },
            skip_devices: true,
            ..Default::default()
        });
        prop_assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 1);
        // Modes may be anything now; make the tree removable.
        let _ = Command::new("chmod").arg("-R").arg("u+rwx").arg(&jail).status();
    }
}

/// A stream with one of everything.
fn corpus() -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    let long = "n".repeat(200);
    let mut file = Entry::new(EntryKind::File, format!("d/{long}"));
    file.size = 700;
    file.mtime = Timestamp { seconds: -5, nanoseconds: 17 };
    file.xattrs.push((b"user.k".to_vec(), b"v\n\0w".to_vec()));
    tar.header(&Entry::new(EntryKind::Directory, "d")).unwrap();
    tar.append(&file, &[7_u8; 700][..]).unwrap();
    for (kind, name, link) in [
        (EntryKind::Symlink, "d/s", "../d/x"),
        (EntryKind::HardLink, "d/h", &format!("d/{long}")[..]),
        (EntryKind::Fifo, "d/p", ""),
        (EntryKind::File, "d/.wh.gone", ""),
        (EntryKind::File, "d/.wh..wh..opq", ""),
    ] {
        let mut entry = Entry::new(kind, name);
        entry.link = link.as_bytes().to_vec();
        tar.header(&entry).unwrap();
    }
    tar.finish().unwrap().0
}

fn entries(list: &[(EntryKind, &str, &str)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (kind, name, link) in list {
        let mut entry = Entry::new(*kind, *name);
        entry.link = link.as_bytes().to_vec();
        (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if *kind == EntryKind::File {
            entry.size = link.len() as u64;
            entry.link.clear();
            tar.append(&entry, link.as_bytes()).unwrap();
        } else {
            tar.header(&entry).unwrap();
        }
    }
    tar.finish().unwrap().0
}

use EntryKind::{CharDevice, Directory, Fifo, File, HardLink, Symlink};

#[test]
fn hostile_names_are_refused_and_nothing_leaves_the_tree() {
    let deep = vec!["d"; 300].join("/");
    let long = "x".repeat(300);
    let cases: Vec<(&str, Vec<u8>, Option<Fault>)> = vec![
        ("dot dot", entries(&[(File, "../evil", "x")]), Some(Fault::DotDot)),
        ("dot dot inside", entries(&[(File, "a/../../evil", "x")]), Some(Fault::DotDot)),
        ("dot dot directory", entries(&[(Directory, "a/..", "")]), Some(Fault::DotDot)),
        ("absolute stays inside", entries(&[(File, "/evil", "x")]), None),
        (
            "symlinked parent, absolute",
            entries(&[(Symlink, "l", "/nowhere-else"), (File, "l/evil", "x")]),
            Some(Fault::DanglingParent),
        ),
        (
            "symlinked parent, relative",
            entries(&[(Symlink, "l", "../outside"), (File, "l/evil", "x")]),
            Some(Fault::DanglingParent),
        ),
        (
            "chain of links",
            entries(&[(Symlink, "a", ".."), (Symlink, "b", "a/.."), (File, "b/outside/evil", "x")]),
            None,
        ),
        (
            "link loop",
            entries(&[(Symlink, "a", "b"), (Symlink, "b", "a"), (File, "a/evil", "x")]),
            Some(Fault::DanglingParent),
        ),
        ("hard link out", entries(&[(HardLink, "h", "../outside/secret")]), Some(Fault::LinkLeaves)),
        ("hard link absolute", entries(&[(HardLink, "h", "/etc/hostname")]), Some(Fault::LinkMissing)),
        (
            "hard link through a symlink",
            entries(&[(Symlink, "l", "../outside"), (HardLink, "h", "l/secret")]),
            Some(Fault::LinkMissing),
        ),
        ("hard link to nothing", entries(&[(HardLink, "h", "none")]), Some(Fault::LinkMissing)),
        (
            "hard link to a directory",
            entries(&[(Directory, "d", ""), (HardLink, "h", "d")]),
            Some(Fault::LinkToDirectory),
        ),
        ("hard link to the root", entries(&[(HardLink, "h", ".")]), Some(Fault::LinkToDirectory)),
        ("file as parent", entries(&[(File, "f", "x"), (File, "f/g", "x")]), Some(Fault::ParentNotDirectory)),
        ("too deep", entries(&[(File, &deep, "x")]), Some(Fault::TooLong)),
        ("long component", entries(&[(File, &long, "x")]), Some(Fault::TooLong)),
        ("empty link", entries(&[(Symlink, "l", "")]), Some(Fault::BadName)),
        ("root as a file", entries(&[(File, ".", "x")]), Some(Fault::BadName)),
        ("nul", entries(&[(File, &format!("{}\0x", "y".repeat(120)), "x")]), Some(Fault::BadName)),
    ];
    for (name, bytes, fault) in cases {
        let top = tempfile::tempdir().unwrap();
        let (jail, outside) = (top.path().join("jail"), top.path().join("outside"));
        std::fs::create_dir(&jail).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        let before = describe(&outside);
        let result = extract(&bytes, &jail, with_owner(Whiteouts::Ordinary));
        match (&result, fault) {
            (Err(Error::Entry { fault, .. }), Some(want)) => assert_eq!(*fault, want, "{name}"),
            (Ok(_), None) => {}
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(before, describe(&outside), "{name}");
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 2, "{name}");
        assert!(!Path::new("/nowhere-else").exists() && !Path::new("/evil").exists());
    }
}

#[test]
fn malformed_streams_are_refused() {
    let good = entries(&[(File, "a", "hello"), (File, "b", "world")]);
    let read = |bytes: &[u8], limits: Limits| {
        let mut reader = Reader::with_limits(bytes, limits);
        while reader.next_entry()?.is_some() {}
        Ok::<_, Error>(())
    };
    for cut in [100, 512 + 3, 1024 + 512 + 2] {
        assert!(matches!(read(&good[..cut], Limits::default()), Err(Error::Truncated { .. })), "{cut}");
    }
    // A stream may end without its end mark.
    read(&good[..2048], Limits::default()).unwrap();
    read(b"", Limits::default()).unwrap();
    let mut lone = entries(&[])[..512].to_vec();
    lone.extend_from_slice(&good);
    let mut sum = good.clone();
    sum[0] ^= 1;
    for (bytes, fault) in [(lone, HeaderFault::LoneZeroBlock), (sum, HeaderFault::Checksum)] {
        match read(&bytes, Limits::default()) {
            Err(Error::Header { fault: found, .. }) => assert_eq!(found, fault),
            other => panic!("{other:?}"),
        }
    }
    for limits in [Limits { entries: 1, ..Limits::default() }, Limits { unpacked: 7, ..Limits::default() }] {
        assert!(matches!(read(&good, limits), Err(Error::Limit { .. })));
    }
    let long = entries(&[(File, &"p/".repeat(2000), "")]);
    let limits = Limits { extension: 1000, ..Limits::default() };
    assert!(matches!(read(&long, limits), Err(Error::Limit { .. })));
    // Each header is small, what they hold together is not.
    let records = |count: usize, name: &dyn Fn(usize) -> String| {
        let mut data = Vec::new();
        for at in 0..count {
            pax::push(&mut data, name(at).as_bytes(), b"x");
        }
        data
    };
    let in_front = |headers: &[Vec<u8>]| {
        let mut bytes = Vec::new();
        for data in headers {
            let mut header = ::tar::Header::new_ustar();
            header.set_entry_type(::tar::EntryType::XHeader);
            header.set_size(data.len() as u64);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.extend_from_slice(&good);
        bytes
    };
    let comment = records(1, &|_| "comment".repeat(70));
    read(&in_front(std::slice::from_ref(&comment)), Limits { extension: 1000, ..Limits::default() }).unwrap();
    let many = in_front(&vec![comment; 4]);
    assert!(matches!(read(&many, Limits { extension: 1000, ..Limits::default() }), Err(Error::Limit { .. })));
    let attributes = |count| in_front(&[records(count, &|at| format!("SCHILY.xattr.user.{at}"))]);
    read(&attributes(4096), Limits::default()).unwrap();
    assert!(matches!(read(&attributes(4097), Limits::default()), Err(Error::Limit { .. })));
    // A size that no stream can hold.
    let mut huge = entries(&[(File, "a", "hello")]);
    let mut header = ::tar::Header::new_old();
    header.as_mut_bytes().copy_from_slice(&huge[..512]);
    header.set_size(u64::MAX / 4);
    header.set_cksum();
    huge[..512].copy_from_slice(header.as_bytes());
    assert!(matches!(read(&huge, Limits::default()), Err(Error::Limit { .. })));
}

#[test]
fn existing_paths_change_their_type() {
    let to = tempfile::tempdir().unwrap();
    let bytes = entries(&[
        (Directory, "a", ""),
        (File, "a/inside", "1"),
        (File, "a", "now a file"),
        (Symlink, "b", "a"),
        (Directory, "b", ""),
        (File, "b/x", "2"),
        (File, "c", "first"),
        (HardLink, "d", "c"),
        (File, "c", "second"),
        (Fifo, "d2", ""),
        (HardLink, "d2", "c"),
        (HardLink, "c", "c"),
    ]);
    extract(&bytes, to.path(), with_owner(Whiteouts::Ordinary)).unwrap();
    let text = |name: &str| std::fs::read_to_string(to.path().join(name)).unwrap();
    assert_eq!(text("a"), "now a file");
    assert_eq!(text("b/x"), "2");
    assert_eq!((&text("c")[..], &text("d")[..], &text("d2")[..]), ("second", "first", "second"));
}

#[test]
fn a_symlinked_parent_inside_the_root_is_followed() {
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(to.path().join("usr/lib")).unwrap();
    std::os::unix::fs::symlink("/usr/lib", to.path().join("lib")).unwrap();
    let options = ExtractOptions { destination: "lib".into(), ..with_owner(Whiteouts::Ordinary) };
    extract(&entries(&[(File, "x/y", "1"), (HardLink, "z", "x/y")]), to.path(), options).unwrap();
    assert_eq!(std::fs::read_to_string(to.path().join("usr/lib/z")).unwrap(), "1");
}

#[test]
fn whiteout_names_are_ordinary_outside_layers() {
    let to = tempfile::tempdir().unwrap();
    let bytes = entries(&[(File, "d/.wh.x", "1"), (File, "d/.wh..wh..opq", "2")]);
    extract(&bytes, to.path(), with_owner(Whiteouts::Ordinary)).unwrap();
    assert_eq!(std::fs::read_to_string(to.path().join("d/.wh..wh..opq")).unwrap(), "2");
    // In a layer they cannot be said.
    let refused =
        write_tree(open(to.path()).as_fd(), &WriteOptions { layer: true, ..Default::default() }, Vec::new());
    assert!(matches!(refused, Err(Error::Entry { fault: Fault::ReservedName, .. })));
}

#[test]
fn whiteouts_in_overlay_form_and_back() {
    if !root() {
        return;
    }
    let list = [
        (Directory, "d", ""),
        (File, "d/.wh..wh..opq", ""),
        (File, "d/kept", "1"),
        (Directory, "e", ""),
        (File, "e/.wh.gone", ""),
        (Directory, "e/replaced", ""),
        (File, "e/.wh.replaced", ""),
        (File, "e/.wh.file", ""),
        (File, "e/file", "2"),
        (File, "e/.wh..wh.plnk", ""),
        (CharDevice, "e/null", ""),
    ];
    let to = tempfile::tempdir().unwrap();
    let layer = Whiteouts::Overlay { user_namespace: false };
    let report = extract(&entries(&list), to.path(), with_owner(layer)).unwrap();
    assert_eq!(report.skipped.devices, 1, "a device 0/0 is no whiteout in a stream");
    let gone = to.path().join("e/gone").symlink_metadata().unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    assert!(whiteout::is_opaque(open(&to.path().join("e/replaced")).as_fd()).unwrap());
    let mut reader_bytes = Vec::new();
    let bytes = write(to.path(), &WriteOptions { layer: true, ..Default::default() });
    let mut reader = Reader::new(&bytes[..]);
    while let Some(entry) = reader.next_entry().unwrap() {
        reader_bytes.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(
        reader_bytes,
        [
            "d/",
            "d/.wh..wh..opq",
            "d/kept",
            "e/",
            "e/file",
            "e/.wh.gone",
            "e/replaced/",
            "e/replaced/.wh..wh..opq"
        ]
    );
}

#[test]
fn whiteouts_applied_to_a_full_tree_spare_what_the_layer_brings() {
    let to = tempfile::tempdir().unwrap();
    for path in ["d/old", "d/sub/old", "e/gone/deep/x", "e/file", "e/replaced/old", "f/old"] {
        let path = to.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "below").unwrap();
    }
    let bytes = entries(&[
        (Directory, "d", ""),
        (File, "d/sub/new", "1"),
        (File, "d/.wh..wh..opq", ""),
        (File, "e/.wh.gone", ""),
        (File, "e/file", "2"),
        (File, "e/.wh.file", ""),
        (Directory, "e/replaced", ""),
        (File, "e/replaced/new", "3"),
        (File, "e/.wh.replaced", ""),
        (File, "none/.wh.x", ""),
        (File, ".wh.f", ""),
    ]);
    extract(&bytes, to.path(), with_owner(Whiteouts::Apply)).unwrap();
    let found: Vec<_> = describe(to.path()).into_keys().map(|p| p.to_str().unwrap().to_owned()).collect();
    assert_eq!(found, ["d", "d/sub", "d/sub/new", "e", "e/file", "e/replaced", "e/replaced/new"]);
    for hostile in ["d/.wh.", "d/.wh..", "d/.wh...", "d/.wh.x/y"] {
        let result = extract(&entries(&[(File, hostile, "")]), to.path(), with_owner(Whiteouts::Apply));
        assert!(matches!(result, Err(Error::Entry { fault: Fault::Whiteout, .. })), "{hostile}: {result:?}");
    }
}

#[test]
fn a_staged_layer_says_when_it_needs_its_parent() {
    if !root() {
        return;
    }
    let layer = with_owner(Whiteouts::Overlay { user_namespace: false });
    let to = tempfile::tempdir().unwrap();
    let report = extract(&entries(&[(File, "a/b/c", "1")]), to.path(), layer).unwrap();
    assert_eq!(report.implied, [PathBuf::from("a"), PathBuf::from("a/b")]);
    for list in [
        &[(HardLink, "h", "lower/file")][..],
        &[(HardLink, "h", "file")],
        &[(Symlink, "l", "usr/lib"), (File, "l/x", "1")],
        &[(File, ".wh.x", ""), (HardLink, "h", "x")],
    ] {
        let layer = with_owner(Whiteouts::Overlay { user_namespace: false });
        let result = extract(&entries(list), tempfile::tempdir().unwrap().path(), layer);
        assert!(matches!(result, Err(Error::Entry { fault: Fault::NeedsParent, .. })), "{result:?}");
    }
}

#[test]
fn attributes_of_overlayfs_do_not_enter() {
    if !root() {
        return;
    }
    let mut tar = TarWriter::new(Vec::new());
    let mut entry = Entry::new(Directory, "d");
    for name in ["trusted.overlay.redirect", "user.overlay.opaque", "trusted.overlay.metacopy", "user.fine"] {
        entry.xattrs.push((name.as_bytes().to_vec(), b"/etc".to_vec()));
    }
    tar.header(&entry).unwrap();
    let to = tempfile::tempdir().unwrap();
    let report = extract(&tar.finish().unwrap().0, to.path(), ExtractOptions::default()).unwrap();
    assert_eq!(report.skipped.xattrs, 3);
    let fd = open(&to.path().join("d"));
    let mut list = vec![0; 1000];
    let length = rustix::fs::flistxattr(&fd, &mut list).unwrap();
    assert_eq!(&list[..length], b"user.fine\0");
}

/// A tree with all that GNU tar's formats treat specially.
fn gnu_tree(root: &Path) {
    let sparse = root.join("sparse");
    let file = std::fs::File::create(&sparse).unwrap();
    for at in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[b'a' + (at % 26) as u8; 4096], at * 100_000)
            .unwrap();
    }
    file.set_len(50 << 20).unwrap();
    let deep = root.join("long/".to_owned() + &"component-of-some-length/".repeat(12));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f"), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(180), root.join("link")).unwrap();
    std::fs::hard_link(&sparse, root.join("zz-hard")).unwrap();
    std::fs::write(root.join("setuid"), "s").unwrap();
    std::fs::write(root.join("caps"), "c").unwrap();
    rustix::fs::setxattr(root.join("caps"), "user.note", b"a\nb", XattrFlags::empty()).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), null)
        .unwrap();
    std::os::unix::fs::chown(root.join("setuid"), Some(3_000_000), Some(12)).unwrap();
    rustix::fs::chmodat(CWD, root.join("setuid"), Mode::from_raw_mode(0o6755), AtFlags::empty()).unwrap();
}

#[test]
fn streams_of_gnu_tar_extract_as_gnu_tar_does() {
    if !root() {
        return;
    }
    let from = tempfile::tempdir().unwrap();
    gnu_tree(from.path());
    for format in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--xattrs"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ] {
        let made =
            Command::new("tar").args(format).arg("-C").arg(from.path()).args(["-cf", "-", "."]).output();
        let bytes = made.unwrap().stdout;
        let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), &bytes).unwrap();
        let status = Command::new("tar")
            .args(["--xattrs", "-xpf"])
            .arg(archive.path())
            .arg("-C")
            .arg(theirs.path())
            .status()
            .unwrap();
        assert!(status.success());
        extract(&bytes, ours.path(), ExtractOptions::default()).unwrap();
        assert_eq!(describe(theirs.path()), describe(ours.path()), "{format:?}");
        assert!(
            ours.path().join("sparse").metadata().unwrap().blocks() < (50 << 20) / 512
                || !format.contains(&"--sparse")
        );
    }
    // What we write is read by GNU tar.
    let bytes = write(from.path(), &WriteOptions::default());
    let theirs = tempfile::tempdir().unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(archive.path(), &bytes).unwrap();
    let status = Command::new("tar")
        .args(["--xattrs", "-xpf"])
        .arg(archive.path())
        .arg("-C")
        .arg(theirs.path())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(describe(from.path()), describe(theirs.path()));
}

#[test]
fn times_are_clamped_and_paths_skipped() {
    let from = tempfile::tempdir().unwrap();
    std::fs::create_dir(from.path().join("d")).unwrap();
    std::fs::write(from.path().join("d/f"), "x").unwrap();
    std::fs::write(from.path().join("secret"), "x").unwrap();
    let skip = |path: &[u8]| path == b"secret";
    let options = WriteOptions {
        clamp_mtime: Some(1_000),
        skip: Some(&skip),
        prefix: b"rootfs/".to_vec(),
        owner: Some((5, 6)),
        ..Default::default()
    };
    let bytes = write(from.path(), &options);
    let mut reader = Reader::new(&bytes[..]);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!(entry.mtime, Timestamp { seconds: 1_000, nanoseconds: 0 });
        assert_eq!((entry.uid, entry.gid), (5, 6));
        names.push(String::from_utf8(entry.path).unwrap());
    }
    assert_eq!(names, ["rootfs/d/", "rootfs/d/f"]);
}

#[test]
fn checksums_cover_the_content_with_its_holes() {
    let from = tempfile::tempdir().unwrap();
    if !root() {
        return;
    }
    gnu_tree(from.path());
    let made =
        Command::new("tar").args(["--sparse", "-C"]).arg(from.path()).args(["-cf", "-", "sparse"]).output();
    let mut seen = Vec::new();
    let mut sink = |path: &[u8], size: u64, crc: u32| seen.push((path.to_vec(), size, crc));
    let to = tempfile::tempdir().unwrap();
    let options = ExtractOptions { checksum: Some(&mut sink), ..Default::default() };
    extract(&made.unwrap().stdout, to.path(), options).unwrap();
    let want = crc32fast::hash(&std::fs::read(from.path().join("sparse")).unwrap());
    assert_eq!(seen, [(b"sparse".to_vec(), 50 << 20, want)]);
}
