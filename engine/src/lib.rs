//! The engine: containers, images, builds and state. What the user means, without wording, output or exit codes.
//!
//! One concrete [`Engine`] serves the command line and later the REST service, with plain request and report
//! structs. Everything is synchronous. Any process may be killed at any instant: the truth lies on disk, and the
//! next command works from it.
#![forbid(unsafe_code)]

pub mod build;
pub mod containers;
pub mod entry;
mod error;
pub mod images;
pub mod login;
pub mod options;
pub mod system;

pub use error::{Error, ErrorKind, Result};
pub use system::version;

use std::path::PathBuf;
use std::sync::Arc;

/// The global options.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// `--root`; `None` = /var/lib/davit, or the user's data directory.
    pub root: Option<PathBuf>,
    /// `--runroot`; `None` = /run/davit, or the user's runtime directory.
    pub runroot: Option<PathBuf>,
    /// `--storage-driver`: `overlay` or `vfs`; `None` = what works here.
    pub storage_driver: Option<String>,
    /// `--cgroup-manager`: `cgroupfs`; `None` = what works here.
    pub cgroup_manager: Option<String>,
    /// `--runtime`: `davit` or `None` = the built-in one; others are refused by name for now.
    pub runtime: Option<String>,
    /// `--tmpdir`.
    pub tmpdir: Option<PathBuf>,
    /// `--log-level`, handed on to the commands that monitors run.
    pub log_level: Option<String>,
}

/// One store, one state directory, one run directory.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {}

impl Engine {
    /// Opens store and state; nothing is scanned.
    pub fn open(_options: EngineOptions, _entered: entry::Entered) -> Result<Self> {
        todo!()
    }

    /// The images.
    pub fn images(&self) -> images::Images<'_> {
        images::Images { engine: self }
    }

    /// The containers.
    pub fn containers(&self) -> containers::Containers<'_> {
        containers::Containers { engine: self }
    }
}
