//! `<<MARKER` words.

use std::ops::Range;

/// A `[fd]<<[-]MARKER` word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) range: Range<usize>,
    pub(super) fd: u32,
    pub(super) strip_tabs: bool,
    /// The marker without quotes.
    pub(super) name: String,
    pub(super) quoted: bool,
}

/// All such words of a line. A line with an open quote has none: the quote may go on in what looks like a body.
pub(super) fn find(text: &str) -> Vec<Mark> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let mut marks = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut depth = 0_usize;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if quote.is_none() && depth == 0 && char.is_whitespace() {
            if let Some(from) = start.take() {
                marks.extend(mark(text, from..at));
            }
            continue;
        }
        start.get_or_insert(at);
        match quote {
            Some(open) if char == open => quote = None,
            Some('\'') => {}
            None if char == '\'' || char == '"' => quote = Some(char),
            _ if char == '\\' => {
                chars.next();
            }
            _ if char == '$' && chars.peek().is_some_and(|&(_, next)| next == '{') => {
                chars.next();
                depth += 1;
            }
            _ if char == '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if quote.is_some() {
        return Vec::new();
    }
    marks.extend(start.and_then(|from| mark(text, from..text.len())));
    marks
}

fn mark(text: &str, range: Range<usize>) -> Option<Mark> {
    let word = &text[range.clone()];
    let operator = word.find(|char: char| !char.is_ascii_digit())?;
    let fd = word[..operator].parse().unwrap_or(0);
    let rest = word[operator..].strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name = unquoted(rest);
    (!name.is_empty()).then(|| Mark { range, fd, strip_tabs, quoted: name != rest, name })
}

fn unquoted(word: &str) -> String {
    let mut result = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(char) = chars.next() {
        match quote {
            Some(open) if char == open => quote = None,
            Some('\'') => result.push(char),
            None if char == '\'' || char == '"' => quote = Some(char),
            _ if char == '\\' => result.extend(chars.next()),
            _ => result.push(char),
        }
    }
    result
}
