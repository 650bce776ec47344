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
//!
//! A label of AppArmor or SELinux takes effect at the next execve, which must be that of the program and not that of this
//! one; and the kernel lets nobody but the opener's own image write it. So where the second argument goes on, this
//! program writes it: its second byte is the number + 1 of a descriptor of `/proc/thread-self`, the rest is what goes to
//! `attr/exec` there. Where that fails, [`LABEL_FAILED`] is added to the errno.

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
    "mov r14, [r12 + 16]",
    "movzx r15d, byte ptr [r14 + 1]",
    "test r15d, r15d",
    "jz 5f",
    "dec r15d",
    "mov eax, 257", // openat(directory, "attr/exec", O_WRONLY | O_CLOEXEC)
    "mov edi, r15d",
    "lea rsi, [rip + 7f]",
    "mov edx, 0x80001",
    "xor r10d, r10d",
    "syscall",
    "test eax, eax",
    "js 6f",
    "mov ebx, eax",
    "mov eax, 3", // close(directory)
    "mov edi, r15d",
    "syscall",
    "lea rsi, [r14 + 2]",
    "xor edx, edx",
    "2:",
    "cmp byte ptr [rsi + rdx], 0",
    "je 3f",
    "inc edx",
    "jmp 2b",
    "3:",
    "mov eax, 1", // write(file, label, length)
    "mov edi, ebx",
    "syscall",
    "test eax, eax",
    "js 6f",
    "5:",
    "mov rax, [r12]",
    "lea rdx, [r12 + rax * 8 + 16]",
    "mov rdi, [r12 + 8]",
    "lea rsi, [r12 + 24]",
    "mov eax, 59", // execve(path, argv + 2, envp)
    "syscall",
    "neg eax",
    "jmp 8f",
    "6:",
    "neg eax",
    "or eax, 0x10000",
    "8:",
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
    "7:",
    ".asciz \"attr/exec\"",
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
    "ldr x21, [x19, #16]",
    "ldrb w22, [x21, #1]",
    "cbz w22, 5f",
    "sub w22, w22, #1",
    "mov w0, w22",
    "adr x1, 7f",
    "mov x2, #1",
    "movk x2, #8, lsl #16",
    "mov x3, #0",
    "mov x8, #56", // openat(directory, "attr/exec", O_WRONLY | O_CLOEXEC)
    "svc #0",
    "tbnz w0, #31, 6f",
    "mov w23, w0",
    "mov w0, w22",
    "mov x8, #57", // close(directory)
    "svc #0",
    "add x1, x21, #2",
    "mov x2, #0",
    "2:",
    "ldrb w3, [x1, x2]",
    "cbz w3, 3f",
    "add x2, x2, #1",
    "b 2b",
    "3:",
    "mov w0, w23",
    "mov x8, #64", // write(file, label, length)
    "svc #0",
    "tbnz w0, #31, 6f",
    "5:",
    "ldr x3, [x19]",
    "add x2, x19, x3, lsl #3",
    "add x2, x2, #16",
    "ldr x0, [x19, #8]",
    "add x1, x19, #24",
    "mov x8, #221", // execve(path, argv + 2, envp)
    "svc #0",
    "neg w0, w0",
    "b 8f",
    "6:",
    "neg w0, w0",
    "orr w0, w0, #0x10000",
    "8:",
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
    "7:",
    ".asciz \"attr/exec\"",
    ".balign 4",
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

/// Added to the errno that is reported where the label could not be written.
pub const LABEL_FAILED: i32 = 0x1_0000;

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
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn run(path: &str, label: Option<(&File, &str)>) -> (Option<i32>, Vec<u8>, Vec<u8>) {
        let program = program().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::fcntl_setfd(&program, rustix::io::FdFlags::empty()).unwrap();
        rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).unwrap();
        let byte = |number: i32| u8::try_from(number + 1).unwrap();
        let mut second = vec![byte(writer.as_raw_fd())];
        if let Some((directory, text)) = label {
            rustix::io::fcntl_setfd(directory, rustix::io::FdFlags::empty()).unwrap();
            second.push(byte(directory.as_raw_fd()));
            second.extend(text.as_bytes());
        }
        let output = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0(path)
            .arg(OsStr::from_bytes(&second))
            .args(["sh", "-c", "echo $0-$A; ls -l /proc/self/fd", "zero"])
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
        let (code, stdout, report) = run("/bin/sh", None);
        assert_eq!((code, report.len()), (Some(0), 0));
        assert!(stdout.starts_with(b"zero-env\n"));
    }

    #[test]
    fn reports_the_errno() {
        let (code, _, report) = run("/nonexistent", None);
        assert_eq!(code, Some(127));
        assert_eq!(report, libc::ENOENT.to_ne_bytes());
    }

    #[test]
    fn writes_the_label_before_the_program_and_keeps_nothing_open() {
        let directory = tempfile::tempdir().unwrap();
        let open = File::open(directory.path()).unwrap();
        let (code, stdout, report) = run("/bin/sh", Some((&open, "exec profile")));
        assert_eq!((code, &stdout[..]), (Some(127), &b""[..]), "the program ran without its label");
        assert_eq!(report, (libc::ENOENT | LABEL_FAILED).to_ne_bytes());
        std::fs::create_dir(directory.path().join("attr")).unwrap();
        let file = directory.path().join("attr/exec");
        std::fs::write(&file, "").unwrap();
        let (code, stdout, report) = run("/bin/sh", Some((&open, "exec profile")));
        assert_eq!((code, report.len()), (Some(0), 0));
        let stdout = String::from_utf8(stdout).unwrap();
        assert!(stdout.starts_with("zero-env\n"), "{stdout}");
        assert!(!stdout.contains(directory.path().to_str().unwrap()), "{stdout}");
        assert_eq!(std::fs::read(&file).unwrap(), b"exec profile");
    }
}
