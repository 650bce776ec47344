//! The monitor: one small process a container or exec session.
//!
//! It starts the process, holds its standard streams or terminal, writes its log, serves attach clients, reaps it,
//! writes the exit record by rename and, where nobody else is there to do so, runs the cleanup command it was given. It
//! knows no database. When it dies the process dies too (`PR_SET_PDEATHSIG`), so "the monitor is gone" always means
//! "stopped".

mod borrowed;
mod events;
mod foreign;
mod log;
mod mapped;
mod notify;
mod start;
mod timers;

pub(crate) use log::open as open_log;
pub(crate) use timers::TimerPlan;

use std::os::fd::{AsFd, OwnedFd};

use crate::plan::PlanFile;
use crate::wire::{At, Descriptors, Failure};

use crate::error::Stage;

/// Serves one request in a process forked for it; returns the process's exit code.
pub(crate) fn serve(request: OwnedFd, trampoline: &OwnedFd) -> i32 {
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"davit-monitor");
    if sys::signal::reset_all().is_err() {
        return 70;
    }
    sys::signal::ignore(13); // SIGPIPE
    let mut descriptors = match Descriptors::receive(request.as_fd()) {
        Ok(Some(descriptors)) => descriptors,
        // The caller has gone before it asked.
        _ => return 0,
    };
    let started = (|| {
        let plan = descriptors.take(0).at(Stage::Spawn, "read the plan")?;
        let (file, plan) = PlanFile::open(plan).at(Stage::Spawn, "read the plan")?;
        start::start(plan, &file, descriptors, trampoline)
    })();
    match started {
        Ok(running) => {
            let told = running.tell_launched(&request);
            events::run(running, told.is_ok().then_some(request))
        }
        Err(failure) => {
            report(&request, &failure);
            0
        }
    }
}

fn report(request: &OwnedFd, failure: &Failure) {
    // If the caller is gone too, nobody is left to be told.
    let _ = sys::scm::send(request, &failure.encode(), &[]);
}

/// Nanoseconds since 1970, UTC.
pub(crate) fn now_unix_nanos() -> i64 {
    // Not rustix's: it panics where the kernel's vDSO lacks clock_gettime (seen on user-mode Linux).
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
