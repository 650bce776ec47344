//! Contexts that were made to be hard: a clear error or a correct copy, never a file from outside, never a hang.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Davit, Done, binary, context, finish, scratch, tool};

/// What must never be found in a store.
const SECRET: &str = "the-secret-from-outside";

/// Builds a context into the image `x`; fails the test if that takes minutes.
#[track_caller]
fn build(davit: &Davit, context: &Path, more: &[&str]) -> Done {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "120"]).arg(binary()).arg("--root").arg(davit.root());
    command.arg("--runroot").arg(davit.runroot()).env("HOME", davit.dir.path());
    command.args(["build", "--progress=plain", "-t", "x"]).args(more).arg(context);
    let done = finish(&mut command);
    assert!(!matches!(done.code, 124 | 137), "the build hangs: {done:#?}");
    assert!(!done.stderr.contains("panicked"), "{done:#?}");
    done
}

/// A directory with a secret, outside of all contexts.
fn outside() -> tempfile::TempDir {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    for name in ["secret", "below/secret"] {
        std::fs::write(dir.path().join(name), SECRET).unwrap();
    }
    dir
}

#[track_caller]
fn nothing_escaped(davit: &Davit) {
    let found = tool("grep", ["-rl".as_ref(), SECRET.as_ref(), davit.root().as_os_str()]);
    assert_eq!(found.stdout, "", "the store holds what was outside of the context");
}

#[test]
fn links_lead_nowhere() {
    let davit = Davit::with_busybox();
    let outside = outside();
    let files = |dir: &Path| {
        symlink(outside.path(), dir.join("link")).unwrap();
        std::fs::create_dir_all(dir.join("dir/deeper")).unwrap();
        symlink(outside.path(), dir.join("dir/deeper/mid")).unwrap();
        symlink(outside.path().join("secret"), dir.join("file")).unwrap();
        symlink("../../../../../../../../../..", dir.join("up")).unwrap();
        let relative = format!("../../../../../..{}", outside.path().join("secret").display());
        symlink(relative, dir.join("relative")).unwrap();
        symlink("/proc/self/root", dir.join("magic")).unwrap();
        symlink("circle", dir.join("circle")).unwrap();
    };
    let path = outside.path().display();
    let sources = [
        "COPY link/secret /x".to_owned(),
        "COPY link /x/".to_owned(),
        "COPY link/below /x/".to_owned(),
        "COPY dir/deeper/mid/secret /x".to_owned(),
        "COPY dir/deeper/mid/ /x/".to_owned(),
        "COPY file /x".to_owned(),
        "COPY relative /x".to_owned(),
        "COPY circle /x".to_owned(),
        format!("COPY up{path}/secret /x"),
        format!("COPY magic{path}/secret /x"),
        format!("COPY ../../../../../..{path}/secret /x"),
        format!("COPY dir/../link/../..{path}/secret /x"),
        "COPY --parents ./dir/deeper/mid/secret /x/".to_owned(),
        "ADD link/secret /x".to_owned(),
        "ADD file /x".to_owned(),
        "RUN --mount=type=bind,source=link,target=/m cat /m/secret /m/below/secret".to_owned(),
        "RUN --mount=type=bind,source=file,target=/m cat /m".to_owned(),
    ];
    for source in sources {
        let dir = context(&format!("FROM busybox\n{source}\n"), &[]);
        files(dir.path());
        let done = build(&davit, dir.path(), &[]);
        assert_ne!(done.code, 0, "{source}: {done:#?}");
        assert!(!done.stdout.contains(SECRET) && !done.stderr.contains(SECRET), "{done:#?}");
    }
    // Links below what is copied stay links.
    let dir = context("FROM busybox\nCOPY . /x/\nCOPY d*/deeper/m* /y/\nCOPY lin* nothing* /z/\n", &[]);
    files(dir.path());
    let done = build(&davit, dir.path(), &[]);
    if done.code == 0 {
        let shown = davit.sh("x", "readlink /x/link; readlink /x/circle; ls -AR /y /z 2>&1; true");
        assert!(shown.starts_with(&format!("{path}\ncircle")), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
    nothing_escaped(&davit);
    // The context may be a link itself: that is the user's choice.
    let dir = context("FROM busybox\nCOPY a /a\n", &[("a", "content")]);
    let place = scratch();
    symlink(dir.path(), place.path().join("context")).unwrap();
    build(&davit, &place.path().join("context"), &[]).ok();
    assert_eq!(davit.sh("x", "cat /a"), "content");
}

#[test]
fn special_files() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nCOPY . /all/\nCOPY f* /one/\n", &[("plain", "text")]);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    tool("mkfifo", [path("fifo")]).ok();
    tool("mknod", [path("device"), "c".into(), "1".into(), "3".into()]).ok();
    let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    build(&davit, dir.path(), &[]).ok();
    drop(socket);
    let shown = davit.sh("x", "cd /all; for f in *; do stat -c '%n %F' $f; done; stat -c %F /one/fifo");
    assert_eq!(
        shown,
        "Containerfile regular file\ndevice character special file\nfifo fifo\nplain regular file\nfifo"
    );
    // A device that overlay would take for a deletion is refused.
    tool("mknod", [path("whiteout"), "c".into(), "0".into(), "0".into()]).ok();
    build(&davit, dir.path(), &[]).fails(125, "whiteout");
}

#[test]
fn deep_directories() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nCOPY . /x/\n", &[]);
    let script =
        "i=0; while [ $i -lt $2 ]; do mkdir d && cd -P ./d || exit 1; i=$((i+1)); done; echo deep > file";
    let deep = |levels: &str| {
        let mut command = Command::new("sh");
        command.current_dir(dir.path()).args(["-c", script, "sh", "", levels]);
        finish(&mut command)
    };
    // More levels than there are descriptors at first.
    deep("1100").ok();
    let limited = format!(
        "ulimit -Sn 1024; exec timeout -k 5 120 {} --root {} --runroot {} build -t x {}",
        binary().display(),
        davit.root().display(),
        davit.runroot().display(),
        dir.path().display()
    );
    tool("sh", ["-c", limited.as_str()]).ok();
    assert_eq!(davit.sh("x", "find /x -type d | wc -l; find /x -name file | xargs cat"), "1101\ndeep");
    tool("rm", ["-rf", dir.path().join("d").to_str().unwrap()]).ok();
    // Ten thousand: no path is as long.
    let python = "import os\nfor i in range(10000):\n os.mkdir('d'); os.chdir('d')\n";
    let mut command = Command::new("python3");
    finish(command.current_dir(dir.path()).args(["-c", python])).ok();
    let done = build(&davit, dir.path(), &[]);
    done.fails(125, "name too long");
    assert!(done.stderr.len() < 8_000, "{} bytes of error", done.stderr.len());
    // What is hidden is not entered.
    std::fs::write(dir.path().join(".dockerignore"), "d\n").unwrap();
    build(&davit, dir.path(), &[]).ok();
    tool("rm", ["-rf", dir.path().join("d").to_str().unwrap()]).ok();
}

#[test]
fn names_are_bytes() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nCOPY . /all/\nCOPY n* /some/\nCOPY d*/x /last/\n";
    let dir = context(text, &[]);
    let long = [b'n'; 255];
    let names: [&[u8]; 6] =
        [b"n\xff\xfe", b"n new\nline", b"n\x1b[31mred", &long, b"n \"quotes' $A", b"n\xc3"];
    for name in names {
        std::fs::write(dir.path().join(OsStr::from_bytes(name)), "x").unwrap();
    }
    let odd = dir.path().join(OsStr::from_bytes(b"d\xf0"));
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("x"), "odd").unwrap();
    build(&davit, dir.path(), &[]).ok();
    assert_eq!(davit.sh("x", "cat /all/n* | wc -c; cat /some/n* | wc -c; cat /last/x"), "6\n6\nodd");
    std::fs::write(dir.path().join(".dockerignore"), "n*\nd?\n").unwrap();
    std::fs::write(dir.path().join("Containerfile"), "FROM busybox\nCOPY . /all/\n").unwrap();
    build(&davit, dir.path(), &[]).ok();
    assert_eq!(davit.sh("x", "ls -A /all"), ".dockerignore\nContainerfile");
}

/// Does something to a context over and over until it is dropped.
struct Meddler {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Meddler {
    fn new(mut meddle: impl FnMut(usize) + Send + 'static) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            for round in 0.. {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                meddle(round);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn files_that_change_while_they_are_read() {
    let davit = Davit::with_busybox();
    let outside = outside();
    let text = "FROM busybox\nCOPY dir /x/\nCOPY dir/swap /y/\nCOPY dir/sub/secret /z/\nRUN --mount=type=bind,source=dir,target=/m true\n";
    let dir = context(text, &[("dir/grow", "g"), ("dir/swap", "harmless"), ("dir/sub/secret", "harmless")]);
    for number in 0..200 {
        std::fs::write(dir.path().join(format!("dir/file{number}")), vec![b'f'; 20_000]).unwrap();
    }
    let base = dir.path().join("dir");
    let away = outside.path().to_owned();
    let meddler = Meddler::new(move |round| {
        let at = |name: &str| -> PathBuf { base.join(name) };
        // Sometimes a build gets through.
        std::thread::sleep(std::time::Duration::from_millis(if round % 40 == 0 { 600 } else { 2 }));
        // Nothing here may fail the thread: the build reads at the same time.
        let _ = std::fs::write(at("new"), "harmless");
        let _ = symlink(away.join("secret"), at("newlink"));
        let _ = std::fs::rename(if round % 2 == 0 { at("newlink") } else { at("new") }, at("swap"));
        let _ = symlink(&away, at("sublink"));
        let _ = std::fs::rename(at("sub"), at("subdir"));
        let _ = std::fs::rename(at("sublink"), at("sub"));
        let _ = std::fs::remove_file(at("sub"));
        let _ = std::fs::rename(at("subdir"), at("sub"));
        let _ = std::fs::write(at("grow"), vec![b'g'; (round % 50) * 100_000]);
        let _ = std::fs::remove_file(at(&format!("file{}", round % 200)));
        let _ = tool("mkfifo", [at(&format!("file{}", (round + 1) % 200))]);
        let _ = std::fs::write(at(&format!("file{}", (round + 100) % 200)), vec![b'f'; round % 20_000]);
    });
    let mut good = 0;
    for _ in 0..12 {
        let done = build(&davit, dir.path(), &["--no-cache"]);
        match done.code {
            0 => good += 1,
            _ if done.stderr.contains("Containerfile:") => {
                eprintln!("{}", done.stderr.lines().last().unwrap())
            }
            code => assert!(code == 125 && done.stderr.contains("Containerfile:"), "{done:#?}"),
        }
        assert!(!done.stderr.contains(SECRET), "{done:#?}");
    }
    drop(meddler);
    nothing_escaped(&davit);
    assert!(good < 12, "nothing was changed while it was read");
    // The next build of a quiet context works.
    let quiet = context("FROM busybox\nCOPY a /a\n", &[("a", "b")]);
    build(&davit, quiet.path(), &[]).ok();
}

#[test]
fn hard_links_and_holes() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nCOPY . /x/\n", &[("a/one", "same")]);
    std::fs::hard_link(dir.path().join("a/one"), dir.path().join("two")).unwrap();
    let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(256 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 100 << 20).unwrap();
    build(&davit, dir.path(), &[]).ok();
    let shown = davit.sh(
        "x",
        "cd /x; [ $(stat -c %i a/one) = $(stat -c %i two) ] && echo linked; stat -c %s sparse; du -k sparse | cut -f1; dd if=sparse bs=1M skip=100 count=1 2>/dev/null | head -c 6",
    );
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("linked", "268435456", "middle"), "{shown}");
    assert!(lines[2].parse::<u64>().unwrap() < 10_000, "the holes were filled: {} KiB", lines[2]);
}

#[test]
fn containerfiles_and_ignore_files_that_are_none() {
    let davit = Davit::with_busybox();
    let good = "FROM busybox\nCOPY . /x/\n";
    let make = |path: &Path, kind: &str| match kind {
        "fifo" => drop(tool("mkfifo", [path])),
        "directory" => std::fs::create_dir(path).unwrap(),
        "huge" => std::fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
        "binary" => std::fs::write(path, [0x7f, b'E', b'L', b'F', 0xff, 0, 0xfe]).unwrap(),
        "device" => drop(tool("mknod", [path.to_str().unwrap(), "c", "1", "5"])),
        "endless" => symlink("/dev/zero", path).unwrap(),
        "link into nowhere" => symlink("/no/such/file", path).unwrap(),
        "circle" => symlink(path.file_name().unwrap(), path).unwrap(),
        _ => std::fs::write(path, [0; 5000]).unwrap(),
    };
    for kind in
        ["fifo", "directory", "huge", "binary", "device", "endless", "link into nowhere", "circle", "zeros"]
    {
        let dir = scratch();
        make(&dir.path().join("Containerfile"), kind);
        build(&davit, dir.path(), &[]).fails(125, "Containerfile");
        let named = dir.path().join("named");
        make(&named, kind);
        build(&davit, dir.path(), &["-f", named.to_str().unwrap()]).fails(125, "named");
        if kind == "zeros" {
            // A pattern of NULs is a pattern.
            continue;
        }
        let dir = context(good, &[("a", "b")]);
        make(&dir.path().join(".dockerignore"), kind);
        build(&davit, dir.path(), &[]).fails(125, ".dockerignore");
    }
    let dir = context(good, &[("a", "b")]);
    std::fs::write(dir.path().join(".dockerignore"), "*.x\n".repeat(100_000)).unwrap();
    build(&davit, dir.path(), &[]).fails(125, "more than 5000 patterns");
    std::fs::write(dir.path().join(".dockerignore"), "some/name\n".repeat(100_000)).unwrap();
    build(&davit, dir.path(), &[]).ok();
    // What a shell passes is read, FIFO or not.
    let script = format!(
        "{} --root {} --runroot {} build -t x -f <(printf 'FROM busybox\\nRUN echo passed > /p\\n') {}",
        binary().display(),
        davit.root().display(),
        davit.runroot().display(),
        dir.path().display()
    );
    tool("bash", ["-c", script.as_str()]).ok();
    assert_eq!(davit.sh("x", "cat /p"), "passed");
}

#[test]
fn unreadable_files_of_an_ordinary_user() {
    let dir = context("FROM scratch\nCOPY . /x/\n", &[("locked", "secret"), ("open", "text")]);
    let store = scratch();
    for path in [dir.path(), store.path()] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    std::fs::set_permissions(dir.path().join("locked"), PermissionsExt::from_mode(0o600)).unwrap();
    // The build directory may lie where only root can look.
    std::fs::create_dir(store.path().join("bin")).unwrap();
    std::fs::copy(binary(), store.path().join("bin/davit")).unwrap();
    let script = format!(
        "exec env HOME={0} XDG_RUNTIME_DIR={0} timeout -k 5 120 {0}/bin/davit --root {0}/root --runroot {0}/run build {1}",
        store.path().display(),
        dir.path().display()
    );
    let done =
        tool("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script.as_str()]);
    assert_ne!(done.code, 0, "{done:#?}");
    // Where the machine lets nobody make a user namespace, that is what is said.
    let reason = ["locked", "user namespace"].iter().any(|text| done.stderr.contains(text));
    assert!(reason && !matches!(done.code, 124 | 137), "{done:#?}");
}
