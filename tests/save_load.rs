//! `save`, `load`, and what is told of images of other platforms.

use crate::support::{Access, Davit, Registry, scratch, tool};

const APP: &str = "FROM busybox\nRUN echo saved > /f\nCMD [\"cat\", \"/f\"]\n";

struct Place {
    davit: Davit,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let davit = Davit::with_busybox();
        davit.build("app", APP, &[]).ok();
        Self { davit, dir: scratch() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn every_format_goes_to_skopeo_and_back() {
    let place = Place::new();
    let id = place.davit.inspect("app", "{{.Id}}");
    for (format, transport) in [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
        ("docker-dir", "dir"),
    ] {
        let path = place.path(format);
        place.davit.run(["save", "-q", "--format", format, "-o", &path, "app"]).ok();
        let config = tool("skopeo", ["inspect", "--config", &format!("{transport}:{path}")]).ok();
        assert!(config.contains("echo saved"), "{format}: {config}");
        let other = Davit::new();
        let told = other.run(["load", "-q", "-i", &path]).ok();
        let name = if format == "docker-dir" { &id } else { "localhost/app:latest" };
        assert!(told.contains(name), "{format}: {told}");
        assert_eq!(other.inspect(name, "{{.Id}}"), id, "{format}");
        assert_eq!(other.run(["run", "--rm", "--network=none", name]).ok(), "saved", "{format}");
    }
    // what skopeo makes of them is read too
    for (from, to) in [("docker-archive", "oci-archive"), ("oci-archive", "docker-archive")] {
        let path = place.path(&format!("theirs-{to}"));
        let source = format!("{from}:{}", place.path(from));
        tool("skopeo", ["copy", "-q", &source, &format!("{to}:{path}:localhost/app:theirs")]).ok();
        let other = Davit::new();
        other.run(["load", "-q", "-i", &path]).ok();
        assert_eq!(other.sh("localhost/app:theirs", "cat /f"), "saved", "{to}");
    }
    let manifest =
        |path: &str| std::fs::read_to_string(place.dir.path().join(path).join("manifest.json")).unwrap();
    assert!(manifest("docker-dir").contains("vnd.docker.distribution.manifest.v2+json"));
    // a second image goes into the layout, not into Docker's directory
    place.davit.build("more", "FROM busybox\nRUN echo more > /f\n", &[]).ok();
    place.davit.run(["save", "-q", "--format", "oci-dir", "-o", &place.path("oci-dir"), "more"]).ok();
    let both = Davit::new();
    assert_eq!(both.run(["load", "-q", "-i", &place.path("oci-dir")]).ok().lines().count(), 2);
    assert_eq!(both.sh("more", "cat /f"), "more");
    let two = place.davit.run(["save", "--format", "docker-dir", "-o", &place.path("x"), "app", "more"]);
    two.fails(125, "one image");
    place.davit.run(["save", "--format", "oci-dir", "app"]).fails(125, "-o");
    place.davit.run(["save", "--compress", "-o", &place.path("x"), "app"]).fails(125, "docker-dir");
    place.davit.run(["save", "--uncompressed", "-o", &place.path("x"), "app"]).fails(125, "oci-archive");
    place.davit.run(["save", "--format", "zip", "-o", &place.path("x"), "app"]).fails(125, "docker-archive");
    assert!(!place.dir.path().join("x").exists());
}

#[test]
fn layers_are_packed_or_plain_as_asked() {
    let place = Place::new();
    let types = |end: &str| {
        let raw = tool("skopeo", ["inspect", "--raw", end]).ok();
        let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
        let layers = manifest["layers"].as_array().unwrap().clone();
        layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (format, transport) in [("oci-archive", "oci-archive"), ("oci-dir", "oci")] {
        let path = place.path(format);
        place.davit.run(["save", "-q", "--uncompressed", "--format", format, "-o", &path, "app"]).ok();
        let types = types(&format!("{transport}:{path}"));
        assert_eq!(types, ["application/vnd.oci.image.layer.v1.tar"; 2], "{format}");
        let other = Davit::new();
        other.run(["load", "-q", "-i", &path]).ok();
        assert_eq!(other.sh("app", "cat /f"), "saved");
        // an image with plain layers is packed on its way out, where that is asked for
        let packed = place.path(&format!("{format}-packed"));
        other.run(["save", "-q", "--compress", "--format=docker-dir", "-o", &packed, "app"]).ok();
        let types = Place::types_of(&packed);
        assert!(types.iter().all(|kind| kind.ends_with(".tar.gzip")), "{types:?}");
    }
}

impl Place {
    fn types_of(directory: &str) -> Vec<String> {
        let raw = tool("skopeo", ["inspect", "--raw", &format!("dir:{directory}")]).ok();
        let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn several_images_further_names_and_packed_archives() {
    let place = Place::new();
    place.davit.build("more", "FROM busybox\nRUN echo more > /f\n", &[]).ok();
    let path = place.path("all.tar");
    place.davit.run(["save", "-q", "-o", &path, "app", "more", "localhost/app:again"]).ok();
    let list = tool("tar", ["-xOf", &path, "manifest.json"]).ok();
    let images: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(images.as_array().unwrap().len(), 2);
    assert_eq!(images[0]["RepoTags"], serde_json::json!(["localhost/app:latest", "localhost/app:again"]));
    place.davit.run(["save", "-q", "-m", "-o", &place.path("x"), "app", "nosuch"]).fails(125, "nosuch");
    let plain = std::fs::read(&path).unwrap();
    for packer in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = place.path(&format!("all.{packer}"));
        tool("sh", ["-c", &format!("{packer} -c < {path} > {packed}")]).ok();
        let other = Davit::new();
        let told = other.run_with_input(["load", "-q"], &std::fs::read(&packed).unwrap()).ok();
        assert_eq!(told.lines().count(), 3, "{packer}: {told}");
        assert_eq!(other.sh("more", "cat /f"), "more", "{packer}");
        assert_eq!(other.sh("app:again", "cat /f"), "saved", "{packer}");
    }
    let out = place.davit.command().args(["save", "-q", "app"]).output().unwrap();
    assert!(out.status.success());
    let other = Davit::new();
    assert!(other.run_with_input(["load"], &out.stdout).ok().contains("Loaded image: localhost/app:latest"));
    // podman reads them, as it reads docker's
    let root = place.path("podman");
    let podman = |words: &[&str]| {
        let run = place.path("podman-run");
        tool(
            "podman",
            [&["--root", root.as_str(), "--runroot", run.as_str(), "--storage-driver=vfs"], words].concat(),
        )
    };
    let told = podman(&["load", "-q", "-i", &path]).ok();
    assert!(told.contains("localhost/more:latest"), "{told}");
    let theirs = place.path("theirs.tar");
    podman(&["save", "-q", "-m", "-o", &theirs, "localhost/app:latest", "localhost/more:latest"]).ok();
    let other = Davit::new();
    assert_eq!(other.run(["load", "-q", "-i", &theirs]).ok().lines().count(), 2);
    assert_eq!(other.inspect("app", "{{.Id}}"), place.davit.inspect("app", "{{.Id}}"));
    podman(&["rmi", "-af"]);
    assert_eq!(std::fs::read(&path).unwrap(), plain);
}

#[test]
fn images_of_other_platforms() {
    let place = Place::new();
    place.davit.build("arm", "FROM busybox\nRUN echo arm > /f\n", &[]).ok();
    place.davit.run(["manifest", "create", "many"]).ok();
    place.davit.run(["manifest", "add", "many", "app"]).ok();
    place.davit.run(["manifest", "add", "--arch", "arm64", "many", "arm"]).ok();
    let id = |platform: &str| {
        place.davit.run(["image", "inspect", "--platform", platform, "--format", "{{.Id}}", "many"]).ok()
    };
    assert_eq!(id("linux/arm64"), place.davit.inspect("arm", "{{.Id}}"));
    assert_eq!(id("linux/amd64"), place.davit.inspect("app", "{{.Id}}"));
    place.davit.run(["image", "inspect", "--platform", "linux/s390x", "many"]).fails(125, "linux/s390x");
    let steps =
        |platform: &str| place.davit.run(["history", "--no-trunc", "--platform", platform, "many"]).ok();
    assert!(steps("linux/arm64").contains("echo arm") && steps("linux/amd64").contains("echo saved"));
    let path = place.path("arm.tar");
    place.davit.run(["save", "-q", "--platform", "linux/arm64", "-o", &path, "many"]).ok();
    let other = Davit::new();
    assert!(other.run(["load", "-q", "-i", &path]).ok().contains("localhost/many:latest"));
    assert_eq!(other.inspect("many", "{{.Id}}"), id("linux/arm64"));
    // an index in an archive: the platform that is asked for
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/many:1", registry.host);
    let remote = format!("docker://{name}");
    place.davit.run(["copy", "-q", "--all", "--dest-tls-verify=false", "many", &remote]).ok();
    let archive = place.path("index.tar");
    let end = format!("oci-archive:{archive}:localhost/many:1");
    place.davit.run(["copy", "-q", "--all", "--src-tls-verify=false", &remote, &end]).ok();
    let other = Davit::new();
    other.run(["load", "-q", "--platform", "linux/arm64", "-i", &archive]).ok();
    assert_eq!(other.inspect("many:1", "{{.Id}}"), id("linux/arm64"));
    other.run(["load", "-q", "--platform", "linux/s390x", "-i", &archive]).fails(125, "s390x");
    place.davit.run(["save", "-q", "-o", &place.path("one.tar"), "app"]).ok();
    let other = Davit::new();
    other
        .run(["load", "-q", "--platform", "linux/s390x", "-i", &place.path("one.tar")])
        .fails(125, "linux/s390x");
    assert_eq!(other.run(["images", "-q"]).ok(), "");
}

#[test]
fn xz_streams_of_every_kind_and_their_memory() {
    let place = Place::new();
    let path = place.path("app.tar");
    place.davit.run(["save", "-q", "-o", &path, "app"]).ok();
    let packed = place.path("app.tar.xz");
    let kinds = [
        "--block-size=200KiB",
        "-T2 --block-size=300KiB -1",
        "--check=none",
        "--check=sha256 --block-size=100KiB",
        "--x86 --lzma2=dict=1MiB",
        "--delta=dist=4 --lzma2=preset=0",
        "-9",
    ];
    for kind in kinds {
        tool("sh", ["-c", &format!("xz -c {kind} < {path} > {packed}")]).ok();
        let other = Davit::new();
        other.run(["load", "-q", "-i", &packed]).ok();
        assert_eq!(other.inspect("app", "{{.Id}}"), place.davit.inspect("app", "{{.Id}}"), "{kind}");
    }
    // several streams in one file, with padding between them
    tool("sh", ["-c", &format!("(head -c 512000 {path} | xz -c; head -c 64 /dev/zero; tail -c +512001 {path} | xz -c -0) > {packed}")])
        .ok();
    Davit::new().run(["load", "-q", "-i", &packed]).ok();
    // a dictionary of a quarter of a gigabyte is refused, in archives, file systems and contexts alike
    tool("sh", ["-c", &format!("xz -c --lzma2=preset=0,dict=256MiB < {path} > {packed}")]).ok();
    let other = Davit::new();
    other.run(["load", "-q", "-i", &packed]).fails(125, "256 MiB");
    other.run(["import", "-q", &packed, "x"]).fails(125, "256 MiB");
    assert_eq!(other.run(["images", "-aq"]).ok(), "");
}
