//! Restart policies, with and without somebody attached, and after a boot.

use crate::support::{Davit, processes_with, wait_until};

fn count(davit: &Davit, name: &str) -> u32 {
    davit.inspect(name, "{{.RestartCount}}").parse().unwrap()
}

#[test]
fn failures_are_followed_by_restarts_up_to_a_limit() {
    let davit = Davit::with_busybox();
    let done =
        davit.run(["run", "--name=c", "--restart=on-failure:2", "busybox", "sh", "-c", "echo run; exit 3"]);
    assert_eq!(
        (done.code, done.stdout.as_str()),
        (3, "run\nrun\nrun\n"),
        "an attached run keeps its streams"
    );
    assert_eq!(count(&davit, "c"), 2);
    davit
        .run(["run", "-d", "--name=d", "--restart=on-failure:2", "busybox", "sh", "-c", "echo run; exit 3"])
        .ok();
    wait_until("it was restarted twice", || davit.run(["logs", "d"]).ok() == "run\nrun\nrun");
    assert_eq!(count(&davit, "d"), 2);
    wait_until("it has ended", || davit.inspect("d", "{{.State.Status}}") == "exited");
    // a start by the user counts anew
    davit.run(["start", "d"]).ok();
    wait_until("it was restarted again", || count(&davit, "d") == 4);
    davit.run(["run", "-d", "--name=e", "--restart=on-failure", "busybox", "true"]).ok();
    davit.run(["wait", "e"]).ok();
    assert_eq!(count(&davit, "e"), 0, "a success is no failure");
}

#[test]
fn a_stop_by_the_user_ends_it() {
    let davit = Davit::with_busybox();
    let run = |name: &str, script: &str| {
        davit.run(["run", "-d", "--name", name, "--restart=always", "busybox", "sh", "-c", script]).ok();
    };
    run("stopped", "sleep 1000");
    run("killed", "sleep 1000");
    run("waiting", "exit 1");
    davit.run(["stop", "-t0", "stopped"]).ok();
    davit.run(["kill", "killed"]).ok();
    wait_until("it waits for its restart", || count(&davit, "waiting") >= 2);
    davit.run(["stop", "waiting"]).ok();
    wait_until("nobody waits any more", || processes_with(davit.dir.path().to_str().unwrap()).is_empty());
    let states = davit.run(["ps", "-a", "--format={{.State}}"]).ok();
    assert_eq!(states, "exited\nexited\nexited");
    assert_eq!(count(&davit, "stopped") + count(&davit, "killed"), 0);
    davit.run(["run", "--rm", "--restart=always", "busybox", "true"]).fails(125, "--rm");
    davit.run(["create", "--restart=sometimes", "busybox"]).fails(125, "sometimes");
}

#[test]
fn a_program_that_dies_is_started_again() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name=c", "--restart=unless-stopped", "busybox", "sleep", "1000"]).ok();
    let pid = davit.inspect("c", "{{.State.Pid}}");
    crate::support::tool("kill", ["-9", &pid]).ok();
    wait_until("it runs again", || {
        let state = davit.inspect("c", "{{.State.Running}} {{.State.Pid}}");
        state.starts_with("true") && state != format!("true {pid}")
    });
    assert_eq!(
        davit.inspect("c", "{{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}"),
        "unless-stopped 1"
    );
    davit.run(["rm", "-f", "-t0", "c"]).ok();
}

#[test]
fn a_boot_starts_what_is_to_be_started() {
    let davit = Davit::with_busybox();
    for (name, policy) in
        [("always", "always"), ("unless", "unless-stopped"), ("never", "no"), ("gone", "unless-stopped")]
    {
        davit.run(["run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "1000"]).ok();
    }
    davit.run(["stop", "-t0", "gone"]).ok();
    // what a boot takes away: the processes, and the run directory
    for pid in monitors(&davit) {
        crate::support::tool("kill", ["-9", &pid]);
    }
    wait_until("all are gone", || davit.run(["ps", "-q"]).ok().is_empty());
    std::fs::remove_dir_all(davit.runroot()).unwrap();
    davit.run(["start", "--all", "--filter=should-start-on-boot=true"]).ok();
    let mut names: Vec<String> =
        davit.run(["ps", "--format={{.Names}}"]).ok().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["always", "unless"]);
    assert_eq!(davit.run(["ps", "--filter=restart-policy=always", "--format={{.Names}}"]).ok(), "always");
}

fn monitors(davit: &Davit) -> Vec<String> {
    let list = davit.run(["ps", "-q"]).ok();
    list.lines().map(|id| davit.inspect(id, "{{.State.ConmonPid}}")).collect()
}
