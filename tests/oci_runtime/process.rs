//! `process` and what stands beside it.

use serde_json::json;

use super::lab::{Lab, each};

#[test]
fn user_groups_and_umask() {
    each(|lab| {
        let said = lab.sh("id; umask", |config| {
            config["process"]["user"] =
                json!({ "uid": 1000, "gid": 50, "additionalGids": [5, 6], "umask": 0o77 });
        });
        assert_eq!(said, "uid=1000(ann) gid=50(staff) groups=5,6\n0077");
    });
}

#[test]
fn environment_directory_and_names() {
    each(|lab| {
        let said = lab.sh("echo $A-$B; pwd; hostname; cat /proc/sys/kernel/domainname", |config| {
            config["process"]["env"] = json!(["PATH=/bin", "A=x y", "B="]);
            config["process"]["cwd"] = json!("/etc/deep");
            config["domainname"] = json!("example");
            if !lab.ours {
                // runc 1.1 knows none
                config["linux"]["sysctl"] = json!({ "kernel.domainname": "example" });
            }
        });
        assert_eq!(said, "x y-\n/etc/deep\nbox\nexample");
    });
}

#[test]
fn the_command_is_found_as_execvp_does() {
    each(|lab| {
        for (args, code, words) in [
            (json!(["nope"]), 1, "not found in $PATH"),
            (json!(["/nope"]), 1, "no such file or directory"),
            (json!(["/etc"]), 1, "permission denied"),
            (json!(["/etc/notexec"]), 1, "permission denied"),
        ] {
            let done = lab.run("", |config| config["process"]["args"] = args.clone());
            assert_eq!(done.code, code, "{args} {done:?}");
            let said = done.stderr.to_lowercase();
            let is_directory = args == json!(["/etc"]) && said.contains("is a directory");
            let is_directory = is_directory || lab.is_crun() && said.contains("operation not permitted");
            assert!(said.contains(&words.to_lowercase()) || is_directory, "{args} {done:?}");
        }
        assert_eq!(lab.sh("", |config| config["process"]["args"] = json!(["/bin/echo", "a"])), "a");
    });
}

fn sets(lab: &Lab, edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u64> {
    let said = lab.sh("grep Cap /proc/self/status", edit);
    said.lines()
        .map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn five_sets_of_capabilities() {
    each(|lab| {
        // inheritable, permitted, effective, bounding, ambient
        assert_eq!(sets(lab, |_| {}), [0, 0x2000_0420, 0x2000_0420, 0x2000_0420, 0]);
        let ambient = sets(lab, |config| {
            config["process"]["user"]["uid"] = json!(1000);
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                config["process"]["capabilities"][set] = json!(["CAP_KILL"]);
            }
            config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_CHOWN"]);
        });
        assert_eq!(ambient, [0x20, 0x20, 0x20, 0x21, 0x20]);
        let user = sets(lab, |config| config["process"]["user"]["uid"] = json!(1000));
        assert_eq!(user, [0, 0, 0, 0x2000_0420, 0]);
        let none = sets(lab, |config| config["process"]["capabilities"] = json!({}));
        assert_eq!(none, [0, 0, 0, 0, 0]);
    });
}

#[test]
fn unknown_capabilities_are_a_warning() {
    each(|lab| {
        let done = lab.run("true", |config| {
            config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_FLY"]);
        });
        assert_eq!(done.code, 0, "{done:?}");
        assert!(lab.is_crun() || done.stderr.contains("CAP_FLY"), "{done:?}");
    });
}

#[test]
fn no_new_privileges() {
    each(|lab| {
        for wanted in [true, false] {
            let said = lab.sh("grep NoNewPrivs /proc/self/status", |config| {
                config["process"]["noNewPrivileges"] = json!(wanted);
            });
            assert_eq!(said, format!("NoNewPrivs:\t{}", u8::from(wanted)));
        }
    });
}

#[test]
fn resource_limits() {
    each(|lab| {
        let said = lab.sh("ulimit -Sn; ulimit -Hn; ulimit -Sc", |config| {
            config["process"]["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ]);
        });
        assert_eq!(said, "100\n200\n0");
        let twice = lab.run("true", |config| {
            let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 });
            config["process"]["rlimits"] = json!([limit, limit]);
        });
        if lab.ours {
            // runc 1.1 takes the last one
            twice.fails(1, "RLIMIT_NOFILE");
        }
        let unknown = lab.run("true", |config| {
            config["process"]["rlimits"] = json!([{ "type": "RLIMIT_LOVE", "soft": 1, "hard": 1 }]);
        });
        unknown.fails(1, "RLIMIT_LOVE");
    });
}

#[test]
fn the_score_of_the_oom_killer() {
    each(|lab| {
        let said =
            lab.sh("cat /proc/self/oom_score_adj", |config| config["process"]["oomScoreAdj"] = json!(321));
        assert_eq!(said, "321");
    });
}

#[test]
fn the_session_is_new() {
    each(|lab| {
        // session and process group of the first process
        let said = lab.sh("cut -d' ' -f5,6 /proc/1/stat", |_| {});
        assert_eq!(said, "1 1");
    });
}

#[test]
fn only_the_standard_streams_are_open() {
    each(|lab| {
        // the shell may keep its script's descriptor at 10
        let said = lab.sh("ls /proc/1/fd >/tmp/list; grep -v 10 /tmp/list", |_| {});
        assert_eq!(said, "0\n1\n2");
    });
}

#[test]
fn sysctls_of_own_namespaces() {
    each(|lab| {
        let said = lab.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced", |config| {
            config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" });
        });
        assert_eq!(said, "1\n1");
        let foreign = lab.run("true", |config| config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }));
        foreign.fails(1, "vm.swappiness");
    });
}

#[test]
fn scheduler_io_priority_personality_and_memory_policy() {
    // runc 1.1 knows none of them but the personality
    let lab = Lab::davit();
    let said = lab.sh(
        "cat /proc/1/personality; ionice -p 1; grep -E '^(policy|prio)' /proc/1/sched; grep -o 'bind:0' /proc/1/numa_maps | head -1",
        |config| {
            config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
            config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
            config["linux"]["personality"] = json!({ "domain": "LINUX32" });
            if !std::path::Path::new("/proc/1/numa_maps").exists() {
                return;
            }
            config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "0" });
        },
    );
    assert!(said.starts_with("00000008\nbest-effort: prio 6"), "{said}");
    if std::path::Path::new("/proc/1/sched").exists() {
        assert!(said.contains("policy") && said.contains(":                    3"), "{said}");
        assert!(said.contains("125"), "{said}");
    }
    if std::path::Path::new("/proc/1/numa_maps").exists() {
        assert!(said.ends_with("bind:0"), "{said}");
    }
    let idle = lab.sh("ionice -p 1", |config| {
        config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
    });
    assert_eq!(idle, "idle");
}

#[test]
fn streams_belong_to_the_user() {
    each(|lab| {
        let said = lab.sh("stat -Lc %u /proc/self/fd/1; echo again >/proc/self/fd/1", |config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        });
        assert_eq!(said, "1000\nagain");
    });
}
