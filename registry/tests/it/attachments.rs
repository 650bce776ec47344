//! Places of signatures that lie or do harm: registries and lookaside servers.

use crate::fixture::reference;
use oci::{Descriptor, Digest, Index, Manifest, ManifestOrIndex, Raw, media_type};
use registry::testing::{FaultKind, Server, ServerOptions};
use registry::transport::{RemoteDestination, RemoteSource};
use registry::trust::{Kind, SIGSTORE_TYPE, Signature, SignaturePaths};
use registry::{Client, ClientOptions, Destination, Placement, Reference, Source};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

/// A client that reads attachments, and simple signatures at `lookaside`.
fn client(directory: &Path, lookaside: &str) -> Client {
    let text = format!("default-docker:\n  lookaside: {lookaside}\n  use-sigstore-attachments: true\n");
    std::fs::write(directory.join("all.yaml"), text).unwrap();
    let mut options = ClientOptions { tls_verify: Some(false), ..ClientOptions::default() };
    options.retry.retries = 0;
    options.signatures = SignaturePaths { registries_d: Some(directory.to_owned()), lookaside: None };
    Client::new(options)
}

fn signature(text: &str) -> Signature {
    let annotation = ("dev.cosignproject.cosign/signature".to_owned(), "eA==".to_owned());
    Signature::Sigstore {
        media_type: SIGSTORE_TYPE.into(),
        payload: text.as_bytes().to_vec(),
        annotations: [annotation].into(),
    }
}

fn found(client: &Client, name: &Reference, digest: &Digest) -> registry::Result<Vec<Signature>> {
    Ok(RemoteSource::new(client, name)?.signatures(digest)?.list)
}

#[test]
fn attachments_are_added_and_strangers_stay() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions::default()).unwrap();
    let client = client(directory.path(), &format!("file://{}", directory.path().display()));
    let name = reference(&server, "a/b:1");
    let digest = Digest::of(b"manifest");
    assert_eq!(found(&client, &name, &digest).unwrap(), []);
    let to = RemoteDestination::new(&client, &name);
    let put = |list: &[Signature]| to.put_signatures(&digest, Placement::Root, list).unwrap();
    put(&[signature("one")]);
    put(&[signature("one"), signature("two")]);
    let both = [signature("one"), signature("two")];
    assert_eq!(found(&client, &name, &digest).unwrap(), both);
    assert_eq!(to.stored_signatures(&digest, Kind::Sigstore).unwrap(), both);
    let tag = format!("sha256-{}.sig", digest.hex());
    let raw = Raw::<ManifestOrIndex>::parse(server.manifest("a/b", &tag).unwrap(), None).unwrap();
    let config = server.blob("a/b", &raw.value().manifest().unwrap().config.digest).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let digests = ["one", "two"].map(|text| Digest::of(text.as_bytes()).to_string());
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(digests));
    // the config of another program keeps what davit does not know
    let own = serde_json::json!({ "author": "someone", "rootfs": { "type": "layers", "diff_ids": [] } })
        .to_string();
    let mut manifest = raw.value().manifest().unwrap().clone();
    server.put_blob("a/b", own.as_bytes());
    manifest.config = Descriptor::of(media_type::OCI_CONFIG, own.as_bytes());
    manifest.annotations.insert("k".into(), "v".into());
    let text = serde_json::to_vec(&manifest).unwrap();
    server.put_manifest("a/b", &tag, media_type::OCI_MANIFEST, &text);
    put(&[signature("three")]);
    let raw = Raw::<ManifestOrIndex>::parse(server.manifest("a/b", &tag).unwrap(), None).unwrap();
    let manifest = raw.value().manifest().unwrap();
    assert_eq!((manifest.layers.len(), manifest.annotations["k"].as_str()), (3, "v"));
    let config = server.blob("a/b", &manifest.config.digest).unwrap();
    assert!(String::from_utf8(config).unwrap().contains("someone"));
}

#[test]
fn attachments_that_lie_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions::default()).unwrap();
    let client = client(directory.path(), &format!("file://{}", directory.path().display()));
    let name = reference(&server, "a/b:1");
    let digest = Digest::of(b"manifest");
    let tag = format!("sha256-{}.sig", digest.hex());
    let serve = |layers: Vec<Descriptor>| {
        let manifest = Manifest::new(Descriptor::of(media_type::OCI_CONFIG, b"{}"), layers);
        server.put_manifest("a/b", &tag, media_type::OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    };
    let layer = |bytes: &[u8], size: u64| {
        server.put_blob("a/b", bytes);
        Descriptor::new(SIGSTORE_TYPE, Digest::of(bytes), size)
    };
    let refused = |what: &str| {
        let error = found(&client, &name, &digest).unwrap_err().full_text();
        assert!(error.contains(what), "{error}");
    };
    serve(vec![layer(b"x", 5 << 20)]);
    refused("larger than 4194304 bytes");
    serve(vec![layer(b"x", 2)]);
    refused("bytes");
    serve(vec![Descriptor::new(SIGSTORE_TYPE, Digest::of(b"not there"), 9)]);
    refused("not found");
    let large = vec![b' '; 4 << 20];
    serve(vec![layer(&large, 4 << 20); 5]);
    refused("together is larger than 16777216 bytes");
    let index = Index::new(Vec::new());
    server.put_manifest("a/b", &tag, media_type::OCI_INDEX, &serde_json::to_vec(&index).unwrap());
    refused("an index, not a manifest");
    // more than are looked at
    serve(vec![layer(b"x", 1); 200]);
    assert_eq!(found(&client, &name, &digest).unwrap().len(), 128);
    server.fault("GET", ".sig", FaultKind::Status(500, None), 1);
    refused("status 500");
}

#[test]
fn lookaside_servers_are_read_until_one_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/base", listener.local_addr().unwrap());
    let digest = Digest::of(b"manifest");
    let path = format!("/base/a/b@sha256={}/signature-", digest.hex());
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in ["200 OK", "200 OK", "404 Not Found", "200 OK", "500 Internal Server Error"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut line).unwrap();
            let mut rest = String::new();
            while reader.read_line(&mut rest).unwrap() > 2 {}
            let number = asked.len() + 1;
            let body = if number == 4 { vec![0x90; 5 << 20] } else { vec![0x90, 1] };
            let head =
                format!("HTTP/1.1 {answer}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // a reader that had enough goes away
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            asked.push(line.split(' ').nth(1).unwrap_or_default().to_owned());
        }
        asked
    });
    let client = client(directory.path(), &base);
    let server = Server::start(ServerOptions::default()).unwrap();
    let name = reference(&server, "a/b:1");
    assert_eq!(found(&client, &name, &digest).unwrap().len(), 2);
    let error = found(&client, &name, &digest).unwrap_err().to_string();
    assert!(error.contains("larger than 4194304 bytes"), "{error}");
    let error = found(&client, &name, &digest).unwrap_err().to_string();
    assert!(error.contains("500"), "{error}");
    let asked = asked.join().unwrap();
    assert_eq!(asked[..3], [1, 2, 3].map(|number| format!("{path}{number}")));
    let to = RemoteDestination::new(&client, &name);
    let error = to.takes_signatures(Kind::Simple).unwrap_err().to_string();
    assert!(error.contains("lookaside-staging"), "{error}");
}
