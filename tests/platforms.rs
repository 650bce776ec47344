//! Several platforms, and lists of images.

use crate::support::{Access, Davit, Registry, context, scratch, tool};

const TEXT: &str = "FROM --platform=$BUILDPLATFORM busybox AS tools\nARG TARGETARCH\nRUN echo \"for $TARGETARCH\" > /made\nFROM scratch\nARG TARGETPLATFORM\nCOPY --from=tools /made /made\nLABEL platform=$TARGETPLATFORM\n";
const BOTH: &str = "linux/amd64,linux/arm64";

fn index(davit: &Davit, name: &str) -> serde_json::Value {
    serde_json::from_str(&davit.run(["manifest", "inspect", name]).ok()).unwrap()
}

fn architectures(index: &serde_json::Value) -> Vec<String> {
    let entries = index["manifests"].as_array().unwrap();
    entries.iter().map(|entry| entry["platform"]["architecture"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_build_for_several_platforms_is_a_list() {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    let dir = context(TEXT, &[]);
    let path = dir.path().to_str().unwrap();
    let name = format!("{}/multi:1", registry.host);
    let ids = davit.run(["build", "-q", "--platform", BOTH, "-t", &name, "-t", "local", path]).ok();
    assert_eq!(ids.lines().count(), 2, "{ids}");
    assert_eq!(architectures(&index(&davit, &name)), ["amd64", "arm64"]);
    // The name means the image for this host wherever one image is wanted.
    let host = oci_host();
    assert_eq!(davit.inspect("local", "{{.Architecture}}"), host);
    assert_eq!(davit.inspect(&name, "{{.Labels.platform}}"), format!("linux/{host}"));
    // Pushing the name pushes all of it.
    davit.run(["push", "-q", "--tls-verify=false", &name]).ok();
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok();
    let pushed: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(pushed, index(&davit, &name));
    let other = Davit::new();
    other.run(["pull", "-q", "--tls-verify=false", "--platform=linux/arm64", &name]).ok();
    assert_eq!(other.inspect(&name, "{{.Architecture}} {{.Labels.platform}}"), "arm64 linux/arm64");
    // The files of each platform in a directory of its own.
    let out = scratch();
    davit.run(["build", "-q", "--platform", BOTH, "-o", out.path().to_str().unwrap(), path]).ok();
    for arch in ["amd64", "arm64"] {
        let made = std::fs::read_to_string(out.path().join(format!("linux_{arch}/made"))).unwrap();
        assert_eq!(made, format!("for {arch}\n"));
    }
    let tar = out.path().join("t.tar");
    let text = format!("type=tar,dest={}", tar.display());
    davit.run(["build", "-q", "--platform", BOTH, "-o", &text, path]).ok();
    let listed = tool("tar", ["-tf", tar.to_str().unwrap()]).ok();
    assert!(listed.contains("linux_amd64/made") && listed.contains("linux_arm64/made"), "{listed}");
    let archive = out.path().join("a.oci");
    let text = format!("type=oci,dest={}", archive.display());
    davit.run(["build", "-q", "--platform", BOTH, "-t", "local", "-o", &text, path]).ok();
    let raw = tool("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", archive.display())]).ok();
    assert_eq!(architectures(&serde_json::from_str(&raw).unwrap()), ["amd64", "arm64"]);
    for (flags, said) in [
        (["--iidfile", "x"], "--iidfile"),
        (["-o", "type=docker,dest=/var/tmp/never-made"], "docker archive"),
    ] {
        let [flag, value] = flags;
        davit.run(["build", "-q", "--platform", BOTH, flag, value, path]).fails(125, said);
    }
    // A stage may start from the list: each platform from its own image.
    let text = "FROM local\nARG TARGETARCH\nLABEL second=$TARGETARCH\n";
    let dir = context(text, &[]);
    davit.run(["build", "-q", "--platform", BOTH, "-t", "second", dir.path().to_str().unwrap()]).ok();
    assert_eq!(architectures(&index(&davit, "second")), ["amd64", "arm64"]);
    // One image under the name takes the list's place.
    davit.run(["tag", "busybox", "second"]).ok();
    assert_eq!(davit.run(["manifest", "exists", "second"]).code, 1);
    davit.run(["rmi", "local"]).ok();
    assert_eq!(davit.run(["manifest", "exists", "local"]).code, 1);
}

fn oci_host() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[test]
fn lists_grow_and_go() {
    let davit = Davit::with_busybox();
    let dir = context("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /f\n", &[("f", "1\n")]);
    let path = dir.path().to_str().unwrap();
    davit.run(["manifest", "create", "list"]).ok();
    davit.run(["manifest", "create", "list"]).fails(125, "in use");
    davit.run(["manifest", "create", "--amend", "--annotation", "a=b", "list"]).ok();
    assert_eq!(davit.run(["manifest", "exists", "list"]).code, 0);
    davit.run(["build", "-q", "--platform=linux/arm64", "--manifest=list", path]).ok();
    davit.run(["build", "-q", "--platform=linux/s390x", "--manifest=list", "-t", "z", path]).ok();
    davit.run(["manifest", "add", "list", "busybox"]).ok();
    // A second image for a platform takes the first one's place.
    davit.run(["build", "-q", "--platform=linux/arm64", "--label=v=2", "--manifest=list", path]).ok();
    let found = index(&davit, "list");
    assert_eq!(architectures(&found), ["arm64", "s390x", oci_host()]);
    assert_eq!(found["annotations"], serde_json::json!({"a": "b"}));
    // Images of a list are in use, and not pruned.
    davit.run(["image", "prune", "-f"]).ok();
    davit.run(["rmi", "z"]).fails(2, "list");
    assert_eq!(architectures(&index(&davit, "list")).len(), 3);
    let registry = Registry::start(Access::Plain);
    let name = format!("docker://{}/list:1", registry.host);
    let digest = dir.path().join("digest");
    davit
        .run([
            "manifest",
            "push",
            "-q",
            "--all",
            "--rm",
            "--tls-verify=false",
            "--digestfile",
            digest.to_str().unwrap(),
            "list",
            &name,
        ])
        .ok();
    assert_eq!(davit.run(["manifest", "exists", "list"]).code, 1);
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &name]).ok();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&raw).unwrap(), found);
    davit.run(["manifest", "inspect", "list"]).fails(125, "list");
    davit.run(["manifest", "rm", "nothing"]).fails(125, "nothing");
}

#[test]
fn a_foreign_step_needs_an_emulator() {
    let davit = Davit::with_busybox();
    let text = "FROM scratch\nCOPY f /f\nRUN [\"/f\"]\n";
    let dir = context(text, &[("f", "no program\n")]);
    let foreign = if oci_host() == "s390x" { "linux/arm64" } else { "linux/s390x" };
    let name = if foreign == "linux/arm64" { "aarch64" } else { "s390x" };
    if std::path::Path::new("/proc/sys/fs/binfmt_misc").join(format!("qemu-{name}")).exists() {
        // Where there is one the step starts, and fails for what it is.
        assert_ne!(davit.run(["build", "--platform", foreign, dir.path().to_str().unwrap()]).code, 0);
        return;
    }
    let done = davit.run(["build", "-q", "--platform", foreign, dir.path().to_str().unwrap()]);
    done.fails(125, "qemu-user-static");
    assert!(done.stderr.contains(foreign) && done.stderr.contains("Containerfile:3"), "{done:#?}");
}
