//! Anonymous files in memory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// A file in memory with this content, positioned at its start, that nobody can change any more.
pub fn sealed(name: &str, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Unknown before Linux 6.3, where every memory file was executable.
    let file = rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))?;
    fill_and_seal(file, parts)
}

/// As [`sealed`], for content that is to be executed.
pub fn sealed_program(name: &str, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(name, flags))?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o755))?;
    fill_and_seal(file, parts)
}

/// An empty file in memory, to write and to read.
pub fn scratch(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC;
    // Unknown before Linux 6.3, where every memory file was executable.
    let file = rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create(name, flags))?;
    Ok(file.into())
}

fn fill_and_seal(file: OwnedFd, parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let mut file = File::from(file);
    for part in parts {
        file.write_all(part)?;
    }
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn sealed_content_is_readable_and_fixed() {
        let mut file = File::from(sealed("test", &[b"ab", b"c"]).unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        assert!(file.write_all(b"x").is_err());
    }
}
