//! From `create` to `delete`.

use serde_json::json;

use super::lab::{Lab, each};
use crate::support::wait_until;

#[test]
fn states_follow_the_specification() {
    each(|lab| {
        let (id, bundle) = lab.create("echo started; sleep 1000", |config| {
            config["annotations"] = json!({ "com.example.key": "value" });
        });
        let state = lab.state(&id);
        assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(id)), "{state}");
        assert_eq!(state["bundle"], json!(bundle.canonicalize().unwrap()));
        assert_eq!(state["annotations"]["com.example.key"], "value");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
        let pid = state["pid"].as_u64().unwrap();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(std::fs::read_to_string(bundle.join("out")).unwrap(), "", "the program runs before start");
        lab.verb(["start", &id]).ok();
        assert_eq!(lab.status(&id), "running");
        assert_eq!(lab.state(&id)["pid"].as_u64().unwrap(), pid);
        wait_until("the program runs", || {
            std::fs::read_to_string(bundle.join("out")).unwrap() == "started\n"
        });
        assert_eq!(lab.verb(["start", &id]).code, 1, "started twice");
        assert_eq!(lab.verb(["delete", &id]).code, 1, "deleted while it runs");
        lab.verb(["kill", &id, "KILL"]).ok();
        lab.wait(&id);
        assert_eq!(lab.verb(["kill", &id, "TERM"]).code, 1, "killed when stopped");
        assert_eq!(lab.verb(["start", &id]).code, 1, "started when stopped");
        lab.verb(["delete", &id]).ok();
        for verb in ["state", "start", "kill", "delete"] {
            assert_eq!(lab.verb([verb, &id]).code, 1, "{verb} of none");
        }
        lab.verb(["delete", "--force", &id]).ok();
    });
}

#[test]
fn a_created_container_can_be_killed() {
    each(|lab| {
        let (id, _) = lab.create("echo never", |_| {});
        lab.verb(["kill", &id, "KILL"]).ok();
        lab.wait(&id);
        lab.verb(["delete", &id]).ok();
    });
}

#[test]
fn an_id_is_taken_once() {
    each(|lab| {
        let (id, bundle) = lab.create("true", |_| {});
        let again = lab.verb(["create", "-b", bundle.to_str().unwrap(), &id]);
        assert_eq!(again.code, 1, "{again:?}");
        assert_eq!(lab.status(&id), "created");
        lab.verb(["delete", "-f", &id]).ok();
        for wrong in ["", "../x", "a/b", "a b"] {
            assert_eq!(lab.verb(["create", "-b", bundle.to_str().unwrap(), wrong]).code, 1, "{wrong:?}");
        }
    });
}

#[test]
fn later_edits_of_the_configuration_have_no_effect() {
    each(|lab| {
        let (id, bundle) = lab.create("echo old", |_| {});
        let config = std::fs::read_to_string(bundle.join("config.json")).unwrap();
        std::fs::write(bundle.join("config.json"), config.replace("echo old", "echo new")).unwrap();
        lab.verb(["start", &id]).ok();
        lab.wait(&id);
        assert_eq!(std::fs::read_to_string(bundle.join("out")).unwrap(), "old\n");
    });
}

#[test]
fn a_failed_create_leaves_nothing() {
    each(|lab| {
        let id = lab.id();
        let bundle = lab.bundle("true", |config| config["process"]["args"] = json!(["nothing-of-this-name"]));
        let failed = lab.verb(["create", "-b", bundle.to_str().unwrap(), &id]);
        failed.fails(1, "not found in $PATH");
        assert_eq!(lab.verb(["list", "-q"]).ok(), "");
        let left = crate::support::tool("find", ["/sys/fs/cgroup", "-maxdepth", "3", "-name", &id]).stdout;
        assert_eq!(left, "");
    });
}

#[test]
fn run_gives_the_exit_code_and_forgets_the_container() {
    each(|lab| {
        assert_eq!(lab.run("exit 7", |_| {}).code, 7);
        assert_eq!(lab.run("kill -9 $$; sleep 0.1", |_| {}).code, 0, "the first process is immune to itself");
        assert_eq!(lab.run("sh -c 'kill -TERM $$'; exit $?", |_| {}).code, 143);
        assert_eq!(lab.verb(["list", "-q"]).ok(), "");
    });
}

#[test]
fn run_detached_and_kept() {
    each(|lab| {
        let (id, bundle) = (lab.id(), lab.bundle("sleep 1000", |_| {}));
        let pid_file = lab.path("pid");
        lab.command()
            .args([
                "run",
                "-d",
                "--pid-file",
                pid_file.to_str().unwrap(),
                "-b",
                bundle.to_str().unwrap(),
                &id,
            ])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(lab.status(&id), "running");
        let pid: u64 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
        assert_eq!(lab.state(&id)["pid"], pid);
        lab.verb(["delete", "-f", &id]).ok();
        if lab.ours {
            let bundle = lab.bundle("exit 3", |_| {});
            assert_eq!(lab.verb(["run", "--keep", "-b", bundle.to_str().unwrap(), "kept"]).code, 3);
            assert_eq!(lab.status("kept"), "stopped");
        }
    });
}

#[test]
fn the_first_process_belongs_to_a_subreaper() {
    // The engine's way: create by a child, and the container is the subreaper's.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    each(|lab| {
        let (id, bundle) = (lab.id(), lab.bundle("exit 5", |_| {}));
        let script = format!(
            "set -e; p={p}; s={s}; $p --root $s create --pid-file {f} -b {b} {id} >/dev/null 2>&1; pid=$(cat {f}); \
             grep PPid /proc/$pid/status; $p --root $s start {id}; echo $pid",
            p = lab.program.display(),
            s = lab.path("state").display(),
            f = lab.path("pid").display(),
            b = bundle.display(),
        );
        let said = crate::support::tool("sh", ["-c", &script]).ok();
        assert!(said.starts_with(&format!("PPid:\t{}\n", std::process::id())), "{said}");
        let pid = rustix::process::Pid::from_raw(said.lines().last().unwrap().parse().unwrap());
        let (_, status) =
            rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(5), "the subreaper gets the exit code");
        lab.wait(&id);
    });
}

#[test]
fn signals_by_name_and_number_and_to_all() {
    each(|lab| {
        let script =
            "trap 'echo usr1' USR1; trap 'echo usr2; exit' USR2; echo up; while :; do sleep 0.05; done";
        let (id, bundle) = lab.start(script, |_| {});
        let said = |text: &str| std::fs::read_to_string(bundle.join("out")).unwrap().contains(text);
        wait_until("the traps are set", || said("up"));
        lab.verb(["kill", &id, "SIGUSR1"]).ok();
        wait_until("by name", || said("usr1"));
        lab.verb(["kill", &id, "12"]).ok();
        wait_until("by number", || said("usr2"));
        lab.wait(&id);
        let (id, _) = lab.start("sleep 1000 & sleep 1000", |_| {});
        lab.verb(["kill", "--all", &id, "KILL"]).ok();
        lab.wait(&id);
        assert_eq!(lab.verb(["kill", &id, "NONSENSE"]).code, 1);
    });
}

#[test]
fn list_tells_of_all() {
    each(|lab| {
        let (one, _) = lab.create("true", |_| {});
        let (two, _) = lab.start("sleep 1000", |_| {});
        let table = lab.verb(["list"]).ok();
        assert!(table.lines().next().unwrap().contains("PID") && table.contains(&one), "{table}");
        let json: serde_json::Value = serde_json::from_str(&lab.verb(["list", "-f", "json"]).ok()).unwrap();
        let status = |id: &str| {
            let all = json.as_array().unwrap().iter();
            all.clone().find(|state| state["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
        };
        assert_eq!((status(&one).as_str(), status(&two).as_str()), ("created", "running"));
    });
}

#[test]
fn a_killed_create_leaves_what_delete_removes() {
    let lab = Lab::davit();
    for hook in ["createRuntime", "createContainer"] {
        let (id, here) = (lab.id(), lab.path(hook));
        let bundle = lab.bundle("true", |config| {
            let script = format!("echo >{}; sleep 1000", here.display());
            config["hooks"] = json!({ hook: [{ "path": "/bin/sh", "args": ["sh", "-c", script],
                "env": ["PATH=/usr/bin:/bin"] }] });
        });
        let mut create = lab.command().args(["create", "-b", bundle.to_str().unwrap(), &id]).spawn().unwrap();
        wait_until("the hook runs", || here.exists());
        assert_eq!(lab.status(&id), "creating");
        create.kill().unwrap();
        create.wait().unwrap();
        assert_eq!(lab.verb(["start", &id]).code, 1);
        lab.verb(["delete", "--force", &id]).ok();
        let left = crate::support::tool("find", ["/sys/fs/cgroup", "-name", &id]).stdout;
        assert_eq!(left, "");
        for line in crate::support::processes_with(&here.display().to_string()) {
            // What a hook outside of the container was doing is its own.
            let pid =
                rustix::process::Pid::from_raw(line.split(' ').next().unwrap().parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            assert_eq!(hook, "createRuntime", "{line}");
        }
    }
}

#[test]
fn of_many_with_one_id_one_is_created() {
    let lab = Lab::davit();
    let bundle = lab.bundle("true", |_| {});
    let (id, bundle) = (lab.id(), bundle.to_str().unwrap());
    let one = |_| {
        lab.command().args(["create", "-b", bundle, &id]).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let all: Vec<_> = (0..8).map(one).collect();
    let created =
        all.into_iter().map(|mut child| child.wait().unwrap()).filter(|status| status.success()).count();
    assert_eq!(created, 1);
    let start = |_| lab.command().args(["start", &id]).spawn().unwrap();
    let all: Vec<_> = (0..8).map(start).collect();
    let started =
        all.into_iter().map(|mut child| child.wait().unwrap()).filter(|status| status.success()).count();
    assert_eq!(started, 1);
}
