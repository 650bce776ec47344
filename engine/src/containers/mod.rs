//! Containers: one file a verb, and what the verbs share.

mod commit;
mod copy;
mod create;
mod diff;
mod exec;
mod export;
mod files;
mod inspect;
mod list;
mod logs;
mod remove;
mod requests;
mod select;
pub(crate) mod session;
mod settings;
mod start;
mod stats;
mod status;
mod stop;
mod top;
mod update;

pub use commit::CommitRequest;
pub use copy::{CopyEnd, CopyRequest};
pub use diff::{Change, ChangeKind};
pub use inspect::*;
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
