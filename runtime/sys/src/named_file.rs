//! Files that a user names: small ones, which may also be pipes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// Time between two looks whether a FIFO has a writer: the kernel tells nobody of one that writes nothing.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Reads a file to its end, at most `max` bytes of it; a longer one is an error ([`io::ErrorKind::FileTooLarge`]), as is
/// a directory or a device. Of a FIFO, named or made by a shell's `<(…)`, a writer is waited for as long as `patience`
/// says ([`io::ErrorKind::TimedOut`]); one that is there may take as long as it wants.
pub fn read(path: &Path, max: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    if kind.is_fifo() && !wait_for_writer(&file, &mut bytes, patience)? {
        return Ok(bytes);
    }
    // a terminal, and what else a shell passes as /dev/fd/N, may take its time
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    let left = max.saturating_add(1).saturating_sub(bytes.len() as u64);
    file.take(left).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

/// Waits until something writes, or did; `false` if it is at its end already. What was read meanwhile is in `bytes`.
fn wait_for_writer(file: &File, bytes: &mut Vec<u8>, patience: Duration) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        let mut polled = [PollFd::new(file, PollFlags::IN)];
        match poll(&mut polled, Some(&LOOK)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // After a writer that went; before the first one there is no such mark.
        let gone = polled[0].revents().contains(PollFlags::HUP);
        let mut buffer = [0; 4096];
        match (&*file).read(&mut buffer) {
            Ok(0) if gone => return Ok(false),
            Ok(0) if Instant::now() >= end => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing opened this FIFO to write to it; start what writes first",
                ));
            }
            Ok(0) => {}
            Ok(length) => {
                bytes.extend_from_slice(&buffer[..length]);
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    const LONG: Duration = Duration::from_secs(600);

    fn fifo(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn files_and_what_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "content").unwrap();
        assert_eq!(read(&path, 7, LONG).unwrap(), b"content");
        assert_eq!(read(&path, 6, LONG).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(directory.path(), 6, LONG).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(read(Path::new("/dev/zero"), 6, LONG).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(Path::new("/dev/null"), 6, LONG).unwrap(), b"");
    }

    #[test]
    fn a_fifo_without_a_writer_is_not_waited_for_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        assert_eq!(read(&path, 9, Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_fifo_is_read_to_its_end_however_slow_the_writer_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                // longer than a look
                std::thread::sleep(Duration::from_millis(120));
                file.write_all(b"one ").unwrap();
                std::thread::sleep(Duration::from_millis(120));
                file.write_all(b"two").unwrap();
            }
        });
        assert_eq!(read(&path, 7, LONG).unwrap(), b"one two");
        writer.join().unwrap();
    }

    #[test]
    fn a_pipe_that_a_shell_passes() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        writer.write_all(b"text").unwrap();
        drop(writer);
        assert_eq!(read(Path::new(&path), 9, Duration::ZERO).unwrap(), b"text");
        assert_eq!(read(Path::new(&path), 9, Duration::ZERO).unwrap(), b"");
    }
}
