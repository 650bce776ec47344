//! Images: naming, archives, registries.

use crate::lab::{Lab, QUIET, Test};
use engine::images::{
    ArchiveFormat, ArchiveInput, ImageListRequest, ImagePruneRequest, ImageRemoveRequest, ImageRemoved,
    ImportRequest, LoadReport, LoadRequest, PullPolicy, PullRequest, PushRequest, RegistryOptions,
    SaveRequest,
};
use engine::{Engine, ErrorKind};
use registry::testing::{FaultKind, Server, ServerOptions};
use std::io::Cursor;

pub(crate) const TESTS: &[Test] = &[
    ("images::names_come_and_go", names_come_and_go),
    ("images::an_image_in_use_stays", an_image_in_use_stays),
    ("images::imports_describe_themselves", imports_describe_themselves),
    ("images::archives_bring_images_over", archives_bring_images_over),
    ("images::damaged_archives_leave_nothing", damaged_archives_leave_nothing),
    ("images::digests_survive_push_and_pull", digests_survive_push_and_pull),
    ("images::policies", policies),
    ("images::corrupt_and_truncated_blobs", corrupt_and_truncated_blobs),
    ("images::a_cut_pull_is_resumed", a_cut_pull_is_resumed),
    ("images::prune_frees_what_nothing_needs", prune_frees_what_nothing_needs),
];

fn names(engine: &Engine) -> Vec<String> {
    let mut names: Vec<String> = engine
        .images()
        .list(&ImageListRequest::default())
        .unwrap()
        .into_iter()
        .flat_map(|row| row.names)
        .collect();
    names.sort();
    names
}

fn id(engine: &Engine, name: &str) -> String {
    engine.images().inspect(name, None).unwrap().id
}

fn remove(engine: &Engine, name: &str, force: bool) -> Result<Vec<ImageRemoved>, engine::Error> {
    let request = ImageRemoveRequest { images: vec![name.into()], force, ..ImageRemoveRequest::default() };
    let (done, mut errors) = engine.images().remove(&request);
    if errors.is_empty() { Ok(done) } else { Err(errors.remove(0)) }
}

fn names_come_and_go(lab: &Lab) {
    let images = lab.engine.images();
    let whole = id(&lab.engine, "box");
    for name in ["box", "box:latest", "localhost/box", &whole, &whole[..12], &format!("sha256:{whole}")] {
        assert_eq!(id(&lab.engine, name), whole, "{name}");
    }
    images.tag("box", &["other:1".into(), "quay.io/x/y:z".into()]).unwrap();
    assert_eq!(names(&lab.engine), ["localhost/box:latest", "localhost/other:1", "quay.io/x/y:z"]);
    assert_eq!(remove(&lab.engine, &whole, false).unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(
        remove(&lab.engine, "other:1", false).unwrap(),
        [ImageRemoved::Untagged { name: "localhost/other:1".into() }]
    );
    images.untag("box", &["quay.io/x/y:z".into()]).unwrap();
    images.untag("box", &[]).unwrap();
    let rows = images.list(&ImageListRequest::default()).unwrap();
    assert!(rows[0].dangling && rows[0].names.is_empty());
    assert!(!images.exists("box").unwrap() && images.exists(&whole).unwrap());
    assert!(images.tag("box", &["x".into()]).is_err());
    assert!(images.tag(&whole, &["UPPER".into()]).is_err());
    remove(&lab.engine, &whole[..12], false).unwrap();
    assert!(images.list(&ImageListRequest::default()).unwrap().is_empty());
}

fn an_image_in_use_stays(lab: &Lab) {
    let made = lab.engine.containers().create(&lab.create(&["true"]), QUIET).unwrap();
    assert_eq!(remove(&lab.engine, "box", false).unwrap_err().kind(), ErrorKind::InUse);
    assert!(lab.engine.containers().exists(&made.id).unwrap());
    remove(&lab.engine, "box", true).unwrap();
    assert!(!lab.engine.containers().exists(&made.id).unwrap());
    assert_eq!(remove(&lab.engine, "box", false).unwrap_err().kind(), ErrorKind::NotFound);
}

fn imports_describe_themselves(lab: &Lab) {
    let request = ImportRequest {
        reference: Some("own:1".into()),
        changes: vec![
            "CMD [\"sh\"]".into(),
            "ENV A=1".into(),
            "LABEL b=c".into(),
            "WORKDIR /made/here".into(),
        ],
        message: Some("a comment".into()),
        signature_policy: None,
        platform: None,
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "file", &b"bytes"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    lab.engine.images().import(&request, Box::new(Cursor::new(tar)), QUIET).unwrap();
    let seen = lab.engine.images().inspect("own:1", None).unwrap();
    assert_eq!(seen.comment, "a comment");
    assert_eq!(seen.labels.unwrap()["b"], "c");
    assert_eq!(seen.config["WorkingDir"], "/made/here");
    assert_eq!(seen.root_fs.layers.len(), 1);
    let listed = lab
        .engine
        .images()
        .list(&ImageListRequest { filters: vec!["label=b=c".into()], name: None })
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(lab.engine.images().history("own:1", None).unwrap().len(), 1);
    // no tar at all
    let broken =
        lab.engine.images().import(&ImportRequest::default(), Box::new(Cursor::new(vec![7; 4096])), QUIET);
    assert!(broken.is_err());
}

fn save(engine: &Engine, names: &[&str], format: ArchiveFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = SaveRequest {
        images: names.iter().map(|name| (*name).to_owned()).collect(),
        format,
        ..SaveRequest::default()
    };
    engine.images().save(&request, &mut bytes, QUIET).unwrap();
    bytes
}

fn load(engine: &Engine, input: ArchiveInput) -> engine::Result<LoadReport> {
    engine.images().load(LoadRequest { input, signature_policy: None, platform: None }, QUIET)
}

fn archives_bring_images_over(lab: &Lab) {
    lab.engine.images().tag("box", &["box:two".into()]).unwrap();
    let whole = id(&lab.engine, "box");
    let other = lab.other();
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let bytes = save(&lab.engine, &["box", "box:two"], format);
        let report = load(&other, ArchiveInput::Stream(Box::new(Cursor::new(bytes)))).unwrap();
        assert_eq!(report.names.len(), 2, "{:?}", report.names);
        assert_eq!(names(&other), ["localhost/box:latest", "localhost/box:two"]);
        assert_eq!(id(&other, "box"), whole);
        remove(&other, &whole, true).unwrap();
    }
    // without a name
    let bytes = save(&lab.engine, &[&whole], ArchiveFormat::Docker);
    let path = lab.path("archive.tar");
    std::fs::write(&path, bytes).unwrap();
    let report = load(&other, ArchiveInput::Path(path)).unwrap();
    assert_eq!(report.names, [format!("sha256:{whole}")]);
}

fn damaged_archives_leave_nothing(lab: &Lab) {
    let bytes = save(&lab.engine, &["box"], ArchiveFormat::Oci);
    let other = lab.other();
    for cut in [10, 600, bytes.len() / 2, bytes.len() - 2000] {
        let input = ArchiveInput::Stream(Box::new(Cursor::new(bytes[..cut].to_vec())));
        assert!(load(&other, input).is_err(), "{cut}");
        assert!(other.images().list(&ImageListRequest::default()).unwrap().is_empty());
    }
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    assert!(load(&other, ArchiveInput::Stream(Box::new(Cursor::new(changed)))).is_err());
    load(&other, ArchiveInput::Stream(Box::new(Cursor::new(bytes)))).unwrap();
}

fn insecure() -> RegistryOptions {
    RegistryOptions {
        tls_verify: Some(false),
        retry: Some(1),
        retry_delay: Some(std::time::Duration::from_millis(10)),
        ..RegistryOptions::default()
    }
}

fn push(engine: &Engine, image: &str, to: &str) -> String {
    let request = PushRequest {
        image: image.into(),
        destination: Some(to.into()),
        registry: insecure(),
        compression: None,
        format: None,
        ..PushRequest::default()
    };
    engine.images().push(&request, QUIET).unwrap().digest
}

fn pull(engine: &Engine, name: &str) -> engine::Result<engine::images::PullReport> {
    let request = PullRequest {
        reference: name.into(),
        policy: PullPolicy::Always,
        platform: None,
        registry: insecure(),
    };
    engine.images().pull(&request, QUIET)
}

fn digests_survive_push_and_pull(lab: &Lab) {
    let server = Server::start(ServerOptions::default()).unwrap();
    let name = format!("{}/a/box:1", server.address());
    let digest = push(&lab.engine, "box", &name);
    let uploads = server.count("POST", "/blobs/uploads/");
    assert_eq!(push(&lab.engine, "box", &name), digest, "made once, then remembered");
    assert_eq!(server.count("POST", "/blobs/uploads/"), uploads, "nothing was sent again");
    let other = lab.other();
    let report = pull(&other, &name).unwrap();
    assert_eq!(report.digest.as_deref(), Some(digest.as_str()));
    assert_eq!(report.id, id(&lab.engine, "box"));
    let seen = other.images().inspect(&name, None).unwrap();
    assert_eq!(seen.digest, digest);
    assert_eq!(seen.repo_digests, [format!("{}/a/box@{digest}", server.address())]);
    assert!(other.images().exists(&seen.repo_digests[0]).unwrap());
    assert_eq!(push(&other, &name, &format!("{}/b/copy:1", server.address())), digest);
    // through an OCI archive too
    let bytes = save(&other, &[&name], ArchiveFormat::Oci);
    remove(&other, &name, true).unwrap();
    load(&other, ArchiveInput::Stream(Box::new(Cursor::new(bytes)))).unwrap();
    assert_eq!(other.images().inspect(&name, None).unwrap().digest, digest);
    assert_eq!(
        pull(&other, &format!("{}/a/none:1", server.address())).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

fn policies(lab: &Lab) {
    let server = Server::start(ServerOptions::default()).unwrap();
    let name = format!("{}/p/box:1", server.address());
    push(&lab.engine, "box", &name);
    let other = lab.other();
    let with = |policy: PullPolicy| {
        let request = PullRequest { reference: name.clone(), policy, platform: None, registry: insecure() };
        other.images().pull(&request, QUIET)
    };
    assert_eq!(with(PullPolicy::Never).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(with(PullPolicy::Missing).unwrap().pulled);
    server.forget_requests();
    assert!(!with(PullPolicy::Missing).unwrap().pulled);
    assert!(!with(PullPolicy::Never).unwrap().pulled);
    assert!(server.requests().is_empty());
    assert!(!with(PullPolicy::Newer).unwrap().pulled);
    server.forget_requests();
    assert!(with(PullPolicy::Always).unwrap().pulled);
    assert_eq!(server.count("GET", "/blobs/"), 0, "all blobs are here");
}

fn corrupt_and_truncated_blobs(lab: &Lab) {
    let server = Server::start(ServerOptions::default()).unwrap();
    let name = format!("{}/c/box:1", server.address());
    push(&lab.engine, "box", &name);
    let other = lab.other();
    for kind in [FaultKind::Corrupt(1000), FaultKind::Truncate(1000), FaultKind::Extend(10)] {
        server.fault("GET", "/blobs/", kind, 100);
        pull(&other, &name).unwrap_err();
        assert!(other.images().list(&ImageListRequest::default()).unwrap().is_empty(), "{kind:?}");
        // the faults that were left over are used up
        while server.count("GET", "/blobs/") < 100 && pull(&other, &name).is_err() {}
        let _ = remove(&other, &name, true);
        server.forget_requests();
    }
}

fn a_cut_pull_is_resumed(lab: &Lab) {
    let server = Server::start(ServerOptions::default()).unwrap();
    let name = format!("{}/r/box:1", server.address());
    push(&lab.engine, "box", &name);
    let other = lab.other();
    server.fault("GET", "/blobs/", FaultKind::Cut(300_000), 2);
    // whatever the client makes of it, the second pull ends well
    let _ = pull(&other, &name);
    pull(&other, &name).unwrap();
    assert!(server.requests().iter().any(|request| request.range.is_some()), "a range was asked for");
    assert_eq!(id(&other, &name), id(&lab.engine, "box"));
}

fn prune_frees_what_nothing_needs(lab: &Lab) {
    let images = lab.engine.images();
    let request = ImportRequest::default();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(100_000);
    header.set_mode(0o644);
    tar.append_data(&mut header, "big", &vec![1; 100_000][..]).unwrap();
    images.import(&request, Box::new(Cursor::new(tar.into_inner().unwrap())), QUIET).unwrap();
    let report = images.prune(&ImagePruneRequest::default()).unwrap();
    assert_eq!(report.removed.len(), 1);
    assert!(report.reclaimed >= 100_000, "{}", report.reclaimed);
    assert_eq!(names(&lab.engine), ["localhost/box:latest"]);
    assert_eq!(lab.shell("echo fine").stdout, "fine\n");
    assert!(lab.engine.check(&engine::CheckRequest::default()).unwrap().damage.is_empty());
    images.prune(&ImagePruneRequest { all: true, ..ImagePruneRequest::default() }).unwrap();
    assert!(names(&lab.engine).is_empty());
}
