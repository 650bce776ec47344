//! System call numbers by architecture.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// An architecture whose calls can be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X86,
    Aarch64,
    Arm,
}

impl Architecture {
    /// The architecture of this program, if there is a table for it.
    pub(super) const fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else {
            None
        }
    }

    /// The 32-bit architecture whose programs this one's kernels run too.
    pub(super) const fn narrow(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::X86),
            Self::Aarch64 => Some(Self::Arm),
            Self::X86 | Self::Arm => None,
        }
    }

    /// `AUDIT_ARCH_*`, what the filter finds in its data.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Arguments are 64 bits wide.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// Numbers by name.
    pub(super) fn numbers(self) -> Numbers {
        // `iter` of the tables passes over their last entry, so numbers are asked one by one.
        macro_rules! table {
            ($module:ident) => {{
                let last = usize::try_from(syscalls::$module::Sysno::last().id()).unwrap_or(0);
                (0..=last)
                    .filter_map(syscalls::$module::Sysno::new)
                    .map(|call| (call.name().trim_start_matches("r#"), call.id().unsigned_abs()))
                    .collect()
            }};
        }
        let mut numbers: HashMap<_, _, _> = match self {
            Self::X86_64 => table!(x86_64),
            Self::X86 => table!(x86),
            Self::Aarch64 => table!(aarch64),
            Self::Arm => table!(arm),
        };
        if self == Self::Arm {
            // The calls that only this architecture has lie far above the others, and the table leaves them out.
            numbers.extend(ARM_PRIVATE);
        }
        Numbers { numbers }
    }
}

const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0x0f_0001),
    ("cacheflush", 0x0f_0002),
    ("usr26", 0x0f_0003),
    ("usr32", 0x0f_0004),
    ("set_tls", 0x0f_0005),
    ("get_tls", 0x0f_0006),
];

/// The numbers of one architecture.
pub(super) struct Numbers {
    numbers: HashMap<&'static str, u32, BuildHasherDefault<Fnv>>,
}

impl Numbers {
    /// The number of a call, `None` if the architecture does not have it.
    pub(super) fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// FNV-1a: the keys are our own table, so the hasher need not resist an attacker, and it is made for every container.
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// i386 reaches the socket calls also through `socketcall`, whose first argument says which.
pub(super) fn socketcall(name: &str) -> Option<u32> {
    const CALLS: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    CALLS.iter().position(|call| *call == name).and_then(|index| u32::try_from(index + 1).ok())
}

/// The same for the System V calls and `ipc`.
pub(super) fn ipc(name: &str) -> Option<u32> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers() {
        let wide = Architecture::X86_64.numbers();
        assert_eq!((wide.get("read"), wide.get("clone3"), wide.get("flying")), (Some(0), Some(435), None));
        assert_eq!(wide.get("file_setattr"), Some(469), "the last entry counts");
        assert_eq!(Architecture::X86.numbers().get("socketcall"), Some(102));
        assert_eq!(Architecture::Aarch64.numbers().get("openat"), Some(56));
        assert_eq!(Architecture::Arm.numbers().get("set_tls"), Some(0x0f_0005));
        assert_eq!(
            (socketcall("socket"), socketcall("sendmmsg"), ipc("shmget")),
            (Some(1), Some(20), Some(23))
        );
    }
}
