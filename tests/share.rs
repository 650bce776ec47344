//! Names, registries and archives.

use crate::support::{Access, Davit, Registry, scratch, tool};

fn app(davit: &Davit) {
    davit
        .build(
            "app",
            "FROM busybox\nRUN echo one > /one\nCOPY f /f\nCMD [\"cat\", \"/one\", \"/f\"]\n",
            &[("f", "two\n")],
        )
        .ok();
}

#[test]
fn names_come_and_go() {
    let davit = Davit::with_busybox();
    let id = davit.run(["images", "-q", "--no-trunc", "busybox"]).ok();
    davit.run(["tag", "busybox", "other:1", "127.0.0.1:5000/x/y"]).ok();
    let names = davit.run(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    for name in ["localhost/busybox:latest", "localhost/other:1", "127.0.0.1:5000/x/y:latest"] {
        assert!(names.lines().any(|line| line == name), "{names}");
    }
    assert_eq!(davit.run(["images", "-q", "--no-trunc", "other:1"]).ok(), id);
    davit.run(["untag", "busybox", "other:1"]).ok();
    assert!(!davit.run(["images"]).ok().contains("other"));
    assert!(davit.run(["rmi", "127.0.0.1:5000/x/y"]).ok().contains("Untagged: 127.0.0.1:5000/x/y:latest"));
    davit.run(["create", "--name", "user", "busybox"]).ok();
    assert_eq!(davit.run(["rmi", "busybox"]).code, 2);
    davit.run(["rm", "user"]).ok();
    assert!(davit.run(["rmi", "busybox"]).ok().contains("Deleted"));
    assert_eq!(davit.run(["rmi", "busybox"]).code, 1);
    assert_eq!(davit.run(["image", "exists", "busybox"]).code, 1);
}

#[test]
fn push_and_pull_keep_every_digest() {
    let davit = Davit::with_busybox();
    app(&davit);
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/team/app:1", registry.host);
    davit.run(["push", "app", &name]).fails(125, "http");
    davit.run(["push", "-q", "--tls-verify=false", "app", &name]).ok();
    let digest = |reference: &str| {
        tool(
            "skopeo",
            ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{reference}")],
        )
        .ok()
    };
    let pushed = digest(&name);
    let other = Davit::new();
    let id = other.run(["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(id, davit.run(["images", "-q", "--no-trunc", "app"]).ok().trim_start_matches("sha256:"));
    assert_eq!(other.run(["run", "--rm", &name]).ok(), "one\ntwo");
    assert_eq!(other.inspect(&name, "{{.Digest}}"), pushed);
    // What was pulled is pushed again as the very same bytes.
    let copy = format!("{}/other/copy:2", registry.host);
    other.run(["push", "-q", "--tls-verify=false", &name, &copy]).ok();
    assert_eq!(digest(&copy), pushed);
    let files = registry.blob_files();
    other.run(["push", "-q", "--tls-verify=false", &name, &copy]).ok();
    assert_eq!(registry.blob_files(), files, "nothing is sent twice");
    // By digest, too.
    other.run(["pull", "-q", "--tls-verify=false", &format!("{}/team/app@{pushed}", registry.host)]).ok();
}

#[test]
fn login_with_a_private_authority() {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::TlsAndPassword);
    let certificates = registry.certificates();
    let certificates = certificates.to_str().unwrap();
    let name = format!("{}/app", registry.host);
    davit.run(["push", "--cert-dir", certificates, "busybox", &name]).fails(125, "");
    let done = davit.run_with_input(
        ["login", "--cert-dir", certificates, "-u", "ann", "--password-stdin", &registry.host],
        b"wrong\n",
    );
    assert_eq!(done.code, 125, "{done:#?}");
    let done = davit.run_with_input(
        ["login", "--cert-dir", certificates, "-u", "ann", "--password-stdin", &registry.host],
        b"s3cret\n",
    );
    assert_eq!(done.ok(), "Login Succeeded!");
    assert_eq!(davit.run(["login", "--get-login", &registry.host]).ok(), "ann");
    davit.run(["push", "-q", "--cert-dir", certificates, "busybox", &name]).ok();
    davit.run(["pull", "-q", &name]).fails(125, "certificate");
    let other = Davit::new();
    other.run(["pull", "-q", "--cert-dir", certificates, "--creds", "ann:s3cret", &name]).ok();
    assert_eq!(other.sh(&name, "echo runs"), "runs");
    davit.run(["logout", &registry.host]).ok();
    assert_ne!(davit.run(["pull", "-q", "--cert-dir", certificates, &name]).code, 0);
}

#[test]
fn archives_of_both_kinds() {
    let davit = Davit::with_busybox();
    app(&davit);
    let dir = scratch();
    for format in ["docker-archive", "oci-archive"] {
        let path = dir.path().join(format);
        let path = path.to_str().unwrap();
        davit.run(["save", "-q", "--format", format, "-o", path, "app"]).ok();
        let other = Davit::new();
        let said = other.run(["load", "-q", "-i", path]).ok();
        assert!(said.contains("Loaded image: localhost/app:latest"), "{said}");
        assert_eq!(other.run(["run", "--rm", "app"]).ok(), "one\ntwo");
        assert_eq!(
            other.run(["images", "-q", "--no-trunc", "app"]).ok(),
            davit.run(["images", "-q", "--no-trunc", "app"]).ok()
        );
        let compressed = Davit::new();
        tool("gzip", ["-kf", path]).ok();
        let bytes = std::fs::read(format!("{path}.gz")).unwrap();
        compressed.run_with_input(["load", "-q"], &bytes).ok();
        assert_eq!(compressed.run(["run", "--rm", "app"]).ok(), "one\ntwo");
    }
    let both = dir.path().join("both.tar");
    davit.run(["save", "-q", "-m", "-o", both.to_str().unwrap(), "app", "busybox"]).ok();
    let other = Davit::new();
    other.run(["load", "-q", "-i", both.to_str().unwrap()]).ok();
    assert_eq!(other.run(["images", "-q"]).ok().lines().count(), 2);
}
