//! `--ssh`: sockets of agents. Keys are held by an agent of the build's own, which the host's OpenSSH brings.

use super::context::scratch_name;
use crate::{Error, Result};
use builder::ports::SshAgents;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs an agent in the foreground until standard input ends: also when this process is killed.
const AGENT: &str = "ssh-agent -D -a \"$1\" & agent=$!; read -r _; kill $agent; wait $agent";
/// How long an agent may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agents of a build; those that were started for it end with it.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// Sockets by ID.
    pub(super) sockets: SshAgents,
    started: Vec<Child>,
}

impl Agents {
    /// Finds or starts the agents that `--ssh` names: by ID a socket, or keys.
    pub(super) fn new(wanted: &[(String, Vec<PathBuf>)], scratch: &Path) -> Result<Self> {
        let mut agents = Self::default();
        for (id, paths) in wanted {
            let socket = match paths.as_slice() {
                [] => {
                    return Err(Error::invalid(
                        format!("ssh {id}"),
                        "no socket or key is named, and SSH_AUTH_SOCK is not set",
                    ));
                }
                [one] if is_socket(one)? => one.clone(),
                keys => agents.start(id, keys, scratch)?,
            };
            agents.sockets.insert(id.clone(), socket);
        }
        Ok(agents)
    }

    /// Starts an agent with these keys.
    fn start(&mut self, id: &str, keys: &[PathBuf], scratch: &Path) -> Result<PathBuf> {
        let socket = scratch.join(scratch_name("ssh", id));
        let child = Command::new("/bin/sh")
            .args(["-c", AGENT, "ssh-agent"])
            .arg(&socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| missing("start ssh-agent", error))?;
        self.started.push(child);
        let start = Instant::now();
        // The file is there before anyone listens on it.
        while UnixStream::connect(&socket).is_err() {
            if start.elapsed() > PATIENCE {
                return Err(Error::os("start ssh-agent", std::io::Error::from(std::io::ErrorKind::TimedOut)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for key in keys {
            let output = Command::new("ssh-add")
                .arg("-q")
                .arg("--")
                .arg(key)
                .env("SSH_AUTH_SOCK", &socket)
                // a key with a passphrase is refused rather than asked for
                .env("SSH_ASKPASS", "/bin/false")
                .env("SSH_ASKPASS_REQUIRE", "force")
                .stdin(Stdio::null())
                .output()
                .map_err(|error| missing("start ssh-add", error))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it has a passphrase");
                return Err(Error::invalid(format!("ssh {id}: key {}", key.display()), line.trim()));
            }
        }
        Ok(socket)
    }
}

fn is_socket(path: &Path) -> Result<bool> {
    let meta =
        std::fs::metadata(path).map_err(|error| Error::os(format!("open {}", path.display()), error))?;
    Ok(meta.file_type().is_socket())
}

fn missing(attempt: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::unsupported(
            "--ssh with keys",
            "it needs OpenSSH's ssh-agent and ssh-add on this host",
        );
    }
    Error::os(attempt, error)
}

impl Drop for Agents {
    fn drop(&mut self) {
        for child in &mut self.started {
            // the end of its standard input ends it
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
