//! `start`, and what follows the start of a program in any case.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::net::SocketType;

use super::create::name_command;
use super::{Container, Error, Result, Status, console, notify, open, state};
use crate::hook::{self, Moment};
use crate::stage::{self, Word};
use crate::wire;

/// Starts the program of a created container; returns when it runs. `outside` is `NOTIFY_SOCKET`: then also when the
/// program has said that it is ready.
///
/// # Errors
/// The container is in another state, or its program could not be executed: it is stopped then.
pub fn start(root: &Path, id: &str, outside: Option<&Path>) -> Result<()> {
    let container = open(root, id)?;
    let refused = |status| Error::State { verb: "start", id: id.into(), status };
    let status = container.status();
    if status != Status::Created {
        return Err(refused(status));
    }
    let spec = container.spec()?;
    let notify = notify::listen(&container.directory)?;
    // Of two who start it at the same time, init hears one.
    let socket = container.connect().map_err(|_| refused(container.status()))?;
    sys::scm::send(&socket, &[wire::GO], &[]).map_err(|_| refused(container.status()))?;
    let mut answer = [0; 8];
    match sys::scm::receive(&socket, &mut answer) {
        Ok(received) if received.length == 1 && answer[0] == wire::GO => {}
        _ => return Err(refused(container.status())),
    }
    let command = spec.process().as_ref().and_then(|process| process.args().as_ref()?.first().cloned());
    loop {
        let word = stage::read_word(&socket);
        match word.map_err(|failure| name_command(failure.into(), &command.clone().unwrap_or_default()))? {
            Word::Executed => break,
            Word::Listener(listener) => hand_listener(&container, &spec, &listener)?,
            _ => return Err(stage::unexpected().into()),
        }
    }
    sys::fs::remove_file_if_exists(&container.directory.join(state::START))?;
    after_start(&container, &spec, notify, outside)
}

/// Runs the hooks that follow the start, and waits for the program to be ready where somebody wants to know.
pub(super) fn after_start(
    container: &Container,
    spec: &Spec,
    notify: Option<OwnedFd>,
    outside: Option<&Path>,
) -> Result<()> {
    let hooks = hook::plan("poststart", spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref()))?;
    let ran = hook::run_all(&hooks, Moment::Running, &container.hook_state(Status::Running));
    if let Err(failure) = ran {
        if let Some(process) = container.process() {
            // A container whose hooks failed must not go on; that they did is what is told.
            let _ = sys::pidfd::send_signal(&process, 9);
        }
        return Err(failure.into());
    }
    match (notify, outside, container.process()) {
        (Some(socket), Some(outside), Some(process)) => {
            notify::forward(&socket, container.record.pid, &process, outside)
        }
        _ => Ok(()),
    }
}

/// Sends the descriptor of a filter's notifications to the supervisor that the configuration names, with the state.
pub(super) fn hand_listener(container: &Container, spec: &Spec, listener: &OwnedFd) -> Result<()> {
    hand_listener_of(container, spec, listener, container.record.pid)
}

/// The same for another process than init.
pub(super) fn hand_listener_of(
    container: &Container,
    spec: &Spec,
    listener: &OwnedFd,
    pid: u32,
) -> Result<()> {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let path = seccomp.and_then(|seccomp| seccomp.listener_path().clone());
    let (Some(seccomp), Some(path)) = (seccomp, path) else {
        return Err(Error::invalid("linux.seccomp.listenerPath is missing, and a rule notifies"));
    };
    let state: serde_json::Value = serde_json::from_slice(&container.hook_state(container.status()))
        .map_err(|error| Error::os("describe the container", error))?;
    let mut message = serde_json::json!({
        "ociVersion": container.record.oci_version, "fds": ["seccompFd"], "pid": pid, "state": state,
    });
    if let Some(metadata) = seccomp.listener_metadata() {
        message["metadata"] = metadata.as_str().into();
    }
    let socket = console::connect(&path, SocketType::STREAM)?;
    sys::scm::send(&socket, message.to_string().as_bytes(), &[listener.as_fd()])
        .map_err(|error| Error::os(format!("send the filter's listener to {}", path.display()), error))
}
