//! Containers: one file a verb, and what the verbs share.

mod create;
mod exec;
mod inspect;
mod list;
mod logs;
mod remove;
mod requests;
mod select;
pub(crate) mod session;
mod settings;
mod start;
mod status;
mod stop;

pub use inspect::*;
pub use requests::*;

use crate::Engine;

/// The containers of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'a> {
    pub(crate) engine: &'a Engine,
}
