//! Builds from text to image.

use crate::harness::{Lab, Options, config, require_root};
use builder::build::{Error, NamedContext};
use std::os::unix::fs::symlink;

#[test]
fn an_image_from_scratch() {
    require_root!();
    let lab = Lab::new();
    lab.write("hello", "hello\n");
    let built = lab.build("FROM scratch\nCOPY hello /a/b/\nENV A=1\nLABEL x=y\nCMD [\"/a/b/hello\"]\n");
    assert_eq!(
        lab.look(&built, "cd $R && find . | sort && cat a/b/hello"),
        ".\n./a\n./a/b\n./a/b/hello\nhello"
    );
    let config = config(&built);
    assert_eq!(config.rootfs.diff_ids.len(), 1);
    assert_eq!(config.config.env[1..], ["A=1"]);
    assert!(config.config.env[0].starts_with("PATH=/usr/local/sbin:"));
    assert_eq!(config.config.labels["x"], "y");
    assert_eq!(config.config.cmd.as_deref().unwrap(), ["/a/b/hello"]);
    assert_eq!(config.created.as_deref(), Some("2001-09-09T01:46:40Z"));
    let history: Vec<_> =
        config.history.iter().map(|entry| (entry.created_by.clone().unwrap(), entry.empty_layer)).collect();
    assert_eq!(
        history,
        [
            ("COPY hello /a/b/ # buildkit".to_owned(), false),
            ("ENV A=1".to_owned(), true),
            ("LABEL x=y".to_owned(), true),
            ("CMD [\"/a/b/hello\"]".to_owned(), true),
        ]
    );
    let record = lab.store.images().get(&built.image_id).unwrap().unwrap();
    assert_eq!(record.layers.len(), 1);
    assert!(record.manifest.is_none());
}

#[test]
fn run_sees_its_environment_and_leaves_no_mount_points() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let text = "FROM busybox\nARG WHO=world\nENV GREETING=hello\nWORKDIR /work\n\
                RUN echo \"$GREETING $WHO\" > out; pwd >> out; echo $PATH >> out\n\
                RUN <<EOF\necho one > two\ncat two\nEOF\n";
    let built = lab.build_with(text, &Options { args: vec![("WHO", "you")], ..Options::default() });
    assert_eq!(
        lab.look(&built, "cat $R/work/out; cat $R/work/two; ls -a $R; ls $R/etc"),
        "hello you\n/work\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\none\n.\n..\nbin\netc\nwork\n\
         group\npasswd"
    );
    assert!(lab.events.output().contains("out one"), "{}", lab.events.output());
    assert!(lab.events.output().contains("[4/4] RUN <<EOF"), "{}", lab.events.output());
    let last = config(&built).history.last().unwrap().created_by.clone().unwrap();
    assert!(last.starts_with("RUN |1 WHO=you /bin/sh -c echo one > two\n"), "{last}");
}

#[test]
fn a_failing_run_says_where_and_why() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let error = lab
        .try_build("FROM busybox AS one\nRUN true\nRUN echo some output; \\\n  exit 3\n", &Options::default())
        .unwrap_err();
    let (exit, lines) = error.step_exit().unwrap();
    assert_eq!(exit.code, 3);
    assert_eq!(lines, ["some output"]);
    let Error::Step { place, .. } = &error else { panic!("{error}") };
    assert_eq!((place.line, place.stage.as_str()), (3, "one"));
    // What was done before is not done again.
    let ran = lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst);
    lab.try_build("FROM busybox AS one\nRUN true\nRUN exit 4\n", &Options::default()).unwrap_err();
    assert_eq!(lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst), ran + 1);
}

#[test]
fn stages_triggers_and_the_entry_point_rule() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("src/a.c", "int main;");
    let base =
        lab.build("FROM busybox\nONBUILD COPY src /src\nONBUILD RUN echo $0 > /triggered\nCMD [\"base\"]\n");
    lab.add_image("base", &base);
    let text = "FROM base AS build\nRUN cp /src/a.c /out.c\nFROM busybox AS unused\nRUN exit 1\n\
                FROM scratch\nCOPY --from=build /out.c /triggered /\nCOPY --from=0 /src/ /src/\n\
                ENTRYPOINT [\"/x\"]\n";
    let built = lab.build(text);
    assert_eq!(lab.look(&built, "cd $R && find . -type f | sort"), "./out.c\n./src/a.c\n./triggered");
    // ENTRYPOINT takes the inherited CMD away, unless the stage sets its own.
    let config_of = |text: &str| config(&lab.build(text)).config;
    assert_eq!(config_of("FROM busybox\nENTRYPOINT [\"/x\"]\n").cmd, None);
    assert_eq!(config_of("FROM busybox\nCMD [\"y\"]\nENTRYPOINT [\"/x\"]\n").cmd.unwrap(), ["y"]);
    assert_eq!(config_of("FROM busybox\n").cmd.unwrap(), ["sh"]);
    let config = config_of("FROM busybox\nSHELL [\"/bin/ash\", \"-c\"]\nCMD echo x\n");
    assert_eq!(config.cmd.unwrap(), ["/bin/ash", "-c", "echo x"]);
}

#[test]
fn users_and_owners() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("f", "x");
    let text = "FROM busybox\nCOPY --chown=app f /a/f\nCOPY --chown=app:web --chmod=u=rwX,go= f /b\n\
                COPY --chown=5 f /c\nUSER app\nWORKDIR /w/d\nRUN id -u > id\nCOPY f /root-owned\n";
    let built = lab.build(text);
    assert_eq!(
        lab.look(&built, "cd $R && stat -c '%n %u:%g %a' a a/f b c w w/d root-owned && cat w/d/id"),
        "a 1000:1001 755\na/f 1000:1001 644\nb 1000:33 600\nc 5:5 644\nw 1000:1001 755\nw/d 1000:1001 755\n\
         root-owned 0:0 644\n1000"
    );
    let error = lab.try_build("FROM busybox\nCOPY --chown=nobody f /a\n", &Options::default()).unwrap_err();
    assert!(format!("{:?}", error).contains("UnknownUser"), "{error:?}");
}

#[test]
fn mounts_of_steps() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("dir/file", "from context");
    lab.write("dir/hidden", "hidden");
    let text = "FROM busybox AS other\nRUN echo other > /o\nFROM busybox\n\
        RUN --mount=type=bind,source=dir,target=/ctx ls /ctx > /list; cat /ctx/file > /copy\n\
        RUN --mount=type=bind,from=other,source=/o,target=/o cat /o >> /copy\n\
        RUN --mount=type=bind,from=other,target=/m,rw echo lost > /m/lost && ls /m | grep lost\n\
        RUN --mount=type=cache,id=c,target=/c echo x >> /c/log; wc -l < /c/log > /lines\n\
        RUN --mount=type=cache,id=c,target=/c,sharing=locked echo y >> /c/log; wc -l < /c/log >> /lines\n\
        RUN --mount=type=tmpfs,target=/t touch /t/x\n\
        RUN --mount=type=secret,id=s cat /run/secrets/s > /secret\n\
        RUN --mount=type=secret,id=s,env=S echo $S > /secret-env\n";
    let options = Options { ignore: Some("**/hidden\n"), secrets: vec![("s", "shh")], ..Options::default() };
    let built = lab.build_with(text, &options);
    assert_eq!(
        lab.look(&built, "cd $R && cat list copy lines secret secret-env && ls"),
        "file\nfrom contextother\n1\n2\nshhshh\nbin\ncopy\netc\nlines\nlist\nsecret\nsecret-env"
    );
    let error = lab
        .try_build("FROM busybox\nRUN --mount=type=secret,id=none,required=true true\n", &Options::default())
        .unwrap_err();
    assert!(format!("{error:?}").contains("MissingSecret"), "{error:?}");
}

#[test]
fn a_script_of_its_own() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let built = lab.build("FROM busybox\nRUN <<EOF\n#!/bin/cat\nshown\nEOF\n");
    assert!(lab.events.output().contains("out shown"), "{}", lab.events.output());
    assert_eq!(lab.look(&built, "ls $R"), "bin\netc");
}

#[test]
fn add_unpacks_archives_by_content() {
    require_root!();
    let lab = Lab::new();
    lab.write("in/a/b", "archived");
    let script =
        "cd in && tar --owner=7 --group=8 -czf ../weird.name a && cd .. && rm -r in && echo plain > x.tar.gz";
    let status = std::process::Command::new("sh").arg("-c").arg(script).current_dir(lab.context()).status();
    assert!(status.unwrap().success());
    let built = lab.build(
        "FROM scratch\nADD weird.name /d\nADD x.tar.gz /\nADD --unpack=false weird.name /kept\n\
         ADD --chown=1:2 weird.name /owned/\nADD https://example.com/dir/page?q=1 /\n",
    );
    assert_eq!(
        lab.look(&built, "cd $R && find . -type f | sort | xargs stat -c '%n %u:%g %a' && cat d/a/b page"),
        "./d/a/b 7:8 644\n./kept 0:0 644\n./owned/a/b 1:2 644\n./page 0:0 600\n./x.tar.gz 0:0 644\n\
         archivedhttps://example.com/dir/page?q=1"
    );
}

#[test]
fn contexts_are_never_left() {
    require_root!();
    let lab = Lab::new();
    lab.write("inside", "inside");
    symlink("/etc/hostname", lab.context().join("absolute")).unwrap();
    symlink("../../../../../etc/hostname", lab.context().join("relative")).unwrap();
    for source in ["absolute", "relative", "/etc/hostname", "../../etc/hostname"] {
        let error =
            lab.try_build(&format!("FROM scratch\nCOPY {source} /x\n"), &Options::default()).unwrap_err();
        assert!(format!("{error:?}").contains("NotFound"), "{source}: {error:?}");
    }
    let built = lab.build("FROM scratch\nCOPY ../../inside /x\n");
    assert_eq!(lab.look(&built, "cat $R/x"), "inside");
    // An ignored file is not there, also through a link.
    symlink("inside", lab.context().join("alias")).unwrap();
    let options = Options { ignore: Some("inside\n"), ..Options::default() };
    for source in ["inside", "alias"] {
        let error = lab.try_build(&format!("FROM scratch\nCOPY {source} /x\n"), &options).unwrap_err();
        assert!(format!("{error:?}").contains("NotFound"), "{source}: {error:?}");
    }
}

#[test]
fn named_contexts_win_over_stages_and_images() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("f"), "named").unwrap();
    let options = Options {
        named: vec![
            ("busybox", NamedContext::Directory(other.path().to_owned())),
            ("img", NamedContext::Image("busybox".into())),
        ],
        ..Options::default()
    };
    let built = lab.build_with("FROM img\nCOPY --from=busybox f /f\nRUN test -f /f\n", &options);
    assert_eq!(lab.look(&built, "cat $R/f"), "named");
}

#[test]
fn what_is_not_supported_is_refused_before_anything_runs() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    for (line, what) in [
        ("RUN --security=insecure true", "insecure"),
        ("RUN --device=vendor.com/x=y,required true", "vendor.com/x=y"),
        ("ADD https://example.com/x.git?mtime=now /x", "mtime"),
        ("COPY https://example.com/x /x", "ADD"),
        ("COPY --from=3 /x /x", "no stage 3"),
    ] {
        let ran = lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst);
        let error =
            lab.try_build(&format!("FROM busybox\nRUN true\n{line}\n"), &Options::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(what) && text.contains('3'), "{line}: {text}");
        assert_eq!(lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst), ran, "{line}");
    }
}

#[test]
fn arguments_that_the_builder_reads() {
    require_root!();
    let lab = Lab::new();
    lab.write("f", "x");
    let text = "FROM scratch\nARG SOURCE_DATE_EPOCH\nCOPY f /f\nLABEL epoch=$SOURCE_DATE_EPOCH\nCMD text\n";
    let args = |args: Vec<(&'static str, &'static str)>| Options { args, now: true, ..Options::default() };
    let built = lab.build_with(text, &args(vec![("SOURCE_DATE_EPOCH", "1000000000")]));
    assert_eq!(config(&built).created.as_deref(), Some("2001-09-09T01:46:40Z"));
    assert_eq!(config(&built).config.labels["epoch"], "1000000000");
    assert!(
        built.warnings.iter().any(|warning| warning.contains("JSONArgsRecommended")),
        "{:?}",
        built.warnings
    );
    let error = lab.try_build(text, &args(vec![("SOURCE_DATE_EPOCH", "yesterday")])).unwrap_err();
    assert!(error.to_string().contains("is not a number of seconds"), "{error}");
    let built = lab.build_with(text, &args(vec![("BUILDKIT_DOCKERFILE_CHECK", "skip=all")]));
    assert!(built.warnings.is_empty(), "{:?}", built.warnings);
    let strict = args(vec![("BUILDKIT_DOCKERFILE_CHECK", "error=true")]);
    assert!(lab.try_build(text, &strict).is_err());
}
