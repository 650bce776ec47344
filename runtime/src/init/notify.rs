//! A filter that hands calls to a supervisor: loading it, and getting its descriptor out.
//!
//! From the moment it is loaded the filter may stop any call of this process until somebody answers, also the one that
//! would send the descriptor to who is to answer. So a helper that shares the table of descriptors, and not the
//! filter, is forked before; it sees the descriptor appear and sends it.

use std::os::fd::{AsFd, OwnedFd};

use sys::seccomp_load::Instruction;

use crate::error::Stage;
use crate::wire::{self, At, Failure};

pub(super) fn load_filter(program: &[Instruction], flags: u32, sync: &OwnedFd) -> Result<(), Failure> {
    sys::process::share_next_descriptor(sync.as_fd(), |listener| {
        // Where nobody is left to take it the calls will be refused by the kernel.
        let _ = sys::scm::send(sync, &[wire::LISTENER], &[listener]);
    })
    .at(Stage::Seccomp, "fork the helper for the listener")?;
    let listener = sys::seccomp_load::install(program, flags).at(Stage::Seccomp, "")?;
    // Closing it is a call too; the exec does it.
    std::mem::forget(listener);
    Ok(())
}
