//! A filter that hands calls to a supervisor: loading it, and getting its descriptor out.
//!
//! From the moment it is loaded the filter may stop any call of this thread until somebody answers, also the one that
//! would send the descriptor to who is to answer. So another thread, to which the filter does not apply, sees the
//! descriptor appear and sends it; the exec ends that thread. This one meanwhile waits without a call.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use sys::seccomp_load::{FLAG_TSYNC, FLAG_TSYNC_ESRCH, Instruction};

use crate::error::Stage;
use crate::wire::{self, At, Failure};

pub(super) fn load_filter(program: &[Instruction], flags: u32, sync: &OwnedFd) -> Result<(), Failure> {
    let socket = sync.try_clone().at(Stage::Seccomp, "")?;
    let sent = sys::process::watch_next_descriptor(sync.as_fd(), move |listener| {
        // Where nobody is left to take it the calls will be refused by the kernel.
        let _ = sys::scm::send(&socket, &[wire::LISTENER], &[listener]);
        // Its end must be that of the exec.
        std::mem::forget(socket);
    })
    .at(Stage::Seccomp, "start the thread for the listener")?;
    // Every thread is to have the filter but the one that is about to end.
    let flags = flags & !(FLAG_TSYNC | FLAG_TSYNC_ESRCH);
    let listener = sys::seccomp_load::install(program, flags).at(Stage::Seccomp, "")?;
    while !sent.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
    // Closing it is a call too; the exec does it.
    std::mem::forget(listener);
    Ok(())
}
