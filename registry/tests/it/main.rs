//! Integration tests of the crate `registry`: against the registry in this process, Debian's real one, and peers.
#![allow(clippy::unwrap_used)]

mod archives;
mod attachments;
mod authentication;
mod faults;
mod fixture;
mod fuzz_corpus;
mod peers;
mod protocol;
mod real;
mod trust;
