//! `hooks`: when, where, with which state, and what their failure does.

use std::path::Path;

use serde_json::{Value, json};

use super::lab::{Lab, each};

/// A hook that appends its name, the state's status and where it runs to a file.
fn note(name: &str, file: &Path) -> Value {
    let script = format!(
        "s=$(tr -d ' \\n\\t'); echo \"{name} $(echo \"$s\" | sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') $ENVIRONMENT $1\" >>{}",
        file.display()
    );
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script, "sh", "argument"], "env": ["ENVIRONMENT=set", "PATH=/usr/bin:/bin"] })
}

#[test]
fn all_six_in_their_order_with_the_state() {
    each(|lab| {
        let log = lab.path("log");
        let (id, _) = lab.create("echo x; sleep 1000", |config| {
            config["hooks"] = json!({
                "prestart": [note("prestart", &log)],
                "createRuntime": [note("createRuntime", &log), note("second", &log)],
                "createContainer": [note("createContainer", &log)],
                "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "cat >/tmp/state"] }],
                "poststart": [note("poststart", &log)],
                "poststop": [note("poststop", &log)],
            });
        });
        let said = || std::fs::read_to_string(&log).unwrap();
        let created = "prestart creating set argument\ncreateRuntime creating set argument\nsecond creating set argument\n\
                       createContainer creating set argument\n";
        if !lab.ours {
            // runc 1.1 runs poststart at create, and tells it "created"
            lab.verb(["delete", "-f", &id]).ok();
            let names = |text: &str| {
                text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
            };
            let (said, created) = (said(), created.to_owned());
            assert!(
                said.starts_with(&created) || lab.is_crun() && names(&said)[..4] == names(&created),
                "{said}"
            );
            assert!(said.ends_with("poststop stopped set argument\n"), "{said}");
            return;
        }
        assert_eq!(said(), created);
        lab.verb(["start", &id]).ok();
        let started = format!("{created}poststart running set argument\n");
        assert_eq!(said(), started);
        let state: Value = serde_json::from_str(&lab.verb(["exec", &id, "cat", "/tmp/state"]).ok()).unwrap();
        assert_eq!((&state["id"], &state["status"]), (&json!(id), &json!("created")), "{state}");
        lab.verb(["kill", &id, "KILL"]).ok();
        lab.wait(&id);
        lab.verb(["delete", &id]).ok();
        assert_eq!(said(), format!("{started}poststop stopped set argument\n"));
    });
}

#[test]
fn each_in_its_namespaces() {
    each(|lab| {
        let log = lab.path("log");
        let look = |name: &str| {
            let script = format!("echo {name} $(readlink /proc/self/ns/mnt) >>{}", log.display());
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }])
        };
        let (id, _) = lab.start("sleep 1000", |config| {
            config["hooks"] = json!({
                "createRuntime": look("runtime"), "createContainer": look("container"), "poststart": look("after"),
                "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "ls / >/tmp/seen; readlink /proc/self/ns/mnt >>/tmp/seen"] }],
            });
        });
        let pid = lab.state(&id)["pid"].as_u64().unwrap();
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap().display().to_string();
        let (host, own) = (of("self"), of(&pid.to_string()));
        let wanted = format!("runtime {host}\ncontainer {own}\nafter {host}\n");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), wanted);
        let seen = lab.verb(["exec", &id, "cat", "/tmp/seen"]).ok();
        assert!(seen.contains("etc") && seen.ends_with(&own), "{seen}");
    });
}

#[test]
fn before_the_change_of_root_mounts_are_found_in_the_bundle() {
    // What vendors' hooks do: enter the mount namespace of the process and work below the root file system's path.
    let lab = Lab::davit();
    let seen = lab.path("seen");
    let script = format!(
        "s=$(cat); pid=$(echo \"$s\" | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
         nsenter -t $pid -m ls {root}/proc/1/ {root}/tmp/.. >{seen}",
        root = super::lab::rootfs().display(),
        seen = seen.display()
    );
    lab.run("true", |config| {
        config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin"] }] });
    })
    .ok();
    let seen = std::fs::read_to_string(&seen).unwrap();
    assert!(seen.contains("mountinfo") && seen.contains("etc"), "{seen}");
}

#[test]
fn a_failure_before_the_start_undoes_the_container() {
    each(|lab| {
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let id = lab.id();
            let bundle = lab.bundle("true", |config| {
                let script = "echo the reason >&2; exit 3";
                config["hooks"] = json!({ kind: [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
            });
            let done = lab.verb(["create", "-b", bundle.to_str().unwrap(), &id]);
            assert_ne!(done.code, 0, "{kind} {done:?}");
            if lab.ours {
                assert!(done.stderr.contains(&format!("hooks.{kind}[0]")), "{done:?}");
                assert!(done.stderr.contains("the reason"), "{done:?}");
            }
            assert_eq!(lab.verb(["list", "-q"]).ok(), "");
        }
    });
}

#[test]
fn a_failure_at_the_start_stops_it() {
    // runc 1.1 starts the program all the same, and says nothing
    let lab = Lab::davit();
    for kind in ["startContainer", "poststart"] {
        let (id, _) = lab.create("sleep 1000", |config| {
            config["hooks"] = json!({ kind: [{ "path": "/bin/sh", "args": ["sh", "-c", "exit 3"] }] });
        });
        lab.verb(["start", &id]).fails(1, &format!("hooks.{kind}[0]"));
        lab.wait(&id);
    }
}

#[test]
fn one_that_takes_too_long_is_killed() {
    each(|lab| {
        let begin = std::time::Instant::now();
        let done = lab.run("true", |config| {
            config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1 }] });
        });
        assert_eq!(done.code, 1, "{done:?}");
        assert!(begin.elapsed().as_secs() < 60, "it was waited for");
    });
}

#[test]
fn a_relative_path_is_refused() {
    let lab = Lab::davit();
    let done = lab.run("true", |config| config["hooks"] = json!({ "poststart": [{ "path": "sh" }] }));
    done.fails(1, "hooks.poststart[0].path");
    let done = lab.run("true", |config| {
        config["hooks"] = json!({ "prestart": [{ "path": "/bin/sh", "timeout": 0 }] });
    });
    done.fails(1, "hooks.prestart[0].timeout");
}
