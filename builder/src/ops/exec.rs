//! RUN: a snapshot, a step on it, the layer that it leaves.

use super::mounts::{self, Source};
use super::snapshot::{Rootfs, Workspace};
use super::{Error, io_error, owner, stubs};
use crate::graph::ExecOp;
use crate::ports::{
    Cancel, Event, Executor, Progress, RemoteCache, Secrets, SshAgents, StepIo, StepMount, StepMountSource,
    StepSpec, Stream,
};
use crate::solver::{Broken, Step};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use storage::snapshot::open_detached;

/// Lines of a failed step's output that its error repeats.
const LAST_LINES: usize = 20;
/// Longest line that is passed on as one.
const LONGEST_LINE: usize = 16 << 10;

/// How often a line that is written over is told of.
const PARTIAL_EVERY: Duration = Duration::from_millis(100);

/// `PATH` of an image that sets none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a RUN needs besides its operation.
pub(crate) struct Surroundings<'a> {
    pub(crate) workspace: &'a Workspace<'a>,
    pub(crate) executor: &'a dyn Executor,
    pub(crate) secrets: &'a Secrets,
    pub(crate) remote: Option<&'a dyn RemoteCache>,
    pub(crate) ssh: &'a SshAgents,
    pub(crate) repairs: &'a Repairs,
}

/// What people did by hand in the steps of a build.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// Held by the step that has the terminal.
    terminal: Mutex<()>,
    /// Steps whose layer was changed by hand.
    steps: Mutex<Vec<usize>>,
}

impl Repairs {
    /// The steps that were changed by hand. From then on nothing of this build may enter the cache: what is built on
    /// such a step has the key of what is built on the step as written.
    pub(crate) fn steps(&self) -> Vec<usize> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a shell for a failed step; whether the build goes on.
    fn repair(&self, executor: &dyn Executor, spec: StepSpec, failure: &Error, step: &Step<'_>) -> bool {
        let _terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        if step.cancel.is_cancelled() {
            return false;
        }
        let vertex = step.vertex.0;
        step.progress.event(Event::ShellOpened(vertex, &failure.to_string()));
        let exit = executor.repair(spec, step.cancel);
        step.progress.event(Event::ShellClosed(vertex));
        let repaired = match exit {
            Ok(exit) => exit.success() && !step.cancel.is_cancelled(),
            // What failed is still the step, and that is what the build must tell.
            Err(error) => {
                let mut text = format!("no shell could be opened: {error}");
                let mut next = error.source();
                while let Some(cause) = next {
                    text.push_str(&format!(": {cause}"));
                    next = cause.source();
                }
                step.progress.event(Event::Warning(&text));
                false
            }
        };
        if repaired {
            self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(vertex);
        }
        repaired
    }
}

/// Runs a step and makes its changes a layer.
pub(crate) fn run<'a>(
    op: &ExecOp,
    around: &Surroundings<'a>,
    rootfs: &Rootfs,
    source: &dyn Fn(usize) -> Option<Source>,
    step: &Step<'_>,
) -> Result<Rootfs, Error> {
    around
        .executor
        .can_run(&op.platform)
        .map_err(|source| Error::Port { action: "run the step".to_owned(), source })?;
    let workspace = around.workspace;
    let parent = workspace.snapshot(rootfs)?;
    let user = match op.mounts.iter().any(|mount| mount.chown) {
        true => owner::resolve(workspace.read(rootfs)?.root(), &op.user)?,
        false => owner::Owner::default(),
    };
    let given = mounts::Given {
        workspace,
        source,
        secrets: around.secrets,
        ssh: around.ssh,
        remote: around.remote,
        user,
        cancel: step.cancel,
    };
    let mut extra = mounts::make(&op.mounts, &given)?;
    // A variable of an agent does not replace one of the image.
    extra.env.retain(|variable| {
        let named = |set: &String| set.starts_with("SSH_AUTH_SOCK=");
        !(named(variable) && op.env.iter().any(named))
    });
    if let Some(script) = &op.script {
        extra.mounts.push(StepMount {
            target: script.path.clone(),
            source: StepMountSource::Bytes {
                content: script.content.clone().into_bytes(),
                mode: 0o755,
                uid: 0,
                gid: 0,
            },
            read_only: true,
            options: Vec::new(),
        });
    }
    let mut points: Vec<String> =
        around.executor.mount_points().iter().map(|point| (*point).to_owned()).collect();
    points.extend(extra.mounts.iter().map(|mount| mount.target.clone()));
    for name in &op.devices {
        let described = around
            .executor
            .described_device(name)
            .map_err(|source| Error::Port { action: format!("look for device {name}"), source })?;
        points.extend(described.unwrap_or_default());
    }
    let tree = workspace.read(rootfs)?;
    let missing = stubs::find_missing(&tree, &points)?;
    let links = stubs::find_links(&tree, &extra.links)?;
    drop(tree);

    let active = workspace.prepare(parent.as_deref())?;
    if !links.is_empty() {
        stubs::make_links(open_detached(&active.mounts)?.as_fd(), &links)?;
        // Fit to be mounted again.
        workspace.store.snapshots().mounts(active.key())?;
    }
    let mut env = op.env.to_vec();
    env.append(&mut extra.env);
    for variable in &op.proxy {
        let name = variable.split('=').next().unwrap_or_default();
        if !env.iter().any(|set| set.split('=').next() == Some(name)) {
            env.push(variable.clone());
        }
    }
    if !env.iter().any(|set| set.starts_with("PATH=")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    let spec = StepSpec {
        id: active.key().to_owned(),
        rootfs: active.mounts.clone(),
        argv: op.argv.clone(),
        env,
        cwd: op.cwd.clone(),
        user: op.user.clone(),
        network: op.network,
        mounts: std::mem::take(&mut extra.mounts),
        insecure: op.insecure,
        devices: op.devices.clone(),
        hostname: op.hostname.clone(),
    };
    // Secrets are in it, so no second copy without need.
    let again = around.executor.repairs().then(|| StepSpec { argv: vec![op.shell.clone()], ..spec.clone() });
    let (exit, last_lines) = run_with_output(around.executor, spec, step)?;
    if step.cancel.is_cancelled() {
        return Err(Broken::Cancelled.into());
    }
    if !exit.success() {
        let failure = Error::Exit { exit, argv: op.argv.clone(), last_lines };
        let repaired = match again {
            Some(spec) => around.repairs.repair(around.executor, spec, &failure, step),
            None => false,
        };
        if step.cancel.is_cancelled() {
            return Err(Broken::Cancelled.into());
        }
        if !repaired {
            return Err(failure);
        }
    }
    drop(extra);
    let layer = active.any_directory()?;
    stubs::clean(&layer, &links)?;
    stubs::clean(&layer, &missing)?;
    active.commit(rootfs)
}

/// Runs a step while a thread passes its output on.
fn run_with_output(
    executor: &dyn Executor,
    spec: StepSpec,
    step: &Step<'_>,
) -> Result<(crate::ports::StepExit, Vec<String>), Error> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| io_error("create", "pipe")(error.into()));
    let (stdout_read, stdout) = pipe()?;
    let (stderr_read, stderr) = pipe()?;
    let (vertex, progress, cancel): (usize, &dyn Progress, &Cancel) =
        (step.vertex.0, step.progress, step.cancel);
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name(format!("output-{vertex}"))
            .spawn_scoped(scope, move || pass_output([stdout_read, stderr_read], vertex, progress))
            .map_err(io_error("start", "output thread"))?;
        let exit = executor.run(spec, StepIo { stdout, stderr, cancel });
        let last_lines = reader.join().map_err(|_| Broken::Panicked)?;
        match exit {
            Ok(exit) => Ok((exit, last_lines)),
            Err(_) if cancel.is_cancelled() => Err(Broken::Cancelled.into()),
            Err(source) => Err(Error::Port { action: "run the step".to_owned(), source }),
        }
    })
}

/// Reads both streams to their ends, line by line, and keeps the last lines.
fn pass_output(pipes: [OwnedFd; 2], vertex: usize, progress: &dyn Progress) -> Vec<String> {
    let mut last: VecDeque<String> = VecDeque::new();
    let mut rest: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let mut open = [true, true];
    let mut buffer = vec![0; 64 << 10];
    let mut shown: Option<Instant> = None;
    let mut tell = |stream: Stream, line: &[u8]| {
        progress.event(Event::Log { vertex, stream, text: line });
        let text = String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']).to_owned();
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    };
    while open[0] || open[1] {
        let wanted: Vec<usize> = (0..2).filter(|index| open[*index]).collect();
        let mut fds: Vec<PollFd<'_>> =
            wanted.iter().map(|index| PollFd::new(&pipes[*index], PollFlags::IN)).collect();
        if let Err(error) = poll(&mut fds, None) {
            if error == rustix::io::Errno::INTR {
                continue;
            }
            break;
        }
        let ready: Vec<usize> = wanted
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(index, _)| *index)
            .collect();
        for index in ready {
            let stream = if index == 0 { Stream::Stdout } else { Stream::Stderr };
            let read = match rustix::io::read(&pipes[index], &mut buffer) {
                Ok(read) => read,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => 0,
            };
            let pending = &mut rest[index];
            if read == 0 {
                open[index] = false;
                if !pending.is_empty() {
                    tell(stream, &std::mem::take(pending));
                }
                continue;
            }
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                pending.extend_from_slice(piece);
                if piece.ends_with(b"\n") || pending.len() >= LONGEST_LINE {
                    tell(stream, pending);
                    pending.clear();
                }
            }
            if pending.contains(&b'\r') && shown.is_none_or(|then| then.elapsed() >= PARTIAL_EVERY) {
                shown = Some(Instant::now());
                progress.event(Event::Partial { vertex, text: pending });
            }
        }
    }
    last.into()
}
