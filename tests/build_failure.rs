//! How builds end before their end: failing steps, memory, signals, shells.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Davit, Done, context, mounts_below, processes_with, wait_until};

/// Fails the test if a build left a process, a mount or a directory behind.
#[track_caller]
fn nothing_is_left(davit: &Davit, marker: &str) {
    wait_until("the steps' processes are gone", || processes_with(marker).is_empty());
    let place = davit.dir.path().to_str().unwrap().to_owned();
    // The store may keep itself mounted while it lives; steps' mounts are below their run directory.
    let steps = format!("{place}/run/steps");
    assert_eq!(mounts_below(&steps), [] as [String; 0]);
    let entries = std::fs::read_dir(davit.runroot().join("steps"));
    assert_eq!(entries.map_or(0, Iterator::count), 0, "directories of steps are left");
}

fn start(davit: &Davit, context: &Path) -> Child {
    davit
        .command()
        .args(["build", "--progress=plain", context.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> Done {
    let output = child.wait_with_output().unwrap();
    Done::of(&output)
}

#[test]
fn a_failed_step_tells_all_that_is_known() {
    let davit = Davit::with_busybox();
    let text = "FROM busybox AS tools\nRUN true\nFROM tools\nENV A=1\nRUN echo one && \\\n    echo two >&2 && \\\n    exit 9\n";
    let done = davit.build("bad", text, &[]);
    assert_eq!(done.code, 9, "{done:#?}");
    for text in [
        "RUN failed: exit status 9",
        "Containerfile:5",
        "5 | / RUN echo one && \\",
        "7 | |     exit 9",
        "stage 1, step 2 of 2",
        "the command was: /bin/sh -c 'echo one &&",
        "the last 2 lines that it wrote:",
    ] {
        assert!(done.stderr.contains(text), "{text:?} is missing: {}", done.stderr);
    }
    // Only so many of the last lines.
    let done = davit.build("bad", "FROM busybox\nRUN seq 1000 1100; false\n", &[]);
    let report = done.stderr.rsplit("the last 20 lines that it wrote:").next().unwrap();
    assert!(report.contains("1081") && report.contains("1100") && !report.contains("1080"), "{report}");
    // A step that is no command.
    let done = davit.build("bad", "FROM busybox\nCOPY nothing /\n", &[]);
    done.fails(125, "COPY failed: /nothing: not found");
    assert!(done.stderr.contains("2 | COPY nothing /"), "{}", done.stderr);
}

#[test]
fn memory_that_ran_out_is_named_with_limit_and_peak() {
    if !crate::limits::controller("memory") {
        // Where no limit can be set, none is asked for in vain: tests/limits.rs has the refusal.
        return;
    }
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n", &[]);
    let done = davit.run(["build", "--memory=40m", dir.path().to_str().unwrap()]);
    done.fails(137, "RUN failed: killed: out of memory, limit 40 MiB, highest use ");
    assert!(done.stderr.contains("--memory"), "{done:#?}");
}

#[test]
fn one_failure_ends_the_other_stages() {
    let davit = Davit::with_busybox();
    let start = Instant::now();
    let done = davit.build(
        "bad",
        "FROM busybox AS slow\nRUN sleep 7101 & sleep 7101\nFROM busybox AS wrong\nRUN sleep 1; exit 7\n\
         FROM busybox\nCOPY --from=slow /x /\nCOPY --from=wrong /y /\nRUN echo never\n",
        &[],
    );
    done.fails(7, "RUN failed: exit status 7");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(done.stderr.contains("CANCELLED"), "{done:#?}");
    assert!(!done.stderr.contains("never\n#"), "{done:#?}");
    nothing_is_left(&davit, "sleep 7101");
    // The store is as good as new.
    davit.run(["system", "check"]).ok();
    davit.build("good", "FROM busybox\nRUN echo good > /good\n", &[]).ok();
}

#[test]
fn signals_cancel_a_build() {
    let davit = Davit::with_busybox();
    for (signal, code, mark) in [("INT", 130, "7201"), ("TERM", 143, "7202")] {
        let text = format!(
            "FROM busybox AS a\nRUN sleep {mark}\nFROM busybox\nRUN sleep {mark}\nCOPY --from=a /x /\n"
        );
        let dir = context(&text, &[]);
        let child = start(&davit, dir.path());
        let step = format!("sleep {mark}");
        wait_until("both steps run", || {
            processes_with(&step).iter().filter(|line| !line.contains("sh -c")).count() >= 2
        });
        crate::support::tool("kill", [&format!("-{signal}"), &child.id().to_string()]).ok();
        let done = end(child);
        done.fails(code, &format!("build: ended by SIG{signal}"));
        assert!(done.stderr.contains("cancelling the build"), "{done:#?}");
        nothing_is_left(&davit, &step);
    }
}

/// A build whose failing step is left to a shell that reads `script`.
fn repaired(davit: &Davit, context: &Path, script: &str) -> Done {
    let place = context.to_str().unwrap();
    davit.run_with_input(
        ["build", "--progress=plain", "--on-fail=shell", "-t", "fixed", place],
        script.as_bytes(),
    )
}

#[test]
fn a_shell_repairs_a_failed_step() {
    let davit = Davit::with_busybox();
    let dir = context(
        "FROM busybox\nENV NAME=value\nWORKDIR /work\nUSER ann\nRUN --mount=type=tmpfs,target=/memory touch /memory/x; false\n\
         USER 0\nRUN echo after > /after; cat /proc/sys/kernel/random/uuid > /when\n",
        &[],
    );
    // The shell is where the step was: directory, user, environment, mounts.
    let script = "pwd; id -un; echo \"[$NAME]\"; grep -c ' /memory ' /proc/mounts; echo repaired > /tmp/mark; exit 0\n";
    let done = repaired(&davit, dir.path(), script);
    done.ok();
    assert!(done.stdout.contains("/work\nann\n[value]\n1\n"), "{done:#?}");
    assert!(done.stderr.contains("was changed by hand"), "{done:#?}");
    assert_eq!(davit.sh("fixed", "cat /tmp/mark /after"), "repaired\nafter");
    let when = davit.sh("fixed", "cat /when");
    // Neither the repaired step nor the one on top of it is in the cache.
    repaired(&davit, dir.path(), "exit 3\n").fails(1, "RUN failed: exit status 1");
    repaired(&davit, dir.path(), "exit 0\n").ok();
    assert_ne!(davit.sh("fixed", "cat /when"), when);
    nothing_is_left(&davit, "no such process");
}

#[test]
fn the_shell_has_the_terminal() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nRUN exit 5\nRUN echo on > /on\n", &[]);
    let line = |command: &std::process::Command| {
        let mut words = vec![command.get_program().to_string_lossy().into_owned()];
        words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
        words.join(" ")
    };
    let mut davit_command = davit.command();
    davit_command.args(["build", "--on-fail=shell", "-t", "tty", dir.path().to_str().unwrap()]);
    let mut script = std::process::Command::new("script");
    script
        .args(["-qefc", &line(&davit_command), "/dev/null"])
        .envs(davit_command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        // Typed before there is a shell, as impatient people do; the terminal keeps it.
        input.write_all(b"tty; echo made > /by-hand\nexit\n").unwrap();
        std::thread::sleep(Duration::from_secs(20));
    });
    let output = child.wait_with_output().unwrap();
    drop(writer);
    let done = Done::of(&output);
    done.ok();
    assert!(done.stdout.contains("/dev/pts/") || done.stdout.contains("/dev/console"), "{done:#?}");
    assert_eq!(davit.sh("tty", "cat /by-hand /on"), "made\non");
}
