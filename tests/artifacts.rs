//! `artifact`: files in registries, beside skopeo.

use crate::support::{Access, Davit, Registry, scratch, tool};
use std::os::unix::fs::PermissionsExt;

fn files() -> tempfile::TempDir {
    let dir = scratch();
    std::fs::write(dir.path().join("a.txt"), "hello\n").unwrap();
    std::fs::write(dir.path().join("b.bin"), b"\x7fELF\0\x01\x02").unwrap();
    std::fs::write(dir.path().join("big"), vec![7_u8; 300_000]).unwrap();
    dir
}

#[test]
fn files_travel_through_a_registry() {
    let (davit, other) = (Davit::new(), Davit::new());
    let registry = Registry::start(Access::Plain);
    let dir = files();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let name = format!("{}/things:1", registry.host);
    let digest = davit
        .run([
            "artifact",
            "add",
            "--type",
            "app/x",
            "--annotation",
            "k=v",
            &name,
            &path("a.txt"),
            &path("b.bin"),
        ])
        .ok();
    davit.run(["artifact", "add", "--append", &name, &path("big")]).ok();
    let file = path("digest");
    davit.run(["artifact", "push", "-q", "--tls-verify=false", "--digestfile", &file, &name]).ok();
    let pushed = std::fs::read_to_string(&file).unwrap();
    assert_ne!(pushed, format!("sha256:{digest}"), "the third file changed it");
    // what skopeo sees
    let raw = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).ok();
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["artifactType"], "app/x");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
    let layer = |at: usize, key: &str| manifest["layers"][at][key].clone();
    assert_eq!(layer(0, "mediaType"), "text/plain; charset=utf-8");
    assert_eq!(layer(1, "mediaType"), "application/octet-stream");
    assert_eq!(layer(0, "annotations")["k"], "v");
    assert_eq!(layer(0, "annotations")["org.opencontainers.image.title"], "a.txt");
    assert_eq!(layer(2, "annotations")["org.opencontainers.image.title"], "big");
    // it comes back with its digest and its bytes
    let pulled = other.run(["artifact", "pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(format!("sha256:{pulled}"), pushed);
    let inspected = other.run(["artifact", "inspect", &name]).ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Manifest"], manifest);
    assert_eq!(inspected["Digest"], pushed);
    // nothing that frees room takes it
    other.run(["system", "prune", "-af"]).ok();
    other
        .run(["artifact", "extract", &name, dir.path().join("out").to_str().unwrap()])
        .fails(125, "several files");
    std::fs::create_dir(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("out/a.txt"), "old").unwrap();
    other.run(["artifact", "extract", &name, &path("out")]).ok();
    for file in ["a.txt", "b.bin", "big"] {
        let (one, same) =
            (std::fs::read(path(file)).unwrap(), std::fs::read(path(&format!("out/{file}"))).unwrap());
        assert!(one == same, "{file}");
    }
    assert_eq!(std::fs::read_dir(path("out")).unwrap().count(), 3);
    other.run(["artifact", "extract", "--title", "a.txt", &name, &path("one")]).ok();
    assert_eq!(std::fs::read_to_string(path("one")).unwrap(), "hello\n");
    assert_eq!(std::fs::metadata(path("one")).unwrap().permissions().mode() & 0o111, 0);
    let by_digest = layer(1, "digest").as_str().unwrap().to_owned();
    other.run(["artifact", "extract", "--digest", &by_digest, &name, &path("two")]).ok();
    assert_eq!(std::fs::read(path("two")).unwrap(), std::fs::read(path("b.bin")).unwrap());
    other.run(["artifact", "extract", "--title", "nosuch", &name, &path("x")]).fails(125, "nosuch");
    // what skopeo copies to another registry's name is the same artifact
    let copied = format!("{}/copied:2", registry.host);
    tool(
        "skopeo",
        [
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &format!("docker://{name}"),
            &format!("docker://{copied}"),
        ],
    )
    .ok();
    assert_eq!(
        format!("sha256:{}", other.run(["artifact", "pull", "-q", "--tls-verify=false", &copied]).ok()),
        pushed
    );
    assert_eq!(other.run(["artifact", "ls", "-n"]).ok().lines().count(), 2);
    // a second push moves nothing
    let blobs = registry.blob_files();
    other.run(["artifact", "push", "-q", "--tls-verify=false", &copied]).ok();
    assert_eq!(registry.blob_files(), blobs);
    // the last name takes the blobs along
    let room = || std::fs::read_dir(other.root().join("blobs/sha256")).unwrap().count();
    other.run(["artifact", "rm", &name]).ok();
    assert_eq!(room(), 5, "manifest, config, three files");
    other.run(["artifact", "rm", "--all"]).ok();
    assert_eq!(room(), 0);
}

#[test]
fn names_and_titles_are_guarded() {
    let davit = Davit::new();
    let dir = files();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let digest = davit.run(["artifact", "add", "things", &path("a.txt")]).ok();
    assert_eq!(digest.len(), 64);
    let again = davit.run(["artifact", "add", "things", &path("b.bin")]);
    again.fails(125, "exists already");
    assert!(again.stderr.contains("--append"), "{again:?}");
    davit.run(["artifact", "add", "--append", "things", &path("a.txt")]).fails(125, "a.txt exists already");
    davit.run(["artifact", "add", "--append", "--type", "x", "things", &path("b.bin")]).fails(125, "--type");
    davit.run(["artifact", "add", "--append", "nosuch", &path("b.bin")]).fails(125, "no such artifact");
    davit.run(["artifact", "add", "dir", dir.path().to_str().unwrap()]).fails(125, "directory");
    davit.run(["artifact", "add", "missing", &path("nosuch")]).fails(125, "nosuch");
    assert_eq!(
        davit.run(["artifact", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).ok(),
        "localhost/things:latest"
    );
    assert_eq!(davit.run(["artifact", "ls", "-n", "--no-trunc", "--format", "{{.Digest}}"]).ok(), digest);
    // an artifact is no image, and found by its digest too
    davit.run(["image", "inspect", "things"]).fails(125, "no such");
    let by_digest = davit.run(["artifact", "inspect", "--format", "{{.Name}}", &digest[..12]]).ok();
    assert_eq!(by_digest, "localhost/things:latest");
    // a title that leads out of the directory
    davit
        .run([
            "artifact",
            "add",
            "--annotation",
            "org.opencontainers.image.title=../evil",
            "evil",
            &path("a.txt"),
        ])
        .ok();
    std::fs::create_dir(path("out")).unwrap();
    davit.run(["artifact", "extract", "evil", &path("out")]).fails(125, "title");
    assert!(!dir.path().join("evil").exists());
    assert_eq!(std::fs::read_dir(path("out")).unwrap().count(), 0);
    davit.run(["artifact", "extract", "evil", &path("out/tame")]).ok();
    assert_eq!(std::fs::read_to_string(path("out/tame")).unwrap(), "hello\n");
    // a damaged blob is neither written nor kept quiet about
    davit.run(["artifact", "add", "--replace", "--file-type", "text/x", "things", &path("big")]).ok();
    let list = davit
        .run(["artifact", "inspect", "--format", "{{(index .Manifest.layers 0).digest}}", "things"])
        .ok();
    let blob = davit.root().join("blobs/sha256").join(list.strip_prefix("sha256:").unwrap());
    std::fs::write(&blob, vec![8_u8; 300_000]).unwrap();
    davit.run(["artifact", "extract", "things", &path("out/broken")]).fails(125, "digest");
    assert!(!dir.path().join("out/broken").exists());
    davit.run(["artifact", "rm", "nosuch"]).fails(125, "no such artifact");
    davit.run(["artifact", "rm", "-i", "nosuch", "evil", "things"]).ok();
    assert_eq!(davit.run(["artifact", "ls", "-n"]).ok(), "");
}
