//! A program of some hundred bytes that executes another one.
//!
//! A script that begins with `#!/proc/self/exe`, or a container that opens `/proc/PID/exe` at the right moment, gets
//! hold of the program that called execve (CVE-2019-5736). When that program is this one, in a sealed memory file,
//! there is nothing to overwrite and nothing to run. Costs about 0.1 ms, where a re-exec from a sealed copy of a whole
//! engine costs some ms.
//!
//! Its arguments: the path to execute, a string whose first byte is a descriptor number + 1, then the arguments to pass
//! on. On failure it writes the errno as four bytes in native order to that descriptor and exits with 127; on success
//! the descriptor is closed by the exec.

use std::io;
use std::os::fd::OwnedFd;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.davit_trampoline, \"a\"",
    ".globl davit_trampoline_start",
    ".globl davit_trampoline_end",
    "davit_trampoline_start:",
    "mov r12, rsp",
    "mov rax, [r12 + 16]",
    "movzx r13d, byte ptr [rax]",
    "dec r13d",
    "mov eax, 72", // fcntl(fd, F_SETFD, FD_CLOEXEC)
    "mov edi, r13d",
    "mov esi, 2",
    "mov edx, 1",
    "syscall",
    "mov rax, [r12]",
    "lea rdx, [r12 + rax * 8 + 16]",
    "mov rdi, [r12 + 8]",
    "lea rsi, [r12 + 24]",
    "mov eax, 59", // execve(path, argv + 2, envp)
    "syscall",
    "neg eax",
    "push rax",
    "mov eax, 1", // write(fd, &errno, 4)
    "mov edi, r13d",
    "mov rsi, rsp",
    "mov edx, 4",
    "syscall",
    "mov eax, 231", // exit_group(127)
    "mov edi, 127",
    "syscall",
    "ud2",
    "davit_trampoline_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.davit_trampoline, \"a\"",
    ".balign 4",
    ".globl davit_trampoline_start",
    ".globl davit_trampoline_end",
    "davit_trampoline_start:",
    "mov x19, sp",
    "ldr x1, [x19, #16]",
    "ldrb w20, [x1]",
    "sub w20, w20, #1",
    "mov w0, w20",
    "mov x1, #2",
    "mov x2, #1",
    "mov x8, #25", // fcntl(fd, F_SETFD, FD_CLOEXEC)
    "svc #0",
    "ldr x3, [x19]",
    "add x2, x19, x3, lsl #3",
    "add x2, x2, #16",
    "ldr x0, [x19, #8]",
    "add x1, x19, #24",
    "mov x8, #221", // execve(path, argv + 2, envp)
    "svc #0",
    "neg w0, w0",
    "str w0, [sp, #-16]!",
    "mov w0, w20",
    "mov x1, sp",
    "mov x2, #4",
    "mov x8, #64", // write(fd, &errno, 4)
    "svc #0",
    "mov x0, #127",
    "mov x8, #94", // exit_group(127)
    "svc #0",
    "brk #1",
    "davit_trampoline_end:",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

unsafe extern "C" {
    static davit_trampoline_start: u8;
    static davit_trampoline_end: u8;
}

fn code() -> &'static [u8] {
    let start = &raw const davit_trampoline_start;
    let end = &raw const davit_trampoline_end;
    // The assembler's symbols are only reachable as foreign statics.
    // SAFETY: both symbols delimit one read-only stretch of this program, emitted above, that is never written.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The program as an ELF file in memory, sealed, to be given to `execveat`.
pub fn program() -> io::Result<OwnedFd> {
    crate::memfd::sealed_program("davit-exec", &[&elf(code())])
}

/// A static program of this code, which begins at its first byte.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 2 * 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = Vec::with_capacity(512);
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend(2_u16.to_le_bytes()); // ET_EXEC
    elf.extend(MACHINE.to_le_bytes());
    elf.extend(1_u32.to_le_bytes());
    elf.extend((BASE + HEADERS).to_le_bytes()); // entry
    elf.extend(64_u64.to_le_bytes()); // program headers
    elf.extend(0_u64.to_le_bytes()); // no sections
    elf.extend(0_u32.to_le_bytes());
    for field in [64_u16, 56, 2, 64, 0, 0] {
        elf.extend(field.to_le_bytes());
    }
    let (load, stack) = (1_u32, 0x6474_e551_u32); // PT_LOAD, PT_GNU_STACK
    for (kind, flags, base, size, align) in [(load, 5_u32, BASE, size, 0x1_0000_u64), (stack, 6, 0, 0, 16)] {
        elf.extend(kind.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for field in [0, base, base, size, size, align] {
            elf.extend(field.to_le_bytes());
        }
    }
    elf.extend_from_slice(code);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn run(path: &str) -> (Option<i32>, Vec<u8>, Vec<u8>) {
        let program = program().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
        let number = [u8::try_from(writer.as_raw_fd() + 1).unwrap()];
        let output = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0(path)
            .arg(std::str::from_utf8(&number).unwrap())
            .args(["sh", "-c", "echo $0-$A; ls /proc/self/fd | wc -l", "zero"])
            .env("A", "env")
            .output()
            .unwrap();
        drop(writer);
        let mut report = Vec::new();
        reader.read_to_end(&mut report).unwrap();
        (output.status.code(), output.stdout, report)
    }

    #[test]
    fn passes_arguments_and_environment_on() {
        let (code, stdout, report) = run("/bin/sh");
        assert_eq!((code, report.len()), (Some(0), 0));
        assert!(stdout.starts_with(b"zero-env\n"));
    }

    #[test]
    fn reports_the_errno() {
        let (code, _, report) = run("/nonexistent");
        assert_eq!(code, Some(127));
        assert_eq!(report, libc::ENOENT.to_ne_bytes());
    }
}
