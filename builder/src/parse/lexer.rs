//! Lines of a file, continued ones joined.

use super::source::{Span, Spanned};

/// An instruction's line with its continuations, and where each byte of it came from.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) text: String,
    /// Offset in the text, offset in the file: the start of each run of bytes that stand together in both.
    pieces: Vec<(usize, usize)>,
    /// Whether an empty line stood between the continued ones.
    pub(super) empty_line: bool,
    /// The comment lines directly above.
    pub(super) comments: Vec<Spanned<String>>,
}

impl Joined {
    fn push(&mut self, file: &str, span: Span) {
        self.pieces.push((self.text.len(), span.start));
        self.text.push_str(&file[span.start..span.end]);
    }

    fn source(&self, offset: usize) -> usize {
        let index = self.pieces.partition_point(|&(start, _)| start <= offset).saturating_sub(1);
        self.pieces.get(index).map_or(0, |&(start, source)| source + (offset - start))
    }

    /// Place in the file of a range of the text.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        if start >= end {
            let at = self.source(start.min(self.text.len()));
            return Span::new(at, at);
        }
        Span::new(self.source(start), self.source(end - 1) + 1)
    }
}

/// Cuts a file into [`Joined`] lines and bodies of here-documents.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    file: &'a str,
    position: usize,
    escape: char,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(file: &'a str, position: usize, escape: char) -> Self {
        Self { file, position, escape }
    }

    /// The next line without its end.
    fn line(&mut self) -> Option<Span> {
        let start = self.position;
        if start >= self.file.len() {
            return None;
        }
        let end = self.file[start..].find('\n').map_or(self.file.len(), |at| start + at + 1);
        self.position = end;
        let text = self.file[start..end].trim_end_matches(['\n', '\r']);
        Some(Span::new(start, start + text.len()))
    }

    pub(super) fn text(&self, span: Span) -> &'a str {
        &self.file[span.start..span.end]
    }

    /// The next instruction.
    pub(super) fn joined(&mut self) -> Option<Joined> {
        let mut joined = Joined::default();
        loop {
            let line = self.line()?;
            let text = self.text(line).trim_start();
            if let Some(comment) = text.strip_prefix('#') {
                let start = line.end - comment.trim_start().len();
                let comment = comment.trim();
                joined
                    .comments
                    .push(Spanned::new(comment.to_owned(), Span::new(start, start + comment.len())));
                continue;
            }
            if text.is_empty() {
                joined.comments.clear();
                continue;
            }
            let line = Span::new(line.end - text.len(), line.end);
            if self.add(&mut joined, line) {
                self.continue_line(&mut joined);
            }
            if joined.text.trim().is_empty() {
                // Nothing but escape characters.
                joined = Joined::default();
                continue;
            }
            return Some(joined);
        }
    }

    fn continue_line(&mut self, joined: &mut Joined) {
        while let Some(line) = self.line() {
            let text = self.text(line).trim_start();
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                joined.empty_line = true;
                continue;
            }
            if !self.add(joined, line) {
                return;
            }
        }
    }

    /// Adds a line; returns whether the next one continues it.
    fn add(&self, joined: &mut Joined, line: Span) -> bool {
        let text = self.text(line);
        let body = text.trim_end_matches([' ', '\t']);
        let continued = body.strip_suffix(self.escape).filter(|body| !body.ends_with(self.escape));
        let length = continued.unwrap_or(text).len();
        joined.push(self.file, Span::new(line.start, line.start + length));
        continued.is_some()
    }

    /// Takes the lines up to the one that equals the marker. `Err` holds a line that nearly was the end, if any; the
    /// file is then read to its end.
    pub(super) fn heredoc(&mut self, marker: &str, strip_tabs: bool) -> Result<Span, Option<Span>> {
        let start = self.position;
        let mut near = None;
        while let Some(line) = self.line() {
            let text = self.text(line);
            let candidate = if strip_tabs { text.trim_start_matches('\t') } else { text };
            if candidate == marker {
                return Ok(Span::new(start, line.start));
            }
            if near.is_none() && text.trim() == marker {
                near = Some(line);
            }
        }
        Err(near)
    }

    /// Where the next line begins, to come back to with [`Lexer::rewind`].
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Goes back to an earlier [`Lexer::position`].
    pub(super) fn rewind(&mut self, position: usize) {
        self.position = position;
    }
}
