//! Init: from the clone to the exec of the user's program, also for exec sessions.
//!
//! Runs in a process of its own that is inside all its namespaces from birth. Each step that fails is reported with
//! stage, errno and path; nothing is cleaned up, because all that was made ends with the process.

mod copy_up;
mod dev;
mod mask;
mod process;
mod rootfs;

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::DumpableBehavior;

use crate::error::Stage;
use crate::plan::{InitPlan, PlanFile};
use crate::wire::{self, At, Descriptors, Failure};

/// What init inherits.
pub(crate) struct Context<'a> {
    pub(crate) file: &'a PlanFile,
    /// The socket to the monitor.
    pub(crate) sync: &'a OwnedFd,
    /// See [`sys::trampoline`].
    pub(crate) trampoline: &'a OwnedFd,
}

impl Context<'_> {
    /// Becomes the process, or says why not.
    pub(crate) fn run(&self, descriptors: &mut Descriptors, streams: [Option<OwnedFd>; 3]) -> Failure {
        match self.try_run(descriptors, streams) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn try_run(
        &self,
        descriptors: &mut Descriptors,
        streams: [Option<OwnedFd>; 3],
    ) -> Result<std::convert::Infallible, Failure> {
        // A monitor that dies takes its process along.
        set_death_signal()?;
        let (plan, program) = self.file.read_init().at(Stage::Spawn, "read the plan")?;
        let mut packet = [0; 8];
        let received = sys::scm::receive(self.sync, &mut packet).at(Stage::Spawn, "wait for the monitor")?;
        if received.length != 1 || packet[0] != wire::GO {
            return Err(Failure::new(Stage::Spawn, "", &io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        // From here on other processes of the container may see this one; until the exec it is the engine's.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .at(Stage::Credentials, "dumpable")?;
        if plan.new_user_namespace {
            sys::user::become_user(0, 0, None).at(Stage::Credentials, "become root of the user namespace")?;
            set_death_signal()?;
        }
        rustix::process::setsid().at(Stage::Spawn, "setsid")?;
        let keyring = CString::new(format!("_ses.{}", plan.id)).unwrap_or_default();
        sys::process::new_session_keyring(&keyring).at(Stage::Credentials, "session keyring")?;
        if plan.loopback {
            sys::loopback::bring_up().at(Stage::Namespace, "lo")?;
        }
        let terminal = self.set_up_files(&plan, descriptors)?;
        if let Some(name) = &plan.hostname {
            rustix::system::sethostname(name.as_bytes()).at(Stage::Sysctl, "hostname")?;
        }
        if let Some(name) = &plan.domainname {
            rustix::system::setdomainname(name.as_bytes()).at(Stage::Sysctl, "domainname")?;
        }
        if let Some(rootfs) = &plan.rootfs {
            mask::write_sysctls(&plan.sysctls)?;
            mask::apply(rootfs)?;
        }
        process::become_process(&plan.process, &program, self, streams, terminal)
    }

    /// Mounts and enters the rootfs where there is one to mount; returns the process's end of the terminal.
    fn set_up_files(
        &self,
        plan: &InitPlan,
        descriptors: &mut Descriptors,
    ) -> Result<Option<OwnedFd>, Failure> {
        let Some(rootfs) = &plan.rootfs else {
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
        sys::mount::pivot_root(&root).at(Stage::Rootfs, "")?;
        if let Some(propagation) = rootfs.propagation {
            sys::mount::set_root_propagation(propagation).at(Stage::Rootfs, "")?;
        }
        Ok(terminal)
    }

    fn open_terminal(
        &self,
        plan: &crate::plan::ProcessPlan,
        root: Option<&OwnedFd>,
    ) -> Result<OwnedFd, Failure> {
        let pair = dev::open_terminal(root).at(Stage::Console, "/dev/ptmx")?;
        if plan.rows > 0 || plan.columns > 0 {
            sys::pty::resize(&pair.master, plan.rows, plan.columns).at(Stage::Console, "window size")?;
        }
        if let Some(root) = root {
            dev::bind_console(root, &pair.slave)?;
        }
        let master = std::os::fd::AsFd::as_fd(&pair.master);
        sys::scm::send(self.sync, &[wire::TERMINAL], &[master]).at(Stage::Console, "pass the terminal")?;
        Ok(pair.slave)
    }
}

/// Asks for SIGKILL when the monitor dies. Forgotten by the kernel when credentials change.
fn set_death_signal() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .at(Stage::Spawn, "death signal")
}
