//! One suite for all drivers: over overlay and vfs as root, and over both as root of a user namespace whose owners are
//! nobody outside.

#![allow(clippy::unwrap_used)]

use crate::{
    Driver, Error, Hold, Lease, Prepare, SnapshotKind, Store, StoreOptions, WhiteoutFormat,
    snapshot::open_detached,
};
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use sys::mount::Mount;

/// A mounted snapshot: usable through `path` as long as it lives, attached nowhere.
struct Mounted {
    path: PathBuf,
    _root: OwnedFd,
}

fn mounted(mounts: &[Mount]) -> Mounted {
    let root = open_detached(mounts).unwrap();
    Mounted { path: PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())), _root: root }
}

/// Commits what `change` makes of the parent.
fn commit(store: &Store, lease: &Lease, name: &str, parent: Option<&str>, change: impl FnOnce(&Path)) {
    let key = format!("key-{name}");
    let snapshots = store.snapshots();
    let root = mounted(&snapshots.prepare(lease, &Prepare::new(&key, parent)).unwrap());
    change(&root.path);
    drop(root);
    snapshots.commit(lease, name, &key, None).unwrap();
}

/// Names below a snapshot's root, sorted.
fn tree(store: &Store, name: &str) -> Vec<String> {
    fn walk(directory: &Path, prefix: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), names);
            }
            names.push(name);
        }
    }
    let view = mounted(&store.snapshots().view(name).unwrap());
    let mut names = Vec::new();
    walk(&view.path, "", &mut names);
    names.sort();
    names
}

/// A name and what is tried on an empty store.
type Case = (&'static str, fn(&Store));

/// All cases, on a store of their own each.
fn run_suite(place: &Path, driver: Driver, user_namespace: bool) {
    let cases: [Case; 12] = [
        ("views", views_show_what_was_committed),
        ("changes", children_change_and_delete),
        ("replaced", replaced_directories_hide_what_was_below),
        ("attributes", files_keep_what_they_are),
        ("root", the_root_directory_is_inherited),
        ("taken", taken_names_are_refused),
        ("staged", staged_layers_are_adopted),
        ("remove", removal_is_refused_while_needed),
        ("again", an_active_snapshot_is_mounted_again),
        ("deep", many_layers_are_mounted),
        ("holder", a_holder_keeps_its_snapshot),
        ("awkward", awkward_trees_are_removed),
    ];
    for (name, case) in cases {
        let root = place.join(name);
        let store = Store::open(StoreOptions { root: root.clone(), driver, user_namespace }).unwrap();
        case(&store);
        for directory in ["active", "ingest/partial", "leases", "trash"] {
            let left = sys::fs::read_names(&root.join(directory)).unwrap();
            assert!(left.is_empty(), "{name} left {left:?} in {directory}");
        }
        sys::fs::remove_tree(&root).unwrap();
    }
}

fn views_show_what_was_committed(store: &Store) {
    let lease = store.lease("test").unwrap();
    commit(store, &lease, "base", None, |root| {
        fs::write(root.join("file"), "one").unwrap();
        fs::create_dir(root.join("directory")).unwrap();
    });
    let view = mounted(&store.snapshots().view("base").unwrap());
    assert_eq!(fs::read(view.path.join("file")).unwrap(), b"one");
    let error = fs::write(view.path.join("other"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let info = store.snapshots().stat("base").unwrap().unwrap();
    assert_eq!((info.kind, info.ancestors.len()), (SnapshotKind::Committed, 0));
    let usage = info.usage.unwrap();
    assert_eq!(usage.inodes, 3);
    assert!(usage.bytes >= 1, "{usage:?}");
    assert_eq!(store.snapshots().usage("base").unwrap(), usage);
    assert!(store.snapshots().stat("missing").unwrap().is_none());
    assert!(store.snapshots().view("missing").unwrap_err().is_not_found());
}

fn children_change_and_delete(store: &Store) {
    let lease = store.lease("test").unwrap();
    commit(store, &lease, "base", None, |root| {
        fs::write(root.join("kept"), "kept").unwrap();
        fs::write(root.join("changed"), "old").unwrap();
        fs::write(root.join("deleted"), "x").unwrap();
    });
    commit(store, &lease, "child", Some("base"), |root| {
        fs::write(root.join("changed"), "new").unwrap();
        fs::remove_file(root.join("deleted")).unwrap();
        fs::write(root.join("added"), "x").unwrap();
    });
    commit(store, &lease, "grandchild", Some("child"), |root| {
        fs::rename(root.join("added"), root.join("moved")).unwrap();
    });
    assert_eq!(tree(store, "base"), ["changed", "deleted", "kept"]);
    assert_eq!(tree(store, "child"), ["added", "changed", "kept"]);
    assert_eq!(tree(store, "grandchild"), ["changed", "kept", "moved"]);
    let view = mounted(&store.snapshots().view("grandchild").unwrap());
    assert_eq!(fs::read(view.path.join("changed")).unwrap(), b"new");
    let info = store.snapshots().stat("grandchild").unwrap().unwrap();
    assert_eq!(info.ancestors, ["child", "base"]);
    if store.snapshots().capabilities().whiteouts != WhiteoutFormat::Applied {
        let layer = store.snapshots().layer_directory("child").unwrap();
        let mut names = sys::fs::read_names(&layer).unwrap();
        names.sort();
        assert_eq!(names, ["added", "changed", "deleted"]);
        assert_eq!(sys::fs::symlink_metadata(&layer.join("deleted")).unwrap().rdev(), 0);
    }
    assert_eq!(store.snapshots().walk().unwrap().len(), 3);
}

fn replaced_directories_hide_what_was_below(store: &Store) {
    let lease = store.lease("test").unwrap();
    commit(store, &lease, "base", None, |root| {
        fs::create_dir(root.join("directory")).unwrap();
        fs::write(root.join("directory/below"), "").unwrap();
        fs::write(root.join("kind"), "").unwrap();
    });
    commit(store, &lease, "child", Some("base"), |root| {
        fs::remove_dir_all(root.join("directory")).unwrap();
        fs::create_dir(root.join("directory")).unwrap();
        fs::write(root.join("directory/above"), "").unwrap();
        fs::remove_file(root.join("kind")).unwrap();
        fs::create_dir(root.join("kind")).unwrap();
    });
    assert_eq!(tree(store, "child"), ["directory", "directory/above", "kind"]);
}

fn files_keep_what_they_are(store: &Store) {
    let lease = store.lease("test").unwrap();
    commit(store, &lease, "base", None, |root| {
        fs::write(root.join("file"), "x").unwrap();
        fs::hard_link(root.join("file"), root.join("name")).unwrap();
        chown(root.join("file"), Some(7), Some(8)).unwrap();
        fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
        sys::xattr::set_path(&root.join("file"), "user.note".as_ref(), b"value").unwrap();
        symlink("nowhere", root.join("link")).unwrap();
        let sparse = fs::File::create(root.join("sparse")).unwrap();
        (&sparse).write_all(b"begin").unwrap();
        sparse.set_len(64 << 20).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), pipe, mode, 0).unwrap();
    });
    let modified = {
        let view = mounted(&store.snapshots().view("base").unwrap());
        fs::metadata(view.path.join("file")).unwrap().modified().unwrap()
    };
    commit(store, &lease, "child", Some("base"), |root| fs::write(root.join("other"), "").unwrap());
    let view = mounted(&store.snapshots().view("child").unwrap());
    let file = fs::metadata(view.path.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 8, 0o4751));
    assert_eq!(file.modified().unwrap(), modified);
    assert_eq!(file.ino(), fs::metadata(view.path.join("name")).unwrap().ino());
    let note = sys::xattr::get_path(&view.path.join("file"), "user.note".as_ref()).unwrap();
    assert_eq!(note.as_deref(), Some(&b"value"[..]));
    assert_eq!(fs::read_link(view.path.join("link")).unwrap(), Path::new("nowhere"));
    let sparse = fs::metadata(view.path.join("sparse")).unwrap();
    assert_eq!(sparse.len(), 64 << 20);
    assert!(sparse.blocks() < 1024, "the hole was filled: {}", sparse.blocks());
    let kind = fs::symlink_metadata(view.path.join("pipe")).unwrap().mode() & 0o170_000;
    assert_eq!(kind, 0o010_000);
}

fn the_root_directory_is_inherited(store: &Store) {
    let lease = store.lease("test").unwrap();
    commit(store, &lease, "base", None, |root| {
        chown(root, Some(3), Some(4)).unwrap();
        fs::set_permissions(root, fs::Permissions::from_mode(0o1777)).unwrap();
    });
    commit(store, &lease, "child", Some("base"), |_| {});
    let view = mounted(&store.snapshots().view("child").unwrap());
    let root = fs::metadata(view.path.join(".")).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (3, 4, 0o1777));
}

fn taken_names_are_refused(store: &Store) {
    let lease = store.lease("test").unwrap();
    let snapshots = store.snapshots();
    commit(store, &lease, "base", None, |root| fs::write(root.join("first"), "").unwrap());
    snapshots.prepare(&lease, &Prepare::new("key", Some("base"))).unwrap();
    let again = snapshots.prepare(&lease, &Prepare::new("key", None));
    assert!(matches!(again, Err(Error::SnapshotExists { .. })), "{again:?}");
    let commit = snapshots.commit(&lease, "base", "key", None);
    assert!(matches!(commit, Err(Error::SnapshotExists { .. })), "{commit:?}");
    // It stayed, whole.
    let root = mounted(&snapshots.mounts("key").unwrap());
    fs::write(root.path.join("second"), "").unwrap();
    drop(root);
    snapshots.commit(&lease, "other", "key", None).unwrap();
    assert_eq!(tree(store, "other"), ["first", "second"]);
    for name in ["", "..", "a/b", ".hidden", "a\0"] {
        let result = snapshots.prepare(&lease, &Prepare::new(name, None));
        assert!(matches!(result, Err(Error::InvalidName { .. })), "{name:?}");
        assert!(matches!(snapshots.view(name), Err(Error::InvalidName { .. })), "{name:?}");
    }
    let orphan = snapshots.prepare(&lease, &Prepare::new("orphan", Some("missing")));
    assert!(orphan.unwrap_err().is_not_found());
}

fn staged_layers_are_adopted(store: &Store) {
    let lease = store.lease("test").unwrap();
    let snapshots = store.snapshots();
    // The upper one first, as when it is unpacked faster.
    let upper = snapshots.stage(&lease, "upper").unwrap();
    fs::write(upper.join("upper"), "").unwrap();
    let base = snapshots.stage(&lease, "base").unwrap();
    fs::write(base.join("base"), "").unwrap();
    snapshots.adopt(&lease, "base", "base", None, None).unwrap();
    let adopted = snapshots.adopt(&lease, "upper", "upper", Some("base"), None);
    if !snapshots.capabilities().parent_at_commit {
        assert!(matches!(adopted, Err(Error::Unsupported { .. })), "{adopted:?}");
        return;
    }
    adopted.unwrap();
    assert_eq!(tree(store, "upper"), ["base", "upper"]);
    snapshots.stage(&lease, "third").unwrap();
    let lost = snapshots.adopt(&lease, "third", "third", Some("missing"), None);
    assert!(lost.unwrap_err().is_not_found());
}

fn removal_is_refused_while_needed(store: &Store) {
    let lease = store.lease("test").unwrap();
    let snapshots = store.snapshots();
    commit(store, &lease, "base", None, |root| fs::write(root.join("file"), "").unwrap());
    snapshots.prepare(&lease, &Prepare::new("key", Some("base"))).unwrap();
    assert!(matches!(snapshots.remove("base"), Err(Error::InUse { .. })));
    snapshots.remove("key").unwrap();
    snapshots.remove("base").unwrap();
    snapshots.remove("base").unwrap();
    assert!(snapshots.walk().unwrap().is_empty());
}

fn an_active_snapshot_is_mounted_again(store: &Store) {
    let lease = store.lease("test").unwrap();
    let snapshots = store.snapshots();
    commit(store, &lease, "base", None, |root| fs::write(root.join("file"), "").unwrap());
    for volatile in [false, true] {
        let key = if volatile { "volatile" } else { "kept" };
        let prepare = Prepare { volatile, ..Prepare::new(key, Some("base")) };
        snapshots.prepare(&lease, &prepare).unwrap();
        for name in ["one", "two", "three"] {
            let root = mounted(&snapshots.mounts(key).unwrap());
            fs::write(root.path.join(name), "").unwrap();
        }
        let root = mounted(&snapshots.mounts(key).unwrap());
        assert_eq!(fs::read_dir(&root.path).unwrap().count(), 4);
        assert!(snapshots.usage(key).unwrap().inodes >= 4);
        assert_eq!(snapshots.stat(key).unwrap().unwrap().kind, SnapshotKind::Active);
    }
}

fn many_layers_are_mounted(store: &Store) {
    // More than a page of mount options takes.
    const LAYERS: usize = 130;
    let lease = store.lease("test").unwrap();
    let mut parent: Option<String> = None;
    let layers = if store.snapshots().capabilities().parent_at_commit { LAYERS } else { 5 };
    for number in 0..layers {
        let key = format!("layer-with-a-name-as-long-as-a-real-one-has-it-0123456789abcdef-{number}");
        store.snapshots().prepare(&lease, &Prepare::new(&key, parent.as_deref())).unwrap();
        let layer = store.snapshots().layer_directory(&key).unwrap();
        fs::write(layer.join(format!("file{number:03}")), "").unwrap();
        store.snapshots().commit(&lease, &key, &key, None).unwrap();
        parent = Some(key);
    }
    assert_eq!(tree(store, parent.as_deref().unwrap()).len(), layers);
    let root = mounted(&store.snapshots().prepare(&lease, &Prepare::new("top", parent.as_deref())).unwrap());
    fs::remove_file(root.path.join("file000")).unwrap();
    assert_eq!(fs::read_dir(&root.path).unwrap().count(), layers - 1);
}

fn a_holder_keeps_its_snapshot(store: &Store) {
    let holder = store.root().join("container.json");
    let snapshots = store.snapshots();
    for write_record in [false, true] {
        let lease = store.lease("test").unwrap();
        let prepare = Prepare { holder: Some(&holder), ..Prepare::new("held", None) };
        snapshots.prepare(&lease, &prepare).unwrap();
        if write_record {
            fs::write(&holder, "").unwrap();
        }
        drop(lease);
        assert_eq!(snapshots.stat("held").unwrap().is_some(), write_record);
    }
    store.sweep(crate::SweepOptions::default()).unwrap();
    assert!(snapshots.stat("held").unwrap().is_some());
    // As a container is removed: hold, record, snapshot; here the last step is left to the lease.
    let lease = store.lease("rm").unwrap();
    assert!(lease.hold(Hold::Active("held".to_owned())).unwrap());
    fs::remove_file(&holder).unwrap();
    lease.end().unwrap();
    assert!(snapshots.stat("held").unwrap().is_none());
    assert!(!store.lease("rm").unwrap().hold(Hold::Active("held".to_owned())).unwrap());
}

fn awkward_trees_are_removed(store: &Store) {
    let lease = store.lease("test").unwrap();
    let root = mounted(&store.snapshots().prepare(&lease, &Prepare::new("key", None)).unwrap());
    let closed = root.path.join("closed");
    fs::create_dir_all(closed.join("inside")).unwrap();
    fs::write(closed.join("inside/file"), "").unwrap();
    chown(&closed, Some(5), Some(5)).unwrap();
    fs::set_permissions(closed.join("inside"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    symlink("/", root.path.join("link")).unwrap();
    // Deeper than descriptors last, and than a path may be long.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let mut directory = rustix::fs::open(&root.path, flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&directory, "deeper", rustix::fs::Mode::RWXU).unwrap();
        directory = rustix::fs::openat(&directory, "deeper", flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(directory);
    drop(root);
    store.snapshots().usage("key").unwrap();
    store.snapshots().remove("key").unwrap();
    assert!(store.snapshots().stat("key").unwrap().is_none());
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn overlay_as_root() {
    if is_root() {
        let place = tempfile::tempdir().unwrap();
        run_suite(place.path(), Driver::Overlay, false);
    }
}

#[test]
fn vfs_as_root() {
    if is_root() {
        let place = tempfile::tempdir().unwrap();
        run_suite(place.path(), Driver::Vfs, false);
    }
}

#[test]
fn both_in_a_user_namespace() {
    use std::process::{Command, Stdio};
    if !is_root() {
        return;
    }
    const OWNER: u32 = 100_000;
    let place = tempfile::tempdir().unwrap();
    chown(place.path(), Some(OWNER), Some(OWNER)).unwrap();
    // The namespace's maps are written by us, so neither subuids nor a set-uid helper are needed.
    let mut holder = Command::new("unshare")
        .args(["--user", "--mount", "--", "sh", "-c", "echo; read -r end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", holder.id()), format!("0 {OWNER} 65536")).unwrap();
    }
    let output = Command::new("nsenter")
        .args(["--user", "--mount", "--setuid", "0", "--setgid", "0", "--target"])
        .arg(holder.id().to_string())
        .arg("--")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "snapshot::suite::inside_a_user_namespace", "--ignored", "--nocapture"])
        .env("DAVIT_SUITE_PLACE", place.path())
        .output()
        .unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by both_in_a_user_namespace"]
fn inside_a_user_namespace() {
    let place = PathBuf::from(std::env::var_os("DAVIT_SUITE_PLACE").unwrap());
    run_suite(&place.join("overlay"), Driver::Overlay, true);
    run_suite(&place.join("vfs"), Driver::Vfs, true);
    // An unprivileged store finds the driver by itself.
    let options = StoreOptions { root: place.join("auto"), driver: Driver::Auto, user_namespace: true };
    let store = Store::open(options.clone()).unwrap();
    assert_eq!(store.snapshots().name(), "overlay", "{:?}", store.driver_reason());
    assert_eq!(
        Store::open(StoreOptions { driver: Driver::Vfs, ..options }).unwrap().snapshots().name(),
        "vfs"
    );
}
