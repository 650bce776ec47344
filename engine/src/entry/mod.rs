//! The first thing that `main` does, while the process has one thread.

use crate::Result;

/// What the command is going to do. It decides which processes are forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Neither store nor containers: `--help`, `version`, `login`.
    Nothing,
    /// Store and state: `images`, `ps`, `pull`. An ordinary user enters the user namespace.
    Store,
    /// Also starts processes in containers: `run`, `start`, `exec`, `build`, `restart`.
    Launch,
}

/// What [`enter`] prepared; goes into [`crate::Engine::open`].
#[derive(Debug)]
pub struct Entered {
    pub(crate) warnings: Vec<String>,
}

impl Entered {
    /// What the user should know: a single-id mapping, ...
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Serves a hidden entry point if this process was started as one, and returns its exit code then. To be called
/// before the arguments are read.
pub fn hidden() -> Option<u8> {
    None
}

/// Enters the user's user namespace where that is needed, and forks the spawner where something is to be launched.
///
/// Must run before the first thread; arguments may have been read before.
pub fn enter(_needs: Needs) -> Result<Entered> {
    todo!()
}
