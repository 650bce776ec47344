//! Profiles in the JSON of containers/common and Docker.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompBuilder, LinuxSeccompFilterFlag,
    LinuxSyscall, LinuxSyscallBuilder,
};
use serde::{Deserialize, Serialize};
use sys::feature::KernelVersion;

use super::Error;
use crate::capabilities::{self, CapabilitySet};

/// A profile as it stands in a file: its rules may depend on capabilities, architecture and kernel.
///
/// Both generations of names are read: `name` beside `names`, `errno: "EPERM"` beside `errnoRet: 1`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: LinuxSeccompAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    default_errno: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    arch_map: Vec<ArchMap>,
    #[serde(default, deserialize_with = "null_is_default")]
    syscalls: Vec<Rule>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    listener_path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    listener_metadata: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: Arch,
    #[serde(default, deserialize_with = "null_is_default")]
    sub_architectures: Vec<Arch>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    errno: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "null_is_default")]
    includes: Filter,
    #[serde(default, deserialize_with = "null_is_default")]
    excludes: Filter,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    arches: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_kernel: Option<String>,
}

/// Go writes an empty list as null.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Go's name of this machine's architecture, which the profiles use.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

fn native_architecture() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::ScmpArchX86_64),
        "aarch64" => Some(Arch::ScmpArchAarch64),
        _ => None,
    }
}

impl Filter {
    fn holds_for(&self, capabilities: CapabilitySet, all: bool) -> bool {
        let has = |name: &String| {
            capabilities::parse(name).is_some_and(|capability| capabilities.contains(capability))
        };
        if all { self.caps.iter().all(has) } else { self.caps.iter().any(has) }
    }

    fn kernel_reached(&self) -> Option<bool> {
        let wanted = self.min_kernel.as_deref().filter(|text| !text.is_empty())?;
        Some(sys::feature::features().kernel >= KernelVersion::parse(wanted))
    }
}

impl Rule {
    /// Whether the rule is in force for a container; `includes` must all hold, one of `excludes` is enough.
    fn applies(&self, capabilities: CapabilitySet) -> bool {
        let arch = go_architecture();
        let named = |list: &[String]| list.iter().any(|name| name == arch);
        if named(&self.excludes.arches) || self.excludes.kernel_reached() == Some(true) {
            return false;
        }
        if self.excludes.holds_for(capabilities, false) {
            return false;
        }
        (self.includes.arches.is_empty() || named(&self.includes.arches))
            && self.includes.kernel_reached() != Some(false)
            && self.includes.holds_for(capabilities, true)
    }
}

/// The numbers of the names that profiles use for `errno`.
fn errno_number(name: &str) -> Option<u32> {
    Some(match name {
        "EPERM" => 1,
        "ENOENT" => 2,
        "EACCES" => 13,
        "EINVAL" => 22,
        "ENOSYS" => 38,
        "ENOTSUP" | "EOPNOTSUPP" => 95,
        "EAFNOSUPPORT" => 97,
        digits => return digits.parse().ok(),
    })
}

impl Profile {
    /// Reads a profile file's bytes.
    ///
    /// # Errors
    /// Not JSON, not a profile, or an `errno` whose name is unknown.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut profile: Self = serde_json::from_slice(bytes).map_err(|source| Error::Parse { source })?;
        profile.default_errno_ret = number(profile.default_errno_ret, &profile.default_errno, "the default")?;
        for rule in &mut profile.syscalls {
            let call = rule.names.first().unwrap_or(&rule.name);
            rule.errno_ret = number(rule.errno_ret, &rule.errno, call)?;
        }
        Ok(profile)
    }

    /// The rules in force for a container with these (bounding) capabilities, on this machine.
    #[must_use]
    pub fn resolve(&self, capabilities: CapabilitySet) -> LinuxSeccomp {
        let mut architectures = self.architectures.clone();
        let native = native_architecture();
        if let Some(map) = self.arch_map.iter().find(|map| Some(map.architecture) == native) {
            architectures.push(map.architecture);
            architectures.extend(&map.sub_architectures);
        }
        let syscalls: Vec<LinuxSyscall> =
            self.syscalls.iter().filter(|rule| rule.applies(capabilities)).map(Rule::to_spec).collect();
        let mut seccomp = LinuxSeccompBuilder::default()
            .default_action(self.default_action)
            .architectures(architectures)
            .syscalls(syscalls);
        if let Some(errno) = self.default_errno_ret {
            seccomp = seccomp.default_errno_ret(errno);
        }
        if !self.flags.is_empty() {
            seccomp = seccomp.flags(self.flags.clone());
        }
        if !self.listener_path.is_empty() {
            seccomp = seccomp.listener_path(self.listener_path.clone());
        }
        if !self.listener_metadata.is_empty() {
            seccomp = seccomp.listener_metadata(self.listener_metadata.clone());
        }
        seccomp.build().expect("the builder has a default for every field")
    }
}

fn number(value: Option<u32>, name: &str, call: &str) -> Result<Option<u32>, Error> {
    if value.is_some() || name.is_empty() {
        return Ok(value);
    }
    errno_number(name)
        .map(Some)
        .ok_or_else(|| Error::Rule { syscall: call.into(), reason: format!("unknown errno {name:?}") })
}

impl Rule {
    fn to_spec(&self) -> LinuxSyscall {
        let mut names = self.names.clone();
        if !self.name.is_empty() {
            names.push(self.name.clone());
        }
        let mut rule = LinuxSyscallBuilder::default().names(names).action(self.action);
        if let Some(errno) = self.errno_ret {
            rule = rule.errno_ret(errno);
        }
        if !self.args.is_empty() {
            rule = rule.args(self.args.clone());
        }
        rule.build().expect("the builder has a default for every field")
    }
}

/// A rule of the built-in profile.
pub(super) struct BuiltIn<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) action: LinuxSeccompAction,
    pub(super) errno: Option<u32>,
    pub(super) args: Vec<LinuxSeccompArg>,
    pub(super) included_caps: &'a [&'a str],
    pub(super) excluded_caps: &'a [&'a str],
    pub(super) included_arches: &'a [&'a str],
}

impl Profile {
    /// Makes the built-in profile: everything else is ENOSYS.
    pub(super) fn built_in(rules: Vec<BuiltIn<'_>>, arch_map: &[(Arch, &[Arch])]) -> Self {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let syscalls = rules
            .into_iter()
            .map(|rule| Rule {
                names: owned(rule.names),
                action: rule.action,
                errno_ret: rule.errno,
                args: rule.args,
                includes: Filter {
                    caps: owned(rule.included_caps),
                    arches: owned(rule.included_arches),
                    min_kernel: None,
                },
                excludes: Filter { caps: owned(rule.excluded_caps), ..Filter::default() },
                ..Rule::default()
            })
            .collect();
        let arch_map = arch_map
            .iter()
            .map(|(architecture, sub)| ArchMap {
                architecture: *architecture,
                sub_architectures: sub.to_vec(),
            })
            .collect();
        Self {
            default_action: LinuxSeccompAction::ScmpActErrno,
            default_errno_ret: Some(38),
            default_errno: String::new(),
            architectures: Vec::new(),
            arch_map,
            syscalls,
            flags: Vec::new(),
            listener_path: String::new(),
            listener_metadata: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &str, capabilities: CapabilitySet) -> Vec<String> {
        let spec = Profile::parse(profile.as_bytes()).unwrap().resolve(capabilities);
        spec.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_depend_on_capabilities_architecture_and_kernel() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","syscalls":[
            {"names":["a"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{},"excludes":null},
            {"name":"b","action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}},
            {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
            {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"3.8"}},
            {"names":["f"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}]}"#;
        assert_eq!(names(profile, CapabilitySet::EMPTY), ["a", "c", "e"]);
        assert_eq!(names(profile, CapabilitySet::ALL), ["a", "b", "e"]);
        let spec = Profile::parse(profile.as_bytes()).unwrap().resolve(CapabilitySet::EMPTY);
        assert_eq!(spec.default_errno_ret(), Some(38));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(Profile::parse(b"{"), Err(Error::Parse { .. })));
        assert!(matches!(Profile::parse(b"{}"), Err(Error::Parse { .. })));
        let errno = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EFLYING"}"#;
        assert!(matches!(Profile::parse(errno), Err(Error::Rule { .. })));
    }
}
