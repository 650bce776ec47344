//! Progress of long work, on standard error.
//!
//! A build is shown by one of several views, live on a terminal, as plain lines, or as JSON for programs
//! (docs/progress.md). While a shell has the terminal (`--on-fail=shell`) events wait.

mod echo;
mod json;
mod live;
mod plain;
mod record;
mod timings;
mod transfer;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::build::{BuildEvent, BuildReport};

use super::note;
use crate::args::ProgressMode;
use crate::error::{Attempt, Failure};
pub(crate) use transfer::Transfer;

/// Events that wait for the end of a shell at most; output beyond it is left out.
const WAITING: usize = 100_000;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A way to show a build. Called from several threads.
trait View: Send + Sync {
    /// Shows an event.
    fn event(&self, event: &BuildEvent);

    /// Shows a warning.
    fn warning(&self, text: &str);

    /// Says a line that was asked for.
    fn tell(&self, text: &str);

    /// A shell takes the terminal over; `text` says why.
    fn suspend(&self, text: &str);

    /// The terminal is free again.
    fn resume(&self) {}

    /// The build ended; takes what is still drawn off the terminal. Whether it told a failure itself.
    fn finish(&self, end: Result<&BuildReport, &Failure>) -> bool;
}

/// Progress of a build.
pub(crate) struct Build {
    view: Option<Box<dyn View>>,
    record: Option<record::Record>,
    timings: Option<PathBuf>,
    /// Events that came while a shell had the terminal.
    waiting: Mutex<Option<Vec<BuildEvent>>>,
}

impl Build {
    /// `auto` is live on a terminal and plain elsewhere.
    pub(crate) fn new(mode: ProgressMode, quiet: bool, timings: Option<&Path>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let view: Option<Box<dyn View>> = match mode {
            ProgressMode::Json => Some(Box::new(json::Json::new())),
            _ if quiet => None,
            ProgressMode::Quiet => None,
            ProgressMode::Plain => Some(Box::new(plain::Plain::new())),
            ProgressMode::Auto if !terminal => Some(Box::new(plain::Plain::new())),
            ProgressMode::Auto | ProgressMode::Tty => Some(Box::new(live::Live::new())),
        };
        let record = timings.map(|_| record::Record::new());
        Self { view, record, timings: timings.map(Path::to_owned), waiting: Mutex::new(None) }
    }

    /// Says a line that was asked for, also when the rest is quiet.
    pub(crate) fn tell(&self, text: &str) {
        match &self.view {
            Some(view) => view.tell(text),
            None => note(text),
        }
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &BuildEvent) {
        if let Some(record) = &self.record {
            record.event(event);
        }
        let mut waiting = lock(&self.waiting);
        match event {
            BuildEvent::ShellOpened { message, .. } => {
                let text = format!(
                    "the command failed ({message}): a shell follows in its file system. End it with `exit 0` to go on with what is there then, with `exit 1` to give up."
                );
                match &self.view {
                    Some(view) => {
                        view.event(event);
                        view.suspend(&text);
                    }
                    None => note(&text),
                }
                *waiting = Some(Vec::new());
            }
            BuildEvent::ShellClosed { .. } => {
                let events = waiting.take().unwrap_or_default();
                if let Some(view) = &self.view {
                    view.resume();
                    view.event(event);
                    events.iter().for_each(|event| view.event(event));
                }
            }
            event => match (&mut *waiting, &self.view) {
                (Some(events), _) => {
                    if events.len() < WAITING || !matches!(event, BuildEvent::Output { .. }) {
                        events.push(event.clone());
                    }
                }
                (None, Some(view)) => {
                    drop(waiting);
                    view.event(event);
                }
                (None, None) => {}
            },
        }
    }

    /// Ends the view and writes the page of timings.
    pub(crate) fn finish(&self, end: Result<BuildReport, Failure>) -> Result<BuildReport, Failure> {
        let told = self.view.as_ref().is_some_and(|view| view.finish(end.as_ref()));
        let page = match (&self.record, &self.timings) {
            (Some(record), Some(path)) => {
                let page = timings::page(&record.finish(), end.as_ref());
                std::fs::write(path, page).attempt(format!("write the timings to {}", path.display()))
            }
            _ => Ok(()),
        };
        match end {
            Err(failure) if told => Err(failure.told()),
            Err(failure) => Err(failure),
            Ok(report) => {
                page?;
                Ok(report)
            }
        }
    }
}

/// A warning for people; one that is drawn begins with the word itself.
fn warning(text: &str) -> String {
    match text.strip_prefix("warning") {
        Some(rest) => format!("Warning{rest}"),
        None => format!("Warning: {text}"),
    }
}

/// A terminal's text in one line, without what would move the cursor or change its colours.
fn one_line(text: &str) -> String {
    // Of a line that was written over, the last version.
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.rsplit('\r').next().unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a letter, an operating system command with BEL or ESC \\.
                Some('[') => drop(chars.by_ref().find(|char| ('@'..='~').contains(char))),
                Some(']') => {
                    while let Some(char) = chars.next() {
                        if char == '\u{7}' || (char == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => out.push(' '),
            char if char.is_control() => {}
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn lines_for_a_terminal() {
        for (text, shown) in [
            ("plain", "plain"),
            ("10%\r50%\r100%\r\n", "100%"),
            ("\u{1b}[1;31mred\u{1b}[0m\tx", "red x"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;x\u{1b}\\b\u{8}", "ab"),
            ("\u{1b}", ""),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(one_line(text), shown, "{text:?}");
        }
    }
}
