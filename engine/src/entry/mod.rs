//! The first thing that `main` does, while the process has one thread.
//!
//! Hidden entry points: `davit user-namespace-holder` (see [`rootless`]) and `davit monitor-cleanup JSON`, which a
//! container's monitor runs when nobody else takes care of the exit.

mod rootless;

use crate::config::Identity;
use crate::{Error, Result};
use runtime::Spawner;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;

const HOLDER: &str = "user-namespace-holder";
const CLEANUP: &str = "monitor-cleanup";

/// What the command is going to do. It decides which processes are forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Neither store nor containers: `--help`, `version`, `login`.
    Nothing,
    /// Store and state: `images`, `ps`, `pull`. An ordinary user enters the user namespace.
    Store,
    /// Also starts processes in containers: `run`, `start`, `exec`, `build`, `restart`.
    Launch,
}

/// What [`enter`] prepared; goes into [`crate::Engine::open`].
#[derive(Debug)]
pub struct Entered {
    pub(crate) warnings: Vec<String>,
    pub(crate) identity: Identity,
    pub(crate) spawner: Option<Spawner>,
}

impl Entered {
    /// What the user should know: a single-id mapping, ...
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Serves a hidden entry point if this process was started as one, and returns its exit code then. To be called
/// before the arguments are read.
pub fn hidden() -> Option<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    if first == HOLDER {
        return Some(rootless::hold());
    }
    if first == CLEANUP {
        let task = arguments.next()?;
        return Some(match cleanup(&task) {
            Ok(()) => 0,
            Err(_) => 1,
        });
    }
    None
}

/// What a monitor hands to the cleanup: the engine as the launching process saw it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CleanupTask {
    pub(crate) root: PathBuf,
    pub(crate) runroot: PathBuf,
    pub(crate) driver: Option<String>,
    pub(crate) uid: u32,
    pub(crate) rootless: bool,
    pub(crate) keeps_events: bool,
    pub(crate) id: String,
    /// An exec session of the container that has ended, not the container itself.
    #[serde(default)]
    pub(crate) exec: Option<String>,
    /// Look at the container's health instead.
    #[serde(default)]
    pub(crate) health: bool,
    /// Stop the container and start it again instead.
    #[serde(default)]
    pub(crate) restart_now: bool,
    #[serde(default)]
    pub(crate) cgroup_manager: Option<String>,
    /// Where devices are described.
    #[serde(default)]
    pub(crate) cdi_dirs: Vec<PathBuf>,
    /// After the cleanup the container's restart policy is followed.
    #[serde(default)]
    pub(crate) restarts: bool,
}

impl CleanupTask {
    /// The task that a monitor does for this engine when nobody else does.
    pub(crate) fn new(engine: &crate::Engine, id: String, exec: Option<String>) -> Self {
        let config = engine.config();
        Self {
            root: config.root.clone(),
            runroot: config.runroot.clone(),
            driver: config.driver.clone(),
            uid: config.identity.uid,
            rootless: config.identity.rootless,
            keeps_events: config.keeps_events,
            id,
            exec,
            health: false,
            restarts: false,
            restart_now: false,
            cgroup_manager: config.cgroup_manager.clone(),
            cdi_dirs: config.cdi_dirs.clone(),
        }
    }

    /// The command line that serves it: this very program.
    pub(crate) fn argv(&self) -> Result<Vec<OsString>> {
        let program =
            std::env::current_exe().map_err(|error| Error::os("find davit's own program", error))?;
        let task = serde_json::to_string(self)
            .map_err(|error| Error::os("describe the cleanup", std::io::Error::other(error)))?;
        Ok(vec![program.into_os_string(), CLEANUP.into(), task.into()])
    }
}

fn cleanup(task: &OsString) -> Result<()> {
    let invalid = || Error::invalid(CLEANUP, "not a description of a cleanup");
    let task: CleanupTask =
        serde_json::from_str(task.to_str().ok_or_else(invalid)?).map_err(|_| invalid())?;
    let options = crate::EngineOptions {
        root: Some(task.root.clone()),
        runroot: Some(task.runroot.clone()),
        storage_driver: task.driver.clone(),
        cgroup_manager: task.cgroup_manager.clone(),
        cdi_dirs: task.cdi_dirs.clone(),
        events_backend: Some(if task.keeps_events { "file" } else { "none" }.to_owned()),
        ..crate::EngineOptions::default()
    };
    let identity = Identity { uid: task.uid, rootless: task.rootless };
    let open =
        |spawner| crate::Engine::open(options.clone(), Entered { warnings: Vec::new(), identity, spawner });
    if task.health {
        return open(Some(fork_spawner()?))?.containers().check_health_in_time(&task.id);
    }
    let engine = open(None)?;
    // with what starts the container again; what cannot be left is told by the start that fails
    let outside = || {
        let _ = engine.leave_scope(&task.id);
        open(Some(fork_spawner()?))
    };
    if task.restart_now {
        return outside()?.containers().restart_now(&task.id);
    }
    if let Some(session) = &task.exec {
        return engine.containers().end_exec(&task.id, session);
    }
    engine.containers().cleanup(&task.id, false, false)?;
    if task.restarts && engine.containers().is_restart_due(&task.id)? {
        outside()?.containers().restart_by_policy(&task.id)?;
    }
    Ok(())
}

fn fork_spawner() -> Result<Spawner> {
    Spawner::fork().map_err(|error| Error::Part {
        attempt: "fork the spawner".to_owned(),
        kind: crate::ErrorKind::Internal,
        source: Box::new(error),
    })
}

/// Enters the user's user namespace where that is needed, and forks the spawner where something is to be launched.
///
/// Must run before the first thread; arguments may have been read before.
pub fn enter(needs: Needs) -> Result<Entered> {
    let mut warnings = Vec::new();
    let (identity, inside) = whoami()?;
    if identity.rootless && !inside && needs != Needs::Nothing {
        warnings.extend(rootless::enter(identity)?);
    }
    let spawner = match needs {
        Needs::Launch => Some(fork_spawner()?),
        Needs::Nothing | Needs::Store => None,
    };
    Ok(Entered { warnings, identity, spawner })
}

/// Who runs this command, and whether it is in that user's namespaces already.
fn whoami() -> Result<(Identity, bool)> {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let uid = sys::user::effective_uid();
    if uid == 0
        && let Some(outside) = crate::config::unshared_uid()
    {
        let identity = Identity { uid: outside, rootless: true };
        if rootless::is_inside(identity)? {
            return Ok((identity, true));
        }
    }
    let sets = sys::caps::current().map_err(|error| Error::os("read own capabilities", error))?;
    let privileged = uid == 0 && sets.effective & CAP_SYS_ADMIN != 0;
    Ok((Identity { uid, rootless: !privileged }, false))
}

/// What [`unshare`] made of this process.
#[derive(Debug)]
pub struct Unshared {
    /// What the user should know.
    pub warnings: Vec<String>,
    /// A variable for the program: davit commands below it know by it where they are.
    pub variable: (&'static str, String),
}

/// Joins the namespaces of an ordinary user, in which its containers and mounts are; a program that is executed then sees
/// the same. Must run before the first thread.
pub fn unshare() -> Result<Unshared> {
    let (identity, inside) = whoami()?;
    if !identity.rootless {
        return Err(Error::unsupported(
            "unshare",
            "root has no user namespace to enter; it is for ordinary users",
        ));
    }
    let warnings = if inside { Vec::new() } else { rootless::enter(identity)? };
    Ok(Unshared { warnings, variable: (crate::config::UNSHARED, identity.uid.to_string()) })
}
