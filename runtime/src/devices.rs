//! Device nodes and device rules.
