//! `ps` beyond the table, and where the output of containers goes.

use crate::support::{Davit, finish};

#[test]
fn ps_shows_namespaces_pods_and_labels() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "c", "--label", "k=v", "busybox", "sleep", "100"]).ok();
    let table = davit.run(["ps", "--ns"]).ok();
    let titles: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    // Podman's columns
    assert_eq!(
        titles,
        ["CONTAINER", "ID", "NAMES", "PID", "CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS"]
    );
    let inside = davit.run(["exec", "c", "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(davit.run(["ps", "--format", "net:[{{.NET}}]"]).ok(), inside);
    assert!(
        davit.run(["ps", "--pod"]).ok().lines().next().unwrap().ends_with("NAMES       POD ID      PODNAME")
    );
    assert_eq!(davit.run(["ps", "--format", "{{.Label \"k\"}}|{{.Label \"none\"}}|{{.Names}}"]).ok(), "v||c");
    assert_eq!(davit.run(["ps", "--external", "--sync", "-q"]).ok().len(), 12);
    let watched =
        finish(std::process::Command::new("timeout").args(["1.5"]).arg(crate::support::binary()).args([
            "--root",
            davit.root().to_str().unwrap(),
            "--runroot",
            davit.runroot().to_str().unwrap(),
            "ps",
            "--watch=1",
            "--format={{.Names}}",
        ]));
    assert_eq!((watched.code, watched.stdout.as_str()), (124, "c\nc\n"));
}

#[test]
fn streams_are_passed_on_where_that_is_asked_for() {
    let davit = Davit::with_busybox();
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--log-driver", "passthrough"];
        all.extend(args);
        davit.run(all)
    };
    let done = run(&["--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (3, "out\n", "err\n"));
    let echoed =
        davit.run_with_input(["run", "-i", "--rm", "--log-driver=passthrough", "busybox", "cat"], b"in\n");
    assert_eq!(echoed.ok(), "in");
    run(&["--name", "c", "--log-opt", "tag=mine", "busybox", "true"]).ok();
    davit.run(["logs", "c"]).fails(125, "passthrough");
    assert_eq!(
        davit.inspect("c", "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Tag}}"),
        "passthrough mine"
    );
    run(&["-t", "--rm", "busybox", "true"]).fails(125, "--tty");
    davit.run(["run", "--log-driver", "journald", "busybox", "true"]).fails(125, "journald");
    // a background container writes to where its starter's output goes, and logs nothing
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = davit
        .command()
        .args([
            "run",
            "-d",
            "--name",
            "d",
            "--log-driver=passthrough",
            "busybox",
            "sh",
            "-c",
            "sleep 0.2; echo late",
        ])
        .stdout(writer)
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let text = std::io::read_to_string(reader).unwrap();
    assert!(text.ends_with("\nlate\n"), "{text}");
    assert!(!davit.root().join("containers").join(davit.inspect("d", "{{.Id}}")).join("ctr.log").exists());
}

#[test]
fn logs_of_several_containers() {
    let davit = Davit::with_busybox();
    for name in ["a", "b"] {
        davit
            .run(["run", "--name", name, "busybox", "sh", "-c", &format!("echo {name}1; echo {name}2")])
            .ok();
    }
    let short = |name: &str| davit.inspect(name, "{{.Id}}")[..12].to_owned();
    let (a, b) = (short("a"), short("b"));
    assert_eq!(davit.run(["logs", "a", "b"]).ok(), format!("{a} a1\n{a} a2\n{b} b1\n{b} b2"));
    assert_eq!(davit.run(["logs", "-n", "a", "b"]).ok(), "a a1\na a2\nb b1\nb b2");
    assert_eq!(davit.run(["logs", "--tail", "1", "a"]).ok(), "a2");
    assert_eq!(
        davit.run(["logs", "--color", "-n", "a"]).ok(),
        "\u{1b}[31ma\u{1b}[0m a1\n\u{1b}[31ma\u{1b}[0m a2"
    );
    let line = davit.run(["logs", "-t", "--tail", "1", "a"]).ok();
    let (time, text) = line.split_once(' ').unwrap();
    assert!(time.len() == 30 && time.ends_with('Z') && text == "a2", "{line}");
    // a duration lies behind for --since and ahead for --until
    for (args, wanted) in [
        (["--since", "1h"], "a1\na2"),
        (["--until", "1h"], "a1\na2"),
        (["--until=-1h", "--details"], ""),
        (["--since", "2100-01-01"], ""),
    ] {
        assert_eq!(davit.run(["logs"].into_iter().chain(args).chain(["a"])).ok(), wanted, "{args:?}");
    }
}

#[test]
fn image_tree_shows_what_layers_hide_and_have_twice() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nRUN head -c 300000 /dev/urandom > /a; head -c 50000 /dev/urandom > /b\nRUN chmod 600 /a\nRUN rm /b\n";
    davit.build("app", text, &[]).ok();
    let tree = davit.run(["image", "tree", "app"]).ok();
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("Image ID: ") && lines[1] == "Tags:     [localhost/app:latest]", "{tree}");
    assert_eq!(lines[3], "Image Layers");
    assert!(
        lines[4].starts_with("├── ID: ") && lines[4].contains("Top Layer of: [localhost/busybox:latest]"),
        "{tree}"
    );
    assert!(lines[5].contains("Size: 350kB") && !lines[5].contains("Shadows"), "{tree}");
    assert!(lines[6].contains("Size: 300kB Shadows: 300kB Duplicates: 300kB"), "{tree}");
    assert!(
        lines[7].starts_with("└── ID: ")
            && lines[7].contains("Size: 0B Shadows: 50kB")
            && lines[7].contains("[localhost/app:latest]"),
        "{tree}"
    );
    let children = davit.run(["image", "tree", "--whatrequires", "busybox"]).ok();
    assert!(children.lines().last().unwrap().contains("localhost/app:latest"), "{children}");
    davit.run(["image", "tree", "nosuch"]).fails(125, "nosuch");
}
