//! The flags of `davit build`, one by one: what each changes in the image or in its steps.

use crate::support::{Davit, context, scratch};

/// Builds `text` with further flags; gives what the command left.
fn build(davit: &Davit, name: &str, flags: &[&str], text: &str) -> crate::support::Done {
    let dir = context(text, &[("f", "file\n")]);
    let mut args = vec!["build", "--progress=plain", "-t", name];
    args.extend(flags);
    args.push(dir.path().to_str().unwrap());
    davit.run(args)
}

#[test]
fn variables_labels_and_annotations() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox AS one\nENV A=base B=base\nLABEL x=1 y=2\nFROM one\nRUN echo \"$A,$B,$C\" > /seen\nENV A=later\n";
    let flags = [
        "--env=A=flag",
        "--env=C=flag",
        "--unsetenv=B",
        "--unsetlabel=x",
        "--label=y=flag",
        "--annotation=org.example.who=me",
    ];
    build(&davit, "v", &flags, text).ok();
    // As buildah: before a stage's first instruction, and again at its end.
    assert_eq!(davit.sh("v", "cat /seen"), "flag,,flag");
    let env = davit.inspect("v", "{{.Config.Env}}");
    assert!(env.contains("A=flag") && env.contains("C=flag") && !env.contains("B="), "{env}");
    assert_eq!(davit.inspect("v", "{{json .Labels}}"), "{\"y\":\"flag\"}");
    assert_eq!(davit.inspect("v", "{{json .Annotations}}"), "{\"org.example.who\":\"me\"}");
    // The annotation is in the manifest that leaves.
    let dir = scratch();
    let layout = dir.path().join("layout");
    let manifest = |name: &str| {
        let layout = layout.join(name);
        davit.run(["push", "-q", name, &format!("oci:{}", layout.display())]).ok();
        let index: serde_json::Value = read_json(&layout.join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
        read_json(&layout.join("blobs").join(digest))
    };
    assert_eq!(manifest("v")["annotations"]["org.example.who"], "me");
    // The same image with other annotations has the same ID and another manifest.
    build(&davit, "w", &[&flags[..5], &["--annotation=k=v"]].concat(), text).ok();
    assert_eq!(davit.inspect("v", "{{.Id}}"), davit.inspect("w", "{{.Id}}"));
    assert_eq!(manifest("w")["annotations"], serde_json::json!({"k": "v"}));
    // Each name keeps its own, whether its manifest was made before the other build or not.
    build(&davit, "v2", &flags, text).ok();
    build(&davit, "docker", &[&flags[..5], &["--format=docker"]].concat(), text).ok();
    build(&davit, "w2", &[&flags[..5], &["--annotation=k=2"]].concat(), text).ok();
    davit.run(["tag", "v2", "v3"]).ok();
    for name in ["v3", "v2", "v"] {
        assert_eq!(davit.inspect(name, "{{json .Annotations}}"), "{\"org.example.who\":\"me\"}", "{name}");
        let again = format!("again-{name}");
        davit.run(["tag", name, &again]).ok();
        assert_eq!(manifest(&again)["annotations"], serde_json::json!({"org.example.who": "me"}), "{name}");
    }
    assert_eq!(manifest("docker")["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(
        davit.inspect("docker", "{{.ManifestType}}"),
        "application/vnd.docker.distribution.manifest.v2+json"
    );
    assert_eq!(manifest("w2")["annotations"], serde_json::json!({"k": "2"}));
    let digests: Vec<String> =
        ["v", "v3", "w", "w2", "docker"].map(|name| davit.inspect(name, "{{.Digest}}")).into();
    assert_eq!(digests[0], digests[1]);
    assert!(
        (1..5).all(|one| !digests[one + 1..].contains(&digests[one]) && !digests[one].is_empty()),
        "{digests:?}"
    );
    build(&davit, "x", &["--inherit-labels=false"], "FROM v\n").ok();
    assert_eq!(davit.inspect("x", "{{json .Labels}}"), "null");
}

fn read_json(path: &std::path::Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn layers_become_one() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nRUN mkdir /d && echo 1 > /d/gone && echo 1 > /d/kept\nRUN rm /d/gone /etc/group && chmod 700 /d\nCOPY f /d/f\n";
    let layers =
        |name: &str| davit.inspect(name, "{{range .RootFS.Layers}}{{.}} {{end}}").split_whitespace().count();
    let files = "ls /d /etc/group 2>/dev/null; stat -c %a /d";
    build(&davit, "plain", &[], text).ok();
    assert_eq!(layers("plain"), 4);
    for (name, flag, expected) in
        [("squash", "--squash", 2), ("all", "--squash-all", 1), ("layers", "--layers=false", 2)]
    {
        let done = build(&davit, name, &[flag], text);
        done.ok();
        assert_eq!(layers(name), expected, "{flag}");
        assert_eq!(davit.sh(name, files), davit.sh("plain", files), "{flag}");
        if name != "layers" {
            let id = davit.inspect(name, "{{.Id}}");
            build(&davit, "again", &[flag], text).ok();
            assert_eq!(davit.inspect("again", "{{.Id}}"), id, "known results give the same image");
        }
        // With --layers=false nothing comes from the cache.
        assert_eq!(done.stderr.contains("CACHED"), name != "layers", "{flag}: {done:#?}");
        // The history has as many layers as the image, or nobody can read it.
        let history = davit.run(["history", "--format", "{{.Size}}", name]).ok();
        assert!(history.lines().count() >= 4, "{history}");
        let dir = scratch();
        let tar = dir.path().join("a.tar");
        davit.run(["save", "-q", "-o", tar.to_str().unwrap(), name]).ok();
        let other = Davit::new();
        other.run(["load", "-q", "-i", tar.to_str().unwrap()]).ok();
        assert_eq!(other.sh(name, files), davit.sh("plain", files), "{flag}");
    }
    build(&davit, "short", &["--omit-history"], text).ok();
    assert_eq!(davit.inspect("short", "{{len .History}}"), "0");
}

#[test]
fn another_base_stages_and_the_cache() {
    let davit = Davit::with_busybox();
    build(&davit, "base", &[], "FROM busybox\nRUN echo base > /which\n").ok();
    build(&davit, "from", &["--from=base"], "FROM nowhere/at/all AS a\nFROM a\nRUN cat /which > /copy\n")
        .ok();
    assert_eq!(davit.sh("from", "cat /copy"), "base");

    let text = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM busybox AS unused\nRUN echo ran-unused\nFROM busybox\nCOPY --from=one /one /one\nRUN cat /proc/sys/kernel/random/uuid > /two\n";
    let first = build(&davit, "n", &[], text);
    first.ok();
    assert!(!first.stderr.contains("ran-unused"), "{first:#?}");
    let all = build(&davit, "n", &["--skip-unused-stages=false"], text);
    all.ok();
    assert!(all.stderr.lines().any(|line| line.ends_with(" ran-unused")), "{all:#?}");
    let (one, two) = (davit.sh("n", "cat /one"), davit.sh("n", "cat /two"));
    build(&davit, "n", &[], text).ok();
    assert_eq!((davit.sh("n", "cat /one"), davit.sh("n", "cat /two")), (one.clone(), two.clone()));
    build(&davit, "n", &["--no-cache-filter=one"], text).ok();
    assert_ne!(davit.sh("n", "cat /one"), one);
}

#[test]
fn secrets_of_files_and_variables() {
    let davit = Davit::with_busybox();
    let dir = context(
        "FROM busybox\nRUN --mount=type=secret,id=file,required=true --mount=type=secret,id=var,env=VAR --mount=type=secret,id=NAMED,target=/named wc -c < /run/secrets/file > /out; echo ${#VAR} >> /out; wc -c < /named >> /out\n",
        &[("value", "from a file")],
    );
    let file = dir.path().join("value");
    let mut command = davit.command();
    command
        .args(["build", "-q", "-t", "s", "--secret", &format!("id=file,src={}", file.display())])
        .args(["--secret", "id=var,env=SOME_VALUE", "--secret", "id=NAMED", dir.path().to_str().unwrap()])
        .env("SOME_VALUE", "0123456")
        .env("NAMED", "abc");
    crate::support::finish(&mut command).ok();
    assert_eq!(davit.sh("s", "cat /out; ls /run/secrets /named 2>/dev/null; true"), "11\n7\n3");
    davit
        .run(["build", "-q", "--secret", "id=file,src=/nowhere", dir.path().to_str().unwrap()])
        .fails(125, "/nowhere");
    davit.run(["build", "-q", "--secret", "src=x", dir.path().to_str().unwrap()]).fails(125, "id is missing");
}

#[test]
fn what_steps_see() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nUSER ann\nRUN cat /etc/resolv.conf > /tmp/resolv; id -G > /tmp/groups; stat -c %t:%T /dev/fake > /tmp/device; df -k /dev/shm | tail -1 > /tmp/shm; ulimit -n > /tmp/files; cat /etc/hosts > /tmp/hosts\n";
    let flags = [
        "--dns=192.0.2.1",
        "--dns-search=example.org",
        "--dns-option=ndots:3",
        "--group-add=staff",
        "--group-add=4242",
        "--device=/dev/null:/dev/fake",
        "--shm-size=5m",
        "--ulimit=nofile=123:456",
        "--add-host=peer:192.0.2.7",
    ];
    build(&davit, "s", &flags, text).ok();
    let resolv = davit.sh("s", "cat /tmp/resolv");
    for line in ["nameserver 192.0.2.1", "search example.org", "options ndots:3"] {
        assert!(resolv.lines().any(|found| found == line), "{resolv}");
    }
    assert_eq!(davit.sh("s", "cat /tmp/groups"), "1000 50 4242");
    assert_eq!(davit.sh("s", "cat /tmp/device"), "1:3");
    assert!(davit.sh("s", "cat /tmp/shm").contains(" 5120 "));
    assert_eq!(davit.sh("s", "cat /tmp/files"), "123");
    assert!(davit.sh("s", "cat /tmp/hosts").contains("192.0.2.7\tpeer"));
    let own = "FROM busybox\nRUN echo '192.0.2.9 own' > /etc/hosts\n";
    build(&davit, "own", &["--no-hosts"], own).ok();
    build(&davit, "seen", &["--no-hosts", "--no-hostname"], "FROM own\nRUN cp /etc/hosts /copy\n").ok();
    assert_eq!(davit.sh("seen", "cat /copy"), "192.0.2.9 own");
}

#[test]
fn what_is_written_beside_the_image() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (id, meta, log) = (path("id"), path("meta"), path("log"));
    let flags = ["--iidfile", &id, "--metadata-file", &meta, "--logfile", &log, "-t", "m:2"];
    let done = build(&davit, "m", &flags, "FROM busybox\nRUN echo to-the-log\n");
    let printed = done.ok();
    assert!(!done.stderr.contains("to-the-log"), "{done:#?}");
    assert!(std::fs::read_to_string(&log).unwrap().contains("to-the-log"));
    assert_eq!(std::fs::read_to_string(&id).unwrap(), format!("sha256:{printed}"));
    let meta = read_json(std::path::Path::new(&meta));
    assert_eq!(meta["containerimage.config.digest"], format!("sha256:{printed}"));
    assert_eq!(meta["image.name"], "localhost/m:latest,localhost/m:2");
    assert_eq!(meta["containerimage.digest"], davit.inspect("m", "{{.Digest}}"));
    assert_eq!(meta["containerimage.descriptor"]["digest"], meta["containerimage.digest"]);
}

#[test]
fn the_docker_format_has_dockers_media_types() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nHEALTHCHECK CMD true\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo 1 > /1\n";
    let dir = scratch();
    for (format, manifest, config, layer) in [
        ("oci", "oci.image.manifest.v1+json", "oci.image.config.v1+json", "oci.image.layer.v1.tar+gzip"),
        (
            "docker",
            "docker.distribution.manifest.v2+json",
            "docker.container.image.v1+json",
            "docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        build(&davit, format, &["--format", format], text).ok();
        // As BuildKit, and not as buildah: both formats keep it.
        assert!(davit.inspect(format, "{{json .Config}}").contains("CMD"), "{format}");
        assert!(davit.inspect(format, "{{.ManifestType}}").contains(manifest));
        let place = dir.path().join(format);
        davit.run(["push", "-q", format, &format!("dir:{}", place.display())]).ok();
        let found = read_json(&place.join("manifest.json"));
        for (value, expected) in [
            (&found["mediaType"], manifest),
            (&found["config"]["mediaType"], config),
            (&found["layers"][1]["mediaType"], layer),
        ] {
            assert_eq!(value, &format!("application/vnd.{expected}"), "{format}");
        }
    }
    build(&davit, "x", &["--format=docker", "--annotation=a=b"], text).fails(125, "annotation");
    build(&davit, "x", &["--format=flat"], text).fails(125, "format flat");
}

#[test]
fn flags_that_change_nothing_here_and_those_that_are_refused() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nRUN echo 1 > /1\n";
    let flags = [
        "--compress",
        "--disable-content-trust",
        "--load",
        "--force-rm",
        "--rm",
        "--retry=1",
        "--retry-delay=1s",
        "--isolation=oci",
        "--pull=false",
        "--memory=256m",
        "--allow=network.host",
    ];
    build(&davit, "n", &flags, text).ok();
    let chroot = build(&davit, "n", &["--isolation=chroot"], text);
    chroot.ok();
    assert!(chroot.stderr.contains("--isolation=chroot"), "{chroot:#?}");
    for (flag, said) in [
        ("--isolation=hyperv", "--isolation=hyperv"),
        ("--allow=everything", "allow everything"),
        ("--output=type=nonsense,dest=x", "nonsense"),
        ("--push", "no registry"),
        ("--platform=nonsense/a/b/c", "platform"),
        ("--build-context=x", "--build-context=x"),
        ("--sbom=true", "--sbom"),
    ] {
        build(&davit, "n", &[flag], text).fails(125, said);
    }
    for policy in ["--pull", "--pull=always", "--pull=newer", "--pull-always", "--pull=true"] {
        // A base that only exists here stays usable.
        build(&davit, "n", &[policy], "FROM localhost/busybox\nRUN echo 1 > /1\n").ok();
    }
    build(&davit, "n", &["--pull=never"], "FROM localhost/none\n").fails(125, "localhost/none");
}

#[test]
fn a_pushed_build() {
    use crate::support::{Access, Registry, tool};
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    let (one, two) = (format!("{}/a:1", registry.host), format!("{}/b:2", registry.host));
    let flags = ["--tls-verify=false", "--push", "-t", &two];
    build(&davit, &one, &flags, "FROM busybox\nRUN echo 1 > /1\n").ok();
    let digest = |name: &str| {
        let name = format!("docker://{name}");
        tool("skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).ok()
    };
    assert_eq!(digest(&one), digest(&two));
    assert_eq!(digest(&one), davit.inspect(&one, "{{.Digest}}"));
    let third = format!("type=registry,name={}/c:3", registry.host);
    build(&davit, "local", &["--tls-verify=false", "-o", &third], "FROM busybox\nRUN echo 1 > /1\n").ok();
    assert_eq!(digest(&format!("{}/c:3", registry.host)), digest(&one));
}

#[test]
fn agents_and_keys_for_ssh() {
    let davit = Davit::new();
    // The steps use the host's ssh-add: the image is Debian's root file system and has none, so a socket is looked at.
    davit.run(["import", "-q", crate::support::busybox_tar().to_str().unwrap(), "busybox"]).ok();
    let text = "FROM busybox\nRUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\n";
    let dir = scratch();
    let key = dir.path().join("key");
    let locked = dir.path().join("locked");
    use crate::support::tool;
    tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]).ok();
    tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "pass", "-f", locked.to_str().unwrap()]).ok();
    build(&davit, "k", &["--no-cache", &format!("--ssh=default={}", key.display())], text).ok();
    build(&davit, "l", &[&format!("--ssh=default={}", locked.display())], text).fails(125, "locked");
    build(&davit, "n", &["--ssh=default=/nowhere/key"], text).fails(125, "/nowhere/key");
    assert!(crate::support::processes_with(davit.dir.path().to_str().unwrap()).is_empty());
}

/// A directory with the description of a device.
fn described() -> tempfile::TempDir {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("files")).unwrap();
    std::fs::write(dir.path().join("files/lib"), "library\n").unwrap();
    let text = format!(
        "cdiVersion: 0.6.0\nkind: example.com/thing\ndevices:\n- name: one\n  containerEdits:\n    deviceNodes:\n    - path: /dev/thing\n      hostPath: /dev/zero\n    mounts:\n    - hostPath: {}/files\n      containerPath: /opt/thing\n      options: [ro, nosuid, nodev, bind]\ncontainerEdits:\n  env: [THING=1]\n",
        dir.path().display()
    );
    std::fs::write(dir.path().join("thing.yaml"), text).unwrap();
    dir
}

#[test]
fn steps_with_devices_that_a_vendor_describes() {
    let davit = Davit::with_busybox();
    let places = described();
    let place = format!("--cdi-spec-dir={}", places.path().display());
    let build = |flags: &[&str], line: &str| {
        let dir = context(&format!("FROM busybox\n{line}\n"), &[]);
        let mut args = vec![place.as_str(), "build", "-t", "x"];
        args.extend(flags);
        args.push(dir.path().to_str().unwrap());
        davit.run(args)
    };
    let line = "RUN --device=example.com/thing=one head -c 3 /dev/thing | wc -c > /seen; cat /opt/thing/lib >> /seen; echo $THING >> /seen";
    build(&[], line).fails(125, "build with --allow device");
    build(&["--allow=device"], line).ok();
    assert_eq!(davit.sh("x", "cat /seen"), "3\nlibrary\n1");
    // Neither the device's variable nor its mount point is part of the image.
    assert!(!davit.inspect("x", "{{.Config.Env}}").contains("THING"));
    assert_eq!(davit.sh("x", "ls -d /opt 2>&1 | wc -l; test -e /opt/thing; echo $?"), "1\n1");
    let other = |options: &str| format!("RUN --device=example.com/thing=two{options} test ! -e /dev/thing");
    build(&["--allow=device"], &other("")).ok();
    build(&["--allow=device"], &other(",required")).fails(125, "`example.com/thing=two` is not known");
    std::fs::write(places.path().join("thing.yaml"), "kind: example.com/thing\ncdiVersion: 0.6.0\n").unwrap();
    build(&["--allow=device"], line).fails(125, "thing.yaml");
}

#[test]
fn a_link_is_mounted_as_a_link() {
    let davit = Davit::with_busybox();
    let dir = context("", &[("real/file", "one\n")]);
    std::os::unix::fs::symlink("real/file", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("dangling")).unwrap();
    let path = dir.path().to_str().unwrap();
    let build = |text: &str| {
        std::fs::write(dir.path().join("Containerfile"), text).unwrap();
        davit.run(["build", "-q", "-t", "x", path])
    };
    let text = "FROM busybox\nRUN ln -s real/file /same\n\
        RUN --mount=source=link,target=/a/b/link,no-dereference --mount=source=dangling,target=/d,no-dereference=true \\\n\
        --mount=source=link,target=/same,no-dereference --mount=source=real/file,target=/plain,no-dereference \\\n\
        --mount=source=link,target=/followed \\\n\
        for link in /a/b/link /d /same; do readlink $link >>/seen; done; cat /plain /followed >>/seen\n";
    build(text).ok();
    assert_eq!(davit.sh("x", "cat /seen"), "real/file\n/nowhere\nreal/file\none\none");
    // No layer has them, but for the one that made its own.
    assert_eq!(davit.sh("x", "ls -A / | grep -E '^(a|d|same|plain|followed)$'"), "same");
    // Where the link leads is part of the key.
    std::fs::remove_file(dir.path().join("dangling")).unwrap();
    std::os::unix::fs::symlink("/elsewhere", dir.path().join("dangling")).unwrap();
    build(text).ok();
    assert!(davit.sh("x", "cat /seen").contains("/elsewhere"));
    let taken = "FROM busybox\nRUN --mount=source=link,target=/etc,no-dereference true\n";
    build(taken).fails(125, "make the link /etc");
}
