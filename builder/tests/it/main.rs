//! Whole builds in a temporary store, with a small executor of their own: mounts, then chroot.
#![allow(clippy::unwrap_used)]

mod builds;
mod cache;
mod copies;
mod harness;
