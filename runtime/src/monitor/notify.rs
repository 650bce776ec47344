//! What a container's program tells the service manager (`sd_notify`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// What may be said for a container; process IDs and descriptors mean nothing outside of it.
const ALLOWED: [&str; 6] =
    ["READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1", "STATUS=", "EXTEND_TIMEOUT_USEC="];

/// Sends the allowed lines of a message to the manager's socket, if it still listens.
pub(super) fn pass_on(message: &[u8], manager: &Path) {
    let text = allowed(message);
    let Ok(socket) = UnixDatagram::unbound() else { return };
    if text.is_empty() {
        return;
    }
    match manager.as_os_str().as_bytes() {
        [b'@', name @ ..] => {
            if let Ok(address) = SocketAddr::from_abstract_name(name) {
                let _ = socket.send_to_addr(text.as_bytes(), &address);
            }
        }
        _ => {
            let _ = socket.send_to(text.as_bytes(), manager);
        }
    }
}

fn allowed(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let is_allowed = |line: &&str| {
        ALLOWED.iter().any(|word| if word.ends_with('=') { line.starts_with(word) } else { line == word })
    };
    text.lines().filter(is_allowed).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_stay_inside() {
        assert_eq!(allowed(b"MAINPID=7\nREADY=1\nSTATUS=up\nFDSTORE=1\n"), "READY=1\nSTATUS=up");
        assert_eq!(allowed(b"READY=10"), "");
    }
}
