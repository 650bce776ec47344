//! `davit run` and the life of containers.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::{Davit, wait_until};

#[test]
fn output_and_exit_codes_are_the_containers() {
    let davit = Davit::with_busybox();
    assert_eq!(davit.run(["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    let done = davit.run(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(davit.run(["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code, 137);
    assert_eq!(davit.run(["run", "--rm", "busybox", "/missing"]).code, 127);
    assert_eq!(davit.run(["run", "--rm", "busybox", "missing-in-path"]).code, 127);
    assert_eq!(davit.run(["run", "--rm", "busybox", "/etc/passwd"]).code, 126);
    assert_eq!(davit.run(["run", "--rm", "busybox", "/etc"]).code, 126);
    assert_eq!(davit.run(["run", "--rm", "--pull=never", "no-such-image", "true"]).code, 125);
    assert_eq!(davit.run(["run", "--rm", "-w", "/no/such/dir", "busybox", "true"]).code, 126);
    assert_eq!(davit.run(["run", "--rm", "-u", "nobody-here", "busybox", "true"]).code, 126);
    assert_eq!(davit.run(["ps", "-aq"]).ok(), "", "a failed start with --rm leaves nothing");
}

#[test]
fn options_reach_the_process() {
    let davit = Davit::with_busybox();
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none"];
        all.extend(args);
        davit.run(all).ok()
    };
    assert_eq!(run(&["-e", "A=1", "-e", "B=x y", "busybox", "sh", "-c", "echo $A-$B"]), "1-x y");
    assert_eq!(run(&["-w", "/tmp", "busybox", "pwd"]), "/tmp");
    assert_eq!(run(&["-u", "ann", "busybox", "id", "-u"]), "1000");
    assert_eq!(run(&["-u", "1234:56", "busybox", "sh", "-c", "id -u; id -g"]), "1234\n56");
    assert_eq!(run(&["--hostname", "somewhere", "busybox", "hostname"]), "somewhere");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "a", "b"]), "a b");
    assert_eq!(
        run(&["--read-only", "busybox", "sh", "-c", "touch /x 2>&1; touch /tmp/x && echo tmp"]),
        "touch: /x: Read-only file system\ntmp"
    );
    assert_eq!(run(&["--tmpfs", "/mnt:size=1m", "busybox", "sh", "-c", "stat -f -c %T /mnt"]), "tmpfs");
    assert_eq!(
        run(&["busybox", "sh", "-c", "echo $PATH $HOME; umask"]),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root\n0022"
    );
    assert_eq!(
        run(&["busybox", "sh", "-c", "ls /proc/self/fd | wc -l"]).parse::<u32>().unwrap(),
        4,
        "no descriptor leaks in"
    );
    assert_eq!(run(&["busybox", "sh", "-c", "ls /sys/class/net"]), "lo");
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        davit.run(["run", "--rm", "--network=host", "busybox", "readlink", "/proc/self/ns/net"]).ok(),
        host.to_str().unwrap()
    );
}

#[test]
fn binds_and_mounts() {
    let davit = Davit::with_busybox();
    let dir = crate::support::scratch();
    std::fs::write(dir.path().join("f"), "host\n").unwrap();
    let path = dir.path().to_str().unwrap();
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none"];
        all.extend(args);
        davit.run(all)
    };
    assert_eq!(
        run(&["-v", &format!("{path}:/data"), "busybox", "sh", "-c", "cat /data/f; echo new > /data/g"]).ok(),
        "host"
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("g")).unwrap(), "new\n");
    assert_ne!(run(&["-v", &format!("{path}:/data:ro"), "busybox", "touch", "/data/h"]).code, 0);
    assert_eq!(
        run(&["--mount", &format!("type=bind,src={path}/f,dst=/one,ro"), "busybox", "cat", "/one"]).ok(),
        "host"
    );
    assert_eq!(
        run(&[
            "--mount",
            "type=tmpfs,dst=/t,tmpfs-size=64k",
            "busybox",
            "sh",
            "-c",
            "df -k /t | tail -1 | awk '{print $2}'"
        ])
        .ok(),
        "64"
    );
    run(&["-v", "/no/such/path:/x", "busybox", "true"]).fails(125, "/no/such/path");
}

#[test]
fn confinement_equals_podmans_defaults() {
    let davit = Davit::with_busybox();
    let status = davit.sh("busybox", "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("CapEff:"), "00000000800405fb");
    assert_eq!(field("CapBnd:"), "00000000800405fb");
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "0");
    assert_eq!(field("Seccomp:"), "2");
    let caps = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none"];
        all.extend(args);
        all.extend([
            "busybox",
            "sh",
            "-c",
            "awk '/^CapEff/{print $2} /^CapBnd/{print $2}' /proc/self/status",
        ]);
        davit.run(all).ok()
    };
    assert_eq!(caps(&["--cap-drop=ALL"]), "0000000000000000\n0000000000000000");
    assert_eq!(caps(&["--cap-drop=ALL", "--cap-add=CHOWN"]), "0000000000000001\n0000000000000001");
    assert_eq!(caps(&["-u", "1000"]), "0000000000000000\n00000000800405fb");
    let out = davit.run([
        "run",
        "--rm",
        "--security-opt=no-new-privileges",
        "busybox",
        "grep",
        "NoNewPrivs",
        "/proc/self/status",
    ]);
    assert_eq!(out.ok(), "NoNewPrivs:\t1");
    let out = davit.run([
        "run",
        "--rm",
        "--security-opt",
        "seccomp=unconfined",
        "busybox",
        "grep",
        "Seccomp:",
        "/proc/self/status",
    ]);
    assert_eq!(out.ok(), "Seccomp:\t0");
    assert_eq!(davit.sh("busybox", "cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware | wc -l; mount -o remount,rw /proc/sys 2>/dev/null || echo refused").lines().last().unwrap(), "refused");
    assert_ne!(
        davit.run(["run", "--rm", "busybox", "sh", "-c", "echo x > /proc/sys/kernel/hostname"]).code,
        0
    );
    assert_eq!(davit.sh("busybox", "unshare -m true 2>/dev/null || echo refused"), "refused");
}

#[test]
fn standard_input_reaches_the_container_only_with_i() {
    let davit = Davit::with_busybox();
    assert_eq!(
        davit.run_with_input(["run", "--rm", "-i", "busybox", "cat"], b"line 1\nline 2\n").ok(),
        "line 1\nline 2"
    );
    assert_eq!(davit.run_with_input(["run", "--rm", "busybox", "cat"], b"ignored").ok(), "");
    let big = vec![b'x'; 3_000_000];
    assert_eq!(davit.run_with_input(["run", "--rm", "-i", "busybox", "wc", "-c"], &big).ok(), "3000000");
}

#[test]
fn detached_containers_live_and_are_listed() {
    let davit = Davit::with_busybox();
    let id = davit
        .run([
            "run",
            "-d",
            "--name",
            "one",
            "busybox",
            "sh",
            "-c",
            "echo started; trap 'exit 3' TERM; while :; do sleep 0.1; done",
        ])
        .ok();
    assert_eq!(id.len(), 64);
    assert!(davit.run(["ps"]).ok().contains("one"));
    assert_eq!(davit.run(["ps", "-q"]).ok(), id[..12]);
    assert_eq!(davit.run(["ps", "--format", "{{.Names}} {{.State}}"]).ok(), "one running");
    wait_until("the log has a line", || davit.run(["logs", "one"]).ok() == "started");
    assert_eq!(davit.run(["exec", "one", "sh", "-c", "echo in; exit 4"]).code, 4);
    assert_eq!(
        davit
            .run([
                "exec",
                "-e",
                "X=1",
                "-w",
                "/tmp",
                "-u",
                "ann",
                "one",
                "sh",
                "-c",
                "echo $X $(pwd) $(id -un)"
            ])
            .ok(),
        "1 /tmp ann"
    );
    assert_eq!(davit.run_with_input(["exec", "-i", "one", "cat"], b"typed").ok(), "typed");
    davit.run(["run", "-d", "--name", "one", "busybox", "true"]).fails(125, "one");
    assert_eq!(davit.run(["rm", "one"]).code, 2);
    assert_eq!(davit.run(["stop", "one"]).ok(), "one");
    assert_eq!(davit.run(["wait", "one"]).ok(), "3");
    assert_eq!(
        davit.inspect("one", "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}"),
        "exited 3 false"
    );
    assert_eq!(davit.run(["exec", "one", "true"]).code, 255);
    assert!(
        davit.run(["ps"]).ok().lines().count() == 1 && davit.run(["ps", "-a"]).ok().contains("Exited (3)")
    );
    davit.run(["start", "one"]).ok();
    assert_eq!(davit.inspect("one", "{{.State.Status}}"), "running");
    assert_eq!(davit.run(["kill", "one"]).ok(), "one");
    assert_eq!(davit.run(["wait", "one"]).ok(), "137");
    assert_eq!(davit.run(["rm", "one"]).ok(), "one");
    assert_eq!(davit.run(["rm", "one"]).code, 1);
    assert_eq!(davit.run(["rm", "-f", "one"]).code, 0);
    assert_eq!(davit.run(["ps", "-aq"]).ok(), "");
}

#[test]
fn logs_keep_order_streams_and_times() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "--name",
            "l",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3 4 5; do echo out $i; done; echo bad >&2",
        ])
        .ok();
    let done = davit.run(["logs", "l"]);
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out 1\nout 2\nout 3\nout 4\nout 5\n", "bad\n")
    );
    let tail = davit.run(["logs", "--tail", "2", "l"]);
    assert_eq!((tail.stdout.as_str(), tail.stderr.as_str()), ("out 5\n", "bad\n"));
    assert!(davit.run(["logs", "-t", "--tail", "2", "l"]).stdout.starts_with("20"));
    davit
        .run([
            "run",
            "-d",
            "--name",
            "f",
            "busybox",
            "sh",
            "-c",
            "for i in 1 2 3; do echo $i; sleep 0.2; done",
        ])
        .ok();
    assert_eq!(davit.run(["logs", "-f", "f"]).ok(), "1\n2\n3");
}

#[test]
fn signals_are_handed_on() {
    let davit = Davit::with_busybox();
    let mut child = davit
        .command()
        .args([
            "run",
            "--rm",
            "--name",
            "s",
            "busybox",
            "sh",
            "-c",
            "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut buffer = [0; 6];
    out.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"ready\n");
    crate::support::tool("kill", ["-TERM", &child.id().to_string()]).ok();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got\n", Some(5)));
}

/// `script` gives a command a terminal. `keys` are pressed once the command has printed `prompt`: before that the
/// terminal is not in raw mode, and would keep some of them.
fn on_terminal(davit: &Davit, arguments: &str, prompt: &str, keys: &[u8]) -> (i32, String) {
    let line = format!(
        "stty rows 33 cols 77; {} --root {} --runroot {} {arguments}",
        crate::support::binary().display(),
        davit.root().display(),
        davit.runroot().display()
    );
    let mut child = std::process::Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut out, mut pressed, mut block) = (Vec::new(), false, [0; 4096]);
    loop {
        if !pressed && String::from_utf8_lossy(&out).contains(prompt) {
            stdin.write_all(keys).unwrap();
            stdin.flush().unwrap();
            pressed = true;
        }
        match stdout.read(&mut block).unwrap() {
            0 => break,
            length => out.extend_from_slice(&block[..length]),
        }
    }
    let code = child.wait().unwrap().code().unwrap();
    drop(stdin);
    (code, String::from_utf8_lossy(&out).replace('\r', ""))
}

#[test]
fn terminals_have_the_callers_size() {
    let davit = Davit::with_busybox();
    let (code, out) =
        on_terminal(&davit, "run --rm -t busybox sh -c 'stty size; tty; echo $TERM; exit 6'", "", b"");
    assert_eq!(code, 6, "{out}");
    assert!(out.contains("33 77") && out.contains("/dev/pts/0") && out.contains("xterm"), "{out}");
    davit.run(["run", "-d", "--name", "x", "busybox", "sleep", "60"]).ok();
    let (code, out) = on_terminal(&davit, "exec -it x sh -c 'stty size; exit 3'", "", b"");
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("33 77"), "{out}");
}

#[test]
fn detach_keys_leave_the_container_running() {
    let davit = Davit::with_busybox();
    let (code, out) =
        on_terminal(&davit, "run -it --name d busybox sh -c 'echo up; sleep 60'", "up", b"\x10\x11");
    assert_eq!(code, 0, "{out}");
    assert_eq!(davit.inspect("d", "{{.State.Status}}"), "running");
}

#[test]
fn created_containers_start_later() {
    let davit = Davit::with_busybox();
    let id = davit.run(["create", "--name", "c", "busybox", "echo", "late"]).ok();
    assert_eq!(
        davit.run(["ps", "-a", "--format", "{{.ID}} {{.Status}}"]).ok(),
        format!("{} Created", &id[..12])
    );
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "late");
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "late", "the same container, again");
    assert_eq!(davit.run(["rename", "c", "d"]).code, 0);
    assert_eq!(davit.run(["inspect", "--format", "{{.Name}}", "d"]).ok(), "d");
}

#[test]
fn paused_containers_stand_still() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "p", "busybox", "sleep", "60"]).ok();
    davit.run(["pause", "p"]).ok();
    assert_eq!(davit.inspect("p", "{{.State.Status}}"), "paused");
    assert_eq!(davit.run(["exec", "p", "true"]).code, 255);
    davit.run(["unpause", "p"]).ok();
    assert_eq!(davit.run(["exec", "p", "true"]).code, 0);
}

#[test]
fn the_writable_layer_is_the_containers_own_and_lasts() {
    let davit = Davit::with_busybox();
    davit.run(["run", "--name", "w", "busybox", "sh", "-c", "echo kept >> /file; rm -f /etc/group"]).ok();
    assert_eq!(davit.run(["start", "-a", "w"]).ok(), "");
    davit.run(["run", "-d", "--name", "v", "busybox", "sleep", "60"]).ok();
    assert_ne!(davit.run(["exec", "v", "cat", "/file"]).code, 0);
    assert_eq!(davit.run(["exec", "v", "ls", "/etc/group"]).ok(), "/etc/group");
}

#[test]
fn another_runtime_gives_the_same_results() {
    // Debian's crun refuses hybrid control groups, which machines of CI have; runc takes all.
    let davit = Davit::with_busybox();
    let run = |args: &[&str]| davit.run([&["--runtime=runc", "run"], args].concat());
    let done = run(&["--rm", "-e", "A=b", "busybox", "sh", "-c", "echo $A; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "b\n", "err\n"));
    assert_eq!(run(&["--rm", "busybox", "missing-in-path"]).code, 127);
    assert_eq!(run(&["--rm", "busybox", "/etc"]).code, 126);
    let (code, out) =
        on_terminal(&davit, "--runtime=runc run --rm -t busybox sh -c 'stty size; exit 6'", "", b"");
    assert!(code == 6 && out.contains("33 77"), "{out}");
    run(&[
        "-d",
        "--name",
        "d",
        "--memory=64m",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; while :; do sleep 0.05; done",
    ])
    .ok();
    assert_eq!(davit.inspect("d", "{{.OCIRuntime}}"), "runc");
    assert_eq!(davit.run(["exec", "d", "echo", "inside"]).ok(), "inside");
    davit.run(["pause", "d"]).ok();
    assert_eq!(davit.inspect("d", "{{.State.Status}}"), "paused");
    davit.run(["unpause", "d"]).ok();
    davit.run(["stop", "d"]).ok();
    assert_eq!(davit.inspect("d", "{{.State.ExitCode}}"), "9");
    // The runtime is the container's own, whatever the command says that starts it again.
    davit.run(["start", "d"]).ok();
    assert_eq!(davit.inspect("d", "{{.OCIRuntime}} {{.State.Status}}"), "runc running");
    davit.run(["rm", "-f", "-t", "0", "d"]).ok();
    let dir = crate::support::context("FROM busybox\nRUN echo made > /made\n", &[]);
    davit.run(["--runtime=runc", "build", "-q", "-t", "b", dir.path().to_str().unwrap()]).ok();
    assert_eq!(davit.sh("b", "cat /made"), "made");
    assert_eq!(davit.run(["--runtime=no-such-runtime", "run", "busybox", "true"]).code, 125);
    let place = davit.dir.path().to_str().unwrap();
    assert!(crate::support::mounts_below(place).is_empty());
}

#[test]
fn files_that_programs_look_for() {
    let davit = Davit::with_busybox();
    let sh = |options: &[&str], script: &str| {
        let mut line = vec!["run", "--rm"];
        line.extend(options);
        line.extend(["busybox", "sh", "-c", script]);
        davit.run(line)
    };
    assert_eq!(sh(&[], "readlink /etc/mtab; wc -c < /run/.containerenv").ok(), "/proc/mounts\n0");
    assert!(sh(&["--privileged"], "cat /run/.containerenv").ok().contains("id=\""));
    let host = crate::support::tool("uname", ["-n"]).ok();
    assert_eq!(sh(&["--network=host"], "cat /etc/hostname").ok(), host);
    assert_eq!(
        sh(&["--hostname=h.x"], "grep h.x /etc/hosts | cut -f1; cat /etc/hostname").ok(),
        "127.0.0.1\nh.x"
    );
    // an /etc that is the user's own is left alone
    let etc = crate::support::scratch();
    sh(&["-v", &format!("{}:/etc", etc.path().display())], "ls /etc").ok();
    assert!(!etc.path().join("mtab").exists());
}

#[test]
fn working_directories_may_be_relative_to_the_root() {
    let davit = Davit::with_busybox();
    assert_eq!(davit.run(["run", "--rm", "-w", "usr/bin", "busybox", "pwd"]).ok(), "/usr/bin");
    davit.run(["run", "-d", "--name", "w", "busybox", "sleep", "60"]).ok();
    assert_eq!(davit.run(["exec", "-w", "tmp", "w", "pwd"]).ok(), "/tmp");
}

#[test]
fn a_read_only_container_may_have_no_writable_place_at_all() {
    let davit = Davit::with_busybox();
    let script = "for f in /x /dev/x /dev/shm/x /tmp/x /run/x; do touch $f 2>/dev/null && echo $f; done; \
                  echo > /dev/null && echo null; ls /dev/pts/ptmx; mount | grep -c ' /dev/pts '";
    let options = ["run", "--rm", "--read-only", "--read-only-tmpfs=false", "busybox", "sh", "-c", script];
    assert_eq!(davit.run(options).ok(), "null\n/dev/pts/ptmx\n1");
    let script =
        "for f in /x /dev/x /dev/shm/x /tmp/x /run/x /var/tmp/x; do touch $f 2>/dev/null && echo $f; done";
    let options = ["run", "--rm", "--read-only", "busybox", "sh", "-c", script];
    assert_eq!(davit.run(options).ok(), "/dev/x\n/dev/shm/x\n/tmp/x\n/run/x\n/var/tmp/x");
}

#[test]
fn users_that_the_image_does_not_know_have_names() {
    let davit = Davit::with_busybox();
    let run =
        |user: &str, script: &str| davit.run(["run", "--rm", "-u", user, "busybox", "sh", "-c", script]);
    assert_eq!(run("4321:77", "id; echo $HOME").ok(), "uid=4321(4321) gid=77(77) groups=77(77)\n/");
    assert_eq!(run("4321", "whoami; grep -c ann /etc/passwd").ok(), "4321\n1");
    assert_eq!(run(":50", "id").ok(), "uid=0(root) gid=50(staff) groups=50(staff)");
    assert_eq!(run("ann", "grep -c . /etc/passwd; mount | grep -c /etc/passwd").stdout, "2\n0\n");
    davit.run(["run", "--name", "u", "-u", "4321", "busybox", "true"]).ok();
    davit.run(["start", "-a", "u"]).ok();
    let bound = crate::support::scratch();
    std::fs::write(bound.path().join("p"), "me:x:4321:0::/tmp:/bin/sh\n").unwrap();
    let volume = format!("{}:/etc/passwd", bound.path().join("p").display());
    assert_eq!(davit.run(["run", "--rm", "-v", &volume, "-u", "4321", "busybox", "whoami"]).ok(), "me");
}
