//! sd_notify: the program says that it is ready to a socket of ours, and we say so to who started us.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::{Error, Result};

const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// Where the container sees the directory.
const PLACE: &str = "/run/notify";

/// Lets the container find the socket: the directory, because the socket itself is made at the start.
pub(super) fn add_to_spec(container: &Path, spec: &mut Spec) -> Result<()> {
    let directory = container.join(DIRECTORY);
    sys::fs::create_dir(&directory, 0o755)?;
    let mut mount = Mount::default();
    mount.set_destination(PLACE.into());
    mount.set_typ(Some("bind".into()));
    mount.set_source(Some(directory));
    mount.set_options(Some(vec!["bind".into(), "nosuid".into(), "nodev".into(), "noexec".into()]));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|pair| !pair.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={PLACE}/{SOCKET}"));
        process.set_env(Some(env));
    }
    Ok(())
}

/// Listens where the container was told to report; `None` where it was not.
pub(super) fn listen(container: &Path) -> Result<Option<OwnedFd>> {
    let path = container.join(DIRECTORY);
    if !sys::fs::exists(&path)? {
        return Ok(None);
    }
    let attempt = || {
        let directory = sys::beneath::open_root(&path)?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let place = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        match rustix::fs::unlink(&place) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(io::Error::from(errno)),
        }
        rustix::net::bind(&socket, &SocketAddrUnix::new(&place)?)?;
        // Whatever user the program is.
        rustix::fs::chmod(&place, rustix::fs::Mode::from_raw_mode(0o777))?;
        Ok(socket)
    };
    attempt().map(Some).map_err(|error| Error::os(format!("listen in {}", path.display()), error))
}

/// Waits until the program says that it is ready, or has ended, and says so to `outside`.
pub(super) fn forward(socket: &OwnedFd, pid: u32, process: &OwnedFd, outside: &Path) -> Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let mut entries = [PollFd::new(socket, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
        match poll(&mut entries, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(Error::os("wait for the container to be ready", errno)),
        }
        if entries[0].revents().is_empty() {
            return Ok(());
        }
        let length = match rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(Error::os("wait for the container to be ready", errno)),
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.lines().any(|line| line == "READY=1") {
            return tell(outside, &format!("MAINPID={pid}\nREADY=1\n"));
        }
    }
}

fn tell(outside: &Path, text: &str) -> Result<()> {
    let attempt = || {
        let name = outside.to_str().and_then(|path| path.strip_prefix('@'));
        let address = match name {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
            None => SocketAddrUnix::new(PathBuf::from(outside))?,
        };
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::sendto(&socket, text.as_bytes(), SendFlags::NOSIGNAL, &address)
    };
    attempt().map(drop).map_err(|errno| Error::os(format!("notify {}", outside.display()), errno))
}
