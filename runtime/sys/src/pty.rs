//! Pseudo terminals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// The two ends of a pseudo terminal.
#[derive(Debug)]
pub struct Pair {
    /// The end of the terminal emulator.
    pub master: OwnedFd,
    /// The end of the process.
    pub slave: OwnedFd,
}

/// Opens a new terminal in the devpts file system whose root directory is `devpts`. EXDEV if it is another kind of
/// file system: a hostile root file system may have put anything there.
pub fn open_in(devpts: BorrowedFd<'_>) -> io::Result<Pair> {
    const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    let kind = rustix::fs::fstatfs(devpts)?.f_type;
    if u64::try_from(kind).ok() != Some(DEVPTS_SUPER_MAGIC) {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    pair(rustix::fs::openat(devpts, "ptmx", flags, Mode::empty())?)
}

/// Opens a new terminal in the caller's own /dev/pts.
pub fn open() -> io::Result<Pair> {
    pair(rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

fn pair(master: OwnedFd) -> io::Result<Pair> {
    rustix::pty::unlockpt(&master)?;
    let slave = open_slave(&master)?;
    Ok(Pair { master, slave })
}

/// Opens the other end of a master, whatever mount namespace it lies in.
pub fn open_slave(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, flags)?)
}

/// Sets the size in characters.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Reads the size in characters: rows, columns.
pub fn size(terminal: impl AsFd) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Makes `slave` the controlling terminal of the calling session leader.
pub fn make_controlling(slave: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(slave)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shared_by_both_ends() {
        let pair = open().unwrap();
        resize(&pair.master, 33, 77).unwrap();
        assert_eq!(size(&pair.slave).unwrap(), (33, 77));
    }

    #[test]
    fn other_file_systems_are_refused() {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(open_in(root.as_fd()).is_err());
    }
}
