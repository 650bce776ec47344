//! Cutting an instruction's line into words.

use super::lexer::Joined;
use super::source::{Span, Spanned};
use crate::expand::{Escape, Word};
use std::ops::Range;

/// A part of a joined line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Args<'a> {
    joined: &'a Joined,
    start: usize,
    end: usize,
    escape: Escape,
}

/// Blanks between words.
pub(super) fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

impl<'a> Args<'a> {
    pub(super) fn whole(joined: &'a Joined, escape: Escape) -> Self {
        Self { joined, start: 0, end: joined.text.len(), escape }.trimmed()
    }

    pub(super) fn text(&self) -> &'a str {
        &self.joined.text[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub(super) fn escape(&self) -> Escape {
        self.escape
    }

    /// Place in the file of a range of the text.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        self.joined.span(self.start + start, self.start + end)
    }

    /// Place of all of it.
    pub(super) fn full_span(&self) -> Span {
        self.joined.span(self.start, self.end)
    }

    /// A part of it, without blanks around.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        Self { start: self.start + range.start, end: self.start + range.end, ..*self }.trimmed()
    }

    fn trimmed(self) -> Self {
        let text = self.text();
        let start = self.start + (text.len() - text.trim_start().len());
        let end = self.end - (text.len() - text.trim_end().len());
        Self { start: start.min(self.end), end: end.max(start.min(self.end)), ..self }
    }

    /// The first word, and what follows it.
    pub(super) fn first(&self) -> (Self, Self) {
        let text = self.text();
        let end = text.find(is_blank).unwrap_or(text.len());
        (self.part(0..end), self.part(end..text.len()))
    }

    pub(super) fn word(&self, range: Range<usize>) -> Word {
        Word::new(&self.text()[range.clone()], self.span(range.start, range.end), self.escape)
    }

    /// All of it as one word.
    pub(super) fn as_word(&self) -> Word {
        self.word(0..self.text().len())
    }

    /// All of it as a string.
    pub(super) fn as_string(&self) -> Spanned<String> {
        Spanned::new(self.text().to_owned(), self.full_span())
    }

    /// Ranges between blanks; quotes mean nothing.
    pub(super) fn fields(&self) -> Vec<Range<usize>> {
        let text = self.text();
        let mut fields = Vec::new();
        let mut start = None;
        for (at, char) in text.char_indices() {
            match (is_blank(char), start) {
                (true, Some(from)) => {
                    fields.push(from..at);
                    start = None;
                }
                (false, None) => start = Some(at),
                _ => {}
            }
        }
        fields.extend(start.map(|from| from..text.len()));
        fields
    }

    /// Ranges between blanks that are neither quoted nor escaped; quotes stay in the words.
    pub(super) fn quoted_fields(&self) -> Vec<Range<usize>> {
        let text = self.text();
        let escape = self.escape.char();
        let mut fields = Vec::new();
        let mut start = None;
        let mut quote = None;
        let mut escaped_end = false;
        let mut chars = text.char_indices();
        while let Some((at, char)) = chars.next() {
            if quote.is_none() && char.is_whitespace() {
                if let Some(from) = start.take() {
                    fields.push(from..at);
                }
                continue;
            }
            start.get_or_insert(at);
            match quote {
                Some(open) if char == open => quote = None,
                Some('\'') => {}
                None if char == '\'' || char == '"' => quote = Some(char),
                _ if char == escape => escaped_end = chars.next().is_none(),
                _ => {}
            }
            // An escape character with nothing behind it is dropped.
            if escaped_end {
                fields.extend(start.filter(|&from| from < at).map(|from| from..at));
                return fields;
            }
        }
        fields.extend(start.map(|from| from..text.len()));
        fields
    }
}
