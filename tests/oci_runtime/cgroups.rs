//! Control groups: limits, changes, freezing, listing, counters. On the layout that the machine has; tests/vm looks at
//! the unified tree and at systemd.

use serde_json::{Value, json};

use super::lab::{Lab, each};
use crate::limits::controller;
use crate::support::wait_until;

fn v1() -> bool {
    std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
}

/// One file of the container's group.
fn file(group: &str, v1_path: &str, v2_name: &str) -> String {
    let path = if v1() {
        let (controller, name) = v1_path.split_once('/').unwrap();
        format!("/sys/fs/cgroup/{controller}{group}/{name}")
    } else {
        format!("/sys/fs/cgroup{group}/{v2_name}")
    };
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

fn group(lab: &Lab, name: &str) -> String {
    format!("/{}-{name}", lab.dir.path().file_name().unwrap().to_string_lossy().replace('.', ""))
}

#[test]
fn limits_are_set_and_changed() {
    if !controller("memory") {
        return;
    }
    each(|lab| {
        let group = group(lab, "limits");
        let cpuset = controller("cpuset");
        let (id, bundle) = lab.start("sleep 1000", |config| {
            config["linux"]["cgroupsPath"] = json!(group);
            config["linux"]["resources"] = json!({
                "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
                "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
                "pids": { "limit": 20 },
            });
            if cpuset {
                config["linux"]["resources"]["cpu"]["cpus"] = json!("0");
            }
        });
        let now = || {
            [
                file(&group, "memory/memory.limit_in_bytes", "memory.max"),
                file(&group, "memory/memory.soft_limit_in_bytes", "memory.low"),
                file(&group, "cpu/cpu.cfs_quota_us", "cpu.max"),
                file(&group, "pids/pids.max", "pids.max"),
                if cpuset { file(&group, "cpuset/cpuset.cpus", "cpuset.cpus") } else { "0".to_owned() },
            ]
        };
        let first = now();
        assert_eq!(first[0], "67108864");
        assert_eq!(first[1], "33554432");
        assert_eq!(first[2].split(' ').next(), Some("50000"));
        assert_eq!((first[3].as_str(), first[4].as_str()), ("20", "0"));
        if v1() {
            assert_eq!(file(&group, "cpu/cpu.shares", ""), "512");
        }
        let args = ["update", "--memory", "134217728", "--pids-limit", "30", "--cpu-quota", "70000"];
        lab.verb(args.iter().copied().chain([id.as_str()])).ok();
        let second = now();
        assert_eq!(second[0], "134217728");
        assert_eq!(second[2].split(' ').next(), Some("70000"));
        assert_eq!((second[3].as_str(), second[4].as_str()), ("30", "0"));
        let resources = bundle.join("resources.json");
        std::fs::write(&resources, json!({ "pids": { "limit": 40 } }).to_string()).unwrap();
        lab.verb(["update", "--resources", resources.to_str().unwrap(), &id]).ok();
        assert_eq!(file(&group, "pids/pids.max", "pids.max"), "40");
        lab.verb(["delete", "-f", &id]).ok();
        let left = crate::support::tool("find", ["/sys/fs/cgroup", "-name", &group[1..]]).stdout;
        assert_eq!(left, "", "groups are left");
    });
}

#[test]
fn update_wants_a_limit_and_a_container() {
    let lab = Lab::davit();
    let (id, _) = lab.start("sleep 1000", |_| {});
    lab.verb(["update", &id]).fails(1, "no limit is named");
    lab.verb(["update", "--memory", "1000000", "none"]).fails(1, "does not exist");
}

#[test]
fn limits_bite() {
    if !controller("pids") {
        return;
    }
    each(|lab| {
        let script = "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done 2>/dev/null; echo done";
        let done = lab.run(script, |config| config["linux"]["resources"] = json!({ "pids": { "limit": 5 } }));
        assert!(!done.stdout.contains("done"), "{done:?}");
    });
}

#[test]
fn freezing_and_thawing() {
    if !controller("freezer") && v1() {
        return;
    }
    each(|lab| {
        let (id, bundle) = lab.start("while :; do echo x; sleep 0.02; done", |_| {});
        let length = || std::fs::metadata(bundle.join("out")).unwrap().len();
        crate::support::wait_until("it speaks", || length() > 0);
        lab.verb(["pause", &id]).ok();
        assert_eq!(lab.status(&id), "paused");
        let before = length();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(length(), before, "it speaks while it is frozen");
        assert_ne!(lab.verb(["exec", &id, "true"]).code, 0, "exec while frozen");
        assert!(lab.is_crun() || lab.verb(["pause", &id]).code != 0, "paused twice");
        lab.verb(["resume", &id]).ok();
        assert_eq!(lab.status(&id), "running");
        crate::support::wait_until("it speaks again", || length() > before);
        assert!(lab.is_crun() || lab.verb(["resume", &id]).code != 0, "resumed twice");
        if lab.ours {
            // runc 1.1 leaves the signal pending
            lab.verb(["pause", &id]).ok();
            lab.verb(["kill", &id, "KILL"]).ok();
            lab.wait(&id);
        }
    });
}

#[test]
fn processes_are_listed() {
    each(|lab| {
        let (id, _) = lab.start("sleep 1000 & sleep 1000 & wait", |_| {});
        let list =
            || -> Vec<u64> { serde_json::from_str(&lab.verb(["ps", "-f", "json", &id]).ok()).unwrap() };
        crate::support::wait_until("all run", || list().len() == 3);
        assert!(list().contains(&lab.state(&id)["pid"].as_u64().unwrap()));
        if lab.is_crun() {
            // crun's table has one column
            return;
        }
        let table = lab.verb(["ps", &id]).ok();
        assert!(
            table.lines().next().unwrap().contains("PID") && table.matches("sleep 1000").count() >= 2,
            "{table}"
        );
    });
}

#[test]
fn counters() {
    if !controller("memory") {
        return;
    }
    each(|lab| {
        if lab.is_crun() {
            // crun has no such verb
            return;
        }
        let (id, _) = lab.start("sleep 1000", |config| {
            config["linux"]["resources"] =
                json!({ "pids": { "limit": 20 }, "memory": { "limit": 64 << 20 } });
        });
        let look = || -> Value { serde_json::from_str(&lab.verb(["events", "--stats", &id]).ok()).unwrap() };
        // threads of the runtime itself may still be on their way out
        wait_until("the program is alone", || look()["data"]["pids"]["current"] == 1);
        let event = look();
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(id)));
        let data = &event["data"];
        assert_eq!(data["pids"], json!({ "current": 1, "limit": 20 }));
        assert!(data["cpu"]["usage"]["total"].is_u64(), "{event}");
        assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    });
}

#[test]
fn an_exec_session_below_the_containers_group() {
    if !v1() {
        return;
    }
    each(|lab| {
        let group = group(lab, "sub");
        let (id, _) = lab.start("sleep 1000", |config| config["linux"]["cgroupsPath"] = json!(group));
        std::fs::create_dir(format!("/sys/fs/cgroup/pids{group}/below")).unwrap();
        let said = lab.verb(["exec", "--cgroup", "pids:below", &id, "cat", "/proc/self/cgroup"]).ok();
        assert!(said.contains(&format!("pids:{group}/below")), "{said}");
        assert!(said.contains(&format!("memory:{group}\n")), "{said}");
        assert_ne!(lab.verb(["exec", "--cgroup", "../..", &id, "true"]).code, 0);
    });
}

#[test]
fn without_control_groups() {
    let lab = Lab::davit();
    let bundle = lab.bundle("cat /proc/self/cgroup", |_| {});
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let bundle = bundle.to_str().unwrap();
    let done = lab.verb(["--cgroup-manager=disabled", "run", "-b", bundle, &lab.id()]);
    assert_eq!(done.ok(), own.trim_end());
}

#[test]
fn a_view_of_its_own_group_only() {
    if !v1() {
        return;
    }
    let lab = Lab::davit();
    let said = lab.sh(
        "cat /proc/self/cgroup; ls /sys/fs/cgroup/pids/cgroup.procs; touch /sys/fs/cgroup/pids/x 2>&1; true",
        |config| {
            super::lab::namespace(config, json!({ "type": "cgroup" }));
            super::lab::mount(
                config,
                json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
            );
        },
    );
    assert!(said.contains("pids:/\n") && said.contains("Read-only"), "{said}");
}
