//! Containers: one file a verb, and what the verbs share.

mod inspect;
mod requests;

pub use inspect::*;
pub use requests::*;

use crate::images::{PruneReport, TransferProgress};
use crate::{Engine, Result};

/// The containers of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'a> {
    pub(crate) engine: &'a Engine,
}

impl Containers<'_> {
    /// Makes a container without starting it.
    pub fn create(&self, _request: &CreateRequest, _progress: TransferProgress<'_>) -> Result<Created> {
        todo!()
    }

    /// Makes a container and starts it.
    pub fn run(&self, _request: RunRequest, _progress: TransferProgress<'_>) -> Result<Ran> {
        todo!()
    }

    /// Starts containers in the background.
    pub fn start(&self, _selection: &Selection) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Starts a container and joins its streams.
    pub fn start_attached(&self, _name: &str, _streams: Streams) -> Result<SessionEnd> {
        todo!()
    }

    /// Joins the streams of a running container.
    pub fn attach(&self, _name: &str, _streams: Streams) -> Result<SessionEnd> {
        todo!()
    }

    /// Stops containers: their stop signal, a wait, SIGKILL.
    pub fn stop(&self, _request: &StopRequest) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Stops containers where they run, and starts them.
    pub fn restart(&self, _request: &StopRequest) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Sends a signal, by name or number.
    pub fn kill(&self, _selection: &Selection, _signal: &str) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Freezes containers.
    pub fn pause(&self, _selection: &Selection) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Thaws containers.
    pub fn unpause(&self, _selection: &Selection) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Waits until a container has one of these states (empty = stopped or exited) and returns its exit code.
    pub fn wait(&self, _name: &str, _conditions: &[String]) -> Result<i32> {
        todo!()
    }

    /// Removes containers.
    pub fn remove(&self, _request: &RemoveRequest) -> Result<Vec<Outcome>> {
        todo!()
    }

    /// Removes all containers that do not run.
    pub fn prune(&self, _request: &ContainerPruneRequest) -> Result<PruneReport> {
        todo!()
    }

    /// Lists containers, newest first.
    pub fn list(&self, _request: &ContainerListRequest) -> Result<Vec<ContainerSummary>> {
        todo!()
    }

    /// Describes a container in Podman's JSON shape.
    pub fn inspect(&self, _name: &str, _size: bool) -> Result<ContainerInspect> {
        todo!()
    }

    /// Tells whether a container of this name or ID exists.
    pub fn exists(&self, _name: &str) -> Result<bool> {
        todo!()
    }

    /// Gives a container another name.
    pub fn rename(&self, _name: &str, _new: &str) -> Result<()> {
        todo!()
    }

    /// Hands the lines of a container's log to `sink` until it returns false.
    pub fn logs(&self, _request: &LogsRequest, _sink: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        todo!()
    }

    /// Runs a command in a running container.
    pub fn exec(&self, _request: ExecRequest) -> Result<Executed> {
        todo!()
    }

    /// Releases what an exited container holds; the monitor runs `container cleanup ID`, which calls this.
    pub fn cleanup(&self, _name: &str, _remove: bool) -> Result<()> {
        todo!()
    }
}
