//! Debian's docker-registry: plain http, https with a private authority, basic authentication, skopeo beside us.

use crate::fixture::{Memory, copy_all, options};
use registry::auth::{AuthFile, FileKeychain, FixedKeychain, store_login};
use registry::transport::{
    ArchiveKind, DirDestination, DirSource, DockerArchive, DockerArchiveWriter, Layout, LayoutSource,
    OciArchiveWriter, RemoteDestination, RemoteSource, Selector, TarFile,
};
use registry::{Client, ClientOptions, CopyOptions, Credentials, Reference, copy};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) struct RealRegistry {
    child: Child,
    pub(crate) address: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Kind {
    tls: bool,
    password: bool,
    client_certificate: bool,
}

/// Whether the program is there; in CI it must be.
#[allow(clippy::print_stderr, reason = "a skip is said")]
pub(crate) fn has(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    assert!(found || std::env::var_os("CI").is_none(), "{program} must be installed in CI");
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn run(dir: &Path, command: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(command).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn certificates(dir: &Path) {
    run(
        dir,
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca -addext basicConstraints=critical,CA:TRUE 2>/dev/null
         for who in server client; do
           openssl req -newkey rsa:2048 -nodes -keyout $who.key -out $who.csr -subj /CN=$who 2>/dev/null
           printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n' > ext
           openssl x509 -req -in $who.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $who.crt -days 2 -extfile ext 2>/dev/null
         done",
    );
}

impl RealRegistry {
    pub(crate) fn start(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = dir.path().display().to_string();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {path}/data\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: test\n"
        );
        if kind.tls {
            certificates(dir.path());
            config.push_str(&format!(
                "  tls:\n    certificate: {path}/server.crt\n    key: {path}/server.key\n"
            ));
            if kind.client_certificate {
                config.push_str(&format!("    clientcas:\n      - {path}/ca.crt\n"));
            }
        }
        if kind.password {
            run(dir.path(), "htpasswd -Bbn user geheim > htpasswd");
            config.push_str(&format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}/htpasswd\n"));
        }
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let registry = Self { child, address: format!("127.0.0.1:{port}"), dir };
        let begun = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "docker-registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    pub(crate) fn name(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address)).unwrap()
    }
}

fn round_trip(client: &Client, registry: &RealRegistry) {
    let image = Memory::small();
    let name = registry.name("ns/app:v1");
    copy_all(&image, &RemoteDestination::new(client, &name)).unwrap();
    let pulled = Memory::default();
    let report = copy_all(&RemoteSource::new(client, &name).unwrap(), &pulled).unwrap();
    assert_eq!(report.root, image.root());
    let again = copy_all(&image, &RemoteDestination::new(client, &name)).unwrap();
    assert_eq!(again.copied, 0);
    let from = RemoteSource::new(client, &name).unwrap();
    let mounted = copy_all(&from, &RemoteDestination::new(client, &registry.name("other/app:v1"))).unwrap();
    assert_eq!(mounted.mounted, 4);
    assert_eq!(client.tags(&name).unwrap(), ["v1"]);
    let index = Memory::index(&["linux/amd64", "linux/arm64"]);
    copy_all(&index, &RemoteDestination::new(client, &registry.name("ns/multi:1"))).unwrap();
    assert_eq!(client.manifest(&registry.name("ns/multi:1")).unwrap(), index.root());
    client.delete_manifest(&registry.name("other/app:v1")).unwrap();
    assert!(client.manifest(&registry.name("other/app:v1")).unwrap_err().is_not_found());
}

#[test]
fn plain_http_and_skopeo_reads_it() {
    if !has("docker-registry") || !has("skopeo") {
        return;
    }
    let registry = RealRegistry::start(Kind::default());
    let client = Client::new(options(&registry.address));
    round_trip(&client, &registry);
    let dir = registry.dir.path();
    let shown =
        run(dir, &format!("skopeo inspect --tls-verify=false docker://{}/ns/app:v1", registry.address));
    assert!(shown.contains(Memory::small().root().digest().as_str()), "{shown}");
    run(
        dir,
        &format!(
            "skopeo copy -q --insecure-policy --src-tls-verify=false docker://{0}/ns/app:v1 oci:layout:x
             skopeo copy -q --insecure-policy --dest-tls-verify=false oci:layout:x docker://{0}/from/skopeo:1
             skopeo copy -q --insecure-policy --dest-tls-verify=false -f v2s2 oci:layout:x docker://{0}/from/skopeo:docker",
            registry.address
        ),
    );
    // what skopeo copied is what we pushed, and we read its layout
    assert_eq!(client.manifest(&registry.name("from/skopeo:1")).unwrap(), Memory::small().root());
    let layout = LayoutSource::open(&dir.join("layout"), &Selector::Name("x".into())).unwrap();
    assert_eq!(copy_all(&layout, &Memory::default()).unwrap().root, Memory::small().root());
    let docker = RemoteSource::new(&client, &registry.name("from/skopeo:docker")).unwrap();
    let report = copy_all(&docker, &Memory::default()).unwrap();
    assert_eq!(report.root.media_type(), oci::media_type::DOCKER_MANIFEST);
}

#[test]
fn https_with_a_private_authority_and_a_password() {
    if !has("docker-registry") || !has("openssl") || !has("htpasswd") {
        return;
    }
    let registry = RealRegistry::start(Kind { tls: true, password: true, ..Kind::default() });
    let dir = registry.dir.path();
    let certs = dir.join("certs.d").join(&registry.address);
    std::fs::create_dir_all(&certs).unwrap();
    let auth_file = dir.join("auth.json");
    let keychain = Arc::new(FileKeychain::new(vec![AuthFile::new(&auth_file)], Vec::new()));
    let secure = ClientOptions {
        certs_d: vec![dir.join("missing"), dir.join("certs.d")],
        keychain,
        ..options("nothing-is-insecure")
    };

    // without the authority nothing is trusted, and no plain http is tried
    let error = Client::new(secure.clone()).manifest(&registry.name("x")).unwrap_err().full_text();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    std::fs::copy(dir.join("ca.crt"), certs.join("ca.crt")).unwrap();

    let login = Client::new(secure.clone());
    login.check_login(&registry.address, &Credentials::basic("user", "geheim")).unwrap();
    assert!(
        login
            .check_login(&registry.address, &Credentials::basic("user", "no"))
            .unwrap_err()
            .is_unauthorized()
    );
    assert!(login.manifest(&registry.name("x")).unwrap_err().is_unauthorized());
    store_login(&auth_file, &registry.address, &Credentials::basic("user", "geheim")).unwrap();
    round_trip(&Client::new(secure.clone()), &registry);

    // the certificate is not looked at where the registry is insecure
    let careless = ClientOptions { certs_d: Vec::new(), tls_verify: Some(false), ..secure };
    Client::new(careless).manifest(&registry.name("ns/app:v1")).unwrap();
}

#[test]
fn client_certificates() {
    if !has("docker-registry") || !has("openssl") {
        return;
    }
    let registry = RealRegistry::start(Kind { tls: true, client_certificate: true, ..Kind::default() });
    let dir = registry.dir.path();
    let certs = dir.join("pair");
    std::fs::create_dir(&certs).unwrap();
    std::fs::copy(dir.join("ca.crt"), certs.join("ca.crt")).unwrap();
    let with = ClientOptions { cert_dir: Some(certs.clone()), ..options("nothing-is-insecure") };
    assert!(Client::new(with.clone()).manifest(&registry.name("x")).is_err());
    std::fs::copy(dir.join("client.crt"), certs.join("client.cert")).unwrap();
    let error = Client::new(with.clone()).manifest(&registry.name("x")).unwrap_err().to_string();
    assert!(error.contains("key of the same name is missing"), "{error}");
    // a key of another pair must be an error, not a crash
    std::fs::copy(dir.join("server.key"), certs.join("client.key")).unwrap();
    let error = Client::new(with.clone()).manifest(&registry.name("x")).unwrap_err().to_string();
    assert!(error.contains("not a usable pair"), "{error}");
    std::fs::copy(dir.join("client.key"), certs.join("client.key")).unwrap();
    let keychain = Arc::new(FixedKeychain(Credentials::basic("ignored", "ignored")));
    round_trip(&Client::new(ClientOptions { keychain, ..with }), &registry);
}

#[test]
fn skopeo_reads_our_archives_and_we_read_its() {
    if !has("skopeo") {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let image = Memory::small();
    let name = Reference::parse("localhost/app:v1").unwrap();
    let id = image.manifest().config.digest;

    let file = std::fs::File::create(dir.join("docker.tar")).unwrap();
    let writer = DockerArchiveWriter::new(file, "docker.tar", dir);
    copy(&image, &writer.destination(std::slice::from_ref(&name)), &CopyOptions::default()).unwrap();
    writer.finish().unwrap();
    let file = std::fs::File::create(dir.join("oci.tar")).unwrap();
    let writer = OciArchiveWriter::new(file, "oci.tar");
    copy_all(&image, &writer.destination(Some("v1"))).unwrap();
    writer.finish().unwrap();
    let copy_with_skopeo = |from: &str, to: &str| {
        run(dir, &format!("skopeo copy -q --insecure-policy {from} {to}"));
    };
    copy_with_skopeo("docker-archive:docker.tar:localhost/app:v1", "dir:from-docker");
    copy_with_skopeo("oci-archive:oci.tar:v1", "dir:from-oci");
    let from_docker =
        copy_all(&DirSource::open(&dir.join("from-docker")).unwrap(), &Memory::default()).unwrap();
    assert_eq!(from_docker.root.value().manifest().unwrap().config.digest, id);
    let from_oci = copy_all(&DirSource::open(&dir.join("from-oci")).unwrap(), &Memory::default()).unwrap();
    assert_eq!(from_oci.root, image.root());

    copy_all(&image, &DirDestination::create(&dir.join("ours")).unwrap()).unwrap();
    copy_with_skopeo("dir:ours", "docker-archive:theirs.tar:localhost/app:v1");
    copy_with_skopeo("dir:ours", "oci-archive:theirs-oci.tar:v1");
    run(dir, "gzip -k theirs.tar");
    for file in ["theirs.tar", "theirs.tar.gz"] {
        let archive = Arc::new(TarFile::open(&dir.join(file), dir).unwrap());
        assert_eq!(archive.kind(), Some(ArchiveKind::Docker));
        let docker = DockerArchive::open(&archive).unwrap();
        assert_eq!(docker.images()[0].names, ["localhost/app:v1"]);
        let loaded = Memory::default();
        let report =
            copy_all(&docker.source(&Selector::Name("localhost/app:v1".into())).unwrap(), &loaded).unwrap();
        assert_eq!(report.root.value().manifest().unwrap().config.digest, id);
    }
    let archive = Arc::new(TarFile::open(&dir.join("theirs-oci.tar"), dir).unwrap());
    assert_eq!(archive.kind(), Some(ArchiveKind::Oci));
    let layout = Layout::open_archive(&archive).unwrap();
    let report = copy_all(&layout.source(&Selector::Only).unwrap(), &Memory::default()).unwrap();
    assert_eq!(report.root, image.root());
}
