//! `davit events`: what each verb tells, and how it is read.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{Davit, wait_until};

/// `STATUS NAME` of the events that match.
fn told(davit: &Davit, filters: &[&str]) -> Vec<String> {
    let mut args = vec!["events", "--stream=false", "--format", "{{.Status}} {{.Name}}"];
    for filter in filters {
        args.extend(["--filter", filter]);
    }
    davit.run(args).ok().lines().map(str::to_owned).collect()
}

#[test]
fn every_verb_tells_what_it_did() {
    let davit = Davit::with_busybox();
    davit.run(["run", "--name", "c1", "--label", "a=b", "busybox", "sh", "-c", "exit 3"]);
    davit.run(["run", "-d", "--name", "c2", "busybox", "sleep", "100"]).ok();
    davit.run(["exec", "c2", "true"]).ok();
    let session = davit.run(["exec", "-d", "c2", "sh", "-c", "exit 5"]).ok();
    let ended = || davit.run(["events", "--stream=false", "--filter=event=exec_died", "--format=json"]).ok();
    wait_until("the exec session in the background is told to have ended", || {
        let text = ended();
        text.lines().any(|line| line.contains(&session) && line.contains("\"ContainerExitCode\":5"))
    });
    davit.run(["pause", "c2"]).ok();
    davit.run(["unpause", "c2"]).ok();
    davit.run(["rename", "c2", "c3"]).ok();
    davit.run(["kill", "-s", "USR1", "c3"]).ok();
    davit.run(["restart", "-t", "0", "c3"]).ok();
    davit.run(["stop", "-t", "0", "c3"]).ok();
    davit.run(["rm", "c3"]).ok();
    davit.run(["tag", "busybox", "other:1"]).ok();
    davit.run(["untag", "busybox", "other:1"]).ok();
    // the order in which Podman tells them
    assert_eq!(
        told(&davit, &["container=c1"]),
        ["create c1", "init c1", "start c1", "attach c1", "died c1", "cleanup c1"]
    );
    assert_eq!(
        told(&davit, &["type=container", "container=c2", "container=c3"]),
        [
            "create c2",
            "init c2",
            "start c2",
            "exec c2",
            "exec_died c2",
            "exec c2",
            "exec_died c2",
            "pause c2",
            "unpause c2",
            "rename c3",
            "kill c3",
            "restart c3",
            "died c3",
            "cleanup c3",
            "stop c3",
            "init c3",
            "start c3",
            "died c3",
            "cleanup c3",
            "stop c3",
            "remove c3"
        ]
    );
    assert_eq!(
        told(&davit, &["type=image"]),
        ["import localhost/busybox:latest", "tag localhost/other:1", "untag localhost/other:1"]
    );
    assert_eq!(told(&davit, &["label=a=b", "event=die"]), ["died c1"]);
    let line = davit.run(["events", "--stream=false", "--filter=event=died", "--filter=container=c1"]).ok();
    let id = davit.inspect("c1", "{{.Id}}");
    assert!(
        line.ends_with(&format!(
            " +0000 UTC container died {id} (image=localhost/busybox:latest, name=c1, a=b)"
        )),
        "{line}"
    );
    davit.run(["events", "--stream=false", "--filter", "colour=red"]).fails(125, "colour");
    assert_eq!(davit.run(["--events-backend=none", "rm", "c1"]).code, 0);
    assert!(told(&davit, &["container=c1", "event=remove"]).is_empty());
    davit.run(["--events-backend=none", "events"]).fails(125, "--events-backend=none");
}

#[test]
fn a_stream_has_only_what_comes_and_ends_at_its_time() {
    let davit = Davit::with_busybox();
    davit.run(["create", "--name", "before", "busybox", "true"]).ok();
    let mut child = davit
        .command()
        .args(["events", "--filter", "event=create", "--format", "{{.Name}}"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // the reader has begun once it sees one of these
    let first = std::thread::scope(|scope| {
        let reader = scope.spawn(|| lines.next().unwrap().unwrap());
        let mut number = 0;
        while !reader.is_finished() {
            davit.run(["create", "--name", &format!("c{number}"), "busybox", "true"]).ok();
            number += 1;
        }
        reader.join().unwrap()
    });
    assert!(first.starts_with('c'), "{first}");
    davit.run(["create", "--name", "last", "busybox", "true"]).ok();
    assert!(lines.any(|line| line.unwrap() == "last"));
    child.kill().unwrap();
    child.wait().unwrap();
    let past = davit.run(["events", "--until", "1s", "--filter=event=create", "--format={{.Name}}"]).ok();
    assert!(past.starts_with("before\nc0") && past.ends_with("last"), "{past}");
    assert_eq!(davit.run(["events", "--stream=false", "--since", "2100-01-01"]).ok(), "");
}
