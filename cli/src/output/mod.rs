//! What davit prints: tables, Go templates, JSON, sizes and times, progress.
//!
//! Results go to standard output, everything else to standard error. The only place of the crate that prints.

pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;

use std::io::Write;

/// Writes a line to standard output; a closed pipe ends the program quietly, as it ends other filters.
pub(crate) fn line(text: &str) {
    raw(format!("{text}\n").as_bytes());
}

/// Writes bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        note(&format!("Error: write standard output: {error}"));
    }
}

/// Writes a line to standard error. There is nowhere to report a failure to.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
