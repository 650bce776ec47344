//! `registry serve`: the local store as a registry for davit, skopeo, podman, docker and plain HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::support::{Davit, mounts_below, processes_with, tool, wait_until};

/// A davit that serves its store.
pub(crate) struct Served {
    pub davit: Davit,
    child: Child,
    pub host: String,
}

pub(crate) fn serve(davit: Davit, options: &[&str]) -> Served {
    let mut command = davit.command();
    command.args(["registry", "serve", "--listen", "127.0.0.1:0"]).args(options).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim().strip_prefix("Listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
    Served { davit, child, host }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// Status, head and body of one request on a connection of its own.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, all[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path, "", b"");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }
}

fn two_layers() -> Davit {
    let davit = Davit::with_busybox();
    davit.build("app", "FROM busybox\nRUN head -c 1000000 /dev/urandom > /big\nRUN echo served > /f\nCMD [\"cat\", \"/f\"]\n", &[]).ok();
    davit
}

#[test]
fn davit_pulls_and_pushes() {
    let served = serve(two_layers(), &[]);
    let other = Davit::new();
    let app = served.name("app");
    other.run(["pull", "-q", "--tls-verify=false", &app]).ok();
    assert_eq!(other.run(["run", "--rm", "--network=none", &app]).ok(), "served");
    assert_eq!(other.inspect(&app, "{{.Id}}"), served.davit.inspect("app", "{{.Id}}"));
    // again nothing moves, and the digest stays
    let digest = other.inspect(&app, "{{.Digest}}");
    other.run(["pull", "-q", "--tls-verify=false", &app]).ok();
    assert_eq!(other.inspect(&app, "{{.Digest}}"), digest);
    // back, under another name
    other.build("mine", &format!("FROM {app}\nRUN echo more > /more\n"), &[]).ok();
    let mine = served.name("team/mine:7");
    other.run(["push", "-q", "--tls-verify=false", "mine", &mine]).ok();
    assert_eq!(served.davit.sh("localhost/team/mine:7", "cat /f /more"), "served\nmore");
    assert_eq!(served.davit.inspect("localhost/team/mine:7", "{{.Id}}"), other.inspect("mine", "{{.Id}}"));
    // what was pushed is kept when nothing else runs
    served.davit.run(["system", "prune", "-f", "--build"]).ok();
    other.run(["rmi", "-af"]).ok();
    other.run(["pull", "-q", "--tls-verify=false", &mine]).ok();
    assert_eq!(other.sh(&mine, "cat /more"), "more");
    served.davit.run(["system", "check"]).ok();
    let place = served.davit.dir.path().to_str().unwrap();
    assert!(mounts_below(place).is_empty(), "{:?}", mounts_below(place));
}

#[test]
fn skopeo_and_podman_pull_and_push() {
    let served = serve(two_layers(), &[]);
    let dir = crate::support::scratch();
    let at = |rest: &str| format!("docker://{}", served.name(rest));
    let layout = format!("oci:{}/layout:app", dir.path().display());
    tool("skopeo", ["copy", "-q", "--src-tls-verify=false", &at("app"), &layout]).ok();
    tool("skopeo", ["copy", "-q", "--dest-tls-verify=false", &layout, &at("from-skopeo:1")]).ok();
    assert_eq!(served.davit.sh("localhost/from-skopeo:1", "cat /f"), "served");
    // the digest is the same on all ways
    let digest = |name: &str| {
        tool("skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &at(name)]).ok()
    };
    assert_eq!(digest("app"), digest("from-skopeo:1"));
    let tags = tool("skopeo", ["list-tags", "--tls-verify=false", &at("from-skopeo")]).ok();
    assert!(tags.contains("\"1\""), "{tags}");
    tool("skopeo", ["delete", "--tls-verify=false", &at("from-skopeo:1")]).ok();
    assert_eq!(served.davit.run(["image", "exists", "localhost/from-skopeo:1"]).code, 1);
    let root = format!("--root={}/root", dir.path().display());
    let runroot = format!("--runroot={}/run", dir.path().display());
    let podman =
        |words: &[&str]| tool("podman", [&[&root, &runroot, "--storage-driver=vfs"], words].concat());
    podman(&["pull", "-q", "--tls-verify=false", &served.name("app")]).ok();
    podman(&["push", "-q", "--tls-verify=false", &served.name("app"), &served.name("from-podman")]).ok();
    assert_eq!(served.davit.sh("localhost/from-podman", "cat /f"), "served");
    // Docker's media types too
    podman(&["push", "-q", "--tls-verify=false", "--format=v2s2", &served.name("app"), &served.name("v2s2")])
        .ok();
    assert_eq!(served.davit.sh("localhost/v2s2", "cat /f"), "served");
    let _ = podman(&["rmi", "-af"]);
}

#[test]
fn a_list_keeps_its_digest() {
    let davit = two_layers();
    davit.build("other", "FROM busybox\nRUN echo other > /f\n", &[]).ok();
    davit.run(["manifest", "create", "many"]).ok();
    davit.run(["manifest", "add", "many", "app"]).ok();
    davit.run(["manifest", "add", "--arch", "arm64", "many", "other"]).ok();
    let served = serve(davit, &[]);
    let dir = crate::support::scratch();
    let at = |rest: &str| format!("docker://{}", served.name(rest));
    let layout = format!("oci:{}/layout:many", dir.path().display());
    tool("skopeo", ["copy", "-q", "--all", "--src-tls-verify=false", &at("many"), &layout]).ok();
    tool("skopeo", ["copy", "-q", "--all", "--dest-tls-verify=false", &layout, &at("back")]).ok();
    let raw = |name: &str| tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &at(name)]).ok();
    assert_eq!(raw("many"), raw("back"));
    served.davit.run(["system", "prune", "-f", "--build"]).ok();
    assert_eq!(raw("many"), raw("back"));
    assert_eq!(served.davit.sh("localhost/back", "cat /f"), "served");
    let list = served.davit.run(["manifest", "inspect", "localhost/back"]).ok();
    assert!(list.contains("arm64"), "{list}");
}

#[test]
fn blobs_come_in_parts_and_uploads_go_on() {
    let served = serve(Davit::with_busybox(), &[]);
    assert_eq!(served.get("/v2/"), (200, "{}".to_owned()));
    assert_eq!(served.get("/v2/_catalog").1, "{\"repositories\":[\"busybox\"]}");
    assert_eq!(served.get("/v2/busybox/tags/list").1, "{\"name\":\"busybox\",\"tags\":[\"latest\"]}");
    let (status, body) = served.get("/v2/nosuch/tags/list");
    assert!(status == 404 && body.contains("NAME_UNKNOWN"), "{body}");
    let (status, body) = served.get("/v2/busybox/manifests/nosuch");
    assert!(status == 404 && body.contains("MANIFEST_UNKNOWN"), "{body}");
    let (status, head, manifest) = served.ask("GET", "/v2/busybox/manifests/latest", "", b"");
    assert!(status == 200 && head.contains("Docker-Content-Digest: sha256:"), "{head}");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = format!("/v2/busybox/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap());
    let whole = served.ask("GET", &layer, "", b"").2;
    assert_eq!(whole.len() as u64, manifest["layers"][0]["size"].as_u64().unwrap());
    let (status, head, part) = served.ask("GET", &layer, "Range: bytes=100-199\r\n", b"");
    assert!(
        status == 206 && head.contains(&format!("Content-Range: bytes 100-199/{}", whole.len())),
        "{head}"
    );
    assert_eq!(part, whole[100..200]);
    assert_eq!(served.ask("GET", &layer, "Range: bytes=999999999-\r\n", b"").0, 416);
    let (status, head, body) = served.ask("HEAD", &layer, "", b"");
    assert!(
        status == 200 && body.is_empty() && head.contains(&format!("Content-Length: {}", whole.len())),
        "{head}"
    );
    // an upload in pieces, one of them sent twice
    let location =
        |head: &str| head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().to_owned();
    let (status, head, _) = served.ask("POST", "/v2/new/blobs/uploads/", "", b"");
    assert_eq!(status, 202);
    let place = location(&head);
    assert_eq!(served.ask("PATCH", &place, "Content-Range: 0-4\r\n", b"hello").0, 202);
    let (status, head, _) = served.ask("PATCH", &place, "Content-Range: 0-4\r\n", b"hello");
    assert!(status == 416 && head.contains("Range: 0-4"), "{head}");
    let (status, head, _) = served.ask("GET", &place, "", b"");
    assert!(status == 204 && head.contains("Range: 0-4"), "{head}");
    let digest = oci::Digest::of(b"hello world");
    assert_eq!(served.ask("PUT", &format!("{place}?digest={digest}"), "", b" world").0, 201);
    assert_eq!(served.get(&format!("/v2/new/blobs/{digest}")), (200, "hello world".to_owned()));
    // in one request, with the wrong digest, and one that is given up
    let wrong = oci::Digest::of(b"something else");
    let (status, _, body) =
        served.ask("POST", &format!("/v2/new/blobs/uploads/?digest={wrong}"), "", b"hello");
    assert!(status == 400 && String::from_utf8_lossy(&body).contains("DIGEST_INVALID"));
    assert_eq!(served.get(&format!("/v2/new/blobs/{wrong}")).0, 404);
    let place = location(&served.ask("POST", "/v2/new/blobs/uploads/", "", b"").1);
    assert_eq!(served.ask("DELETE", &place, "", b"").0, 204);
    assert_eq!(served.ask("PATCH", &place, "", b"x").0, 404);
    // a mount needs no bytes
    assert_eq!(served.ask("POST", &format!("/v2/new/blobs/uploads/?mount={digest}&from=x"), "", b"").0, 201);
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let served = serve(Davit::with_busybox(), &[]);
    for (path, status) in [
        ("/", 404),
        ("/v2/../../etc/passwd", 404),
        ("/v2/busybox/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd", 404),
        ("/v2/busybox/blobs/nonsense", 400),
        ("/v2/busybox/manifests/sha256:zz", 400),
        ("/v2/BUSY%00BOX/manifests/1", 404),
    ] {
        let (found, body) = served.get(path);
        assert_eq!(found, status, "{path}: {body}");
    }
    let put = |body: &[u8]| {
        served.ask(
            "PUT",
            "/v2/x/manifests/1",
            "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
            body,
        )
    };
    assert_eq!(put(b"{").0, 400);
    assert_eq!(put(b"{\"schemaVersion\":2}").0, 400);
    let missing = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":2}},\"layers\":[]}}",
        oci::Digest::of(b"gone")
    );
    let (status, _, body) = put(missing.as_bytes());
    assert!(
        status == 404 && String::from_utf8_lossy(&body).contains("MANIFEST_BLOB_UNKNOWN"),
        "{}",
        String::from_utf8_lossy(&body)
    );
    // heads and bodies that never end, or lie
    for text in
        ["GET /v2/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "nonsense\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(&served.host).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let mut stream = TcpStream::connect(&served.host).unwrap();
    let _ = stream.write_all(b"GET /v2/ HTTP/1.1\r\n");
    for _ in 0..2000 {
        if stream.write_all(&[b'a'; 100]).and_then(|()| stream.write_all(b": b\r\n")).is_err() {
            break;
        }
    }
    let big = vec![b' '; 5 << 20];
    assert_eq!(put(&big).0, 413);
    assert_eq!(served.get("/v2/").0, 200);
}

#[test]
fn read_only_means_it() {
    let served = serve(two_layers(), &["--readonly"]);
    let other = Davit::new();
    other.run(["pull", "-q", "--tls-verify=false", &served.name("app")]).ok();
    other
        .run(["push", "-q", "--tls-verify=false", "--retry=0", &served.name("app"), &served.name("new")])
        .fails(125, "read-only");
    assert_eq!(served.ask("POST", "/v2/x/blobs/uploads/", "", b"").0, 405);
    assert_eq!(served.ask("DELETE", "/v2/app/manifests/latest", "", b"").0, 405);
    other.run(["pull", "-q", "--tls-verify=false", &served.name("app")]).ok();
}

#[test]
fn many_at_once_and_an_orderly_end() {
    let mut served = serve(two_layers(), &[]);
    let others: Vec<Davit> = (0..6).map(|_| Davit::new()).collect();
    std::thread::scope(|scope| {
        for other in &others {
            let app = served.name("app");
            scope.spawn(move || {
                other.run(["pull", "-q", "--tls-verify=false", &app]).ok();
                other.run(["push", "-q", "--tls-verify=false", &app, &format!("{app}-again")]).ok();
            });
        }
        // a sweep beside them takes nothing that they need
        for _ in 0..10 {
            served.davit.run(["system", "prune", "-f", "--build"]).ok();
        }
    });
    assert_eq!(served.davit.sh("localhost/app-again", "cat /f"), "served");
    tool("kill", ["-TERM", &served.child.id().to_string()]).ok();
    assert!(served.child.wait().unwrap().success());
    let ingest = served.davit.root().join("ingest");
    let left =
        std::fs::read_dir(&ingest).unwrap().flatten().filter(|entry| entry.file_name() != "partial").count();
    assert_eq!(left, 0, "working directories are left");
    // killed within an upload, it leaves what the next command takes away
    let Served { davit, .. } = &served;
    let mut command = davit.command();
    let mut child = command
        .args(["registry", "serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut stream = TcpStream::connect(line.trim().strip_prefix("Listening on ").unwrap()).unwrap();
    stream.write_all(b"POST /v2/x/blobs/uploads/?digest=sha256:0000000000000000000000000000000000000000000000000000000000000000 HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n").unwrap();
    stream.write_all(&vec![0; 3_000_000]).unwrap();
    wait_until("it is received", || {
        tool("du", ["-sb", ingest.to_str().unwrap()])
            .stdout
            .split('\t')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 2_000_000
    });
    child.kill().unwrap();
    child.wait().unwrap();
    davit.run(["system", "prune", "-f"]).ok();
    assert!(
        tool("du", ["-sb", ingest.to_str().unwrap()])
            .stdout
            .split('\t')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            < 100_000
    );
    assert!(processes_with(davit.dir.path().to_str().unwrap()).is_empty());
}

#[test]
fn oci_client_pulls_and_pushes() {
    use oci_client::client::{ClientConfig, ClientProtocol, Config};
    use oci_client::secrets::RegistryAuth;
    let served = serve(two_layers(), &[]);
    // it has no crypto provider of its own
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let peer =
            oci_client::Client::new(ClientConfig { protocol: ClientProtocol::Http, ..Default::default() });
        let accepted = vec![oci::media_type::OCI_LAYER_GZIP];
        let from: oci_client::Reference = served.name("app:latest").parse().unwrap();
        let pulled = peer.pull(&from, &RegistryAuth::Anonymous, accepted).await.unwrap();
        assert_eq!(pulled.layers.len(), 3);
        let config = Config::oci_v1(pulled.config.data.to_vec(), None);
        let to: oci_client::Reference = served.name("peer/app:1").parse().unwrap();
        peer.push(&to, &pulled.layers, config, &RegistryAuth::Anonymous, None).await.unwrap();
    });
    assert_eq!(served.davit.sh("localhost/peer/app:1", "cat /f"), "served");
}

#[test]
fn artifacts_and_signatures_are_kept_as_they_are() {
    let served = serve(two_layers(), &[]);
    let other = Davit::new();
    let file = other.dir.path().join("notes.txt");
    std::fs::write(&file, "notes\n").unwrap();
    let name = served.name("notes:1");
    other.run(["artifact", "add", "--type", "text/notes", &name, file.to_str().unwrap()]).ok();
    other.run(["artifact", "push", "-q", "--tls-verify=false", &name]).ok();
    let again = Davit::new();
    again.run(["artifact", "pull", "-q", "--tls-verify=false", &name]).ok();
    let out = again.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    again.run(["artifact", "extract", &name, out.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(out.join("notes.txt")).unwrap(), "notes\n");
    assert!(served.get("/v2/notes/tags/list").1.contains("\"1\""));
    // a signature of an image, which nothing unpacks
    let key = other.dir.path().join("key.pem");
    let public = other.dir.path().join("key.pub");
    tool(
        "openssl",
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key.to_str().unwrap()],
    )
    .ok();
    tool("openssl", ["pkey", "-in", key.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()]).ok();
    let registries = other.dir.path().join("config/containers/registries.d");
    std::fs::create_dir_all(&registries).unwrap();
    std::fs::write(
        registries.join("here.yaml"),
        format!("docker:\n  {}:\n    use-sigstore-attachments: true\n", served.host),
    )
    .unwrap();
    other.run(["pull", "-q", "--tls-verify=false", &served.name("app")]).ok();
    let signed = served.name("signed:1");
    other
        .run([
            "push",
            "-q",
            "--tls-verify=false",
            "--sign-by-sigstore-private-key",
            key.to_str().unwrap(),
            &served.name("app"),
            &signed,
        ])
        .ok();
    let policy = other.dir.path().join("policy.json");
    let rule = |key: &std::path::Path| {
        let text = format!(
            "{{\"default\":[{{\"type\":\"reject\"}}],\"transports\":{{\"docker\":{{\"{}\":[{{\"type\":\"sigstoreSigned\",\"keyPath\":\"{}\"}}]}}}}}}",
            served.host,
            key.display()
        );
        std::fs::write(&policy, text).unwrap();
    };
    rule(&public);
    served.davit.run(["system", "prune", "-f", "--build"]).ok();
    other
        .run(["pull", "-q", "--tls-verify=false", "--signature-policy", policy.to_str().unwrap(), &signed])
        .ok();
    other
        .run([
            "pull",
            "-q",
            "--tls-verify=false",
            "--signature-policy",
            policy.to_str().unwrap(),
            &served.name("app"),
        ])
        .fails(125, "signature");
    // what names another manifest as its subject is found by it
    let digest = |name: &str| {
        served
            .ask("HEAD", &format!("/v2/{name}"), "", b"")
            .1
            .lines()
            .find_map(|line| line.strip_prefix("Docker-Content-Digest: ").map(str::to_owned))
            .unwrap()
    };
    let subject = digest("app/manifests/latest");
    let blob = oci::Digest::of(b"{}");
    assert_eq!(served.ask("POST", &format!("/v2/app/blobs/uploads/?digest={blob}"), "", b"{}").0, 201);
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"artifactType\":\"text/sbom\",\"config\":{{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"{blob}\",\"size\":2}},\"layers\":[{{\"mediaType\":\"text/sbom\",\"digest\":\"{blob}\",\"size\":2}}],\"subject\":{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{subject}\",\"size\":1}}}}"
    );
    let own = oci::Digest::of(manifest.as_bytes());
    assert_eq!(
        served
            .ask(
                "PUT",
                &format!("/v2/app/manifests/{own}"),
                "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n",
                manifest.as_bytes()
            )
            .0,
        201
    );
    let found = served.get(&format!("/v2/app/referrers/{subject}")).1;
    assert!(found.contains(&own.to_string()) && found.contains("text/sbom"), "{found}");
    let (_, head, filtered) =
        served.ask("GET", &format!("/v2/app/referrers/{subject}?artifactType=x/y"), "", b"");
    assert!(
        head.contains("OCI-Filters-Applied: artifactType")
            && !String::from_utf8_lossy(&filtered).contains("sbom")
    );
}
