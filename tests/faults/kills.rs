//! SIGKILL at random moments of every command that writes.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Random, emptied};
use crate::support::{Access, Davit, Registry, context, mounts_below, processes_with, wait_until};

/// How many commands are killed.
fn wanted() -> u64 {
    std::env::var("DAVIT_FAULT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn start(davit: &Davit, arguments: &[&str]) -> Child {
    davit
        .command()
        .args(arguments)
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a command at a random moment; says whether it was still at work.
fn kill_at(mut child: Child, delay: Duration) -> bool {
    std::thread::sleep(delay);
    let early = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    early
}

#[test]
fn two_hundred_kills_lose_nothing_and_leave_nothing() {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    let text = "FROM busybox\nRUN head -c 3000000 /dev/urandom > /a\nRUN head -c 3000000 /dev/urandom > /b\nCOPY f /f\nRUN rm /a\n";
    let made = context(text, &[("f", "x")]);
    let made = made.path().to_str().unwrap();
    let remote = format!("{}/base:1", registry.host);
    let pushed = format!("{}/pushed:1", registry.host);
    let archive = davit.dir.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    davit.run(["build", "-q", "-t", "base", made]).ok();
    davit.run(["push", "-q", "--tls-verify=false", "base", &remote]).ok();
    davit.run(["save", "-q", "-o", archive, "base"]).ok();
    let export = davit.dir.path().join("root.tar");
    let export = export.to_str().unwrap();
    davit.run(["create", "--name", "kept", "busybox", "true"]).ok();
    davit.run(["export", "-o", export, "kept"]).ok();
    davit.run(["run", "-d", "--name", "lives", "--network=none", "busybox", "sleep", "1000"]).ok();
    let layout = davit.dir.path().join("layout");
    let layout = format!("oci:{}", layout.to_str().unwrap());
    let commands: [&[&str]; 10] = [
        &["build", "-q", "--no-cache", "-t", "built", made],
        &["build", "-q", "--no-cache", "--squash", "-t", "squashed", made],
        &["pull", "-q", "--tls-verify=false", &remote],
        &["push", "-q", "--tls-verify=false", "base", &pushed],
        &["push", "-q", "base", &layout],
        &["load", "-q", "-i", archive],
        &["import", "-q", export, "imported"],
        &["commit", "-q", "lives", "committed"],
        &["run", "--rm", "--network=none", "busybox", "sh", "-c", "head -c 100000 /dev/urandom > /x"],
        &["system", "prune", "-f", "--build"],
    ];

    let mut random = Random::new();
    let (stop, beside) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut early, wanted) = (0, wanted());
    std::thread::scope(|scope| {
        // The build beside them: each run of it ends with 0.
        scope.spawn(|| {
            let other = context(
                "FROM busybox\nARG n\nRUN head -c 200000 /dev/urandom > /r; echo $n\nCOPY f /f\n",
                &[("f", "y")],
            );
            while !stop.load(Ordering::Relaxed) {
                let n = format!("n={}", beside.fetch_add(1, Ordering::Relaxed));
                let done = davit.run([
                    "build",
                    "-q",
                    "--build-arg",
                    &n,
                    "-t",
                    "beside",
                    other.path().to_str().unwrap(),
                ]);
                if done.code != 0 {
                    stop.store(true, Ordering::Relaxed);
                    panic!("the build beside the killed commands failed: {done:#?}");
                }
            }
        });
        for number in 0..wanted {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let command = commands[usize::try_from(random.below(commands.len() as u64)).unwrap()];
            // Pulls and loads have something to do only where nothing is there yet.
            if command[0] == "pull" || command[0] == "load" {
                davit.run(["rmi", "-f", "--ignore", "base", "localhost/base", &remote]).ok();
            } else if command.contains(&"base") {
                davit.run(["load", "-q", "-i", archive]).ok();
            }
            let longest = if command[0] == "build" { 500 } else { 120 };
            early += u64::from(kill_at(start(&davit, command), Duration::from_millis(random.below(longest))));
            if number % 10 == 9 {
                davit.run(["images"]).ok();
                davit.run(["ps", "-a"]).ok();
                assert_eq!(davit.sh("busybox", "echo works"), "works", "after {number} kills");
                davit.run(["exec", "lives", "true"]).ok();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(early * 3 > wanted, "only {early} of {wanted} commands were at work when they were killed");
    assert!(beside.load(Ordering::Relaxed) > wanted / 20, "the builds beside hardly ran");

    // Each of them now runs to its end.
    davit.run(["load", "-q", "-i", archive]).ok();
    for command in commands {
        davit.run(command).ok();
    }
    davit.run(["system", "check"]).ok();
    davit.run(["rm", "-f", "-t", "0", "lives"]).ok();
    let place = davit.dir.path().to_str().unwrap();
    wait_until("no process of a killed command is left", || processes_with(place).is_empty());
    assert!(mounts_below(place).is_empty(), "{:#?}", mounts_below(place));
    let left = emptied(&davit);
    assert!(
        left < 1_000_000,
        "{left} bytes are left: {}",
        crate::support::tool("find", [davit.root().to_str().unwrap(), "-size", "+20k"]).stdout
    );
    assert!(mounts_below(place).is_empty(), "{:#?}", mounts_below(place));
}
