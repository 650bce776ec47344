//! What a container may not see or call: hidden paths, seccomp, AppArmor.

use oci_spec::runtime::LinuxSeccomp;
use runtime::capabilities::CapabilitySet;
use runtime::seccomp;

use super::{Host, SpecOptions};
use crate::options::Seccomp;
use crate::{Error, ErrorKind, Result};

/// Observed in Podman 5.8.6.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/interrupts",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Observed in Podman 5.8.6.
const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The paths to hide and the paths to make read-only.
pub(super) fn paths(options: &SpecOptions, host: &Host) -> (Vec<String>, Vec<String>) {
    if options.privileged {
        return (Vec::new(), Vec::new());
    }
    let unmask = &options.security.unmask;
    let everything = unmask.iter().any(|pattern| pattern.eq_ignore_ascii_case("all"));
    let kept = |path: &String| !everything && !unmask.iter().any(|pattern| glob(pattern, path));
    let mut masked: Vec<String> = MASKED.map(str::to_owned).into();
    masked.extend(host.thermal_throttle.iter().cloned());
    masked.retain(kept);
    for path in &options.security.mask {
        if !path.is_empty() && !masked.contains(path) {
            masked.push(path.clone());
        }
    }
    let read_only = READ_ONLY.map(str::to_owned).into_iter().filter(kept).collect();
    (masked, read_only)
}

/// Matches a shell pattern; `*`, `?` and `[..]` do not match `/`, as in Go's `path.Match`.
fn glob(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
        match first {
            '*' => {
                let end = text.iter().position(|c| *c == '/').unwrap_or(text.len());
                (0..=end).any(|skip| matches(rest, &text[skip..]))
            }
            '?' => text.split_first().is_some_and(|(c, text)| *c != '/' && matches(rest, text)),
            '[' => {
                let Some(close) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) else {
                    return false;
                };
                let Some((c, text)) = text.split_first() else { return false };
                let (negated, class) = match rest[0] {
                    '^' | '!' if close > 1 => (true, &rest[1..close]),
                    _ => (false, &rest[..close]),
                };
                *c != '/' && in_class(class, *c) != negated && matches(&rest[close + 1..], text)
            }
            '\\' if !rest.is_empty() => text.first() == Some(&rest[0]) && matches(&rest[1..], &text[1..]),
            c => text.first() == Some(c) && matches(rest, &text[1..]),
        }
    }
    fn in_class(mut class: &[char], c: char) -> bool {
        while let [first, more @ ..] = class {
            if let ['-', last, after @ ..] = more {
                if (*first..=*last).contains(&c) {
                    return true;
                }
                class = after;
            } else {
                if *first == c {
                    return true;
                }
                class = more;
            }
        }
        false
    }
    let pattern: Vec<char> = pattern.chars().collect();
    // The cost grows with the stars; nobody writes more than a few, and a longer pattern matches nothing.
    if pattern.iter().filter(|c| **c == '*').count() > 8 {
        return false;
    }
    matches(&pattern, &text.chars().collect::<Vec<_>>())
}

/// The filter of system calls, `None` for none.
pub(super) fn seccomp(
    options: &SpecOptions,
    host: &Host,
    granted: CapabilitySet,
) -> Result<Option<LinuxSeccomp>> {
    let asked = matches!(options.security.seccomp, Seccomp::File(_) | Seccomp::Text(_));
    if options.security.seccomp == Seccomp::Unconfined || (options.privileged && !asked) {
        return Ok(None);
    }
    if !host.seccomp {
        return match asked {
            true => Err(Error::unsupported("seccomp profile", "this kernel has no seccomp filters")),
            false => Ok(None),
        };
    }
    let Some(bytes) = &options.seccomp_profile else {
        return match &options.security.seccomp {
            Seccomp::File(path) => {
                Err(Error::invalid(format!("seccomp profile {}", path.display()), "its content was not read"))
            }
            _ => Ok(Some(seccomp::default_for(granted))),
        };
    };
    let failed = |source: seccomp::Error| Error::Part {
        attempt: match &options.security.seccomp {
            Seccomp::File(path) => format!("load seccomp profile {}", path.display()),
            _ => "load the default seccomp profile".to_owned(),
        },
        kind: ErrorKind::Invalid,
        source: Box::new(source),
    };
    let spec = seccomp::Profile::parse(bytes).map_err(failed)?.resolve(granted);
    // A rule that cannot be compiled is told now, with the file's name, and not by a container that does not start.
    seccomp::compile(&spec).map_err(failed)?;
    Ok(Some(spec))
}

/// The AppArmor profile for the process.
pub(super) fn apparmor(options: &SpecOptions, host: &Host) -> Result<Option<String>> {
    match &options.security.apparmor {
        Some(profile) if !host.apparmor => Err(Error::unsupported(
            format!("apparmor profile {profile}"),
            "AppArmor is not enabled on this system",
        )),
        profile => Ok(profile.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("/proc/kcore", "/proc/kcore"),
            ("/proc/*", "/proc/kcore"),
            ("/proc/k?ore", "/proc/kcore"),
            ("/proc/[a-k]core", "/proc/kcore"),
            ("/proc/[^x]core", "/proc/kcore"),
            ("/sys/devices/system/cpu/*/thermal_throttle", "/sys/devices/system/cpu/cpu0/thermal_throttle"),
            ("/a\\*", "/a*"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("/proc/*", "/proc/a/b"),
            ("/*", "/proc/kcore"),
            ("/proc/[", "/proc/k"),
            ("/proc/k", "/proc/kc"),
            ("", "/"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }
}
