//! State, waiting, cleanup commands, and deaths of those who watch.

use crate::lab::{Lab, Test, finish, parse, spec};
use runtime::{CgroupSetup, Error, Launch, LaunchMode, Rootfs, Spawner, Status};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::states", states),
    ("lifecycle::pause", pause),
    ("lifecycle::waiters", waiters),
    ("lifecycle::cleanup_command", cleanup_command),
    ("lifecycle::dead_monitor", dead_monitor),
    ("lifecycle::slow_monitor", slow_monitor),
    ("lifecycle::dead_caller", dead_caller),
    ("lifecycle::tied", tied),
    ("lifecycle::many_at_once", many_at_once),
];

fn eventually(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn sleeper(lab: &Lab) -> (runtime::Launched, PathBuf) {
    let spec = parse(&spec(&["sleep", "1000"]));
    let launch = lab.launch(&spec);
    let run_dir = launch.run_dir.clone();
    (lab.spawner.launch(launch).unwrap(), run_dir)
}

fn states(lab: &Lab) {
    let (launched, run_dir) = sleeper(lab);
    let state = runtime::state(&run_dir).unwrap();
    assert_eq!(state.status, Status::Running);
    let process = state.process.unwrap();
    assert_eq!((process.init_pid, process.start_time), (launched.init_pid, launched.start_time));
    runtime::kill_all(&run_dir).unwrap();
    finish(launched, None);
    let state = runtime::state(&run_dir).unwrap();
    assert_eq!((state.status, state.exit.unwrap().code), (Status::Stopped, 137));
    runtime::delete(&run_dir).unwrap();
    runtime::delete(&run_dir).unwrap();
    assert!(!run_dir.exists());
    assert_eq!(runtime::state(&run_dir).unwrap().status, Status::Created);
}

fn pause(lab: &Lab) {
    let spec = parse(&spec(&["sh", "-c", "while :; do echo x; sleep 0.01; done"]));
    let mut launch = lab.launch(&spec);
    launch.attach = false;
    launch.cgroup = CgroupSetup::Path(PathBuf::from(format!("davit-test/{}", launch.id)));
    let run_dir = launch.run_dir.clone();
    let launched = lab.spawner.launch(launch).unwrap();
    runtime::pause(&run_dir).unwrap();
    assert_eq!(runtime::state(&run_dir).unwrap().status, Status::Paused);
    runtime::resume(&run_dir).unwrap();
    assert_eq!(runtime::state(&run_dir).unwrap().status, Status::Running);
    runtime::kill_all(&run_dir).unwrap();
    launched.wait().unwrap();
    launched.finish();
    runtime::delete(&run_dir).unwrap();
}

fn waiters(lab: &Lab) {
    let (launched, run_dir) = sleeper(lab);
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(runtime::wait(&run_dir, Some(soon)).unwrap().is_none());
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| runtime::wait(&run_dir, None))).collect();
        runtime::kill(&run_dir, 9).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap().unwrap().code, 137);
        }
    });
    finish(launched, None);
    assert_eq!(runtime::wait(&run_dir, None).unwrap().unwrap().code, 137);
    assert!(matches!(runtime::wait(Path::new("/nonexistent"), None), Err(Error::NotRunning { .. })));
}

fn cleanup_command(lab: &Lab) {
    for finishes in [false, true] {
        let marker = lab.scratch().join("cleaned");
        let spec = parse(&spec(&["true"]));
        let mut launch = lab.launch(&spec);
        launch.attach = false;
        launch.cleanup_argv = ["/bin/busybox", "touch"].into_iter().map(Into::into).collect();
        launch.cleanup_argv.push(marker.clone().into());
        let run_dir = launch.run_dir.clone();
        let launched = lab.spawner.launch(launch).unwrap();
        let monitor = launched.monitor_pid;
        if finishes {
            launched.wait().unwrap();
            launched.finish();
        } else {
            launched.release();
            runtime::wait(&run_dir, None).unwrap();
        }
        eventually("the monitor ends", || sys::pidfd::status(monitor).map_or(true, |status| status.ended));
        assert_eq!(marker.exists(), !finishes);
    }
}

fn dead_monitor(lab: &Lab) {
    let (launched, run_dir) = sleeper(lab);
    let monitor = sys::pidfd::open(launched.monitor_pid).unwrap();
    sys::pidfd::send_signal(&monitor, 9).unwrap();
    eventually("the container reads as stopped", || {
        runtime::state(&run_dir).unwrap().status == Status::Stopped
    });
    assert!(matches!(runtime::wait(&run_dir, None), Err(Error::MonitorLost { .. })));
    assert!(launched.wait().is_err());
}

/// Between the end of the process and the record of it the container has not ended yet: nobody is to read an exit code
/// that nobody has told.
fn slow_monitor(lab: &Lab) {
    let (launched, run_dir) = sleeper(lab);
    let monitor = sys::pidfd::open(launched.monitor_pid).unwrap();
    sys::pidfd::send_signal(&monitor, 19).unwrap();
    let init = launched.init_pid;
    runtime::kill(&run_dir, 9).unwrap();
    eventually("init ends", || sys::pidfd::status(init).map_or(true, |status| status.ended));
    let state = runtime::state(&run_dir).unwrap();
    assert_eq!((state.status, state.exit), (Status::Running, None));
    sys::pidfd::send_signal(&monitor, 18).unwrap();
    assert_eq!(runtime::wait(&run_dir, None).unwrap().unwrap().code, 137);
    assert_eq!(runtime::state(&run_dir).unwrap().status, Status::Stopped);
    finish(launched, None);
}

const CALLER: &str = "DAVIT_TEST_CALLER";

/// A process of its own that launches a container and is then killed by the test.
pub(crate) fn become_caller_if_asked() {
    let Ok(argument) = std::env::var(CALLER) else { return };
    let mut parts = argument.split('|');
    let (mode, root, run_dir) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let spawner = Spawner::fork().unwrap();
    let spec = parse(&spec(&["sleep", "1000"]));
    let mut launch = Launch::new("caller", run_dir, &spec, Rootfs::Path(root.into()));
    launch.mode = if mode == "tied" { LaunchMode::Tied } else { LaunchMode::Detached };
    let _launched = spawner.launch(launch).unwrap();
    println!("started");
    std::thread::sleep(Duration::from_secs(1000));
}

fn killed_caller(lab: &Lab, mode: &str) -> PathBuf {
    use std::io::Read;
    let run_dir = lab.scratch();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .env(CALLER, format!("{mode}|{}|{}", lab.root().display(), run_dir.display()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // Nobody else holds the caller's output: a shell that reads it sees it end.
    let mut rest = String::new();
    child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    run_dir
}

fn dead_caller(lab: &Lab) {
    let run_dir = killed_caller(lab, "detached");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(runtime::state(&run_dir).unwrap().status, Status::Running);
    runtime::kill(&run_dir, 9).unwrap();
    assert_eq!(runtime::wait(&run_dir, None).unwrap().unwrap().code, 137);
}

fn tied(lab: &Lab) {
    let run_dir = killed_caller(lab, "tied");
    eventually("the container dies with its caller", || {
        runtime::state(&run_dir).unwrap().status == Status::Stopped
    });
}

fn many_at_once(lab: &Lab) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..4 {
                    let code = number * 4 + round;
                    assert_eq!(lab.shell(&format!("exit {code}")).record.code, code);
                }
            });
        }
    });
}
