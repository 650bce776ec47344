//! `stats`, `top`, and `--latest`.

use crate::support::{Davit, wait_until};

#[test]
fn stats_tell_what_a_container_uses() {
    let davit = Davit::with_busybox();
    davit.run(["create", "--name", "idle", "busybox", "true"]).ok();
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20; while true; do :; done";
    davit.run(["run", "-d", "--name", "busy", "-m", "64m", "busybox", "sh", "-c", script]).ok();
    wait_until("the memory is used", || {
        let out = davit.run(["stats", "--no-stream", "--format", "{{.MemUsage}}", "busy"]).ok();
        out.starts_with('2') && out.contains("MB / 67.11MB")
    });
    let table = davit.run(["stats", "--no-stream"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "only what runs is listed: {table}");
    // Podman's headings
    let titles: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|title| !title.is_empty()).collect();
    assert_eq!(
        titles,
        [
            "ID",
            "NAME",
            "CPU %",
            "MEM USAGE / LIMIT",
            "MEM %",
            "NET IO",
            "BLOCK IO",
            "PIDS",
            "CPU TIME",
            "AVG CPU %"
        ]
    );
    let json: serde_json::Value =
        serde_json::from_str(&davit.run(["stats", "--no-stream", "-a", "--format", "json"]).ok()).unwrap();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(of("idle")["pids"], "0");
    let share: f64 = of("busy")["mem_percent"].as_str().unwrap().trim_end_matches('%').parse().unwrap();
    assert!((30.0..60.0).contains(&share), "{json}");
    assert_ne!(of("busy")["cpu_time"], "0s");
    davit.run(["stats", "--no-stream", "missing"]).fails(125, "missing");
}

#[test]
fn top_lists_processes_as_the_container_sees_them() {
    let davit = Davit::with_busybox();
    let script = "sleep 1000 & exec sleep 1001";
    davit.run(["run", "-d", "--name", "c", "-u", "ann", "busybox", "sh", "-c", script]).ok();
    wait_until("both run", || davit.run(["top", "c"]).ok().lines().count() == 3);
    let table = davit.run(["top", "c", "user", "pid,ppid", "args", "state", "seccomp", "capeff"]).ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["USER", "PID", "PPID", "COMMAND", "STATE", "SECCOMP", "EFFECTIVE CAPS"]);
    assert_eq!(rows[1], ["ann", "1", "0", "sleep 1001", "S", "filter", "none"]);
    assert_eq!(rows[2][2..4], ["1", "sleep 1000"]);
    let hpid = davit.run(["top", "c", "hpid"]).ok();
    assert!(hpid.lines().any(|line| line.trim() == davit.inspect("c", "{{.State.Pid}}")), "{hpid}");
    assert!(
        davit.run(["top", "c"]).ok().starts_with("USER        PID         PPID        %CPU        ELAPSED")
    );
    // what is no descriptor is an option of the container's ps
    assert!(davit.run(["top", "c", "-o", "pid,args"]).ok().contains("sleep 1001"));
    assert!(davit.run(["top", "--list-descriptors"]).ok().starts_with("args\ncapamb\n"));
    davit.run(["stop", "-t", "0", "c"]).ok();
    davit.run(["top", "c"]).fails(125, "exited");
}

#[test]
fn latest_is_the_container_made_last() {
    let davit = Davit::with_busybox();
    davit.run(["ps", "-l"]).ok();
    davit.run(["logs", "-l"]).fails(125, "no such container");
    davit.run(["run", "--name", "old", "busybox", "true"]).ok();
    davit.run(["run", "-d", "--name", "new", "busybox", "sh", "-c", "echo out; sleep 100"]).ok();
    let id = davit.inspect("new", "{{.Id}}");
    assert_eq!(davit.run(["inspect", "-l", "--format", "{{.Name}}"]).ok(), "new");
    assert_eq!(davit.run(["exec", "-l", "echo", "in"]).ok(), "in");
    for verb in ["pause", "unpause"] {
        assert_eq!(davit.run([verb, "-l"]).ok(), id, "{verb}");
    }
    wait_until("the output is there", || davit.run(["logs", "-l"]).ok() == "out");
    assert!(davit.run(["top", "-l", "args"]).ok().contains("sleep 100"));
    davit.run(["stop", "-l", "new"]).fails(125, "--latest stands alone");
    davit.run(["kill", "-l"]).ok();
    assert_eq!(davit.run(["wait", "-l"]).ok(), "137");
    assert_eq!(davit.run(["wait", "--exit-first-match", "old", "new"]).code, 0);
    assert_eq!(davit.run(["diff", "-l"]).ok(), "");
    davit.run(["rm", "-l"]).ok();
    assert_eq!(davit.run(["ps", "-a", "--format", "{{.Names}}"]).ok(), "old");
}

#[test]
fn what_depends_goes_first_where_that_is_asked_for() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "base", "busybox", "sleep", "100"]).ok();
    davit.run(["run", "-d", "--name", "second", "--pid=container:base", "busybox", "sleep", "100"]).ok();
    davit.run(["run", "-d", "--name", "third", "--ipc=container:second", "busybox", "sleep", "100"]).ok();
    davit.run(["create", "--name", "fourth", "--requires=third", "busybox", "true"]).ok();
    davit.run(["run", "-d", "--name", "other", "busybox", "sleep", "100"]).ok();
    davit.run(["rm", "-f", "-t", "0", "--depend", "base"]).ok();
    assert_eq!(davit.run(["ps", "-a", "--format", "{{.Names}}"]).ok(), "other");
    let removed = davit.run(["events", "--stream=false", "--filter=event=remove", "--format={{.Name}}"]).ok();
    assert_eq!(removed, "fourth\nthird\nsecond\nbase");
}
