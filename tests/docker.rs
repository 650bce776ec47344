//! Docker's daemon, the older half of the world: it runs what davit pushed and saved, davit what its BuildKit built.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Access, Davit, Done, Registry, busybox_tar, context, finish, scratch, tool, wait_until,
};

/// A dockerd of the test's own: its files in a scratch directory, its mounts and processes in namespaces that end with
/// it, its control groups below a name that is removed.
struct Dockerd {
    child: Child,
    dir: tempfile::TempDir,
    group: String,
}

const PRIVATE: &str =
    "mount -t tmpfs run /run && mkdir -p /etc/docker && mount -t tmpfs docker /etc/docker && exec \"$@\"";

impl Dockerd {
    fn start() -> Self {
        let dir = scratch();
        let group = dir.path().file_name().unwrap().to_string_lossy().into_owned();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let log = std::fs::File::create(path("log")).unwrap();
        std::os::unix::fs::symlink(crate::support::binary(), path("davit-runtime")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private"])
            // containerd's shims have their sockets in /run, wherever its own directories are, and the daemon makes
            // itself a key in /etc/docker
            .args(["sh", "-c", PRIVATE, "sh", "dockerd"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("sock")), "--cgroup-parent", &format!("/{group}")])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--add-runtime", &format!("davit={}", path("davit-runtime"))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("unshare is installed");
        let daemon = Self { child, dir, group };
        wait_until("dockerd answers (tests/run installs docker.io)", || daemon.run(&["version"]).code == 0);
        daemon
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self) -> Command {
        // Debian's own client: another one in PATH may lack the part that speaks to this daemon's BuildKit.
        let mut command = Command::new("/usr/bin/docker");
        command
            .env("DOCKER_HOST", format!("unix://{}", self.path("sock")))
            .env("HOME", self.dir.path())
            .env("DOCKER_BUILDKIT", "1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        finish(self.command().args(args))
    }

    /// The directories of its control groups, in whichever hierarchies there are.
    fn groups(&self) -> Vec<PathBuf> {
        let tops = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let tops = tops.map(|entry| entry.path()).chain(["/sys/fs/cgroup".into()]);
        tops.map(|top| top.join(&self.group)).filter(|group| group.is_dir()).collect()
    }

    /// The digest of an image's config.
    fn id(&self, name: &str) -> String {
        self.run(&["image", "inspect", "--format", "{{.Id}}", name]).ok()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // unshare takes the whole process namespace with it, whose processes take a moment to end
        let _ = self.child.kill();
        let _ = self.child.wait();
        let end = Instant::now() + Duration::from_secs(10);
        while self.groups().iter().any(|group| !remove_groups(group)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a control group and those below it; tells whether it is gone.
fn remove_groups(group: &Path) -> bool {
    for child in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_groups(&child.path());
        }
    }
    let _ = std::fs::remove_dir(group);
    !group.exists()
}

#[test]
fn dockerd_runs_what_davit_pushed_and_saved() {
    let docker = Dockerd::start();
    let davit = Davit::with_busybox();
    davit
        .build(
            "app",
            "FROM busybox\nRUN rm /etc/group; echo built by davit > /made\nENV WHO=davit\nUSER ann\nWORKDIR /tmp\n\
             ENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"echo $(cat /made) $WHO $(id -u) $(pwd); ls /etc/group\"]\n",
            &[],
        )
        .ok();
    let wanted = "built by davit davit 1000 /tmp";
    let id = davit.run(["images", "-q", "--no-trunc", "app"]).ok();
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/app:1", registry.host);
    davit.run(["push", "-q", "--tls-verify=false", "app", &name]).ok();
    let digest = davit.inspect("app", "{{.Digest}}");
    let by_digest = format!("{}/app@{digest}", registry.host);
    docker.run(&["pull", "-q", &by_digest]).ok();
    assert_eq!(docker.id(&by_digest), id, "the config is the same, byte for byte");
    let ran = docker.run(&["run", "--rm", "--network=none", &by_digest]);
    assert_eq!((ran.stdout.trim_end(), ran.code), (wanted, 1), "{ran:#?}");
    docker.run(&["rmi", "-f", &id]).ok();
    let archive = docker.path("saved.tar");
    davit.run(["save", "-q", "--format=docker-archive", "-o", &archive, "app"]).ok();
    docker.run(&["load", "-q", "-i", &archive]).ok();
    assert_eq!(docker.id("localhost/app:latest"), id);
    assert_eq!(docker.run(&["run", "--rm", "--network=none", &id]).stdout.trim_end(), wanted);
    // and back again
    let back = docker.path("back.tar");
    docker.run(&["save", "-o", &back, "localhost/app:latest"]).ok();
    let other = Davit::new();
    other.run(["load", "-q", "-i", &back]).ok();
    assert_eq!(other.run(["images", "-q", "--no-trunc", "app"]).ok(), id);
}

#[test]
fn davit_runs_what_buildkit_pushed() {
    let docker = Dockerd::start();
    docker.run(&["import", busybox_tar().to_str().unwrap(), "base"]).ok();
    let context = context(
        "FROM base AS first\nRUN echo by buildkit > /made\nFROM base\nCOPY --from=first /made /made\n\
         RUN rm /etc/group\nCOPY file /dir/\nENTRYPOINT [\"cat\"]\nCMD [\"/made\", \"/dir/file\"]\n",
        &[("file", "from the context\n")],
    );
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/built:1", registry.host);
    let dockerfile = context.path().join("Containerfile");
    docker
        .run(&[
            "build",
            "-q",
            "--network=none",
            "--build-arg",
            "BUILDKIT_INLINE_CACHE=1",
            "-f",
            dockerfile.to_str().unwrap(),
            "-t",
            &name,
            context.path().to_str().unwrap(),
        ])
        .ok();
    docker.run(&["push", "-q", &name]).ok();
    let id = docker.id(&name);
    let davit = Davit::new();
    davit.run(["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(davit.run(["images", "-q", "--no-trunc", &name]).ok(), id);
    assert_eq!(davit.run(["run", "--rm", &name]).ok(), "by buildkit\nfrom the context");
    assert_ne!(davit.run(["run", "--rm", "--entrypoint=ls", &name, "/etc/group"]).code, 0);

    // What newer BuildKits push: an index, with a provenance statement beside the image.
    let indexed = add_attestation(&registry, &docker.path("manifest.json"));
    let name = format!("{}/built:attested", registry.host);
    for reference in [name.clone(), format!("{}/built@{indexed}", registry.host)] {
        let davit = Davit::new();
        davit.run(["pull", "-q", "--tls-verify=false", &reference]).ok();
        assert_eq!(davit.run(["images", "-q", "--no-trunc"]).ok(), id, "{reference}");
        assert_eq!(davit.run(["run", "--rm", &reference]).ok(), "by buildkit\nfrom the context");
    }
}

/// Puts an index of the image `built:1` and an attestation of it, first in the list, at `built:attested`. Returns the
/// index's digest.
fn add_attestation(registry: &Registry, manifest: &str) -> String {
    let accept = "application/vnd.docker.distribution.manifest.v2+json";
    let image = http(registry, "GET", "/v2/built/manifests/1", &format!("Accept: {accept}"), b"");
    std::fs::write(manifest, &image).unwrap();
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","subject":[],"predicate":{}}"#;
    let (layer, layer_size) = upload(registry, statement);
    let (config, config_size) = upload(
        registry,
        format!(
            r#"{{"architecture":"unknown","os":"unknown","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
        )
        .as_bytes(),
    );
    let oci = "application/vnd.oci.image";
    let attestation = format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}.manifest.v1+json","config":{{"mediaType":"{oci}.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.in-toto+json","digest":"{layer}","size":{layer_size},"annotations":{{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v0.2"}}}}]}}"#
    );
    let attestation_digest = digest(attestation.as_bytes());
    let kind = |name: &str| format!("Content-Type: {name}");
    let path = format!("/v2/built/manifests/{attestation_digest}");
    http(registry, "PUT", &path, &kind(&format!("{oci}.manifest.v1+json")), attestation.as_bytes());
    let image_digest = digest(&image);
    let architecture = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{oci}.index.v1+json","manifests":[{{"mediaType":"{oci}.manifest.v1+json","digest":"{attestation_digest}","size":{},"annotations":{{"vnd.docker.reference.digest":"{image_digest}","vnd.docker.reference.type":"attestation-manifest"}},"platform":{{"architecture":"unknown","os":"unknown"}}}},{{"mediaType":"{accept}","digest":"{image_digest}","size":{},"platform":{{"architecture":"{architecture}","os":"linux"}}}}]}}"#,
        attestation.len(),
        image.len()
    );
    let path = "/v2/built/manifests/attested";
    http(registry, "PUT", path, &kind(&format!("{oci}.index.v1+json")), index.as_bytes());
    digest(index.as_bytes())
}

fn digest(bytes: &[u8]) -> String {
    let file = scratch();
    let path = file.path().join("bytes");
    std::fs::write(&path, bytes).unwrap();
    let line = tool("sha256sum", [path.to_str().unwrap()]).ok();
    format!("sha256:{}", line.split(' ').next().unwrap())
}

/// Uploads a blob to the repository `built`; returns digest and size.
fn upload(registry: &Registry, bytes: &[u8]) -> (String, usize) {
    let digest = digest(bytes);
    let started = exchange(registry, "POST", "/v2/built/blobs/uploads/", "", b"");
    let head = String::from_utf8_lossy(&started).into_owned();
    let location = head
        .lines()
        .find_map(|line| line.strip_prefix("Location: "))
        .unwrap_or_else(|| panic!("no location: {head}"));
    let path = location.trim().split_once(&registry.host).unwrap().1;
    let separator = if path.contains('?') { '&' } else { '?' };
    let kind = "Content-Type: application/octet-stream";
    http(registry, "PUT", &format!("{path}{separator}digest={digest}"), kind, bytes);
    (digest, bytes.len())
}

/// The body of a successful answer.
fn http(registry: &Registry, method: &str, path: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let answer = exchange(registry, method, path, header, body);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    assert!(head.starts_with("HTTP/1.0 20") || head.starts_with("HTTP/1.1 20"), "{method} {path}: {head}");
    answer[end + 4..].to_vec()
}

/// One request of HTTP 1.0, whose answer ends with the connection.
fn exchange(registry: &Registry, method: &str, path: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(&registry.host).unwrap();
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let host = &registry.host;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{header}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn nothing_of_the_daemon_stays() {
    let docker = Dockerd::start();
    docker.run(&["import", busybox_tar().to_str().unwrap(), "base"]).ok();
    docker.run(&["run", "-d", "--network=none", "base", "sleep", "600"]).ok();
    let (dir, group, groups) = (docker.path(""), docker.group.clone(), docker.groups());
    assert!(!groups.is_empty(), "a running container has a control group");
    drop(docker);
    assert_eq!(groups.iter().find(|group| group.exists()), None);
    assert!(!Path::new(&dir).exists());
    assert_eq!(crate::support::mounts_below(&group), Vec::<String>::new());
    wait_until("the daemon's processes are gone", || crate::support::processes_with(&group).is_empty());
}

#[test]
fn docker_runs_containers_by_our_runtime() {
    let docker = Dockerd::start();
    docker.run(&["import", busybox_tar().to_str().unwrap(), "bb"]).ok();
    let run = |args: &[&str]| docker.run(&[&["run", "--runtime=davit", "--network=none"], args].concat());
    assert_eq!(run(&["--rm", "bb", "echo", "hello"]).ok(), "hello");
    assert_eq!(run(&["--rm", "bb", "sh", "-c", "exit 4"]).code, 4);
    run(&["--rm", "bb", "nope"]).fails(127, "executable file not found in $PATH");
    run(&["-d", "--name=one", "--memory=64m", "--pids-limit=30", "bb", "sleep", "1000"]).ok();
    assert_eq!(docker.run(&["exec", "one", "sh", "-c", "id -u; exit 5"]).code, 5);
    if crate::limits::controller("memory") {
        docker.run(&["pause", "one"]).ok();
        assert!(docker.run(&["ps", "--format={{.Status}}"]).ok().contains("Paused"));
        docker.run(&["unpause", "one"]).ok();
        assert!(docker.run(&["stats", "--no-stream", "one"]).ok().contains("64MiB"));
        docker.run(&["update", "--memory=128m", "--memory-swap=256m", "one"]).ok();
        assert!(docker.run(&["stats", "--no-stream", "one"]).ok().contains("128MiB"));
    }
    assert!(docker.run(&["top", "one"]).ok().contains("sleep 1000"));
    docker.run(&["kill", "one"]).ok();
    assert_eq!(docker.run(&["wait", "one"]).ok(), "137");
    docker.run(&["rm", "one"]).ok();
    let words = format!(
        "/usr/bin/docker -H unix://{} run --runtime=davit --network=none --rm -t bb tty",
        docker.path("sock")
    );
    assert_eq!(tool("script", ["-qec", &words, "/dev/null"]).ok().trim(), "/dev/pts/0");
}

#[test]
fn dockerd_pulls_from_davit_and_pushes_to_it() {
    let docker = Dockerd::start();
    let davit = Davit::with_busybox();
    davit.build("app", "FROM busybox\nRUN echo served > /f\n", &[]).ok();
    let served = crate::registry_serve::serve(davit, &[]);
    let name = format!("{}/app", served.host);
    docker.run(&["pull", "-q", &name]).ok();
    let id = served.davit.run(["images", "-q", "--no-trunc", "app"]).ok();
    assert_eq!(docker.id(&name), id);
    let back = format!("{}/back:1", served.host);
    docker.run(&["tag", &name, &back]).ok();
    docker.run(&["push", &back]).ok();
    assert_eq!(served.davit.sh("localhost/back:1", "cat /f"), "served");
}

#[test]
fn images_are_copied_to_the_daemon_and_back() {
    let daemon = Dockerd::start();
    let davit = Davit::with_busybox();
    davit.build("app", "FROM busybox\nRUN echo copied > /f\nCMD [\"cat\", \"/f\"]\n", &[]).ok();
    let host = format!("unix://{}", daemon.path("sock"));
    let copy = |words: &[&str]| {
        let hosts = ["copy", "-q", "--src-daemon-host", &host, "--dest-daemon-host", &host];
        davit.run([&hosts, words].concat())
    };
    copy(&["app", "docker-daemon:app:1"]).ok();
    assert_eq!(daemon.id("app:1"), format!("sha256:{}", davit.inspect("app", "{{.Id}}")));
    assert_eq!(daemon.run(&["run", "--rm", "--network=none", "app:1"]).ok(), "copied");
    // and back, into a store that has nothing of it
    daemon.run(&["tag", "app:1", "example.com/x/y:2"]).ok();
    let other = Davit::new();
    other
        .command()
        .env("DOCKER_HOST", &host)
        .args(["copy", "-q", "docker-daemon:example.com/x/y:2", "back"])
        .output()
        .map(|output| assert!(output.status.success(), "{output:?}"))
        .unwrap();
    assert_eq!(other.inspect("back", "{{.Id}}"), davit.inspect("app", "{{.Id}}"));
    assert_eq!(other.sh("back", "cat /f"), "copied");
    copy(&["docker-daemon:nosuch:1", "x"]).fails(125, "nosuch:1");
    copy(&["nosuch", "docker-daemon:x:1"]).fails(125, "nosuch");
    copy(&["--preserve-digests", "app", "docker-daemon:x:1"]).fails(125, "--preserve-digests");
    assert_ne!(daemon.run(&["image", "inspect", "x:1"]).code, 0);
}
