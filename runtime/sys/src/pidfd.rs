//! Process descriptors, and process identities that survive the reuse of numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags};

fn pid(number: u32) -> io::Result<Pid> {
    i32::try_from(number)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Opens a descriptor of a process.
pub fn open(process: u32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid(process)?, PidfdFlags::empty())?)
}

/// Opens a descriptor of the process that has this number and this start time (see [`start_time`]); ESRCH if the
/// number now belongs to another one, or the process is a zombie.
pub fn open_exact(process: u32, start: u64) -> io::Result<OwnedFd> {
    let descriptor = open(process)?;
    // Read after opening: had the number been reused in between, the start time would differ.
    match status(process) {
        Ok(status) if status.start_time == start && !status.ended => Ok(descriptor),
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// Sends a signal by number. Real-time signals are allowed; 0 checks for existence.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // rustix refuses signals that libc keeps for itself.
    // SAFETY: the descriptor is open for the whole call and a null siginfo pointer is documented as "none".
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What /proc/PID/stat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStatus {
    /// Whether the process is a zombie or dead.
    pub ended: bool,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

/// Reads the state and start time of a process.
pub fn status(process: u32) -> io::Result<ProcessStatus> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    parse(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse(text: &str) -> Option<ProcessStatus> {
    // The command name may contain blanks and parentheses: fields are counted from the last ')'.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(ProcessStatus { ended, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_alive_and_exact() {
        let own = std::process::id();
        let status = status(own).unwrap();
        assert!(!status.ended);
        assert!(open_exact(own, status.start_time).is_ok());
        assert!(open_exact(own, status.start_time + 1).is_err());
        send_signal(open(own).unwrap(), 0).unwrap();
    }

    #[test]
    fn names_with_parentheses_are_parsed() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(
            parse(&format!("12 (a) Z (b) {tail}")).unwrap(),
            ProcessStatus { ended: false, start_time: 4711 }
        );
        assert_eq!(parse("12 (x"), None);
    }
}
