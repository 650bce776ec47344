//! Owned by the layer half of the crate.
