//! SIGKILL at any moment: the next command works, and nothing stays behind.

use std::process::Stdio;
use std::time::Duration;

use crate::support::{Access, Davit, Registry, context, mounts_below, processes_with, wait_until};

/// Bytes below the store, as `du` counts them.
fn bytes(davit: &Davit) -> u64 {
    let text = crate::support::tool("du", ["-sb", davit.root().to_str().unwrap()]).stdout;
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn killed_builds_leave_a_store_that_the_next_build_uses() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox\nRUN head -c 3000000 /dev/urandom > /big\nCOPY f /f\nRUN head -c 3000000 /dev/urandom > /bigger; sleep 0.05\nRUN rm /big\n";
    let dir = context(text, &[("f", "x")]);
    let path = dir.path().to_str().unwrap();
    let mut random = 0x2545_f491_u32;
    for _ in 0..20 {
        let mut child = davit
            .command()
            .args(["build", "-q", "--no-cache", "-t", "k", path])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        std::thread::sleep(Duration::from_millis(u64::from(random % 300)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let place = davit.dir.path().to_str().unwrap().to_owned();
    wait_until("the killed builds' processes are gone", || processes_with(&place).is_empty());
    davit.run(["build", "-q", "-t", "k", path]).ok();
    assert_eq!(davit.sh("k", "cat /f; wc -c < /bigger"), "x3000000");
    assert!(mounts_below(&place).is_empty(), "{:?}", mounts_below(&place));
    davit.run(["system", "prune", "-af", "--build"]).ok();
    davit.run(["rmi", "-af"]).ok();
    davit.run(["system", "prune", "-af", "--build"]).ok();
    assert!(bytes(&davit) < 1_000_000, "{} bytes are left", bytes(&davit));
}

#[test]
fn killed_pulls_go_on() {
    let davit = Davit::with_busybox();
    davit
        .build(
            "big",
            "FROM busybox\nRUN head -c 20000000 /dev/urandom > /a\nRUN head -c 20000000 /dev/urandom > /b\n",
            &[],
        )
        .ok();
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/big", registry.host);
    davit.run(["push", "-q", "--tls-verify=false", "big", &name]).ok();
    let other = Davit::new();
    for delay in [5, 20, 40, 60, 80, 100, 150] {
        let mut child = other
            .command()
            .args(["pull", "-q", "--tls-verify=false", &name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.run(["images"]).code, 0);
    }
    other.run(["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(other.sh(&name, "wc -c < /a; wc -c < /b"), "20000000\n20000000");
    other.run(["rmi", "-af"]).ok();
    other.run(["system", "prune", "-af", "--build"]).ok();
    assert!(bytes(&other) < 1_000_000, "{} bytes are left", bytes(&other));
}

#[test]
fn killed_runs_read_as_exited_and_can_be_removed() {
    let davit = Davit::with_busybox();
    for delay in [1, 5, 10, 15, 20, 40] {
        let mut child = davit
            .command()
            .args(["run", "--rm", "busybox", "sh", "-c", "sleep 0.2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(davit.run(["ps", "-a"]).code, 0);
    }
    wait_until("containers of killed commands with --rm go", || davit.run(["ps", "-aq"]).ok().is_empty());
    // A monitor that is killed: the container cannot be watched any more, and is not left running unseen.
    davit.run(["run", "-d", "--name", "m", "busybox", "sleep", "60"]).ok();
    let pid = davit.inspect("m", "{{.State.ConmonPid}}");
    crate::support::tool("kill", ["-9", &pid]).ok();
    wait_until("the container reads as exited", || davit.inspect("m", "{{.State.Running}}") == "false");
    davit.run(["rm", "m"]).ok();
    let place = davit.dir.path().to_str().unwrap();
    assert!(mounts_below(place).is_empty(), "{:?}", mounts_below(place));
}
