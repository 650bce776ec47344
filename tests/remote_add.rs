//! `ADD` from a web server and from git, through real servers on this host.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Davit, Done, context, scratch, tool, wait_until};

/// A web server with one file that can change.
struct Web {
    address: String,
    text: Arc<Mutex<String>>,
    sent: Arc<AtomicUsize>,
}

impl Web {
    fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let text = Arc::new(Mutex::new(text.to_owned()));
        let sent = Arc::new(AtomicUsize::new(0));
        let (content, count) = (text.clone(), sent.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), &content.lock().unwrap(), &count);
            }
        });
        Self { address, text, sent }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// `/redirect` leads to `/f/name.txt`; `/private` wants a token; all else is the file.
fn answer(mut stream: TcpStream, text: &str, sent: &AtomicUsize) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    let head = head.to_lowercase();
    let etag = format!("\"{}\"", text.len());
    if head.starts_with("get /redirect") {
        return stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /f/name.txt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    if head.starts_with("get /private") && !head.contains("authorization: bearer letmein") {
        return stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if head.contains(&format!("if-none-match: {etag}")) {
        return stream.write_all(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n");
    }
    sent.fetch_add(1, Ordering::SeqCst);
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nETag: {etag}\r\nLast-Modified: Fri, 13 Feb 2009 23:31:30 GMT\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

fn build(davit: &Davit, name: &str, text: &str) -> Done {
    davit.build(name, text, &[])
}

#[test]
fn a_file_from_a_server_is_fetched_when_it_changed() {
    let davit = Davit::with_busybox();
    let web = Web::start("first");
    let url = &web.address;
    let text = format!("FROM busybox\nADD {url}/redirect /named\nADD {url}/f/name.txt?x=1 /d/\n");
    let first = build(&davit, "a", &text);
    first.ok();
    assert_eq!(
        davit.sh("a", "stat -c '%n %a %u %Y' /named /d/name.txt; cat /named"),
        "/named 600 0 1234567890\n/d/name.txt 600 0 1234567890\nfirst"
    );
    assert_eq!(web.sent(), 2);
    assert_eq!(build(&davit, "a", &text).ok(), first.ok(), "the same image");
    assert_eq!(web.sent(), 2, "unchanged files are not sent again");
    *web.text.lock().unwrap() = "second one".to_owned();
    build(&davit, "a", &text).ok();
    assert_eq!(davit.sh("a", "cat /named /d/name.txt"), "second onesecond one");
    let pinned = format!("FROM busybox\nADD --checksum=sha256:{} {url}/f /f\n", "0".repeat(64));
    build(&davit, "b", &pinned).fails(125, "expected sha256:0000");
    let missing = format!("FROM busybox\nADD {url}/private /f\n");
    build(&davit, "b", &missing).fails(125, "401");
    assert_eq!(build(&davit, "b", "FROM busybox\nADD http://127.0.0.1:1/x /f\n").code, 125);
}

/// `git daemon` over a directory of repositories.
struct GitServer {
    child: Child,
    dir: tempfile::TempDir,
    address: String,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        // The daemon is a child of `git`; both are of one group.
        let _ = tool("kill", ["--", &format!("-{}", self.child.id())]);
        let _ = self.child.wait();
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity =
        ["-c", "user.name=T", "-c", "user.email=t@example.invalid", "-c", "protocol.file.allow=always"];
    let directory = directory.to_str().unwrap();
    tool("git", identity.iter().chain(&["-C", directory]).chain(arguments)).ok()
}

impl GitServer {
    fn start() -> Self {
        use std::os::unix::process::CommandExt;
        let dir = scratch();
        for name in ["lib.git", "app.git"] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            git(&path, &["init", "-q", "-b", "main"]);
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("git")
            .args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", dir.path().display()))
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("git serves", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, dir, address: format!("git://127.0.0.1:{port}") }
    }

    fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        let path = self.dir.path().join(name);
        for (file, content) in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-qm", "change"]);
        git(&path, &["rev-parse", "HEAD"])
    }
}

#[test]
fn a_repository_at_a_branch_a_tag_a_commit_and_with_submodules() {
    let davit = Davit::with_busybox();
    let server = GitServer::start();
    let url = &server.address;
    let app = server.dir.path().join("app.git");
    server.commit("lib.git", &[("lib.c", "library")]);
    let first = server.commit("app.git", &[("main.c", "one"), ("sub/dir/x", "deep"), ("run", "#!/bin/sh\n")]);
    git(&app, &["tag", "-a", "v1", "-m", "the first"]);
    git(&app, &["submodule", "--quiet", "add", &format!("{url}/lib.git"), "lib"]);
    let second = server.commit("app.git", &[("main.c", "two")]);
    let list = "cd /src && find . -type f | sort && cat main.c";

    build(&davit, "a", &format!("FROM busybox\nADD {url}/app.git /src\n")).ok();
    assert_eq!(davit.sh("a", list), "./.gitmodules\n./lib/lib.c\n./main.c\n./run\n./sub/dir/x\ntwo");
    assert_eq!(davit.sh("a", "stat -c '%a %u' /src /src/main.c /src/sub"), "755 0\n644 0\n755 0");
    build(&davit, "a", &format!("FROM busybox\nADD {url}/app.git?submodules=false#main /src\n")).ok();
    assert_eq!(davit.sh("a", list), "./.gitmodules\n./main.c\n./run\n./sub/dir/x\ntwo");
    // An annotated tag means its commit.
    let tagged = format!("FROM busybox\nADD --checksum={} {url}/app.git#v1 /src\n", &first[..12]);
    build(&davit, "a", &tagged).ok();
    assert_eq!(davit.sh("a", list), "./main.c\n./run\n./sub/dir/x\none");
    build(&davit, "a", &format!("FROM busybox\nADD {url}/app.git#{first}:sub /src\n")).ok();
    assert_eq!(davit.sh("a", "cd /src && find . -type f"), "./dir/x");
    let kept = format!("FROM busybox\nADD --keep-git-dir {url}/app.git#v1 /src\n");
    build(&davit, "a", &kept).ok();
    assert!(davit.sh("a", "ls -A /src").contains(".git\n"));
    let head = davit.sh("a", "cat /src/.git/HEAD");
    assert_eq!(head, first);

    // Known by its commit: the server may be gone for one that is named.
    let text = format!("FROM busybox\nADD {url}/app.git#{second} /src\n");
    let image = build(&davit, "b", &text).ok();
    build(&davit, "b", &format!("FROM busybox\nADD {url}/app.git#nothing /src\n"))
        .fails(125, "nothing of git://");
    build(&davit, "b", &format!("FROM busybox\nADD --checksum=abcdef1 {url}/app.git#v1 /src\n"))
        .fails(125, "expected commit abcdef1");
    drop(server);
    assert_eq!(build(&davit, "b", &text).ok(), image);
}

#[test]
fn a_hostile_repository_gets_nothing() {
    let davit = Davit::with_busybox();
    let server = GitServer::start();
    let url = &server.address;
    let app = server.dir.path().join("app.git");
    let proof = scratch();
    let touch = format!("#!/bin/sh\ntouch {}/ran\n", proof.path().display());
    server.commit(
        "app.git",
        &[("f", "x"), (".gitattributes", "f filter=evil\n"), ("hooks/post-checkout", &touch)],
    );
    std::os::unix::fs::symlink("/etc/passwd", app.join("link")).unwrap();
    // The place of a submodule that is not checked out.
    std::fs::create_dir(app.join("a")).unwrap();
    std::fs::write(
        app.join(".gitmodules"),
        format!("[submodule \"a\"]\n\tpath = a\n\turl = ext::sh -c touch% {}/ran\n", proof.path().display()),
    )
    .unwrap();
    git(&app, &["update-index", "--add", "--cacheinfo", "160000,0123456789012345678901234567890123456789,a"]);
    server.commit("app.git", &[]);
    assert!(git(&app, &["ls-tree", "HEAD"]).contains("160000 commit"));
    // The submodule's protocol is refused, and with it the build.
    assert_eq!(build(&davit, "a", &format!("FROM busybox\nADD {url}/app.git /src\n")).code, 125);
    build(&davit, "a", &format!("FROM busybox\nADD {url}/app.git?submodules=0 /src\n")).ok();
    assert_eq!(davit.sh("a", "readlink /src/link; ls /src/hooks"), "/etc/passwd\npost-checkout");
    let below = format!("FROM busybox\nADD {url}/app.git?submodules=0&subdir=link /src\n");
    build(&davit, "a", &below).fails(125, "not found");
    assert!(!proof.path().join("ran").exists());
    for bad in ["ext::sh", "-oProxyCommand=x@h:y", "ssh://-oProxyCommand=x/y"] {
        assert_eq!(build(&davit, "a", &format!("FROM busybox\nADD {bad} /src\n")).code, 125, "{bad}");
    }
}

#[test]
fn a_build_without_a_context_adds_from_a_server() {
    let davit = Davit::with_busybox();
    let web = Web::start("text");
    let text = format!("FROM busybox\nADD --link {}/f /f\n", web.address);
    davit.run_with_input(["build", "-q", "-t", "a", "-"], text.as_bytes()).ok();
    assert_eq!(davit.sh("a", "cat /f"), "text");
    let dir = context(&format!("FROM busybox\nADD {}/a f /both/\n", web.address), &[("f", "local")]);
    davit.run(["build", "-q", "-t", "b", dir.path().to_str().unwrap()]).ok();
    assert_eq!(davit.sh("b", "cat /both/a /both/f"), "textlocal");
}
