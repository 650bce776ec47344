//! What a launch is given and what it gives back.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use oci_spec::runtime::{LinuxSeccomp, Process, Spec};

use crate::attach;
use crate::cgroup;
use crate::error::{Error, Result};
use crate::record::ExitRecord;
use crate::wire;

/// A container to be started: the spec, and all that the spec does not say.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The container's ID, for records and messages.
    pub id: String,
    /// Directory of the container on tmpfs; created if missing. Receives `pid.json`, `exit.json` and `attach.sock`.
    pub run_dir: PathBuf,
    /// Relative sources of bind mounts are resolved from here; absent = the current directory.
    pub bundle: Option<PathBuf>,
    /// The runtime spec. `process` must be present; `root.path` is not looked at (see [`Launch::rootfs`]).
    pub spec: &'a Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// Whether the owners of its files are seen through the container's new user namespace.
    pub map_owners: bool,
    /// Whether /etc/mtab is made, a link to the table of mounts, where the image has none. It stays in the rootfs.
    pub mtab: bool,
    /// Standard input.
    pub stdin: StdinMode,
    /// Standard output; ignored with a terminal, which has one stream, held by the monitor.
    pub stdout: OutputMode,
    /// Standard error; ignored with a terminal.
    pub stderr: OutputMode,
    /// Opens an attach connection before the process starts, so that not a byte is missed: [`Launched::attach`].
    pub attach: bool,
    /// Where captured output is recorded; absent = nowhere.
    pub log: Option<LogConfig>,
    /// The control group.
    pub cgroup: CgroupSetup,
    /// Run by the monitor after the exit record is written, unless the launching caller says that it did the work
    /// itself ([`Launched::finish`]). Empty = nothing.
    pub cleanup_argv: Vec<OsString>,
    /// Whether a small init of davit's own stands before the program: it reaps and hands signals on.
    pub init: bool,
    /// Further descriptors of the program, from number 3 on.
    pub preserved: Vec<OwnedFd>,
    /// A datagram socket on which the program says that it is ready, and the path of the service manager's that is to be
    /// told.
    pub notify: Option<(OwnedFd, PathBuf)>,
    /// Killed when it has run for so long.
    pub timeout: Option<std::time::Duration>,
    /// Run by the monitor at the start, and again when the milliseconds have passed that it left in `health.next` of the
    /// run directory. Empty = nothing.
    pub health_argv: Vec<OsString>,
    /// Whether the container outlives the caller.
    pub mode: LaunchMode,
    /// Program of another OCI runtime that runs the container; absent = this crate.
    pub runtime: Option<PathBuf>,
}

impl<'a> Launch<'a> {
    /// A detached launch with /dev/null as input, captured output, no log, no control group.
    pub fn new(id: impl Into<String>, run_dir: impl Into<PathBuf>, spec: &'a Spec, rootfs: Rootfs) -> Self {
        Self {
            id: id.into(),
            run_dir: run_dir.into(),
            bundle: None,
            spec,
            rootfs,
            map_owners: false,
            mtab: false,
            stdin: StdinMode::Null,
            stdout: OutputMode::Captured,
            stderr: OutputMode::Captured,
            attach: false,
            log: None,
            cgroup: CgroupSetup::None,
            cleanup_argv: Vec::new(),
            init: false,
            preserved: Vec::new(),
            notify: None,
            timeout: None,
            health_argv: Vec::new(),
            mode: LaunchMode::Detached,
            runtime: None,
        }
    }
}

/// Where the root file system comes from. It is mounted inside the container's own mount namespace and vanishes
/// with it: there is nothing to unmount afterwards.
#[derive(Clone, Debug)]
pub enum Rootfs {
    /// A directory, bound recursively.
    Path(PathBuf),
    /// The mounts of a snapshot, each on top of the one before.
    Mounts(Vec<sys::mount::Mount>),
}

/// Where standard input comes from.
#[derive(Debug)]
pub enum StdinMode {
    /// /dev/null, or with a terminal: the terminal, which nobody can type into unless attached.
    Null,
    /// What attached clients send. With `keep_open` the input outlives its clients, else it ends with the first
    /// client that leaves or says end of file.
    Attach {
        /// Whether input stays open without clients.
        keep_open: bool,
    },
    /// This descriptor, given to the process as it is.
    Fd(OwnedFd),
}

/// Where standard output or error goes.
#[derive(Debug)]
pub enum OutputMode {
    /// To the monitor, which writes the log and feeds attached clients.
    Captured,
    /// To this descriptor, given to the process as it is.
    Fd(OwnedFd),
    /// To /dev/null.
    Null,
}

/// A log in the k8s-file format: `TIME stdout|stderr F|P TEXT`, one record a line.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The file, created with mode 0600 if missing, else appended to.
    pub path: PathBuf,
    /// Size in bytes at which the file is begun anew; 0 = unlimited.
    pub max_bytes: u64,
}

/// The control group of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupSetup {
    /// Stays in the group of the caller; limits of the spec are not applied.
    None,
    /// A group of this path below the hierarchy's root, created with the limits of `linux.resources`.
    Path(PathBuf),
    /// A group below a scope of systemd's.
    Scope(cgroup::Scope),
}

/// Whether a container outlives its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchMode {
    /// The monitor outlives the caller.
    Detached,
    /// The container dies with the caller, whatever kills it: build steps.
    Tied,
}

/// A process to be started inside a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The exec session's ID.
    pub id: String,
    /// Run directory of the container.
    pub run_dir: PathBuf,
    /// Directory of the session's own `pid.json`, `exit.json` and `attach.sock`; created if missing.
    pub session_dir: PathBuf,
    /// The process.
    pub process: &'a Process,
    /// Where systemd is reached, for containers in a scope; absent = the caller may write to its groups itself.
    pub bus: Option<cgroup::Bus>,
    /// The filter to load; normally the container's own.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// Standard input.
    pub stdin: StdinMode,
    /// Standard output.
    pub stdout: OutputMode,
    /// Standard error.
    pub stderr: OutputMode,
    /// Descriptors that the program gets as 3, 4 and so on.
    pub preserved: Vec<OwnedFd>,
    /// Opens an attach connection: [`Launched::attach`].
    pub attach: bool,
    /// Run by the session's monitor as for [`Launch::cleanup_argv`].
    pub cleanup_argv: Vec<OsString>,
    /// Whether the session outlives the caller.
    pub mode: LaunchMode,
}

impl<'a> ExecRequest<'a> {
    /// A detached session with /dev/null as input and captured output.
    pub fn new(
        id: impl Into<String>,
        run_dir: impl Into<PathBuf>,
        session_dir: impl Into<PathBuf>,
        process: &'a Process,
    ) -> Self {
        Self {
            id: id.into(),
            run_dir: run_dir.into(),
            session_dir: session_dir.into(),
            process,
            bus: None,
            seccomp: None,
            stdin: StdinMode::Null,
            stdout: OutputMode::Captured,
            stderr: OutputMode::Captured,
            preserved: Vec::new(),
            attach: false,
            cleanup_argv: Vec::new(),
            mode: LaunchMode::Detached,
        }
    }
}

/// A process that has been started. Holding it tells the monitor that the caller takes care of what follows the exit;
/// dropping it leaves that to the monitor (and ends a [`LaunchMode::Tied`] process).
#[derive(Debug)]
pub struct Launched {
    /// The process's ID on the host.
    pub init_pid: u32,
    /// Its start time in clock ticks since boot, which with the ID makes it unique.
    pub start_time: u64,
    /// The monitor's process ID.
    pub monitor_pid: u32,
    /// The connection asked for by [`Launch::attach`].
    pub attach: Option<attach::Client>,
    pub(crate) lifeline: OwnedFd,
    pub(crate) run_dir: PathBuf,
}

impl Launched {
    /// Waits for the exit record, without limit. To be called once: the record is sent once (later it is in the run
    /// directory).
    pub fn wait(&self) -> Result<ExitRecord> {
        self.receive_exit()
    }

    /// Waits for the exit record until the deadline; `None` when it passes.
    pub fn wait_until(&self, deadline: Instant) -> Result<Option<ExitRecord>> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = rustix::time::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&self.lifeline, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(None),
                Ok(_) => return self.receive_exit().map(Some),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::Spawner { source: errno.into() }),
            }
        }
    }

    fn receive_exit(&self) -> Result<ExitRecord> {
        let mut packet = vec![0; wire::MAX_PACKET];
        let failed = |source| Error::Spawner { source };
        let length = sys::scm::receive(&self.lifeline, &mut packet).map_err(failed)?.length;
        match &packet[..length] {
            [wire::EXITED, json @ ..] => serde_json::from_slice(json).map_err(|error| failed(error.into())),
            _ => Err(Error::MonitorLost { run_dir: self.run_dir.clone() }),
        }
    }

    /// Tells the monitor that the caller has cleaned up after the exit, so that it must not. Call after [`Self::wait`].
    pub fn finish(self) {
        // A monitor that is gone has nothing to be told.
        let _ = sys::scm::send(&self.lifeline, &[wire::FINISHED], &[]);
    }

    /// Lets go of a detached process: the monitor cleans up when it ends. Same as dropping.
    pub fn release(self) {
        drop(self);
    }
}
