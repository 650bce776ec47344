//! Several platforms, and lists of images.

use crate::support::{Access, Davit, Registry, context, finish, scratch, tool};

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
    let flag = ["-o", "type=docker,dest=/var/tmp/never-made"];
    davit.run(["build", "-q", "--platform", BOTH, flag[0], flag[1], path]).fails(125, "docker archive");
    // The ID of several images is the digest of their list.
    let (id, list) = (out.path().join("id"), out.path().join("list"));
    let iidfile = format!("--iidfile={}", id.display());
    davit.run(["build", "-q", "--platform", BOTH, "-t", "local", &iidfile, path]).ok();
    let raw = tool("skopeo", ["inspect", "--raw", &format!("oci-archive:{}", archive.display())]).ok();
    std::fs::write(&list, raw).unwrap();
    let sum = tool("sha256sum", [list.to_str().unwrap()]).ok();
    let sum = format!("sha256:{}", sum.split_whitespace().next().unwrap());
    assert_eq!(std::fs::read_to_string(id).unwrap(), sum);
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

/// An interpreter of riscv64 programs in the kernel's table, while it lives.
struct Interpreter {
    name: String,
    mounted: bool,
}

const TABLE: &str = "/proc/sys/fs/binfmt_misc";
const MAGIC: &str = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00";
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

impl Interpreter {
    /// `None` where this host has no such table, or has an emulator of its own.
    fn register(program: &std::path::Path, flags: &str) -> Option<Self> {
        let table = std::path::Path::new(TABLE);
        let mounted = !table.join("status").exists()
            && tool("mount", ["-t", "binfmt_misc", "binfmt_misc", TABLE]).code == 0;
        let name = format!("davit-test-{}", std::process::id());
        let made = Self { name, mounted };
        if !table.join("register").exists() || table.join("qemu-riscv64").exists() {
            assert!(std::env::var_os("CI").is_none(), "CI must not skip: no binfmt_misc");
            return None;
        }
        let line = format!(":{}:M::{MAGIC}:{MASK}:{}:{flags}", made.name, program.display());
        std::fs::write(table.join("register"), line).unwrap();
        Some(made)
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let _ = std::fs::write(format!("{TABLE}/{}", self.name), "-1");
        if self.mounted {
            let _ = tool("umount", ["-l", TABLE]);
        }
    }
}

#[test]
fn a_foreign_step_runs_through_an_emulator() {
    use std::os::unix::fs::PermissionsExt;
    let davit = Davit::with_busybox();
    // No program of another architecture is at hand: the header of one, and an emulator that says what it is given.
    let dir = context("FROM scratch\nCOPY prog /bin/prog\nRUN [\"/bin/prog\", \"said\"]\n", &[]);
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    header[16..20].copy_from_slice(&[2, 0, 0xf3, 0]);
    std::fs::write(dir.path().join("prog"), header).unwrap();
    std::fs::set_permissions(dir.path().join("prog"), PermissionsExt::from_mode(0o755)).unwrap();
    let place = scratch();
    let emulator = place.path().join("echo");
    let busybox =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| std::path::Path::new(path).exists());
    std::fs::copy(busybox.unwrap(), &emulator).unwrap();
    let build = || {
        davit.run([
            "build",
            "--progress=plain",
            "--platform=linux/riscv64",
            "-t",
            "r",
            dir.path().to_str().unwrap(),
        ])
    };
    {
        let Some(_loose) = Interpreter::register(&emulator, "") else { return };
        build().fails(125, "flag F");
    }
    let Some(_fixed) = Interpreter::register(&emulator, "F") else { return };
    let done = build();
    done.ok();
    assert!(done.stderr.contains("/bin/prog said"), "{done:#?}");
    assert_eq!(davit.inspect("r", "{{.Architecture}}"), "riscv64");
}

/// What skopeo gets of a registry, and podman's view of the same index.
fn peers_see(name: &str) -> serde_json::Value {
    let skopeo = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok();
    // This podman has no flag for it here.
    let conf = scratch();
    let file = conf.path().join("registries.conf");
    let host = name.split('/').next().unwrap();
    std::fs::write(&file, format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n")).unwrap();
    let mut podman = std::process::Command::new("podman");
    podman.args(["manifest", "inspect", name]).env("CONTAINERS_REGISTRIES_CONF", &file);
    let podman = finish(&mut podman).ok();
    let (skopeo, podman): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&skopeo).unwrap(), serde_json::from_str(&podman).unwrap());
    assert_eq!(architectures(&skopeo), architectures(&podman));
    // This podman shows every index as a list of Docker's; its entries are what counts.
    let digests = |index: &serde_json::Value| -> Vec<serde_json::Value> {
        index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].clone()).collect()
    };
    assert_eq!(digests(&skopeo), digests(&podman));
    skopeo
}

#[test]
fn lists_are_taken_changed_and_sent_as_peers_see_them() {
    let davit = Davit::new();
    let dir = context("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /f\n", &[("f", "1\n")]);
    let path = dir.path().to_str().unwrap();
    let registry = Registry::start(Access::Plain);
    let at = |name: &str| format!("{}/{name}", registry.host);
    let push = |list: &str, flags: &[&str], to: &str| {
        let (mut args, to) =
            (vec!["manifest", "push", "-q", "--tls-verify=false"], format!("docker://{}", at(to)));
        args.extend(flags);
        args.extend([list, to.as_str()]);
        davit.run(args)
    };
    davit.run(["build", "-q", "--platform=linux/arm64,linux/s390x,linux/arm/v7", "--tag=three", path]).ok();
    push("three", &[], "three:1").ok();
    // Another store takes the whole of it, or the one for a platform.
    let other = Davit::new();
    other.run(["manifest", "create", "copy"]).ok();
    let from = at("three:1");
    other.run(["manifest", "add", "--all", "--tls-verify=false", "copy", &from]).ok();
    let copied = index(&other, "copy");
    assert_eq!(copied["manifests"], index(&davit, "three")["manifests"]);
    other.run(["manifest", "create", "--all", "--tls-verify=false", "copy2", &from]).ok();
    assert_eq!(index(&other, "copy2")["manifests"], copied["manifests"]);
    other.run(["manifest", "create", "one"]).ok();
    other.run(["manifest", "add", "--arch=s390x", "--os=linux", "--tls-verify=false", "one", &from]).ok();
    assert_eq!(architectures(&index(&other, "one")), ["s390x"]);
    other.run(["manifest", "create", "--all", "copy3", "copy"]).ok();
    assert_eq!(index(&other, "copy3")["manifests"], copied["manifests"]);
    // The registry's own, without a list here.
    let remote = other.run(["manifest", "inspect", "--tls-verify=false", &from]).ok();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&remote).unwrap(), peers_see(&from));
    other.run(["manifest", "inspect", "missing"]).fails(125, "missing");
    // More is said of an entry, by its digest; one goes.
    let digest = |number: usize| copied["manifests"][number]["digest"].as_str().unwrap().to_owned();
    let more = ["--annotation=a=b", "--os-version=1.2", "--os-features=x,y", "--variant=v9", "copy"];
    other.run([&["manifest", "annotate"], more.as_slice(), &[&digest(0)]].concat()).ok();
    other.run(["manifest", "annotate", "--index", "--annotation=of=index", "copy"]).ok();
    other.run(["manifest", "remove", "copy", &digest(2)]).ok();
    other.run(["manifest", "remove", "copy", &digest(2)]).fails(125, "entry");
    other.run(["manifest", "annotate", "copy", "missing"]).fails(125, "missing");
    let changed = index(&other, "copy");
    assert_eq!(architectures(&changed), ["arm64", "s390x"]);
    let first = &changed["manifests"][0];
    assert_eq!(first["annotations"], serde_json::json!({"a": "b"}));
    assert_eq!(
        first["platform"],
        serde_json::json!({"architecture": "arm64", "os": "linux", "variant": "v9", "os.version": "1.2", "os.features": ["x", "y"]})
    );
    assert_eq!(changed["annotations"], serde_json::json!({"of": "index"}));
    // Sent in either format, the images with it; the list goes only when it is there.
    let push = |flags: &[&str], to: &str| {
        let (mut args, to) =
            (vec!["manifest", "push", "-q", "--tls-verify=false"], format!("docker://{}", at(to)));
        args.extend(flags);
        args.extend(["copy", to.as_str()]);
        other.run(args)
    };
    push(&["--all"], "copy:oci").ok();
    assert_eq!(peers_see(&at("copy:oci"))["manifests"][0]["annotations"], serde_json::json!({"a": "b"}));
    push(&["--format=v2s2"], "copy:docker").ok();
    let docker = peers_see(&at("copy:docker"));
    assert_eq!(docker["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    for entry in docker["manifests"].as_array().unwrap() {
        assert_eq!(entry["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
        let image = format!("docker://{}@{}", at("copy"), entry["digest"].as_str().unwrap());
        let config = tool("skopeo", ["inspect", "--config", "--tls-verify=false", &image]).ok();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Labels"]["arch"], config["architecture"]);
    }
    push(&["--format=oci"], "copy:again").ok();
    assert_eq!(peers_see(&at("copy:again")), peers_see(&at("copy:oci")));
    push(&["--format=v2s1"], "copy:no").fails(125, "oci or v2s2");
    push(&["--purge"], "copy:last").ok();
    assert_eq!(other.run(["manifest", "exists", "copy"]).code, 1);
    other.run(["manifest", "rm", "--ignore", "copy"]).ok();
    other.run(["manifest", "rm", "copy"]).fails(125, "copy");
}
