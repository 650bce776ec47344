//! `davit build --output`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::{Davit, context, scratch, tool};

const TEXT: &str = "FROM busybox\nRUN mkdir /d && echo 1 > /d/one && chmod 640 /d/one && chown 7:8 /d/one && ln -s one /d/link && ln /d/one /d/hard\n";

#[test]
fn files_as_a_directory_and_as_a_tar() {
    let davit = Davit::with_busybox();
    let dir = context(TEXT, &[]);
    let context = dir.path().to_str().unwrap();
    let out = scratch();
    for (number, form) in ["", "type=local,dest="].iter().enumerate() {
        let place = out.path().join(format!("o{number}"));
        davit.run(["build", "-q", "-o", &format!("{form}{}", place.display()), context]).ok();
        let meta = std::fs::symlink_metadata(place.join("d/one")).unwrap();
        assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 7, 8));
        assert_eq!(std::fs::read_link(place.join("d/link")).unwrap().to_str(), Some("one"));
        assert_eq!(std::fs::metadata(place.join("d/hard")).unwrap().ino(), meta.ino());
        // Again over what is there.
        davit.run(["build", "-q", "-o", &format!("{form}{}", place.display()), context]).ok();
    }
    let tar = out.path().join("t.tar");
    let done = davit.run(["build", "-q", "-o", &format!("type=tar,dest={}", tar.display()), context]);
    assert_eq!(done.ok().len(), 64, "the ID is printed");
    let listed = tool("tar", ["-tvf", tar.to_str().unwrap()]).ok();
    assert!(listed.contains("-rw-r----- 7/8") && listed.contains("d/link -> one"), "{listed}");
    // To standard output nothing but the tar goes.
    let mut command = davit.command();
    let output = command.args(["build", "-q", "-o", "-", context]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, std::fs::read(&tar).unwrap());
    assert!(
        !std::fs::read_dir(out.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("partial") })
    );
    // An image without layers has no files.
    let empty = scratch();
    std::fs::write(empty.path().join("Containerfile"), "FROM scratch\nENV A=1\n").unwrap();
    let place = out.path().join("empty");
    davit.run(["build", "-q", "-o", place.to_str().unwrap(), empty.path().to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn archives_and_layouts() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nRUN echo 1 > /one\n", &[]);
    let context = dir.path().to_str().unwrap();
    let out = scratch();
    for (kind, transport) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let path = out.path().join(kind);
        let text = format!("type={kind},dest={},name=named:1", path.display());
        let id = davit.run(["build", "-q", "-t", "t", "-o", &text, context]).ok();
        let place = format!("{transport}:{}", path.display());
        let inspected = tool("skopeo", ["inspect", "--config", "--raw", &place]);
        inspected.ok();
        let other = Davit::new();
        let said = other.run(["load", "-q", "-i", path.to_str().unwrap()]).ok();
        assert!(said.contains("localhost/named:1"), "{said}");
        assert_eq!(other.run(["images", "-q", "--no-trunc"]).ok().trim_start_matches("sha256:"), id);
        assert_eq!(other.sh("named:1", "cat /one"), "1");
    }
    let layout = out.path().join("layout");
    let text = format!("type=oci,tar=false,dest={},name=x:y", layout.display());
    davit.run(["build", "-q", "-o", &text, context]).ok();
    tool("skopeo", ["inspect", "--raw", &format!("oci:{}:localhost/x:y", layout.display())]).ok();
    // Names of `type=image` are tags like those of -t, and several outputs are made by one build.
    let tar = out.path().join("both.tar");
    let text = format!("type=tar,dest={}", tar.display());
    davit.run(["build", "-q", "-o", "type=image,\"name=i:1,i:2\"", "-o", &text, context]).ok();
    assert_eq!(davit.sh("i:2", "cat /one"), "1");
    assert!(tar.exists());
    // A failing build leaves no output.
    let bad = scratch();
    std::fs::write(bad.path().join("Containerfile"), "FROM busybox\nRUN false\n").unwrap();
    let never = out.path().join("never");
    let done = davit.run(["build", "-q", "-o", never.to_str().unwrap(), bad.path().to_str().unwrap()]);
    assert_eq!(done.code, 1, "{done:#?}");
    assert!(!never.exists());
}
