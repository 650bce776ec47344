//! User and group id maps of user namespaces.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// One range of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First id inside the namespace.
    pub inside: u32,
    /// First id outside, in the namespace of the writer.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Which of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `uid_map`.
    User,
    /// `gid_map`.
    Group,
}

/// The text the kernel reads.
pub fn format(ranges: &[Range]) -> String {
    ranges.iter().fold(String::new(), |mut text, range| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.count);
        text
    })
}

/// Parses the text of /proc/PID/uid_map; lines that are not three numbers are skipped.
pub fn parse(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().map(|field| field.parse().ok());
            Some(Range { inside: fields.next()??, outside: fields.next()??, count: fields.next()?? })
        })
        .collect()
}

/// Writes a map of `process` directly; needs CAP_SETUID or CAP_SETGID in the writer's namespace.
pub fn write(process: u32, kind: Kind, ranges: &[Range]) -> io::Result<()> {
    let name = match kind {
        Kind::User => "uid_map",
        Kind::Group => "gid_map",
    };
    // The kernel takes the whole map in one write.
    fs::write(format!("/proc/{process}/{name}"), format(ranges))
}

/// Forbids or allows setgroups(2) in the namespace of `process`; an unprivileged writer must forbid it before a group
/// map is accepted.
pub fn write_setgroups(process: u32, allow: bool) -> io::Result<()> {
    fs::write(format!("/proc/{process}/setgroups"), if allow { "allow" } else { "deny" })
}

/// Writes a map through `newuidmap` or `newgidmap`, for unprivileged writers with subordinate ids.
pub fn write_with_helper(process: u32, kind: Kind, ranges: &[Range]) -> io::Result<()> {
    let program = match kind {
        Kind::User => "newuidmap",
        Kind::Group => "newgidmap",
    };
    let mut command = Command::new(program);
    command.arg(process.to_string());
    for range in ranges {
        command.args([range.inside.to_string(), range.outside.to_string(), range.count.to_string()]);
    }
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program}: {text}")))
}

/// Tells whether the caller is in a user namespace other than the first: its id map is not the identity.
pub fn in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map")
        .map(|text| parse(&text) != [Range { inside: 0, outside: 0, count: u32::MAX }])
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_round_trip() {
        let ranges = [
            Range { inside: 0, outside: 1000, count: 1 },
            Range { inside: 1, outside: 100_000, count: 65536 },
        ];
        assert_eq!(format(&ranges), "0 1000 1\n1 100000 65536\n");
        assert_eq!(parse(&format(&ranges)), ranges);
        assert_eq!(parse("         0          0 4294967295\n")[0].count, u32::MAX);
        assert!(parse("a b c\n1 2\n").is_empty());
    }
}
