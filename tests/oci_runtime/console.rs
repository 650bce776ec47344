//! Terminals, inherited descriptors, readiness.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use serde_json::json;

use super::lab::{Lab, accept, each};
use crate::support::wait_until;

/// Takes what comes to a console socket: the terminal, and its name.
fn take(listener: &UnixListener) -> (std::fs::File, String) {
    let stream = accept(listener);
    let mut name = [0; 4096];
    let mut received = sys::scm::receive(&stream, &mut name).unwrap();
    let master: OwnedFd = received.descriptors.pop().expect("a descriptor");
    (master.into(), String::from_utf8_lossy(&name[..received.length]).into_owned())
}

/// Reads until the text is there.
fn read_until(file: &mut std::fs::File, text: &str) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while !String::from_utf8_lossy(&said).contains(text) {
        match file.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
        }
    }
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains(text), "no {text:?} in {said:?}");
    said
}

#[test]
fn the_terminal_goes_to_the_socket() {
    each(|lab| {
        let socket = lab.path("console");
        let listener = UnixListener::bind(&socket).unwrap();
        let (id, bundle) = (
            lab.id(),
            lab.bundle(
                "tty; stty size; test -c /dev/console && echo con; read x; echo got $x; sleep 1000",
                |config| {
                    config["process"]["terminal"] = json!(true);
                    config["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
                },
            ),
        );
        let args =
            ["create", "--console-socket", socket.to_str().unwrap(), "-b", bundle.to_str().unwrap(), &id];
        lab.verb(args).ok();
        let (mut terminal, name) = take(&listener);
        assert!(!name.is_empty());
        lab.verb(["start", &id]).ok();
        let said = read_until(&mut terminal, "con\r\n");
        assert!(said.contains("/dev/pts/0\r\n33 77\r\n"), "{said:?}");
        terminal.write_all(b"hello\n").unwrap();
        read_until(&mut terminal, "got hello");
        // and one of an exec session
        let args = ["exec", "-d", "-t", "--console-socket", socket.to_str().unwrap(), &id, "tty"];
        lab.verb(args).ok();
        let (mut terminal, _) = take(&listener);
        read_until(&mut terminal, "/dev/pts/1");
    });
}

#[test]
fn socket_and_terminal_go_together() {
    each(|lab| {
        if lab.is_crun() {
            // crun 1.28 waits for somebody to take the terminal, and does not look at the socket without one
            return;
        }
        let bundle = lab.bundle("true", |config| config["process"]["terminal"] = json!(true));
        assert_eq!(lab.verb(["create", "-b", bundle.to_str().unwrap(), &lab.id()]).code, 1);
        let bundle = lab.bundle("true", |_| {});
        let args = ["create", "--console-socket", "/none", "-b", bundle.to_str().unwrap(), &lab.id()];
        assert_eq!(lab.verb(args).code, 1);
    });
}

#[test]
fn in_the_foreground_the_callers_terminal_is_passed_on() {
    each(|lab| {
        let bundle = lab
            .bundle("tty; read x; echo got $x; exit 6", |config| config["process"]["terminal"] = json!(true));
        let command = format!(
            "{} --root {} run -b {} {}",
            lab.program.display(),
            lab.path("state").display(),
            bundle.display(),
            lab.id()
        );
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(b"word\n").unwrap();
        let done = crate::support::Done::of(&child.wait_with_output().unwrap());
        assert!(done.stdout.contains("/dev/pts/0") && done.stdout.contains("got word"), "{done:?}");
        assert_eq!(done.code, 6, "{done:?}");
    });
}

#[test]
fn descriptors_are_inherited_as_asked() {
    each(|lab| {
        let bundle = lab.bundle("cat <&3; cat <&4; (: <&5) 2>/dev/null || echo closed", |_| {});
        let run = |before: &str, options: &str| {
            let script = format!(
                "{before} exec {} --root {} run {options} -b {} {} 3</etc/hostname 4</proc/sys/kernel/ostype 5</dev/null",
                lab.program.display(),
                lab.path("state").display(),
                bundle.display(),
                lab.id()
            );
            crate::support::tool("sh", ["-c", &script])
        };
        let host = std::fs::read_to_string("/etc/hostname").unwrap();
        assert_eq!(run("", "--preserve-fds 2").ok(), format!("{host}Linux\nclosed"));
        let bundle_env = lab.bundle("echo $LISTEN_FDS $LISTEN_PID; (: <&3) && echo open", |_| {});
        let script = format!(
            "export LISTEN_FDS=1 LISTEN_PID=$$; exec {} --root {} run -b {} {} 3</dev/null",
            lab.program.display(),
            lab.path("state").display(),
            bundle_env.display(),
            lab.id()
        );
        let said = crate::support::tool("sh", ["-c", &script]).ok();
        // crun tells the number alone
        assert_eq!(said, if lab.is_crun() { "1\nopen" } else { "1 1\nopen" });
        if lab.ours {
            run("", "--preserve-fds 200").fails(1, "is not open");
        }
    });
}

#[test]
fn descriptors_reach_an_exec_session() {
    let lab = Lab::davit();
    let (id, _) = lab.start("sleep 1000", |_| {});
    let script = format!(
        "exec {} --root {} exec --preserve-fds 1 {id} cat /proc/self/fd/3 3</etc/hostname",
        lab.program.display(),
        lab.path("state").display(),
    );
    let host = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(crate::support::tool("sh", ["-c", &script]).ok(), host.trim_end());
}

#[test]
fn readiness_is_passed_on() {
    // runc's socket is a proxy of another form; what counts is what systemd hears
    let lab = Lab::davit();
    let path = lab.path("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    // busybox has no client of Unix sockets: a descriptor of the test's, bound into the container, is one in python's place
    let (id, bundle) = (
        lab.id(),
        lab.bundle("echo $NOTIFY_SOCKET >/b/where; sleep 1000", |config| {
            let b = lab.path("b");
            std::fs::create_dir_all(&b).unwrap();
            super::lab::mount(
                config,
                json!({ "destination": "/b", "type": "bind", "source": b, "options": ["bind"] }),
            );
        }),
    );
    let out = std::fs::File::create(bundle.join("out")).unwrap();
    let status = lab
        .command()
        .env("NOTIFY_SOCKET", &path)
        .args(["create", "-b", bundle.to_str().unwrap(), &id])
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .status();
    assert!(status.unwrap().success());
    let mut start = lab.command().env("NOTIFY_SOCKET", &path).args(["start", &id]).spawn().unwrap();
    wait_until("the program runs", || lab.path("b/where").exists());
    wait_until("it was told", || {
        std::fs::read_to_string(lab.path("b/where")).unwrap() == "/run/notify/notify.sock\n"
    });
    assert!(start.try_wait().unwrap().is_none(), "start did not wait");
    let pid = lab.state(&id)["pid"].as_u64().unwrap();
    let inside = std::fs::File::open(format!("/proc/{pid}/root/run/notify")).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    let socket = format!("/proc/self/fd/{}/notify.sock", inside.as_raw_fd());
    client.send_to(b"STATUS=not yet", &socket).unwrap();
    client.send_to(b"READY=1\n", &socket).unwrap();
    assert!(start.wait().unwrap().success());
    let mut heard = [0; 256];
    let length = systemd.recv(&mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard[..length]), format!("MAINPID={pid}\nREADY=1\n"));
}
