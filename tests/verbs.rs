//! Smaller verbs and options of containers: `update` of more than limits, `exec` with descriptors, ends that nobody saw.

use std::process::Stdio;

use crate::support::{Davit, tool, wait_until};

#[test]
fn update_changes_checks_and_policies() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "-d",
            "--name",
            "c",
            "--network=none",
            "--health-cmd",
            "test -f /well",
            "--health-interval",
            "disable",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    assert_eq!(davit.run(["healthcheck", "run", "c"]).code, 1);
    davit.run(["update", "--health-cmd", "true", "--health-retries", "7", "c"]).ok();
    assert_eq!(davit.run(["healthcheck", "run", "c"]).code, 0);
    assert_eq!(davit.inspect("c", "{{.Config.Healthcheck.Retries}}"), "7");
    davit.run(["update", "--no-healthcheck", "c"]).ok();
    davit.run(["healthcheck", "run", "c"]).fails(125, "no health check");
    davit.run(["update", "--health-retries", "3", "c"]).fails(125, "--health-cmd");
    // a policy counts from now on, for the process that runs
    davit.run(["update", "--restart", "always", "c"]).ok();
    assert_eq!(davit.inspect("c", "{{.HostConfig.RestartPolicy.Name}}"), "always");
    let pid = davit.inspect("c", "{{.State.Pid}}");
    tool("kill", ["-9", &pid]).ok();
    wait_until("it runs again", || {
        let now = davit.inspect("c", "{{.State.Running}} {{.State.Pid}}");
        now.starts_with("true") && !now.ends_with(&format!(" {pid}"))
    });
    davit.run(["update", "--restart", "nonsense", "c"]).fails(125, "nonsense");
    davit.run(["run", "-d", "--rm", "--name", "r", "--network=none", "busybox", "sleep", "1000"]).ok();
    davit.run(["update", "--restart", "always", "r"]).fails(125, "--rm");
}

#[test]
fn update_limits_devices() {
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let disk =
        disks.map(|disk| std::path::Path::new("/dev").join(disk.file_name())).find(|disk| disk.exists());
    let disk = disk.expect("there is a block device").display().to_string();
    let davit = Davit::with_busybox();
    davit.run(["create", "--name", "c", "--device-read-bps", &format!("{disk}:1m"), "busybox", "true"]).ok();
    davit
        .run([
            "update",
            "--device-read-bps",
            &format!("{disk}:2m"),
            "--device-write-iops",
            &format!("{disk}:7"),
            "c",
        ])
        .ok();
    assert_eq!(davit.inspect("c", "{{range .HostConfig.BlkioDeviceReadBps}}{{.Rate}}{{end}}"), "2097152");
    assert_eq!(davit.inspect("c", "{{range .HostConfig.BlkioDeviceWriteIOps}}{{.Rate}}{{end}}"), "7");
}

#[test]
fn exec_hands_descriptors_on() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "c", "--network=none", "busybox", "sleep", "1000"]).ok();
    let program = crate::support::binary();
    let (root, runroot) = (davit.root(), davit.runroot());
    let script = format!(
        "exec 3</etc/hostname 4</etc/passwd; {} --root {} --runroot {} exec --preserve-fds 2 c sh -c 'cat <&3; head -c 5 <&4'",
        program.display(),
        root.display(),
        runroot.display()
    );
    let host = std::fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(tool("sh", ["-c", &script]).ok(), format!("{}\nroot:", host.trim()));
    davit.run(["exec", "--preserve-fds", "40", "c", "true"]).fails(125, "descriptor");
    assert_eq!(
        davit.run(["exec", "c", "sh", "-c", "ls /proc/self/fd | wc -l"]).ok(),
        "4",
        "no other comes along"
    );
}

#[test]
fn exec_waits_until_the_container_runs() {
    let davit = Davit::with_busybox();
    davit.run(["create", "--name", "c", "--network=none", "busybox", "sleep", "1000"]).ok();
    davit.run(["exec", "c", "true"]).fails(255, "exec in");
    let child = davit
        .command()
        .args(["exec", "--wait", "20", "c", "echo", "there"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    davit.run(["start", "c"]).ok();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"there\n");
}

#[test]
fn an_end_that_nobody_saw_has_a_time() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "c", "--network=none", "busybox", "sleep", "1000"]).ok();
    let pid = davit.inspect("c", "{{.State.ConmonPid}}");
    tool("kill", ["-9", &pid]).ok();
    wait_until("it reads as exited", || davit.inspect("c", "{{.State.Running}}") == "false");
    let status = davit.run(["ps", "-a", "--format", "{{.Status}}"]).ok();
    assert!(
        status.starts_with("Exited (255)") && status.ends_with(" ago") && !status.contains("year"),
        "{status}"
    );
}

#[test]
fn an_empty_variable_names_no_file_of_credentials() {
    let davit = Davit::with_busybox();
    let output = davit
        .command()
        .env("REGISTRY_AUTH_FILE", "")
        .args(["run", "--rm", "--network=none", "busybox", "true"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = davit
        .command()
        .env("REGISTRY_AUTH_FILE", "")
        .args(["login", "--get-login", "127.0.0.1:1"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("not logged in"));
}

#[test]
fn what_a_killed_build_left_goes_with_the_next_container() {
    let davit = Davit::with_busybox();
    let context = crate::support::context("FROM busybox\nRUN sleep 1000\n", &[]);
    let mut build = davit
        .command()
        .args(["build", "-q", context.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let steps = davit.runroot().join("steps");
    let left = || std::fs::read_dir(&steps).map_or(0, Iterator::count);
    wait_until("the step runs", || left() > 0);
    build.kill().unwrap();
    build.wait().unwrap();
    let place = davit.dir.path().to_str().unwrap().to_owned();
    wait_until("its processes are gone", || crate::support::processes_with(&place).is_empty());
    davit.run(["run", "--rm", "--network=none", "busybox", "true"]).ok();
    assert_eq!(left(), 0);
}

#[test]
fn cleanup_tidies_containers_sessions_and_images() {
    let davit = Davit::with_busybox();
    davit.run(["create", "--name", "c", "--network=none", "busybox", "sleep", "1000"]).ok();
    davit.run(["container", "exists", "--external", "c"]).ok();
    davit.run(["start", "c"]).ok();
    let session = davit.run(["exec", "-d", "c", "sleep", "1000"]).ok();
    davit.run(["container", "cleanup", "--exec", &session, "c"]).fails(125, "it is running");
    davit.run(["container", "cleanup", "--exec", "../../x", "c"]).fails(125, "no such exec session");
    davit.run(["stop", "-t", "0", "c"]).ok();
    davit.run(["container", "cleanup", "--rm", "--rmi", "c"]).ok();
    assert_eq!(davit.run(["container", "exists", "c"]).code, 1);
    assert_eq!(davit.run(["image", "exists", "busybox"]).code, 1);
}

#[test]
fn commit_puts_a_config_over_the_container_s() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "create",
            "--name",
            "c",
            "-e",
            "A=1",
            "-e",
            "B=2",
            "-l",
            "x=old",
            "--network=none",
            "busybox",
            "true",
        ])
        .ok();
    let file = davit.dir.path().join("config.json");
    let path = file.to_str().unwrap();
    let text =
        r#"{"User":"7","Env":["B=3","C=4"],"Cmd":["ls","/"],"Labels":{"x":"new"},"StopSignal":"SIGINT"}"#;
    std::fs::write(&file, text).unwrap();
    davit.run(["commit", "-q", "--config", path, "-c", "USER 8", "c", "made"]).ok();
    let config =
        |field: &str| davit.run(["image", "inspect", "-f", &format!("{{{{{field}}}}}"), "made"]).ok();
    assert_eq!(config(".Config.User"), "8", "--change counts more");
    assert_eq!(config("json .Config.Cmd"), r#"["ls","/"]"#);
    assert_eq!(config("json .Config.Labels"), r#"{"x":"new"}"#);
    assert_eq!(config(".Config.StopSignal"), "SIGINT");
    let env = config("json .Config.Env");
    assert!(
        env.contains("A=1") && env.contains("B=3") && env.contains("C=4") && !env.contains("B=2"),
        "{env}"
    );
    std::fs::write(&file, "[1]").unwrap();
    davit.run(["commit", "--config", path, "c", "other"]).fails(125, "as JSON");
    std::fs::write(&file, vec![b' '; (1 << 20) + 1]).unwrap();
    davit.run(["commit", "--config", path, "c", "other"]).fails(125, "larger than 1 MiB");
    assert_eq!(davit.run(["image", "exists", "other"]).code, 1);
}

#[test]
fn cp_takes_what_podman_hides() {
    let davit = Davit::with_busybox();
    davit.run(["create", "--name", "c", "--network=none", "busybox", "cat", "/f"]).ok();
    let file = davit.dir.path().join("f");
    std::fs::write(&file, "copied\n").unwrap();
    davit.run(["cp", "--extract", "--pause=false", file.to_str().unwrap(), "c:/f"]).ok();
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "copied");
}
