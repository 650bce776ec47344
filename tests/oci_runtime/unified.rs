//! What only a pure cgroup v2 tree has, and systemd. `tests/vm` has a machine for it; elsewhere there is nothing to see.

use serde_json::json;

use super::lab::{Lab, each, mount, namespace};

fn unified() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[test]
fn files_by_their_own_names() {
    if !unified() {
        return;
    }
    each(|lab| {
        let id = lab.id();
        let group = format!("/unified-{id}");
        let bundle = lab.bundle("cat /proc/self/cgroup", |config| {
            config["linux"]["cgroupsPath"] = json!(group);
            namespace(config, json!({ "type": "cgroup" }));
            config["linux"]["resources"] = json!({
                "unified": { "memory.high": "33554432", "pids.max": "77" }, "memory": { "limit": 67_108_864, "swap": 134_217_728 },
            });
        });
        let bundle = bundle.to_str().unwrap();
        lab.command()
            .args(["create", "-b", bundle, &id])
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        let file = |name: &str| read(&format!("/sys/fs/cgroup{group}/{name}"));
        assert_eq!((file("memory.high").as_str(), file("pids.max").as_str()), ("33554432", "77"));
        assert_eq!((file("memory.max").as_str(), file("memory.swap.max").as_str()), ("67108864", "67108864"));
        lab.verb(["delete", "-f", &id]).ok();
        assert_eq!(
            lab.sh("cat /proc/self/cgroup", |config| namespace(config, json!({ "type": "cgroup" }))),
            "0::/"
        );
        let missing = lab.run("true", |config| {
            config["linux"]["resources"] = json!({ "unified": { "no.such": "1" } });
        });
        assert_eq!(missing.code, 1, "{missing:?}");
    });
}

#[test]
fn a_program_decides_over_devices() {
    if !unified() {
        return;
    }
    each(|lab| {
        let device = |path: &str, major: u32, minor: u32| json!({ "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666 });
        let said = lab.sh("(exec 3</dev/a) 2>&1 | grep -c permitted; (exec 3</dev/z) && echo z", |config| {
            config["linux"]["devices"] = json!([device("/dev/a", 10, 229), device("/dev/z", 1, 5)]);
        });
        assert_eq!(said, "1\nz", "fuse is not allowed, zero is");
    });
}

#[test]
fn a_divided_group_takes_exec_sessions_in_its_first_processs_group() {
    if !unified() {
        return;
    }
    let lab = Lab::davit();
    let script = "mkdir /sys/fs/cgroup/below && echo 1 >/sys/fs/cgroup/below/cgroup.procs && \
                  echo +pids >/sys/fs/cgroup/cgroup.subtree_control && echo divided; sleep 1000";
    let (id, bundle) = lab.start(script, |config| {
        namespace(config, json!({ "type": "cgroup" }));
        mount(config, json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"] }));
    });
    crate::support::wait_until("it is divided", || {
        read(bundle.join("out").to_str().unwrap()).contains("divided")
    });
    assert_eq!(lab.verb(["exec", &id, "cat", "/proc/self/cgroup"]).ok(), "0::/below");
}

#[test]
fn the_group_belongs_to_the_containers_root() {
    if !unified() {
        return;
    }
    each(|lab| {
        let said = lab.sh("mkdir /sys/fs/cgroup/mine && echo made; stat -c %u /sys/fs/cgroup/cgroup.procs", |config| {
            let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
            for kind in ["user", "cgroup"] {
                namespace(config, json!({ "type": kind }));
            }
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            let options = json!(["nosuid", "noexec", "nodev"]);
            mount(config, json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options }));
        });
        assert_eq!(said, "made\n0");
    });
}

#[test]
fn scopes_of_systemd() {
    if !unified() || !std::path::Path::new("/run/systemd/system").exists() {
        return;
    }
    each(|lab| {
        let id = lab.id();
        let bundle = lab.bundle("sleep 1000", |config| {
            config["linux"]["cgroupsPath"] = json!(format!("machine.slice:test:{id}"));
            config["linux"]["resources"] = json!({ "pids": { "limit": 33 } });
            config["annotations"] = json!({ "org.systemd.property.TimeoutStopUSec": "uint64 123000000" });
            namespace(config, json!({ "type": "cgroup" }));
        });
        let bundle = bundle.to_str().unwrap();
        let status = lab
            .command()
            .args(["--systemd-cgroup", "run", "-d", "-b", bundle, &id])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let unit = format!("test-{id}.scope");
        let show = |property: &str| crate::support::tool("systemctl", ["show", "-P", property, &unit]).ok();
        assert_eq!((show("ActiveState").as_str(), show("Slice").as_str()), ("active", "machine.slice"));
        assert_eq!(show("TimeoutStopUSec"), "2min 3s");
        let pid = lab.state(&id)["pid"].as_u64().unwrap();
        let group = read(&format!("/proc/{pid}/cgroup"));
        assert!(group.contains(&unit), "{group}");
        assert_eq!(read(&format!("/sys/fs/cgroup{}/pids.max", group.strip_prefix("0::").unwrap())), "33");
        assert_eq!(lab.verb(["exec", &id, "cat", "/proc/self/cgroup"]).ok(), "0::/");
        lab.verb(["pause", &id]).ok();
        assert_eq!(lab.status(&id), "paused");
        lab.verb(["resume", &id]).ok();
        lab.verb(["delete", "-f", &id]).ok();
        crate::support::wait_until("the scope is gone", || show("ActiveState") == "inactive");
    });
}

#[test]
fn systemd_wants_the_unified_tree() {
    if unified() {
        return;
    }
    let lab = Lab::davit();
    let bundle = lab.bundle("true", |_| {});
    let done = lab.verb(["--systemd-cgroup", "run", "-b", bundle.to_str().unwrap(), &lab.id()]);
    done.fails(1, "--systemd-cgroup");
}
