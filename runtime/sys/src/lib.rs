//! Safe wrappers of Linux calls, without policy. The only crate of the workspace that contains `unsafe`.
//!
//! One concern a file; each `unsafe` block says why safe code cannot do it and why it is sound.

pub mod beneath;
pub mod bpf;
pub mod caps;
pub mod feature;
pub mod fs;
pub mod idmap;
pub mod lock;
pub mod loopback;
pub mod memfd;
pub mod mount;
pub mod named_file;
pub mod netdevice;
pub mod pidfd;
pub mod process;
pub mod pty;
pub mod relay;
pub mod scm;
pub mod seccomp_load;
pub mod signal;
pub mod tiny_init;
pub mod trampoline;
pub mod user;
pub mod writeback;
pub mod xattr;
