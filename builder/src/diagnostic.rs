//! Errors and warnings that point at a place in a file.
//!
//! A [`Diagnostic`] is data; [`Diagnostic::render`] draws it with the line and a caret. Which of them end a build,
//! and with what exit status, is not decided here.

use crate::parse::{Source, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::sync::Arc;

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
}

impl Diagnostic {
    /// An error.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, rule: None, message: message.into(), span, label: None, hint: None }
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
        let mut title = level.primary_title(self.message.as_str());
        if let Some(rule) = self.rule {
            title = title.id(rule);
        }
        if self.span == Span::NOWHERE {
            let mut group = Group::with_title(title);
            if let Some(hint) = &self.hint {
                group = group.element(Level::HELP.message(hint.as_str()));
            }
            return renderer.render(&[group]);
        }
        let text = source.text();
        let start = floor_boundary(text, self.span.start);
        let mut end = ceil_boundary(text, self.span.end.max(self.span.start));
        // Of a place that spans lines, only the first is drawn: the rest is rarely what is wrong.
        if let Some(newline) = text[start..end].find('\n') {
            end = start + newline;
        }
        let end = start + text[start..end].trim_end().len();
        // Only this one line is given to the renderer: it must not grow with the file.
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let clip = |offset: usize| (offset - line_start).min(line.len());
        let mut annotation = AnnotationKind::Primary.span(clip(start)..clip(end));
        if let Some(label) = &self.label {
            annotation = annotation.label(label.as_str());
        }
        let snippet = Snippet::source(line)
            .path(source.name())
            .line_start(source.line(start))
            .fold(false)
            .annotation(annotation);
        let mut group = title.element(snippet);
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        renderer.render(&[group])
    }
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
            let distance = edit_distance(&word, &other);
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
