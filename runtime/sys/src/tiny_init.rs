//! An init of some hundred bytes: executes a program as its child, hands signals on to it, reaps everything, and ends
//! with the program's exit code.
//!
//! A program that runs as the first process of a PID namespace ignores signals that it has no handler for and inherits
//! children that it never waits for; this one stands in its place (`run --init`). Like the [`crate::trampoline`] it is a
//! sealed file in memory that holds nothing else; it never allocates, and its whole memory is a page of stack.
//!
//! Behind the code lies what it is told: a descriptor number, then the path to execute. Its arguments: its own name, `--`,
//! then those to pass on. That the execution failed is written as four bytes, the errno in native order, to the
//! descriptor; on success the descriptor is closed.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.davit_init, \"a\"",
    ".globl davit_init_start",
    ".globl davit_init_end",
    "davit_init_start:",
    "mov r12, rsp",
    "lea r14, [rip + davit_init_end]",
    "movzx r13d, byte ptr [r14]",
    "inc r14",
    "sub rsp, 64",
    "mov eax, 157", // prctl(PR_SET_CHILD_SUBREAPER, 1)
    "mov edi, 36",
    "mov esi, 1",
    "syscall",
    "mov qword ptr [rsp], -1",
    "mov eax, 14", // rt_sigprocmask(SIG_BLOCK, all, &old, 8)
    "xor edi, edi",
    "mov rsi, rsp",
    "lea rdx, [rsp + 8]",
    "mov r10d, 8",
    "syscall",
    "mov eax, 72", // fcntl(fd, F_SETFD, FD_CLOEXEC)
    "mov edi, r13d",
    "mov esi, 2",
    "mov edx, 1",
    "syscall",
    "mov eax, 57", // fork()
    "syscall",
    "test eax, eax",
    "js 8f",
    "jz 5f",
    "mov r15d, eax",
    "mov eax, 3", // close(fd)
    "mov edi, r13d",
    "syscall",
    "2:",
    "mov eax, 128", // rt_sigtimedwait(all, NULL, NULL, 8)
    "mov rdi, rsp",
    "xor esi, esi",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "test eax, eax",
    "jle 2b",
    "cmp eax, 17", // SIGCHLD
    "je 3f",
    "mov esi, eax",
    "mov edi, r15d",
    "mov eax, 62", // kill(child, signal)
    "syscall",
    "jmp 2b",
    "3:",
    "mov eax, 61", // wait4(-1, &status, WNOHANG, NULL)
    "mov rdi, -1",
    "lea rsi, [rsp + 16]",
    "mov edx, 1",
    "xor r10d, r10d",
    "syscall",
    "test eax, eax",
    "jle 2b",
    "cmp eax, r15d",
    "jne 3b",
    "mov eax, [rsp + 16]",
    "mov edi, eax",
    "and edi, 0x7f",
    "jnz 4f",
    "shr eax, 8",
    "movzx edi, al",
    "jmp 9f",
    "4:",
    "add edi, 128",
    "jmp 9f",
    "5:",
    "mov eax, 109", // setpgid(0, 0): the terminal's signals go to the program alone
    "xor edi, edi",
    "xor esi, esi",
    "syscall",
    "mov eax, 39", // getpid()
    "syscall",
    "mov [rsp + 16], eax",
    "mov eax, 16", // ioctl(0, TIOCSPGRP, &pid)
    "xor edi, edi",
    "mov esi, 0x5410",
    "lea rdx, [rsp + 16]",
    "syscall",
    "mov eax, 157", // prctl(PR_SET_PDEATHSIG, SIGKILL)
    "mov edi, 1",
    "mov esi, 9",
    "syscall",
    "mov eax, 14", // rt_sigprocmask(SIG_SETMASK, &old, NULL, 8)
    "mov edi, 2",
    "lea rsi, [rsp + 8]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "mov rax, [r12]",
    "lea rdx, [r12 + rax * 8 + 16]",
    "mov rdi, r14",
    "lea rsi, [r12 + 24]",
    "mov eax, 59", // execve(path, argv + 2, envp)
    "syscall",
    "8:",
    "neg eax",
    "mov [rsp + 16], eax",
    "mov eax, 1", // write(fd, &errno, 4)
    "mov edi, r13d",
    "lea rsi, [rsp + 16]",
    "mov edx, 4",
    "syscall",
    "mov edi, 127",
    "9:",
    "mov eax, 231", // exit_group(code)
    "syscall",
    "ud2",
    "davit_init_end:",
    ".byte 0",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.davit_init, \"a\"",
    ".balign 4",
    ".globl davit_init_start",
    ".globl davit_init_end",
    "davit_init_start:",
    "mov x19, sp",
    "adr x21, davit_init_end",
    "ldrb w20, [x21]",
    "add x21, x21, #1",
    "sub sp, sp, #64",
    "mov x0, #36", // prctl(PR_SET_CHILD_SUBREAPER, 1)
    "mov x1, #1",
    "mov x8, #167",
    "svc #0",
    "mov x0, #-1",
    "str x0, [sp]",
    "mov x0, #0", // rt_sigprocmask(SIG_BLOCK, all, &old, 8)
    "mov x1, sp",
    "add x2, sp, #8",
    "mov x3, #8",
    "mov x8, #135",
    "svc #0",
    "mov w0, w20", // fcntl(fd, F_SETFD, FD_CLOEXEC)
    "mov x1, #2",
    "mov x2, #1",
    "mov x8, #25",
    "svc #0",
    "mov x0, #17", // clone(SIGCHLD, 0, 0, 0, 0)
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x4, #0",
    "mov x8, #220",
    "svc #0",
    "tbnz w0, #31, 8f",
    "cbz w0, 5f",
    "mov w22, w0",
    "mov w0, w20", // close(fd)
    "mov x8, #57",
    "svc #0",
    "2:",
    "mov x0, sp", // rt_sigtimedwait(all, NULL, NULL, 8)
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #8",
    "mov x8, #137",
    "svc #0",
    "cmp w0, #0",
    "b.le 2b",
    "cmp w0, #17", // SIGCHLD
    "b.eq 3f",
    "mov w1, w0", // kill(child, signal)
    "mov w0, w22",
    "mov x8, #129",
    "svc #0",
    "b 2b",
    "3:",
    "mov x0, #-1", // wait4(-1, &status, WNOHANG, NULL)
    "add x1, sp, #16",
    "mov x2, #1",
    "mov x3, #0",
    "mov x8, #260",
    "svc #0",
    "cmp w0, #0",
    "b.le 2b",
    "cmp w0, w22",
    "b.ne 3b",
    "ldr w1, [sp, #16]",
    "ands w0, w1, #0x7f",
    "b.ne 4f",
    "ubfx w0, w1, #8, #8",
    "b 9f",
    "4:",
    "add w0, w0, #128",
    "b 9f",
    "5:",
    "mov x0, #0", // setpgid(0, 0): the terminal's signals go to the program alone
    "mov x1, #0",
    "mov x8, #154",
    "svc #0",
    "mov x8, #172", // getpid()
    "svc #0",
    "str w0, [sp, #16]",
    "mov x0, #0", // ioctl(0, TIOCSPGRP, &pid)
    "mov x1, #0x5410",
    "add x2, sp, #16",
    "mov x8, #29",
    "svc #0",
    "mov x0, #1", // prctl(PR_SET_PDEATHSIG, SIGKILL)
    "mov x1, #9",
    "mov x8, #167",
    "svc #0",
    "mov x0, #2", // rt_sigprocmask(SIG_SETMASK, &old, NULL, 8)
    "add x1, sp, #8",
    "mov x2, #0",
    "mov x3, #8",
    "mov x8, #135",
    "svc #0",
    "ldr x3, [x19]",
    "add x2, x19, x3, lsl #3",
    "add x2, x2, #16",
    "mov x0, x21",
    "add x1, x19, #24",
    "mov x8, #221", // execve(path, argv + 2, envp)
    "svc #0",
    "8:",
    "neg w0, w0",
    "str w0, [sp, #16]",
    "mov w0, w20", // write(fd, &errno, 4)
    "add x1, sp, #16",
    "mov x2, #4",
    "mov x8, #64",
    "svc #0",
    "mov x0, #127",
    "9:",
    "mov x8, #94", // exit_group(code)
    "svc #0",
    "brk #1",
    "davit_init_end:",
    ".byte 0",
    ".popsection",
);

unsafe extern "C" {
    static davit_init_start: u8;
    static davit_init_end: u8;
}

fn code() -> &'static [u8] {
    let start = &raw const davit_init_start;
    let end = &raw const davit_init_end;
    // The assembler's symbols are only reachable as foreign statics.
    // SAFETY: both symbols delimit one read-only stretch of this program, emitted above, that is never written.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The init as an ELF file in memory, sealed, to be given to `execveat`: it executes `path` and reports to the
/// descriptor `number`.
pub fn program(path: &CStr, number: u8) -> io::Result<OwnedFd> {
    let elf = crate::trampoline::elf(&[code(), &[number], path.to_bytes_with_nul()].concat());
    crate::memfd::sealed_program("davit-init", &[&elf])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    fn start(path: &CStr, script: &str) -> (Child, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        let number = u8::try_from(writer.as_raw_fd()).unwrap();
        let program = program(path, number).unwrap();
        for descriptor in [program.as_raw_fd(), writer.as_raw_fd()] {
            // SAFETY: both are open and owned here.
            let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
            rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::empty()).unwrap();
        }
        let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("/run/podman-init")
            .args(["--", "sh", "-c", script, "zero"])
            .env("A", "env")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        (child, reader)
    }

    fn output(child: &mut Child) -> String {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_programs_end_is_its_own() {
        let (mut child, mut report) = start(c"/bin/sh", "echo $0-$A; exit 7");
        assert_eq!(output(&mut child), "zero-env\n");
        assert_eq!(child.wait().unwrap().code(), Some(7));
        let mut bytes = Vec::new();
        report.read_to_end(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        let (mut child, _) = start(c"/bin/sh", "kill -9 $$");
        assert_eq!(child.wait().unwrap().code(), Some(137));
    }

    #[test]
    fn signals_are_handed_on_and_orphans_reaped() {
        // the orphan's new parent is the init, which must not take its end for the program's
        let script = "trap 'echo got; exit 3' TERM; (sleep 0.1 &) ; echo ready; while :; do sleep 0.05; done";
        let (mut child, _report) = start(c"/bin/sh", script);
        let mut out = child.stdout.take().unwrap();
        let mut byte = [0; 6];
        out.read_exact(&mut byte).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none());
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(3), None));
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "got\n");
    }

    #[test]
    fn a_failure_is_reported() {
        let (mut child, mut report) = start(c"/nonexistent", "");
        assert_eq!(child.wait().unwrap().code(), Some(127));
        let mut bytes = Vec::new();
        report.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, libc::ENOENT.to_ne_bytes());
    }
}
