//! `davit build`: real Containerfiles, real steps.

use std::time::Instant;

use crate::support::{Davit, busybox_tar, context, debian_tar, scratch};

/// Files of an image as `path mode owner content-or-link` lines.
fn tree(davit: &Davit, image: &str, place: &str) -> String {
    davit.sh(image, &format!("cd {place} && find . | sort | while read -r f; do [ -L \"$f\" ] && echo \"$f -> $(readlink $f)\" || echo \"$f $(stat -c '%a %u:%g' $f)$([ -f $f ] && echo \" $(cat $f)\")\"; done"))
}

#[test]
fn a_debian_image_in_several_stages_and_apt() {
    let davit = Davit::new();
    let dir = scratch();
    std::fs::hard_link(debian_tar(), dir.path().join("rootfs.tar"))
        .or_else(|_| std::fs::copy(debian_tar(), dir.path().join("rootfs.tar")).map(drop))
        .unwrap();
    std::fs::write(
        dir.path().join("Containerfile"),
        "FROM scratch AS debian\nADD rootfs.tar /\nENV DEBIAN_FRONTEND=noninteractive\n\
         FROM debian AS tools\nRUN apt-get -q update && apt-get -qy install --no-install-recommends hello\n\
         FROM debian\nCOPY --from=tools /usr/bin/hello /usr/local/bin/greet\nRUN greet > /greeting\nCMD [\"greet\", \"-g\", \"hi there\"]\n",
    )
    .unwrap();
    let mut args = vec![
        "build".to_owned(),
        "--progress=plain".into(),
        "-t".into(),
        "app".into(),
        "--network=host".into(),
    ];
    for path in ["/etc/apt", "/usr/share/keyrings", "/etc/ssl/certs"] {
        if std::path::Path::new(path).exists() {
            args.extend(["-v".into(), format!("{path}:{path}:ro")]);
        }
    }
    args.push(dir.path().to_str().unwrap().to_owned());
    let first = davit.run(&args);
    first.ok();
    assert_eq!(davit.run(["run", "--rm", "app"]).ok(), "hi there");
    assert_eq!(davit.run(["run", "--rm", "app", "cat", "/greeting"]).ok(), "Hello, world!");
    assert_eq!(
        davit
            .run([
                "run",
                "--rm",
                "app",
                "sh",
                "-c",
                "ls /usr/bin/hello 2>&1 || true; cat /etc/resolv.conf | wc -l"
            ])
            .code,
        0
    );
    let again = davit.run(&args);
    again.ok();
    assert!(!again.stderr.contains("Hello, world!"), "nothing runs again: {}", again.stderr);
    assert_eq!(
        davit.run(["images", "-q", "--no-trunc", "app"]).ok(),
        again
            .stdout
            .lines()
            .last()
            .map(|id| if id.starts_with("sha256:") { id.to_owned() } else { format!("sha256:{id}") })
            .unwrap()
    );
}

#[test]
fn run_forms_environment_and_users() {
    let davit = Davit::with_busybox();
    davit
        .build(
            "t",
            "ARG BASE=busybox\nFROM ${BASE}\nARG WHO=world\nENV GREETING=\"hello $WHO\" EMPTY= \nRUN echo \"$GREETING\" > /shell\nRUN [\"sh\", \"-c\", \"echo exec > /exec\"]\n\
             RUN <<EOF\necho one > /here\necho two >> /here\nEOF\nRUN <<'X' cat > /quoted\n$GREETING\nX\nUSER ann:staff\nRUN id -u > /tmp/user; id -g >> /tmp/user\nUSER 0\nWORKDIR /work\nWORKDIR sub\nRUN pwd > /cwd\n\
             SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 > /sh\nARG N=${WHO:-x}-${MISSING:-y}${WHO:+z}\nRUN echo $N > /n\n",
            &[],
        )
        .ok();
    assert_eq!(
        davit.sh("t", "cat /shell /exec /here /quoted /tmp/user /cwd /n"),
        "hello world\nexec\none\ntwo\n$GREETING\n1000\n50\n/work/sub\nworld-yz"
    );
    assert_eq!(davit.sh("t", "pwd; echo $GREETING"), "/work/sub\nhello world");
    let dir = context("FROM busybox\nARG V=default\nRUN echo $V > /v\n", &[]);
    davit.run(["build", "-q", "-t", "u", "--build-arg", "V=given", dir.path().to_str().unwrap()]).ok();
    assert_eq!(davit.sh("u", "cat /v"), "given");
}

#[test]
fn metadata_reaches_the_config() {
    let davit = Davit::with_busybox();
    davit
        .build(
            "m",
            "FROM busybox\nLABEL a=1 b=\"two words\"\nEXPOSE 80 443/tcp 53/udp\nVOLUME /data [\"/x\"]\nENTRYPOINT [\"echo\", \"e\"]\nCMD [\"c\"]\nSTOPSIGNAL SIGINT\nUSER ann\nWORKDIR /tmp\n".replace(" [\"/x\"]", "").as_str(),
            &[],
        )
        .ok();
    let get = |template: &str| davit.inspect("m", template);
    assert_eq!(get("{{index .Config.Labels \"b\"}}"), "two words");
    assert_eq!(get("{{json .Config.ExposedPorts}}"), "{\"443/tcp\":{},\"53/udp\":{},\"80/tcp\":{}}");
    assert_eq!(get("{{json .Config.Volumes}}"), "{\"/data\":{}}");
    assert_eq!(get("{{json .Config.Entrypoint}} {{json .Config.Cmd}}"), "[\"echo\",\"e\"] [\"c\"]");
    assert_eq!(get("{{.Config.StopSignal}} {{.Config.User}} {{.Config.WorkingDir}}"), "SIGINT ann /tmp");
    assert_eq!(davit.run(["run", "--rm", "m"]).ok(), "e c");
    assert_eq!(davit.run(["run", "--rm", "m", "other"]).ok(), "e other");
    let history = davit.run(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "m"]).ok();
    assert!(history.contains("STOPSIGNAL SIGINT") && history.contains("EXPOSE"), "{history}");
}

#[test]
fn copy_takes_files_directories_globs_and_stages() {
    let davit = Davit::with_busybox();
    let dir = context(
        "FROM busybox AS one\nRUN mkdir /out && echo made > /out/m && ln -s m /out/l\n\
         FROM busybox\nCOPY a.txt /t/\nCOPY d /t/d/\nCOPY *.md /t/md/\nCOPY a.txt /t/renamed\nCOPY --from=one /out /t/out\nCOPY --chown=ann:staff --chmod=600 a.txt /t/owned\n\
         COPY --chown=7 a.txt /t/seven\nWORKDIR /t/w\nCOPY a.txt .\nADD in.tar /t/unpacked\nADD a.txt /t/added\nCOPY <<EOF /t/here\ntext $HOME\nEOF\n",
        &[
            ("a.txt", "A"),
            ("d/x", "X"),
            ("d/e/y", "Y"),
            ("r.md", "R"),
            ("s.md", "S"),
            ("skip/secret", "no"),
            (".dockerignore", "skip\n*.log\n!keep.log\n"),
        ],
    );
    let tar = crate::support::tool(
        "sh",
        [
            "-c",
            &format!(
                "cd {} && mkdir z && echo zed > z/zed && chmod 640 z/zed && tar --numeric-owner --owner=3 --group=4 -cf in.tar z",
                dir.path().display()
            ),
        ],
    );
    tar.ok();
    davit.run(["build", "--progress=plain", "-t", "c", dir.path().to_str().unwrap()]).ok();
    let tree = tree(&davit, "c", "/t");
    for line in [
        "./a.txt 644 0:0 A",
        "./d/e/y 644 0:0 Y",
        "./md/r.md 644 0:0 R",
        "./md/s.md 644 0:0 S",
        "./renamed 644 0:0 A",
        "./out/l -> m",
        "./out/m 644 0:0 made",
        "./owned 600 1000:50 A",
        "./seven 644 7:7 A",
        "./w/a.txt 644 0:0 A",
        "./unpacked/z/zed 640 3:4 zed",
        "./added 644 0:0 A",
        "./here 644 0:0 text",
    ] {
        assert!(tree.lines().any(|found| found.trim_end() == line), "{line} is missing in\n{tree}");
    }
    let ignored =
        context("FROM busybox\nCOPY skip /skip\n", &[("skip/secret", "no"), (".dockerignore", "skip\n")]);
    assert_ne!(
        davit.run(["build", ignored.path().to_str().unwrap()]).code,
        0,
        "what is ignored cannot be copied"
    );
}

#[test]
fn the_second_build_runs_nothing_and_a_change_runs_what_depends_on_it() {
    let davit = Davit::with_busybox();
    let dir = context(
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\nCOPY f /f\nRUN cat /proc/sys/kernel/random/uuid > /second\n",
        &[("f", "1")],
    );
    let build = || davit.run(["build", "-q", "-t", "x", dir.path().to_str().unwrap()]).ok();
    let times = || davit.sh("x", "cat /first /second");
    let (id, before) = (build(), times());
    assert_eq!(build(), id);
    // A new time alone is no change.
    crate::support::tool("touch", [dir.path().join("f")]).ok();
    assert_eq!((build(), times()), (id.clone(), before.clone()));
    std::fs::write(dir.path().join("f"), "2").unwrap();
    assert_ne!(build(), id);
    let after = times();
    assert_eq!(after.lines().next(), before.lines().next());
    assert_ne!(after.lines().nth(1), before.lines().nth(1));
    assert_ne!(davit.run(["build", "-q", "--no-cache", "-t", "x", dir.path().to_str().unwrap()]).ok(), id);
    assert_ne!(times().lines().next(), before.lines().next());
}

#[test]
fn independent_stages_run_in_parallel() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox AS a\nRUN sleep 2; touch /a\nFROM busybox AS b\nRUN sleep 2; touch /b\nFROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let start = Instant::now();
    davit.build("p", text, &[]).ok();
    // Not a measurement: one after the other cannot take less than four seconds.
    assert!(start.elapsed().as_secs_f64() < 4.0, "{:?}", start.elapsed());
    assert_eq!(davit.sh("p", "ls /a /b"), "/a\n/b");
}

#[test]
fn targets_tags_and_ids() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox AS first\nRUN echo 1 > /n\nFROM first AS second\nRUN echo 2 > /n\n", &[]);
    let path = dir.path().to_str().unwrap();
    let iid = dir.path().join("iid");
    let id = davit
        .run([
            "build",
            "-q",
            "--target",
            "first",
            "-t",
            "n:1",
            "-t",
            "n:one",
            "--iidfile",
            iid.to_str().unwrap(),
            path,
        ])
        .ok();
    assert_eq!(davit.sh("n:one", "cat /n"), "1");
    assert_eq!(
        std::fs::read_to_string(iid).unwrap().trim_start_matches("sha256:"),
        id.trim_start_matches("sha256:")
    );
    std::fs::write(dir.path().join("Other"), "FROM n:1\nRUN echo other > /n\n").unwrap();
    davit.run(["build", "-q", "-f", dir.path().join("Other").to_str().unwrap(), "-t", "o", path]).ok();
    assert_eq!(davit.sh("o", "cat /n"), "other");
    let done = davit.run_with_input(
        ["build", "-q", "-t", "stdin", "-f", "-", path],
        b"FROM busybox\nRUN echo piped > /n\n",
    );
    done.ok();
    assert_eq!(davit.sh("stdin", "cat /n"), "piped");
}

#[test]
fn removed_files_stay_removed_and_directories_are_replaced() {
    let davit = Davit::with_busybox();
    davit
        .build(
            "w",
            "FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/one && echo 2 > /d/e/two\nRUN rm -r /d && mkdir /d && echo 3 > /d/three\nRUN rm /etc/group && ln -s passwd /etc/group\nRUN rm -r /home && echo file > /home\n",
            &[],
        )
        .ok();
    let files = "find /d | sort; readlink /etc/group; cat /home";
    let expected = "/d\n/d/three\npasswd\nfile";
    assert_eq!(davit.sh("w", files), expected);
    // The same after the layers went through archives.
    let dir = scratch();
    let tar = dir.path().join("w.tar");
    davit.run(["save", "-q", "--format=oci-archive", "-o", tar.to_str().unwrap(), "w"]).ok();
    let other = Davit::new();
    other.run(["load", "-q", "-i", tar.to_str().unwrap()]).ok();
    assert_eq!(other.sh("w", files), expected);
}

#[test]
fn a_failing_step_names_itself_and_leaves_nothing() {
    let davit = Davit::with_busybox();
    let done = davit.build("bad", "FROM busybox\nRUN echo before\nRUN echo telling >&2; exit 9\n", &[]);
    assert_eq!(done.code, 9, "podman build ends with the step's status: {done:#?}");
    for text in ["Containerfile:3", "telling", "exit 9"] {
        assert!(done.stderr.contains(text), "{text:?} is missing: {done:#?}");
    }
    assert_eq!(davit.run(["images", "-q", "bad"]).ok(), "");
}

#[test]
fn volumes_and_networks_of_steps() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    std::fs::write(dir.path().join("f"), "from the host\n").unwrap();
    let files = context("FROM busybox\nRUN cat /host/f > /copied; ls /sys/class/net > /net\n", &[]);
    davit
        .run([
            "build",
            "-q",
            "--network=none",
            "-v",
            &format!("{}:/host:ro", dir.path().display()),
            "-t",
            "v",
            files.path().to_str().unwrap(),
        ])
        .ok();
    assert_eq!(davit.sh("v", "cat /copied /net; ls /host | wc -l"), "from the host\nlo\n0");
}

#[test]
fn import_makes_an_image_of_a_tar() {
    let davit = Davit::new();
    let id = davit
        .run([
            "import",
            "-q",
            "-c",
            "ENV A=b",
            "-c",
            "ENTRYPOINT [\"echo\"]",
            busybox_tar().to_str().unwrap(),
            "imported:1",
        ])
        .ok();
    assert!(id.trim_start_matches("sha256:").len() == 64, "{id}");
    assert_eq!(davit.run(["run", "--rm", "imported:1", "hi"]).ok(), "hi");
    let bytes = std::fs::read(busybox_tar()).unwrap();
    davit.run_with_input(["import", "-q", "-", "piped"], &bytes).ok();
    assert_eq!(davit.sh("piped", "echo ok"), "ok");
}
