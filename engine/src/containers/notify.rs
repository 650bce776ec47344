//! `--sdnotify`: what systemd is told of a container that a unit runs.
//!
//! The service manager names a socket in `NOTIFY_SOCKET` and takes datagrams from the unit's processes. In the mode
//! `container` the program gets a socket of its own at /run/notify, whose `READY=1` the monitor passes on; in the others
//! davit speaks.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::options::SdNotify;
use crate::state::{ContainerRecord, files};
use crate::{Engine, Error, Result};

/// File of the run directory that holds the manager's socket for the mode `healthy`.
const SOCKET: &str = "notify.socket";

/// Tells the manager who the main process is, and in the mode `conmon` that it is ready.
pub(super) fn started(engine: &Engine, record: &ContainerRecord, monitor: u32) -> Result<()> {
    let Some(socket) = engine.config().notify_socket.as_deref() else { return Ok(()) };
    let mut text = format!("MAINPID={monitor}");
    match record.settings.sdnotify {
        SdNotify::Ignore => return Ok(()),
        SdNotify::Conmon => text.push_str("\nREADY=1"),
        SdNotify::Healthy => {
            let path = engine.state().run_directory(&record.id).join(SOCKET);
            files::write(&path, socket.as_os_str().as_bytes(), 0o600, false)?;
        }
        SdNotify::Container => {}
    }
    send(socket, &text);
    Ok(())
}

/// The first healthy result.
pub(super) fn healthy(engine: &Engine, record: &ContainerRecord) {
    if record.settings.sdnotify != SdNotify::Healthy {
        return;
    }
    let path = engine.state().run_directory(&record.id).join(SOCKET);
    if let Ok(Some(socket)) = files::read(&path) {
        send(Path::new(std::ffi::OsStr::from_bytes(&socket)), "READY=1");
    }
}

/// Nobody may listen any more; the container runs all the same.
fn send(socket: &Path, text: &str) {
    let bytes = socket.as_os_str().as_bytes();
    let Ok(sender) = UnixDatagram::unbound() else { return };
    if let [b'@', name @ ..] = bytes {
        use std::os::linux::net::SocketAddrExt;
        if let Ok(address) = std::os::unix::net::SocketAddr::from_abstract_name(name) {
            let _ = sender.send_to_addr(text.as_bytes(), &address);
        }
        return;
    }
    let _ = sender.send_to(text.as_bytes(), socket);
}

/// The socket on which a container's program may say that it is ready.
#[derive(Debug)]
pub(super) struct Relay {
    /// The monitor's end.
    pub(super) socket: OwnedFd,
    /// Directory that the container sees at /run/notify.
    pub(super) directory: PathBuf,
    /// The manager's socket.
    pub(super) manager: PathBuf,
}

impl Relay {
    /// Opens it where a manager listens and the program is to speak.
    pub(super) fn open(engine: &Engine, record: &ContainerRecord, run_dir: &Path) -> Result<Option<Self>> {
        let Some(manager) = engine.config().notify_socket.clone() else { return Ok(None) };
        if record.settings.sdnotify != SdNotify::Container {
            return Ok(None);
        }
        let failed = |error: std::io::Error| Error::os("listen for the container's readiness", error);
        let directory = run_dir.join("notify");
        files::create_directory(&directory)?;
        // the path may be longer than an address holds
        let held = sys::beneath::open_root(&directory).map_err(failed)?;
        let socket =
            UnixDatagram::bind(format!("/proc/self/fd/{}/notify.sock", held.as_raw_fd())).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // whoever runs inside may speak
        for (name, mode) in [("notify.sock", 0o777), (".", 0o755)] {
            let mode = rustix::fs::Mode::from_raw_mode(mode);
            rustix::fs::chmodat(&held, name, mode, rustix::fs::AtFlags::empty())
                .map_err(|error| failed(error.into()))?;
        }
        Ok(Some(Self { socket: socket.into(), directory, manager }))
    }
}
