//! Containers from creation to removal.

use crate::lab::{Lab, QUIET, Test, streams};
use engine::ErrorKind;
use engine::containers::{
    ContainerListRequest, CreateRequest, ExecRequest, LogsRequest, RemoveRequest, RunRequest, Selection,
    SessionEnd, Status, StopRequest,
};
use engine::options::{Limits, Mount, Network};
use std::path::Path;
use std::time::Instant;

pub(crate) const TESTS: &[Test] = &[
    ("containers::exit_codes", exit_codes),
    ("containers::what_a_container_sees", what_a_container_sees),
    ("containers::input_reaches_the_process", input_reaches_the_process),
    ("containers::users_directories_and_environment", users_directories_and_environment),
    ("containers::mounts", mounts),
    ("containers::life_of_a_detached_container", life_of_a_detached_container),
    ("containers::stop_falls_back_to_kill", stop_falls_back_to_kill),
    ("containers::exec_in_a_running_container", exec_in_a_running_container),
    ("containers::logs_in_all_cuts", logs_in_all_cuts),
    ("containers::following_ends_with_the_container", following_ends_with_the_container),
    ("containers::names_are_kept_and_changed", names_are_kept_and_changed),
    ("containers::a_failed_start_leaves_a_created_container", a_failed_start_leaves_a_created_container),
    ("containers::the_monitor_cleans_up_by_itself", the_monitor_cleans_up_by_itself),
    ("containers::leftovers_of_killed_commands_go", leftovers_of_killed_commands_go),
    ("containers::limits_bite", limits_bite),
    ("containers::wrong_requests", wrong_requests),
    ("containers::many_at_once", many_at_once),
    ("containers::listing_is_quick", listing_is_quick),
];

fn named(name: &str) -> Selection {
    Selection { names: vec![name.to_owned()], ..Selection::default() }
}

fn remove(lab: &Lab, name: &str, force: bool) -> engine::Result<bool> {
    let request =
        RemoveRequest { selection: named(name), force, timeout: Some(0), volumes: false, depend: false };
    lab.engine.containers().remove(&request).unwrap().remove(0).result
}

fn exit_codes(lab: &Lab) {
    assert_eq!(lab.shell("exit 0").code, 0);
    assert_eq!(lab.shell("exit 7").code, 7);
    assert_eq!(lab.shell("kill -9 $$; sleep 1").code, 0, "PID 1 is not killed by itself");
    let missing = lab.run_with(lab.create(&["no-such-program"]), None).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::CommandNotFound, "{missing}");
    let directory = lab.run_with(lab.create(&["/etc"]), None).unwrap_err();
    assert_eq!(directory.kind(), ErrorKind::CommandNotRunnable, "{directory}");
    let workdir = CreateRequest { workdir: Some("/nowhere".into()), ..lab.create(&["true"]) };
    assert_eq!(lab.run_with(workdir, None).unwrap_err().kind(), ErrorKind::CommandNotRunnable);
    let user = CreateRequest { user: Some("nobody-here".into()), ..lab.create(&["true"]) };
    assert_eq!(lab.run_with(user, None).unwrap_err().kind(), ErrorKind::CommandNotRunnable);
}

fn what_a_container_sees(lab: &Lab) {
    let output = lab.shell(
        "hostname; cat /etc/hostname; grep -c localhost /etc/hosts; wc -c < /run/.containerenv; ls -1 /",
    );
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0].len(), 12);
    assert_eq!(lines[0], lines[1]);
    // As in Podman: only a privileged container is told what it is.
    assert_eq!(lines[3], "0", "{}", output.stdout);
    let output =
        lab.shell("ls /sys/class/net; echo to-err >&2; test -e /etc/resolv.conf || echo no resolver");
    assert_eq!(output.stdout, "lo\nno resolver\n");
    assert_eq!(output.stderr, "to-err\n");
    let host = CreateRequest { network: Network::Host, ..lab.create(&["cat", "/etc/resolv.conf"]) };
    let expected = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(lab.run_with(host, None).unwrap().stdout, expected);
}

fn input_reaches_the_process(lab: &Lab) {
    let output = lab.run_with(lab.create(&["sh", "-c", "cat; echo end"]), Some("one\ntwo\n")).unwrap();
    assert_eq!(output.stdout, "one\ntwo\nend\n");
    // without -i there is nothing to read
    assert_eq!(lab.run_with(lab.create(&["wc", "-c"]), None).unwrap().stdout, "0\n");
}

fn users_directories_and_environment(lab: &Lab) {
    let request = CreateRequest {
        user: Some("app".into()),
        workdir: Some("/tmp".into()),
        env: vec![("A".into(), "1 2".into())],
        hostname: Some("here".into()),
        ..lab.create(&["sh", "-c", "id; pwd; echo $A; echo $HOME; hostname"])
    };
    let output = lab.run_with(request, None).unwrap();
    assert_eq!(
        output.stdout,
        "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n/tmp\n1 2\n/home/app\nhere\n"
    );
}

fn mounts(lab: &Lab) {
    let host = lab.path("shared");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "from the host\n").unwrap();
    let request = CreateRequest {
        mounts: vec![
            Mount::parse_volume(&format!("{}:/data", host.display()), Path::new("/")).unwrap(),
            Mount::parse_volume(&format!("{}:/fixed:ro", host.display()), Path::new("/")).unwrap(),
            Mount::parse_tmpfs("/scratch:size=1m").unwrap(),
        ],
        read_only: true,
        read_only_tmpfs: true,
        ..lab.create(&[
            "sh",
            "-c",
            "cat /data/file; echo back > /data/new; touch /fixed/x || echo fixed; touch /x || echo read-only; \
             touch /scratch/x /tmp/x && echo scratch",
        ])
    };
    let output = lab.run_with(request, None).unwrap();
    assert_eq!(output.stdout, "from the host\nfixed\nread-only\nscratch\n", "{}", output.stderr);
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "back\n");
}

fn life_of_a_detached_container(lab: &Lab) {
    let containers = lab.engine.containers();
    let id = lab.detached("web", "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done");
    let listed = containers.list(&ContainerListRequest::default()).unwrap();
    assert_eq!((listed.len(), listed[0].status, listed[0].name.as_str()), (1, Status::Running, "web"));
    assert!(listed[0].pid > 1);
    assert_eq!(remove(lab, "web", false).unwrap_err().kind(), ErrorKind::Conflict);
    containers.pause(&named("web")).unwrap().remove(0).result.unwrap();
    assert_eq!(containers.list(&ContainerListRequest::default()).unwrap()[0].status, Status::Paused);
    containers.unpause(&named("web")).unwrap().remove(0).result.unwrap();
    // the trap stands only once the shell has come so far
    let mut lines = Vec::new();
    let request = LogsRequest { container: "web".into(), follow: true, ..LogsRequest::default() };
    containers
        .logs(&request, &mut |line| {
            lines.push(line.bytes);
            false
        })
        .unwrap();
    assert_eq!(lines, [b"up\n"]);
    let begin = Instant::now();
    assert!(
        containers
            .stop(&StopRequest { selection: named(&id[..12]), ..StopRequest::default() })
            .unwrap()
            .remove(0)
            .result
            .unwrap()
    );
    assert!(begin.elapsed().as_secs() < 5);
    assert_eq!(containers.wait("web", &[]).unwrap(), 3);
    let seen = containers.inspect("web", true).unwrap();
    assert_eq!((seen.state.exit_code, seen.state.status.as_str(), seen.state.pid), (3, "exited", 0));
    assert!(seen.size_root_fs.unwrap() > seen.size_rw.unwrap());
    assert!(containers.list(&ContainerListRequest::default()).unwrap().is_empty());
    // again, with what it wrote before
    containers.start(&named("web")).unwrap().remove(0).result.unwrap();
    containers.kill(&named("web"), "KILL").unwrap().remove(0).result.unwrap();
    assert_eq!(containers.wait("web", &[]).unwrap(), 137);
    assert!(remove(lab, "web", false).unwrap());
    assert!(!containers.exists("web").unwrap());
    assert_eq!(lab.leftovers(), [] as [&Path; 0]);
}

fn stop_falls_back_to_kill(lab: &Lab) {
    lab.detached("deaf", "trap '' TERM; while true; do sleep 0.05; done");
    let request = StopRequest { selection: named("deaf"), timeout: Some(1), signal: None };
    assert!(lab.engine.containers().stop(&request).unwrap().remove(0).result.unwrap());
    assert_eq!(lab.engine.containers().wait("deaf", &[]).unwrap(), 137);
}

fn exec_in_a_running_container(lab: &Lab) {
    lab.detached("host", "while true; do sleep 0.05; done");
    let exec = |command: &[&str], user: Option<&str>, input: Option<&str>| {
        let (streams, collect) = streams(input);
        let request = ExecRequest {
            container: "host".into(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            user: user.map(str::to_owned),
            env: vec![("B".into(), "x".into())],
            attach: Some(streams),
            ..ExecRequest::default()
        };
        lab.engine.containers().exec(request).map(|done| (done.end.unwrap(), collect()))
    };
    let (end, (stdout, _)) = exec(&["sh", "-c", "id; echo $B; exit 4"], Some("app"), None).unwrap();
    assert_eq!(end, SessionEnd::Exited(4));
    assert_eq!(stdout, "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\nx\n");
    let (end, (stdout, _)) = exec(&["cat"], None, Some("through")).unwrap();
    assert_eq!((end, stdout.as_str()), (SessionEnd::Exited(0), "through"));
    assert_eq!(exec(&["no-such"], None, None).unwrap_err().kind(), ErrorKind::CommandNotFound);
    let stop = StopRequest { selection: named("host"), timeout: Some(0), signal: None };
    lab.engine.containers().stop(&stop).unwrap();
    assert_eq!(exec(&["true"], None, None).unwrap_err().kind(), ErrorKind::Conflict);
}

fn logs_in_all_cuts(lab: &Lab) {
    let containers = lab.engine.containers();
    lab.detached(
        "talk",
        "for i in 1 2 3 4; do echo line $i; done; sleep 0.1; echo wrong >&2; sleep 0.1; printf end",
    );
    containers.wait("talk", &[]).unwrap();
    let read = |request: LogsRequest| {
        let mut text = String::new();
        let mut errors = 0;
        containers
            .logs(&LogsRequest { container: "talk".into(), ..request }, &mut |line| {
                text.push_str(&String::from_utf8(line.bytes).unwrap());
                errors += usize::from(line.stderr);
                true
            })
            .unwrap();
        (text, errors)
    };
    let (all, errors) = read(LogsRequest::default());
    assert!(all.starts_with("line 1\nline 2\n") && all.contains("wrong\n") && all.ends_with("end"), "{all}");
    assert_eq!(errors, 1);
    assert_eq!(read(LogsRequest { tail: Some(0), ..LogsRequest::default() }).0, "");
    assert!(!read(LogsRequest { tail: Some(2), ..LogsRequest::default() }).0.contains("line 3"));
    assert_eq!(
        read(LogsRequest { since: Some("2100-01-01T00:00:00Z".into()), ..LogsRequest::default() }).0,
        ""
    );
    assert_eq!(read(LogsRequest { until: Some("-1h".into()), ..LogsRequest::default() }).0, "");
    assert_eq!(read(LogsRequest { since: Some("1h".into()), ..LogsRequest::default() }).0, all);
}

fn following_ends_with_the_container(lab: &Lab) {
    lab.detached("slow", "for i in 1 2 3; do echo $i; sleep 0.1; done");
    let mut text = String::new();
    let request = LogsRequest { container: "slow".into(), follow: true, ..LogsRequest::default() };
    lab.engine
        .containers()
        .logs(&request, &mut |line| {
            text.push_str(&String::from_utf8(line.bytes).unwrap());
            true
        })
        .unwrap();
    assert_eq!(text, "1\n2\n3\n");
}

fn names_are_kept_and_changed(lab: &Lab) {
    let containers = lab.engine.containers();
    let create = CreateRequest { name: Some("first".into()), ..lab.create(&["true"]) };
    let first = containers.create(&create, QUIET).unwrap();
    assert_eq!(containers.create(&create, QUIET).unwrap_err().kind(), ErrorKind::Conflict);
    containers.rename("first", "second").unwrap();
    assert!(!containers.exists("first").unwrap());
    assert_eq!(containers.inspect("second", false).unwrap().id, first.id);
    let other = containers.create(&create, QUIET).unwrap();
    assert_eq!(containers.rename("second", "first").unwrap_err().kind(), ErrorKind::Conflict);
    let replaced = containers.create(&CreateRequest { replace: true, ..create }, QUIET).unwrap();
    assert_ne!(replaced.id, other.id);
    assert!(!containers.exists(&other.id).unwrap());
    let random = containers.create(&lab.create(&["true"]), QUIET).unwrap();
    assert!(random.name.contains('_'));
    let found = containers
        .list(&ContainerListRequest {
            all: true,
            filters: vec!["name=^second$".into()],
            ..Default::default()
        })
        .unwrap();
    assert_eq!(found.len(), 1);
}

fn a_failed_start_leaves_a_created_container(lab: &Lab) {
    let containers = lab.engine.containers();
    let create = CreateRequest { name: Some("broken".into()), ..lab.create(&["no-such"]) };
    containers.run(RunRequest { create, ..RunRequest::default() }, QUIET).unwrap_err();
    let seen = containers.inspect("broken", false).unwrap();
    assert_eq!(seen.state.status, "created");
    assert!(seen.state.error.contains("no-such"), "{}", seen.state.error);
    assert!(remove(lab, "broken", false).unwrap());
    let create = CreateRequest { auto_remove: true, ..lab.create(&["no-such"]) };
    containers.run(RunRequest { create, ..RunRequest::default() }, QUIET).unwrap_err();
    assert_eq!(lab.leftovers(), [] as [&Path; 0]);
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed().as_secs() < 10, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn the_monitor_cleans_up_by_itself(lab: &Lab) {
    let create = CreateRequest { auto_remove: true, ..lab.create(&["true"]) };
    let ran = lab.engine.containers().run(RunRequest { create, ..RunRequest::default() }, QUIET).unwrap();
    wait_until("the container is removed", || !lab.engine.containers().exists(&ran.container.id).unwrap());
    wait_until("nothing is left", || lab.leftovers().is_empty());
    let id = lab.detached("stays", "exit 6");
    wait_until("the exit is kept", || {
        // others that run at the same time keep theirs in the same place
        lab.path("one/root/containers").join(&id).join("exit.json").is_file()
    });
    assert_eq!(lab.engine.containers().inspect("stays", false).unwrap().state.exit_code, 6);
    // a reboot takes the run directory away
    let _ = std::fs::remove_dir_all(lab.path("one/run"));
    assert_eq!(lab.engine.containers().inspect("stays", false).unwrap().state.exit_code, 6);
    lab.engine.containers().start(&named("stays")).unwrap().remove(0).result.unwrap();
    assert_eq!(lab.engine.containers().wait("stays", &[]).unwrap(), 6);
}

fn leftovers_of_killed_commands_go(lab: &Lab) {
    // as a create that was killed after claiming its name leaves it
    let id = "ab".repeat(32);
    std::fs::create_dir_all(lab.path("one/root/containers").join(&id)).unwrap();
    std::fs::create_dir_all(lab.path("one/root/names")).unwrap();
    std::os::unix::fs::symlink(&id, lab.path("one/root/names/claimed")).unwrap();
    let containers = lab.engine.containers();
    assert!(containers.list(&ContainerListRequest { all: true, ..Default::default() }).unwrap().is_empty());
    assert!(!containers.exists("claimed").unwrap());
    let create = CreateRequest { name: Some("claimed".into()), ..lab.create(&["true"]) };
    containers.create(&create, QUIET).unwrap();
    assert!(!lab.path("one/root/containers").join(&id).exists());
    assert!(remove(lab, "claimed", false).unwrap());
    assert_eq!(lab.leftovers(), [] as [&Path; 0]);
}

fn limits_bite(lab: &Lab) {
    if runtime::cgroup::layout().unavailable().is_some() || !runtime::cgroup::layout().has("pids") {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip: no pids controller");
        println!("skipped: no pids controller");
        return;
    }
    let request = CreateRequest {
        limits: Limits { pids: Some(5), ..Limits::default() },
        ..lab.create(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo unlimited"])
    };
    let output = lab.run_with(request, None).unwrap();
    assert!(!output.stdout.contains("unlimited") && output.stderr.contains("fork"), "{output:?}");
}

fn wrong_requests(lab: &Lab) {
    let containers = lab.engine.containers();
    let none = |request: CreateRequest, kind: ErrorKind| {
        let error = containers.create(&request, QUIET).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    };
    none(
        CreateRequest {
            image: "localhost/none".into(),
            pull: engine::images::PullPolicy::Never,
            ..lab.create(&["true"])
        },
        ErrorKind::NotFound,
    );
    none(CreateRequest { command: Vec::new(), ..lab.create(&[]) }, ErrorKind::Invalid);
    none(CreateRequest { name: Some("a/b".into()), ..lab.create(&["true"]) }, ErrorKind::Invalid);
    none(
        CreateRequest { log_driver: Some("journald".into()), ..lab.create(&["true"]) },
        ErrorKind::Unsupported,
    );
    none(CreateRequest { stop_signal: Some("SIGNOT".into()), ..lab.create(&["true"]) }, ErrorKind::Invalid);
    assert_eq!(lab.leftovers(), [] as [&Path; 0]);
    assert_eq!(remove(lab, "nobody", false).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!remove(lab, "nobody", true).unwrap());
    assert_eq!(containers.wait("nobody", &[]).unwrap_err().kind(), ErrorKind::NotFound);
}

fn many_at_once(lab: &Lab) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let output = lab.shell(&format!("echo {number}; exit {number}"));
                assert_eq!((output.code, output.stdout), (number, format!("{number}\n")));
            });
        }
    });
    wait_until("nothing is left", || lab.leftovers().is_empty());
}

fn listing_is_quick(lab: &Lab) {
    let containers = lab.engine.containers();
    for number in 0..50 {
        let create = CreateRequest { name: Some(format!("c{number}")), ..lab.create(&["true"]) };
        containers.create(&create, QUIET).unwrap();
    }
    let request = ContainerListRequest { all: true, ..Default::default() };
    let best = (0..10)
        .map(|_| {
            let begin = Instant::now();
            assert_eq!(containers.list(&request).unwrap().len(), 50);
            begin.elapsed()
        })
        .min()
        .unwrap();
    println!("listing 50 containers: {} µs", best.as_micros());
    assert!(best.as_millis() < 50);
}
