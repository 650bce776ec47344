//! The only launcher: containers' first processes and build steps alike.
//!
//! What both have in common lies here: looking into a root file system that is not mounted anywhere, the files that
//! the engine binds into it, and the step from a spec to the runtime.

mod accounts;
mod emulation;
mod files;
pub(crate) mod owners;
mod repair;
mod step;
mod view;

pub(crate) use accounts::{AccountEntries, accounts, known_user_in, user_in};
pub(crate) use files::{HostsBase, Names, Resolver as ResolverFiles};
pub(crate) use owners::shift as shift_owners;
pub(crate) use step::reap as reap_steps;
pub(crate) use step::{StepExecutor, StepSettings};
pub(crate) use view::{View, open_writable as open_lasting};

use crate::options::Namespace;
use crate::spec::NamespaceSource;
use crate::{Engine, Error, ErrorKind, Result};
use runtime::CgroupSetup;
use runtime::cgroup::Manager;
use std::path::Path;

/// A profile that the administrator put in place of the built-in one.
const SECCOMP_OVERRIDE: &str = "/etc/containers/seccomp.json";

impl Engine {
    /// The bytes of the seccomp profile, where it is not the built-in one.
    pub(crate) fn seccomp_profile(&self, security: &crate::options::Security) -> Result<Option<Vec<u8>>> {
        use crate::options::Seccomp;
        let read = |path: &Path| crate::state::files::read(path);
        match &security.seccomp {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Text(text) => Ok(Some(text.clone().into_bytes())),
            Seccomp::Default => read(Path::new(SECCOMP_OVERRIDE)),
            Seccomp::File(path) => read(path)?.map(Some).ok_or_else(|| {
                Error::os(
                    format!("read the seccomp profile {}", path.display()),
                    std::io::Error::from(std::io::ErrorKind::NotFound),
                )
            }),
        }
    }

    /// Where a namespace comes from; `kind` is its name in /proc/PID/ns.
    pub(crate) fn namespace_source(&self, namespace: &Namespace, kind: &str) -> Result<NamespaceSource> {
        match namespace {
            Namespace::Private | Namespace::None => Ok(NamespaceSource::New),
            Namespace::Path(path) => Ok(NamespaceSource::Path(path.clone())),
            Namespace::Host => Ok(NamespaceSource::Host),
            Namespace::Container(name) => {
                let record = self.state().find(name)?;
                let seen = self.seen(&record.id)?;
                if !seen.is_running() {
                    return Err(Error::State {
                        attempt: "join a namespace of",
                        what: "container",
                        name: record.name,
                        state: seen.status.as_str().to_owned(),
                    });
                }
                Ok(NamespaceSource::Path(format!("/proc/{}/ns/{kind}", seen.pid()).into()))
            }
        }
    }
}

/// Name of the file in a run directory that names the control group of a launch, written before it begins: the
/// runtime's own record comes only after the group is made.
const GROUP: &str = "cgroup";

/// Notes which control group a launch is about to make.
pub(crate) fn note_group(run_dir: &Path, setup: &CgroupSetup) -> Result<()> {
    match setup {
        CgroupSetup::Path(path) => crate::state::files::write(
            &run_dir.join(GROUP),
            path.as_os_str().as_encoded_bytes(),
            0o600,
            false,
        ),
        // what is in a scope ends with the launch, and the scope with what is in it
        CgroupSetup::None | CgroupSetup::Scope(_) => Ok(()),
    }
}

/// Gives back what a run directory still holds outside of itself: processes, control group. For launches that are
/// over, however they ended.
pub(crate) fn release(run_dir: &Path) -> Result<()> {
    let failed = |error| crate::error::runtime(format!("clean up {}", run_dir.display()), error);
    let run = runtime::state(run_dir).map_err(failed)?;
    let known = run.process.as_ref().is_some_and(|process| process.cgroup.is_some());
    if run.process.is_some() || run.exit.is_some() {
        runtime::delete(run_dir).map_err(failed)?;
    }
    if known {
        return Ok(());
    }
    // killed between making the group and recording it
    if let Some(path) = crate::state::files::read(&run_dir.join(GROUP))?
        && let Ok(path) = std::str::from_utf8(&path)
    {
        let group = |error: runtime::cgroup::Error| {
            Error::os(format!("remove control group {path}"), std::io::Error::other(error))
        };
        let manager = Manager::create(runtime::cgroup::layout(), Path::new(path)).map_err(group)?;
        manager.kill_all(9).map_err(group)?;
        manager.delete().map_err(group)?;
    }
    Ok(())
}

/// Makes a working directory that is missing, mounting the writable root file system for that moment only.
pub(crate) fn ensure_directory(
    view: View,
    mounts: &[sys::mount::Mount],
    directory: &Path,
    owner: (u32, u32),
) -> Result<()> {
    if view.is_directory(directory) {
        return Ok(());
    }
    // the same upper directory must not be mounted twice
    drop(view);
    let attempt = || format!("create the working directory {}", directory.display());
    let root = view::open_writable(mounts)?;
    sys::beneath::create_dir_all_in_root(&root, directory, 0o755, Some(owner)).map(drop).map_err(|error| {
        Error::Command { what: attempt(), reason: error.to_string(), kind: ErrorKind::CommandNotRunnable }
    })
}
