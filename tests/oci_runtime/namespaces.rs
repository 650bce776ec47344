//! `linux.namespaces`: new ones, joined ones, none.

use serde_json::json;

use super::lab::{Lab, each, namespace};

const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
];

fn host(name: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn what_is_listed_is_new_and_the_rest_is_the_hosts() {
    each(|lab| {
        for with in [true, false] {
            let said = lab.sh("for n in /proc/self/ns/*; do readlink $n; done; hostname", |config| {
                if with {
                    namespace(config, json!({ "type": "cgroup" }));
                } else {
                    let spaces = json!([{ "type": "pid" }, { "type": "mount" }]);
                    config["linux"]["namespaces"] = spaces;
                    config.as_object_mut().unwrap().remove("hostname");
                    // a new sysfs is a matter of the network namespace
                    config["linux"]["sysctl"] = json!({});
                }
            });
            for (kind, name) in KINDS.into_iter().filter(|(kind, _)| *kind != "user") {
                let same = said.contains(&host(name));
                let new = if with { true } else { ["pid", "mount"].contains(&kind) };
                assert_eq!(same, !new, "{kind}: {said}");
            }
        }
    });
}

#[test]
fn namespaces_of_another_container_are_joined() {
    each(|lab| {
        let (id, _) = lab.start("sleep 1000", |config| namespace(config, json!({ "type": "cgroup" })));
        let pid = lab.state(&id)["pid"].as_u64().unwrap();
        let own = |name: &str| {
            std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap().to_owned()
        };
        let said = lab.sh("for n in /proc/self/ns/*; do readlink $n; done; echo $$", |config| {
            for (kind, name) in KINDS.into_iter().filter(|(kind, _)| !["mount", "user"].contains(kind)) {
                namespace(config, json!({ "type": kind, "path": format!("/proc/{pid}/ns/{name}") }));
            }
            config.as_object_mut().unwrap().remove("hostname");
        });
        for (kind, name) in KINDS.into_iter().filter(|(kind, _)| !["mount", "user"].contains(kind)) {
            assert!(said.contains(&own(name)), "{kind}: {said}");
        }
        assert_ne!(
            said.lines().last(),
            Some("1"),
            "the first process of a PID namespace that is not its own"
        );
    });
}

#[test]
fn paths_of_another_kind_and_doubles_are_refused() {
    each(|lab| {
        let wrong = lab.run("true", |config| {
            namespace(config, json!({ "type": "network", "path": "/proc/self/ns/uts" }));
        });
        assert_eq!(wrong.code, 1, "{wrong:?}");
        let missing =
            lab.run("true", |config| namespace(config, json!({ "type": "network", "path": "/none" })));
        assert_eq!(missing.code, 1, "{missing:?}");
        let twice = lab.run("true", |config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "pid" }));
        });
        assert_eq!(twice.code, 1, "{twice:?}");
        let unknown = lab.run("true", |config| namespace(config, json!({ "type": "dream" })));
        assert_eq!(unknown.code, 1, "{unknown:?}");
    });
}

#[test]
fn a_user_namespace_with_a_mapping() {
    each(|lab| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        let user = |config: &mut serde_json::Value| {
            namespace(config, json!({ "type": "user" }));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map.clone();
        };
        let said = lab.sh(
            "cat /proc/self/uid_map; id -u; stat -c %u /etc/passwd; echo >/dev/null; ls -l /dev/null",
            user,
        );
        let mut lines = said.lines();
        assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        assert_eq!((lines.next(), lines.next()), (Some("0"), Some("65534")), "{said}");
        let (id, _) = lab.start("sleep 1000", user);
        let pid = lab.state(&id)["pid"].as_u64().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t100000\t"), "{status}");
        assert_eq!(lab.verb(["exec", &id, "id", "-u"]).ok(), "0");
    });
}

#[test]
fn time_namespaces_and_their_offsets() {
    // runc 1.1 knows none
    let lab = Lab::davit();
    let said = lab.sh("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime", |config| {
        namespace(config, json!({ "type": "time" }));
        config["linux"]["timeOffsets"] =
            json!({ "boottime": { "secs": 1_000_000, "nanosecs": 5 }, "monotonic": { "secs": 7 } });
    });
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[..6], ["monotonic", "7", "0", "boottime", "1000000", "5"], "{said}");
    assert!(words[6].parse::<u64>().unwrap() > 1_000_000, "{said}");
    let (id, _) = lab.start("sleep 1000", |config| {
        namespace(config, json!({ "type": "time" }));
        config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 7 } });
    });
    let same = "[ $(readlink /proc/1/ns/time) = $(readlink /proc/self/ns/time) ] && echo same";
    assert_eq!(lab.verb(["exec", &id, "sh", "-c", same]).ok(), "same");
    let none =
        lab.run("true", |config| config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 7 } }));
    none.fails(1, "linux.timeOffsets");
}

#[test]
fn a_network_device_moves_into_the_container() {
    // runc 1.1 knows none
    let lab = Lab::davit();
    let ip = |args: &[&str]| crate::support::tool("ip", args);
    let name = format!("dv{}", std::process::id());
    let peer = format!("{name}p");
    ip(&["link", "add", &name, "type", "veth", "peer", "name", &peer]).ok();
    ip(&["address", "add", "192.0.2.5/24", "dev", &name]).ok();
    let done = lab.run("ip -o address show dev eth7; ip link show dev eth7", |config| {
        config["linux"]["netDevices"] = json!({ &name: { "name": "eth7" } });
    });
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("192.0.2.5/24") && done.stdout.contains("UP"), "{done:?}");
    // A device that is not hardware ends with its namespace.
    assert_ne!(ip(&["link", "show", &name]).code, 0);
    let missing = lab.run("true", |config| config["linux"]["netDevices"] = json!({ "dv-none": {} }));
    missing.fails(1, "linux.netDevices: dv-none");
    crate::support::wait_until("both ends are gone", || ip(&["link", "show", &peer]).code != 0);
    ip(&["link", "add", &name, "type", "veth", "peer", "name", &peer]).ok();
    let clash = lab.run("true", |config| config["linux"]["netDevices"] = json!({ &name: { "name": "lo" } }));
    clash.fails(1, "linux.netDevices");
    ip(&["link", "delete", &name]).ok();
}
