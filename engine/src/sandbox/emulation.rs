//! Whether this host runs programs of another architecture: the kernel's table of interpreters (binfmt_misc).

use crate::{Error, Result};
use oci::Platform;
use std::path::Path;

/// Where the kernel shows its interpreters.
const TABLE: &str = "/proc/sys/fs/binfmt_misc";
/// Bytes of an ELF header up to and with the machine.
const HEADER: usize = 20;

/// Fails by name where steps for a platform cannot run here.
pub(crate) fn check(platform: &Platform) -> Result<()> {
    let host = Platform::host();
    if platform.os == host.os && runs_natively(&host.architecture, &platform.architecture) {
        return Ok(());
    }
    let what = format!("running steps for {platform} on {host}");
    if platform.os != host.os {
        return Err(Error::unsupported(what, format!("the kernel runs programs for {} only", host.os)));
    }
    let Some(header) = elf_header(&platform.architecture) else {
        return Err(Error::unsupported(what, "no emulator for this architecture is known"));
    };
    match interpreter(Path::new(TABLE), &header) {
        Found::Fixed => Ok(()),
        Found::Loose(name) => Err(Error::unsupported(
            what,
            format!(
                "the emulator {name} is registered without the flag F, so steps do not see it: install qemu-user-static, which registers it with that flag"
            ),
        )),
        Found::None => Err(Error::unsupported(
            what,
            "no emulator for it is registered with the kernel (binfmt_misc): install qemu-user-static",
        )),
    }
}

fn runs_natively(host: &str, wanted: &str) -> bool {
    host == wanted || matches!((host, wanted), ("amd64", "386") | ("arm64", "arm"))
}

/// The first bytes of a program of an architecture.
fn elf_header(architecture: &str) -> Option<[u8; HEADER]> {
    // class (1 = 32 bits), byte order (1 = little), machine number, from the ELF specification and its supplements
    let (class, order, machine): (u8, u8, u16) = match architecture {
        "386" => (1, 1, 3),
        "amd64" => (2, 1, 62),
        "arm" => (1, 1, 40),
        "arm64" => (2, 1, 183),
        "loong64" => (2, 1, 258),
        "mips" => (1, 2, 8),
        "mipsle" => (1, 1, 8),
        "mips64" => (2, 2, 8),
        "mips64le" => (2, 1, 8),
        "ppc64" => (2, 2, 21),
        "ppc64le" => (2, 1, 21),
        "riscv64" => (2, 1, 243),
        "s390x" => (2, 2, 22),
        _ => return None,
    };
    let mut header = [0; HEADER];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
    let number = |value: u16| if order == 1 { value.to_le_bytes() } else { value.to_be_bytes() };
    // an executable
    header[16..18].copy_from_slice(&number(2));
    header[18..20].copy_from_slice(&number(machine));
    Some(header)
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It was opened when it was registered, so that it also works where its file is not to be seen.
    Fixed,
    Loose(String),
    None,
}

/// Looks for an enabled interpreter of programs that begin like this.
fn interpreter(table: &Path, header: &[u8]) -> Found {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    if read(&table.join("status")).trim() != "enabled" {
        return Found::None;
    }
    let Ok(entries) = std::fs::read_dir(table) else { return Found::None };
    let mut found = Found::None;
    for entry in entries.flatten() {
        let text = read(&entry.path());
        let mut lines = text.lines();
        if lines.next() != Some("enabled") {
            continue;
        }
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let Some(magic) = value("magic ").and_then(bytes) else { continue };
        let mask = value("mask ").and_then(bytes).unwrap_or_else(|| vec![0xff; magic.len()]);
        let offset: usize = value("offset ").and_then(|text| text.parse().ok()).unwrap_or(0);
        let matches = magic.len() == mask.len()
            && header.get(offset..offset + magic.len()).is_some_and(|start| {
                start.iter().zip(&magic).zip(&mask).all(|((byte, magic), mask)| byte & mask == magic & mask)
            });
        if !matches {
            continue;
        }
        if value("flags:").is_some_and(|flags| flags.contains('F')) {
            return Found::Fixed;
        }
        found = Found::Loose(entry.file_name().to_string_lossy().into_owned());
    }
    found
}

/// Reads hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_interpreters() {
        let dir = tempfile::tempdir().unwrap();
        let header = elf_header("arm64").unwrap();
        assert_eq!(interpreter(dir.path(), &header), Found::None);
        std::fs::write(dir.path().join("status"), "enabled\n").unwrap();
        let entry = |flags: &str, state: &str| {
            format!(
                "{state}\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: {flags}\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
            )
        };
        let path = dir.path().join("qemu-aarch64");
        std::fs::write(&path, entry("OC", "enabled")).unwrap();
        assert_eq!(interpreter(dir.path(), &header), Found::Loose("qemu-aarch64".into()));
        std::fs::write(&path, entry("POCF", "enabled")).unwrap();
        assert_eq!(interpreter(dir.path(), &header), Found::Fixed);
        assert_eq!(interpreter(dir.path(), &elf_header("s390x").unwrap()), Found::None);
        std::fs::write(&path, entry("POCF", "disabled")).unwrap();
        assert_eq!(interpreter(dir.path(), &header), Found::None);
        assert!(check(&Platform::host()).is_ok());
    }
}
