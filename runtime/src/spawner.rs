//! The spawner: a single-threaded process, forked at the start of `main`, that forks all others.
//!
//! It keeps no state: for each request, which is a socket of its own passed over the main one, it forks a child that
//! becomes the monitor and serves the request, so that many launches proceed at once. It ends with its caller;
//! monitors outlive it unless the launch is tied.

use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::launch::{ExecRequest, Launch, Launched};

/// A handle on the spawner process; usable from many threads at once.
#[derive(Debug)]
pub struct Spawner {
    #[expect(dead_code, reason = "filled in next")]
    socket: OwnedFd,
}

impl Spawner {
    /// Forks the spawner. Must be called while the process has a single thread, which is checked.
    pub fn fork() -> Result<Self> {
        todo!()
    }

    /// Starts a container; returns when its process has been executed.
    pub fn launch(&self, _launch: Launch<'_>) -> Result<Launched> {
        todo!()
    }

    /// Starts a process inside a running container; returns when it has been executed.
    pub fn exec(&self, _request: ExecRequest<'_>) -> Result<Launched> {
        todo!()
    }
}
