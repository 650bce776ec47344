//! `copy`: between registries, archives, directories and the store, beside skopeo.

use crate::support::{Access, Davit, Registry, processes_with, tool};

struct Place {
    davit: Davit,
    registry: Registry,
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let davit = Davit::with_busybox();
        davit.build("app", "FROM busybox\nRUN echo copied > /f\nCMD [\"cat\", \"/f\"]\n", &[]).ok();
        Self { davit, registry: Registry::start(Access::Plain), dir: crate::support::scratch() }
    }

    fn copy(&self, words: &[&str]) -> crate::support::Done {
        self.davit.run([&["copy", "-q", "--tls-verify=false"], words].concat())
    }

    fn remote(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.registry.host)
    }

    fn at(&self, transport: &str, name: &str) -> String {
        format!("{transport}:{}/{name}", self.dir.path().display())
    }

    fn digest(&self, end: &str) -> String {
        tool("skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", end]).ok()
    }
}

#[test]
fn an_image_keeps_its_digest_on_every_way() {
    let place = Place::new();
    let first = place.remote("first:1");
    place.copy(&["app", &first]).ok();
    let digest = place.digest(&first);
    let ends = [
        place.at("oci", "layout:app"),
        place.at("oci-archive", "a.tar:app"),
        place.at("dir", "directory"),
        place.remote("second:1"),
    ];
    let file = place.dir.path().join("digest");
    for end in &ends {
        place.copy(&["--preserve-digests", "--digestfile", file.to_str().unwrap(), &first, end]).ok();
        assert_eq!(place.digest(end), digest, "{end}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), digest, "{end}");
    }
    // and from each of them to the next and back into a store
    for (number, from) in ends.iter().enumerate() {
        let to = place.remote(&format!("round:{number}"));
        place.copy(&[from, &to]).ok();
        assert_eq!(place.digest(&to), digest, "{from}");
        let other = Davit::new();
        let id = other.run(["copy", "-q", "--tls-verify=false", from, "mine"]).ok();
        assert_eq!(id, place.davit.inspect("app", "{{.Id}}"));
        assert_eq!(other.run(["run", "--rm", "--network=none", "mine"]).ok(), "copied");
    }
    // skopeo reads what was written, and the other way round
    let theirs = place.at("oci", "theirs:app");
    tool("skopeo", ["copy", "-q", &ends[0], &theirs]).ok();
    assert_eq!(place.digest(&theirs), digest);
    place.copy(&[&theirs, &place.remote("back:1")]).ok();
    assert_eq!(place.digest(&place.remote("back:1")), digest);
}

#[test]
fn nothing_is_unpacked_where_the_store_is_no_end() {
    let place = Place::new();
    place.copy(&["app", &place.remote("first:1")]).ok();
    let empty = Davit::new();
    let run = |words: &[&str]| empty.run([&["copy", "-q", "--tls-verify=false"], words].concat());
    run(&[&place.remote("first:1"), &place.remote("second:1")]).ok();
    run(&[&place.remote("first:1"), &place.at("oci", "x:y")]).ok();
    for (directory, most) in [("layers", 0), ("snapshots", 0), ("images", 0), ("blobs/sha256", 0)] {
        let path = empty.root().join(directory);
        let count = std::fs::read_dir(&path).map_or(0, Iterator::count);
        assert_eq!(count, most, "{directory}");
    }
    // in one registry blobs are mounted, and a second copy moves nothing
    let blobs = place.registry.blob_files();
    run(&[&place.remote("first:1"), &place.remote("third:1")]).ok();
    assert_eq!(place.registry.blob_files(), blobs);
    assert!(processes_with(empty.dir.path().to_str().unwrap()).is_empty());
}

#[test]
fn lists_are_copied_whole_or_one_of_them() {
    let place = Place::new();
    place.davit.build("other", "FROM busybox\nRUN echo other > /f\n", &[]).ok();
    place.davit.run(["manifest", "create", "many"]).ok();
    place.davit.run(["manifest", "add", "many", "app"]).ok();
    place.davit.run(["manifest", "add", "--arch", "arm64", "many", "other"]).ok();
    let many = place.remote("many:1");
    place.copy(&["--all", "many", &many]).ok();
    let raw = |end: &str| tool("skopeo", ["inspect", "--raw", "--tls-verify=false", end]).ok();
    assert!(raw(&many).contains("arm64"));
    place.copy(&["--all", &many, &place.at("oci", "all:many")]).ok();
    assert_eq!(raw(&place.at("oci", "all:many")), raw(&many));
    place.copy(&["--multi-arch", "all", &place.at("oci", "all:many"), &place.remote("again:1")]).ok();
    assert_eq!(raw(&place.remote("again:1")), raw(&many));
    // one of them
    place.copy(&["--platform", "linux/arm64", &many, &place.at("oci", "one:arm")]).ok();
    let config =
        tool("skopeo", ["inspect", "--config", "--override-arch=arm64", &place.at("oci", "one:arm")]).ok();
    assert!(config.contains("echo other"), "{config}");
    // into a store, as a list that goes on with the same digest
    let other = Davit::new();
    other.run(["copy", "-q", "--all", "--tls-verify=false", &many, "mine"]).ok();
    assert_eq!(other.sh("mine", "cat /f"), "copied");
    other.run(["system", "prune", "-f", "--build"]).ok();
    other.run(["copy", "-q", "--all", "--tls-verify=false", "mine", &place.remote("third:1")]).ok();
    assert_eq!(raw(&place.remote("third:1")), raw(&many));
    // a list that is changed is another one
    other.run(["manifest", "annotate", "--annotation", "a=b", "mine", &other.inspect("mine", "{{.Id}}")]);
    other.run(["manifest", "remove", "mine", &other.inspect("mine", "{{.Digest}}")]).ok();
    let left = other.run(["manifest", "inspect", "mine"]).ok();
    assert!(left.contains("arm64") && !left.contains("amd64"), "{left}");
}

#[test]
fn dockers_archives_are_made_and_read() {
    let place = Place::new();
    place.copy(&["app", &place.remote("first:1")]).ok();
    let archive = place.at("docker-archive", "d.tar:app:1");
    place.copy(&[&place.remote("first:1"), &archive]).ok();
    let config = tool("skopeo", ["inspect", "--config", &archive]).ok();
    assert!(config.contains("echo copied"), "{config}");
    let other = Davit::new();
    let id = other.run(["copy", "-q", &archive, "loaded"]).ok();
    assert_eq!(id, place.davit.inspect("app", "{{.Id}}"));
    place.copy(&[&archive, &place.remote("plain:1")]).ok();
    let pulled = Davit::new();
    pulled.run(["pull", "-q", "--tls-verify=false", &format!("{}/plain:1", place.registry.host)]).ok();
    assert_eq!(pulled.sh(&format!("{}/plain:1", place.registry.host), "cat /f"), "copied");
    place
        .copy(&["--preserve-digests", &place.remote("first:1"), &place.at("docker-archive", "e.tar")])
        .fails(125, "--preserve-digests");
    place.copy(&["--all", "app", &place.at("docker-archive", "e.tar")]).fails(125, "oci-archive");
    // what is there is not overwritten, and a failure leaves nothing
    place.copy(&["app", &archive]).fails(125, "exists");
    place.copy(&[&place.remote("nosuch:1"), &place.at("oci-archive", "n.tar")]).fails(125, "nosuch");
    assert!(!place.dir.path().join("n.tar").exists());
    let names: Vec<_> =
        std::fs::read_dir(place.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["d.tar"]);
    let host = "--src-daemon-host=unix:///nosuch.sock";
    place.copy(&[host, "docker-daemon:x:1", "y"]).fails(125, "/nosuch.sock");
    place.copy(&["--src-daemon-host=tcp://h:1", "docker-daemon:x:1", "y"]).fails(125, "unix:///");
}
