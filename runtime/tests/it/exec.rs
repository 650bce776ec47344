//! Processes inside running containers.

use crate::lab::{Lab, Output, Test, finish, parse, spec};
use oci_spec::runtime::Process;
use runtime::{CgroupSetup, Error, ExecRequest, Launched};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) const TESTS: &[Test] = &[
    ("exec::joins_everything", joins_everything),
    ("exec::terminal", terminal),
    ("exec::many_at_once", many_at_once),
    ("exec::failures", failures),
    ("exec::detached", detached),
];

fn start(lab: &Lab) -> (Launched, PathBuf) {
    let spec = parse(&spec(&["sleep", "1000"]));
    let mut launch = lab.launch(&spec);
    launch.cgroup = CgroupSetup::Path(PathBuf::from(format!("davit-test/{}", launch.id)));
    let run_dir = launch.run_dir.clone();
    (lab.spawner.launch(launch).unwrap(), run_dir)
}

fn stop(launched: Launched, run_dir: &Path) {
    runtime::kill(run_dir, 9).unwrap();
    finish(launched, None);
    runtime::delete(run_dir).unwrap();
}

fn process(arguments: &[&str]) -> Value {
    let mut value = spec(arguments)["process"].clone();
    value["env"] = json!(["PATH=/bin", "WHO=exec"]);
    value
}

fn exec(lab: &Lab, run_dir: &Path, value: &Value) -> Result<Output, Error> {
    let process: Process = serde_json::from_value(value.clone()).unwrap();
    let mut request = ExecRequest::new(lab.unique(), run_dir, lab.scratch(), &process);
    let seccomp = runtime::seccomp::default_for(runtime::capabilities::CapabilitySet(0x8004_05fb));
    request.seccomp = Some(&seccomp);
    request.attach = true;
    Ok(finish(lab.spawner.exec(request)?, None))
}

fn joins_everything(lab: &Lab) {
    let (launched, run_dir) = start(lab);
    let script = "ls /; hostname; echo $WHO; grep -E 'CapEff|Seccomp:' /proc/self/status; cat /proc/self/cgroup; ps; exit 7";
    let output = exec(lab, &run_dir, &process(&["sh", "-c", script])).unwrap();
    assert_eq!(output.record.code, 7);
    for part in ["data", "box\n", "exec\n", "00000000800405fb", "Seccomp:\t2", "sleep 1000"] {
        assert!(output.stdout.contains(part), "{part}: {output:?}");
    }
    // In the container's groups, seen from its own control group namespace.
    assert!(
        output
            .stdout
            .lines()
            .filter(|line| line.contains(":memory:") || line.contains(":pids:"))
            .all(|line| line.ends_with(":/")),
        "{output:?}"
    );
    let link = |pid: &str, name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    let init = launched.init_pid.to_string();
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let script = format!("readlink /proc/self/ns/{name}");
        let output = exec(lab, &run_dir, &process(&["sh", "-c", &script])).unwrap();
        assert_eq!(output.stdout.trim(), link(&init, name).to_str().unwrap());
    }
    stop(launched, &run_dir);
}

fn terminal(lab: &Lab) {
    let (launched, run_dir) = start(lab);
    let mut value = process(&["sh", "-c", "tty; stty size"]);
    value["terminal"] = json!(true);
    value["consoleSize"] = json!({ "height": 20, "width": 60 });
    assert_eq!(exec(lab, &run_dir, &value).unwrap().stdout, "/dev/pts/0\r\n20 60\r\n");
    stop(launched, &run_dir);
}

fn many_at_once(lab: &Lab) {
    let (launched, run_dir) = start(lab);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let run_dir = &run_dir;
            scope.spawn(move || {
                for round in 0..5 {
                    let text = format!("{number}-{round}");
                    let output = exec(lab, run_dir, &process(&["echo", &text])).unwrap();
                    assert_eq!(output.stdout.trim(), text);
                }
            });
        }
    });
    stop(launched, &run_dir);
}

fn failures(lab: &Lab) {
    let (launched, run_dir) = start(lab);
    assert!(matches!(exec(lab, &run_dir, &process(&["missing"])), Err(Error::CommandNotFound { .. })));
    assert!(matches!(exec(lab, &run_dir, &process(&["/etc"])), Err(Error::CommandNotRunnable { .. })));
    let mut value = process(&["true"]);
    value["cwd"] = json!("/missing");
    assert!(matches!(
        exec(lab, &run_dir, &value),
        Err(Error::Stage { stage: runtime::Stage::Directory, .. })
    ));
    stop(launched, &run_dir);
    assert!(matches!(exec(lab, &run_dir, &process(&["true"])), Err(Error::NotRunning { .. })));
}

fn detached(lab: &Lab) {
    let (launched, run_dir) = start(lab);
    let process: Process = serde_json::from_value(process(&["sh", "-c", "sleep 0.2; exit 9"])).unwrap();
    let session = lab.scratch();
    let request = ExecRequest::new(lab.unique(), &run_dir, &session, &process);
    lab.spawner.exec(request).unwrap().release();
    assert_eq!(runtime::wait(&session, None).unwrap().unwrap().code, 9);
    stop(launched, &run_dir);
}
