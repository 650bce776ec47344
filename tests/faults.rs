//! What a machine does to a store: processes killed at random moments, a disk that fills, a network that lies.
//!
//! After each of them every command works, nothing is accounted for that is not there, and nothing stays behind.
//! `DAVIT_FAULT_SEED` repeats a run, `DAVIT_FAULT_KILLS` asks for more than the 200 kills. Needs root: loop devices.

mod disk;
mod kills;
pub(crate) mod proxy;

use crate::support::{Davit, tool};

/// Numbers that only look random; the seed is printed with a failure.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        let seed = std::env::var("DAVIT_FAULT_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
        // With the output of a test that fails.
        #[allow(clippy::print_stderr)]
        {
            eprintln!("DAVIT_FAULT_SEED={seed}");
        }
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Bytes of the files below the store, but for the log of events, which is bounded by itself.
pub(super) fn bytes(davit: &Davit) -> u64 {
    let (root, events) = (davit.root(), davit.root().join("events"));
    let (root, events) = (root.to_str().unwrap(), events.to_str().unwrap());
    let sizes = tool("find", [root, "-path", events, "-prune", "-o", "-type", "f", "-printf", "%s\n"]).ok();
    sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum()
}

/// Removes all that can be asked to go; gives the bytes that stay.
pub(super) fn emptied(davit: &Davit) -> u64 {
    davit.run(["rm", "-af", "-t", "0"]).ok();
    davit.run(["rmi", "-af"]).ok();
    davit.run(["system", "prune", "-af", "--build"]).ok();
    bytes(davit)
}
