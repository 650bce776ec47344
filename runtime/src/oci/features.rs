//! What this runtime does, as the specification describes such a list.

use std::path::Path;

use serde_json::{Value, json};

/// Options that are attributes of a mount, or are done by the runtime. Others go to the file system.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "copyup",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "notmpcopyup",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Tells whether this machine has SELinux.
pub(super) fn selinux() -> bool {
    sys::fs::exists(Path::new("/sys/fs/selinux/enforce")).unwrap_or(false)
}

/// Tells whether this machine has AppArmor.
pub(super) fn apparmor() -> bool {
    sys::fs::read_limited(Path::new("/sys/module/apparmor/parameters/enabled"), 8)
        .is_ok_and(|text| text.starts_with(b"Y"))
}

/// The list, with what does not work on this machine left out.
#[must_use]
pub fn features() -> Value {
    let capabilities = crate::capabilities::CapabilitySet::ALL.names();
    let flags = [
        ("SECCOMP_FILTER_FLAG_TSYNC", sys::seccomp_load::FLAG_TSYNC),
        ("SECCOMP_FILTER_FLAG_LOG", sys::seccomp_load::FLAG_LOG),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", sys::seccomp_load::FLAG_SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", sys::seccomp_load::FLAG_WAIT_KILLABLE_RECV),
    ];
    let supported: Vec<&str> = flags
        .iter()
        .filter(|(_, flag)| sys::seccomp_load::flags_available(*flag))
        .map(|(name, _)| *name)
        .collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": super::SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": sys::feature::features().seccomp,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": flags.map(|(name, _)| name),
                "supportedFlags": supported,
            },
            "apparmor": { "enabled": apparmor() },
            "selinux": { "enabled": selinux() },
            "intelRdt": { "enabled": false },
            "memoryPolicy": {
                "modes": ["MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": { "idmap": { "enabled": sys::feature::features().mount_setattr } },
            "netDevices": { "enabled": true },
        },
        "annotations": { "org.davit.version": env!("CARGO_PKG_VERSION") },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    })
}
