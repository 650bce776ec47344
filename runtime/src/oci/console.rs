//! The terminal on its way to who asked for it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Error, Result};

/// Connects to a Unix socket of any path length.
pub(super) fn connect(path: &Path, kind: SocketType) -> Result<OwnedFd> {
    let attempt = || {
        let (Some(name), parent) = (path.file_name(), path.parent()) else {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
        };
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = sys::beneath::open_root(parent)?;
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(short)?)?;
        Ok(socket)
    };
    attempt().map_err(|error: std::io::Error| Error::os(format!("connect to {}", path.display()), error))
}

/// Sends a terminal's master to the socket of `--console-socket`.
pub(super) fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    sys::scm::send(socket, b"/dev/ptmx", &[master.as_fd()])
        .map_err(|error| Error::os("send the terminal to the console socket", error))
}
