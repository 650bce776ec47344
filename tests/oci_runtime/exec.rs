//! `exec`.

use serde_json::json;

use super::lab::{Lab, each, namespace};

#[test]
fn a_process_in_all_namespaces_and_its_exit_code() {
    each(|lab| {
        let (id, _) = lab.start("sleep 1000", |config| {
            namespace(config, json!({ "type": "cgroup" }));
            config["process"]["cwd"] = json!("/etc");
        });
        let same = "for n in pid net ipc uts mnt cgroup user; do \
                    [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done; pwd; echo $A";
        let said = lab.verb(["exec", &id, "sh", "-c", same]).ok();
        // crun begins in the root
        assert_eq!(said, if lab.is_crun() { "/\n1" } else { "/etc\n1" });
        assert_eq!(lab.verb(["exec", &id, "sh", "-c", "exit 9"]).code, 9);
        let killed = lab.verb(["exec", &id, "sh", "-c", "kill -TERM $$"]);
        assert_eq!(killed.code, 143, "{killed:?}");
        let missing = lab.verb(["exec", &id, "nope"]);
        assert!(missing.stderr.contains("not found in $PATH"), "{missing:?}");
        assert_ne!(missing.code, 0);
        let cgroup = "[ \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" ] && echo same";
        assert_eq!(lab.verb(["exec", &id, "sh", "-c", cgroup]).ok(), "same");
    });
}

#[test]
fn changes_to_the_containers_process() {
    each(|lab| {
        let (id, _) = lab.start("sleep 1000", |_| {});
        let exec = |args: &[&str], script: &str| {
            let mut all = vec!["exec"];
            all.extend(args);
            all.extend([id.as_str(), "sh", "-c", script]);
            lab.verb(all).ok()
        };
        assert_eq!(exec(&["--cwd", "/etc/deep"], "pwd"), "/etc/deep");
        assert_eq!(exec(&["-e", "B=2", "-e", "A=3"], "echo $A$B"), "32");
        assert_eq!(exec(&["--user", "1000:50"], "id -u; id -g"), "1000\n50");
        if !lab.is_crun() {
            assert_eq!(exec(&["-u", "0", "-g", "50"], "id -G"), "0 50");
        }
        if lab.is_crun() {
            // crun gives what is named and nothing else
            return;
        }
        let bounding =
            |text: &str| text.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap().to_owned();
        let status = exec(&["-c", "CAP_CHOWN"], "grep Cap /proc/self/status");
        assert_eq!(bounding(&status), "0000000020000421");
    });
}

#[test]
fn a_process_from_a_file_detached() {
    each(|lab| {
        let (id, bundle) = lab.start("sleep 1000", |_| {});
        let (file, pid) = (bundle.join("process.json"), bundle.join("pid"));
        let process = json!({ "args": ["sh", "-c", "echo $X; exec sleep 1000"], "cwd": "/", "env": ["PATH=/bin", "X=file"],
            "user": { "uid": 7, "gid": 8 } });
        std::fs::write(&file, process.to_string()).unwrap();
        let out = std::fs::File::create(bundle.join("exec")).unwrap();
        let status = lab
            .command()
            .args(["exec", "--detach", "--pid-file", pid.to_str().unwrap()])
            .args(["--process", file.to_str().unwrap(), &id])
            .stdout(out)
            .status();
        assert!(status.unwrap().success());
        let pid = std::fs::read_to_string(&pid).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t7\t7") && status.contains("Gid:\t8\t8"), "{status}");
        crate::support::wait_until("it speaks", || {
            std::fs::read_to_string(bundle.join("exec")).unwrap() == "file\n"
        });
        let listed: Vec<i64> = serde_json::from_str(&lab.verb(["ps", "-f", "json", &id]).ok()).unwrap();
        assert!(listed.contains(&pid.parse().unwrap()) && listed.len() == 2, "{listed:?}");
    });
}

#[test]
fn it_needs_a_container_that_lives() {
    each(|lab| {
        let (id, _) = lab.start("true", |_| {});
        lab.wait(&id);
        assert_ne!(lab.verb(["exec", &id, "true"]).code, 0);
        assert_ne!(lab.verb(["exec", "none", "true"]).code, 0);
        let (id, _) = lab.create("true", |_| {});
        assert_eq!(lab.verb(["exec", &id, "echo", "early"]).ok(), "early");
        assert_eq!(lab.status(&id), "created");
    });
}

#[test]
fn processors_by_turns() {
    // runc 1.1 knows no execCPUAffinity
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return;
    }
    let lab = Lab::davit();
    let (id, bundle) = lab.start("sleep 1000", |_| {});
    let file = bundle.join("process.json");
    let process = |affinity: serde_json::Value| {
        json!({ "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
            "user": { "uid": 0, "gid": 0 }, "execCPUAffinity": affinity })
    };
    for (affinity, wanted) in [(json!({ "initial": "0", "final": "1" }), "1"), (json!({ "final": "0" }), "0")]
    {
        std::fs::write(&file, process(affinity).to_string()).unwrap();
        let said = lab.verb(["exec", "-p", file.to_str().unwrap(), &id]).ok();
        assert_eq!(said.split_whitespace().last(), Some(wanted), "{said}");
    }
}

#[test]
fn the_runtimes_own_program_is_out_of_reach() {
    // CVE-2019-5736: a command that is the runtime itself, and a look at the runtime's program in /proc.
    let lab = Lab::davit();
    let (id, _) = lab.start("sleep 1000", |_| {});
    let done = lab.verb(["exec", &id, "/proc/self/exe"]);
    assert_ne!(done.code, 0);
    let hash = |path: &std::path::Path| {
        crate::support::tool("sha256sum", [path]).ok().split(' ').next().unwrap().to_owned()
    };
    let before = hash(&crate::support::binary());
    let (id, bundle) = lab.start(
        "trap : TERM; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] && continue; \
         if (exec 9<$p/exe) 2>/dev/null; then readlink $p/exe; fi; done; done 2>/dev/null",
        |config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(["CAP_DAC_OVERRIDE", "CAP_KILL"]);
            }
        },
    );
    for _ in 0..20 {
        lab.verb(["exec", &id, "true"]).ok();
    }
    lab.verb(["kill", &id, "KILL"]).ok();
    lab.wait(&id);
    // What is seen at most is the trampoline, a sealed file in memory.
    let seen = std::fs::read_to_string(bundle.join("out")).unwrap();
    assert!(!seen.contains("/davit"), "the runtime's program was opened: {seen}");
    assert_eq!(hash(&crate::support::binary()), before);
}
