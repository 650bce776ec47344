//! Capability sets of the calling thread. Sets are bit masks in the kernel's numbering.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use rustix::thread::{CapabilitySet, CapabilitySets};

/// The five sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets {
    /// Limits what exec can give.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// May be made effective.
    pub permitted: u64,
    /// Kept over exec by files that ask for it.
    pub inheritable: u64,
    /// Kept over exec of plain files.
    pub ambient: u64,
}

/// Reads the sets of the caller.
pub fn current() -> io::Result<Sets> {
    let text = fs::read_to_string("/proc/thread-self/status")?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    };
    Ok(Sets {
        bounding: field("CapBnd:")?,
        effective: field("CapEff:")?,
        permitted: field("CapPrm:")?,
        inheritable: field("CapInh:")?,
        ambient: field("CapAmb:")?,
    })
}

/// Reads the permitted set of the caller; needs no /proc.
pub fn current_permitted() -> io::Result<u64> {
    Ok(rustix::thread::capabilities(None)?.permitted.bits())
}

fn each() -> impl Iterator<Item = (u64, CapabilitySet)> {
    (0..64).map(|number| 1_u64 << number).map(|bit| (bit, CapabilitySet::from_bits_retain(bit)))
}

/// Removes from the bounding set all that is not in `keep`. Needs CAP_SETPCAP for each that is removed.
pub fn drop_bounding(keep: u64) -> io::Result<()> {
    for (bit, set) in each() {
        match rustix::thread::capability_is_in_bounding_set(set) {
            Ok(true) if keep & bit == 0 => rustix::thread::remove_capability_from_bounding_set(set)?,
            Ok(_) => {}
            // Beyond the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sets effective, permitted and inheritable at once.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Raises the ambient capabilities of `ambient`, clearing others. Those not permitted and inheritable are EPERM.
pub fn set_ambient(ambient: u64) -> io::Result<()> {
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) => {}
        // Kernels before 4.3 have no ambient set, which is only a failure where one is asked for.
        Err(rustix::io::Errno::INVAL) if ambient == 0 => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for (_, set) in each().filter(|(bit, _)| ambient & bit != 0) {
        rustix::thread::configure_capability_in_ambient_set(set, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_sets_are_read() {
        let sets = current().unwrap();
        assert_eq!(sets.effective & !sets.permitted, 0);
    }
}
