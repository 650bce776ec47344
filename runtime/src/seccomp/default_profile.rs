//! The default profile: what a container may do without asking. Equal in effect to the one of containers/common as
//! shipped with Podman 5.8.6 (a test compares them call by call); that file, where installed, is preferred by the engine.
//!
//! Three answers besides "yes": EPERM for what exists and is refused, EINVAL for audit sockets, and ENOSYS for whatever
//! is not named here, so that programs fall back from calls that are newer than this table.

use oci_spec::runtime::{
    Arch, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
};

use super::Profile;
use super::profile::BuiltIn;

const EPERM: u32 = 1;
const EINVAL: u32 = 22;

/// Refused whatever the capabilities: EPERM.
const REFUSED: &[&str] = &[
    "bdflush", "cachestat", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "io_pgetevents",
    "io_pgetevents_time64", "kexec_file_load", "kexec_load", "map_shadow_stack", "migrate_pages",
    "move_pages", "nfsservctl", "nice", "oldfstat", "oldlstat", "oldolduname", "oldstat", "olduname",
    "pciconfig_iobase", "pciconfig_read", "pciconfig_write", "sgetmask", "ssetmask", "swapoff",
    "swapon", "syscall", "sysfs", "uselib", "userfaultfd", "ustat", "vm86", "vm86old", "vmsplice",
];

/// Allowed whatever the capabilities and arguments.
const ALLOWED: &[&str] = &[
    "_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk",
    "capget", "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64",
    "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "clone", "clone3", "close", "close_range", "connect", "copy_file_range",
    "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old",
    "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "execve",
    "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64",
    "fallocate", "fanotify_init", "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2",
    "fchown", "fchown32", "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr",
    "flock", "fork", "fremovexattr", "fsconfig", "fsetxattr", "fsmount", "fsopen", "fspick", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex",
    "futex_time64", "futimesat", "get_mempolicy", "get_robust_list", "get_thread_area", "getcpu",
    "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid",
    "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid",
    "getppid", "getpriority", "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32",
    "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid",
    "getuid32", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
    "io_cancel", "io_destroy", "io_getevents", "io_setup", "io_submit", "ioctl", "ioprio_get",
    "ioprio_set", "ipc", "keyctl", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listen",
    "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise",
    "mbind", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod",
    "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mount", "mount_setattr", "move_mount",
    "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "msgctl", "msgget", "msgrcv",
    "msgsnd", "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep",
    "newfstatat", "open", "open_tree", "openat", "openat2", "pause", "pidfd_getfd", "pidfd_open",
    "pidfd_send_signal", "pipe", "pipe2", "pivot_root", "pkey_alloc", "pkey_free", "pkey_mprotect",
    "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64",
    "process_mrelease", "process_vm_readv", "process_vm_writev", "pselect6", "pselect6_time64",
    "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
    "reboot", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "remap_file_pages",
    "removexattr", "rename", "renameat", "renameat2", "restart_syscall", "rmdir", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send",
    "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "set_mempolicy", "set_robust_list",
    "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid",
    "setgid32", "setgroups", "setgroups32", "setitimer", "setns", "setpgid", "setpriority", "setregid",
    "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
    "setrlimit", "setsid", "setsockopt", "setuid", "setuid32", "setxattr", "shmat", "shmctl", "shmdt",
    "shmget", "shutdown", "sigaltstack", "signal", "signalfd", "signalfd4", "sigprocmask", "sigreturn",
    "socketcall", "socketpair", "splice", "stat", "stat64", "statfs", "statfs64", "statx", "symlink",
    "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo", "syslog", "tee", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
    "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
    "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit",
    "umask", "umount", "umount2", "uname", "unlink", "unlinkat", "unshare", "utime", "utimensat",
    "utimensat_time64", "utimes", "vfork", "wait4", "waitid", "waitpid", "write", "writev",
];

/// Allowed with the capability, EPERM without.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module", "query_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "process_madvise"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// Allowed with SYS_ADMIN, EPERM without. bpf and perf_event_open have capabilities of their own besides.
const ADMINISTRATION: &[&str] =
    &["lookup_dcookie", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns"];

/// Allowed where the architecture (Go's name) has them.
const BY_ARCHITECTURE: &[(&[&str], &[&str])] = &[
    (&["ppc64le"], &["sync_file_range2", "swapcontext"]),
    (&["arm", "arm64"], &["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"]),
    (&["amd64", "x32"], &["arch_prctl"]),
    (&["amd64", "x32", "x86"], &["modify_ldt"]),
    (&["s390", "s390x"], &["s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"]),
    (&["riscv64"], &["riscv_flush_icache"]),
];

/// The personalities that change no protection: Linux, Linux32, both with UNAME26, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Architectures and the others that their kernels run.
const ARCHITECTURES: &[(Arch, &[Arch])] = &[
    (Arch::ScmpArchX86_64, &[Arch::ScmpArchX86, Arch::ScmpArchX32]),
    (Arch::ScmpArchAarch64, &[Arch::ScmpArchArm]),
];

const AF_NETLINK: u64 = 16;
const AF_VSOCK: u64 = 40;
const NETLINK_AUDIT: u64 = 9;

fn argument(index: usize, op: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    builder.build().expect("the builder has a default for every field")
}

fn allow<'a>(names: &'a [&'a str]) -> BuiltIn<'a> {
    BuiltIn {
        names,
        action: LinuxSeccompAction::ScmpActAllow,
        errno: None,
        args: Vec::new(),
        included_caps: &[],
        excluded_caps: &[],
        included_arches: &[],
    }
}

fn refuse<'a>(names: &'a [&'a str], errno: u32) -> BuiltIn<'a> {
    BuiltIn { action: LinuxSeccompAction::ScmpActErrno, errno: Some(errno), ..allow(names) }
}

/// The profile.
pub(super) fn profile() -> Profile {
    use LinuxSeccompOperator::{ScmpCmpEq as Eq, ScmpCmpNe as Ne};
    let mut rules = vec![refuse(REFUSED, EPERM), allow(ALLOWED)];
    rules.extend(PERSONALITIES.map(|value| BuiltIn { args: vec![argument(0, Eq, value)], ..allow(&["personality"]) }));
    for (arches, names) in BY_ARCHITECTURE {
        rules.push(BuiltIn { included_arches: arches, ..allow(names) });
    }
    for (capability, names) in BY_CAPABILITY {
        let capability = std::slice::from_ref(capability);
        rules.push(BuiltIn { included_caps: capability, ..allow(names) });
        rules.push(BuiltIn { excluded_caps: capability, ..refuse(names, EPERM) });
    }
    let admin = &["CAP_SYS_ADMIN"];
    rules.push(BuiltIn { included_caps: admin, ..allow(ADMINISTRATION) });
    rules.push(BuiltIn { excluded_caps: admin, ..refuse(ADMINISTRATION, EPERM) });
    rules.push(BuiltIn { included_caps: admin, ..allow(&["bpf"]) });
    rules.push(BuiltIn { included_caps: &["CAP_BPF"], ..allow(&["bpf"]) });
    rules.push(BuiltIn { excluded_caps: &["CAP_SYS_ADMIN", "CAP_BPF"], ..refuse(&["bpf"], EPERM) });
    // The peer's rules for perf_event_open come to this: a refusal without SYS_ADMIN is the first that applies, so
    // PERFMON alone opens nothing; SYS_ADMIN alone leaves the default ENOSYS, with PERFMON it is allowed.
    rules.push(BuiltIn { excluded_caps: admin, ..refuse(&["perf_event_open"], EPERM) });
    rules.push(BuiltIn { included_caps: &["CAP_PERFMON"], ..allow(&["perf_event_open"]) });
    // Audit messages need AUDIT_WRITE; EINVAL is what a kernel without audit answers. Sockets to the hypervisor reach
    // beyond the container whatever it may otherwise do.
    let audit = &["CAP_AUDIT_WRITE"];
    rules.push(BuiltIn { args: vec![argument(0, Eq, AF_VSOCK)], ..refuse(&["socket"], EPERM) });
    rules.push(BuiltIn {
        args: vec![argument(0, Eq, AF_NETLINK), argument(2, Eq, NETLINK_AUDIT)],
        excluded_caps: audit,
        ..refuse(&["socket"], EINVAL)
    });
    rules.push(BuiltIn {
        args: vec![argument(0, Eq, AF_NETLINK), argument(2, Ne, NETLINK_AUDIT)],
        excluded_caps: audit,
        ..allow(&["socket"])
    });
    rules.push(BuiltIn { args: vec![argument(0, Ne, AF_NETLINK)], excluded_caps: audit, ..allow(&["socket"]) });
    rules.push(BuiltIn { args: vec![argument(0, Ne, AF_VSOCK)], included_caps: audit, ..allow(&["socket"]) });
    Profile::built_in(rules, ARCHITECTURES)
}
