//! Layouts, archives and directories, round trip and hostile.

use crate::fixture::{Memory, copy_all, layer_tar, layer_type_is_known};
use oci::{Compression, Digest, ImageConfig, Platform};
use registry::transport::{
    DirDestination, DirSource, DockerArchive, DockerArchiveWriter, Layout, LayoutDestination, LayoutSource,
    OciArchiveWriter, Selector, Source, TarFile, Which, read_blob,
};
use registry::{Reference, copy};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

fn mixed() -> Memory {
    let layers = [(Compression::Gzip, 5000), (Compression::Zstd, 70_000), (Compression::None, 100)];
    Memory::image(&Platform::host(), &layers)
}

fn same(source: &dyn Source, image: &Memory) {
    let copied = Memory::default();
    let report = copy_all(source, &copied).unwrap();
    assert_eq!(report.root.bytes(), image.root().bytes());
    for (digest, bytes) in image.blobs.lock().unwrap().iter() {
        assert_eq!(&copied.blobs.lock().unwrap()[digest], bytes);
    }
}

#[test]
fn layouts_round_trip_and_hold_several_images() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layout");
    let (one, many) = (mixed(), Memory::index(&["linux/amd64", "linux/arm64"]));
    copy_all(&one, &LayoutDestination::create(&path, Some("one")).unwrap()).unwrap();
    copy_all(&many, &LayoutDestination::create(&path, Some("many")).unwrap()).unwrap();
    // the same name again replaces, and moves nothing
    let again = copy_all(&one, &LayoutDestination::create(&path, Some("one")).unwrap()).unwrap();
    assert_eq!(again.copied, 0);
    let layout = Layout::open_directory(&path).unwrap();
    let mut names: Vec<_> = layout.images().into_iter().flat_map(|image| image.names).collect();
    names.sort();
    assert_eq!(names, ["many", "one"]);
    same(&layout.source(&Selector::Name("one".into())).unwrap(), &one);
    same(&layout.source(&Selector::Name("many".into())).unwrap(), &many);
    assert!(layout.source(&Selector::Only).is_err());
    assert!(layout.source(&Selector::Name("none".into())).unwrap_err().is_not_found());
}

#[test]
fn oci_archives_round_trip_also_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let image = mixed();
    let writer = OciArchiveWriter::new(Vec::new(), "test");
    copy_all(&image, &writer.destination(Some("docker.io/library/x:1"))).unwrap();
    let bytes = writer.finish().unwrap();
    let again = OciArchiveWriter::new(Vec::new(), "test");
    let sequential = registry::CopyOptions { parallel: 1, ..Default::default() };
    copy(&image, &again.destination(Some("docker.io/library/x:1")), &sequential).unwrap();
    assert_eq!(bytes.len(), again.finish().unwrap().len());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    for bytes in [bytes, gzip.finish().unwrap()] {
        let archive = Arc::new(TarFile::from_reader(bytes.as_slice(), "x".into(), dir.path()).unwrap());
        let layout = Layout::open_archive(&archive).unwrap();
        assert_eq!(layout.images()[0].names, ["docker.io/library/x:1"]);
        same(&layout.source(&Selector::Only).unwrap(), &image);
    }
}

#[test]
fn directories_round_trip() {
    let dir = tempfile::tempdir().unwrap();
    let image = Memory::index(&["linux/amd64", "linux/arm64"]);
    copy_all(&image, &DirDestination::create(&dir.path().join("d")).unwrap()).unwrap();
    same(&DirSource::open(&dir.path().join("d")).unwrap(), &image);
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    assert!(DirDestination::create(dir.path()).is_err());
}

fn docker_archive(images: &[(&Memory, &str)], scratch: &Path) -> Arc<TarFile> {
    let writer = DockerArchiveWriter::new(Vec::new(), "test", scratch);
    for (image, name) in images {
        let names = [Reference::parse(name).unwrap()];
        copy(*image, &writer.destination(&names), &Default::default()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    Arc::new(TarFile::from_reader(bytes.as_slice(), "docker.tar".into(), scratch).unwrap())
}

#[test]
fn docker_archives_keep_config_and_plain_layers() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (mixed(), Memory::small());
    let archive = docker_archive(
        &[(&one, "localhost/one:1"), (&two, "localhost/two:2"), (&one, "localhost/also:3")],
        dir.path(),
    );
    let docker = DockerArchive::open(&archive).unwrap();
    let names: Vec<_> = docker.images().into_iter().map(|image| image.names).collect();
    assert_eq!(names, [vec!["localhost/one:1", "localhost/also:3"], vec!["localhost/two:2"]]);
    let source = docker.source(&Selector::Name("localhost/one:1".into())).unwrap();
    let loaded = Memory::default();
    copy_all(&source, &loaded).unwrap();
    let manifest = loaded.manifest();
    // the image ID stays, the layers are plain now
    assert_eq!(manifest.config.digest, one.manifest().config.digest);
    assert!(layer_type_is_known(&manifest));
    let bytes = read_blob(&source, &manifest.config, 1 << 20).unwrap();
    let config: ImageConfig = serde_json::from_slice(&bytes).unwrap();
    for (layer, diff_id) in manifest.layers.iter().zip(config.diff_ids()) {
        assert_eq!(layer.digest, diff_id.0);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn docker_archives_with_compressed_layers_in_directories() {
    let dir = tempfile::tempdir().unwrap();
    let image = Memory::image(&Platform::host(), &[(Compression::Gzip, 500)]);
    let manifest = image.manifest();
    let blobs = image.blobs.lock().unwrap();
    let bytes = tar_of(&[
        ("cfg.json", &blobs[&manifest.config.digest]),
        ("abc/layer.tar", &blobs[&manifest.layers[0].digest]),
        ("manifest.json", br#"[{"Config":"cfg.json","RepoTags":null,"Layers":["abc/layer.tar"]}]"#),
    ]);
    let archive = Arc::new(TarFile::from_reader(bytes.as_slice(), "x".into(), dir.path()).unwrap());
    let source = DockerArchive::open(&archive).unwrap().source(&Selector::Only).unwrap();
    let loaded = source.manifest(Which::Root).unwrap();
    assert_eq!(loaded.value().manifest().unwrap().layers, manifest.layers);
}

#[test]
fn docker_archives_older_than_manifest_json() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let (base, top) = (layer_tar(1, 100), layer_tar(2, 100));
    let base_json = format!(
        "{{\"id\":\"{a}\",\"created\":\"2015-01-01T00:00:00Z\",\"os\":\"linux\",\"architecture\":\"amd64\"}}"
    );
    let top_json = format!(
        "{{\"id\":\"{b}\",\"parent\":\"{a}\",\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{{\"Cmd\":[\"sh\"]}},\"container_config\":{{\"Cmd\":[\"/bin/sh\",\"-c\",\"x\"]}}}}"
    );
    let repositories = format!("{{\"busybox\":{{\"old\":\"{b}\"}}}}");
    let bytes = tar_of(&[
        (&format!("{a}/json"), base_json.as_bytes()),
        (&format!("{a}/layer.tar"), &base),
        (&format!("{b}/json"), top_json.as_bytes()),
        (&format!("{b}/layer.tar"), &top),
        ("repositories", repositories.as_bytes()),
    ]);
    let archive = Arc::new(TarFile::from_reader(bytes.as_slice(), "x".into(), dir.path()).unwrap());
    let docker = DockerArchive::open(&archive).unwrap();
    assert_eq!(docker.images()[0].names, ["busybox:old"]);
    let source = docker.source(&Selector::Name("busybox:old".into())).unwrap();
    let loaded = Memory::default();
    copy_all(&source, &loaded).unwrap();
    let manifest = loaded.manifest();
    let config: ImageConfig =
        serde_json::from_slice(&loaded.blobs.lock().unwrap()[&manifest.config.digest]).unwrap();
    let ids: Vec<_> = config.diff_ids().iter().map(|id| id.0.clone()).collect();
    assert_eq!(ids, [Digest::of(&base), Digest::of(&top)]);
    assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
    assert_eq!(config.history[1].created_by.as_deref(), Some("/bin/sh -c x"));
    assert!(config.unknown.is_empty(), "{:?}", config.unknown);
}

#[test]
fn hostile_docker_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = Memory::image(&Platform::host(), &[(Compression::None, 500)]);
    let config = image.blobs.lock().unwrap()[&image.manifest().config.digest].clone();
    let tables: [&[u8]; 5] = [
        br#"[{"Config":"../../../etc/passwd","RepoTags":null,"Layers":[]}]"#,
        br#"[{"Config":"cfg.json","RepoTags":null,"Layers":[]}]"#,
        br#"[{"Config":"cfg.json","RepoTags":null,"Layers":["/etc/passwd"]}]"#,
        br#"[{"Config":"cfg.json","RepoTags":null,"Layers":["wrong"]}]"#,
        br#"[{"Config":"#,
    ];
    for table in tables {
        let bytes = tar_of(&[("cfg.json", &config), ("wrong", b"not the layer"), ("manifest.json", table)]);
        let archive = Arc::new(TarFile::from_reader(bytes.as_slice(), "x".into(), dir.path()).unwrap());
        let result = DockerArchive::open(&archive)
            .and_then(|docker| docker.source(&Selector::Only))
            .and_then(|source| copy_all(&source, &Memory::default()).map(|_| ()));
        assert!(result.is_err(), "{}", String::from_utf8_lossy(table));
    }
}

#[test]
fn damaged_layout_blobs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = mixed();
    copy_all(&image, &LayoutDestination::create(dir.path(), None).unwrap()).unwrap();
    let layer = &image.manifest().layers[0].digest;
    let path = dir.path().join("blobs/sha256").join(layer.hex());
    let good = std::fs::read(&path).unwrap();
    let copy_it = || copy_all(&LayoutSource::open(dir.path(), &Selector::Only).unwrap(), &Memory::default());
    copy_it().unwrap();
    for bad in [good[..100].to_vec(), [&good[..], b"x"].concat(), Vec::new()] {
        std::fs::write(&path, bad).unwrap();
        assert!(copy_it().unwrap_err().full_text().contains("content has digest"));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(copy_it().unwrap_err().is_not_found());
}
