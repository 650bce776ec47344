//! Registries that misbehave.

use crate::fixture::{Memory, client, copy_all, drain, options, reference};
use oci::{Descriptor, Digest, media_type};
use registry::testing::{FaultKind, Server, ServerOptions};
use registry::transport::{RemoteDestination, RemoteSource, Verified};
use registry::{Client, ClientOptions, Error};
use std::time::{Duration, Instant};

fn start() -> (Server, Memory) {
    let server = Server::start(ServerOptions::default()).unwrap();
    let image = Memory::small();
    image.serve(&server, "app", "v1");
    (server, image)
}

fn pull(server: &Server) -> registry::Result<registry::Report> {
    let client = client(server);
    copy_all(&RemoteSource::new(&client, &reference(server, "app:v1")).unwrap(), &Memory::default())
}

#[test]
fn a_cut_blob_is_resumed_by_range() {
    let (server, image) = start();
    let layer = &image.manifest().layers[1];
    server.fault("GET", layer.digest.hex(), FaultKind::Cut(50_000), 1);
    pull(&server).unwrap();
    let ranges: Vec<_> = server.requests().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges, ["bytes=50000-"]);
}

#[test]
fn a_stalled_blob_is_resumed_and_in_the_end_given_up() {
    let (server, image) = start();
    let layer = image.manifest().layers[1].clone();
    let quick = ClientOptions { read_timeout: Duration::from_millis(300), ..options(&server.address()) };
    let client = Client::new(quick);
    let name = reference(&server, "app:v1");
    server.fault("GET", layer.digest.hex(), FaultKind::Stall(50_000), 1);
    assert_eq!(drain(client.blob(&name, &layer, 0).unwrap()).unwrap().len() as u64, layer.size);

    server.fault("GET", layer.digest.hex(), FaultKind::Stall(10_000), 100);
    let begun = Instant::now();
    let error = drain(client.blob(&name, &layer, 0).unwrap()).unwrap_err();
    assert!(error.contains("no answer for 0.3 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let (server, _) = start();
    let quick = ClientOptions { read_timeout: Duration::from_millis(200), ..options(&server.address()) };
    server.fault("GET", "/manifests/", FaultKind::Stall(0), 100);
    // the headers come, the body does not
    let error = Client::new(quick.clone()).manifest(&reference(&server, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    // nothing comes at all: a listener that accepts and is silent
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let client = Client::new(ClientOptions { tls_verify: Some(false), ..quick });
    let begun = Instant::now();
    let name = registry::Reference::parse(&format!("{host}/app:v1")).unwrap();
    let error = client.manifest(&name).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn corrupt_blobs_and_manifests_are_refused() {
    let (server, image) = start();
    let layer = &image.manifest().layers[0];
    server.fault("GET", layer.digest.hex(), FaultKind::Corrupt(10), 1);
    let error = pull(&server).unwrap_err().full_text();
    assert!(error.contains("content has digest"), "{error}");
    server.fault("GET", "/manifests/", FaultKind::Corrupt(30), 1);
    assert!(pull(&server).is_err());
    let by_digest = reference(&server, "app").with_digest(image.root().digest().clone());
    server.fault("GET", "/manifests/", FaultKind::Corrupt(30), 1);
    assert!(matches!(client(&server).manifest(&by_digest), Err(Error::Document { .. })));
    pull(&server).unwrap();
}

#[test]
fn truncated_and_extended_blobs_are_refused() {
    let (server, image) = start();
    let layer = &image.manifest().layers[0];
    for kind in [FaultKind::Truncate(100), FaultKind::Extend(10)] {
        server.fault("GET", layer.digest.hex(), kind, 1);
        let error = pull(&server).unwrap_err().full_text();
        assert!(error.contains("but the manifest says"), "{error}");
    }
    server.fault("GET", "/manifests/", FaultKind::Truncate(20), 1);
    assert!(pull(&server).is_err());
    pull(&server).unwrap();
}

#[test]
fn a_server_without_ranges_cannot_resume() {
    let server = Server::start(ServerOptions { ignore_ranges: true, ..Default::default() }).unwrap();
    let image = Memory::small();
    image.serve(&server, "app", "v1");
    server.fault("GET", image.manifest().layers[1].digest.hex(), FaultKind::Cut(1000), 1);
    let error = pull(&server).unwrap_err().full_text();
    assert!(error.contains("read blob"), "{error}");
}

#[test]
fn passing_failures_are_tried_again() {
    let (server, _) = start();
    server.fault("GET", "/manifests/", FaultKind::Status(503, None), 2);
    server.fault("GET", "/blobs/", FaultKind::Status(429, Some(0)), 3);
    pull(&server).unwrap();
    server.fault("GET", "/manifests/", FaultKind::Status(500, None), 1);
    let error = pull(&server).unwrap_err();
    assert!(matches!(error, Error::Status { status: 500, .. }), "{error}");
    assert!(error.to_string().contains("TESTFAULT (as asked)"), "{error}");
    server.fault("GET", "/manifests/", FaultKind::Status(429, Some(0)), 100);
    let before = server.count("GET", "/manifests/");
    assert!(pull(&server).is_err());
    assert_eq!(server.count("GET", "/manifests/") - before, 5);
}

#[test]
fn broken_uploads_begin_again_and_leave_nothing_open() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let image = Memory::small();
    let client = client(&server);
    server.fault("PATCH", "", FaultKind::Status(502, None), 1);
    server.fault("PUT", "/blobs/uploads/", FaultKind::Status(503, None), 1);
    copy_all(&image, &RemoteDestination::new(&client, &reference(&server, "app:v1"))).unwrap();
    assert_eq!(server.open_uploads(), 0);
}

#[test]
fn content_that_is_not_what_it_says_is_not_uploaded() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let image = Memory::small();
    let layer = image.manifest().layers[1].digest.clone();
    image.blobs.lock().unwrap().get_mut(&layer).unwrap()[100] ^= 1;
    let client = client(&server);
    let error =
        copy_all(&image, &RemoteDestination::new(&client, &reference(&server, "app:v1"))).unwrap_err();
    assert!(matches!(error, Error::ContentMismatch { .. }), "{}", error.full_text());
    assert!(server.blob("app", &layer).is_none());
    assert_eq!(server.count("PUT", "/manifests/"), 0);
    image.blobs.lock().unwrap().get_mut(&layer).unwrap().truncate(50);
    assert!(copy_all(&image, &RemoteDestination::new(&client, &reference(&server, "app:v1"))).is_err());
}

#[test]
fn bombs_are_bounded() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let huge = vec![b' '; 5 << 20];
    server.put_manifest("app", "huge", media_type::OCI_MANIFEST, &huge);
    server.put_manifest("app", "html", "text/html", b"<html>login</html>");
    server.put_manifest("app", "old", media_type::DOCKER_SCHEMA1, b"{\"schemaVersion\":1,\"fsLayers\":[]}");
    let client = client(&server);
    let error = client.manifest(&reference(&server, "app:huge")).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(client.manifest(&reference(&server, "app:html")).is_err());
    let error = client.manifest(&reference(&server, "app:old")).unwrap_err().full_text();
    assert!(error.contains("unsupported manifest type"), "{error}");
}

#[test]
fn a_connection_refused_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let client = Client::new(options(&closed));
    let name = registry::Reference::parse(&format!("{closed}/app")).unwrap();
    let error = client.manifest(&name).unwrap_err();
    assert!(error.is_retryable() && error.full_text().contains(&closed), "{}", error.full_text());
    assert!(error.full_text().to_lowercase().contains("refused"), "{}", error.full_text());
}

#[test]
fn verified_readers_check_digest_and_size() {
    let bytes = b"some content";
    let good = Descriptor::of("x", bytes);
    let read = |descriptor: &Descriptor| drain(Verified::new(&bytes[..], descriptor.clone(), "test".into()));
    assert_eq!(read(&good).unwrap(), bytes);
    assert!(read(&Descriptor { size: 5, ..good.clone() }).is_err());
    assert!(read(&Descriptor { size: 500, ..good.clone() }).is_err());
    assert!(read(&Descriptor { digest: Digest::of(b"y"), ..good }).is_err());
}
