//! ADD from the network, `COPY --link`, and mounts beyond the plain ones.

use crate::harness::{Lab, Options, config, require_root};
use builder::build::Error;
use std::os::unix::net::UnixListener;

fn fails(result: Result<builder::build::Built, Error>, text: &str) {
    let error = result.expect_err(text);
    let mut chain = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        chain.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    if let Error::Containerfile(report) = &error {
        chain.push_str(&report.render(false));
    }
    assert!(chain.contains(text), "{chain}");
}

#[test]
fn a_download_is_asked_for_once_and_fetched_when_it_is_needed() {
    require_root!();
    let lab = Lab::new();
    let text = "FROM scratch\nADD http://x/dir/name?q=1 /d/\nADD http://x/other /f\n";
    let built = lab.build(text);
    let list = "cd $R && stat -c '%n %a %Y %s' d/name f && cat d/name";
    assert_eq!(
        lab.look(&built, list),
        "d/name 600 1234567890 21\nf 600 1234567890 14\nhttp://x/dir/name?q=1"
    );
    assert_eq!(lab.images.asked.lock().unwrap().len(), 2);
    // Nothing changed: asked with what is known, and not fetched.
    let again = lab.build(text);
    assert_eq!(again.image_id, built.image_id);
    let asked = lab.images.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    assert!(asked[2..].iter().all(|(_, known)| known.is_some()), "{asked:?}");
    // The step has to run though the file did not change: now its bytes are needed.
    let moved = lab.build("FROM scratch\nADD http://x/other /elsewhere\n");
    assert_eq!(lab.look(&moved, "cat $R/elsewhere"), "http://x/other");
    assert_eq!(lab.images.asked.lock().unwrap().len(), 6);
}

#[test]
fn checksums_pin_a_download() {
    require_root!();
    let lab = Lab::new();
    let digest = oci::Digest::of(b"http://x/f");
    let text = format!("FROM scratch\nADD --checksum={digest} http://x/f /f\n");
    lab.build(&text);
    lab.build(&text);
    assert_eq!(lab.images.asked.lock().unwrap().len(), 1, "a pinned file is not asked for again");
    let wrong = oci::Digest::of(b"other");
    let text = format!("FROM scratch\nADD --checksum={wrong} http://x/f /f\n");
    fails(lab.try_build(&text, &Options::default()), "expected sha256:");
    let text = format!("FROM scratch\nADD --checksum={wrong} http://x/f http://x/g /f/\n");
    fails(lab.try_build(&text, &Options::default()), "--checksum is for one download");
    lab.write("f", "");
    let text = format!("FROM scratch\nADD --checksum={wrong} f /f\n");
    fails(lab.try_build(&text, &Options::default()), "--checksum is for one download");
}

#[test]
fn downloads_are_unpacked_when_asked() {
    require_root!();
    let lab = Lab::new();
    let built = lab.build(
        "FROM scratch\nADD http://x/tar/a.tar /packed\nADD --unpack=true --chown=3:4 http://x/tar/a.tar /open\n",
    );
    assert_eq!(
        lab.look(&built, "cd $R && stat -c '%F %a %u:%g' packed open/in/side && cat open/in/side"),
        "regular file 600 0:0\nregular file 640 3:4\na.tar"
    );
}

#[test]
fn a_repository_is_known_by_its_commit() {
    require_root!();
    let lab = Lab::new();
    let text = "FROM scratch\nADD git://h/r.git#main /src\n";
    let built = lab.build(text);
    assert_eq!(lab.look(&built, "cd $R/src && find . -type f | sort"), "./commit\n./sub/file");
    let again = lab.build(text);
    assert_eq!(again.image_id, built.image_id);
    assert_eq!(lab.images.asked.lock().unwrap().len(), 1, "a known commit is not fetched");
    let built = lab.build("FROM scratch\nADD --keep-git-dir=true git@h:r#main:sub /src\n");
    assert_eq!(lab.look(&built, "cd $R/src && find . -type f"), "./file");
    fails(
        lab.try_build("FROM scratch\nADD git://h/r.git?subdir=none /src\n", &Options::default()),
        "none: not found",
    );
    fails(
        lab.try_build("FROM scratch\nADD --checksum=0123456 git://h/r.git /src\n", &Options::default()),
        "expected commit 0123456",
    );
    fails(lab.try_build("FROM scratch\nCOPY git://h/r.git /src\n", &Options::default()), "use ADD");
}

#[test]
fn linked_layers_survive_another_base() {
    require_root!();
    let lab = Lab::new();
    lab.write("one", "1");
    lab.write("dir/two", "2");
    lab.write("a", "a");
    lab.write("b", "b");
    let text = |base: &str| {
        format!(
            "FROM scratch\nCOPY {base} /base\nCOPY {base} /x/there\nCOPY --link one /x/\nCOPY --link --chown=5:6 dir /x/base/\n"
        )
    };
    let first = lab.build(&text("a"));
    let list = "cd $R && find . -type f -printf '%p %U:%G %n\n' | sort && cat base";
    assert_eq!(lab.look(&first, list), "./base 0:0 1\n./x/base/two 5:6 2\n./x/one 0:0 2\n./x/there 0:0 1\na");
    let second = lab.build(&text("b"));
    assert_eq!(lab.look(&second, "cat $R/base $R/x/one"), "b1");
    let layers = |built: &builder::build::Built| -> Vec<_> {
        built.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    };
    let (first, second) = (layers(&first), layers(&second));
    assert_ne!(first[..2], second[..2]);
    assert_eq!(first[2..], second[2..], "the linked layers are the same");
    assert!(lab.events.output().contains("Cached"), "and were not made again: {}", lab.events.output());
}

#[test]
fn linked_layers_see_no_links_of_the_base() {
    require_root!();
    for driver in [storage::Driver::Overlay, storage::Driver::Vfs] {
        let lab = Lab::with_driver(driver);
        lab.add_busybox();
        lab.write("one", "1");
        let built = lab.build(
            "FROM busybox\nRUN mkdir /real && ln -s /real /d && echo old > /file\nCOPY --link one /d/\nCOPY --link one /file/\n",
        );
        assert_eq!(
            lab.look(&built, "cd $R && stat -c '%n %F' d file && cat d/one file/one && ls real"),
            "d directory\nfile directory\n11"
        );
        // By --chmod, or a name that has to be looked up, it is a copy like others.
        let built = lab.build(
            "FROM busybox\nRUN mkdir /real && ln -s /real /d\nCOPY --link --chown=app one /d/\nCOPY --link --chmod=600 one /d/m\n",
        );
        assert_eq!(
            lab.look(&built, "cd $R/real && stat -c '%n %u:%g %a' one m"),
            "one 1000:1001 644\nm 0:0 600"
        );
    }
}

#[test]
fn caches_begin_with_what_from_has() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let text = "FROM busybox AS seed\nRUN mkdir -p /s/d && echo seeded > /s/d/f && chown 7:8 /s/d/f\n\
                FROM busybox\nRUN --mount=type=cache,target=/c,from=seed,source=/s,mode=0711,uid=3 \\\n\
                stat -c '%a %u' /c > /seen && stat -c '%u:%g' /c/d/f >> /seen && cat /c/d/f >> /seen && echo more >> /c/d/f\n";
    let built = lab.build(text);
    assert_eq!(lab.look(&built, "cat $R/seen"), "711 3\n7:8\nseeded");
    let again = lab.build_with(text, &Options { no_cache: true, ..Options::default() });
    assert_eq!(lab.look(&again, "cat $R/seen"), "711 3\n7:8\nseeded\nmore");
}

#[test]
fn an_agent_is_there_for_one_step() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let socket = lab.context().join("agent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let text = "FROM busybox\nRUN --mount=type=ssh --mount=type=ssh,id=other,target=/o \\\n\
                echo $SSH_AUTH_SOCK > /seen; stat -c '%F %a' $SSH_AUTH_SOCK >> /seen; ls /o >> /seen\n\
                RUN --mount=type=ssh,mode=0666,uid=5,target=/a stat -c '%a %u' $SSH_AUTH_SOCK > /two; test -e /run/buildkit || echo gone >> /two\n";
    let with_agent =
        Options { ssh: vec![("default", socket.clone()), ("other", socket)], ..Options::default() };
    let built = lab.build_with(text, &with_agent);
    assert_eq!(
        lab.look(&built, "cat $R/seen $R/two; ls $R/run 2>/dev/null || true"),
        "/run/buildkit/ssh_agent.0\nsocket 600\n/o\n666 5\ngone"
    );
    // Without one the step runs without, unless it is required.
    let built = lab.build_with(
        "FROM busybox\nRUN --mount=type=ssh echo \"[$SSH_AUTH_SOCK]\" > /seen\n",
        &Options { no_cache: true, ..Options::default() },
    );
    assert_eq!(lab.look(&built, "cat $R/seen"), "[]");
    fails(
        lab.try_build("FROM busybox\nRUN --mount=type=ssh,required true\n", &Options::default()),
        "ssh agent \"default\" is required",
    );
}

#[test]
fn mounts_can_belong_to_the_steps_user() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("in/file", "text");
    let built = lab.build(
        "FROM busybox\nRUN mkdir /out && chown app /out\nUSER app\n\
         RUN --mount=source=in,target=/m,U --mount=type=cache,target=/c,U=true \\\n\
         stat -c '%n %u:%g' /m /m/file /c > /out/seen; echo new > /c/x\n",
    );
    assert_eq!(lab.look(&built, "cat $R/out/seen"), "/m 1000:1001\n/m/file 1000:1001\n/c 1000:1001");
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(lab.context().join("in/file")).unwrap());
    assert_eq!(owner, 0, "the user's own file stays as it is");
}

#[test]
fn what_a_build_must_allow() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let insecure = "FROM busybox\nRUN --security=insecure true\n";
    fails(lab.try_build(insecure, &Options::default()), "build with --allow security.insecure");
    lab.build_with(insecure, &Options { allow: vec!["security.insecure"], ..Options::default() });
    let device = "FROM busybox\nRUN --device=/dev/null true\n";
    fails(lab.try_build(device, &Options::default()), "build with --allow device");
    lab.build_with(device, &Options { allow: vec!["device"], ..Options::default() });
    lab.build("FROM busybox\nRUN --device=vendor.example/gpu=all true\n");
    let required = "FROM busybox\nRUN --device=vendor.example/gpu=all,required true\n";
    fails(lab.try_build(required, &Options::default()), "`vendor.example/gpu=all` is not known");
}

#[test]
fn options_of_mounts_are_known_or_refused_by_name() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let built = lab.build(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700,nosuid,noexec \\\n\
         --mount=source=.,target=/b,z,relabel=private,bind-propagation=rslave,bind-nonrecursive,nodev true\n",
    );
    assert_eq!(
        config(&built).history.last().unwrap().created_by.as_deref(),
        Some("RUN /bin/sh -c true # buildkit")
    );
    for (mount, text) in [
        ("type=cache,target=/b,no-dereference", "`no-dereference` is no option of this type"),
        ("source=.,target=/b,tmpfs-mode=0700", "`tmpfs-mode` is no option of this type"),
        ("type=tmpfs,target=/b,tmpfs-mode=9", "needs an octal mode"),
        ("source=.,target=/b,bind-propagation=up", "no propagation of mounts"),
        ("type=secret,id=x,U", "`u` is no option of this type"),
    ] {
        fails(lab.try_build(&format!("FROM busybox\nRUN --mount={mount} true\n"), &Options::default()), text);
    }
}
