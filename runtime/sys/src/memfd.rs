//! Sealed copies in memory.
