//! `--cache-from` and `--cache-to`: a second store stands for a fresh runner.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::{Access, Davit, Registry, context, scratch};

const TEXT: &str = "FROM busybox AS tools\nRUN echo ran >> /out; echo tool > /tool\nRUN date +%s%N > /unused\n\
                    FROM busybox\nCOPY f /f\nRUN date +%s%N > /time\nCOPY --from=tools /tool /tool\nCMD [\"cat\", \"/time\"]\n";

/// A store that has nothing but the base image, the same in all of them.
fn runner() -> Davit {
    static BASE: OnceLock<TempDir> = OnceLock::new();
    let archive = |dir: &TempDir| dir.path().join("base.tar").to_str().unwrap().to_owned();
    let base = BASE.get_or_init(|| {
        let dir = scratch();
        let first = Davit::with_busybox();
        first.run(["save", "-q", "--format=oci-archive", "-o", &archive(&dir), "busybox"]).ok();
        dir
    });
    let davit = Davit::new();
    davit.run(["load", "-q", "-i", &archive(base)]).ok();
    davit
}

fn build(davit: &Davit, context: &Path, more: &[&str]) -> crate::support::Done {
    let mut args = vec!["build", "--explain", "--tls-verify=false", "-t", "app"];
    args.extend(more);
    args.push(context.to_str().unwrap());
    davit.run(args)
}

fn misses(done: &crate::support::Done) -> usize {
    done.ok();
    done.stderr.lines().filter(|line| line.starts_with("MISS")).count()
}

/// Blobs of an OCI layout directory, with their sizes.
fn blobs(layout: &Path) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = std::fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_fresh_runner_runs_nothing_and_makes_the_same_image() {
    let registry = Registry::start(Access::Plain);
    let dir = context(TEXT, &[("f", "1")]);
    let reference = format!("{}/team/cache", registry.host);
    for mode in ["min", "max"] {
        let to = format!("--cache-to=type=registry,ref={reference}:{mode},mode={mode}");
        let from = format!("--cache-from=type=registry,ref={reference}:{mode}");
        let first = runner();
        assert_eq!(misses(&build(&first, dir.path(), &[&from, &to])), 5);
        let id = first.inspect("app", "{{.Id}}");
        let second = runner();
        let done = build(&second, dir.path(), &["--assert-cached", &from]);
        assert_eq!(misses(&done), 0, "{mode}");
        assert_eq!(second.inspect("app", "{{.Id}}"), id, "{mode}");
        assert_eq!(second.sh("app", "cat /tool"), "tool");
        // What came is known here from now on.
        let done = build(&second, dir.path(), &["--assert-cached"]);
        assert_eq!(misses(&done), 0, "{mode}");
        // Only a cache with everything knows the stage that the image takes from.
        let stage = build(&second, dir.path(), &["--target=tools", "-t", "tools", &from]);
        assert_eq!(misses(&stage), if mode == "max" { 0 } else { 2 }, "{mode}");
    }
}

#[test]
fn only_what_hits_is_fetched() {
    let registry = Registry::start(Access::Plain);
    let reference = format!("{}/c", registry.host);
    // Before there is a cache, looking for one is no failure.
    let text = "FROM busybox\nCOPY f /f\nRUN head -c 3000000 /dev/urandom > /big\nCOPY g /g\nRUN head -c 3000000 /dev/urandom > /late\n";
    let dir = context(text, &[("f", "1"), ("g", "1")]);
    let first = runner();
    build(&first, dir.path(), &["--cache-from", &reference, "--cache-to", &reference]).ok();
    std::fs::write(dir.path().join("g"), "2").unwrap();
    let second = runner();
    let done = build(&second, dir.path(), &["--cache-from", &reference]);
    assert_eq!(misses(&done), 2);
    let sum = |image: &str, path: &str, davit: &Davit| davit.sh(image, &format!("sha256sum {path}"));
    assert_eq!(sum("app", "/big", &first), sum("app", "/big", &second));
    assert_ne!(sum("app", "/late", &first), sum("app", "/late", &second));
    let big = std::fs::read_dir(second.root().join("blobs/sha256"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.metadata().unwrap().len() > 2_900_000);
    assert_eq!(big.count(), 1, "the layer that missed was fetched too");
}

#[test]
fn an_unchanged_cache_is_exported_at_once() {
    let registry = Registry::start(Access::Plain);
    let reference = format!("{}/c", registry.host);
    let dir = context(TEXT, &[("f", "1")]);
    let davit = runner();
    let layout = scratch();
    let to = [
        format!("type=registry,ref={reference},mode=max"),
        format!("type=local,dest={},mode=max", layout.path().display()),
    ];
    let flags: Vec<String> = to.iter().map(|to| format!("--cache-to={to}")).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    build(&davit, dir.path(), &flags).ok();
    let (files, before) = (registry.blob_files(), blobs(layout.path()));
    let start = Instant::now();
    let done = build(&davit, dir.path(), &flags);
    let took = start.elapsed();
    assert_eq!(misses(&done), 0);
    assert_eq!((registry.blob_files(), blobs(layout.path())), (files, before));
    println!("no-op build with two exports: {took:?}");
    assert!(took.as_secs() < 5, "{took:?}");
}

#[test]
fn a_layout_directory_and_an_image_are_caches_too() {
    let registry = Registry::start(Access::Plain);
    let dir = context(TEXT, &[("f", "1")]);
    let layout = scratch();
    let first = runner();
    let local = format!("type=local,dest={}", layout.path().join("c").display());
    build(&first, dir.path(), &["--cache-to", &local, "--cache-to=type=inline"]).ok();
    let image = format!("{}/app:1", registry.host);
    first.run(["push", "-q", "--tls-verify=false", "app", &image]).ok();
    let id = first.inspect("app", "{{.Id}}");

    let second = runner();
    let from = format!("type=local,src={}", layout.path().join("c").display());
    let done = build(&second, dir.path(), &["--cache-to=type=inline", "--cache-from", &from]);
    assert_eq!(misses(&done), 0, "{done:?}");
    assert_eq!(second.inspect("app", "{{.Id}}"), id);

    // A repository's name alone means its newest image, as Docker has it, where there is no cache.
    first.run(["push", "-q", "--tls-verify=false", "app", &format!("{}/app", registry.host)]).ok();
    let third = runner();
    let plain = format!("{}/app", registry.host);
    let done = build(&third, dir.path(), &["--cache-to=type=inline", "--cache-from", &plain]);
    assert_eq!(misses(&done), 0, "{done:?}");
    let third = runner();
    let done = build(&third, dir.path(), &["--cache-to=type=inline", "--cache-from", &image]);
    assert_eq!(misses(&done), 0, "{done:?}");
    assert_eq!(third.inspect("app", "{{.Id}}"), id);
}

#[test]
fn a_cache_has_all_platforms() {
    let layout = scratch();
    let dir =
        context("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /f\n", &[("amd64", "a"), ("arm64", "b")]);
    let both = "--platform=linux/amd64,linux/arm64";
    let to = format!("--cache-to=type=local,dest={}", layout.path().display());
    let from = format!("--cache-from=type=local,src={}", layout.path().display());
    assert_eq!(misses(&build(&Davit::new(), dir.path(), &[both, &to])), 2);
    assert_eq!(misses(&build(&Davit::new(), dir.path(), &[both, &from])), 0);
}

#[test]
fn what_was_not_needed_stays_in_the_cache() {
    let layout = scratch();
    let dir = context(TEXT, &[("f", "1")]);
    let to = format!("--cache-to=type=local,dest={},mode=max", layout.path().display());
    let from = format!("--cache-from=type=local,src={}", layout.path().display());
    build(&runner(), dir.path(), &[&to]).ok();
    let index = std::fs::read(layout.path().join("index.json")).unwrap();
    // The runner fetches the last step's result only, and writes the cache again.
    let second = runner();
    assert_eq!(misses(&build(&second, dir.path(), &[&from, &to])), 0);
    assert_eq!(std::fs::read(layout.path().join("index.json")).unwrap(), index);
}

#[test]
fn a_cache_that_fails_is_no_reason_to_fail() {
    let dir = context(TEXT, &[("f", "1")]);
    let layout = scratch();
    let first = runner();
    let to = format!("--cache-to=type=local,dest={},mode=max", layout.path().display());
    let from = format!("--cache-from=type=local,src={}", layout.path().display());
    build(&first, dir.path(), &[&to]).ok();
    // A missing cache, and one whose layers were swapped for each other.
    let missing = runner();
    let done = build(&missing, dir.path(), &["--cache-from=type=local,src=/nonexistent"]);
    assert_eq!(misses(&done), 5);
    for (name, size) in blobs(layout.path()) {
        let path = layout.path().join("blobs/sha256").join(name);
        let bytes = std::fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut wrong = bytes.clone();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 0x55;
            std::fs::write(&path, wrong).unwrap();
            assert!(size > 0);
        }
    }
    let second = runner();
    let done = build(&second, dir.path(), &["--progress=plain", &from]);
    assert_eq!(misses(&done), 5, "{done:?}");
    assert!(done.stderr.contains("the step runs instead"), "{done:?}");
    assert_eq!(second.sh("app", "cat /tool"), "tool");
    let unwritable = build(&first, dir.path(), &["--cache-to=type=local,dest=/proc/none"]);
    unwritable.fails(125, "/proc/none");
    build(&first, dir.path(), &["--cache-to=type=local,dest=/proc/none,ignore-error=true"]).ok();
    build(&first, dir.path(), &["--cache-to=type=gha"]).fails(125, "type=gha");
}

/// Bytes of all blobs of a registry.
fn stored(registry: &Registry) -> u64 {
    let data = registry.dir.path().join("data");
    let sizes = crate::support::tool(
        "find",
        [data.to_str().unwrap(), "-path", "*/blobs/*", "-name", "data", "-printf", "%s\\n"],
    );
    sizes.ok().lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

#[test]
fn cache_mounts_travel_and_move_only_what_changed() {
    let registry = Registry::start(Access::Plain);
    let text = |script: &str| {
        format!("FROM busybox\nRUN --mount=type=cache,id=pkg,target=/c,mode=1770,gid=50 {script}\n")
    };
    let fill = text(
        "mkdir -p /c/d/e && i=0; while [ $i -lt 128 ]; do head -c 524288 /dev/urandom > /c/d/$i; i=$((i+1)); done; \
         echo hi > /c/d/e/small && chown 7:8 /c/d/e/small && chmod 640 /c/d/e/small && ln -s ../0 /c/d/link && \
         touch -d '2001-02-03 04:05:06' /c/d/e/small && mkdir /c/empty && chmod 700 /c/empty && mkfifo /c/fifo",
    );
    let sums = "(cd /c && find . -type f | sort | xargs sha256sum | sha256sum && stat -c '%n %a %u %g' . && stat -c '%n %a %u %g %Y' d/e/small empty && readlink d/link)";
    let dir = context(&fill, &[]);
    let place = format!("ref={}/c,mode=max,mounts=pkg", registry.host);
    let to = format!("--cache-to=type=registry,{place}");
    let from = format!("--cache-from={}/c", registry.host);
    let first = runner();
    build(&first, dir.path(), &[&to]).ok();
    let full = stored(&registry);
    assert!(full > 64 << 20, "{full}");

    // Nothing changed: nothing moves, and nothing is read.
    let start = Instant::now();
    build(&first, dir.path(), &[&to]).ok();
    println!("no-op export of 64 MiB: {:?}", start.elapsed());
    assert_eq!(stored(&registry), full);

    // A fresh runner has the files when a step wants them.
    std::fs::write(dir.path().join("Containerfile"), text(&format!("{sums} > /sums"))).unwrap();
    build(&first, dir.path(), &[]).ok();
    let second = runner();
    build(&second, dir.path(), &[&from]).ok();
    assert_eq!(second.sh("app", "cat /sums"), first.sh("app", "cat /sums"));
    assert!(second.sh("app", "cat /sums").contains("d/e/small 640 7 8 981173106"));

    // One percent changes there.
    std::fs::write(
        dir.path().join("Containerfile"),
        text("head -c 524288 /dev/urandom > /c/d/7; echo more >> /c/d/9; rm /c/d/11; echo new > /c/new"),
    )
    .unwrap();
    build(&second, dir.path(), &[&to]).ok();
    let moved = stored(&registry) - full;
    println!("moved {moved} of {full} bytes");
    assert!(moved > 0 && moved * 20 <= full, "{moved} of {full} bytes moved");
    std::fs::write(dir.path().join("Containerfile"), text(&format!("{sums} > /sums # again"))).unwrap();
    build(&second, dir.path(), &[]).ok();
    let third = runner();
    build(&third, dir.path(), &[&from]).ok();
    assert_eq!(third.sh("app", "cat /sums"), second.sh("app", "cat /sums"));
}

#[test]
fn a_mount_that_came_damaged_begins_empty() {
    let layout = scratch();
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c ls /c | wc -l > /count; head -c 300000 /dev/urandom > /c/f\n";
    let dir = context(text, &[]);
    let to = format!("--cache-to=type=local,dest={},mounts=*", layout.path().display());
    let from = format!("--cache-from=type=local,src={}", layout.path().display());
    build(&runner(), dir.path(), &[&to]).ok();
    let check = |expected: &str| {
        let fresh = runner();
        std::fs::write(dir.path().join("Containerfile"), format!("{text}# {expected}\nENV X={expected}\n"))
            .unwrap();
        let done = build(&fresh, dir.path(), &["--progress=plain", "--no-cache", &from]);
        done.ok();
        assert_eq!(fresh.sh("app", "cat /count"), expected, "{done:?}");
        done
    };
    check("1");
    // The pack: the largest zstd blob.
    let pack = blobs(layout.path()).into_iter().max_by_key(|(_, size)| *size).unwrap().0;
    let path = layout.path().join("blobs/sha256").join(pack);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let done = check("0");
    assert!(done.stderr.contains("it begins empty"), "{done:?}");
}

#[test]
fn cache_mounts_are_locked_across_processes_and_pruned_when_idle() {
    let davit = runner();
    let text = "FROM busybox\nRUN --mount=type=cache,id=a,target=/a,sharing=locked --mount=type=cache,id=b,target=/b,sharing=locked \
                --mount=type=cache,id=a,target=/again [ ! -e /a/busy ] && touch /a/busy && [ -e /again/busy ] && sleep 1 && rm /a/busy && echo x >> /b/count\n";
    let other = "FROM busybox\nRUN --mount=type=cache,id=b,target=/b,sharing=locked --mount=type=cache,id=a,target=/a,sharing=locked \
                 [ ! -e /a/busy ] && touch /a/busy && sleep 1 && rm /a/busy && echo x >> /b/count\n";
    let dirs = [context(text, &[]), context(other, &[])];
    std::thread::scope(|scope| {
        for dir in &dirs {
            scope.spawn(|| build(&davit, dir.path(), &["--no-cache"]).ok());
        }
    });
    let count = context("FROM busybox\nRUN --mount=type=cache,id=b,target=/b cat /b/count > /count\n", &[]);
    build(&davit, count.path(), &[]).ok();
    assert_eq!(davit.sh("app", "cat /count"), "x\nx");
    davit.run(["builder", "prune", "-f"]).ok();
    assert_eq!(std::fs::read_dir(davit.root().join("build/mounts")).unwrap().count(), 0);
}
