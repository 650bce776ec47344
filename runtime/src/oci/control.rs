//! The verbs for a container that is there: `kill`, `delete`, `pause`, `resume`, `ps`, `update`, `events`.

use std::path::Path;

use oci_spec::runtime::LinuxResources;

use super::{Container, Error, Result, Status, open};
use crate::cgroup::{Manager, Stats};
use crate::hook::{self, Moment};

const KILL: i32 = 9;
/// How long a killed process may take to end, milliseconds.
const END_DEADLINE: i64 = 10_000;

fn state(verb: &'static str, id: &str, status: Status) -> Error {
    Error::State { verb, id: id.into(), status }
}

/// Sends a signal to a container's first process, or to all.
///
/// # Errors
/// It neither waits nor runs.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let container = open(root, id)?;
    let status = container.status();
    let gone = || state("kill", id, Status::Stopped);
    if all && let Some(group) = container.group() {
        return Ok(group.kill_all(signal)?);
    }
    match status {
        Status::Created | Status::Running | Status::Paused => {}
        other => return Err(state("kill", id, other)),
    }
    let process = container.process().ok_or_else(gone)?;
    match sys::pidfd::send_signal(&process, signal) {
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Err(gone()),
        result => result.map_err(|error| Error::os(format!("kill container {id:?}"), error))?,
    }
    if let (true, Some(group)) = (signal == KILL, container.group()) {
        if !container.record.own_pid_namespace {
            // The end of its first process is not the others'.
            group.kill_all(KILL)?;
        } else if status == Status::Paused {
            group.thaw()?;
        }
    }
    Ok(())
}

/// Removes a container that is stopped; with `force` also one that is not, which is killed, and none is no failure.
/// Returns warnings.
///
/// # Errors
/// It is not stopped, or something of it cannot be removed.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<Vec<String>> {
    let container = match open(root, id) {
        Ok(container) => container,
        Err(Error::NotFound { .. }) if force => {
            // A `create` that was killed in its first moments has left a directory without a record.
            remove(&root.join(id))?;
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    match (container.status(), force) {
        // Of a `create` that was killed, init may be left.
        (Status::Stopped, _) | (_, true) => end(&container)?,
        (other, false) => return Err(state("delete", id, other)),
    }
    if let Some(group) = container.group() {
        if !container.record.own_pid_namespace {
            group.kill_all(KILL)?;
        }
        group.delete()?;
    }
    let warnings = poststop(&container);
    remove(&container.directory)?;
    Ok(warnings)
}

fn remove(directory: &Path) -> Result<()> {
    match sys::fs::remove_tree(directory) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Kills a container and waits for its end.
fn end(container: &Container) -> Result<()> {
    let failed =
        |errno: rustix::io::Errno| Error::os(format!("kill container {:?}", container.record.id), errno);
    let Some(process) = container.process() else { return Ok(()) };
    match sys::pidfd::send_signal(&process, KILL) {
        Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => {
            return Err(Error::os(format!("kill container {:?}", container.record.id), error));
        }
        _ => {}
    }
    if let Some(group) = container.group() {
        group.kill_all(KILL)?;
    }
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: END_DEADLINE / 1000, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Ok(1..) => return Ok(()),
            Ok(0) => return Err(failed(rustix::io::Errno::TIMEDOUT)),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Runs the last hooks: all of them, and what fails is told and no more.
fn poststop(container: &Container) -> Vec<String> {
    // Reading all of it only to find no hook is most of the work of deleting.
    let mentioned = container.config_mentions("poststop");
    let Some(spec) = mentioned.then(|| container.spec().ok()).flatten() else { return Vec::new() };
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    let hooks = match hook::plan("poststop", hooks) {
        Ok(hooks) => hooks,
        Err(error) => return vec![error.to_string()],
    };
    let state = container.hook_state(Status::Stopped);
    let run = |hook| hook::run_all(&[hook], Moment::Stopped, &state).err();
    hooks.into_iter().filter_map(run).map(|failure| failure.into_error().to_string()).collect()
}

/// The group of a container that runs.
fn running(root: &Path, id: &str, verb: &'static str) -> Result<(Container, Manager)> {
    let container = open(root, id)?;
    match container.status() {
        Status::Created | Status::Running | Status::Paused => {}
        other => return Err(state(verb, id, other)),
    }
    let none = || Error::invalid(format!("cannot {verb} container {id:?}: it has no control group"));
    let group = container.group().ok_or_else(none)?;
    Ok((container, group))
}

/// Freezes a container.
///
/// # Errors
/// It does not run, or has no control group.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    let (container, group) = running(root, id, "pause")?;
    match container.status() {
        Status::Created | Status::Running => Ok(group.freeze()?),
        other => Err(state("pause", id, other)),
    }
}

/// Thaws a container.
///
/// # Errors
/// It is not frozen.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    let (container, group) = running(root, id, "resume")?;
    match container.status() {
        Status::Paused => Ok(group.thaw()?),
        other => Err(state("resume", id, other)),
    }
}

/// The process IDs of a container.
///
/// # Errors
/// It does not run, or has no control group.
pub fn processes(root: &Path, id: &str) -> Result<Vec<i32>> {
    Ok(running(root, id, "list the processes of")?.1.processes()?)
}

/// Changes limits; what is absent stays as it is.
///
/// # Errors
/// The container does not run, or a limit is refused.
pub fn update(root: &Path, id: &str, resources: &LinuxResources) -> Result<()> {
    Ok(running(root, id, "update")?.1.apply(resources)?)
}

/// The same, from the form of the specification.
///
/// # Errors
/// As [`update`], and for what is no such form.
pub fn update_from_json(root: &Path, id: &str, value: serde_json::Value) -> Result<()> {
    let resources: LinuxResources =
        serde_json::from_value(value).map_err(|error| Error::invalid(format!("resources: {error}")))?;
    update(root, id, &resources)
}

/// The counters of a container's group.
///
/// # Errors
/// It does not run, or has no control group.
pub fn events(root: &Path, id: &str) -> Result<Stats> {
    Ok(running(root, id, "read the counters of")?.1.stats()?)
}
