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

/// Writes lines to standard output at once, so that a long list costs one call.
pub(crate) fn lines<'a>(lines: impl Iterator<Item = &'a str>) {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    raw(text.as_bytes());
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

/// Bytes in base64, for JSON.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            let used = place <= group.len();
            text.push(if used { char::from(DIGITS[digit as usize]) } else { '=' });
        }
    }
    text
}

/// Writes a line to standard error. There is nowhere to report a failure to.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
