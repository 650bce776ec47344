//! Real containers on a busybox root file system. Not libtest: the spawner is forked before the first thread.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod attach;
mod exec;
mod failures;
mod files;
mod lab;
mod lifecycle;
mod limits;
mod process;
mod rootless;
mod speed;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lab::{Lab, Test};
use runtime::Spawner;

fn main() {
    if rootless::enter_if_asked() {
        return;
    }
    lifecycle::become_caller_if_asked();
    let spawner = Spawner::fork().unwrap();
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    if !sys::user::is_root() {
        lab::skip_or_fail("the tests of this crate need root");
        return;
    }
    let lab = Lab::new(spawner);
    let all: Vec<Test> = [
        attach::TESTS,
        exec::TESTS,
        failures::TESTS,
        files::TESTS,
        lifecycle::TESTS,
        limits::TESTS,
        process::TESTS,
        rootless::TESTS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
    .collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, test)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let result = std::panic::catch_unwind(AssertUnwindSafe(|| test(&lab)));
                    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
                    println!("test {name} ... {verdict} ({} ms)", begin.elapsed().as_millis());
                    if result.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if filters.iter().any(|filter| filter == "speed") {
        speed::measure(&lab);
    }
    let failed = failed.into_inner();
    println!("test result: {} passed; {failed} failed", all.len() - failed);
    if failed > 0 {
        std::process::exit(101);
    }
}
