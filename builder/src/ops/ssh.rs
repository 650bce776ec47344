//! `RUN --mount=type=ssh`: a socket for the step, behind it an agent of the host.
//!
//! The step may ask which keys there are and have something signed; what changes the agent (adding and removing keys,
//! locking) is answered with failure here and never reaches it.

use super::owner::Owner;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{AtFlags, Gid, Mode, Uid, chmodat, chownat, unlinkat};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Longest message of the agent protocol, as OpenSSH has it.
const MAX_MESSAGE: u32 = 256 << 10;
/// Messages of the protocol (draft-miller-ssh-agent).
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const FAILURE: u8 = 5;

/// A socket that is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Agent {
    path: PathBuf,
    directory: OwnedFd,
    name: String,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Makes the socket `name` in a directory and serves it.
    pub(crate) fn start(
        agent: &Path,
        directory: &Path,
        name: &str,
        owner: Owner,
        mode: u32,
    ) -> io::Result<Self> {
        // Said now, with its name, rather than by a program of the step.
        UnixStream::connect(agent).map_err(|error| {
            io::Error::new(error.kind(), format!("connect to {}: {error}", agent.display()))
        })?;
        let path = directory.join(name);
        let directory = sys::fs::open_dir(directory).map_err(|error| error.source)?;
        // Addresses of sockets are short, paths of stores need not be.
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        chmodat(&directory, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (stopped, agent) = (stop.clone(), agent.to_owned());
        let thread = std::thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || accept(&listener, &stopped, &agent))?;
        Ok(Self { path, directory, name: name.to_owned(), stop, thread: Some(thread) })
    }

    /// Where the socket lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // What stays goes with the lease.
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

fn accept(listener: &UnixListener, stop: &OwnedFd, agent: &Path) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        let Ok((client, _)) = listener.accept() else { continue };
        let agent = agent.to_owned();
        // Ends when the client does, at the latest when the step is over.
        let served = std::thread::Builder::new().name("ssh-client".to_owned()).spawn(move || {
            if let Ok(agent) = UnixStream::connect(&agent) {
                let _ = serve(client, agent);
            }
        });
        drop(served);
    }
}

/// Answers a client until it hangs up.
fn serve(mut client: UnixStream, mut agent: UnixStream) -> io::Result<()> {
    loop {
        let request = read_message(&mut client)?;
        let answer = match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                write_message(&mut agent, &request)?;
                read_message(&mut agent)?
            }
            _ => vec![FAILURE],
        };
        write_message(&mut client, &answer)?;
    }
}

fn read_message(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ask(path: &Path, message: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(path).unwrap();
        write_message(&mut stream, message).unwrap();
        read_message(&mut stream).unwrap()
    }

    #[test]
    fn signing_passes_and_changes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        let listener = UnixListener::bind(&real).unwrap();
        // An agent that answers with the request's own bytes.
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                while let Ok(message) = read_message(&mut stream) {
                    write_message(&mut stream, &message).unwrap();
                }
            }
        });
        let uid = rustix::process::getuid().as_raw();
        let owner = Owner { uid, gid: rustix::process::getgid().as_raw() };
        let agent = Agent::start(&real, dir.path(), "made", owner, 0o600).unwrap();
        assert_eq!(ask(agent.path(), &[REQUEST_IDENTITIES]), [REQUEST_IDENTITIES]);
        assert_eq!(ask(agent.path(), &[SIGN_REQUEST, 1, 2]), [SIGN_REQUEST, 1, 2]);
        for message in [&[17_u8][..], &[19], &[22], &[]] {
            assert_eq!(ask(agent.path(), message), [FAILURE], "{message:?}");
        }
        let path = agent.path().to_owned();
        drop(agent);
        assert!(UnixStream::connect(path).is_err());
        assert!(Agent::start(&dir.path().join("none"), dir.path(), "x", owner, 0o600).is_err());
    }
}
