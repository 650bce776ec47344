//! Leases: what a running operation makes and uses, protected as long as its process lives.

use crate::error::Result;
use oci::{ChainId, Digest};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Something that a lease protects from a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A blob.
    Blob(Digest),
    /// A layer with its blobs, its snapshot and the layers below it.
    Layer(ChainId),
    /// A committed snapshot and those below it.
    Snapshot(String),
    /// An image and all that belongs to it.
    Image(Digest),
    /// An active snapshot that the lease owns: removed with the lease, unless committed or held by a file.
    Active(String),
}

/// A running operation. Dropping it ends it: what it made and nothing names is removed or left to the next sweep.
///
/// May be shared between threads. It must not outlive the process that made it (a fork that keeps the descriptor
/// would keep it alive).
#[derive(Debug)]
pub struct Lease {
    id: String,
}

impl Lease {
    /// The lease's name in the store.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A working directory of the operation inside the store, made on first use, removed with the lease.
    pub fn directory(&self) -> Result<PathBuf> {
        todo!()
    }

    /// Protects something that the operation uses until the lease ends. Returns `false`, and protects nothing, where
    /// it does not exist (any more).
    pub fn hold(&self, hold: Hold) -> Result<bool> {
        let _ = hold;
        todo!()
    }
}
