//! The terminal below a view that is redrawn.

use std::io::Stderr;
use std::sync::Mutex;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::lock;

/// Keeps the terminal from writing `^C` where a row of the view ends: it would begin a new row there, and the view be
/// redrawn one row too low. Gone with its value.
#[derive(Default)]
pub(super) struct Echo {
    /// What the terminal was like.
    before: Mutex<Option<Termios>>,
}

impl Echo {
    /// Changes the terminal, where this process may: one in the background would be stopped for trying.
    pub(super) fn hide(&self) {
        let terminal = std::io::stderr();
        if tcgetpgrp(&terminal).ok() != Some(getpgrp()) {
            return;
        }
        let Ok(before) = tcgetattr(&terminal) else { return };
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHOCTL);
        if tcsetattr(&terminal, OptionalActions::Now, &hidden).is_ok() {
            *lock(&self.before) = Some(before);
        }
    }

    /// Gives the terminal back as it was.
    pub(super) fn show(&self) {
        let terminal: Stderr = std::io::stderr();
        if let Some(before) = lock(&self.before).take()
            && tcgetpgrp(&terminal).ok() == Some(getpgrp())
        {
            let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.show();
    }
}
