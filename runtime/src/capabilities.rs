//! Capabilities: names, numbers, default sets, and what `--cap-add` and `--cap-drop` mean.
//!
//! A set is a bit mask in the kernel's numbering, so that its order, and with it everything printed, repeats.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

/// Every capability, in the kernel's numbering: the index is the number.
const TABLE: [(&str, Capability); 41] = [
    ("CAP_CHOWN", Capability::Chown),
    ("CAP_DAC_OVERRIDE", Capability::DacOverride),
    ("CAP_DAC_READ_SEARCH", Capability::DacReadSearch),
    ("CAP_FOWNER", Capability::Fowner),
    ("CAP_FSETID", Capability::Fsetid),
    ("CAP_KILL", Capability::Kill),
    ("CAP_SETGID", Capability::Setgid),
    ("CAP_SETUID", Capability::Setuid),
    ("CAP_SETPCAP", Capability::Setpcap),
    ("CAP_LINUX_IMMUTABLE", Capability::LinuxImmutable),
    ("CAP_NET_BIND_SERVICE", Capability::NetBindService),
    ("CAP_NET_BROADCAST", Capability::NetBroadcast),
    ("CAP_NET_ADMIN", Capability::NetAdmin),
    ("CAP_NET_RAW", Capability::NetRaw),
    ("CAP_IPC_LOCK", Capability::IpcLock),
    ("CAP_IPC_OWNER", Capability::IpcOwner),
    ("CAP_SYS_MODULE", Capability::SysModule),
    ("CAP_SYS_RAWIO", Capability::SysRawio),
    ("CAP_SYS_CHROOT", Capability::SysChroot),
    ("CAP_SYS_PTRACE", Capability::SysPtrace),
    ("CAP_SYS_PACCT", Capability::SysPacct),
    ("CAP_SYS_ADMIN", Capability::SysAdmin),
    ("CAP_SYS_BOOT", Capability::SysBoot),
    ("CAP_SYS_NICE", Capability::SysNice),
    ("CAP_SYS_RESOURCE", Capability::SysResource),
    ("CAP_SYS_TIME", Capability::SysTime),
    ("CAP_SYS_TTY_CONFIG", Capability::SysTtyConfig),
    ("CAP_MKNOD", Capability::Mknod),
    ("CAP_LEASE", Capability::Lease),
    ("CAP_AUDIT_WRITE", Capability::AuditWrite),
    ("CAP_AUDIT_CONTROL", Capability::AuditControl),
    ("CAP_SETFCAP", Capability::Setfcap),
    ("CAP_MAC_OVERRIDE", Capability::MacOverride),
    ("CAP_MAC_ADMIN", Capability::MacAdmin),
    ("CAP_SYSLOG", Capability::Syslog),
    ("CAP_WAKE_ALARM", Capability::WakeAlarm),
    ("CAP_BLOCK_SUSPEND", Capability::BlockSuspend),
    ("CAP_AUDIT_READ", Capability::AuditRead),
    ("CAP_PERFMON", Capability::Perfmon),
    ("CAP_BPF", Capability::Bpf),
    ("CAP_CHECKPOINT_RESTORE", Capability::CheckpointRestore),
];

/// A set of capabilities, as the kernel's bit mask (bit N = capability N).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability this program knows by name.
    pub const ALL: Self = Self((1 << TABLE.len()) - 1);
    /// The 11 that a container has by default (observed in Podman 5.8.6).
    pub const DEFAULT: Self = Self(0x8004_05fb);
    /// The 14 that Docker gives: [`Self::DEFAULT`] with AUDIT_WRITE, MKNOD and NET_RAW.
    pub const DOCKER: Self = Self(0xa804_25fb);

    /// Tells whether `capability` is in the set.
    #[must_use]
    pub fn contains(self, capability: Capability) -> bool {
        self.0 & bit(capability) != 0
    }

    /// The set with `capability` in it.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | bit(capability))
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either set.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, by ascending number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        TABLE
            .iter()
            .filter(move |(_, capability)| self.contains(*capability))
            .map(|(_, capability)| *capability)
    }

    /// The members' names (`CAP_CHOWN`), sorted by name as the peers print them.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.iter().map(name).collect();
        names.sort_unstable();
        names
    }

    /// The set as the runtime spec's type.
    #[must_use]
    pub fn to_spec(self) -> Capabilities {
        self.iter().collect()
    }

    /// Reads the runtime spec's type.
    #[must_use]
    pub fn from_spec(capabilities: &Capabilities) -> Self {
        capabilities.iter().fold(Self::EMPTY, |set, capability| set.with(*capability))
    }
}

fn bit(capability: Capability) -> u64 {
    1 << number(capability)
}

/// The kernel's number of a capability.
#[must_use]
pub fn number(capability: Capability) -> u8 {
    let index = TABLE.iter().position(|(_, candidate)| *candidate == capability);
    // The table is complete (a test counts it), so the fallback is never taken.
    index.and_then(|index| u8::try_from(index).ok()).unwrap_or(0)
}

/// The name of a capability, with its `CAP_`.
#[must_use]
pub fn name(capability: Capability) -> &'static str {
    TABLE[usize::from(number(capability))].0
}

/// Reads a name in any case, with or without `CAP_`.
#[must_use]
pub fn parse(text: &str) -> Option<Capability> {
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    TABLE.iter().find(|(name, _)| name[4..] == *short).map(|(_, capability)| *capability)
}

/// Why a list of capabilities was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No capability has this name.
    #[error("unknown capability {name:?}")]
    Unknown {
        /// The name as the user wrote it.
        name: String,
    },
    /// One name in both lists.
    #[error("capability {name} cannot be dropped and added")]
    DroppedAndAdded {
        /// The name, with its `CAP_`.
        name: &'static str,
    },
}

fn read_list(list: &[String]) -> Result<(CapabilitySet, bool), Error> {
    let mut set = CapabilitySet::EMPTY;
    let mut all = false;
    for name in list {
        if name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("cap_all") {
            all = true;
        } else {
            let capability = parse(name).ok_or_else(|| Error::Unknown { name: name.clone() })?;
            set = set.with(capability);
        }
    }
    Ok((set, all))
}

/// Applies `--cap-add` and `--cap-drop` to a base set; ALL stands for `bounding`, what the caller can give at all.
///
/// Adding ALL and dropping some leaves all but those; dropping ALL and adding some leaves those alone.
///
/// # Errors
/// An unknown name, or one that is added and dropped.
pub fn resolve(
    base: CapabilitySet,
    bounding: CapabilitySet,
    add: &[String],
    drop: &[String],
) -> Result<CapabilitySet, Error> {
    let (add, add_all) = read_list(add)?;
    let (drop, drop_all) = read_list(drop)?;
    if let Some(both) = add.intersection(drop).iter().next() {
        return Err(Error::DroppedAndAdded { name: name(both) });
    }
    if drop_all && add_all {
        return Err(Error::DroppedAndAdded { name: "ALL" });
    }
    if drop_all {
        return Ok(add);
    }
    let base = if add_all { bounding } else { base };
    Ok(base.union(add).difference(drop))
}

/// The five sets of a process (observed in Podman 5.8.6).
///
/// uid 0: `granted` as bounding, effective and permitted, nothing inheritable or ambient. Another user: `granted` as
/// bounding only, and `added` (what `--cap-add` named) in all five. `privileged` users other than 0 get bounding alone.
#[must_use]
pub fn process_sets(
    uid: u32,
    granted: CapabilitySet,
    added: CapabilitySet,
    privileged: bool,
) -> LinuxCapabilities {
    let (own, ambient) = match (uid, privileged) {
        (0, _) => (granted, CapabilitySet::EMPTY),
        (_, true) => (CapabilitySet::EMPTY, CapabilitySet::EMPTY),
        (_, false) => {
            let added = added.intersection(granted);
            (added, added)
        }
    };
    let builder = LinuxCapabilitiesBuilder::default()
        .bounding(granted.to_spec())
        .effective(own.to_spec())
        .permitted(own.to_spec())
        .inheritable(ambient.to_spec())
        .ambient(ambient.to_spec());
    builder.build().expect("the builder has a default for every field")
}

/// What `--cap-add` names, without ALL: the part that [`process_sets`] also gives to a user other than 0.
///
/// # Errors
/// An unknown name.
pub fn added(add: &[String]) -> Result<CapabilitySet, Error> {
    read_list(add).map(|(set, _)| set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_follow_the_kernel() {
        assert_eq!(number(Capability::Chown), 0);
        assert_eq!(number(Capability::SysAdmin), 21);
        assert_eq!(number(Capability::Setfcap), 31);
        assert_eq!(number(Capability::CheckpointRestore), 40);
        for (index, (text, capability)) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(number(*capability)), index);
            assert_eq!(capability.to_string(), text[4..], "our name and oci-spec's differ");
            assert_eq!(parse(&text.to_lowercase()), Some(*capability));
        }
    }

    #[test]
    fn default_sets_have_the_peers_members() {
        assert_eq!(CapabilitySet::DEFAULT.iter().count(), 11);
        assert_eq!(
            CapabilitySet::DOCKER.difference(CapabilitySet::DEFAULT).names(),
            ["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"]
        );
    }

    #[test]
    fn add_and_drop() {
        let all = CapabilitySet::ALL;
        let base = CapabilitySet::DEFAULT;
        let got = resolve(base, all, &list(&["sys_admin", "CAP_NET_RAW"]), &list(&["chown"])).unwrap();
        assert!(got.contains(Capability::SysAdmin) && got.contains(Capability::NetRaw));
        assert!(!got.contains(Capability::Chown));
        assert_eq!(resolve(base, all, &[], &list(&["all"])).unwrap(), CapabilitySet::EMPTY);
        assert_eq!(resolve(base, all, &list(&["kill"]), &list(&["ALL"])).unwrap().names(), ["CAP_KILL"]);
        let most = resolve(base, all, &list(&["ALL"]), &list(&["SYS_ADMIN"])).unwrap();
        assert_eq!(all.difference(most).names(), ["CAP_SYS_ADMIN"]);
        assert_eq!(
            resolve(base, all, &list(&["flying"]), &[]),
            Err(Error::Unknown { name: "flying".into() })
        );
        assert!(resolve(base, all, &list(&["KILL"]), &list(&["cap_kill"])).is_err());
        assert!(resolve(base, all, &list(&["all"]), &list(&["all"])).is_err());
    }

    #[test]
    fn sets_of_root_and_of_others() {
        let granted = CapabilitySet::DEFAULT.with(Capability::SysAdmin);
        let added = CapabilitySet::EMPTY.with(Capability::SysAdmin);
        let root = process_sets(0, granted, added, false);
        assert_eq!(CapabilitySet::from_spec(root.effective().as_ref().unwrap()), granted);
        assert!(root.ambient().as_ref().unwrap().is_empty());
        let user = process_sets(1000, granted, added, false);
        for set in [user.effective(), user.permitted(), user.inheritable(), user.ambient()] {
            assert_eq!(CapabilitySet::from_spec(set.as_ref().unwrap()), added);
        }
        assert_eq!(CapabilitySet::from_spec(user.bounding().as_ref().unwrap()), granted);
        let privileged = process_sets(1000, CapabilitySet::ALL, added, true);
        assert!(privileged.effective().as_ref().unwrap().is_empty());
    }
}
