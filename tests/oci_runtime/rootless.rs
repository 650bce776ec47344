//! Without root.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::lab::Lab;
use crate::support::{Done, finish};

/// An ordinary user without a name, an entry in /etc/subuid, or a session.
const USER: &str = "12345";

fn as_user(lab: &Lab, args: &[&str]) -> Done {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--inh-caps=-all"]);
    command.arg(&lab.program).arg("--root").arg(lab.path("state")).args(args);
    finish(command.stdin(Stdio::null()).current_dir("/"))
}

/// A bundle that the user may read, as `spec --rootless` writes it.
fn bundle(lab: &Lab, script: &str) -> String {
    let dir = lab.path("user");
    std::fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(USER.parse().unwrap()), Some(USER.parse().unwrap())).unwrap();
    std::fs::set_permissions(lab.dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    as_user(lab, &["spec", "--rootless", "-b", dir.to_str().unwrap()]).ok();
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", script]);
    config["root"]["path"] = json!(super::lab::rootfs());
    std::fs::write(&path, config.to_string()).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn a_user_runs_a_container_alone() {
    let lab = Lab::davit();
    let bundle = bundle(&lab, "id -u; cat /proc/self/uid_map; hostname; touch /dev/shm/x && ls /dev/null");
    let done = as_user(&lab, &["run", "-b", &bundle, "u"]);
    let said = done.ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "0", USER, "1", "davit", "/dev/null"]);
}

#[test]
fn create_start_exec_kill_and_delete() {
    let lab = Lab::davit();
    let bundle = bundle(&lab, "sleep 1000");
    let out = std::fs::File::create(lab.path("out")).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(&lab.program);
    command.arg("--root").arg(lab.path("state")).args(["create", "-b", &bundle, "u"]);
    assert!(
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).status().unwrap().success()
    );
    as_user(&lab, &["start", "u"]).ok();
    let state: Value = serde_json::from_str(&as_user(&lab, &["state", "u"]).ok()).unwrap();
    assert_eq!((&state["status"], &state["owner"]), (&json!("running"), &json!(USER)), "{state}");
    assert_eq!(as_user(&lab, &["exec", "u", "id", "-u"]).ok(), "0");
    as_user(&lab, &["kill", "u", "KILL"]).ok();
    lab.wait("u");
    as_user(&lab, &["delete", "u"]).ok();
}
