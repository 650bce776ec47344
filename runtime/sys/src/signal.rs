//! Signals: names and numbers, and the clean state in which a program must start.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow};

/// Names without `SIG`, in the numbering of x86 and ARM.
const NAMES: [(&str, i32); 33] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    // Second names; `name` gives the first.
    ("IOT", libc::SIGABRT),
    ("POLL", libc::SIGIO),
];

/// The first real-time signal as the C library counts, which keeps two of the kernel's for itself.
const REAL_TIME_FIRST: i32 = 34;
/// The last signal.
const LAST: i32 = 64;

/// Parses a name with or without `SIG`, in any case, a number, `RTMIN+n` or `RTMAX-n`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| {
        if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from) }
    };
    let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
        Some(REAL_TIME_FIRST + offset(rest, '+')?)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        Some(LAST - offset(rest, '-')?)
    } else {
        None
    };
    if let Some(number) = real_time {
        return (REAL_TIME_FIRST..=LAST).contains(&number).then_some(number);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name with `SIG` of a number, such as `SIGTERM` or `SIGRTMIN+3`.
pub fn name(number: i32) -> Option<String> {
    if let Some((name, _)) = NAMES.iter().find(|(_, known)| *known == number) {
        return Some(format!("SIG{name}"));
    }
    match number {
        REAL_TIME_FIRST => Some("SIGRTMIN".into()),
        LAST => Some("SIGRTMAX".into()),
        35..=63 => Some(format!("SIGRTMIN+{}", number - REAL_TIME_FIRST)),
        _ => None,
    }
}

/// Sets every signal to its default action and unblocks all, as a program expects to be started. The standard library
/// ignores SIGPIPE, and ignored signals survive exec.
pub fn reset_all() -> io::Result<()> {
    for number in 1..=LAST {
        // SAFETY: the default action installs no handler; numbers that cannot be changed are EINVAL, which is wanted.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Lets the kernel reap children of this process by itself.
pub fn ignore_children() {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Ignores a signal.
pub fn ignore(number: i32) {
    // SAFETY: SIG_IGN installs no handler; an invalid number is EINVAL and changes nothing.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(parse("TERM"), Some(15));
        assert_eq!(parse("sigkill"), Some(9));
        assert_eq!(parse("37"), Some(37));
        assert_eq!(parse("RTMIN+3"), Some(37));
        assert_eq!(parse("SIGRTMAX-1"), Some(63));
        assert_eq!(parse("RTMIN+99"), None);
        assert_eq!(parse("0"), None);
        assert_eq!(parse("65"), None);
        assert_eq!(parse("NONE"), None);
        assert_eq!(name(15).unwrap(), "SIGTERM");
        assert_eq!(name(37).unwrap(), "SIGRTMIN+3");
        assert_eq!(name(0), None);
        assert!((1..=LAST).filter_map(name).all(|text| parse(&text).is_some()));
    }
}
