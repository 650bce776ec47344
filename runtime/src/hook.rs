//! Hooks: programs that are run at a moment of a container's life, with its state on their standard input.

use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;

use crate::error::{Error, Result, Stage};
use crate::plan::HookPlan;
use crate::wire::Failure;

/// The word that the state says of the container while a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Creating,
    Created,
    Running,
    Stopped,
}

impl Moment {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// Reads one list of hooks of a spec; `name` is its name there.
pub(crate) fn plan(name: &str, hooks: Option<&Vec<Hook>>) -> Result<Vec<HookPlan>> {
    let one = |(index, hook): (usize, &Hook)| {
        let name = format!("hooks.{name}[{index}]");
        if !hook.path().is_absolute() {
            return Err(Error::invalid(format!("{name}.path: {} is not absolute", hook.path().display())));
        }
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds @ 1..) => Some(seconds.unsigned_abs()),
            Some(seconds) => return Err(Error::invalid(format!("{name}.timeout: {seconds}"))),
        };
        Ok(HookPlan {
            name,
            path: hook.path().clone(),
            args: hook.args().clone().unwrap_or_default(),
            env: hook.env().clone().unwrap_or_default(),
            timeout,
        })
    };
    hooks.into_iter().flatten().enumerate().map(one).collect()
}

/// Runs hooks in their order until one fails.
pub(crate) fn run_all(hooks: &[HookPlan], moment: Moment, state: &[u8]) -> std::result::Result<(), Failure> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = with_status(state, moment)
        .map_err(|error| Failure::new(Stage::Hook, "describe the container", &error))?;
    for hook in hooks {
        let failed = |error: io::Error| {
            let error = io::Error::other(error.to_string());
            Failure::new(Stage::Hook, format!("{}: {}", hook.name, hook.path.display()), &error)
        };
        run(hook, &state).map_err(failed)?;
    }
    Ok(())
}

fn with_status(state: &[u8], moment: Moment) -> io::Result<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(state)?;
    value["status"] = moment.word().into();
    Ok(serde_json::to_vec(&value)?)
}

fn run(hook: &HookPlan, state: &[u8]) -> io::Result<()> {
    let memory = || rustix::fs::memfd_create("davit-hook", rustix::fs::MemfdFlags::CLOEXEC);
    // Files, not pipes: a hook that reads nothing, or leaves a child behind that keeps its streams, holds nobody up.
    let (mut input, mut said) = (std::fs::File::from(memory()?), std::fs::File::from(memory()?));
    input.write_all(state)?;
    input.rewind()?;
    let mut command = Command::new(&hook.path);
    let mut args = hook.args.iter();
    if let Some(first) = args.next() {
        command.arg0(first);
    }
    command.args(args).env_clear();
    for pair in &hook.env {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        command.env(key, value);
    }
    command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(said.try_clone()?))
        .stderr(Stdio::from(said.try_clone()?));
    let mut child = command.spawn()?;
    let status = match hook.timeout {
        None => child.wait()?,
        Some(seconds) => match wait_until(&mut child, Instant::now() + Duration::from_secs(seconds))? {
            Some(status) => status,
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other(format!("did not end within {seconds} s, and was killed")));
            }
        },
    };
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = said.rewind().and_then(|()| said.take(4096).read_to_string(&mut text));
    let text = text.trim();
    Err(io::Error::other(if text.is_empty() { status.to_string() } else { format!("{status}: {text}") }))
}

/// Waits for a child without polling; `None` when the deadline passes.
fn wait_until(
    child: &mut std::process::Child,
    deadline: Instant,
) -> io::Result<Option<std::process::ExitStatus>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let process = sys::pidfd::open(child.id())?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
