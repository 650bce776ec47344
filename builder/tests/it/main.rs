//! Tests of the builder through its public interface. Whole builds run in a temporary store, with a small executor of
//! their own: mounts, then chroot.
#![allow(clippy::unwrap_used)]

mod builds;
mod cache;
mod copies;
mod corpus;
mod explain;
mod fuzz_corpus;
mod harness;
mod peers;
mod pours;
mod properties;
mod remote;
mod secrets;
mod sizes;
mod tree;
