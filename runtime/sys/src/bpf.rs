//! bpf(2) as far as cgroup device programs need it: load, attach, replace, detach.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One extended BPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Operation code.
    pub code: u8,
    /// Destination register in the low, source register in the high four bits.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;
const F_REPLACE: u32 = 4;

// The kernel takes the length of the attribute and treats what is missing as zero, so each call passes only the
// part of `union bpf_attr` that it uses. Pointers travel as u64.
#[repr(C)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
struct QueryAttr {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    let attr: *mut T = attr;
    // No safe wrapper exists for bpf(2).
    // SAFETY: `attr` points to a live, exclusively borrowed, `repr(C)` value of the length passed; the addresses in it
    // are of buffers that the callers in this file keep alive over the call and whose lengths it states.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn owned(raw: i32) -> OwnedFd {
    // SAFETY: only called with a descriptor that bpf(2) has just returned (close-on-exec, by the kernel), which nothing
    // else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Loads a program that judges device accesses of a cgroup: it returns 1 to allow, 0 to refuse.
///
/// # Errors
/// EPERM without CAP_BPF or CAP_SYS_ADMIN in the initial user namespace, EINVAL or EACCES when the verifier refuses it.
pub fn load_cgroup_device(program: &[Instruction]) -> io::Result<OwnedFd> {
    let instruction_count =
        u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let license = c"Apache-2.0";
    let mut attr = LoadAttr {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    bpf(PROG_LOAD, &mut attr).map(owned)
}

/// Attaches a device program to a cgroup v2 directory, in the place of those that are attached to it already.
///
/// Programs of the directories above stay in force: an access must pass them all.
///
/// # Errors
/// The kernel's; EINVAL or EPERM where an ancestor's program forbids more.
pub fn set_cgroup_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let old = cgroup_device_programs(cgroup)?;
    if let [only] = &old[..] {
        // One step, so that no instant is without a filter.
        let replace =
            attach(cgroup, program, F_ALLOW_MULTI | F_REPLACE, number(std::os::fd::AsFd::as_fd(only)));
        if replace.is_ok() {
            return replace;
        }
    }
    attach(cgroup, program, F_ALLOW_MULTI, 0)?;
    for other in &old {
        let mut attr = AttachAttr {
            target: number(cgroup),
            program: number(std::os::fd::AsFd::as_fd(other)),
            attach_type: CGROUP_DEVICE,
            flags: 0,
            replaced: 0,
        };
        bpf(PROG_DETACH, &mut attr)?;
    }
    Ok(())
}

fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, flags: u32, replaced: u32) -> io::Result<()> {
    let mut attr = AttachAttr {
        target: number(cgroup),
        program: number(program),
        attach_type: CGROUP_DEVICE,
        flags,
        replaced,
    };
    bpf(PROG_ATTACH, &mut attr).map(|_| ())
}

/// Opens the device programs attached to this very cgroup directory.
///
/// # Errors
/// The kernel's.
pub fn cgroup_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut attr = QueryAttr {
        target: number(cgroup),
        attach_type: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
    };
    bpf(PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.count).unwrap_or(0).min(ids.len());
    let mut programs = Vec::with_capacity(count);
    for id in &ids[..count] {
        let mut attr = IdAttr { id: *id, next_id: 0, open_flags: 0 };
        match bpf(PROG_GET_FD_BY_ID, &mut attr) {
            Ok(raw) => programs.push(owned(raw)),
            // Detached between the two calls.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_takes_a_program_and_refuses_nonsense() {
        // r0 = 1; exit
        let allow = [
            Instruction { code: 0xb7, registers: 0, offset: 0, immediate: 1 },
            Instruction { code: 0x95, ..Instruction::default() },
        ];
        match load_cgroup_device(&allow) {
            Ok(_) => {
                let bad = [Instruction { code: 0x95, ..Instruction::default() }];
                assert!(load_cgroup_device(&bad).is_err(), "exit without r0 must not verify");
            }
            Err(error) => assert!(
                matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EINVAL)),
                "{error}"
            ),
        }
    }
}
