//! The peers read what davit wrote, and davit what they wrote.

use std::process::Command;

use crate::support::{Access, Davit, Done, Registry, busybox_tar, finish, scratch, tool};

/// Limits that podman can set without CAP_SYS_RESOURCE, which CI may lack.
const NOFILE: &str = "--ulimit=nofile=1024:1024";
const NPROC: &str = "--ulimit=nproc=1024:1024";

/// Podman with a store of its own. It runs containers by runc: Debian's crun refuses hybrid control groups.
struct Podman(tempfile::TempDir);

impl Podman {
    fn new() -> Self {
        let dir = scratch();
        std::fs::write(
            dir.path().join("policy.json"),
            "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}",
        )
        .unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Done {
        let path = |name: &str| self.0.path().join(name);
        finish(
            Command::new("podman")
                .arg("--root")
                .arg(path("root"))
                .arg("--runroot")
                .arg(path("run"))
                .arg("--tmpdir")
                .arg(path("tmp"))
                .args([
                    "--cgroup-manager=cgroupfs",
                    "--events-backend=file",
                    "--storage-driver=vfs",
                    "--runtime=runc",
                ])
                .args(args),
        )
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "-af"]);
    }
}

#[test]
fn podman_and_skopeo_take_what_davit_pushed() {
    let davit = Davit::with_busybox();
    davit.build("app", "FROM busybox\nRUN echo built by davit > /made\nENTRYPOINT [\"cat\"]\nCMD [\"/made\"]\nLABEL who=davit\n", &[]).ok();
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/app:1", registry.host);
    davit.run(["push", "-q", "--tls-verify=false", "app", &name]).ok();
    let inspected = tool("skopeo", ["inspect", "--tls-verify=false", &format!("docker://{name}")]).ok();
    assert!(inspected.contains("\"who\": \"davit\""), "{inspected}");
    let dir = scratch();
    tool(
        "skopeo",
        [
            "copy",
            "-q",
            "--insecure-policy",
            "--src-tls-verify=false",
            &format!("docker://{name}"),
            &format!("oci:{}:app", dir.path().join("oci").display()),
        ],
    )
    .ok();
    let podman = Podman::new();
    let policy = podman.0.path().join("policy.json");
    podman
        .run(&["pull", "-q", "--tls-verify=false", "--signature-policy", policy.to_str().unwrap(), &name])
        .ok();
    assert_eq!(podman.run(&["run", "--rm", "--network=none", NOFILE, NPROC, &name]).ok(), "built by davit");
}

#[test]
fn podman_loads_what_davit_saved() {
    let davit = Davit::with_busybox();
    let podman = Podman::new();
    let policy = podman.0.path().join("policy.json");
    for format in ["docker-archive", "oci-archive"] {
        let path = podman.0.path().join(format);
        davit.run(["save", "-q", "--format", format, "-o", path.to_str().unwrap(), "busybox"]).ok();
        podman
            .run(&[
                "load",
                "-q",
                "--signature-policy",
                policy.to_str().unwrap(),
                "-i",
                path.to_str().unwrap(),
            ])
            .ok();
        assert_eq!(
            podman
                .run(&["run", "--rm", "--network=none", NOFILE, NPROC, "localhost/busybox", "echo", "ok"])
                .ok(),
            "ok"
        );
    }
}

#[test]
fn davit_takes_what_podman_pushed_and_saved() {
    let podman = Podman::new();
    let policy = podman.0.path().join("policy.json");
    let policy = policy.to_str().unwrap();
    let registry = Registry::start(Access::Plain);
    podman.run(&["import", "--signature-policy", policy, busybox_tar().to_str().unwrap(), "base"]).ok();
    let dir = crate::support::context(
        "FROM localhost/base\nRUN rm /etc/group; echo podman > /made\nCMD [\"cat\", \"/made\"]\n",
        &[],
    );
    let built = podman.run(&[
        "build",
        "-q",
        "--isolation=chroot",
        "--signature-policy",
        policy,
        "-t",
        "made",
        dir.path().to_str().unwrap(),
    ]);
    built.ok();
    for (tag, format) in [("oci", "oci"), ("docker", "v2s2")] {
        let name = format!("{}/made:{tag}", registry.host);
        podman
            .run(&[
                "push",
                "-q",
                "--tls-verify=false",
                "--signature-policy",
                policy,
                "--format",
                format,
                "made",
                &name,
            ])
            .ok();
        let davit = Davit::new();
        davit.run(["pull", "-q", "--tls-verify=false", &name]).ok();
        assert_eq!(davit.run(["run", "--rm", &name]).ok(), "podman");
        assert_ne!(davit.run(["run", "--rm", &name, "ls", "/etc/group"]).code, 0);
    }
    let archive = podman.0.path().join("saved.tar");
    podman.run(&["save", "-q", "-o", archive.to_str().unwrap(), "made"]).ok();
    let davit = Davit::new();
    davit.run(["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    assert_eq!(davit.run(["run", "--rm", "localhost/made"]).ok(), "podman");
}

#[test]
fn zstd_layers_from_skopeo() {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    let dir = scratch();
    let archive = dir.path().join("a.tar");
    davit.run(["save", "-q", "--format=oci-archive", "-o", archive.to_str().unwrap(), "busybox"]).ok();
    let name = format!("{}/z:1", registry.host);
    tool(
        "skopeo",
        [
            "copy",
            "-q",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--dest-compress-format=zstd",
            "--dest-compress",
            &format!("oci-archive:{}", archive.display()),
            &format!("docker://{name}"),
        ],
    )
    .ok();
    let other = Davit::new();
    other.run(["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(other.sh(&name, "echo zstd"), "zstd");
}
