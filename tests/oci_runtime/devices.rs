//! `linux.devices` and the nodes that every container has.

use serde_json::json;

use super::lab::{each, namespace};

#[test]
fn every_container_has_the_usual_ones() {
    each(|lab| {
        let said = lab.sh(
            "for d in null zero full random urandom tty; do stat -c '%F %t:%T %a' /dev/$d; done; \
             for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; head -c 3 /dev/zero | wc -c; \
             echo x >/dev/null; (echo x >/dev/full) 2>&1 | grep -c 'No space'",
            |_| {},
        );
        let nodes =
            ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"].map(|n| format!("character special file {n} 666\n"));
        let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
        assert_eq!(said, format!("{}{links}3\n1", nodes.concat()));
    });
}

#[test]
fn further_ones_are_made_as_listed() {
    each(|lab| {
        let said = lab.sh("stat -c '%F %t:%T %a %u:%g' /dev/a /dev/sub/b /dev/pipe", |config| {
            config["linux"]["devices"] = json!([
                { "path": "/dev/a", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 },
                { "path": "/dev/sub/b", "type": "b", "major": 7, "minor": 1, "fileMode": 0o600 },
                { "path": "/dev/pipe", "type": "p", "fileMode": 0o622 },
            ]);
        });
        let wanted = "character special file a:e5 640 3:4\nblock special file 7:1 600 0:0\nfifo 0:0 622 0:0";
        assert_eq!(said, wanted);
    });
}

#[test]
fn rules_decide_who_may_open_what() {
    if !std::path::Path::new("/sys/fs/cgroup/devices").exists() {
        // On the unified tree these are a program, which tests/vm looks at.
        return;
    }
    // One of the host's that no runtime allows by itself, and that asks for no capability.
    let misc = std::fs::read_to_string("/proc/misc").unwrap();
    let minor =
        |name: &str| misc.lines().find_map(|line| line.trim().strip_suffix(name)?.trim().parse::<u32>().ok());
    let minor = ["fuse", "loop-control", "autofs", "ubi_ctrl", "rfkill"].iter().find_map(|name| minor(name));
    let Some(minor) = minor else { return };
    each(|lab| {
        let device = |path: &str, major: u32, minor: u32| json!({ "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666 });
        let said = lab.sh("(exec 3</dev/a) 2>/dev/null && echo a; (exec 3</dev/z) && echo z", |config| {
            config["linux"]["devices"] = json!([device("/dev/a", 10, minor), device("/dev/z", 1, 5)]);
        });
        assert_eq!(said, "z", "it is not allowed, zero is");
        let said = lab.sh("(exec 3</dev/a) && echo a", |config| {
            config["linux"]["devices"] = json!([device("/dev/a", 10, minor)]);
            let rules = config["linux"]["resources"]["devices"].as_array_mut().unwrap();
            rules.push(json!({ "allow": true, "type": "c", "major": 10, "minor": minor, "access": "r" }));
        });
        assert_eq!(said, "a");
    });
}

#[test]
fn in_a_user_namespace_they_are_the_hosts() {
    each(|lab| {
        let said = lab.sh("stat -c %t:%T /dev/null; echo x >/dev/null && echo written", |config| {
            let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
            namespace(config, json!({ "type": "user" }));
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        assert_eq!(said, "1:3\nwritten");
    });
}
