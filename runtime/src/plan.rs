//! What is computed before the fork: everything that monitor and init need, as plain data.
//!
//! Travels in one sealed memory file: length of the monitor's part (u32, little endian), the monitor's part as JSON, then
//! the same for init's part, then the seccomp program. The monitor reads its part only, to stay small.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sys::idmap::Range;
use sys::mount::{Attributes, Mount, Propagation};

use crate::cgroup;

/// A standard stream. Numbers are indices of passed descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stream {
    Null,
    Captured,
    Attach { keep_open: bool },
    Fd(usize),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogPlan {
    pub(crate) path: PathBuf,
    pub(crate) max_bytes: u64,
    pub(crate) file: usize,
}

/// The monitor's part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MonitorPlan {
    pub(crate) id: String,
    pub(crate) run_dir: PathBuf,
    pub(crate) terminal: bool,
    pub(crate) tied: bool,
    pub(crate) stdin: Stream,
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
    /// Connection of the caller, already open.
    pub(crate) attach: Option<usize>,
    /// Listening socket.
    pub(crate) listener: Option<usize>,
    pub(crate) log: Option<LogPlan>,
    pub(crate) cleanup_argv: Vec<OsString>,
    /// Whether the group ends with the process: a container's, not an exec session's.
    pub(crate) owns_cgroup: bool,
    /// Whether other processes of the group may outlive the process: it is not the init of a PID namespace.
    pub(crate) kill_rest: bool,
    /// What init is born into; nothing of it counts with `foreign`.
    pub(crate) birth: BirthPlan,
    /// The socket on which the program says that it is ready, and the service manager's.
    pub(crate) notify: Option<(usize, PathBuf)>,
    pub(crate) timers: crate::monitor::TimerPlan,
    /// Another runtime, which takes the place of our own init.
    pub(crate) foreign: Option<ForeignPlan>,
}

/// What a process is born into.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct BirthPlan {
    /// The control group, joined before the namespaces.
    pub(crate) cgroup: Option<cgroup::Paths>,
    /// Namespaces to create.
    pub(crate) new_namespaces: u64,
    /// Descriptors to join in order, with the namespace types.
    pub(crate) join: Vec<(usize, i32)>,
    /// Text for timens_offsets.
    pub(crate) time_offsets: Option<String>,
    /// Maps of a new user namespace.
    pub(crate) uid_map: Vec<Range>,
    pub(crate) gid_map: Vec<Range>,
    /// Mounts whose owners are to be mapped through the new user namespace.
    pub(crate) id_mapped: Vec<usize>,
    /// Mounts that the monitor copies from another container.
    pub(crate) borrowed: Vec<Borrowed>,
    /// Mounts of the root file system that the monitor makes, with owners mapped, and their places.
    pub(crate) mapped_rootfs: Vec<(usize, Mount)>,
    pub(crate) oom_score_adj: Option<i32>,
}

/// A mount that is copied from another mount namespace. Numbers are indices of passed descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Borrowed {
    /// Where the copy is expected.
    pub(crate) place: usize,
    /// The namespace.
    pub(crate) namespace: usize,
    /// The bind mount to make in it.
    pub(crate) mount: Mount,
}

/// What a runtime other than our own is given.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForeignPlan {
    pub(crate) program: PathBuf,
    /// The bundle, with `config.json` and an empty `rootfs`.
    pub(crate) bundle: PathBuf,
    /// Detached mounts of the root file system, each over the one before.
    pub(crate) mounts: Vec<usize>,
}

/// What is put at one place of the rootfs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Source {
    /// A detached mount made by the caller.
    Prepared(usize),
    /// A mount to be made by init, in the container's namespaces; the descriptor is taken where that is refused.
    New(Mount, Option<usize>),
    /// Other attributes for the mount that is there: set, cleared, and the same for all mounts below it.
    Remount { set: Attributes, cleared: Attributes, recursive: Attributes, recursive_cleared: Attributes },
    /// A tmpfs with one directory a hierarchy of the old control group layout.
    CgroupV1 { hierarchies: Vec<(String, usize)>, read_only: bool },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) destination: PathBuf,
    pub(crate) source: Source,
    /// Whether the place must be a directory.
    pub(crate) directory: bool,
    /// Whether what the image has there is copied into the (empty) mount.
    pub(crate) copy_up: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DevicePlan {
    pub(crate) path: PathBuf,
    /// `c`, `b` or `p`.
    pub(crate) kind: char,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// A detached mount of the host's node, where nodes cannot be made.
    pub(crate) bind: Option<usize>,
}

/// The file system of a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RootfsPlan {
    /// Detached mounts, each over the one before.
    pub(crate) mounts: Vec<usize>,
    /// The directory at which hooks look for it before the change of root.
    pub(crate) at: Option<PathBuf>,
    /// Whether the root is changed without pivot_root(2), which a root on an initial RAM file system needs.
    pub(crate) no_pivot: bool,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) read_only: bool,
    /// Whether /dev becomes read-only when everything is in it.
    pub(crate) read_only_dev: bool,
    /// Whether /etc/mtab is made where the image has none.
    pub(crate) mtab: bool,
    pub(crate) places: Vec<MountPlan>,
    /// Nodes and links of /dev; absent = /dev is not ours.
    pub(crate) devices: Option<Vec<DevicePlan>>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) read_only_paths: Vec<PathBuf>,
}

/// Init's part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InitPlan {
    pub(crate) id: String,
    /// Whether the process ends with the one that started it.
    pub(crate) tied: bool,
    /// Whether it gets a session keyring of its own.
    pub(crate) keyring: bool,
    /// Whether its control group namespace is made when it has been moved to its group: not at its birth.
    pub(crate) late_cgroup_namespace: bool,
    /// The socket on which it waits for the word to start; absent = it starts at once.
    pub(crate) wait: Option<usize>,
    pub(crate) hooks: HooksPlan,
    /// Whether ids must be taken on in a user namespace that is new.
    pub(crate) new_user_namespace: bool,
    /// Absent for exec, and for a process that joins a mount namespace.
    pub(crate) rootfs: Option<RootfsPlan>,
    pub(crate) loopback: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// Paths below /proc/sys and values.
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) process: ProcessPlan,
}

/// The hooks that concern init. The state that they read comes with the word to go on.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct HooksPlan {
    /// Whether whoever started init has hooks to run when everything is mounted.
    pub(crate) outside: bool,
    /// Run by init when these have succeeded, before it changes into its root.
    pub(crate) create_container: Vec<HookPlan>,
    /// Run by init before its program.
    pub(crate) start_container: Vec<HookPlan>,
}

/// One hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HookPlan {
    /// Where it stands in the spec, for messages: `hooks.prestart[0]`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
}

/// The process to become.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) terminal: bool,
    pub(crate) rows: u16,
    pub(crate) columns: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: Option<u32>,
    pub(crate) groups: Vec<u32>,
    /// Whether setgroups(2) is forbidden in the user namespace.
    pub(crate) keep_groups: bool,
    pub(crate) capabilities: Option<sys::caps::Sets>,
    pub(crate) no_new_privileges: bool,
    /// Number, soft, hard.
    pub(crate) rlimits: Vec<(u32, u64, u64)>,
    pub(crate) scheduler: Option<sys::process::Scheduler>,
    pub(crate) io_priority: Option<(u8, u8)>,
    pub(crate) personality_32: bool,
    pub(crate) memory_policy: Option<sys::process::MemoryPolicy>,
    /// Processors to run on, once in the container's group.
    pub(crate) affinity: Vec<usize>,
    /// Descriptors after the streams that the program inherits.
    pub(crate) preserved: u32,
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    pub(crate) seccomp_flags: u32,
    /// Whether a small init stands before the program.
    pub(crate) init: bool,
    /// Passed descriptors that the program gets as well: their numbers there, and their indices.
    pub(crate) handed_on: Vec<(u32, usize)>,
}

/// Writes a plan to a sealed memory file.
pub(crate) fn write(
    monitor: &MonitorPlan,
    init: Option<&InitPlan>,
    seccomp: &[sys::seccomp_load::Instruction],
) -> io::Result<OwnedFd> {
    let (monitor, init) = (serde_json::to_vec(monitor)?, serde_json::to_vec(&init)?);
    let mut program = Vec::with_capacity(seccomp.len() * 8);
    for instruction in seccomp {
        program.extend(instruction.code.to_le_bytes());
        program.extend([instruction.jt, instruction.jf]);
        program.extend(instruction.k.to_le_bytes());
    }
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map(u32::to_le_bytes).map_err(io::Error::other);
    sys::memfd::sealed("davit-plan", &[&length(&monitor)?, &monitor, &length(&init)?, &init, &program])
}

/// Where init finds its part of the plan.
#[derive(Debug)]
pub(crate) enum InitSource<'a> {
    /// In the file that came with the request.
    File(&'a PlanFile),
    /// In the memory of the process that it was forked from.
    Memory(Box<InitPlan>, Vec<sys::seccomp_load::Instruction>),
}

/// A plan as received.
#[derive(Debug)]
pub(crate) struct PlanFile {
    file: File,
    init_at: u64,
}

impl PlanFile {
    /// Reads the monitor's part.
    pub(crate) fn open(descriptor: OwnedFd) -> io::Result<(Self, MonitorPlan)> {
        let file = File::from(descriptor);
        let bytes = read_part(&file, 0)?;
        let init_at = 4 + bytes.len() as u64;
        Ok((Self { file, init_at }, serde_json::from_slice(&bytes)?))
    }

    /// Reads init's part and the seccomp program.
    pub(crate) fn read_init(&self) -> io::Result<(InitPlan, Vec<sys::seccomp_load::Instruction>)> {
        let bytes = read_part(&self.file, self.init_at)?;
        let plan = serde_json::from_slice(&bytes)?;
        let program_at = self.init_at + 4 + bytes.len() as u64;
        let length = self.file.metadata()?.len().saturating_sub(program_at);
        let mut program = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut program, program_at)?;
        let instruction = |bytes: &[u8]| sys::seccomp_load::Instruction {
            code: u16::from_le_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        };
        Ok((plan, program.chunks_exact(8).map(instruction).collect()))
    }
}

fn read_part(file: &File, at: u64) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    file.read_exact_at(&mut length, at)?;
    let mut bytes = vec![0; usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at + 4)?;
    Ok(bytes)
}
