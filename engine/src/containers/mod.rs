//! Containers: one file a verb, and what the verbs share.

mod commit;
mod copy;
mod create;
mod diff;
mod exec;
mod export;
mod files;
mod health;
mod inspect;
mod list;
mod logs;
mod notify;
mod remove;
mod request;
mod requests;
mod restart;
mod rootfs;
mod select;
pub(crate) mod session;
mod settings;
mod settle;
mod specification;
mod start;
mod stats;
mod status;
mod stop;
mod top;
mod update;
mod volumes;

pub use commit::CommitRequest;
pub use copy::{CopyEnd, CopyRequest};
pub use diff::{Change, ChangeKind};
pub use health::{HealthResult, HealthStatus};
pub use inspect::*;
pub use request::CreateRequest;
pub use requests::*;
pub use stats::ContainerStats;
pub use top::{ProcessTable, process_descriptors, read_descriptors};
pub use update::UpdateRequest;

use crate::Engine;

/// The containers of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'a> {
    pub(crate) engine: &'a Engine,
}
