//! Errors and warnings that point at a place in a file.
//!
//! A [`Diagnostic`] is data; [`Diagnostic::render`] draws it with the line and a caret. Which of them end a build,
//! and with what exit status, is not decided here.

use crate::parse::{Source, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Bytes of a line before the place, or from it on, beyond which the line is cut.
const LONG: usize = 1000;

/// Characters of a message or hint beyond which it is cut: it may quote a word of a megabyte.
const LONG_TEXT: usize = 500;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look.
    Warning,
    /// Nothing can be built.
    Error,
}

/// A message about a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The lint rule that found it.
    pub rule: Option<&'static str>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What few diagnostics have.
    pub details: Option<Box<Details>>,
}

/// What few diagnostics have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// What else there is to know, each in a paragraph of its own.
    pub notes: Vec<String>,
    /// Whether all lines of the place are drawn (those in the middle of many are left out), not the first alone.
    pub whole: bool,
}

impl Diagnostic {
    /// An error.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            span,
            label: None,
            hint: None,
            details: None,
        }
    }

    /// A warning of a lint rule.
    pub fn warning(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule: Some(rule), ..Self::error(span, message) }
    }

    /// With words beside the caret.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With something else to know.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.details.get_or_insert_default().notes.push(note.into());
        self
    }

    /// With all lines of its place.
    #[must_use]
    pub fn with_all_lines(mut self) -> Self {
        self.details.get_or_insert_default().whole = true;
        self
    }

    /// With "did you mean" advice, if there is a name near enough.
    #[must_use]
    pub fn with_nearest<'a>(self, word: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(word, names) {
            Some(name) => {
                let hint = format!("did you mean `{name}`?");
                self.with_hint(hint)
            }
            None => self,
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Draws it: severity, message, file name, line number, the line, a caret, and the hint. No newline at the end.
    pub fn render(&self, source: &Source, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let (message, label) = (shortened(&self.message), self.label.as_deref().map(shortened));
        let mut title = level.primary_title(&*message);
        if let Some(rule) = self.rule {
            title = title.id(rule);
        }
        if self.span == Span::NOWHERE {
            return renderer.render(&[self.remarks(Group::with_title(title))]);
        }
        let text = source.text();
        let start = floor_boundary(text, self.span.start);
        let mut end = ceil_boundary(text, self.span.end.max(self.span.start));
        let whole = self.details.as_ref().is_some_and(|details| details.whole);
        if whole && end - start <= LONG && text[start..end].trim_end().contains('\n') {
            let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
            let lines = &text[line_start..end];
            let place = start - line_start..lines.trim_end().len();
            let mut annotation = AnnotationKind::Primary.span(place);
            if let Some(label) = &label {
                annotation = annotation.label(&**label);
            }
            let snippet =
                Snippet::source(lines).line_start(source.line(start)).fold(true).annotation(annotation);
            let group = title.element(snippet.path(source.name()));
            return renderer.render(&[self.remarks(group)]);
        }
        // Of a place that spans lines, only the first is drawn: the rest is rarely what is wrong.
        if let Some(newline) = text[start..end].find('\n') {
            end = start + newline;
        }
        let end = start + text[start..end].trim_end().len();
        // Only this one line is given to the renderer: it must not grow with the file.
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        // A very long line is drawn in part: its neighbourhood is what helps.
        let from =
            if start - line_start > LONG { floor_boundary(text, start - LONG / 4) } else { line_start };
        let to = line_end.min(ceil_boundary(text, start + LONG)).max(from);
        let line = text[from..to].trim_end_matches('\r');
        let clip = |offset: usize| offset.clamp(from, from + line.len()) - from;
        let mut annotation = AnnotationKind::Primary.span(clip(start)..clip(end));
        if let Some(label) = &label {
            annotation = annotation.label(&**label);
        }
        let number = source.line(start);
        let snippet = Snippet::source(line).line_start(number).fold(false).annotation(annotation);
        let group = if from == line_start {
            title.element(snippet.path(source.name()))
        } else {
            let column = text[line_start..start].chars().count() + 1;
            title.element(Origin::path(source.name()).line(number).char_column(column)).element(snippet)
        };
        renderer.render(&[self.remarks(group)])
    }

    /// Adds the notes and the hint.
    fn remarks<'a>(&'a self, mut group: Group<'a>) -> Group<'a> {
        for note in self.details.iter().flat_map(|details| &details.notes) {
            group = group.element(Level::NOTE.message(shortened(note)));
        }
        match &self.hint {
            Some(hint) => group.element(Level::HELP.message(shortened(hint))),
            None => group,
        }
    }
}

/// The text without its middle if it is very long.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONG_TEXT {
        return Cow::Borrowed(text);
    }
    let (start, end) = (floor_boundary(text, LONG_TEXT / 2), ceil_boundary(text, text.len() - LONG_TEXT / 4));
    Cow::Owned(format!("{}…{}", &text[..start], &text[end..]))
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

fn ceil_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset += 1;
    }
    offset
}

/// Diagnostics with the file they are about, as an error.
#[derive(Debug, Clone)]
pub struct Report {
    /// The file.
    pub source: Arc<Source>,
    /// What is to be said about it, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Puts both together.
    pub fn new(source: Arc<Source>, diagnostics: Vec<Diagnostic>) -> Self {
        Self { source, diagnostics }
    }

    /// All of them drawn, with an empty line between two.
    pub fn render(&self, color: bool) -> String {
        let drawn: Vec<String> =
            self.diagnostics.iter().map(|each| each.render(&self.source, color)).collect();
        drawn.join("\n\n")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// The name that the word most likely was meant to be: at most a third of its letters differ, whatever the case.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let allowed = (word.len().max(3)) / 3;
    names
        .into_iter()
        .filter_map(|name| {
            let other: Vec<char> = name.to_lowercase().chars().take(64).collect();
            if other.len().saturating_sub(word.len()) > allowed && !other.starts_with(&word) {
                return None;
            }
            // The beginning of a name is as good as one wrong letter.
            let begins = word.len() >= 3 && other.starts_with(&word) && other != word;
            let distance = if begins { 1 } else { edit_distance(&word, &other) };
            (distance <= allowed && distance < other.len()).then_some((distance, name))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of two neighbours) from one word to the other.
fn edit_distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, &a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, &b) in right.iter().enumerate() {
            let mut best =
                (last[column] + usize::from(a != b)).min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && a == right[column - 1] && left[row - 1] == b {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

/// An error with its causes, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    caused_by(&error.to_string(), error.source())
}

/// A message with the causes of what it tells, in one line.
pub fn caused_by(message: &str, source: Option<&dyn std::error::Error>) -> String {
    let mut text = message.to_owned();
    let mut next = source;
    while let Some(cause) = next {
        let words = cause.to_string();
        // A transparent wrapper says the same again, and some messages end in their cause.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

/// Whether an error, or what caused it, is that the reader of a pipe went away: then the reader knows why.
pub fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(broken) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let names = ["build", "final", "test-runner"];
        assert_eq!(nearest("biuld", names), Some("build"));
        assert_eq!(nearest("BUILD2", names), Some("build"));
        assert_eq!(nearest("fnal", names), Some("final"));
        assert_eq!(nearest("test", names), Some("test-runner"));
        assert_eq!(nearest("alpine", names), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("", names), None);
    }

    #[test]
    fn what_has_no_place_is_drawn_without_a_line() {
        let source = Source::new("Containerfile", "FROM a\n");
        let drawn = Diagnostic::error(Span::NOWHERE, "no stage `x`").with_hint("none").render(&source, false);
        assert!(drawn.starts_with("error: no stage `x`") && drawn.contains("none"), "{drawn}");
        assert!(!drawn.contains("FROM"), "{drawn}");
    }

    #[test]
    fn places_outside_of_the_text_do_not_hurt() {
        let source = Source::new("Containerfile", "é\n");
        for span in [Span::new(1, 1), Span::new(0, 100), Span::new(50, 60), Span::new(3, 3)] {
            assert!(!Diagnostic::error(span, "x").render(&source, false).is_empty());
        }
    }
}
