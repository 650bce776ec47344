//! The runtime on the command line, one file a concern. What the specification says of every runtime is asked of runc,
//! too, in the same breath: a test that runc fails judges nobody.

mod cgroups;
mod console;
mod devices;
mod engines;
mod exec;
mod hooks;
mod lab;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod refusals;
mod rootless;
mod seccomp;
mod unified;
