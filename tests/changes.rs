//! `commit`, `diff`, `export`: what a container changed.

use crate::support::{Davit, scratch, tool};

const CHANGE: &str = "echo hi > /new; mkdir -p /d/e; echo x > /d/e/f; rm /bin/wget; echo ann >> /etc/group; \
                      rm -r /home; mkdir /home; touch /home/h; chmod 4755 /new; ln /new /d/hard";

#[test]
fn diff_names_what_changed_and_leaves_the_runtimes_files_out() {
    let davit = Davit::with_busybox();
    davit.run(["run", "--name", "c", "busybox", "sh", "-c", CHANGE]).ok();
    // as Podman 4.3 prints it, and in its order
    let wanted = "C /bin\nD /bin/wget\nA /d\nA /d/e\nA /d/e/f\nA /d/hard\nC /etc\nC /etc/group\nC /home\nA /home/h\nA /new";
    assert_eq!(davit.run(["diff", "c"]).ok(), wanted);
    assert_eq!(davit.run(["container", "diff", "c"]).ok(), wanted);
    assert_eq!(davit.run(["diff", "c", "busybox"]).ok(), wanted_with_stubs(wanted));
    let json: serde_json::Value =
        serde_json::from_str(&davit.run(["diff", "--format", "json", "c"]).ok()).unwrap();
    assert_eq!(json["deleted"], serde_json::json!(["/bin/wget"]));
    davit.run(["run", "--name", "idle", "busybox", "true"]).ok();
    assert_eq!(davit.run(["diff", "idle"]).ok(), "");
    davit.run(["diff", "missing"]).fails(125, "missing");
    davit.run(["container", "diff", "busybox"]).fails(125, "no such container: busybox");
    assert!(davit.run(["image", "diff", "busybox"]).ok().contains("A /bin/busybox"));
    davit.run(["diff", "--format", "{{.}}", "c"]).fails(125, "json");
}

/// Whole trees are compared with what the runtime left in them.
fn wanted_with_stubs(wanted: &str) -> String {
    let mut lines: Vec<&str> = wanted.lines().collect();
    lines.extend(["A /etc/hostname", "A /etc/hosts", "A /etc/mtab", "A /run", "A /run/.containerenv"]);
    lines.sort_by_key(|line| line[2..].to_owned());
    lines.join("\n")
}

#[test]
fn a_committed_container_is_an_image_like_it() {
    let davit = Davit::with_busybox();
    let run =
        ["run", "--name", "c", "-e", "A=b", "-w", "/tmp", "-l", "k=v", "-u", "0:50", "busybox", "sh", "-c"];
    davit.run(run.into_iter().chain([CHANGE])).ok();
    let dir = scratch();
    let iidfile = dir.path().join("iid");
    let id = davit
        .run([
            "commit",
            "-q",
            "-a",
            "Ann",
            "-m",
            "why",
            "-c",
            "CMD [\"cat\",\"/new\"]",
            "-c",
            "ENV C=d",
            "--iidfile",
            iidfile.to_str().unwrap(),
            "c",
            "made:1",
        ])
        .ok();
    assert_eq!(std::fs::read_to_string(&iidfile).unwrap(), format!("sha256:{id}"));
    assert_eq!(davit.inspect("made:1", "{{.Id}}"), id);
    let config = "{{.Author}} {{.Comment}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.Labels.k}} {{json .Config.Cmd}} {{json .Config.Env}} {{len .RootFS.Layers}}";
    assert_eq!(davit.inspect("made:1", config), r#"Ann why 0:50 /tmp v ["cat","/new"] ["A=b","C=d"] 2"#);
    assert_eq!(davit.run(["run", "--rm", "made:1"]).ok(), "hi");
    assert_eq!(
        davit.sh("made:1", "cat /d/e/f; ls /bin/wget /home /run /.dockerenv 2>&1 | grep -v run; stat -c '%a %h' /new; tail -1 /etc/group; echo $A$C"),
        "x\nls: /bin/wget: No such file or directory\nls: /.dockerenv: No such file or directory\n/home:\nh\n\n4755 2\nann\nbd"
    );
    // what the image changes is what the container had changed
    assert_eq!(davit.run(["diff", "made:1"]).ok(), davit.run(["diff", "c"]).ok());
    // one layer, with the same files
    davit.run(["commit", "-q", "-s", "c", "flat"]).ok();
    assert_eq!(davit.inspect("flat", "{{len .RootFS.Layers}} {{len .History}}"), "1 1");
    assert_eq!(davit.run(["diff", "flat", "made:1"]).ok(), "");
    // Docker's media types
    davit.run(["commit", "-q", "-f", "docker", "c", "docker:1"]).ok();
    let layout = dir.path().join("layout");
    davit.run(["push", "-q", "docker:1", &format!("dir:{}", layout.display())]).ok();
    let manifest = std::fs::read_to_string(layout.join("manifest.json")).unwrap();
    assert!(manifest.contains("application/vnd.docker.distribution.manifest.v2+json"), "{manifest}");
    // a running container, frozen meanwhile, runs on
    davit.run(["run", "-d", "--name", "r", "busybox", "sh", "-c", "touch /x; sleep 100"]).ok();
    crate::support::wait_until("the file is there", || {
        davit.run(["exec", "r", "test", "-e", "/x"]).code == 0
    });
    davit.run(["commit", "-q", "-p", "r", "live"]).ok();
    assert_eq!(davit.inspect("r", "{{.State.Status}}"), "running");
    assert_eq!(davit.sh("live", "ls /x"), "/x");
    davit.run(["commit", "c", "Bad:Name:x"]).fails(125, "Bad:Name:x");
    davit.run(["commit", "-c", "RUN x", "c"]).fails(125, "RUN");
    davit.run(["commit", "missing"]).fails(125, "missing");
    assert_eq!(davit.run(["system", "check"]).code, 0);
}

#[test]
fn a_committed_image_is_one_for_podman_too() {
    let davit = Davit::with_busybox();
    davit.run(["run", "--name", "c", "busybox", "sh", "-c", CHANGE]).ok();
    davit.run(["commit", "-q", "c", "made:1"]).ok();
    let dir = scratch();
    let archive = dir.path().join("made.tar");
    davit.run(["save", "-q", "-o", archive.to_str().unwrap(), "made:1"]).ok();
    let podman = |args: &[&str]| {
        let root = dir.path().join("podman");
        let run = dir.path().join("podman-run");
        let mut all = vec!["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()];
        all.extend(args);
        tool("podman", all)
    };
    podman(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    let place = podman(&["image", "mount", "made:1"]).ok();
    let read = |path: &str| std::fs::read_to_string(format!("{place}/{path}"));
    assert_eq!(read("d/e/f").unwrap(), "x\n");
    assert!(read("bin/wget").is_err() && read("home/h").is_ok());
    podman(&["image", "unmount", "made:1"]).ok();
    podman(&["rmi", "-af"]).ok();
}

#[test]
fn an_exported_container_is_a_file_system() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    davit
        .run([
            "run",
            "--name",
            "c",
            "-v",
            &format!("{}:/data", dir.path().display()),
            "busybox",
            "sh",
            "-c",
            CHANGE,
        ])
        .ok();
    std::fs::write(dir.path().join("host"), "host").unwrap();
    let tar = dir.path().join("c.tar");
    davit.run(["export", "-o", tar.to_str().unwrap(), "c"]).ok();
    let list = tool("tar", ["tf", tar.to_str().unwrap()]).ok();
    let has = |name: &str| list.lines().any(|line| line == name);
    assert!(has("new") && has("d/e/f") && has("bin/busybox") && has("data/"));
    assert!(!has("bin/wget") && !has("data/host"), "what is gone or mounted is no part of it");
    davit.run(["import", "-q", tar.to_str().unwrap(), "again"]).ok();
    assert_eq!(davit.sh("again", "cat /new /d/hard"), "hi\nhi");
    let missing = dir.path().join("none.tar");
    davit.run(["export", "-o", missing.to_str().unwrap(), "missing"]).fails(125, "missing");
    assert!(!missing.exists());
}
