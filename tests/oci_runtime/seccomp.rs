//! `linux.seccomp`.

use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use super::lab::{Lab, accept, each};

fn refusing(names: Value, action: &str, errno: Option<u32>) -> Value {
    let mut rule = json!({ "names": names, "action": action });
    if let Some(errno) = errno {
        rule["errnoRet"] = json!(errno);
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [rule] })
}

#[test]
fn calls_are_refused_with_the_errno_that_is_asked() {
    each(|lab| {
        for privileges in [true, false] {
            let said = lab.sh("mkdir /tmp/x 2>&1; hostname >/dev/null && echo rest", |config| {
                config["process"]["noNewPrivileges"] = json!(privileges);
                config["linux"]["seccomp"] =
                    refusing(json!(["mkdir", "mkdirat", "no_such_call"]), "SCMP_ACT_ERRNO", Some(28));
            });
            assert_eq!(said, "mkdir: can't create directory '/tmp/x': No space left on device\nrest");
        }
    });
}

#[test]
fn a_user_without_capabilities_is_filtered_too() {
    each(|lab| {
        let said = lab.sh("grep Seccomp: /proc/self/status; mkdir /tmp/x 2>&1; true", |config| {
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["process"]["noNewPrivileges"] = json!(false);
            config["linux"]["seccomp"] = refusing(json!(["mkdir", "mkdirat"]), "SCMP_ACT_ERRNO", None);
        });
        assert!(said.starts_with("Seccomp:\t2\n") && said.contains("Operation not permitted"), "{said}");
    });
}

#[test]
fn a_call_may_be_the_end() {
    each(|lab| {
        let done = lab.run("sh -c 'mkdir /tmp/x'; echo $?", |config| {
            config["linux"]["seccomp"] = refusing(json!(["mkdir", "mkdirat"]), "SCMP_ACT_KILL_PROCESS", None);
        });
        assert!(done.stdout.contains("159"), "SIGSYS: {done:?}");
    });
}

#[test]
fn arguments_are_compared() {
    each(|lab| {
        let said = lab.sh("chmod 0700 /tmp && chmod 4755 /tmp 2>/dev/null; stat -c %a /tmp", |config| {
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                { "names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                  "args": [{ "index": 1, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ" }] },
                { "names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                  "args": [{ "index": 2, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ" }] },
            ] });
        });
        assert_eq!(said, "700");
    });
}

#[test]
fn an_exec_session_has_the_filter() {
    each(|lab| {
        let (id, _) = lab.start("sleep 1000", |config| {
            config["linux"]["seccomp"] = refusing(json!(["mkdir", "mkdirat"]), "SCMP_ACT_ERRNO", None);
        });
        let done = lab.verb(["exec", &id, "mkdir", "/tmp/x"]);
        assert_ne!(done.code, 0, "{done:?}");
    });
}

#[test]
fn a_supervisor_gets_the_listener_and_the_state() {
    each(|lab| {
        for early in [true, false] {
            let socket = lab.path(if early { "one" } else { "two" });
            let listener = UnixListener::bind(&socket).unwrap();
            let supervisor = std::thread::spawn(move || {
                let stream = accept(&listener);
                let mut state = vec![0; 1 << 16];
                let mut received = sys::scm::receive(&stream, &mut state).unwrap();
                let fd = received.descriptors.pop().expect("a descriptor");
                let kind =
                    std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)));
                // Closing it lets the kernel refuse the calls.
                drop(fd);
                let state: Value = serde_json::from_slice(&state[..received.length]).unwrap();
                (state, kind.unwrap().display().to_string())
            });
            let done = lab.run("mkdir /tmp/x 2>&1; echo rest", |config| {
                config["process"]["noNewPrivileges"] = json!(early);
                config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
                    "listenerMetadata": "words", "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
            });
            let (state, kind) = supervisor.join().unwrap();
            assert_eq!(done.ok(), "mkdir: can't create directory '/tmp/x': Function not implemented\nrest");
            assert!(kind.contains("seccomp notify"), "{kind}");
            assert_eq!(
                (&state["fds"], &state["metadata"]),
                (&json!(["seccompFd"]), &json!("words")),
                "{state}"
            );
            assert!(state["pid"].as_u64().unwrap() > 1 && state["state"]["id"].is_string(), "{state}");
        }
    });
}

#[test]
fn with_create_the_listener_comes_no_later_than_the_start() {
    each(|lab| {
        let socket = lab.path("listener");
        let listener = UnixListener::bind(&socket).unwrap();
        let (id, bundle) = lab.create("mkdir /tmp/x 2>/dev/null; echo rest", |config| {
            config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
        });
        lab.verb(["start", &id]).ok();
        let stream = accept(&listener);
        let mut state = vec![0; 1 << 16];
        drop(sys::scm::receive(&stream, &mut state).unwrap().descriptors);
        lab.wait(&id);
        assert_eq!(std::fs::read_to_string(bundle.join("out")).unwrap(), "rest\n");
    });
}

#[test]
fn notifications_need_somebody_to_notify() {
    let lab = Lab::davit();
    let rules = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    lab.run("true", |config| config["linux"]["seccomp"] = rules).fails(1, "linux.seccomp.listenerPath");
    let unknown = lab.run("true", |config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_DANCE" });
    });
    unknown.fails(1, "SCMP_ACT_DANCE");
}
