//! Other engines over our runtime: what they see of it is what counts.

use std::path::PathBuf;

use super::lab::Lab;
use crate::support::{Done, busybox_tar, tool};

/// A podman whose runtime is ours.
struct Podman {
    lab: Lab,
}

impl Podman {
    fn new() -> Self {
        let podman = Self { lab: Lab::davit() };
        podman.run(&["import", "-q", busybox_tar().to_str().unwrap(), "bb"]).ok();
        podman
    }

    fn global(&self) -> Vec<String> {
        let path = |name: &str| self.lab.path(name).to_str().unwrap().to_owned();
        let mut all = Vec::new();
        for (flag, value) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            all.extend([flag.to_owned(), path(value)]);
        }
        all.extend(["--cgroup-manager=cgroupfs".to_owned(), "--events-backend=file".to_owned()]);
        all.extend(["--runtime".to_owned(), self.lab.program.to_str().unwrap().to_owned()]);
        all
    }

    fn run(&self, args: &[&str]) -> Done {
        let global = self.global();
        tool("podman", global.iter().map(String::as_str).chain(args.iter().copied()))
    }

    /// `run` with what this machine cannot raise left as it is.
    fn container(&self, args: &[&str]) -> Done {
        let limits = ["run", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--network=none"];
        self.run(&[&limits, args].concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "-fa", "-t", "0"]);
        tool("umount", [self.lab.path("root/overlay")]);
    }
}

#[test]
fn podman_runs_executes_pauses_limits_and_kills() {
    let podman = Podman::new();
    assert_eq!(podman.container(&["--rm", "bb", "echo", "hello"]).ok(), "hello");
    assert_eq!(podman.container(&["--rm", "bb", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(podman.container(&["--rm", "bb", "nope"]).code, 127);
    assert_eq!(podman.container(&["--rm", "bb", "/etc"]).code, 126);
    podman.container(&["-d", "--name", "a", "--memory=64m", "--pids-limit=50", "bb", "sleep", "1000"]).ok();
    assert_eq!(podman.run(&["exec", "a", "sh", "-c", "echo in $((1+1))"]).ok(), "in 2");
    assert_eq!(podman.run(&["exec", "-u", "1000", "a", "id", "-u"]).ok(), "1000");
    assert_eq!(podman.run(&["exec", "a", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(podman.run(&["exec", "a", "nope"]).code, 127);
    if crate::limits::controller("memory") {
        assert!(podman.run(&["stats", "--no-stream", "a"]).ok().contains("67.11MB"));
        podman.run(&["pause", "a"]).ok();
        assert_eq!(podman.run(&["inspect", "--format", "{{.State.Status}}", "a"]).ok(), "paused");
        podman.run(&["unpause", "a"]).ok();
    }
    assert!(podman.run(&["top", "a"]).ok().contains("sleep 1000"));
    podman.run(&["kill", "a"]).ok();
    assert_eq!(podman.run(&["wait", "a"]).ok(), "137");
    podman.run(&["start", "a"]).ok();
    podman.run(&["stop", "-t", "0", "a"]).ok();
    podman.run(&["rm", "a"]).ok();
    assert_eq!(podman.lab.verb(["list", "-q"]).stdout, "");
}

#[test]
fn podman_with_the_usual_options() {
    let podman = Podman::new();
    let volume = podman.lab.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let volume = format!("{}:/v:ro", volume.display());
    let said = podman.container(&[
        "--rm", "--read-only", "--tmpfs=/t", "-v", &volume, "--hostname=h", "-e", "A=b", "-w", "/etc", "--cap-drop=all",
        "--security-opt=no-new-privileges", "--sysctl=net.ipv4.ip_forward=1", "--init=false", "--device=/dev/zero:/dev/z",
        "bb", "sh", "-c",
        "hostname; echo $A; pwd; grep CapEff /proc/self/status; cat /proc/sys/net/ipv4/ip_forward; touch /t/x; \
         touch /x 2>/dev/null || echo ro; touch /v/x 2>/dev/null || echo ro; head -c 1 /dev/z | wc -c",
    ]);
    assert_eq!(said.ok(), "h\nb\n/etc\nCapEff:\t0000000000000000\n1\nro\nro\n1");
    let mapped = podman.container(&[
        "--rm",
        "--uidmap=0:100000:5000",
        "--gidmap=0:100000:5000",
        "bb",
        "cat",
        "/proc/self/uid_map",
    ]);
    assert_eq!(mapped.ok().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "5000"]);
    podman
        .container(&[
            "--rm",
            "--privileged",
            "bb",
            "sh",
            "-c",
            "mount -t tmpfs t /mnt 2>/dev/null; ls /dev/full",
        ])
        .ok();
    let pod = podman.container(&["-d", "--name", "one", "bb", "sleep", "1000"]);
    pod.ok();
    let same = podman.container(&["--rm", "--pid=container:one", "--ipc=container:one", "bb", "ps"]).ok();
    assert!(same.contains("sleep 1000"), "{same}");
}

#[test]
fn podman_with_a_terminal() {
    let podman = Podman::new();
    let mut words = vec!["podman".to_owned()];
    words.extend(podman.global());
    words.extend(
        [
            "run",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            "--network=none",
            "--rm",
            "-t",
            "bb",
            "tty",
        ]
        .map(str::to_owned),
    );
    let done = tool("script", ["-qec", &words.join(" "), "/dev/null"]);
    assert_eq!(done.ok().trim(), "/dev/pts/0");
}

#[test]
fn davit_over_its_own_runtime() {
    // One program, both doors: the engine that calls a runtime, and the runtime that it calls.
    let davit = crate::support::Davit::with_busybox();
    let lab = Lab::davit();
    let program: PathBuf = lab.program.clone();
    let global = ["--runtime", program.to_str().unwrap()];
    let run = |args: &[&str]| davit.run(global.iter().chain(args));
    assert_eq!(run(&["run", "--rm", "--network=none", "busybox", "echo", "hello"]).ok(), "hello");
    assert_eq!(run(&["run", "--rm", "--network=none", "busybox", "nope"]).code, 127);
    run(&["run", "-d", "--name", "a", "--network=none", "busybox", "sleep", "1000"]).ok();
    assert_eq!(run(&["exec", "a", "echo", "in"]).ok(), "in");
    run(&["rm", "-f", "-t", "0", "a"]).ok();
}
