//! Health checks: made in time by the monitor, asked for by hand, and what follows from them.

use std::time::Duration;

use crate::support::{Davit, wait_until};

fn health(davit: &Davit, name: &str) -> String {
    davit.inspect(name, "{{.State.Health.Status}}")
}

#[test]
fn a_container_becomes_unhealthy_and_well_again() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "-d",
            "--name=c",
            "--health-cmd=test -f /tmp/ok || { echo missing; exit 3; }",
            "--health-interval=200ms",
            "--health-retries=2",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    wait_until("it is unhealthy", || health(&davit, "c") == "unhealthy");
    assert!(davit.run(["ps", "--format={{.Status}}"]).ok().ends_with("(unhealthy)"));
    assert_eq!(davit.run(["ps", "-q", "--filter=health=healthy"]).ok(), "");
    assert_eq!(
        davit
            .inspect("c", "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}")
            .trim(),
        "3 missing"
    );
    let done = davit.run(["healthcheck", "run", "c"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, "unhealthy\n"));
    davit.run(["exec", "c", "touch", "/tmp/ok"]).ok();
    davit.run(["wait", "--condition=healthy", "c"]).ok();
    assert_eq!(davit.run(["healthcheck", "run", "c"]).ok(), "");
    assert_eq!(davit.run(["ps", "--filter=health=healthy", "--format={{.Names}}"]).ok(), "c");
    // no more than the last five are kept
    wait_until("five results are there", || davit.inspect("c", "{{len .State.Health.Log}}") == "5");
    let events = davit.run(["events", "--stream=false", "--filter=event=health_status"]).ok();
    assert!(
        events.contains("health_status=healthy") && events.contains("health_status=unhealthy"),
        "{events}"
    );
    davit.run(["stop", "-t0", "c"]).ok();
    davit.run(["healthcheck", "run", "c"]).fails(125, "it is exited");
    // what was found stays, and the next start begins anew
    assert_eq!(davit.inspect("c", "{{len .State.Health.Log}}"), "5");
}

#[test]
fn what_follows_is_what_was_asked_for() {
    let davit = Davit::with_busybox();
    let start = |name: &str, action: &str| {
        let on_failure = format!("--health-on-failure={action}");
        davit
            .run([
                "run",
                "-d",
                "--name",
                name,
                "--stop-timeout=1",
                "--health-cmd=false",
                "--health-interval=200ms",
                "--health-retries=1",
                &on_failure,
                "busybox",
                "sleep",
                "1000",
            ])
            .ok();
    };
    start("killed", "kill");
    start("stopped", "stop");
    assert_eq!(davit.run(["wait", "killed"]).ok(), "137");
    assert_eq!(davit.run(["wait", "stopped"]).ok(), "137");
    start("again", "restart");
    let first = davit.inspect("again", "{{.State.StartedAt}}");
    wait_until("it was restarted", || {
        let state = davit.inspect("again", "{{.State.Status}} {{.State.StartedAt}}");
        state.starts_with("running") && !state.ends_with(&first)
    });
}

#[test]
fn failures_during_the_start_do_not_count() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "-d",
            "--name=c",
            "--health-cmd=false",
            "--health-interval=150ms",
            "--health-retries=1",
            "--health-start-period=1h",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    wait_until("checks were made", || davit.inspect("c", "{{len .State.Health.Log}}") == "5");
    assert_eq!(davit.inspect("c", "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"), "starting 0");
}

#[test]
fn the_check_at_startup_comes_first() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "-d",
            "--name=c",
            "--health-cmd=true",
            "--health-interval=150ms",
            "--health-startup-cmd=test -f /tmp/up",
            "--health-startup-interval=150ms",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    wait_until("checks were made", || davit.inspect("c", "{{len .State.Health.Log}}") == "5");
    assert_eq!(health(&davit, "c"), "starting");
    davit.run(["exec", "c", "touch", "/tmp/up"]).ok();
    wait_until("it is healthy", || health(&davit, "c") == "healthy");
}

#[test]
fn a_check_that_hangs_or_cannot_run_has_failed() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "run",
            "-d",
            "--name=c",
            "--health-cmd=sleep 100",
            "--health-timeout=1s",
            "--health-interval=disable",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let begun = std::time::Instant::now();
    davit.run(["healthcheck", "run", "c"]).fails(1, "");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(davit.inspect("c", "{{(index .State.Health.Log 0).ExitCode}}"), "-1");
    assert_eq!(davit.run(["exec", "c", "sh", "-c", "ps | grep -c '[s]leep 100$'; true"]).ok(), "0");
    davit
        .run([
            "run",
            "-d",
            "--name=d",
            "--health-cmd=[\"/no/such\"]",
            "--health-interval=0",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    davit.run(["healthcheck", "run", "d"]).fails(1, "");
    assert_eq!(davit.inspect("d", "{{(index .State.Health.Log 0).ExitCode}}"), "127");
}

#[test]
fn an_image_brings_its_check() {
    let davit = Davit::with_busybox();
    let text =
        "FROM busybox\nHEALTHCHECK --interval=1s --retries=7 CMD test -f /etc/passwd\nCMD sleep 1000\n";
    davit.build("checked", text, &[]).ok();
    davit.run(["run", "-d", "--name=c", "checked"]).ok();
    wait_until("it is healthy", || health(&davit, "c") == "healthy");
    assert_eq!(
        davit.inspect("c", "{{json .Config.Healthcheck.Retries}} {{.Config.Healthcheck.Test}}"),
        "7 [CMD-SHELL test -f /etc/passwd]"
    );
    davit.run(["run", "-d", "--name=off", "--no-healthcheck", "checked"]).ok();
    davit.run(["healthcheck", "run", "off"]).fails(125, "no health check");
    davit.run(["create", "--health-cmd=x", "--health-retries=0", "busybox"]).fails(125, "at least 1");
    davit.run(["create", "--health-cmd=x", "--health-on-failure=explode", "busybox"]).fails(125, "explode");
    davit
        .run(["create", "--health-cmd=x", "--health-on-failure=restart", "--restart=always", "busybox"])
        .fails(125, "restart policy");
}

#[test]
fn results_go_to_a_directory() {
    let davit = Davit::with_busybox();
    let logs = crate::support::scratch();
    let destination = format!("--health-log-destination={}", logs.path().display());
    let id = davit
        .run([
            "run",
            "-d",
            "--name=c",
            "--health-cmd=echo 12345678",
            "--health-max-log-size=4",
            "--health-max-log-count=2",
            "--health-interval=disable",
            &destination,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    for _ in 0..3 {
        davit.run(["healthcheck", "run", "c"]).ok();
    }
    let text = std::fs::read_to_string(logs.path().join(format!("{id}-healthcheck.log"))).unwrap();
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&log["Status"], log["Log"].as_array().unwrap().len()), (&"healthy".into(), 2));
    assert_eq!(log["Log"][0]["Output"], "1234");
}
