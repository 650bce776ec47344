//! Kernel parameters of a container: only those that belong to a namespace may be set.

/// The namespaces that a container has of its own, as far as parameters belong to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnNamespaces {
    /// System V and POSIX IPC.
    pub ipc: bool,
    /// Network.
    pub network: bool,
    /// Host and domain name.
    pub uts: bool,
}

/// Why a parameter was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Not `KEY=VALUE`.
    #[error("sysctl {text:?}: expected KEY=VALUE")]
    Malformed {
        /// The option's value.
        text: String,
    },
    /// The parameter is the whole machine's.
    #[error("sysctl {key}: not a parameter of a namespace")]
    NotNamespaced {
        /// The parameter.
        key: String,
    },
    /// The container shares the namespace with the host or another container.
    #[error("sysctl {key}: the container has no {namespace} namespace of its own")]
    Shared {
        /// The parameter.
        key: String,
        /// The namespace it belongs to.
        namespace: &'static str,
    },
}

const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Reads the value of `--sysctl`.
///
/// # Errors
/// No `=` in it.
pub fn parse(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.trim().into())),
        _ => Err(Error::Malformed { text: text.into() }),
    }
}

/// Checks that `key` (dots or slashes) belongs to a namespace that the container has of its own.
///
/// # Errors
/// It does not.
pub fn check(key: &str, own: OwnNamespaces) -> Result<(), Error> {
    let path = path(key);
    let shared = |namespace| Error::Shared { key: key.into(), namespace };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::NotNamespaced { key: key.into() });
    }
    if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        return if own.ipc { Ok(()) } else { Err(shared("ipc")) };
    }
    if path.starts_with("net/") {
        return if own.network { Ok(()) } else { Err(shared("network")) };
    }
    if matches!(path.as_str(), "kernel/domainname" | "kernel/hostname") {
        return if own.uts { Ok(()) } else { Err(shared("uts")) };
    }
    Err(Error::NotNamespaced { key: key.into() })
}

/// The path of `key` below `/proc/sys`, as sysctl(8) reads it: the first separator says which of `.` and `/` separates.
#[must_use]
pub fn path(key: &str) -> String {
    let dot = key.find('.');
    let slash = key.find('/');
    match (dot, slash) {
        (Some(dot), Some(slash)) if dot < slash => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        (Some(_), None) => key.replace('.', "/"),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: OwnNamespaces = OwnNamespaces { ipc: true, network: true, uts: true };

    #[test]
    fn namespaced_keys_pass() {
        for key in [
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0.1/arp",
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "kernel.domainname",
        ] {
            assert_eq!(check(key, ALL), Ok(()), "{key}");
        }
    }

    #[test]
    fn others_do_not() {
        for key in
            ["kernel.panic", "vm.swappiness", "kernel.shmmaxx", "", "net..x", "../net.x", "fs.file-max"]
        {
            assert!(matches!(check(key, ALL), Err(Error::NotNamespaced { .. })), "{key}");
        }
        let host_network = OwnNamespaces { network: false, ..ALL };
        assert!(matches!(
            check("net.core.somaxconn", host_network),
            Err(Error::Shared { namespace: "network", .. })
        ));
    }

    #[test]
    fn keys_become_paths() {
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net.ipv4.conf.eth0/1.arp"), "net/ipv4/conf/eth0.1/arp");
        assert_eq!(path("net/ipv4/conf/eth0.1/arp"), "net/ipv4/conf/eth0.1/arp");
        assert_eq!(parse("a.b = c"), Ok(("a.b".into(), "c".into())));
        assert!(parse("=c").is_err());
    }
}
