//! Containers that another OCI runtime runs (`--runtime crun`): the monitor mounts the root file system, calls the
//! runtime's `create` and `start`, and is from then on the same as for a container of our own.
//!
//! ```text
//! RUN_DIR/bundle/   config.json  the spec, with the root file system at `rootfs`
//!                   rootfs/      mounted in the monitor's own mount namespace alone, so that it vanishes with it
//!                   state/       the runtime's `--root`
//!                   log          what the runtime has to say, as JSON lines
//!                   pid          written by `create`
//!                   console.sock takes the terminal's master
//! ```
//! A container of a foreign runtime outlives a monitor that is killed; it is found by its `pid.json`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use sys::mount::Propagation;

use crate::error::Stage;
use crate::plan::{ForeignPlan, MonitorPlan};
use crate::wire::{At, Descriptors, Failure};

/// Longest log of a runtime that is read, bytes.
const MAX_LOG: usize = 64 * 1024;

/// A container's first process, and its terminal's master.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) terminal: Option<OwnedFd>,
}

/// Mounts the root file system, then creates the container; its process waits for [`go`].
pub(super) fn create(
    plan: &MonitorPlan,
    foreign: &ForeignPlan,
    descriptors: &mut Descriptors,
    streams: [Option<OwnedFd>; 3],
) -> Result<Started, Failure> {
    mount_rootfs(foreign, descriptors)?;
    let console = match plan.terminal {
        true => Some(listen(&foreign.bundle).at(Stage::Console, "listen for the terminal")?),
        false => None,
    };
    let mut command = runtime(foreign);
    command
        .args(["create", "--bundle"])
        .arg(&foreign.bundle)
        .arg("--pid-file")
        .arg(foreign.bundle.join("pid"));
    if console.is_some() {
        command.args(["--console-socket", "console.sock"]);
    }
    command.arg(&plan.id);
    let [stdin, stdout, stderr] = streams;
    let stdio = |stream: Option<OwnedFd>| stream.map_or_else(Stdio::null, Stdio::from);
    command.stdin(stdio(stdin)).stdout(stdio(stdout)).stderr(stdio(stderr));
    run(foreign, &mut command)?;
    let pid = sys::fs::read_limited(&foreign.bundle.join("pid"), 64);
    let pid = pid.ok().and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse::<u32>().ok());
    let Some(pid) = pid else {
        delete(plan, foreign);
        return Err(Failure::new(Stage::Spawn, "", &io::Error::other("the runtime wrote no process id")));
    };
    let terminal = match console {
        Some(listener) => match take_terminal(&listener) {
            Ok(terminal) => Some(terminal),
            Err(error) => {
                delete(plan, foreign);
                return Err(Failure::new(Stage::Console, "receive the terminal", &error));
            }
        },
        None => None,
    };
    Ok(Started { pid, terminal })
}

/// Lets the process of a created container go on to its program.
pub(super) fn go(plan: &MonitorPlan, foreign: &ForeignPlan) -> Result<(), Failure> {
    let mut command = runtime(foreign);
    command.arg("start").arg(&plan.id);
    run(foreign, silent(&mut command)).inspect_err(|_| delete(plan, foreign))
}

/// Makes the runtime forget the container, and takes its root file system away.
pub(super) fn delete(plan: &MonitorPlan, foreign: &ForeignPlan) {
    // What fails here is removed with the run directory and the control group.
    let mut command = runtime(foreign);
    command.args(["delete", "--force"]).arg(&plan.id);
    let _ = silent(&mut command).status();
    while sys::mount::umount_detach(&foreign.bundle.join("rootfs")).is_ok() {}
}

fn mount_rootfs(foreign: &ForeignPlan, descriptors: &mut Descriptors) -> Result<(), Failure> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).at(Stage::Rootfs, "unshare mounts")?;
    // What the host unmounts later goes away here too, and nothing of ours shows up there.
    sys::mount::set_root_propagation(Propagation::Slave).at(Stage::Rootfs, "")?;
    let place = foreign.bundle.join("rootfs");
    for index in &foreign.mounts {
        let mount = descriptors.take(*index).at(Stage::Rootfs, "")?;
        sys::mount::attach(&mount, rustix::fs::CWD, &place).at(Stage::Rootfs, "")?;
    }
    Ok(())
}

fn runtime(foreign: &ForeignPlan) -> Command {
    let mut command = Command::new(&foreign.program);
    // Relative names keep socket addresses short enough.
    command.current_dir(&foreign.bundle).arg("--root").arg(foreign.bundle.join("state"));
    command.arg("--log").arg(foreign.bundle.join("log")).args(["--log-format", "json"]);
    command
}

fn silent(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Runs one command of the runtime; its failure is what its log says last.
fn run(foreign: &ForeignPlan, command: &mut Command) -> Result<(), Failure> {
    let name = foreign.program.file_name().unwrap_or(OsStr::new("runtime")).to_string_lossy().into_owned();
    let status = command.status().at(Stage::Spawn, foreign.program.display().to_string())?;
    if status.success() {
        return Ok(());
    }
    let log = sys::fs::read_limited(&foreign.bundle.join("log"), MAX_LOG as u64).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let message = |line: &str| -> Option<String> {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(entry.get("msg")?.as_str()?.to_owned())
    };
    let said = text.lines().rev().find_map(message).unwrap_or_else(|| format!("{name} ended with {status}"));
    Err(explain(&said))
}

/// Sorts a runtime's words as Podman does: a missing command is 127, one that cannot run 126.
fn explain(said: &str) -> Failure {
    let lower = said.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let errno = if any(&["executable file", "not found", "no such file"]) {
        2
    } else if any(&["permission denied", "operation not permitted", "exec format error", "is a directory"]) {
        13
    } else {
        return Failure::new(Stage::Spawn, "", &io::Error::other(said.to_owned()));
    };
    Failure::new(Stage::Exec, said, &io::Error::from_raw_os_error(errno))
}

fn listen(bundle: &Path) -> io::Result<UnixListener> {
    let directory = sys::beneath::open_root(bundle)?;
    UnixListener::bind(format!("/proc/self/fd/{}/console.sock", directory.as_raw_fd()))
}

/// The runtime has connected and sent the master before `create` ended.
fn take_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    listener.set_nonblocking(true)?;
    let (stream, _) = listener.accept()?;
    let mut buffer = vec![0; 4096];
    let mut received = sys::scm::receive(&stream, &mut buffer)?;
    received.descriptors.pop().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_runtimes_are_sorted() {
        assert_eq!(explain("executable file `nope` not found in $PATH: No such file or directory").errno, 2);
        assert_eq!(explain("exec: \"/etc\": permission denied").errno, 13);
        assert_eq!(explain("cgroups in hybrid mode not supported").stage, Stage::Spawn);
    }
}
