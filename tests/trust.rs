//! Which images may be used: policies and signatures, against real registries, `GnuPG`, and the peers.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Access, Davit, Done, Registry, busybox_tar, finish, tool};

/// A davit whose policy and registries.d stand in its own configuration directory, and a registry.
struct Lab {
    davit: Davit,
    registry: Registry,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { davit: Davit::with_busybox(), registry: Registry::start(Access::Plain) };
        std::fs::create_dir_all(lab.config("registries.d")).unwrap();
        // both the names of today and those that the oldest peer knows
        lab.write(
            "registries.d/all.yaml",
            &format!(
                "default-docker:\n  lookaside: file://{0}\n  sigstore: file://{0}\n  use-sigstore-attachments: true\n",
                lab.path("look").display()
            ),
        );
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.davit.dir.path().join(name)
    }

    fn config(&self, name: &str) -> PathBuf {
        self.path("config/containers").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.config(name), text).unwrap();
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host)
    }

    /// Lets images of the registry in when `requirement` holds, and no others.
    fn require(&self, requirement: &str) {
        let host = &self.registry.host;
        self.write(
            "policy.json",
            &format!(r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"{host}":[{requirement}]}}}}}}"#),
        );
    }

    fn key(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    /// Makes a pair of keys, `NAME.key` and `NAME.pub`.
    fn make_key(&self, name: &str, options: &[&str]) {
        let (private, public) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pub")));
        let private = private.to_str().unwrap();
        tool("openssl", [&["genpkey", "-quiet", "-out", private], options].concat()).ok();
        tool("openssl", ["pkey", "-in", private, "-pubout", "-out", public.to_str().unwrap()]).ok();
    }

    fn sigstore(&self, public: &str) -> String {
        format!(r#"{{"type":"sigstoreSigned","keyPath":"{}"}}"#, self.key(public).display())
    }

    fn push(&self, flags: &[&str], to: &str) -> Done {
        let to = self.name(to);
        let fixed = ["push", "-q", "--tls-verify=false"];
        self.davit.run([&fixed[..], flags, &["busybox", to.as_str()]].concat())
    }

    fn pull(&self, from: &str) -> Done {
        self.davit.run(["pull", "-q", "--tls-verify=false", &self.name(from)])
    }

    /// The tag of the signatures of an image in the registry.
    fn signature_tag(&self, repository: &str) -> String {
        let list = tool(
            "skopeo",
            ["list-tags", "--tls-verify=false", &format!("docker://{}", self.name(repository))],
        );
        let list: serde_json::Value = serde_json::from_str(&list.ok()).unwrap();
        let mut tags = list["Tags"].as_array().unwrap().iter().filter_map(|tag| tag.as_str());
        tags.find(|tag| tag.ends_with(".sig")).unwrap().to_owned()
    }
}

/// A keyring of `GnuPG` with one key of this address. Dropping it ends its agent.
struct Keyring {
    home: tempfile::TempDir,
}

impl Keyring {
    fn new(address: &str, passphrase: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        // sockets of the agent have short names
        let home = tempfile::Builder::new().prefix("dvg").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let ring = Self { home };
        let user = format!("Someone <{address}>");
        ring.gpg(&["--passphrase", passphrase, "--quick-gen-key", &user, "ed25519", "sign", "never"]).ok();
        ring
    }

    fn gpg(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--pinentry-mode", "loopback"]).args(arguments);
        finish(command.env("GNUPGHOME", self.home.path()))
    }

    fn export(&self, to: &Path, armour: bool) -> String {
        let to = to.to_str().unwrap().to_owned();
        let mut arguments = vec!["--export", "--output", &to];
        if armour {
            arguments.insert(0, "--armor");
        }
        self.gpg(&arguments).ok();
        to
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        finish(command.args(["--kill", "all"]).env("GNUPGHOME", self.home.path()));
    }
}

const GPG: &str = "gnupg is installed: run tests/run";

#[test]
fn without_a_policy_everything_may_be_used_and_with_one_what_it_says() {
    let lab = Lab::new();
    lab.push(&[], "a/x:1").ok();
    lab.push(&[], "b/x:1").ok();
    // the machine of the tests may have a policy of its own, so an empty one is not tried here
    lab.write("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    lab.pull("a/x:1").ok();

    let host = &lab.registry.host;
    lab.write(
        "policy.json",
        &format!(
            r#"{{"default":[{{"type":"insecureAcceptAnything"}}],"transports":{{"docker":{{"{host}":[{{"type":"reject"}}],"{host}/a":[{{"type":"insecureAcceptAnything"}}]}}}}}}"#
        ),
    );
    lab.pull("a/x:1").ok();
    let refused = lab.pull("b/x:1");
    refused.fails(125, "may not be used: it is rejected");
    refused.fails(125, "containers/policy.json");
    // what is pulled by a build or a run is no exception; what is pushed is
    let from = format!("FROM {}\n", lab.name("b/x:1"));
    let context = crate::support::context(&from, &[]);
    let path = context.path().to_str().unwrap();
    lab.davit.run(["build", "--tls-verify=false", "--progress=plain", path]).fails(125, "may not be used");
    lab.davit.run(["run", "--rm", "--tls-verify=false", &lab.name("b/x:1")]).fails(125, "may not be used");
    lab.push(&[], "b/x:2").ok();
    lab.davit.run(["manifest", "create", "list"]).ok();
    let add = ["manifest", "add", "--tls-verify=false", "list", &lab.name("b/x:1")];
    lab.davit.run(add).fails(125, "may not be used");
    // nor is a cache of builds, whose layers would become part of images
    let cache = lab.name("b/cache");
    let context = crate::support::context("FROM busybox\nRUN echo made > /made\n", &[]);
    let path = context.path().to_str().unwrap();
    let to = format!("--cache-to={cache}");
    lab.davit.run(["build", "--tls-verify=false", "--progress=plain", &to, path]).ok();
    lab.davit.run(["builder", "prune", "-af"]).ok();
    let from = format!("--cache-from={cache}");
    let built = lab.davit.run(["build", "--tls-verify=false", "--progress=plain", &from, path]);
    built.ok();
    assert!(built.stderr.contains("may not be used"), "{built:?}");

    // another policy for one command, which must be one
    let other = lab.path("other.json");
    std::fs::write(&other, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let other = format!("--signature-policy={}", other.display());
    lab.davit.run(["pull", "-q", "--tls-verify=false", &other, &lab.name("b/x:1")]).ok();
    lab.davit.run(["pull", "-q", "--signature-policy=/nowhere", &lab.name("b/x:1")]).fails(125, "/nowhere");
    lab.davit.run(["push", "-q", "--signature-policy=/nowhere", "busybox", "x"]).fails(125, "/nowhere");

    for broken in [
        "{",
        r#"{"default":[{"type":"insecureAcceptAnything"}],"default":[{"type":"reject"}]}"#,
        r#"{"default":[{"type":"insecureAcceptAnything","x":1}]}"#,
    ] {
        lab.write("policy.json", broken);
        lab.pull("a/x:1").fails(125, "policy.json");
    }
}

#[test]
fn a_policy_speaks_of_archives_and_directories() {
    let lab = Lab::new();
    let place = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    let (oci, docker, dir) = (place("x.oci"), place("x.tar"), place("dir"));
    lab.davit.run(["save", "-q", "--format=oci-archive", "-o", &oci, "busybox"]).ok();
    lab.davit.run(["save", "-q", "-o", &docker, "busybox"]).ok();
    lab.davit.run(["push", "-q", "busybox", &format!("dir:{dir}")]).ok();
    lab.davit.run(["push", "-q", "busybox", &format!("oci:{}:n", place("layout"))]).ok();
    let tar = busybox_tar().to_str().unwrap();
    let used = |policy: &str| {
        lab.write("policy.json", policy);
        let code = |arguments: &[&str]| {
            let done = lab.davit.run(arguments);
            assert!(done.code == 0 || done.stderr.contains("may not be used"), "{done:?}");
            done.code
        };
        let stream = lab.davit.run_with_input(["load", "-q"], &std::fs::read(&oci).unwrap()).code;
        [
            code(&["load", "-q", "-i", &oci]),
            stream,
            code(&["load", "-q", "-i", &docker]),
            code(&["pull", "-q", &format!("dir:{dir}")]),
            code(&["pull", "-q", &format!("oci:{}:n", place("layout"))]),
            code(&["import", "-q", tar, "imported"]),
        ]
    };
    let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
    let real = lab.davit.dir.path().canonicalize().unwrap();
    let real = real.display();
    assert_eq!(used(r#"{"default":[{"type":"insecureAcceptAnything"}]}"#), [0; 6]);
    assert_eq!(used(r#"{"default":[{"type":"reject"}]}"#), [125; 6]);
    let only = |transport: &str, scope: &str| {
        used(&format!(
            r#"{{"default":[{{"type":"reject"}}],"transports":{{"{transport}":{{"{scope}":{accept}}}}}}}"#
        ))
    };
    assert_eq!(only("oci-archive", &format!("{real}/x.oci")), [0, 125, 125, 125, 125, 125]);
    assert_eq!(only("oci-archive", ""), [0, 0, 125, 125, 125, 125]);
    assert_eq!(only("docker-archive", ""), [125, 125, 0, 125, 125, 125]);
    assert_eq!(only("dir", &real.to_string()), [125, 125, 125, 0, 125, 125]);
    assert_eq!(only("oci", &format!("{real}/layout")), [125, 125, 125, 125, 0, 125]);
    assert_eq!(only("tarball", ""), [125, 125, 125, 125, 125, 0]);
}

#[test]
fn sigstore_signatures_of_each_algorithm_are_made_and_verified() {
    let lab = Lab::new();
    lab.make_key("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    lab.make_key("ed", &["-algorithm", "ED25519"]);
    lab.make_key("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    for name in ["p256", "ed", "rsa"] {
        let key = format!("--sign-by-sigstore-private-key={}", lab.key(&format!("{name}.key")).display());
        lab.push(&[&key], &format!("s/{name}:1")).ok();
        lab.require(&lab.sigstore(&format!("{name}.pub")));
        lab.pull(&format!("s/{name}:1")).ok();
        // another key, another name, no signature
        lab.require(&lab.sigstore(if name == "ed" { "rsa.pub" } else { "ed.pub" }));
        lab.pull(&format!("s/{name}:1")).fails(125, "not made with a key of the policy");
    }
    lab.require(&lab.sigstore("p256.pub"));
    lab.push(&[], "s/p256:2").ok();
    lab.pull("s/p256:2").fails(125, "it is for the name");
    let any = lab.sigstore("p256.pub").replace('}', r#","signedIdentity":{"type":"matchRepository"}}"#);
    lab.require(&any);
    lab.pull("s/p256:2").ok();
    lab.push(&[], "s/none:1").ok();
    lab.pull("s/none:1").fails(125, "needs a sigstore signature and has none");

    // a second signature joins the first, and the same name may be signed again
    let key = format!("--sign-by-sigstore-private-key={}", lab.key("ed.key").display());
    lab.push(&[&key], "s/p256:1").ok();
    lab.require(&lab.sigstore("ed.pub"));
    lab.pull("s/p256:1").ok();
    lab.require(&lab.sigstore("p256.pub"));
    lab.pull("s/p256:1").ok();

    // signing the same again adds nothing
    let signatures = |repository: &str| {
        let tag = lab.signature_tag(repository);
        let raw = [
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{}", lab.name(&format!("{repository}:{tag}"))),
        ];
        let manifest: serde_json::Value = serde_json::from_str(&tool("skopeo", raw).ok()).unwrap();
        manifest["layers"].as_array().unwrap().len()
    };
    assert_eq!(signatures("s/p256"), 2);
    lab.push(&[&key], "s/p256:1").ok();
    assert_eq!(signatures("s/p256"), 2);
    lab.push(&[&key], "s/p256:3").ok();
    assert_eq!(signatures("s/p256"), 3);

    // an independent program agrees about the bytes
    let tag = lab.signature_tag("s/rsa");
    let copied = lab.path("copied");
    let source = format!("docker://{}", lab.name(&format!("s/rsa:{tag}")));
    let target = format!("dir:{}", copied.display());
    tool("skopeo", ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", &source, &target]).ok();
    let text = std::fs::read(copied.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let payload = copied.join(layer["digest"].as_str().unwrap().trim_start_matches("sha256:"));
    let base64 = lab.path("signature.b64");
    std::fs::write(&base64, layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap())
        .unwrap();
    let signature = lab.path("signature");
    let arguments =
        ["base64", "-d", "-A", "-in", base64.to_str().unwrap(), "-out", signature.to_str().unwrap()];
    tool("openssl", arguments).ok();
    let public = lab.key("rsa.pub");
    let arguments = [
        "dgst",
        "-sha256",
        "-verify",
        public.to_str().unwrap(),
        "-signature",
        signature.to_str().unwrap(),
        payload.to_str().unwrap(),
    ];
    assert_eq!(tool("openssl", arguments).ok(), "Verified OK");
}

#[test]
fn keys_as_cosign_keeps_them_need_their_passphrase() {
    let lab = Lab::new();
    // made by another program: testdata/trust/README.md
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/trust");
    let key = format!("--sign-by-sigstore-private-key={}", data.join("sealed.key").display());
    let passphrase = lab.path("passphrase");
    let file = format!("--sign-passphrase-file={}", passphrase.display());
    lab.push(&[&key], "c/x:1").fails(125, "use --sign-passphrase-file");
    std::fs::write(&passphrase, "wrong\n").unwrap();
    lab.push(&[&key, &file], "c/x:1").fails(125, "the passphrase is wrong");
    std::fs::write(&passphrase, "davit\nanother line\n").unwrap();
    lab.push(&[&key, &file], "c/x:1").ok();
    lab.require(&format!(r#"{{"type":"sigstoreSigned","keyPath":"{}"}}"#, data.join("sealed.pub").display()));
    lab.pull("c/x:1").ok();

    // the same, as a file of parameters says
    let parameters = lab.path("parameters.yaml");
    let text = format!(
        "privateKeyFile: {}\nprivateKeyPassphraseFile: {}\n",
        data.join("sealed.key").display(),
        passphrase.display()
    );
    std::fs::write(&parameters, &text).unwrap();
    let flag = format!("--sign-by-sigstore={}", parameters.display());
    lab.push(&[&flag], "c/y:1").ok();
    lab.pull("c/y:1").ok();
    std::fs::write(&parameters, format!("{text}rekorURL: https://rekor.example\n")).unwrap();
    lab.push(&[&flag], "c/y:2").fails(125, "rekorURL is not supported");

    // nothing is sent where signatures cannot be kept
    lab.write("registries.d/all.yaml", "default-docker: {}\n");
    lab.push(&[&key, &file], "c/z:1").fails(125, "use-sigstore-attachments");
    let tags = tool("skopeo", ["list-tags", "--tls-verify=false", &format!("docker://{}", lab.name("c/z"))]);
    assert_ne!(tags.code, 0, "{tags:?}");
}

#[test]
fn a_changed_manifest_or_signature_is_refused() {
    let lab = Lab::new();
    lab.make_key("k", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let key = format!("--sign-by-sigstore-private-key={}", lab.key("k.key").display());
    lab.push(&[&key], "t/x:1").ok();
    let tag = lab.signature_tag("t/x");
    // another image under the signed name, with the signature of the first one put beside it
    lab.davit.build("other", "FROM busybox\nLABEL a=b\n", &[]).ok();
    let to = lab.name("t/x:1");
    lab.davit.run(["push", "-q", "--tls-verify=false", "other", &to]).ok();
    lab.require(&lab.sigstore("k.pub"));
    lab.pull("t/x:1").fails(125, "has none");
    let digest =
        tool("skopeo", ["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{to}")])
            .ok();
    let moved = format!("docker://{}", lab.name(&format!("t/x:{}.sig", digest.replace(':', "-"))));
    let from = format!("docker://{}", lab.name(&format!("t/x:{tag}")));
    let flags = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tool("skopeo", [&flags[..], &[&from, &moved]].concat()).ok();
    lab.pull("t/x:1").fails(125, "it is for another manifest");
}

#[test]
fn a_signed_list_speaks_for_its_images() {
    let lab = Lab::new();
    lab.make_key("k", &["-algorithm", "ED25519"]);
    let key = format!("--sign-by-sigstore-private-key={}", lab.key("k.key").display());
    lab.davit.run(["manifest", "create", "list", "busybox"]).ok();
    let to = lab.name("l/x:1");
    lab.davit.run(["manifest", "push", "-q", "--tls-verify=false", &key, "list", &to]).ok();
    lab.require(&lab.sigstore("k.pub"));
    lab.pull("l/x:1").ok();
    // as cosign leaves it: a signature of the index alone
    let list =
        tool("skopeo", ["list-tags", "--tls-verify=false", &format!("docker://{}", lab.name("l/x"))]).ok();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let tags: Vec<&str> = list["Tags"].as_array().unwrap().iter().filter_map(|tag| tag.as_str()).collect();
    assert_eq!(tags.iter().filter(|tag| tag.ends_with(".sig")).count(), 2, "{tags:?}");
    let inspect = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}")];
    let index: serde_json::Value = serde_json::from_str(&tool("skopeo", inspect).ok()).unwrap();
    let entry = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "-");
    let delete = format!("docker://{}", lab.name(&format!("l/x:{entry}.sig")));
    tool("skopeo", ["delete", "--tls-verify=false", &delete]).ok();
    lab.pull("l/x:1").ok();
    lab.pull(&format!("l/x@{}", index["manifests"][0]["digest"].as_str().unwrap())).fails(125, "has none");
}

#[test]
fn simple_signatures_are_made_and_verified_as_podman_does() {
    let lab = Lab::new();
    let ring = Keyring::new("ann@example.com", "");
    let stranger = Keyring::new("eve@example.com", "");
    let keys = ring.export(&lab.path("ann.asc"), true);
    let binary = ring.export(&lab.path("ann.gpg"), false);
    let others = stranger.export(&lab.path("eve.gpg"), false);
    let signed_by = |path: &str| format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{path}"}}"#);
    let push = |ring: &Keyring, flags: &[&str], to: &str| {
        let fixed = ["push", "-q", "--tls-verify=false"];
        let name = lab.name(to);
        let mut command = lab.davit.command();
        command.args([&fixed[..], flags, &["busybox", name.as_str()]].concat());
        finish(command.env("GNUPGHOME", ring.home.path()))
    };
    push(&ring, &["--sign-by=ann@example.com"], "g/x:1").ok();
    for path in [&keys, &binary] {
        lab.require(&signed_by(path));
        lab.pull("g/x:1").ok();
    }
    lab.require(&signed_by(&others));
    lab.pull("g/x:1").fails(125, "not made with a key of the policy");
    push(&stranger, &["--sign-by=eve@example.com"], "g/x:1").ok();
    lab.pull("g/x:1").ok();
    lab.require(&format!("{},{}", signed_by(&keys), signed_by(&others)));
    lab.pull("g/x:1").ok();
    // signing the same again adds nothing
    let files = || tool("find", [lab.path("look").to_str().unwrap(), "-name", "signature-*"]).ok();
    let before = files();
    push(&ring, &["--sign-by=ann@example.com"], "g/x:1").ok();
    assert_eq!(files(), before);
    push(&ring, &["--sign-by=nobody@example.com"], "g/x:2").fails(125, "nobody@example.com");
    push(&ring, &[], "g/y:1").ok();
    lab.pull("g/y:1").fails(125, "needs a simple signature and has none");

    // podman takes davit's signatures, and davit podman's
    let podman = |arguments: &[&str]| {
        let home = lab.path("");
        let (root, run) = (lab.path("podman"), lab.path("podman-run"));
        let mut command = Command::new("podman");
        command
            .args(["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()])
            .args(["--storage-driver=vfs", "--runtime=runc"])
            .args(arguments);
        // its registries.d lies below the home alone
        let link = lab.path(".config");
        if !link.exists() {
            std::os::unix::fs::symlink(lab.path("config"), link).unwrap();
        }
        finish(command.env("HOME", home).env("GNUPGHOME", ring.home.path()))
    };
    lab.require(&signed_by(&keys));
    let policy = format!("--signature-policy={}", lab.config("policy.json").display());
    podman(&["pull", "-q", "--tls-verify=false", &policy, &lab.name("g/x:1")]).ok();
    assert_ne!(podman(&["pull", "-q", "--tls-verify=false", &policy, &lab.name("g/y:1")]).code, 0);
    let all = lab.path("all.json");
    std::fs::write(&all, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let all = format!("--signature-policy={}", all.display());
    podman(&["pull", "-q", "--tls-verify=false", &all, &lab.name("g/y:1")]).ok();
    let (from, to) = (lab.name("g/y:1"), lab.name("g/podman:1"));
    // podman asks the policy of its own store, too, when it pushes
    lab.write("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    podman(&["push", "-q", "--tls-verify=false", &all, "--sign-by=ann@example.com", &from, &to]).ok();
    lab.require(&signed_by(&keys));
    lab.pull("g/podman:1").ok();

    // the same through a directory that skopeo writes, signatures and all
    let dir = lab.path("dir");
    let registries = lab.config("registries.d");
    let accept = lab.path("all.json");
    let flags = ["--policy", accept.to_str().unwrap(), "--registries.d", registries.to_str().unwrap()];
    let ends = [format!("docker://{}", lab.name("g/podman:1")), format!("dir:{}", dir.display())];
    tool("skopeo", [&flags[..], &["copy", "-q", "--src-tls-verify=false", &ends[0], &ends[1]]].concat()).ok();
    let of = |name: &str| {
        let identity = format!(
            r#","signedIdentity":{{"type":"exactRepository","dockerRepository":"{}"}}}}"#,
            lab.name(name)
        );
        let requirement = signed_by(&keys).replace('}', &identity);
        lab.write("policy.json", &format!(r#"{{"default":[{requirement}]}}"#));
        lab.davit.run(["pull", "-q", &format!("dir:{}", dir.display())])
    };
    of("g/podman").ok();
    of("g/x").fails(125, "it is for the name");
}

#[test]
fn keys_of_gpg_that_are_locked_expired_or_revoked() {
    let lab = Lab::new();
    let ring = Keyring::new("ann@example.com", "secret");
    let passphrase = lab.path("passphrase");
    std::fs::write(&passphrase, "secret\n").unwrap();
    let push = |file: &Path, to: &str| {
        let flag = format!("--sign-passphrase-file={}", file.display());
        let mut command = lab.davit.command();
        command.args(["push", "-q", "--tls-verify=false", "--sign-by=ann@example.com", &flag, "busybox"]);
        finish(command.arg(lab.name(to)).env("GNUPGHOME", ring.home.path()))
    };
    push(&passphrase, "p/x:1").ok();
    let wrong = lab.path("wrong");
    std::fs::write(&wrong, "other\n").unwrap();
    // the agent remembers
    finish(Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", ring.home.path()));
    push(&wrong, "p/y:1").fails(125, "gpg with the key");

    let keys = lab.path("ann.gpg");
    let require = |keys: &Path| {
        lab.require(&format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{}"}}"#, keys.display()));
    };
    ring.export(&keys, false);
    require(&keys);
    lab.pull("p/x:1").ok();
    let list = ring.gpg(&["--with-colons", "--list-keys"]).ok();
    let fingerprint = list.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap();
    let fingerprint = fingerprint.trim_matches(':').to_owned();
    let revocation = ring.home.path().join(format!("openpgp-revocs.d/{fingerprint}.rev"));
    let text = std::fs::read_to_string(&revocation).unwrap().replace(":-----BEGIN", "-----BEGIN");
    let unlocked = lab.path("revocation");
    std::fs::write(&unlocked, text).unwrap();
    ring.gpg(&["--import", unlocked.to_str().unwrap()]).ok();
    let revoked = lab.path("revoked.gpg");
    ring.export(&revoked, false);
    require(&revoked);
    lab.pull("p/x:1").fails(125, "revoked");
    require(&lab.path("nothing.gpg"));
    lab.pull("p/x:1").fails(125, "nothing.gpg");
}

#[test]
fn image_sign_writes_what_podman_would() {
    let lab = Lab::new();
    let ring = Keyring::new("ann@example.com", "");
    lab.push(&[], "i/x:1").ok();
    let registries = lab.path("registries.conf");
    std::fs::write(
        &registries,
        format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", lab.registry.host),
    )
    .unwrap();
    let directory = lab.path("signatures");
    std::fs::create_dir(&directory).unwrap();
    let sign = |arguments: &[&str]| {
        let mut command = lab.davit.command();
        command.args(["image", "sign"]).args(arguments).arg(format!("docker://{}", lab.name("i/x:1")));
        finish(command.env("GNUPGHOME", ring.home.path()).env("CONTAINERS_REGISTRIES_CONF", &registries))
    };
    let directory_flag = format!("--directory={}", directory.display());
    assert_eq!(sign(&["--sign-by=ann@example.com", &directory_flag]).ok(), "");
    let find = tool("find", [directory.to_str().unwrap(), "-type", "f"]).ok();
    assert!(find.contains("/i/x@sha256=") && find.ends_with("/signature-1"), "{find}");
    let said = ring.gpg(&["--decrypt", &find]);
    assert!(said.stdout.contains(&format!("\"docker-reference\":\"{}\"", lab.name("i/x:1"))), "{said:?}");
    // where registries.d says, it counts at once
    lab.require(&format!(
        r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{}"}}"#,
        ring.export(&lab.path("ann.gpg"), false)
    ));
    lab.pull("i/x:1").fails(125, "has none");
    sign(&["--sign-by=ann@example.com"]).ok();
    lab.pull("i/x:1").ok();
    sign(&[]).fails(125, "--sign-by");
    sign(&["--sign-by=ann@example.com", "--all"]).fails(125, "not a list");
    sign(&["--sign-by=ann@example.com", "--directory=/nowhere"]).fails(125, "no such directory");
}

#[test]
fn image_trust_is_set_and_shown_as_podmans() {
    let lab = Lab::new();
    let ring = Keyring::new("ann@example.com", "");
    let keys = ring.export(&lab.path("ann.gpg"), false);
    let policy = lab.path("trust.json");
    let policy = policy.to_str().unwrap();
    let registries = lab.config("registries.d");
    let set = |arguments: &[&str]| {
        lab.davit.run([&["image", "trust", "set", "--policypath", policy], arguments].concat())
    };
    set(&["-t", "reject", "r.example"]).fails(125, "the default must be set first");
    set(&["-t", "reject", "default"]).ok();
    set(&["-f", &keys, "r.example/a"]).ok();
    set(&["-t", "accept", "r.example"]).ok();
    set(&["-t", "signedBy", "r.example"]).fails(125, "--pubkeysfile");
    set(&["-t", "accept", "-f", &keys, "r.example"]).fails(125, "no public keys");
    set(&["-f", "/nowhere", "r.example"]).fails(125, "/nowhere");
    set(&["-t", "some", "r.example"]).fails(125, "expected accept");
    let show =
        ["image", "trust", "show", "--policypath", policy, "--registrypath", registries.to_str().unwrap()];
    let own = |more: &[&str]| lab.davit.run([&show[..], more].concat()).ok();
    let look = lab.path("look");
    let row = |transport: &str, name: &str, kind: &str, id: &str| {
        format!("{transport:<12}{name:<13}{kind:<12}{id:<17}file://{}", look.display())
    };
    assert_eq!(
        own(&[]),
        [
            format!("{:<12}{:<13}{:<12}{:<17}STORE", "TRANSPORT", "NAME", "TYPE", "ID"),
            row("all", "default", "reject", ""),
            row("repository", "r.example", "accept", ""),
            row("repository", "r.example/a", "signed", "ann@example.com"),
        ]
        .join("\n")
    );
    assert_eq!(own(&["-n", "r.example/a/b"]).lines().count(), 3);
    assert_eq!(own(&["-n", "s.example"]).lines().count(), 1);
    assert_eq!(own(&["--raw"]).trim(), std::fs::read_to_string(policy).unwrap().trim());

    let (root, run) = (lab.path("podman"), lab.path("podman-run"));
    let stores =
        ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver=vfs"];
    // podman cannot name the keys' owners without a program that Debian has not
    let peer = |more: &[&str]| tool("podman", [&stores[..], &show, more].concat()).ok();
    let without = |text: String| {
        text.replace("\n    \"gpg_id\": \"ann@example.com\"", "").replace("\"signed\",", "\"signed\"")
    };
    assert_eq!(without(own(&["--json"])), without(peer(&["--json"])));
    // and what davit wrote it can change
    let arguments = ["image", "trust", "set", "--policypath", policy, "-t", "accept", "q.example"];
    tool("podman", [&stores[..], &arguments].concat()).ok();
    assert!(own(&["-n"]).contains("q.example"));
}

#[test]
fn without_gnupg_simple_signatures_are_refused_by_name() {
    let lab = Lab::new();
    lab.push(&[], "n/x:1").ok();
    let ring = Keyring::new("ann@example.com", "");
    let keys = ring.export(&lab.path("ann.gpg"), false);
    assert!(Path::new(&keys).exists(), "{GPG}");
    lab.require(&format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{keys}"}}"#));
    let digest = tool(
        "skopeo",
        ["inspect", "--tls-verify=false", "--format={{.Digest}}", &format!("docker://{}", lab.name("n/x:1"))],
    )
    .ok();
    let place = lab.path(&format!("look/n/x@{}", digest.replace(':', "=")));
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("signature-1"), [0x90, 0x0d, 0x03]).unwrap();
    lab.pull("n/x:1").fails(125, "not accepted");
    let bare = |arguments: &[&str]| {
        let mut command = lab.davit.command();
        finish(command.args(arguments).env("PATH", lab.path("empty")))
    };
    bare(&["pull", "-q", "--tls-verify=false", &lab.name("n/x:1")]).fails(125, "gpgv: it is not installed");
    bare(&["push", "-q", "--tls-verify=false", "--sign-by=a", "busybox", &lab.name("n/y:1")])
        .fails(125, "gpg: it is not installed");
}

#[test]
fn an_ordinary_user_signs_and_verifies() {
    let lab = crate::rootless::Rootless::new();
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/u/x:1", registry.host);
    let home = lab.dir.path();
    let as_user = |program: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "davit-test", "--regid", "davit-test", "--init-groups", "--", program]);
        finish(command.args(arguments).env("HOME", home).current_dir(home))
    };
    let gpg = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key"];
    as_user("gpg", &[&gpg[..], &["Ulf <ulf@example.com>", "ed25519", "sign", "never"]].concat()).ok();
    let keys = home.join("ulf.gpg");
    as_user("gpg", &["--batch", "--export", "--output", keys.to_str().unwrap()]).ok();
    lab.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    lab.run(&["push", "-q", "--tls-verify=false", "--sign-by=ulf@example.com", "busybox", &name]).ok();
    let kept = tool(
        "find",
        [home.join(".local/share/containers/sigstore").to_str().unwrap(), "-name", "signature-1"],
    )
    .ok();
    assert!(kept.contains("/u/x@sha256="), "{kept}");
    // the user's own policy, made by davit where there is none
    lab.run(&["image", "trust", "set", "-t", "reject", "default"]).ok();
    let policy = home.join(".config/containers/policy.json");
    let before =
        std::fs::read_to_string(&policy).unwrap_or_else(|error| panic!("{}: {error}", policy.display()));
    assert!(before.contains("reject"));
    lab.run(&["pull", "-q", "--tls-verify=false", &name]).fails(125, "it is rejected");
    lab.run(&["image", "trust", "set", "-f", keys.to_str().unwrap(), &registry.host]).ok();
    lab.run(&["pull", "-q", "--tls-verify=false", &name]).ok();
    lab.run(&["push", "-q", "--tls-verify=false", "busybox", &format!("{}/u/y:1", registry.host)]).ok();
    lab.run(&["pull", "-q", "--tls-verify=false", &format!("{}/u/y:1", registry.host)])
        .fails(125, "has none");
    as_user("gpgconf", &["--kill", "all"]);
}
