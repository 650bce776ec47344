//! Where a build's files come from.

use std::path::Path;

use crate::support::{Davit, context, scratch, tool};

/// A directory of context files and the tar of it.
fn archive(dir: &Path, files: &[(&str, &str)], more: &[&str]) -> Vec<u8> {
    for (name, content) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let tar = dir.join("../ctx.tar");
    let mut args = vec!["-C", dir.to_str().unwrap(), "-cf", tar.to_str().unwrap()];
    args.extend(more);
    args.push(".");
    tool("tar", args).ok();
    std::fs::read(tar).unwrap()
}

#[test]
fn standard_input_is_an_archive_or_a_containerfile() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let files = [
        ("Containerfile", "FROM busybox\nCOPY . /c/\n"),
        ("Other", "FROM busybox\nCOPY a/b /other\n"),
        (".dockerignore", "hidden\n"),
        ("a/b", "content\n"),
        ("hidden", "no\n"),
    ];
    let plain = archive(&dir.path().join("ctx"), &files, &[]);
    for (number, packer) in [None, Some("gzip"), Some("bzip2"), Some("xz"), Some("zstd")].iter().enumerate() {
        let bytes = match packer {
            None => plain.clone(),
            Some(packer) => {
                let path = dir.path().join("packed");
                std::fs::write(&path, &plain).unwrap();
                let done = std::process::Command::new(packer).arg("-c").arg(&path).output().unwrap();
                assert!(done.status.success(), "{packer}: {done:?}");
                done.stdout
            }
        };
        let name = format!("n{number}");
        davit.run_with_input(["build", "-q", "-t", &name, "-"], &bytes).ok();
        assert_eq!(
            davit.sh(&name, "cd /c; find . -type f | sort"),
            "./.dockerignore\n./Containerfile\n./Other\n./a/b"
        );
    }
    davit.run_with_input(["build", "-q", "-t", "o", "-f", "Other", "-"], &plain).ok();
    assert_eq!(davit.sh("o", "cat /other"), "content");
    davit.run_with_input(["build", "-q", "-t", "text", "-"], b"FROM busybox\nRUN echo 1 > /1\n").ok();
    assert_eq!(davit.sh("text", "cat /1"), "1");
    let done = davit.run_with_input(["build", "-q", "-"], b"FROM busybox\nCOPY a /\n");
    assert_ne!(done.code, 0, "there is nothing to copy from: {done:#?}");
    davit.run_with_input(["build", "-q", "-"], &[0xff; 2000]).fails(125, "neither an archive nor");
    davit.run_with_input(["build", "-q", "-f", "-", "-"], &plain).fails(125, "standard input");
    // Half an archive is no context.
    let done = davit.run_with_input(["build", "-q", "-"], &plain[..700]);
    assert_eq!(done.code, 125, "{done:#?}");
    // Nothing of it stays.
    assert_eq!(tool("find", [davit.root().join("ingest").to_str().unwrap(), "-name", "context*"]).ok(), "");
}

#[test]
fn a_foreign_context_leads_nowhere() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "FROM busybox\nRUN echo the-secret\n").unwrap();
    let ctx = dir.path().join("ctx");
    std::fs::create_dir_all(&ctx).unwrap();
    std::os::unix::fs::symlink(&secret, ctx.join("Containerfile")).unwrap();
    let bytes = archive(&ctx, &[], &[]);
    let done = davit.run_with_input(["build", "-q", "-"], &bytes);
    assert_eq!(done.code, 125, "{done:#?}");
    assert!(!done.stderr.contains("the-secret"), "{done:#?}");
    // Members that name places outside are refused or stay inside.
    std::fs::remove_file(ctx.join("Containerfile")).unwrap();
    std::fs::write(ctx.join("Containerfile"), "FROM busybox\nCOPY . /c\n").unwrap();
    let bytes = archive(&ctx, &[("f", "escaped\n")], &["-P", "--transform", "s,^./f$,../../../escaped,"]);
    let _ = davit.run_with_input(["build", "-q", "-t", "e", "-"], &bytes);
    assert_eq!(
        tool("find", [davit.dir.path().to_str().unwrap(), "-name", "escaped", "-not", "-path", "*/fs/*"])
            .ok(),
        ""
    );
}

#[test]
fn named_contexts_have_ignore_files_of_their_own() {
    let davit = Davit::with_busybox();
    let files = [
        (".dockerignore", "*.log\ndeep/x\n"),
        ("a.log", "1\n"),
        ("a", "1\n"),
        ("deep/x", "1\n"),
        ("deep/y", "1\n"),
    ];
    let other = context("FROM scratch\n", &files);
    let main = context(
        "FROM busybox\nCOPY --from=dir / /copied\nRUN --mount=from=dir,target=/m cd /m && find . -type f > /mounted\n",
        &[(".dockerignore", "a\n")],
    );
    let named = format!("dir={}", other.path().display());
    let build =
        || davit.run(["build", "-q", "-t", "x", "--build-context", &named, main.path().to_str().unwrap()]);
    let look = || {
        davit.sh("x", "cd /copied && find . -type f | grep -v file$ | sort; grep -v file$ /mounted | sort")
    };
    build().ok();
    let kept = "./.dockerignore\n./a\n./deep/y";
    assert_eq!(look(), format!("{kept}\n{kept}"));
    // One of the same place with the other name goes before it, and one that is wrong is named.
    std::fs::write(other.path().join(".containerignore"), "deep\n.*ignore\n").unwrap();
    build().ok();
    assert_eq!(look(), "./a\n./a.log\n./a\n./a.log");
    std::fs::write(other.path().join(".containerignore"), "[\n").unwrap();
    build().fails(125, ".containerignore");
}

#[test]
fn named_contexts() {
    let davit = Davit::with_busybox();
    let files = context("FROM scratch\n", &[("data/x", "from the directory\n")]);
    let other = context("FROM busybox\nRUN echo other > /which\n", &[]);
    davit.run(["build", "-q", "-t", "other:1", other.path().to_str().unwrap()]).ok();
    let layout = files.path().join("layout");
    davit.run(["push", "-q", "other:1", &format!("oci:{}:latest", layout.display())]).ok();
    let main = context(
        "FROM busybox AS stage\nRUN echo stage > /which\nFROM base\nCOPY --from=dir data/x /x\nCOPY --from=stage /which /stage\nRUN --mount=from=dir,target=/m cat /m/data/x > /mounted\n",
        &[],
    );
    for (name, base) in [
        ("image", "base=docker-image://localhost/other:1".to_owned()),
        ("container", "base=container-image://localhost/other:1".to_owned()),
        ("layout", format!("base=oci-layout://{}:latest", layout.display())),
    ] {
        davit
            .run([
                "build",
                "-q",
                "-t",
                name,
                "--build-context",
                &base,
                "--build-context",
                &format!("dir={}", files.path().display()),
                "--build-context",
                "stage=docker-image://localhost/other:1",
                main.path().to_str().unwrap(),
            ])
            .ok();
        // A context goes before a stage of its name.
        assert_eq!(
            davit.sh(name, "cat /which /x /stage /mounted"),
            "other\nfrom the directory\nother\nfrom the directory"
        );
    }
    davit
        .run(["build", "-q", "--build-context", "dir=/nowhere", main.path().to_str().unwrap()])
        .fails(125, "/nowhere");
}

/// A web server for the files of a directory.
struct Web {
    host: String,
}

impl Web {
    fn start(dir: &Path) -> Self {
        use std::io::{BufRead, BufReader, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().and_then(Result::ok).unwrap_or_default();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
                let path = path.split('?').next().unwrap_or_default().to_owned();
                let (status, body) = match std::fs::read(dir.join(path)) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&body);
            }
        });
        Self { host }
    }
}

#[test]
fn archives_and_containerfiles_of_a_web_server() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let files = [
        ("Containerfile", "FROM busybox\nCOPY f /f\n"),
        ("sub/Other", "FROM busybox\nCOPY f /g\n"),
        ("f", "1\n"),
    ];
    archive(&dir.path().join("ctx"), &files, &[]);
    tool("gzip", ["-kf", dir.path().join("ctx.tar").to_str().unwrap()]).ok();
    std::fs::write(dir.path().join("Web"), "FROM busybox\nRUN echo web > /w\n").unwrap();
    let web = Web::start(dir.path());
    davit.run(["build", "-q", "-t", "a", &format!("http://{}/ctx.tar.gz", web.host)]).ok();
    assert_eq!(davit.sh("a", "cat /f"), "1");
    davit
        .run(["build", "-q", "-t", "b", "-f", "sub/Other", &format!("http://{}/ctx.tar?v=1", web.host)])
        .ok();
    assert_eq!(davit.sh("b", "cat /g"), "1");
    davit.run(["build", "-q", "-t", "w", &format!("http://{}/Web", web.host)]).ok();
    assert_eq!(davit.sh("w", "cat /w"), "web");
    davit.run(["build", "-q", &format!("http://{}/none", web.host)]).fails(125, "404");
    let main = context("FROM busybox\nCOPY --from=web f /named\n", &[]);
    let named = format!("web=http://{}/ctx.tar.gz", web.host);
    davit.run(["build", "-q", "-t", "n", "--build-context", &named, main.path().to_str().unwrap()]).ok();
    assert_eq!(davit.sh("n", "cat /named"), "1");
    let named = format!("web=http://{}/Web", web.host);
    davit
        .run(["build", "-q", "--build-context", &named, main.path().to_str().unwrap()])
        .fails(125, "no archive");
    davit.run(["build", "-q", "ftp://127.0.0.1/x"]).fails(125, "http://");
}

#[test]
fn git_repositories() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let work = dir.path().join("work");
    let git = |args: &[&str]| {
        let mut all =
            vec!["-C", work.to_str().unwrap(), "-c", "user.name=n", "-c", "user.email=e@example.org"];
        all.extend(args);
        tool("git", all).ok()
    };
    std::fs::create_dir_all(work.join("sub")).unwrap();
    std::fs::write(work.join("Containerfile"), "FROM busybox\nCOPY . /c\n").unwrap();
    std::fs::write(work.join("sub/Containerfile"), "FROM busybox\nCOPY here /here\n").unwrap();
    std::fs::write(work.join("sub/here"), "sub\n").unwrap();
    std::os::unix::fs::symlink("/etc", work.join("out")).unwrap();
    git(&["init", "-q", "-b", "main", "."]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1"]);
    std::fs::write(work.join("sub/here"), "later\n").unwrap();
    git(&["commit", "-q", "-a", "-m", "two"]);
    let commit = git(&["rev-parse", "HEAD"]);
    tool(
        "git",
        ["clone", "-q", "--bare", work.to_str().unwrap(), dir.path().join("r.git").to_str().unwrap()],
    )
    .ok();
    tool("git", ["-C", dir.path().join("r.git").to_str().unwrap(), "update-server-info"]).ok();
    let web = Web::start(dir.path());
    let url = format!("http://{}/r.git", web.host);
    davit.run(["build", "-q", "-t", "all", &url]).ok();
    assert_eq!(davit.sh("all", "ls -A /c; cat /c/sub/here"), "Containerfile\nout\nsub\nlater");
    davit.run(["build", "-q", "-t", "old", &format!("{url}#v1:sub")]).ok();
    assert_eq!(davit.sh("old", "cat /here"), "sub");
    davit.run(["build", "-q", "-t", "new", &format!("{url}?branch=main&subdir=sub&checksum={commit}")]).ok();
    assert_eq!(davit.sh("new", "cat /here"), "later");
    let keep = ["build", "-q", "-t", "keep", "--build-arg=BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url];
    davit.run(keep).ok();
    assert_eq!(davit.sh("keep", "ls -A /c | head -1"), ".git");
    davit.run(["build", "-q", &format!("{url}#nowhere")]).fails(125, "nowhere");
    davit.run(["build", "-q", &format!("{url}?checksum=0123456789")]).fails(125, &commit);
    // A link of the repository leads nowhere outside of it.
    davit.run(["build", "-q", &format!("{url}#main:out")]).fails(125, "out");
    davit.run(["build", "-q", &format!("{url}#main:../..")]).fails(125, "..");
    let main = context("FROM busybox\nCOPY --from=repo /here /named\n", &[]);
    let named = format!("repo={url}#v1:sub");
    davit.run(["build", "-q", "-t", "named", "--build-context", &named, main.path().to_str().unwrap()]).ok();
    assert_eq!(davit.sh("named", "cat /named"), "sub");
}

/// Seconds of `2001-09-09T01:46:40Z`.
const COMMITTED: &str = "1000000000";

#[test]
fn the_time_of_a_context_is_that_of_its_commit_or_archive() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("sub")).unwrap();
    let text = "ARG SOURCE_DATE_EPOCH\nFROM busybox\nARG SOURCE_DATE_EPOCH\nCOPY . /c\n\
                RUN echo $SOURCE_DATE_EPOCH >/time\n";
    std::fs::write(work.join("Containerfile"), text).unwrap();
    std::fs::write(work.join("sub/file"), "x").unwrap();
    std::os::unix::fs::symlink("file", work.join("sub/link")).unwrap();
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("-C").arg(&work).args(["-c", "user.name=n", "-c", "user.email=e@example.org"]).args(args);
        command.env("GIT_COMMITTER_DATE", format!("@{COMMITTED} +0000"));
        crate::support::finish(&mut command).ok()
    };
    git(&["init", "-q", "-b", "main", "."]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    let bare = dir.path().join("r.git");
    tool("git", ["clone", "-q", "--bare", work.to_str().unwrap(), bare.to_str().unwrap()]).ok();
    tool("git", ["-C", bare.to_str().unwrap(), "update-server-info"]).ok();
    let archive = dir.path().join("ctx.tar");
    let tar = ["--mtime=@900000000", "-C", work.to_str().unwrap(), "-cf", archive.to_str().unwrap()];
    tool("tar", tar.iter().chain(&["Containerfile", "sub"])).ok();
    let web = Web::start(dir.path());
    let url = format!("http://{}/r.git", web.host);
    let build = |options: &[&str], context: &str| {
        let mut args = vec!["build", "-q", "-t", "x"];
        args.extend(options);
        args.push(context);
        davit.run(&args).ok();
        let times = "cat /time; stat -c %Y /c/Containerfile /c/sub /c/sub/file /c/sub/link | uniq";
        (davit.inspect("x", "{{.Created}}"), davit.sh("x", times))
    };
    let both = format!("{COMMITTED}\n{COMMITTED}");
    for option in ["--build-arg=SOURCE_DATE_EPOCH=context", "--source-date-epoch=context"] {
        let (created, times) = build(&[option], &url);
        assert!(created.contains("2001-09-09"), "{created}");
        assert_eq!(times, both);
    }
    // Whatever the epoch is, the files have the commit's time; and only where there is one, or it is asked for.
    assert_eq!(build(&["--build-arg=SOURCE_DATE_EPOCH=5"], &url).1, format!("5\n{COMMITTED}"));
    assert_eq!(build(&[], &format!("{url}?mtime=commit")).1.trim(), COMMITTED);
    assert!(!build(&[], &url).1.contains(COMMITTED));
    let kept = build(&["--build-arg=SOURCE_DATE_EPOCH=context"], &format!("{url}?mtime=checkout")).1;
    assert!(kept.starts_with(COMMITTED) && kept != both, "{kept}");
    let (created, times) = build(&["--source-date-epoch=context"], &format!("http://{}/ctx.tar", web.host));
    assert!(created.contains("1998-07-09"), "{created}");
    assert!(times.starts_with("900000000\n"), "{times}");
    let added = context(&format!("FROM busybox\nADD {url}?mtime=commit /c\nRUN : >/time\n"), &[]);
    assert_eq!(build(&[], added.path().to_str().unwrap()).1.trim(), COMMITTED);
    // A directory of the user has no time.
    let (created, times) = build(&["--source-date-epoch=context"], work.to_str().unwrap());
    assert!(!created.contains("2001-09-09") && !times.contains(COMMITTED), "{created} {times}");
    davit.run(["build", "-q", "--build-arg=SOURCE_DATE_EPOCH=stage", &url]).fails(125, "or `context`");
}
