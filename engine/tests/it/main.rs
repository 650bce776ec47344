//! Whole verbs of the engine on a busybox image, with real containers. Not libtest: spawners are forked before the
//! first thread, and monitors run the cleanup through this very program.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod builds;
mod containers;
mod images;
mod lab;

use engine::entry::{self, Entered, Needs};
use lab::{Lab, Test};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

fn main() {
    if let Some(code) = entry::hidden() {
        std::process::exit(i32::from(code));
    }
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    if !sys::user::is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI must not skip: the tests of this crate need root");
        println!("skipped: the tests of this crate need root");
        return;
    }
    let all: Vec<Test> = [builds::TESTS, containers::TESTS, images::TESTS]
        .into_iter()
        .flatten()
        .copied()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    // two for each test: some open a second store
    let entered: Mutex<Vec<Entered>> =
        Mutex::new((0..all.len() * 2).map(|_| entry::enter(Needs::Launch).unwrap()).collect());
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((name, test)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let mine: Vec<Entered> = {
                        let mut entered = entered.lock().unwrap();
                        (0..2).filter_map(|_| entered.pop()).collect()
                    };
                    let result = std::panic::catch_unwind(AssertUnwindSafe(|| test(&Lab::new(mine))));
                    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
                    println!("test {name} ... {verdict} ({} ms)", begin.elapsed().as_millis());
                    if result.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("test result: {} passed; {failed} failed", all.len() - failed);
    std::process::exit(i32::from(failed > 0));
}
