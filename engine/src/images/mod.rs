//! Images: one file a verb, and what the verbs share.

mod archive;
mod copy;
pub(crate) mod import;
mod list;
mod lists;
pub(crate) mod lookup;
mod outgoing;
mod requests;
mod save;
mod search;
pub(crate) mod store_end;
mod tag;
pub(crate) mod transfer;
mod tree;
mod trust;
mod trust_policy;

pub use copy::{ImageCopyReport, ImageCopyRequest};
pub use lists::{EntryChange, ListAddRequest, ListCreateRequest};
pub(crate) use outgoing::Outgoing;
pub use outgoing::{ManifestSummary, Subject};
pub use requests::*;
pub use search::{SearchHit, SearchRequest};
pub use tree::{Child, ImageTree, TreeLayer};

use crate::Engine;

/// The images of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    pub(crate) engine: &'a Engine,
}
