//! Control groups: detection, creation, limits, statistics, freezing, killing, out-of-memory events.
//!
//! One [`Manager`] stands for one container's group in whichever layout the machine has: one directory in the unified
//! tree, or one directory a controller in the old layout (hybrid machines are treated as the old one). Its state is the
//! directories' paths ([`Paths`]), so any later process can open it again. Where no group can be used there is still a
//! manager; it does nothing and refuses limits by name. Who makes the directories is one of two: this module alone, or
//! systemd, which then owns the one above ([`Scope`]).
//!
//! Joining: in the unified tree by `CLONE_INTO_CGROUP` ([`Manager::directory`]) or [`Joiner`]; in the old layout by
//! [`Joiner`] from the single-threaded child itself. Moving another process through `cgroup.procs` waits for an RCU
//! grace period (7 to 12 ms seen on Linux 6.18); a thread that writes 0 to `tasks` does not (0.1 ms).

mod dbus;
mod detect;
mod devices;
mod oom;
mod stats;
mod systemd;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use detect::{Layout, V1Mount, delegated_by_systemd, detect, layout, unified_mount};
pub use oom::{OomEvent, OomWatch};
pub use stats::{BlockIo, Stats};
pub use systemd::{Bus, Scope};
pub(crate) use systemd::{in_scope, join_monitors};

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

/// Why something about a group failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the control group file system.
    #[error("{action} {}", path.display())]
    File {
        /// What was attempted: `write "5" to`, `read`, `create`.
        action: String,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A limit was asked whose controller this machine or delegation does not have.
    #[error("{limit} limit: cgroup controller {controller} is not available: {reason}")]
    NoController {
        /// What was asked, in the user's words (`memory`, `pids`).
        limit: &'static str,
        /// The controller it needs.
        controller: &'static str,
        /// Why it is missing.
        reason: String,
    },
    /// A setting that this layout does not have at all.
    #[error("{setting} is not supported by cgroup {layout}")]
    Unsupported {
        /// The setting.
        setting: String,
        /// `v1` or `v2`.
        layout: &'static str,
    },
    /// A value that cannot be right.
    #[error("{setting}: {reason}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The group still has processes or a state that did not settle in time.
    #[error("cgroup {} did not become {wanted} within {} ms", path.display(), waited.as_millis())]
    Timeout {
        /// The group's directory.
        path: PathBuf,
        /// `empty`, `frozen`.
        wanted: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// systemd was asked for a group.
    #[error("{attempt}: {reason}")]
    Systemd {
        /// What was asked.
        attempt: String,
        /// systemd's answer, or why there is none.
        reason: String,
    },
    /// A device program.
    #[error("{action} device program of cgroup {}", path.display())]
    DeviceProgram {
        /// `load`, `attach`.
        action: &'static str,
        /// The group's directory.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Result with this module's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where a group's directories are. Stored beside the container's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Paths {
    /// No group, and why.
    None(String),
    /// The directory in the unified tree.
    V2(PathBuf),
    /// Controller (`memory`, `name=systemd`) to directory; co-mounted controllers have the same one.
    V1(BTreeMap<String, PathBuf>),
}

/// One container's group.
#[derive(Clone, Debug)]
pub struct Manager {
    paths: Paths,
}

/// How long a killed group may take to become empty before its removal fails.
const DELETE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a group may take to freeze.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

impl Manager {
    /// Makes the group and every missing directory above it.
    ///
    /// An absolute `path` lies below the mount of each hierarchy; a relative one (`davit/ID`) below the place that this
    /// caller may use: the root of the tree, or, without privilege over the root, the delegated group around the
    /// caller's own. An existing directory is used as it is.
    ///
    /// # Errors
    /// A directory cannot be made, or cpusets cannot be inherited. With [`Layout::None`] this never fails.
    pub fn create(layout: &Layout, path: &Path) -> Result<Self> {
        let paths = match layout {
            Layout::None { reason } => Paths::None(reason.clone()),
            Layout::V2 { mount, parent, .. } => Paths::V2(v2::create(mount, parent, path)?),
            Layout::V1 { mounts } => Paths::V1(v1::create(mounts, path)?),
        };
        Ok(Self { paths })
    }

    /// Opens a group by its stored paths; touches nothing.
    #[must_use]
    pub fn open(paths: Paths) -> Self {
        Self { paths }
    }

    /// What to store to open the group again.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Applies limits; what is absent in `resources` stays as it is, so this is also `update`.
    ///
    /// Device rules are skipped where the caller may not set them (rootless), like the peers do.
    ///
    /// # Errors
    /// A limit whose controller is missing, or that the kernel refuses.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        match &self.paths {
            Paths::None(reason) => refuse_limits(resources, reason),
            Paths::V2(directory) => v2::apply(directory, resources),
            Paths::V1(directories) => v1::apply(directories, resources),
        }
    }

    /// Moves a process into the group, from outside. See the module's text: [`Joiner`] is much faster.
    ///
    /// # Errors
    /// The process is gone or may not be moved.
    pub fn attach(&self, pid: i32) -> Result<()> {
        for directory in self.directories() {
            write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Opens what a forked, single-threaded child needs to join the group itself.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn joiner(&self) -> Result<Joiner> {
        let name = if matches!(self.paths, Paths::V1(_)) { "tasks" } else { "cgroup.procs" };
        let mut files = Vec::new();
        for directory in self.directories() {
            let path = directory.join(name);
            let file = fs::OpenOptions::new().write(true).open(&path);
            files.push(file.map_err(|source| Error::File { action: "open".into(), path, source })?.into());
        }
        Ok(Joiner { files })
    }

    /// The unified tree's directory as a descriptor for `CLONE_INTO_CGROUP`; `None` in the old layout.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn directory(&self) -> Result<Option<OwnedFd>> {
        let Paths::V2(path) = &self.paths else { return Ok(None) };
        let file = fs::File::open(path);
        let file =
            file.map_err(|source| Error::File { action: "open".into(), path: path.clone(), source })?;
        Ok(Some(file.into()))
    }

    /// Every distinct directory of the group.
    fn directories(&self) -> Vec<&Path> {
        match &self.paths {
            Paths::None(_) => Vec::new(),
            Paths::V2(directory) => vec![directory],
            Paths::V1(directories) => {
                let mut all: Vec<&Path> = directories.values().map(PathBuf::as_path).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        }
    }

    /// The directory whose members are listed, frozen and killed.
    fn members_directory(&self) -> Option<&Path> {
        match &self.paths {
            Paths::None(_) => None,
            Paths::V2(directory) => Some(directory),
            Paths::V1(directories) => {
                let preferred = ["freezer", "pids", "memory", "devices"];
                preferred
                    .iter()
                    .find_map(|name| directories.get(*name))
                    .or_else(|| directories.values().next())
                    .map(PathBuf::as_path)
            }
        }
    }

    /// The group's path as `/proc/PID/cgroup` and the container's `CgroupPath` show it, without the mount point.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.members_directory()
    }

    /// Processes in the group and in groups below it, each once.
    ///
    /// In the old layout all hierarchies are asked: a process that was forked while its parent was being moved may be in
    /// some of them only.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for directory in self.directories() {
            collect_processes(directory, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends `signal` to every process of the group, until a look finds no new one.
    ///
    /// SIGKILL uses `cgroup.kill` (Linux 5.14) where it exists. A paused group is thawed after the signal, so that it dies.
    ///
    /// # Errors
    /// The group cannot be read; a process that ended meanwhile is no error.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        let Some(directory) = self.members_directory() else { return Ok(()) };
        if signal == KILL && matches!(self.paths, Paths::V2(_)) {
            match write(&directory.join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        // A process may fork between the look and the signal; each round finds such children. The bound is against a
        // fork bomb that outruns us without being frozen: the last round says so by the group not becoming empty.
        for _ in 0..100 {
            let fresh: Vec<i32> = self.processes()?.into_iter().filter(|pid| seen.insert(*pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                signal_process(pid, signal, directory)?;
            }
        }
        if signal == KILL && self.is_frozen()? {
            return match self.thaw() {
                // its last process has ended, and somebody has removed it meanwhile
                Err(error) if error.is_gone() => Ok(()),
                result => result,
            };
        }
        Ok(())
    }

    /// Stops every process of the group (`pause`) and waits until all are stopped.
    ///
    /// # Errors
    /// No freezer, or the group did not stop in time; it is thawed again then.
    pub fn freeze(&self) -> Result<()> {
        match &self.paths {
            Paths::None(reason) => Err(no_freezer(reason)),
            Paths::V2(directory) => v2::freeze(directory, FREEZE_DEADLINE),
            Paths::V1(directories) => v1::freeze(v1::freezer(directories)?, FREEZE_DEADLINE),
        }
    }

    /// Lets the processes run again.
    ///
    /// # Errors
    /// No freezer.
    pub fn thaw(&self) -> Result<()> {
        match &self.paths {
            Paths::None(reason) => Err(no_freezer(reason)),
            Paths::V2(directory) => write(&directory.join("cgroup.freeze"), "0"),
            Paths::V1(directories) => write(&v1::freezer(directories)?.join("freezer.state"), "THAWED"),
        }
    }

    /// Tells whether the group is paused.
    ///
    /// # Errors
    /// The state cannot be read; a missing group is not frozen.
    pub fn is_frozen(&self) -> Result<bool> {
        let (path, frozen): (PathBuf, &[&str]) = match &self.paths {
            Paths::None(_) => return Ok(false),
            Paths::V2(directory) => (directory.join("cgroup.freeze"), &["1"]),
            Paths::V1(directories) => match directories.get("freezer") {
                Some(directory) => (directory.join("freezer.state"), &["FROZEN", "FREEZING"]),
                None => return Ok(false),
            },
        };
        // a group that is removed between the opening and the reading says ENODEV
        Ok(read_optional(&path)?.is_some_and(|text| frozen.contains(&text.trim())))
    }

    /// Reads the counters; what the layout or a missing controller does not tell is `None`.
    ///
    /// # Errors
    /// A file exists and cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        match &self.paths {
            Paths::None(_) => Ok(Stats::default()),
            Paths::V2(directory) => stats::read_v2(directory),
            Paths::V1(directories) => stats::read_v1(directories),
        }
    }

    /// Watches for kills by lack of memory; `None` where the memory controller is not there.
    ///
    /// # Errors
    /// The watch cannot be set up.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        match &self.paths {
            Paths::None(_) => Ok(None),
            Paths::V2(directory) => OomWatch::v2(directory),
            Paths::V1(directories) => directories.get("memory").map_or(Ok(None), |path| OomWatch::v1(path)),
        }
    }

    /// Whether and why memory ran out, as the counters tell at this moment (after the container's end too).
    ///
    /// # Errors
    /// A file exists and cannot be read.
    pub fn oom_event(&self) -> Result<OomEvent> {
        match &self.paths {
            Paths::None(_) => Ok(OomEvent::default()),
            Paths::V2(directory) => oom::read_v2(directory),
            Paths::V1(directories) => {
                directories.get("memory").map_or(Ok(OomEvent::default()), |p| oom::read_v1(p))
            }
        }
    }

    /// Removes the group with the groups below it; waits while processes in it are still ending. Idempotent.
    ///
    /// # Errors
    /// Processes remain after ten seconds, or a directory cannot be removed. All hierarchies are tried.
    pub fn delete(&self) -> Result<()> {
        let deadline = Instant::now() + DELETE_DEADLINE;
        let mut first = None;
        for directory in self.directories() {
            if let Err(error) = remove_tree(directory, deadline) {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// The descriptors by which a child joins a group. Made before the fork, used after it.
#[derive(Debug)]
pub struct Joiner {
    files: Vec<OwnedFd>,
}

impl Joiner {
    /// Moves the calling thread, which must be its process's only one, into the group. Does not allocate.
    ///
    /// # Errors
    /// The kernel's answer to the write.
    pub fn join(&self) -> io::Result<()> {
        for file in &self.files {
            rustix::io::write(file, b"0")?;
        }
        Ok(())
    }
}

const KILL: i32 = 9;

fn no_freezer(reason: &str) -> Error {
    Error::NoController { limit: "pause", controller: "freezer", reason: reason.into() }
}

/// Names the first limit of `resources` that needs a controller; device rules need none here, they are skipped.
fn refuse_limits(resources: &LinuxResources, reason: &str) -> Result<()> {
    let memory = resources.memory().is_some_and(|memory| memory != Default::default());
    let cpu = resources.cpu().as_ref().is_some_and(|cpu| *cpu != Default::default());
    let block = resources.block_io().as_ref().is_some_and(|block| *block != Default::default());
    let pids = resources.pids().is_some_and(|pids| pids.limit() > 0);
    let huge = resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty());
    let unified = resources.unified().as_ref().is_some_and(|unified| !unified.is_empty());
    let network = resources.network().as_ref().is_some_and(|network| *network != Default::default());
    let rdma = resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty());
    let asked = [
        (memory, "memory", "memory"),
        (cpu, "cpu", "cpu"),
        (block, "block I/O", "io"),
        (pids, "pids", "pids"),
        (huge, "huge page", "hugetlb"),
        (unified, "unified", "any"),
        (network, "network class", "net_cls"),
        (rdma, "rdma", "rdma"),
    ];
    match asked.into_iter().find(|(asked, _, _)| *asked) {
        Some((_, limit, controller)) => Err(Error::NoController { limit, controller, reason: reason.into() }),
        None => Ok(()),
    }
}

/// One device's line for `rdma.max`, the same in both layouts.
fn rdma_line(name: &str, limits: &oci_spec::runtime::LinuxRdma) -> String {
    let handles = limits.hca_handles().map(|count| format!(" hca_handle={count}")).unwrap_or_default();
    let objects = limits.hca_objects().map(|count| format!(" hca_object={count}")).unwrap_or_default();
    format!("{name}{handles}{objects}")
}

fn signal_process(pid: i32, signal: i32, directory: &Path) -> Result<()> {
    let signal = nix::sys::signal::Signal::try_from(signal)
        .map_err(|errno| file_error("signal members of", directory, errno.into()))?;
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(file_error(&format!("send {signal} to process {pid} of"), directory, errno.into())),
    }
}

fn collect_processes(directory: &Path, pids: &mut Vec<i32>) -> Result<()> {
    match read(&directory.join("cgroup.procs")) {
        // 0 is a process outside our pid namespace: not ours to signal, and kill(0) would be ourselves.
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0))
        }
        Err(error) if error.is_gone() => return Ok(()),
        // A threaded group lists its processes at its domain only.
        Err(error) if error.errno() == Some(nix::libc::EOPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    for child in children(directory)? {
        collect_processes(&child, pids)?;
    }
    Ok(())
}

fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(file_error("list", directory, source)),
    };
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| file_error("list", directory, source))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            children.push(entry.path());
        }
    }
    Ok(children)
}

fn remove_tree(directory: &Path, deadline: Instant) -> Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let error = match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(nix::libc::ENOENT) => return Ok(()),
            // Busy: members that are still ending, or groups below. There is nothing to be woken by for the first.
            Some(nix::libc::EBUSY | nix::libc::ENOTEMPTY) => {
                for child in children(directory)? {
                    remove_tree(&child, deadline)?;
                }
            }
            Some(nix::libc::EINTR) => {}
            _ => return Err(file_error("remove", directory, error)),
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                path: directory.into(),
                wanted: "empty",
                waited: started.elapsed(),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

impl Error {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::File { source, .. } | Self::DeviceProgram { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The kernel has no such file or directory.
    fn is_not_found(&self) -> bool {
        self.errno() == Some(nix::libc::ENOENT)
    }

    /// The group was removed meanwhile: ENODEV is the answer of a file that was open.
    fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(nix::libc::ENOENT | nix::libc::ENODEV))
    }
}

fn file_error(action: &str, path: &Path, source: io::Error) -> Error {
    Error::File { action: action.into(), path: path.into(), source }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| file_error("read", path, source))
}

/// Reads a file that an absent controller or an older kernel does not have.
fn read_optional(path: &Path) -> Result<Option<String>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if matches!(
                error.errno(),
                Some(nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::EOPNOTSUPP)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes one value: the control group file system takes each `write(2)` as one command, so never create or truncate.
fn write(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path);
    let result = file.and_then(|mut file| file.write_all(text.as_bytes()));
    result.map_err(|source| file_error(&format!("write {text:?} to"), path, source))
}

/// Writes a limit; a missing file means that its controller is missing, and is told so.
fn write_limit(
    directory: &Path,
    file: &str,
    text: &str,
    limit: &'static str,
    controller: &'static str,
) -> Result<()> {
    match write(&directory.join(file), text) {
        Err(error) if error.is_not_found() => Err(Error::NoController {
            limit,
            controller,
            reason: format!("{} has no {file}", directory.display()),
        }),
        other => other,
    }
}

fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(file_error("create", path, source)),
    }
}

/// The normal components of `path`: `..` could climb out of the group that was delegated to us.
fn components(path: &Path) -> Result<Vec<&std::ffi::OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => names.push(name),
            std::path::Component::RootDir | std::path::Component::CurDir => {}
            _ => {
                return Err(Error::Invalid {
                    setting: "cgroup path",
                    reason: format!("{} has ..", path.display()),
                });
            }
        }
    }
    if names.is_empty() {
        return Err(Error::Invalid {
            setting: "cgroup path",
            reason: format!("{} names no group", path.display()),
        });
    }
    Ok(names)
}
