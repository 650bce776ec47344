//! With a fixed time, the same build gives the same image: in two stores, at two times, as root and as a user.

use std::path::Path;
use std::time::Duration;

use crate::rootless::Rootless;
use crate::support::{Davit, busybox_tar, tool};

/// What differs from build to build unless somebody takes care: times, order, owners, names beyond ASCII, links, modes,
/// attributes, what the second step replaces and removes.
const TEXT: &str = "FROM scratch AS base\nADD busybox.tar /\nFROM base AS tools\n\
    RUN mkdir -p /out/b /out/a && for i in 3 1 2; do echo $i > /out/$i; done && ln /out/1 /out/hard && ln -s 2 /out/soft && \
        chmod 4711 /out/3 && chown 7:8 /out/2 && echo x > \"/out/naïve name\" && rm -r /home && mkdir -p /var/deep/er/dir\n\
    FROM base\nENV A=1\nWORKDIR /work/here\nADD dir.tar /unpacked\nCOPY --link dir/z /linked/z\nCOPY --from=tools /out /out\nCOPY --chown=5 context-file dir ./\n\
    RUN rm /out/3 /etc/group; rm -r /out/b; mkdir /out/b; date > /dev/null; echo later > /out/a/later\n\
    COPY <<EOF /here\ntext\nEOF\nLABEL z=1 a=2\nCMD [\"sh\"]\n";

/// Writes the context; its files are of now.
fn write_context(place: &Path) {
    std::fs::create_dir_all(place.join("dir/sub")).unwrap();
    std::fs::copy(busybox_tar(), place.join("busybox.tar")).unwrap();
    for (name, text) in
        [("Containerfile", TEXT), ("context-file", "file\n"), ("dir/z", "z\n"), ("dir/sub/y", "y\n")]
    {
        std::fs::write(place.join(name), text).unwrap();
    }
    // An archive of now: its files keep the times that it says.
    let dir = place.to_str().unwrap();
    tool("tar", ["-C", dir, "--owner=3", "--group=4", "-cf", &format!("{dir}/dir.tar"), "dir"]).ok();
    // Whatever the caller's umask is.
    tool("chmod", ["-R", "u=rwX,go=rX", place.to_str().unwrap()]).ok();
}

/// Digest of the manifest in an OCI archive, which covers config and layers.
fn manifest_digest(archive: &Path) -> String {
    let index = tool("tar", ["-xOf", archive.to_str().unwrap(), "index.json"]).ok();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    index["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_timestamp_gives_one_digest_for_two_stores_times_and_users() {
    one_digest(&["--timestamp=1000000000"]);
    // Later than all files, whose own times would show through a mere limit.
    one_digest(&["--timestamp=4000000000"]);
}

#[test]
fn an_epoch_gives_one_digest_for_two_stores_times_and_users() {
    let limited = one_digest(&["--source-date-epoch=1000000000", "--rewrite-timestamp"]);
    // As BuildKit asks for it.
    let output = "--output=type=image,rewrite-timestamp=true";
    assert_eq!(one_digest(&["--source-date-epoch=1000000000", output]), limited);
}

/// Builds as root twice and once as a user, in a store of its own each time.
fn one_digest(options: &[&str]) -> String {
    let mut digests = Vec::new();
    let mut ids = Vec::new();
    for round in 0..2 {
        let davit = Davit::new();
        let context = davit.dir.path().join("context");
        write_context(&context);
        // Without it first: what that leaves must not be taken.
        if round == 1 {
            davit.run(["build", "-q", context.to_str().unwrap()]).ok();
        }
        // One after the other the second time, so that nothing depends on what ended first.
        let jobs = format!("--jobs={}", 2 - round);
        let mut args = vec!["build", "-q", &jobs, "-t", "same", context.to_str().unwrap()];
        args.extend(options);
        ids.push(davit.run(&args).ok());
        let archive = davit.dir.path().join("out.tar");
        davit.run(["save", "-q", "--format=oci-archive", "-o", archive.to_str().unwrap(), "same"]).ok();
        digests.push(manifest_digest(&archive));
        // Another second, for what is kept to the second.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let rootless = Rootless::new();
    let place = rootless.dir.path();
    write_context(&place.join("context"));
    tool("chown", ["-R", "davit-test", place.join("context").to_str().unwrap()]).ok();
    let (context, archive) = (place.join("context"), place.join("out.tar"));
    let mut args = vec!["build", "-q", "-t", "same", context.to_str().unwrap()];
    args.extend(options);
    ids.push(rootless.run(&args).ok());
    rootless.run(&["save", "-q", "--format=oci-archive", "-o", archive.to_str().unwrap(), "same"]).ok();
    digests.push(manifest_digest(&archive));
    assert!(ids.iter().all(|id| *id == ids[0]), "image IDs: {ids:#?}");
    assert!(digests.iter().all(|digest| *digest == digests[0]), "manifests: {digests:#?}");
    digests.swap_remove(0)
}

#[test]
fn an_epoch_alone_fixes_the_times_of_the_config() {
    let davit = Davit::with_busybox();
    let dir = crate::support::context("FROM busybox\nLABEL a=b\nCMD [\"x\"]\n", &[]);
    let build = |variable: &str| {
        let mut command = davit.command();
        command.env("SOURCE_DATE_EPOCH", variable).args(["build", "-q", dir.path().to_str().unwrap()]);
        crate::support::finish(&mut command)
    };
    let first = build("1000000000").ok();
    assert_eq!(
        davit.inspect(&first, "{{.Created}}"),
        davit.inspect(&build("1000000000").ok(), "{{.Created}}")
    );
    assert!(davit.inspect(&first, "{{json .Created}}").contains("2001-09-09T01:46:40Z"));
    assert_ne!(build("1000000001").ok(), first);
}
