//! `--on-fail=shell`: a shell where a step failed, with its file system, environment, mounts, user and limits.
//!
//! On a terminal the shell has one of its own, which this process pumps; elsewhere it reads the caller's input, so
//! that a script can do the repair.

use super::note_group;
use super::release;
use super::step::{StepExecutor, Workspace, step_exit, wait_or_cancel};
use crate::containers::Streams;
use crate::containers::session::{Pumped, Signals, pump, terminal_size};
use crate::{Error, Result};
use builder::ports::{Cancel, StepExit, StepSpec};
use oci_spec::runtime::BoxBuilder;
use runtime::{Launch, LaunchMode, OutputMode, Rootfs, StdinMode};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::os::fd::OwnedFd;

impl StepExecutor<'_> {
    pub(super) fn open_shell(&self, step: &StepSpec, cancel: &Cancel) -> Result<StepExit> {
        let mut streams = Streams::inherit(true)?;
        // A build has nothing to come back to a shell from which one has walked away.
        streams.detach_keys.clear();
        let tty = streams.stdin.as_ref().is_some_and(rustix::termios::isatty);
        if tty {
            // Standard output may go to a file; the person is where the keys come from.
            streams.stdout = match &streams.stdin {
                Some(terminal) => {
                    Some(terminal.try_clone().map_err(|error| Error::os("duplicate the terminal", error))?)
                }
                None => None,
            };
        }
        let mut step = step.clone();
        if tty && !step.env.iter().any(|set| set.starts_with("TERM=")) {
            step.env.push("TERM=xterm".to_owned());
        }
        let workspace = Workspace::new(&self.engine.config().run_steps(), &step.id)?;
        let mut spec = self.spec(&step, &workspace)?;
        if let Some(process) = spec.process_mut() {
            process.set_terminal(Some(tty));
            if let Some((rows, columns)) = terminal_size(&streams).filter(|_| tty) {
                let size = BoxBuilder::default().height(u64::from(rows)).width(u64::from(columns)).build();
                process.set_console_size(size.ok());
            }
        }
        let run_dir = workspace.directory.clone();
        let mut launch = Launch::new(step.id.clone(), &run_dir, &spec, Rootfs::Mounts(step.rootfs.clone()));
        launch.stdin = StdinMode::Attach { keep_open: false };
        launch.stdout = OutputMode::Captured;
        launch.stderr = OutputMode::Captured;
        launch.attach = true;
        launch.cgroup = self.engine.cgroup_setup(&spec)?;
        note_group(&run_dir, &launch.cgroup)?;
        launch.mode = LaunchMode::Tied;
        let launched = self
            .engine
            .spawner()?
            .launch(launch)
            .map_err(|error| crate::error::runtime("start the shell", error))?;
        let client = launched.attach.as_ref().ok_or_else(|| {
            Error::os("attach to the shell", std::io::Error::from(std::io::ErrorKind::NotConnected))
        })?;
        let resize = || {
            if let Some((rows, columns)) = terminal_size(&streams) {
                let _ = client.resize(rows, columns);
            }
        };
        // The build has the handlers of this process's signals already.
        let talk = || pump(client, &run_dir, &streams, tty, &Signals::none());
        let pumped = wait_or_cancel(&run_dir, cancel, || match &self.settings.resized {
            Some(resized) if tty => while_resizing(resized, resize, talk),
            _ => talk(),
        });
        let exit = match pumped? {
            Pumped::Exited(record) => record,
            Pumped::Detached | Pumped::Lost => {
                launched.wait().map_err(|error| crate::error::runtime("wait for the shell", error))?
            }
        };
        let released = release(&run_dir);
        launched.finish();
        released?;
        Ok(step_exit(&exit))
    }
}

/// Runs `body` while a thread does `resize` for each count of `resized`.
fn while_resizing<T>(resized: &OwnedFd, resize: impl Fn() + Sync, body: impl FnOnce() -> T) -> T {
    let Ok(done) = eventfd(0, EventfdFlags::CLOEXEC) else { return body() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let mut fds = [PollFd::new(resized, PollFlags::IN), PollFd::new(&done, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return,
                    Ok(_) => {}
                }
                if !fds[1].revents().is_empty() {
                    return;
                }
                let _ = rustix::io::read(resized, &mut [0_u8; 8]);
                resize();
            }
        });
        let result = body();
        let _ = rustix::io::write(&done, &1_u64.to_ne_bytes());
        result
    })
}
