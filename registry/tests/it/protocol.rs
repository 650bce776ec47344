//! The protocol against the registry in this process.

use crate::fixture::{Memory, client, copy_all, drain, options, reference};
use oci::{Digest, Platform};
use registry::testing::{Server, ServerOptions};
use registry::transport::{RemoteDestination, RemoteSource};
use registry::{Client, CopyOptions, Event, Reference, Registries, Selection, copy};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

fn start() -> Server {
    Server::start(ServerOptions::default()).unwrap()
}

#[test]
fn push_then_pull_keeps_every_digest() {
    let server = start();
    let (image, client) = (Memory::small(), client(&server));
    let name = reference(&server, "ns/app:v1");
    let events = Mutex::new(Vec::new());
    let progress = |event: Event<'_>| events.lock().unwrap().push(format!("{event:?}"));
    let report = copy(
        &image,
        &RemoteDestination::new(&client, &name),
        &CopyOptions { progress: &progress, ..Default::default() },
    )
    .unwrap();
    assert_eq!((report.copied, report.skipped, report.mounted), (4, 0, 0));
    assert_eq!(server.manifest("ns/app", "v1").unwrap(), image.root().bytes());
    assert_eq!(server.open_uploads(), 0);
    assert!(events.lock().unwrap().iter().any(|event| event.starts_with("Moved")));
    // one ping for all, one session for each blob
    assert_eq!(server.requests().iter().filter(|seen| seen.target == "/v2/").count(), 1);
    assert_eq!(server.count("POST", "/blobs/uploads/"), 4);
    assert_eq!(server.count("PATCH", ""), 4);

    let pulled = Memory::default();
    let report = copy_all(&RemoteSource::new(&client, &name).unwrap(), &pulled).unwrap();
    assert_eq!(report.root, image.root());
    for (digest, bytes) in image.blobs.lock().unwrap().iter() {
        assert_eq!(&pulled.blobs.lock().unwrap()[digest], bytes);
    }
}

#[test]
fn a_second_push_moves_no_layer() {
    let server = start();
    let (image, client) = (Memory::small(), client(&server));
    let name = reference(&server, "app:v1");
    copy_all(&image, &RemoteDestination::new(&client, &name)).unwrap();
    server.forget_requests();
    let report = copy_all(&image, &RemoteDestination::new(&client, &name)).unwrap();
    assert_eq!((report.copied, report.skipped, report.bytes), (0, 4, 0));
    assert_eq!(server.count("POST", ""), 0);
}

#[test]
fn blobs_are_mounted_across_repositories() {
    for refuse_mounts in [false, true] {
        let server = Server::start(ServerOptions { refuse_mounts, ..Default::default() }).unwrap();
        let (image, client) = (Memory::small(), client(&server));
        image.serve(&server, "base/app", "v1");
        let from = RemoteSource::new(&client, &reference(&server, "base/app:v1")).unwrap();
        let to = RemoteDestination::new(&client, &reference(&server, "other/app:v2"));
        let report = copy_all(&from, &to).unwrap();
        assert_eq!(report.mounted, if refuse_mounts { 0 } else { 4 });
        assert_eq!(server.manifest("other/app", "v2").unwrap(), image.root().bytes());
        assert_eq!(server.open_uploads(), 0, "a refused mount is cancelled");
    }
}

#[test]
fn an_index_is_copied_whole_or_by_platform() {
    let server = start();
    let client = client(&server);
    let image = Memory::index(&["linux/amd64", "linux/arm64/v8", "linux/arm/v7"]);
    let name = reference(&server, "multi:latest");
    copy_all(&image, &RemoteDestination::new(&client, &name)).unwrap();
    assert_eq!(client.manifest(&name).unwrap(), image.root());

    let pulled = Memory::default();
    let source = RemoteSource::new(&client, &name).unwrap();
    let selection = Selection::Platform("linux/arm/v8".parse().unwrap());
    let report = copy(&source, &pulled, &CopyOptions { selection, ..Default::default() }).unwrap();
    let index = image.root();
    assert_eq!(report.root.digest(), &index.value().index().unwrap().manifests[2].digest);
    assert_eq!(report.source_digest, *index.digest());

    let selection = Selection::Platform(Platform::new("linux", "s390x", None));
    let error =
        copy(&source, &pulled, &CopyOptions { selection, ..Default::default() }).unwrap_err().to_string();
    assert!(error.contains("no image for linux/s390x") && error.contains("linux/arm64/v8"), "{error}");
}

#[test]
fn tags_heads_and_deletions() {
    let server = start();
    let (image, client) = (Memory::small(), client(&server));
    for tag in ["a", "b", "c", "d", "e"] {
        image.serve(&server, "app", tag);
    }
    let name = reference(&server, "app:c");
    assert_eq!(client.tags(&name).unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(server.count("GET", "/tags/list"), 3);
    let descriptor = client.head_manifest(&name).unwrap().unwrap();
    assert_eq!(descriptor, image.root().descriptor());
    assert_eq!(client.head_manifest(&reference(&server, "app:zz")).unwrap(), None);
    client.delete_manifest(&name).unwrap();
    assert!(client.manifest(&name).unwrap_err().is_not_found());
    let layer = &image.manifest().layers[0];
    assert!(client.has_blob(&name, &layer.digest).unwrap());
    client.delete_blob(&name, &layer.digest).unwrap();
    assert!(!client.has_blob(&name, &layer.digest).unwrap());
    assert!(client.tags(&reference(&server, "none")).unwrap_err().is_not_found());
}

#[test]
fn mirrors_come_first_and_failures_fall_through() {
    let (mirror, origin) = (start(), start());
    let image = Memory::small();
    image.serve(&origin, "ns/app", "v1");
    let text = format!(
        "[[registry]]\nlocation = \"{0}\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{1}/cache\"\ninsecure = true\n",
        origin.address(),
        mirror.address()
    );
    let registries = std::sync::Arc::new(Registries::parse(&text, "test").unwrap());
    let client = Client::new(registry::ClientOptions { registries, ..options("none") });
    let name = reference(&origin, "ns/app:v1");
    let pull = || copy_all(&RemoteSource::new(&client, &name).unwrap(), &Memory::default());
    pull().unwrap();
    assert_eq!(mirror.count("GET", "/v2/cache/ns/app/manifests/v1"), 1);
    assert_eq!(origin.count("GET", "/blobs/"), 4);

    image.serve(&mirror, "cache/ns/app", "v1");
    origin.forget_requests();
    pull().unwrap();
    assert_eq!(origin.requests().len(), 0);

    let missing = reference(&origin, "ns/none:v1");
    let error = copy_all(&RemoteSource::new(&client, &missing).unwrap(), &Memory::default()).unwrap_err();
    assert!(error.is_not_found());
    assert!(error.to_string().contains(&mirror.address()), "{error}");
}

#[test]
fn redirects_do_not_carry_authorization() {
    use registry::testing::Auth;
    let cdn = start();
    let auth = Auth::Basic { username: "u".into(), password: "p".into() };
    let redirect_blobs = Some(format!("http://{}", cdn.address()));
    let server = Server::start(ServerOptions { auth, redirect_blobs, ..Default::default() }).unwrap();
    let image = Memory::small();
    image.serve(&server, "app", "v1");
    image.serve(&cdn, "app", "v1");
    let keychain = std::sync::Arc::new(registry::auth::FixedKeychain(registry::Credentials::basic("u", "p")));
    let client = Client::new(registry::ClientOptions { keychain, ..options(&server.address()) });
    let name = reference(&server, "app:v1");
    copy_all(&RemoteSource::new(&client, &name).unwrap(), &Memory::default()).unwrap();
    assert_eq!(cdn.count("GET", "/blobs/"), 4);
    assert!(cdn.requests().iter().all(|seen| seen.authorization.is_none()));
    assert!(server.requests().iter().skip(1).all(|seen| seen.authorization.is_some()));
}

#[test]
fn plain_http_needs_to_be_allowed() {
    let server = start();
    Memory::small().serve(&server, "app", "v1");
    let client = Client::new(options("elsewhere"));
    let error = client.manifest(&reference(&server, "app:v1")).unwrap_err();
    assert!(error.full_text().contains("https://"), "{}", error.full_text());
    assert_eq!(server.requests().len(), 0);
    let allowed = registry::ClientOptions { tls_verify: Some(false), ..options("elsewhere") };
    Client::new(allowed).manifest(&reference(&server, "app:v1")).unwrap();
}

#[test]
fn manifests_by_digest_must_match() {
    let server = start();
    let (image, client) = (Memory::small(), client(&server));
    let to = reference(&server, "app").with_digest(Digest::of(b"other"));
    assert!(client.put_manifest(&to, &image.root()).is_err());
    let to = to.with_digest(image.root().digest().clone());
    copy_all(&image, &RemoteDestination::new(&client, &to)).unwrap();
    assert_eq!(client.manifest(&to).unwrap(), image.root());
}

#[test]
fn warnings_are_kept_once() {
    let server =
        Server::start(ServerOptions { warning: Some("old version".into()), ..Default::default() }).unwrap();
    Memory::small().serve(&server, "app", "v1");
    let client = client(&server);
    client.manifest(&reference(&server, "app:v1")).unwrap();
    assert_eq!(client.take_warnings(), ["old version"]);
    assert!(client.take_warnings().is_empty());
}

#[test]
fn a_copy_can_be_cancelled() {
    let server = start();
    let (image, client) = (Memory::small(), client(&server));
    image.serve(&server, "app", "v1");
    let cancel = AtomicBool::new(false);
    let progress = |event: Event<'_>| {
        if matches!(event, Event::Moved(..)) {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let options = CopyOptions { progress: &progress, cancel: Some(&cancel), ..Default::default() };
    let source = RemoteSource::new(&client, &reference(&server, "app:v1")).unwrap();
    let error = copy(&source, &Memory::default(), &options).unwrap_err();
    assert!(error.full_text().contains("cancelled"), "{}", error.full_text());
}

#[test]
fn blobs_are_read_from_an_offset() {
    let server = start();
    let (image, client) = (Memory::small(), client(&server));
    image.serve(&server, "app", "v1");
    let layer = &image.manifest().layers[1];
    let whole = image.blobs.lock().unwrap()[&layer.digest].clone();
    let name: Reference = reference(&server, "app:v1");
    for offset in [0, 1, 1000, whole.len() - 1, whole.len()] {
        let reader = client.blob(&name, layer, offset as u64).unwrap();
        assert_eq!(drain(reader).unwrap(), whole[offset..], "{offset}");
    }
}
