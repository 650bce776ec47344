//! Flags of `run` and `create`, each by what it does.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::{Davit, scratch, tool, wait_until};

/// What a shell command prints in a container with these flags.
#[track_caller]
fn sh(davit: &Davit, flags: &[&str], script: &str) -> String {
    davit.run([&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat()).ok()
}

#[test]
fn a_small_init_reaps_and_hands_signals_on() {
    let davit = Davit::with_busybox();
    let processes = sh(&davit, &["--init"], "tr '\\0' ' ' < /proc/1/cmdline; echo; echo $$");
    assert!(processes.starts_with("/run/podman-init -- sh -c ") && processes.ends_with("\n2"), "{processes}");
    // the whole of it is some pages
    let memory = sh(&davit, &["--init"], "awk '/VmRSS/{print $2}' /proc/1/status");
    assert!(memory.parse::<u32>().unwrap() < 100, "{memory}");
    assert_eq!(davit.run(["run", "--rm", "--init", "busybox", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(davit.run(["run", "--rm", "--init", "busybox", "/no/such"]).code, 127);
    // a first process without a handler would ignore the signal
    davit.run(["run", "-d", "--init", "--name=c", "busybox", "sleep", "1000"]).ok();
    let begun = Instant::now();
    davit.run(["stop", "-t30", "c"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(davit.inspect("c", "{{.State.ExitCode}} {{.HostConfig.Init}}"), "143 true");
    // orphans are reaped
    let zombies = "sh -c 'sleep 0.1 & exec true'; sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(sh(&davit, &["--init"], zombies), "0");
    // on a terminal the program has the foreground
    let done = davit.run([
        "run",
        "--rm",
        "-t",
        "--init",
        "busybox",
        "sh",
        "-c",
        "ps -o pid,pgid,tty | grep -c ' 136,'; stty size >/dev/null && echo tty",
    ]);
    assert!(done.ok().contains("tty"), "{done:?}");
    // another one takes its place
    let other = davit.run(["run", "--rm", "--init", "--init-path=/bin/busybox", "busybox", "true"]);
    assert_ne!(other.code, 0, "busybox knows no applet podman-init: {other:?}");
    davit.run(["run", "--rm", "--init", "--init-path=/no/such", "busybox", "true"]).fails(125, "/no/such");
}

#[test]
fn time_names_and_accounts() {
    let davit = Davit::with_busybox();
    assert_eq!(davit.run(["run", "--rm", "--timeout=1", "busybox", "sleep", "100"]).code, 255);
    if std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        assert_eq!(sh(&davit, &["--tz=Asia/Tokyo"], "date +%z"), "+0900");
    }
    davit.run(["run", "--rm", "--tz=No/Where", "busybox", "true"]).fails(125, "No/Where");
    davit.run(["run", "--rm", "--tz=../../etc/passwd", "busybox", "true"]).fails(125, "time zone");
    assert_eq!(sh(&davit, &["--domainname=example.org"], "cat /proc/sys/kernel/domainname"), "example.org");
    assert_eq!(sh(&davit, &["--personality=LINUX32"], "uname -m"), "i686");
    let flags = ["-u", "7:8", "--passwd-entry=me:*:$UID:$GID:x:/tmp:/bin/sh", "--group-entry=us:x:$GID:"];
    assert_eq!(
        sh(&davit, &flags, "id; tail -n1 /etc/passwd"),
        "uid=7(me) gid=8(us) groups=8(us)\nme:*:7:8:x:/tmp:/bin/sh"
    );
    assert_eq!(sh(&davit, &["-u", "7:8", "--passwd=false"], "id"), "uid=7 gid=8 groups=8");
    assert_eq!(
        sh(&davit, &["--hostuser=daemon"], "grep -c ^daemon: /etc/passwd /etc/group"),
        "/etc/passwd:1\n/etc/group:1"
    );
    davit.run(["run", "--rm", "--hostuser=nobody-here", "busybox", "true"]).fails(125, "nobody-here");
    let file = scratch();
    let hosts = file.path().join("hosts");
    std::fs::write(&hosts, "9.9.9.9 nine\n").unwrap();
    assert!(
        sh(&davit, &["--hosts-file", hosts.to_str().unwrap()], "cat /etc/hosts")
            .starts_with("9.9.9.9 nine\n")
    );
    let none = sh(&davit, &["--hosts-file=none", "--hostname=h"], "cat /etc/hosts");
    assert!(none.starts_with("127.0.0.1\tlocalhost\n") && none.contains("h"), "{none}");
    davit.run(["run", "--rm", "--hosts-file=/no/such", "busybox", "true"]).fails(125, "/no/such");
    davit.build("env", "FROM busybox\nENV A=1 B=two\n", &[]).ok();
    let out = davit
        .run(["run", "--rm", "--env-merge=A=${A}-${B}", "--unsetenv=B", "env", "sh", "-c", "echo $A:$B"])
        .ok();
    assert_eq!(out, "1-:");
    assert_eq!(sh(&davit, &["--chrootdirs=/jail"], "ls /jail/etc"), "hostname\nhosts");
}

#[test]
fn files_tell_who_runs() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    davit
        .run([
            "run",
            "-d",
            "--name=c",
            "--pidfile",
            &file("pid"),
            "--conmon-pidfile",
            &file("monitor"),
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let read = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    assert_eq!(
        format!("{} {}", read("pid"), read("monitor")),
        davit.inspect("c", "{{.State.Pid}} {{.State.ConmonPid}}")
    );
}

#[test]
fn required_containers_are_started_first() {
    let davit = Davit::with_busybox();
    davit.run(["create", "--name=first", "busybox", "sleep", "1000"]).ok();
    davit.run(["run", "-d", "--name=second", "--requires=first", "busybox", "sleep", "1000"]).ok();
    assert_eq!(davit.inspect("first", "{{.State.Running}}"), "true");
    davit.run(["rm", "-f", "-t0", "first"]).fails(2, "second");
    davit.run(["rm", "-f", "-t0", "second"]).ok();
    davit.run(["rm", "-f", "-t0", "first"]).ok();
    davit.run(["create", "--requires=gone", "busybox"]).fails(125, "gone");
}

#[test]
fn a_directory_is_a_root_file_system() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    tool("tar", ["-C", dir.path().to_str().unwrap(), "-xf", crate::support::busybox_tar().to_str().unwrap()])
        .ok();
    let path = dir.path().to_str().unwrap();
    let over = format!("{path}:O");
    let script = "touch /made; rm /etc/group; ls /made";
    assert_eq!(davit.run(["run", "--rm", "--rootfs", &over, "sh", "-c", script]).ok(), "/made");
    assert!(!dir.path().join("made").exists() && dir.path().join("etc/group").exists());
    davit
        .run(["create", "--name=c", "--rootfs", &over, "sh", "-c", "test -e /n && echo again; touch /n"])
        .ok();
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "");
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "again", "the layer over it is the container's own");
    assert_eq!(davit.run(["run", "--rm", "--rootfs", path, "sh", "-c", "touch /made"]).ok(), "");
    assert!(dir.path().join("made").exists());
    let mapped = format!("{path}:idmap");
    let flags = ["--uidmap=0:200000:2000", "--gidmap=0:200000:2000"];
    let all = [&["run", "--rm"], &flags[..], &["--rootfs", &mapped, "stat", "-c", "%u:%g", "/made"]].concat();
    assert_eq!(davit.run(all).ok(), "0:0");
    davit.run(["run", "--rm", "--rootfs", "/no/such", "true"]).fails(125, "/no/such");
    davit.run(["run", "--rm", "--rootfs", path]).fails(125, "no command");
}

#[test]
fn images_volumes_and_removal() {
    let davit = Davit::with_busybox();
    davit.build("volumes", "FROM busybox\nRUN mkdir /v && touch /v/f\nVOLUME /v\n", &[]).ok();
    let look = ["volumes", "sh", "-c", "stat -f -c %T /v; ls /v"];
    let run = |flags: &[&str]| davit.run([&["run", "--rm"], flags, &look[..]].concat());
    assert_eq!(run(&["--image-volume=tmpfs"]).ok(), "tmpfs\nf");
    assert_ne!(run(&["--image-volume=ignore"]).ok(), "tmpfs\nf");
    assert_eq!(run(&["--image-volume=bind"]).ok().lines().last(), Some("f"));
    assert_eq!(davit.run(["volume", "ls", "-q"]).ok(), "");
    run(&["--rmi", "--image-volume=ignore"]).ok();
    assert_eq!(davit.run(["image", "exists", "volumes"]).code, 1);
    // something else needs it
    davit.run(["create", "--name=keeps", "busybox"]).ok();
    davit.run(["run", "--rmi", "busybox", "true"]).ok();
    davit.run(["image", "exists", "busybox"]).ok();
}

#[test]
fn the_service_manager_is_told() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let receive = || {
        let mut packet = [0; 512];
        let length = manager.recv(&mut packet).unwrap();
        String::from_utf8_lossy(&packet[..length]).into_owned()
    };
    let run = |name: &str, flags: &[&str], script: &str| {
        let mut command = davit.command();
        command.env("NOTIFY_SOCKET", &path).args(["run", "-d", "--name", name]).args(flags);
        crate::support::finish(command.args(["busybox", "sh", "-c", script])).ok();
        let monitor = davit.inspect(name, "{{.State.ConmonPid}}");
        format!("MAINPID={monitor}")
    };
    let main = run("conmon", &["--sdnotify=conmon"], "echo ${NOTIFY_SOCKET-none}");
    assert!(receive().ends_with("\nREADY=1"), "{main}");
    wait_until("it has said so", || davit.run(["logs", "conmon"]).ok() == "none");
    let main =
        run("healthy", &["--sdnotify=healthy", "--health-cmd=true", "--health-interval=1s"], "sleep 1000");
    assert_eq!(receive(), main);
    assert_eq!(receive(), "READY=1");
    // busybox cannot send a datagram to a socket; the test does it in the container's place
    let main = run("container", &[], "echo $NOTIFY_SOCKET; sleep 1000");
    assert_eq!(receive(), main);
    wait_until("it has said so", || davit.run(["logs", "container"]).ok() == "/run/notify/notify.sock");
    let pid = davit.inspect("container", "{{.State.Pid}}");
    let inside = UnixDatagram::unbound().unwrap();
    inside.send_to(b"MAINPID=1\nREADY=1\n", format!("/proc/{pid}/root/run/notify/notify.sock")).unwrap();
    assert_eq!(receive(), "READY=1");
    run("ignore", &["--sdnotify=ignore"], "sleep 1000");
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 9]).is_err());
    davit.run(["create", "--sdnotify=healthy", "busybox"]).fails(125, "no health check");
}

#[test]
fn systemd_gets_what_it_needs() {
    let davit = Davit::with_busybox();
    let look = "stat -f -c %T /run /run/lock /tmp /var/log/journal; echo ${#container_uuid}; touch /run/x && echo rw";
    let all = "tmpfs\ntmpfs\ntmpfs\ntmpfs\n32\nrw";
    assert_eq!(sh(&davit, &["--systemd=always"], look), all);
    assert_ne!(sh(&davit, &[], "stat -f -c %T /tmp"), "tmpfs");
    davit
        .build(
            "init",
            "FROM busybox\nRUN mkdir /sbin && ln -s /bin/busybox /sbin/init\nCMD /sbin/init\n",
            &[],
        )
        .ok();
    davit.run(["create", "--name=c", "busybox", "/sbin/init"]).ok();
    assert_eq!(davit.inspect("c", "{{.Config.StopSignal}} {{.Config.SystemdMode}}"), "SIGRTMIN+3 true");
    davit.run(["create", "--name=d", "--systemd=false", "busybox", "/sbin/init"]).ok();
    assert_eq!(davit.inspect("d", "{{.Config.StopSignal}} {{.Config.SystemdMode}}"), "SIGTERM false");
    assert_eq!(
        sh(&davit, &["--systemd=always", "--shm-size-systemd=1m"], "df -k /run | awk 'END{print $2}'"),
        "1024"
    );
}

#[test]
fn descriptors_are_handed_on() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let file = dir.path().join("f");
    std::fs::write(&file, "three\n").unwrap();
    let run = |flags: &str, script: &str| {
        let root = davit.root().display().to_string();
        let runroot = davit.runroot().display().to_string();
        let line = format!(
            "exec 3<{f} 4>>{f} && {davit} --root {root} --runroot {runroot} run --rm {flags} busybox sh -c '{script}'",
            f = file.display(),
            davit = crate::support::binary().display(),
        );
        tool("sh", ["-c", &line])
    };
    assert_eq!(run("--preserve-fds=2", "cat <&3; echo four >&4; ls /proc/self/fd | wc -l").ok(), "three\n6");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "three\nfour\n");
    assert_eq!(run("--preserve-fd=3", "head -n1 <&3; ls /proc/self/fd | wc -l").ok(), "three\n5");
    assert_eq!(run("--preserve-fds=2 --init", "head -n1 <&3; echo five >&4").ok(), "three");
    run("--preserve-fds=9", "true").fails(125, "descriptor 5");
    assert_eq!(run("", "ls /proc/self/fd | wc -l").ok(), "4");
}

#[test]
fn namespaces_are_shared() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name=a", "busybox", "sleep", "1000"]).ok();
    let pid = davit.inspect("a", "{{.State.Pid}}");
    davit.run(["exec", "a", "sh", "-c", "echo x > /dev/shm/shared"]).ok();
    for (flag, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--network", "net"), ("--cgroupns", "cgroup")]
    {
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        for partner in ["container:a".to_owned(), format!("ns:/proc/{pid}/ns/{kind}")] {
            let option = format!("{flag}={partner}");
            let seen = sh(&davit, &[&option], &format!("readlink /proc/self/ns/{kind}"));
            assert_eq!(seen, theirs.to_str().unwrap(), "{option}");
        }
    }
    assert_eq!(sh(&davit, &["--ipc=container:a"], "cat /dev/shm/shared"), "x");
    assert_eq!(sh(&davit, &["--ipc=none"], "test -e /dev/shm || echo none"), "none");
    assert!(sh(&davit, &["--pid=container:a"], "ps").contains("sleep 1000"));
    davit.run(["create", "--name=b", "--pid=container:a", "busybox", "sleep", "1000"]).ok();
    davit.run(["stop", "-t0", "a"]).ok();
    davit.run(["start", "b"]).ok();
    assert_eq!(davit.inspect("a", "{{.State.Running}}"), "true", "what is joined is started too");
    davit.run(["create", "--pid=container:gone", "busybox"]).fails(125, "gone");
    davit.run(["create", "--pid=nonsense", "busybox"]).fails(125, "nonsense");
}

#[test]
fn control_groups_and_their_limits() {
    let davit = Davit::with_busybox();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(
        sh(&davit, &["--cgroups=disabled", "--cgroupns=host"], "cat /proc/self/cgroup"),
        own.trim_end()
    );
    assert!(
        sh(&davit, &["--cgroups=no-conmon", "--cgroupns=host"], "cat /proc/self/cgroup").contains("davit")
    );
    assert!(sh(&davit, &["--cgroups=split", "--cgroupns=host"], "cat /proc/self/cgroup").contains("davit-"));
    davit
        .run(["run", "--rm", "--cgroups=disabled", "--cgroup-parent=/x", "busybox", "true"])
        .fails(125, "cgroups");
    let rule = "--device-cgroup-rule=c 10:237 rwm";
    let make = "mknod /tmp/loop c 10 237 && exec 3</tmp/loop && echo open";
    assert_eq!(sh(&davit, &["--cap-add=MKNOD", rule], make), "open");
    assert_ne!(davit.run(["run", "--rm", "--cap-add=MKNOD", "busybox", "sh", "-c", make]).code, 0);
    davit.run(["create", "--device-cgroup-rule=x 1:1 r", "busybox"]).fails(125, "expected TYPE MAJOR:MINOR");
    // limits of a device that exists, as the kernel has them
    let device = tool("sh", ["-c", "ls /dev/vda /dev/sda /dev/loop0 2>/dev/null | head -n1"]).ok();
    if !device.is_empty() && own.contains("blkio") {
        let limit = format!("--device-read-bps={device}:1mb");
        let group =
            sh(&davit, &["--cgroupns=host", &limit], "sed -n 's/.*:blkio://p' /proc/self/cgroup; sleep 0");
        assert!(group.contains("davit"), "{group}");
        davit.run(["run", "-d", "--name=c", &limit, "busybox", "sleep", "1000"]).ok();
        let pid = davit.inspect("c", "{{.State.Pid}}");
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let path = groups.lines().find_map(|line| line.split_once(":blkio:")).unwrap().1;
        let text =
            std::fs::read_to_string(format!("/sys/fs/cgroup/blkio{path}/blkio.throttle.read_bps_device"))
                .unwrap();
        assert!(text.trim().ends_with(" 1048576"), "{text}");
    }
    davit
        .run(["run", "--rm", "--device-read-bps=/dev/null:1mb", "busybox", "true"])
        .fails(125, "no block device");
}

#[test]
fn confinement_options() {
    let davit = Davit::with_busybox();
    let option = |text: &str| format!("--security-opt={text}");
    assert_eq!(sh(&davit, &[&option("mask=/etc/group")], "wc -c < /etc/group"), "0");
    assert_eq!(
        sh(&davit, &[&option("unmask=/proc/interrupts")], "test -n \"$(cat /proc/interrupts)\" && echo seen"),
        "seen"
    );
    assert_eq!(
        sh(
            &davit,
            &[&option("proc-opts=hidepid=2")],
            "grep -c '^proc /proc proc .*hidepid=invisible' /proc/mounts"
        ),
        "1"
    );
    davit.run(["create", &option("proc-opts=exec"), "busybox"]).fails(125, "hidepid");
    assert_eq!(sh(&davit, &[&option("label=disable"), &option("apparmor=unconfined")], "echo ran"), "ran");
    davit.run(["create", &option("label=nonsense"), "busybox"]).fails(125, "label");
    davit.run(["create", &option("nonsense=1"), "busybox"]).fails(125, "unknown option");
    let profile = "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"mkdir\", \"mkdirat\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 1}]}";
    let text = format!("FROM busybox\nLABEL io.containers.seccomp.profile='{profile}'\n");
    davit.build("filtered", &text, &[]).ok();
    let run = |policy: &str| {
        davit.run(["run", "--rm", policy, "filtered", "sh", "-c", "mkdir /x 2>&1 || true"]).ok()
    };
    assert_eq!(run("--seccomp-policy=default"), "");
    assert!(run("--seccomp-policy=image").contains("Operation not permitted"));
}

#[test]
fn described_devices_bring_what_they_need() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let described = |name: &str, class: &str, device: &str| {
        let text = format!(
            r#"{{"cdiVersion": "0.5.0", "kind": "{class}", "devices": [{{"name": "{device}", "containerEdits": {{
                "deviceNodes": [{{"path": "/dev/loop-control"}}], "env": ["DESCRIBED={device}"],
                "mounts": [{{"hostPath": "/etc/hostname", "containerPath": "/described", "options": ["ro", "bind"]}}]}}}}]}}"#
        );
        std::fs::write(dir.path().join(name), text).unwrap();
    };
    described("a.json", "example.com/thing", "one");
    described("b.json", "nvidia.com/gpu", "all");
    let run = |flags: &[&str]| {
        let mut command = davit.command();
        command.arg("--cdi-spec-dir").arg(dir.path()).args(["run", "--rm"]).args(flags);
        let script = "test -c /dev/loop-control && test -s /described && echo $DESCRIBED";
        crate::support::finish(command.args(["busybox", "sh", "-c", script]))
    };
    assert_eq!(run(&["--device=example.com/thing=one"]).ok(), "one");
    assert_eq!(run(&["--gpus=all"]).ok(), "all");
    run(&["--device=example.com/thing=two"]).fails(125, "example.com/thing=two");
    run(&["--gpus=7"]).fails(125, "nvidia.com/gpu=7");
}
