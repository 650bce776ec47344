//! `create` and `run`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::born::bear;
use super::foreground::{self, Signals};
use super::{Container, Error, Result};
use crate::cgroup::Bus;

/// Who makes control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupManager {
    /// Nobody: the container stays in its caller's.
    Disabled,
    /// This crate, in the file system.
    Files,
    /// systemd, as `linux.cgroupsPath` says in its form `SLICE:PREFIX:NAME`.
    Systemd(Bus),
}

/// What `create` and `run` are told on the command line and by the environment.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Directory of all containers.
    pub root: PathBuf,
    /// ID of the new one.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Another file than the bundle's `config.json`.
    pub config: Option<PathBuf>,
    /// Unix socket that takes the terminal.
    pub console_socket: Option<PathBuf>,
    /// File that takes init's process ID.
    pub pid_file: Option<PathBuf>,
    /// The root is changed without pivot_root(2).
    pub no_pivot: bool,
    /// The caller's session keyring is kept.
    pub no_new_keyring: bool,
    /// Descriptors after the standard streams that the program inherits.
    pub preserve_fds: u32,
    /// How many of these are sockets of systemd's (`LISTEN_FDS`).
    pub listen_fds: u32,
    /// `NOTIFY_SOCKET`.
    pub notify_socket: Option<PathBuf>,
    /// Who makes control groups.
    pub cgroup_manager: CgroupManager,
    /// `run` only: returns when the program runs.
    pub detach: bool,
    /// `run` only: the container is not deleted when it has ended.
    pub keep: bool,
    /// `run` in the foreground only: orphans of the container are reaped by the caller.
    pub subreaper: bool,
}

/// Creates a container: all is done but the start. Returns warnings.
///
/// # Errors
/// Nothing of the container is left then.
pub fn create(options: &CreateOptions) -> Result<Vec<String>> {
    let born = bear(options, false, false)?;
    born.keep(options).map(|born| born.warnings)
}

/// Creates a container and starts it at once; in the foreground it is accompanied to its end and deleted. Returns the
/// exit code (0 detached) and warnings.
///
/// # Errors
/// Nothing of the container is left then.
pub fn run(options: &CreateOptions) -> Result<(i32, Vec<String>)> {
    let signals = if options.detach { None } else { Some(Signals::take()?) };
    if options.subreaper && signals.is_some() {
        // Without it they are reaped by somebody else.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
    let born = bear(options, true, signals.is_some())?.keep(options)?;
    let container = Container { directory: options.root.join(&options.id), ..born.container };
    let delete = || super::delete(&options.root, &options.id, true).map(drop);
    if let Err(error) =
        super::start::after_start(&container, &born.spec, born.notify, options.notify_socket.as_deref())
    {
        delete()?;
        return Err(error);
    }
    let Some(signals) = signals else { return Ok((0, born.warnings)) };
    let code = foreground::supervise(container.record.pid, born.terminal, &signals);
    if !options.keep {
        delete()?;
    }
    Ok((code?, born.warnings))
}

/// Writes a process ID where the caller looks for it.
pub(super) fn write_pid(path: &Path, pid: u32) -> Result<()> {
    Ok(sys::fs::write_atomic(path, pid.to_string().as_bytes(), 0o644, sys::fs::Sync::None)?)
}

/// The kernel's refusal of the program itself comes without its name.
pub(super) fn name_command(error: Error, command: &str) -> Error {
    match error {
        Error::Runtime(crate::Error::CommandNotFound { command: name }) if name.is_empty() => {
            crate::Error::CommandNotFound { command: command.into() }.into()
        }
        Error::Runtime(crate::Error::CommandNotRunnable { command: name, source }) if name.is_empty() => {
            crate::Error::CommandNotRunnable { command: command.into(), source }.into()
        }
        other => other,
    }
}

/// Copies of our streams, for init to own.
pub(super) fn standard_streams() -> Result<[Option<OwnedFd>; 3]> {
    let copy = |number| sys::process::copy_of_stream(number);
    let copies = || Ok([copy(0)?, copy(1)?, copy(2)?]);
    copies().map_err(|error: std::io::Error| Error::os("copy the standard streams", error))
}
