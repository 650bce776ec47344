//! Tests of the whole binary: real containers, real registries, real peers. They need root, and the packages that
//! `tests/run` installs; each test has a store of its own, so all of them run at the same time.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bad_registry;
mod build;
mod build_failure;
mod build_flags;
mod build_outputs;
mod build_progress;
mod cache;
mod changes;
mod check;
mod cli;
mod contexts;
mod copy;
mod crash;
mod differential;
mod docker;
mod escape;
mod events;
mod explain;
mod faults;
mod health;
mod hostile_context;
mod image_copy;
mod interop;
pub(crate) mod limits;
mod listing;
mod mounting;
mod oci_runtime;
mod platforms;
mod registry_serve;
mod remote_access;
mod remote_add;
mod reproducible;
mod restart_policy;
mod rootless;
mod run;
mod run_flags;
mod share;
mod support;
mod system;
mod trust;
mod usage;
mod user_namespaces;
mod verbs;
mod volumes;
