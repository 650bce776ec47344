//! Times and sizes, on demand: `cargo test -p runtime --test it -- speed`.

use crate::lab::{Lab, parse, spec};
use runtime::{CgroupSetup, ExecRequest, OutputMode};
use std::time::Instant;

pub(crate) fn measure(lab: &Lab) {
    let spec = parse(&spec(&["true"]));
    let once = |cgroup: bool| {
        let mut launch = lab.launch(&spec);
        (launch.attach, launch.stdout, launch.stderr) = (false, OutputMode::Null, OutputMode::Null);
        if cgroup {
            launch.cgroup = CgroupSetup::Path(format!("davit-test/{}", launch.id).into());
        }
        let run_dir = launch.run_dir.clone();
        let begin = Instant::now();
        let launched = lab.spawner.launch(launch).unwrap();
        let started = begin.elapsed();
        assert_eq!(launched.wait().unwrap().code, 0);
        launched.finish();
        let waited = begin.elapsed();
        runtime::delete(&run_dir).unwrap();
        [started, waited, begin.elapsed()].map(|time| time.as_micros())
    };
    let mut bare: Vec<u128> = (0..100)
        .map(|_| {
            let begin = Instant::now();
            std::process::Command::new(lab.root().join("bin/busybox")).arg("true").status().unwrap();
            begin.elapsed().as_micros()
        })
        .collect();
    bare.sort_unstable();
    println!("for comparison, posix_spawn and exit: min {} median {}", bare[0], bare[50]);
    for cgroup in [false, true] {
        let before = cpu();
        let mut all: Vec<[u128; 3]> = (0..100).map(|_| once(cgroup)).collect();
        println!("CPU microseconds each: {}", (cpu() - before) / 100_000);
        all.sort_by_key(|times| times[1]);
        println!(
            "cgroup {cgroup}: launch, +exit, +delete in microseconds: min {:?} median {:?}",
            all[0], all[50]
        );
    }
    let idle = parse(&crate::lab::spec(&["sleep", "1000"]));
    let mut launch = lab.launch(&idle);
    launch.attach = false;
    let run_dir = launch.run_dir.clone();
    let launched = lab.spawner.launch(launch).unwrap();
    let process = spec.process().clone().unwrap();
    let mut all: Vec<u128> = (0..100)
        .map(|_| {
            let session = lab.scratch();
            let mut request = ExecRequest::new("x", &run_dir, session, &process);
            (request.stdout, request.stderr) = (OutputMode::Null, OutputMode::Null);
            let begin = Instant::now();
            let launched = lab.spawner.exec(request).unwrap();
            launched.wait().unwrap();
            launched.finish();
            begin.elapsed().as_micros()
        })
        .collect();
    all.sort_unstable();
    println!("exec and exit in microseconds: min {} median {}", all[0], all[50]);
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", launched.monitor_pid)).unwrap();
    println!("idle monitor:\n{rollup}");
    runtime::kill(&run_dir, 9).unwrap();
    launched.wait().unwrap();
    launched.finish();
}

/// CPU time in nanoseconds of this process's own group, if the run was put in one (times on a busy machine say little).
fn cpu() -> u64 {
    std::fs::read_to_string("/sys/fs/cgroup/cpuacct/davit-speed/cpuacct.usage")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}
