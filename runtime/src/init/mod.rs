//! Init: from the clone to the exec of the user's program, also for exec sessions.
//!
//! Runs in a process of its own that is inside all its namespaces from birth. Each step that fails is reported with
//! stage, errno and path; nothing is cleaned up, because all that was made ends with the process.

mod copy_up;
mod dev;
mod mask;
mod notify;
mod process;
mod rootfs;

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::DumpableBehavior;

use crate::error::Stage;
use crate::hook::{self, Moment};
use crate::plan::{InitPlan, InitSource, ProcessPlan};
use crate::wire::{self, At, Descriptors, Failure};

/// What init inherits.
pub(crate) struct Context<'a> {
    /// The socket to whoever waits for the program: at first the process that started init.
    pub(crate) sync: OwnedFd,
    /// See [`sys::trampoline`].
    pub(crate) trampoline: &'a OwnedFd,
}

impl Context<'_> {
    /// Becomes the process, or says why not.
    pub(crate) fn run(
        &mut self,
        source: InitSource<'_>,
        descriptors: &mut Descriptors,
        streams: [Option<OwnedFd>; 3],
    ) -> Failure {
        match self.try_run(source, descriptors, streams) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn try_run(
        &mut self,
        source: InitSource<'_>,
        descriptors: &mut Descriptors,
        streams: [Option<OwnedFd>; 3],
    ) -> Result<Infallible, Failure> {
        let (plan, program) = match source {
            InitSource::Memory(plan, program) => (*plan, program),
            InitSource::File(file) => {
                // A monitor that dies takes its process along.
                set_death_signal()?;
                file.read_init().at(Stage::Spawn, "read the plan")?
            }
        };
        let state = self.wait_for_word()?;
        // From here on other processes of the container may see this one; until the exec it is the engine's.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .at(Stage::Credentials, "dumpable")?;
        if plan.new_user_namespace {
            sys::user::become_user(0, 0, None).at(Stage::Credentials, "become root of the user namespace")?;
            if plan.tied {
                set_death_signal()?;
            }
        }
        if plan.late_cgroup_namespace {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).at(Stage::Namespace, "cgroup")?;
        }
        rustix::process::setsid().at(Stage::Spawn, "setsid")?;
        if plan.keyring {
            let keyring = CString::new(format!("_ses.{}", plan.id)).unwrap_or_default();
            sys::process::new_session_keyring(&keyring).at(Stage::Credentials, "session keyring")?;
        }
        if plan.loopback {
            sys::loopback::bring_up().at(Stage::Namespace, "lo")?;
        }
        let terminal = self.set_up_files(&plan, descriptors, &state)?;
        if let Some(name) = &plan.hostname {
            rustix::system::sethostname(name.as_bytes()).at(Stage::Sysctl, "hostname")?;
        }
        if let Some(name) = &plan.domainname {
            rustix::system::setdomainname(name.as_bytes()).at(Stage::Sysctl, "domainname")?;
        }
        mask::write_sysctls(&plan.sysctls)?;
        if let Some(rootfs) = &plan.rootfs {
            mask::apply(rootfs)?;
        }
        let (plan, path, label) = process::take_shape(plan, streams, terminal)?;
        if let Some(index) = plan.wait {
            let listener = descriptors.take(index).at(Stage::Spawn, "listen for the start")?;
            sys::scm::send(&self.sync, &[wire::READY], &[]).at(Stage::Spawn, "tell that all is ready")?;
            self.sync = wait_for_start(&listener)?;
        }
        let handed_on = plan.process.handed_on.iter();
        let handed_on = handed_on.map(|(number, index)| Ok((*number, descriptors.take(*index)?)));
        let handed_on = handed_on.collect::<io::Result<Vec<_>>>().at(Stage::Stdio, "further descriptors")?;
        hook::run_all(&plan.hooks.start_container, Moment::Created, &state)?;
        process::execute(&plan, &program, &process::Executable { path, label, handed_on }, self)
    }

    /// Waits for the word to go on, and returns the state that came with it.
    fn wait_for_word(&self) -> Result<Vec<u8>, Failure> {
        let mut packet = vec![0; wire::MAX_PACKET];
        let received = sys::scm::receive(&self.sync, &mut packet).at(Stage::Spawn, "wait for the monitor")?;
        if received.length == 0 || packet[0] != wire::GO {
            return Err(Failure::new(Stage::Spawn, "", &io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        packet.truncate(received.length);
        packet.remove(0);
        Ok(packet)
    }

    /// Mounts and enters the rootfs where there is one to mount; returns the process's end of the terminal.
    fn set_up_files(
        &self,
        plan: &InitPlan,
        descriptors: &mut Descriptors,
        state: &[u8],
    ) -> Result<Option<OwnedFd>, Failure> {
        let Some(rootfs) = &plan.rootfs else {
            self.run_hooks(plan, state)?;
            // The mount namespace was joined; where it has a devpts, the terminal comes from there.
            return if plan.process.terminal {
                self.open_terminal(&plan.process, None).map(Some)
            } else {
                Ok(None)
            };
        };
        let root = rootfs::mount(rootfs, descriptors)?;
        if let Some(devices) = &rootfs.devices {
            dev::populate(&root, devices, descriptors)?;
        }
        let terminal = match plan.process.terminal {
            true => Some(self.open_terminal(&plan.process, Some(&root))?),
            false => None,
        };
        self.run_hooks(plan, state)?;
        if rootfs.no_pivot {
            rustix::process::fchdir(&root).at(Stage::Rootfs, "")?;
            rustix::process::chroot(".").at(Stage::Rootfs, "change root")?;
            rustix::process::chdir("/").at(Stage::Rootfs, "")?;
        } else {
            sys::mount::pivot_root(&root).at(Stage::Rootfs, "")?;
        }
        if let Some(propagation) = rootfs.propagation {
            // Of the root alone: mounts have a propagation of their own.
            sys::mount::set_propagation(&root, propagation, false).at(Stage::Rootfs, "")?;
        }
        Ok(terminal)
    }

    /// The hooks between the mounts and the change of root: first those outside, then those of the container.
    fn run_hooks(&self, plan: &InitPlan, state: &[u8]) -> Result<(), Failure> {
        if plan.hooks.outside {
            sys::scm::send(&self.sync, &[wire::MOUNTED], &[]).at(Stage::Hook, "ask for hooks")?;
            self.wait_for_word()?;
        }
        hook::run_all(&plan.hooks.create_container, Moment::Creating, state)
    }

    fn open_terminal(&self, plan: &ProcessPlan, root: Option<&OwnedFd>) -> Result<OwnedFd, Failure> {
        let pair = dev::open_terminal(root).at(Stage::Console, "/dev/ptmx")?;
        if plan.rows > 0 || plan.columns > 0 {
            sys::pty::resize(&pair.master, plan.rows, plan.columns).at(Stage::Console, "window size")?;
        }
        if let Some(root) = root {
            dev::bind_console(root, &pair.slave)?;
        }
        sys::scm::send(&self.sync, &[wire::TERMINAL], &[pair.master.as_fd()])
            .at(Stage::Console, "pass the terminal")?;
        Ok(pair.slave)
    }
}

/// Waits until one of those who connect says that the program is to run; others only look whether somebody listens.
fn wait_for_start(listener: &OwnedFd) -> Result<OwnedFd, Failure> {
    loop {
        let socket = match rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(errno) => return Err(errno).at(Stage::Spawn, "wait for the start"),
        };
        let mut packet = [0; 8];
        match sys::scm::receive(&socket, &mut packet) {
            Ok(received) if received.length == 1 && packet[0] == wire::GO => {
                // Others who asked meanwhile see their connections end, which alone would look like a start.
                let heard = sys::scm::send(&socket, &[wire::GO], &[]);
                return heard.at(Stage::Spawn, "answer the start").map(|()| socket);
            }
            _ => {}
        }
    }
}

/// Asks for SIGKILL when the monitor dies. Forgotten by the kernel when credentials change.
fn set_death_signal() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .at(Stage::Spawn, "death signal")
}
