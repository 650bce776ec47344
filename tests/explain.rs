//! `build --explain`, `--assert-cached`, `image explain`: what made a step run.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Davit, busybox_tar, context};

const TEXT: &str = "FROM busybox\nCOPY f /f\nCOPY *.x /g/\nARG V=1\nENV E=1\n\
                    RUN --mount=type=bind,source=m,target=/m cat /m/n > /n\nRUN echo text > /t\n";

fn build(davit: &Davit, context: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec!["build", "--progress=quiet", "--explain", "-t", "app"];
    args.extend(more);
    args.push(context.to_str().unwrap());
    let done = davit.run(args);
    done.ok();
    done.stderr.lines().map(str::to_owned).collect()
}

/// The first miss, with digests as `#`.
fn first_miss(lines: &[String]) -> String {
    let line = lines.iter().find(|line| line.starts_with("MISS ")).expect("a step misses");
    let mut parts = line.split("sha256:");
    let mut shape = parts.next().unwrap().to_owned();
    for part in parts {
        assert!(part.bytes().take_while(u8::is_ascii_hexdigit).count() >= 12, "{line}");
        shape.push('#');
        shape.push_str(&part[12..]);
    }
    shape
}

#[test]
fn eight_causes_are_named() {
    let davit = Davit::with_busybox();
    let dir = context(TEXT, &[("f", "1"), ("a.x", "a"), ("m/n", "n")]);
    let file = |name: &str| dir.path().join(name);
    let lines = build(&davit, dir.path(), &[]);
    assert_eq!(first_miss(&lines), "MISS [2/5] COPY f /f: there is no earlier build to compare with");
    let lines = build(&davit, dir.path(), &[]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("HIT  [")).count(), 4, "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("MISS")), "{lines:?}");
    let check = |more: &[&str], expected: &str| {
        let found = first_miss(&build(&davit, dir.path(), more));
        assert_eq!(found, format!("MISS {expected}"));
    };

    std::fs::write(file("f"), "2").unwrap();
    check(&[], "[2/5] COPY f /f: path f: content # -> #");
    std::fs::set_permissions(file("f"), PermissionsExt::from_mode(0o755)).unwrap();
    check(&[], "[2/5] COPY f /f: path f: mode 0644 -> 0755 (#)");
    std::fs::write(file("b.x"), "b").unwrap();
    check(&[], "[3/5] COPY *.x /g/: path b.x: added none -> #");
    check(
        &["--build-arg", "V=2"],
        "[4/5] RUN --mount=type=bind,source=m,target=/m cat /m/n > /n: arg V: \"1\" -> \"2\" # -> #",
    );
    let run = "[4/5] RUN --mount=type=bind,source=m,target=/m cat /m/n > /n";
    std::fs::write(file("Containerfile"), TEXT.replace("E=1", "E=2").replace("V=1", "V=2")).unwrap();
    check(&[], &format!("{run}: env E: \"1\" -> \"2\" # -> #"));
    std::fs::write(file("m/n"), "changed").unwrap();
    check(&[], &format!("{run}: mount source m/n: content # -> #"));
    let text = TEXT.replace("E=1", "E=2").replace("V=1", "V=2").replace("echo text", "echo words");
    std::fs::write(file("Containerfile"), text).unwrap();
    check(
        &[],
        "[5/5] RUN echo words > /t: instruction RUN: \"/bin/sh -c echo text > /t\" -> \"/bin/sh -c echo words > /t\" # -> #",
    );
    davit.build("busybox", "FROM busybox\nRUN echo newer > /newer\n", &[]).ok();
    let lines = build(&davit, dir.path(), &[]);
    assert_eq!(first_miss(&lines), "MISS [2/5] COPY f /f: base localhost/busybox:latest # -> #");
    let misses: Vec<&String> = lines.iter().filter(|line| line.starts_with("MISS")).collect();
    assert!(misses[1].contains(": parent [2/5] COPY f /f sha256:"), "{misses:?}");
    // The record beside the image says the same later.
    let later = davit.run(["image", "explain", "app"]).ok();
    assert_eq!(later.lines().collect::<Vec<_>>(), misses);
}

#[test]
fn an_asserted_build_fails_before_the_step() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox AS tools\nRUN echo tool > /tool\nFROM busybox AS app\nCOPY f /f\nRUN sleep 30\nCOPY --from=tools /tool /tool\n";
    let dir = context(&text.replace("sleep 30", "true"), &[("f", "1")]);
    let path = dir.path().to_str().unwrap();
    let run = |flag: &str| davit.run(["build", "-q", "-t", "app", flag, path]);
    run("--assert-cached")
        .fails(125, "[tools 2/2] RUN echo tool > /tool is not cached: there is no earlier build");
    assert_eq!(davit.run(["images", "-q", "app"]).ok(), "");
    davit.run(["build", "-q", "-t", "app", path]).ok();
    run("--assert-cached").ok();
    std::fs::write(dir.path().join("Containerfile"), text).unwrap();
    std::fs::write(dir.path().join("f"), "2").unwrap();
    let done = run("--assert-cached=app");
    done.fails(125, "Containerfile:4: [app 2/4] COPY f /f is not cached: path f: content sha256:");
    davit.run(["build", "-q", "--target=tools", "--assert-cached=0", path]).ok();
    run("--assert-cached=nosuch").fails(125, "there is no such stage");
}

#[test]
fn an_image_that_was_not_built_here_has_no_record() {
    let davit = Davit::new();
    davit.run(["import", "-q", busybox_tar().to_str().unwrap(), "busybox"]).ok();
    davit.run(["image", "explain", "busybox"]).fails(125, "record of a build");
}
