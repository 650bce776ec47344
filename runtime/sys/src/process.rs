//! Processes: fork and clone3 of single-threaded processes, exit, keyrings, scheduling.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of a fork the caller is on.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The new process's ID.
        child: u32,
        /// Its descriptor, if asked for.
        pidfd: Option<OwnedFd>,
    },
}

/// What [`clone3`] is asked.
#[derive(Debug, Default)]
pub struct Clone<'a> {
    /// `CLONE_NEW*` and `CLONE_PARENT`; flags that share memory or descriptors are refused.
    pub flags: u64,
    /// The unified control group to be born into (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether to open a descriptor of the child.
    pub pidfd: bool,
}

/// `CLONE_PARENT`: the child becomes the caller's sibling.
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
/// All that may be passed in [`Clone::flags`].
const ALLOWED: u64 = CLONE_PARENT
    | 0x80 // CLONE_NEWTIME
    | libc::CLONE_NEWNS as u64
    | libc::CLONE_NEWCGROUP as u64
    | libc::CLONE_NEWUTS as u64
    | libc::CLONE_NEWIPC as u64
    | libc::CLONE_NEWUSER as u64
    | libc::CLONE_NEWPID as u64
    | libc::CLONE_NEWNET as u64;

/// Tells whether the calling process has one thread.
pub fn is_single_threaded() -> bool {
    // Unsharing the thread group is refused with several threads and does nothing with one. Unlike a look into /proc
    // it works in a process that has just joined a container's mount namespace.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_THREAD).is_ok()
}

fn require_single_thread() -> io::Result<()> {
    if is_single_threaded() {
        return Ok(());
    }
    Err(io::Error::other("a process with several threads cannot fork safely"))
}

/// Forks. Refused where the process has several threads, because the child could then find any lock held for ever.
pub fn fork() -> io::Result<Fork> {
    require_single_thread()?;
    // nix and libc have it as unsafe only because of threads.
    // SAFETY: the process has a single thread, so the child's memory, allocator and locks are in the state that the
    // caller sees; no other thread can start one in between.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent { child: child.unsigned_abs(), pidfd: None }),
    }
}

/// Clones the single-threaded caller into namespaces and a control group.
pub fn clone3(request: &Clone<'_>) -> io::Result<Fork> {
    require_single_thread()?;
    if request.flags & !ALLOWED != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: `clone_args` is a plain struct of integers, for which all zeroes is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = request.flags;
    if request.pidfd {
        arguments.flags |= CLONE_PIDFD;
        arguments.pidfd = (&raw mut pidfd) as u64;
    }
    if let Some(cgroup) = request.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // With CLONE_PARENT the exit signal is the caller's own, and giving one is EINVAL.
    if request.flags & CLONE_PARENT == 0 {
        arguments.exit_signal = libc::SIGCHLD as u64;
    }
    // No safe wrapper exists for clone3(2).
    // SAFETY: the flags share neither memory nor descriptors nor stack, so this is a fork; the process has a single
    // thread, so the child's memory is consistent; the struct and the pidfd slot are alive during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        child => {
            let pidfd = (pidfd >= 0).then(|| {
                // SAFETY: the kernel has just put a new descriptor here that nobody else owns.
                unsafe { OwnedFd::from_raw_fd(pidfd) }
            });
            let child = u32::try_from(child).map_err(io::Error::other)?;
            Ok(Fork::Parent { child, pidfd })
        }
    }
}

/// Ends the process at once, without destructors and exit handlers, which belong to the process it was forked from.
pub fn exit(code: i32) -> ! {
    // `std::process::exit` would run handlers registered before the fork.
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on as close-on-exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // rustix has no close_range.
    // SAFETY: with CLOEXEC the call closes nothing in this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    // Linux before 5.11.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if number >= first {
            // SAFETY: setting a flag on a descriptor number closes nothing; a stale number is EBADF.
            unsafe { libc::fcntl(number.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes `descriptor` available to the next program under this number (not close-on-exec), replacing what was there.
/// For processes that are about to exec: the number must not belong to an owner that still uses it.
pub fn install_descriptor(descriptor: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    let number = number.cast_signed();
    if descriptor.as_raw_fd() == number {
        // SAFETY: clearing the close-on-exec flag of an open descriptor.
        let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        return if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    // rustix::io::dup2 wants an owner of the target number, which a fresh number does not have.
    // SAFETY: the documented precondition above: nobody relies on the target number any more.
    let result = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tells whether a descriptor of this number is open.
pub fn is_open(number: u32) -> bool {
    // SAFETY: asking for the flags of a descriptor number changes nothing; a number that is not open is EBADF.
    unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) != -1 }
}

/// A close-on-exec copy of standard stream 0, 1 or 2; `None` where it is closed.
pub fn copy_of_stream(number: u32) -> io::Result<Option<OwnedFd>> {
    let result = match number {
        0 => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3),
        1 => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3),
        _ => rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3),
    };
    match result {
        Ok(copy) => Ok(Some(copy)),
        Err(rustix::io::Errno::BADF) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A copy of a descriptor that this process was started with, by its number.
pub fn inherited(number: u32) -> io::Result<OwnedFd> {
    // Nobody owns an inherited descriptor, so there is nothing safe to borrow it from. What this program opened itself
    // is close-on-exec, and none of the caller's business.
    // SAFETY: the call takes integers; a number that is not open is an error.
    let flags = unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) };
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: as above.
    let copy = unsafe { libc::fcntl(number.cast_signed(), libc::F_DUPFD_CLOEXEC, 3) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Joins a new session keyring, so that keys of the host's session are out of reach. Absent keyrings are no failure.
pub fn new_session_keyring(name: &std::ffi::CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // No safe wrapper exists for keyctl(2).
    // SAFETY: the name is a NUL-terminated string that lives during the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EDQUOT) => Ok(()),
        _ => Err(error),
    }
}

/// The scheduling of a process, for sched_setattr(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scheduler {
    /// `SCHED_*` number.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nice value for the normal policies.
    pub nice: i32,
    /// Priority for the real-time policies.
    pub priority: u32,
    /// Deadline policy: run time in nanoseconds.
    pub runtime: u64,
    /// Deadline policy: deadline in nanoseconds.
    pub deadline: u64,
    /// Deadline policy: period in nanoseconds.
    pub period: u64,
}

/// Sets the scheduling of the caller.
pub fn set_scheduler(scheduler: &Scheduler) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: 48,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    };
    // No safe wrapper exists for sched_setattr(2).
    // SAFETY: the struct has the kernel's first layout (48 bytes, as `size` says) and lives during the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the I/O priority of the caller: class 1 real-time, 2 best effort, 3 idle; level 0 to 7.
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = (libc::c_int::from(class) << 13) | libc::c_int::from(level);
    // No safe wrapper exists for ioprio_set(2).
    // SAFETY: the call takes integers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How memory is taken from NUMA nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` number with `MPOL_F_*` bits.
    pub mode: u32,
    /// Numbers of nodes, below 1024.
    pub nodes: Vec<u32>,
}

/// Sets the memory policy of the caller, which the programs it executes keep.
pub fn set_memory_policy(policy: &MemoryPolicy) -> io::Result<()> {
    const NODES: u32 = 1024;
    let mut mask = [0_u64; NODES as usize / 64];
    for node in &policy.nodes {
        if *node >= NODES {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        mask[*node as usize / 64] |= 1 << (node % 64);
    }
    let (address, length) =
        if policy.nodes.is_empty() { (std::ptr::null(), 0) } else { (mask.as_ptr(), NODES + 1) };
    // No safe wrapper exists for set_mempolicy(2).
    // SAFETY: the mask has as many bits as are told (the kernel reads one less), or is null with a length of 0; it
    // lives during the call.
    let result =
        unsafe { libc::syscall(libc::SYS_set_mempolicy, policy.mode, address, libc::c_ulong::from(length)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the caller run on these processors alone.
pub fn set_affinity(processors: &[usize]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for processor in processors {
        if *processor >= rustix::thread::CpuSet::MAX_CPU {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        set.set(*processor);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Starts a thread that waits until the next descriptor that the caller opens is there, hands it to `found`, and then
/// sets the flag that is returned; it sets it also when none comes. `like` is any open descriptor.
pub fn watch_next_descriptor(
    like: BorrowedFd<'_>,
    found: impl FnOnce(BorrowedFd<'_>) + Send + 'static,
) -> io::Result<std::sync::Arc<std::sync::atomic::AtomicBool>> {
    const DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let done = std::sync::Arc::clone(&flag);
    // The thread's own start opens nothing. The kernel gives the lowest free number.
    let number = rustix::io::fcntl_dupfd_cloexec(like, 0)?.as_raw_fd();
    let wait = move || {
        let start = std::time::Instant::now();
        while !is_open(number.unsigned_abs()) {
            if start.elapsed() > DEADLINE {
                return done.store(true, std::sync::atomic::Ordering::Release);
            }
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
        // SAFETY: the descriptor is open, and its owner, which waits for the flag, does not close it before.
        found(unsafe { BorrowedFd::borrow_raw(number) });
        done.store(true, std::sync::atomic::Ordering::Release);
    };
    std::thread::Builder::new().name("davit-watch".into()).spawn(wait)?;
    Ok(flag)
}

/// Makes a user namespace with these maps that no process is in.
pub fn user_namespace(users: &[crate::idmap::Range], groups: &[crate::idmap::Range]) -> io::Result<OwnedFd> {
    use crate::idmap::{Kind, write};
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let request = Clone { flags: libc::CLONE_NEWUSER as u64, ..Clone::default() };
    let child = match clone3(&request)? {
        Fork::Child => {
            // It keeps the namespace until the parent has opened it, or is gone.
            drop(writer);
            let _ = rustix::io::read(&reader, &mut [0_u8]);
            exit(0)
        }
        Fork::Parent { child, .. } => child,
    };
    let open = || {
        write(child, Kind::Group, groups)?;
        write(child, Kind::User, users)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        Ok(rustix::fs::open(format!("/proc/{child}/ns/user"), flags, rustix::fs::Mode::empty())?)
    };
    let namespace = open();
    drop(writer);
    let pid = rustix::process::Pid::from_raw(child.cast_signed());
    let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    namespace
}

/// Closes every descriptor from `first` on that this program was started with. For the first moment of `main`.
pub fn close_inherited_from(first: u32) -> io::Result<()> {
    // rustix has no close_range.
    // SAFETY: the documented precondition: nothing in this process has opened a descriptor yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the caller see a 32-bit machine (`PER_LINUX32`).
pub fn set_personality_linux32() -> io::Result<()> {
    const PER_LINUX32: libc::c_ulong = 8;
    // rustix has no personality.
    // SAFETY: the call takes an integer and changes what uname(2) tells.
    let result = unsafe { libc::personality(PER_LINUX32) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets a resource limit of the caller, by the kernel's number (`RLIMIT_*`); `u64::MAX` = unlimited.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // rustix and nix take enumerations only, and lack some of the resources.
    // SAFETY: the new limit lives during the call; no old one is asked for; an unknown resource is EINVAL.
    let result = unsafe { libc::prlimit64(0, resource as _, &raw const limit, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How far below the frame of [`shrink`] the stack counts as in use: by what it calls.
const STACK_IN_USE: usize = 16 << 10;

/// Lets go of this process's mapped code pages, which come back from the page cache when touched, of its free heap, and
/// of the stack that deeper calls used before. For processes of one thread that are about to sleep for long.
pub fn shrink() {
    // SAFETY: malloc_trim has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let here = (&raw const maps).addr();
    for line in maps.lines() {
        let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-')) else {
            continue;
        };
        let (Ok(start), Ok(mut end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        else {
            continue;
        };
        if line.ends_with("[stack]") && (start..end).contains(&here) {
            end = here.saturating_sub(STACK_IN_USE) & !0xffff;
        } else if !(line.contains(" r-xp ") && line.contains(" /")) {
            continue;
        }
        if start < end {
            // SAFETY: an executable, unwritable private mapping of a file holds nothing but the file's bytes, which
            // the kernel reads again at the next touch; and the stack below all frames in use holds nothing. Failure is
            // harmless.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness runs each test on a thread of its own.
        assert!(!is_single_threaded());
        assert!(fork().is_err());
        assert!(clone3(&Clone::default()).is_err());
    }

    #[test]
    fn shrinking_changes_nothing() {
        shrink();
        assert_eq!(2 + 2, 4);
    }
}
