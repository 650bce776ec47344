#![allow(clippy::unwrap_used)]
//! Mounts out and in again, what a change costs, and what a hostile cache cannot do.

use super::index::{Entry, Pack};
use super::*;
use oci::{Descriptor, Digest, ManifestOrIndex, Raw};
use registry::{Source, Which};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use storage::{Driver, Lease, MountUse, Store, StoreOptions};

/// Packs as a cache elsewhere.
struct Blobs<'a>(&'a Lab);

impl Source for Blobs<'_> {
    fn describe(&self) -> String {
        "a test".to_owned()
    }

    fn manifest(&self, _which: Which<'_>) -> registry::Result<Raw<ManifestOrIndex>> {
        unreachable!("mounts need no manifest")
    }

    fn blob(&self, descriptor: &Descriptor, _offset: u64) -> registry::Result<Box<dyn Read + Send + '_>> {
        let packs = self.0.packs.lock().unwrap();
        let path = packs.get(&descriptor.digest).cloned().unwrap_or_default();
        let file = sys::fs::open(&path);
        Ok(Box::new(file.map_err(|error| registry::Error::external("open", error))?))
    }
}

struct Lab {
    directory: tempfile::TempDir,
    store: Store,
    lease: Lease,
    packs: std::sync::Mutex<NewPacks>,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let store = Store::open(StoreOptions { root, driver: Driver::Vfs, user_namespace: false }).unwrap();
        let lease = store.lease("test").unwrap();
        Self { directory, store, lease, packs: std::sync::Mutex::default() }
    }

    /// Changes the mount by a shell script and saves it.
    fn save(&self, script: &str, previous: Option<&Index>) -> Index {
        self.save_counting(script, previous).0
    }

    /// Also tells how many bytes of files were read.
    fn save_counting(&self, script: &str, previous: Option<&Index>) -> (Index, u64) {
        let mount = self.store.cache_mounts().try_take("m", 0, MountUse::Alone).unwrap().unwrap();
        mount.make::<storage::Error>(&self.lease, |_| Ok(())).unwrap();
        sh(mount.path(), script);
        let saved = save(&self.lease, &mount, previous, None).unwrap();
        self.packs.lock().unwrap().extend(saved.packs);
        (saved.index, saved.read)
    }

    fn restore(&self, index: &Index) -> crate::Result<tempfile::TempDir> {
        let into = tempfile::tempdir_in(self.directory.path()).unwrap();
        restore(&Blobs(self), index, into.path())?;
        Ok(into)
    }
}

fn sh(directory: &Path, script: &str) -> String {
    let output = std::process::Command::new("sh").arg("-ec").arg(script).current_dir(directory).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const LIST: &str =
    "find . -mindepth 1 -printf '%p %y %m %T@ %l\\n' | sort; find . -type f -exec sha256sum {} + | sort";

#[test]
fn a_mount_comes_back_as_it_was_and_a_change_costs_what_it_changes() {
    let lab = Lab::new();
    let index = lab.save(
        "mkdir -p a/b c; for i in $(seq 300); do echo $i > a/b/$i; done; head -c 5000000 /dev/urandom > big; \
         cp big a/same; ln -s ../big c/link; ln -s /nowhere c/bad; : > empty; chmod 600 empty; \
         printf x > \"$(printf 'a/\\377%%')\"; touch -d @1000000000.5 a/b; mkfifo pipe",
        None,
    );
    let path = lab.store.cache_mounts().try_take("m", 0, MountUse::Alone).unwrap().unwrap().path().to_owned();
    let back = lab.restore(&index).unwrap();
    assert_eq!(sh(back.path(), LIST), sh(&path, &LIST.replace("-mindepth 1", "-mindepth 1 ! -type p")));
    // Copies cost nothing.
    let sizes = |index: &Index| index.blobs().map(|blob| blob.size).sum::<u64>();
    assert!((5_000_000..5_200_000).contains(&sizes(&index)), "{}", sizes(&index));

    // Unchanged: the same index, nothing new.
    let again = lab.save("true", Some(&index));
    assert_eq!(again, index);

    let changed =
        lab.save("printf inserted | cat - big > new; mv new big; echo changed > a/b/7", Some(&index));
    let old: BTreeSet<&Digest> = index.blobs().map(|blob| &blob.digest).collect();
    let new: u64 = changed.blobs().filter(|blob| !old.contains(&blob.digest)).map(|blob| blob.size).sum();
    assert!(new > 0 && new < 700_000, "{new}");
    assert_eq!(sh(lab.restore(&changed).unwrap().path(), "cat a/b/7; head -c 8 big"), "changed\ninserted");

    // A pack that is mostly garbage does not stay.
    let small = lab.save("rm big a/same; echo more > more", Some(&changed));
    assert!(sizes(&small) < 100_000, "{}", sizes(&small));
    assert!(small.blobs().all(|blob| !old.contains(&blob.digest)));
    assert_eq!(sh(lab.restore(&small).unwrap().path(), "cat a/b/300 more"), "300\nmore\n");
}

/// In small what a gigabyte of a compiler's cache does: one file of a hundred changes.
#[test]
fn a_change_of_a_hundredth_moves_little_and_nothing_else_is_read() {
    let lab = Lab::new();
    let make = "for i in $(seq 100); do head -c 200000 /dev/urandom > $i; done; sleep 0.05";
    let (index, read) = lab.save_counting(make, None);
    assert_eq!(read, 20_000_000);
    let (again, read) = lab.save_counting("true", Some(&index));
    assert_eq!((&again, read), (&index, 0), "just written, and not read again");

    let (changed, read) = lab
        .save_counting("head -c 200000 /dev/urandom > 7; touch -d @1 8; mv 9 new; sleep 0.05", Some(&again));
    // a file whose time was set, or that has another name, may have another content
    assert_eq!(read, 600_000);
    let old: BTreeSet<&Digest> = index.blobs().map(|blob| &blob.digest).collect();
    let new: u64 = changed.blobs().filter(|blob| !old.contains(&blob.digest)).map(|blob| blob.size).sum();
    assert!((200_000..400_000).contains(&new), "{new}");
    assert_eq!(lab.save_counting("true", Some(&changed)).1, 0);
}

#[test]
fn what_may_change_within_one_time_is_read_again() {
    let lab = Lab::new();
    let mount = lab.store.cache_mounts().try_take("m", 0, MountUse::Alone).unwrap().unwrap();
    mount.make::<storage::Error>(&lab.lease, |_| Ok(())).unwrap();
    let path = mount.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let stat = rustix::fs::stat(&path).unwrap();
    let times = |seconds: i64, nanos: u64| {
        let mut stat = stat;
        (stat.st_ctime, stat.st_ctime_nsec) = (seconds, nanos);
        super::notes::State::of(&stat).is_settled()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (now, nanos) = (i64::try_from(now.as_secs()).unwrap(), u64::from(now.subsec_nanos()));
    assert!(!times(now + 100, nanos), "the clock was set back");
    assert!(times(now - 1, nanos.max(1)));
    assert!(!times(now - 1, 0), "a file system that keeps seconds");
    assert!(times(now - 5, 0));
}

#[test]
fn nothing_is_written_outside_and_nothing_unchecked() {
    let lab = Lab::new();
    let good = lab.save("echo content > file", None);
    let outside = tempfile::tempdir_in(lab.directory.path()).unwrap();
    let target = outside.path().to_str().unwrap().as_bytes().to_vec();
    let chunks = good.entries[0].chunks.clone();
    let entry = |path: &str, mode| Entry::new(Path::new(path), mode, (0, 0), (0, 0));
    let file = |path: &str| {
        let mut entry = entry(path, 0o100_644);
        entry.chunks.clone_from(&chunks);
        entry
    };
    let link = |path: &str| entry(path, 0o120_777).with_target(&target);
    for entries in [
        // through a link, before and after it
        vec![link("a"), file("a/x")],
        vec![file("a/x"), link("a")],
        vec![link("a"), entry("a", 0o040_755), file("a/x")],
        // twice the same name
        vec![file("x"), file("x")],
        vec![link("x"), file("x")],
        // no directory
        vec![file("d/x")],
    ] {
        let index = Index::new(good.packs.clone(), entries);
        let result = lab.restore(&index);
        assert!(result.is_err(), "{index:?}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);

    let wrong = |change: &dyn Fn(&mut Pack)| {
        let mut packs = good.packs.clone();
        change(&mut packs[0]);
        let index = Index::new(packs, vec![file("x")]);
        assert!(lab.restore(&index).is_err());
    };
    wrong(&|pack| pack.chunks[0].0 = Digest::of(b"other"));
    wrong(&|pack| pack.chunks[0].1 += 1);
    wrong(&|pack| pack.blob.digest = Digest::of(b"none"));
    wrong(&|pack| pack.blob.size -= 1);
}

#[test]
fn a_secret_does_not_travel() {
    let lab = Lab::new();
    let index = lab.save("mkdir d; echo plain > d/f; sleep 0", None);
    let secrets = builder::ports::Secrets::from([("token".to_owned(), b"s3cret-value".to_vec())]);
    let search = builder::secrets::Search::new(&secrets).unwrap();
    let mount = lab.store.cache_mounts().try_take("m", 0, MountUse::Alone).unwrap().unwrap();
    save(&lab.lease, &mount, Some(&index), Some(&search)).unwrap();
    for content in ["auth: s3cret-value", "czNjcmV0LXZhbHVl"] {
        sh(mount.path(), &format!("echo {content} > d/leak"));
        let error = save(&lab.lease, &mount, Some(&index), Some(&search)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("d/leak") && text.contains("token") && !text.contains("s3cret"), "{text}");
    }
}
