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
