//! Resource limits: names, `--ulimit` values, and lowering what may not be granted.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// No limit, as the kernel and the runtime spec write it.
pub const UNLIMITED: u64 = u64::MAX;

/// Names as `--ulimit` takes them, the spec's type, the kernel's number.
const TABLE: [(&str, PosixRlimitType, u32); 16] = [
    ("cpu", PosixRlimitType::RlimitCpu, 0),
    ("fsize", PosixRlimitType::RlimitFsize, 1),
    ("data", PosixRlimitType::RlimitData, 2),
    ("stack", PosixRlimitType::RlimitStack, 3),
    ("core", PosixRlimitType::RlimitCore, 4),
    ("rss", PosixRlimitType::RlimitRss, 5),
    ("nproc", PosixRlimitType::RlimitNproc, 6),
    ("nofile", PosixRlimitType::RlimitNofile, 7),
    ("memlock", PosixRlimitType::RlimitMemlock, 8),
    ("as", PosixRlimitType::RlimitAs, 9),
    ("locks", PosixRlimitType::RlimitLocks, 10),
    ("sigpending", PosixRlimitType::RlimitSigpending, 11),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue, 12),
    ("nice", PosixRlimitType::RlimitNice, 13),
    ("rtprio", PosixRlimitType::RlimitRtprio, 14),
    ("rttime", PosixRlimitType::RlimitRttime, 15),
];

/// Why a limit was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The name is not a resource.
    #[error("ulimit {text:?}: unknown resource {name:?}")]
    UnknownName {
        /// The whole option value.
        text: String,
        /// The part before `=`.
        name: String,
    },
    /// A value is not a number.
    #[error("ulimit {text:?}: expected NAME=SOFT[:HARD] with numbers or -1")]
    Malformed {
        /// The whole option value.
        text: String,
    },
    /// The soft limit lies above the hard one.
    #[error("ulimit {text:?}: soft limit must not be above the hard limit")]
    SoftAboveHard {
        /// The whole option value.
        text: String,
    },
}

/// The kernel's number (`RLIMIT_*`) of a resource. The numbers are those of x86, arm and risc-v.
#[must_use]
pub fn number(resource: PosixRlimitType) -> u32 {
    TABLE.iter().find(|(_, typ, _)| *typ == resource).map_or(0, |(_, _, number)| *number)
}

/// The short name of a kernel's number.
#[must_use]
pub fn name_of(number: u32) -> &'static str {
    TABLE.iter().find(|(_, _, known)| *known == number).map_or("resource", |(name, _, _)| *name)
}

/// The resource of a name: `nofile`, `NOFILE` or `RLIMIT_NOFILE`.
#[must_use]
pub fn parse_name(name: &str) -> Option<PosixRlimitType> {
    let lower = name.to_ascii_lowercase();
    let short = lower.strip_prefix("rlimit_").unwrap_or(&lower);
    TABLE.iter().find(|(candidate, _, _)| *candidate == short).map(|(_, typ, _)| *typ)
}

/// The short name of a resource.
#[must_use]
pub fn name(resource: PosixRlimitType) -> &'static str {
    TABLE.iter().find(|(_, typ, _)| *typ == resource).map_or("", |(name, _, _)| *name)
}

/// Reads the value of `--ulimit`: `NAME=SOFT[:HARD]`, -1 for no limit.
///
/// # Errors
/// An unknown name, a malformed value, or a soft limit above the hard one.
pub fn parse(text: &str) -> Result<PosixRlimit, Error> {
    let malformed = || Error::Malformed { text: text.into() };
    let (name, values) = text.split_once('=').ok_or_else(malformed)?;
    let resource =
        parse_name(name).ok_or_else(|| Error::UnknownName { text: text.into(), name: name.into() })?;
    let value = |part: &str| match part {
        "-1" | "unlimited" => Some(UNLIMITED),
        digits => digits.parse().ok(),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft).ok_or_else(malformed)?, value(hard).ok_or_else(malformed)?);
    if soft > hard {
        return Err(Error::SoftAboveHard { text: text.into() });
    }
    Ok(limit(resource, soft, hard))
}

/// Makes the spec's value.
#[must_use]
pub fn limit(resource: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    let builder = PosixRlimitBuilder::default().typ(resource).soft(soft).hard(hard);
    builder.build().expect("the builder has a default for every field")
}

/// Lowers a wish to what a caller without CAP_SYS_RESOURCE may set: at most its own hard limit.
#[must_use]
pub fn lower(wish: PosixRlimit, own_hard: u64) -> PosixRlimit {
    limit(wish.typ(), wish.soft().min(own_hard), wish.hard().min(own_hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        assert_eq!(parse("nofile=1024:2048"), Ok(limit(PosixRlimitType::RlimitNofile, 1024, 2048)));
        assert_eq!(parse("RLIMIT_CORE=-1"), Ok(limit(PosixRlimitType::RlimitCore, UNLIMITED, UNLIMITED)));
        assert_eq!(parse("nproc=5:-1"), Ok(limit(PosixRlimitType::RlimitNproc, 5, UNLIMITED)));
        assert!(matches!(parse("nofile"), Err(Error::Malformed { .. })));
        assert!(matches!(parse("nofile=a"), Err(Error::Malformed { .. })));
        assert!(matches!(parse("files=1"), Err(Error::UnknownName { .. })));
        assert!(matches!(parse("nofile=2:1"), Err(Error::SoftAboveHard { .. })));
    }

    #[test]
    fn names_round_trip() {
        for (short, typ, expected) in TABLE {
            assert_eq!((name(typ), number(typ), parse_name(short)), (short, expected, Some(typ)));
        }
    }

    #[test]
    fn lowering_keeps_what_is_allowed() {
        let wish = limit(PosixRlimitType::RlimitNofile, 1_048_576, 1_048_576);
        assert_eq!(lower(wish, 4096), limit(PosixRlimitType::RlimitNofile, 4096, 4096));
        assert_eq!(lower(wish, UNLIMITED), wish);
    }
}
