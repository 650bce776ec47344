//! seccomp(2): installs a compiled filter on the calling thread.
//!
//! The caller compiles the filter beforehand; nothing here allocates, so it may run between fork and exec.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One classic BPF instruction (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation code.
    pub code: u16,
    /// Instructions to skip when a jump's condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_TSYNC`: applies the filter to all threads of the process.
pub const FLAG_TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`: logs every action but allow.
pub const FLAG_LOG: u32 = 2;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: leaves speculative store bypass alone.
pub const FLAG_SPEC_ALLOW: u32 = 4;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the call returns a notification descriptor.
pub const FLAG_NEW_LISTENER: u32 = 8;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: a thread that cannot be synchronised is ESRCH, so that TSYNC and
/// NEW_LISTENER can be asked together (Linux 5.7).
pub const FLAG_TSYNC_ESRCH: u32 = 16;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: a notified call waits so that only fatal signals wake it (Linux 5.19).
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 32;

const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_uint = 2;

#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// Installs `program` on the calling thread; from here on it judges every call, `execve` included.
///
/// Needs `no_new_privs` or CAP_SYS_ADMIN in the thread's user namespace. With [`FLAG_NEW_LISTENER`] the notification
/// descriptor is returned (close-on-exec, by the kernel). Does not allocate.
///
/// # Errors
/// The kernel's: EINVAL for a malformed program or an unknown flag, EACCES without the privilege.
pub fn install(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { len, filter: program.as_ptr() };
    // No safe wrapper exists for seccomp(2).
    // SAFETY: `program` and the slice it points to are alive and readable for the whole call, with the layout of
    // `struct sock_fprog`; the kernel copies them and keeps no reference.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags as libc::c_ulong, &raw const program)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        return if result == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    let raw = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
}

/// Tells whether the kernel knows a filter action, given as `SECCOMP_RET_*`.
#[must_use]
pub fn action_available(action: u32) -> bool {
    // SAFETY: the kernel reads one u32 at the address, which is a live local variable.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0 as libc::c_ulong, &raw const action) == 0 }
}

/// Tells whether the kernel knows the filter `flags`.
#[must_use]
pub fn flags_available(flags: u32) -> bool {
    let nowhere: *const Program = std::ptr::null();
    // A null program fails with EFAULT once the flags were accepted and with EINVAL when they were not.
    // SAFETY: a null pointer is what this probe is about; the kernel checks it and changes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags as libc::c_ulong, nowhere) };
    result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_answer() {
        assert!(action_available(0x7fff_0000));
        assert!(!action_available(0x1234_0000));
        assert!(flags_available(FLAG_TSYNC));
        assert!(!flags_available(1 << 20));
    }

    #[test]
    fn a_filter_judges_the_thread_that_loads_it() {
        // ld nr; getppid -> ERRNO 77; else allow.
        let nr = u32::try_from(libc::SYS_getppid).unwrap();
        let program = [
            Instruction { code: 0x20, jt: 0, jf: 0, k: 0 },
            Instruction { code: 0x15, jt: 0, jf: 1, k: nr },
            Instruction { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | 77 },
            Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
        ];
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(install(&program, 0).unwrap().is_none());
            // SAFETY: getppid takes no argument and touches no memory.
            let result = unsafe { libc::syscall(libc::SYS_getppid) };
            assert_eq!((result, io::Error::last_os_error().raw_os_error()), (-1, Some(77)));
        })
        .join()
        .unwrap();
        assert_eq!(install(&[], 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
