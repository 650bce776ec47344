//! IDs and names.

use crate::{Error, Result};

const LEFT: [&str; 48] = [
    "amber", "ample", "azure", "bold", "brisk", "bright", "calm", "clear", "clever", "cosy", "crisp",
    "curious", "dapper", "deft", "eager", "early", "fair", "fond", "frank", "fresh", "gentle", "glad",
    "golden", "grand", "green", "happy", "hardy", "honest", "jolly", "keen", "kind", "lively", "lucid",
    "merry", "mild", "neat", "nimble", "noble", "patient", "plain", "proud", "quick", "quiet", "rapid",
    "sober", "steady", "sunny", "witty",
];

// instruments and gear of ships: a davit is the crane that lowers their boats
const RIGHT: [&str; 48] = [
    "anchor", "barge", "beacon", "binnacle", "boom", "bosun", "bowline", "brig", "buoy", "cable", "canoe",
    "capstan", "cleat", "clipper", "cog", "compass", "cutter", "derrick", "dinghy", "ferry", "fender",
    "frigate", "gaff", "galley", "halyard", "harbour", "hawser", "hull", "jetty", "junk", "keel", "ketch",
    "lantern", "mast", "mooring", "oar", "pier", "quay", "rudder", "schooner", "sextant", "skiff", "sloop",
    "spar", "tender", "tiller", "winch", "yawl",
];

/// 64 random hex digits.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A random name of an adjective and a noun; later attempts add a number.
pub(crate) fn random_name(attempt: usize) -> Result<String> {
    let mut bytes = [0_u8; 4];
    fill(&mut bytes)?;
    let left = LEFT[usize::from(bytes[0]) % LEFT.len()];
    let right = RIGHT[usize::from(bytes[1]) % RIGHT.len()];
    Ok(match attempt {
        0..3 => format!("{left}_{right}"),
        _ => format!("{left}_{right}{}", u16::from_le_bytes([bytes[2], bytes[3]])),
    })
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| Error::os("read random bytes", std::io::Error::other(error.to_string())))
}

/// Whether this is a whole ID.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a container may have this name: a letter or digit, then letters, digits, `_`, `.` and `-`.
pub(crate) fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 255
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

pub(crate) fn check(name: &str) -> Result<()> {
    if is_valid(name) {
        return Ok(());
    }
    Err(Error::invalid(
        format!("container name {name}"),
        "names begin with a letter or digit, then letters, digits, '_', '.' and '-'",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_valid() {
        for attempt in 0..6 {
            check(&random_name(attempt).unwrap()).unwrap();
        }
        assert!(is_id(&random_id().unwrap()));
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        for name in ["", ".", "..", "a/b", "-a", "a b", "ä"] {
            assert!(!is_valid(name), "{name}");
        }
    }
}
