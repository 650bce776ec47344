//! What the running kernel can do, asked once a process.

use std::io;
use std::sync::OnceLock;

/// A kernel version, the first two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the leading `MAJOR.MINOR` of a release string; what cannot be read is 0.
    #[must_use]
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        Self { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
    }
}

/// The answers of the probes.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Version of the running kernel.
    pub kernel: KernelVersion,
    /// `clone3` (5.3); containers inside a filter that answers ENOSYS do not have it.
    pub clone3: bool,
    /// `openat2` (5.6).
    pub openat2: bool,
    /// `pidfd_open` (5.3).
    pub pidfd_open: bool,
    /// `close_range` (5.9).
    pub close_range: bool,
    /// `fsopen`, `open_tree`, `move_mount` (5.2).
    pub mount_api: bool,
    /// `mount_setattr` (5.12), with it id-mapped mounts.
    pub mount_setattr: bool,
    /// seccomp filters.
    pub seccomp: bool,
    /// seccomp notifications (5.0).
    pub seccomp_notify: bool,
}

/// Returns what the kernel can do; the first call asks it.
pub fn features() -> &'static Features {
    static FEATURES: OnceLock<Features> = OnceLock::new();
    FEATURES.get_or_init(probe)
}

fn probe() -> Features {
    let uname = rustix::system::uname();
    // Every probe passes arguments that the call itself refuses, so nothing happens where it exists.
    Features {
        kernel: KernelVersion::parse(&uname.release().to_string_lossy()),
        clone3: exists(libc::SYS_clone3, [0, 0, 0, 0, 0]),
        openat2: exists(libc::SYS_openat2, [-1, 0, 0, 0, 0]),
        pidfd_open: exists(libc::SYS_pidfd_open, [-1, -1, 0, 0, 0]),
        close_range: exists(libc::SYS_close_range, [1, 0, 0, 0, 0]),
        mount_api: exists(libc::SYS_open_tree, [-1, 0, -1, 0, 0])
            && exists(libc::SYS_move_mount, [-1, 0, -1, 0, -1]),
        mount_setattr: exists(libc::SYS_mount_setattr, [-1, 0, -1, 0, 0]),
        seccomp: crate::seccomp_load::action_available(0x0005_0000),
        seccomp_notify: crate::seccomp_load::action_available(0x7fc0_0000),
    }
}

fn exists(number: libc::c_long, arguments: [libc::c_long; 5]) -> bool {
    let [a, b, c, d, e] = arguments;
    // No safe wrapper calls a system call by number.
    // SAFETY: the callers above pass null addresses and impossible descriptors or ranges only, which each of these
    // calls checks before it does anything.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    !(result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(KernelVersion::parse("6.18.44-fc-v669"), KernelVersion { major: 6, minor: 18 });
        assert_eq!(KernelVersion::parse("5"), KernelVersion { major: 5, minor: 0 });
        assert!(KernelVersion::parse("5.10") > KernelVersion::parse("5.9"));
    }

    #[test]
    fn probes_change_nothing_and_answer() {
        let features = features();
        assert!(features.kernel.major >= 4);
        assert!(features.openat2 && features.pidfd_open, "{features:?}");
        assert!(features.clone3 && features.mount_api && features.close_range, "{features:?}");
    }
}
