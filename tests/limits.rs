//! Limits that bite. Here on cgroup v1 or v2, whichever the machine has; without a controller the refusal is tested.

use std::path::Path;

use crate::support::Davit;

pub(crate) fn controller(name: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(name).is_dir()
        || std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|list| list.split_whitespace().any(|word| word == name))
}

#[test]
fn memory() {
    let davit = Davit::with_busybox();
    let done = davit.run([
        "run",
        "--name",
        "m",
        "--memory=32m",
        "busybox",
        "sh",
        "-c",
        "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}",
    ]);
    if controller("memory") {
        assert_eq!(done.code, 137, "{done:#?}");
        assert_eq!(davit.inspect("m", "{{.State.OOMKilled}}"), "true");
        assert!(done.stderr.contains("out of memory, limit 32 MiB, highest use 3"), "{done:#?}");
        let told = davit.inspect("m", "{{.State.Error}}");
        assert!(told.contains("limit 32 MiB, highest use 3"), "{told}");
    } else {
        done.fails(125, "memory");
    }
}

#[test]
fn processes() {
    let davit = Davit::with_busybox();
    let script = "i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done; wait";
    let done = davit.run(["run", "--rm", "--pids-limit=10", "busybox", "sh", "-c", script]);
    if controller("pids") {
        assert!(
            done.stdout.contains("fork") || done.stderr.contains("fork") || done.code != 0,
            "30 processes under a limit of 10: {done:#?}"
        );
    } else {
        done.fails(125, "pids");
    }
}

#[test]
fn processors() {
    let davit = Davit::with_busybox();
    let script = "cat /proc/self/cgroup";
    let done = davit.run(["run", "-d", "--name", "c", "--cpus=0.5", "busybox", "sleep", "30"]);
    if !controller("cpu") {
        done.fails(125, "cpu");
        return;
    }
    done.ok();
    let groups = davit.run(["exec", "c", "sh", "-c", script]).ok();
    let pid = davit.inspect("c", "{{.State.Pid}}");
    let table = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let quota = table.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.split(',').any(|name| name == "cpu") {
            std::fs::read_to_string(format!("/sys/fs/cgroup/cpu{path}/cpu.cfs_quota_us")).ok()
        } else if controllers.is_empty() {
            std::fs::read_to_string(format!("/sys/fs/cgroup{path}/cpu.max")).ok()
        } else {
            None
        }
    });
    assert!(quota.as_deref().is_some_and(|quota| quota.starts_with("50000")), "{quota:?} {groups}");
}
