//! From the text of a Containerfile to its tree.
//!
//! The lexer joins continued lines and keeps for every byte of the joined line where it came from; the parser cuts
//! words out of joined lines. Errors are collected, so that one run shows them all. Nothing is read from disk, and
//! nothing expanded but to see whether it can be.

mod directives;
mod files;
mod flags;
mod from;
mod health;
mod heredoc;
mod json;
mod lexer;
mod run;
mod source;
mod statement;
mod words;

pub use source::{Source, Span, Spanned};

use crate::diagnostic::{Diagnostic, Report};
use crate::expand::Escape;
use crate::instruction::{Comment, Containerfile, Instruction, Stage, Statement};
use crate::stages::StageNames;
use lexer::{Joined, Lexer};
use statement::Context;
use std::sync::Arc;
use words::Args;

/// A file with more errors than this is no Containerfile; the rest is not looked at.
const MAX_ERRORS: usize = 20;

/// Errors that one instruction may have: a line can be a megabyte long.
const MAX_ERRORS_A_LINE: usize = 8;

/// Keywords of all instructions.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A file's tree, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The tree. Instructions with errors are missing in it.
    pub file: Containerfile,
    /// Errors, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The tree if there was no error.
    pub fn into_result(self) -> Result<Containerfile, Report> {
        if self.diagnostics.iter().any(Diagnostic::is_error) {
            return Err(Report::new(self.file.source, self.diagnostics));
        }
        Ok(self.file)
    }
}

/// Reads a whole file.
pub fn parse(source_name: &str, text: &str) -> Parsed {
    let mut diagnostics = Vec::new();
    let (directives, start) = directives::read(text, &mut diagnostics);
    let mut file = Containerfile {
        source: Arc::new(Source::new(source_name, text)),
        directives,
        global_args: Vec::new(),
        stages: Vec::new(),
        empty_continuations: Vec::new(),
        comments: Vec::new(),
        names: StageNames::default(),
    };
    let escape = file.directives.escape;
    let mut lexer = Lexer::new(text, start, escape.char());
    let mut before_from = BeforeFrom::Nothing;
    while let Some(joined) = lexer.joined() {
        if diagnostics.len() >= MAX_ERRORS {
            let place = joined.span(0, joined.text.len());
            diagnostics
                .push(Diagnostic::error(place, "too many errors: the rest of the file was not looked at"));
            break;
        }
        add_line(&mut file, &mut lexer, &joined, escape, &mut before_from, &mut diagnostics);
    }
    if file.stages.is_empty() && diagnostics.is_empty() {
        let message = match before_from {
            BeforeFrom::Nothing => "the file has no instructions",
            BeforeFrom::Arguments | BeforeFrom::Reported => "the file has no FROM instruction",
        };
        let end = text.trim_end().len();
        diagnostics.push(Diagnostic::error(Span::new(end, end), message));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    Parsed { file, diagnostics }
}

/// What was seen before the first FROM.
enum BeforeFrom {
    Nothing,
    Arguments,
    /// Something that must not stand there: said once.
    Reported,
}

fn add_line(
    file: &mut Containerfile,
    lexer: &mut Lexer<'_>,
    joined: &Joined,
    escape: Escape,
    before_from: &mut BeforeFrom,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let line = Args::whole(joined, escape);
    let (keyword, rest) = line.first();
    let place = line.full_span();
    file.comments
        .extend(joined.comments.iter().map(|text| Comment { text: text.clone(), above: place.start }));
    if joined.empty_line {
        file.empty_continuations.push(keyword.full_span());
    }
    let errors_before = diagnostics.len();
    let mut context = Context { lexer, escape, diagnostics };
    if keyword.text().eq_ignore_ascii_case("FROM") {
        let head = context.from(&rest, place);
        diagnostics.truncate(errors_before + MAX_ERRORS_A_LINE);
        // A stage with a bad FROM line still holds what follows, which has errors of its own to show.
        let (base, platform, name) = head.unwrap_or_else(|| (rest.as_word(), None, None));
        let text = line.text().to_owned();
        let index = file.stages.len();
        let stage = Stage { name, index, base, platform, span: place, text, instructions: Vec::new() };
        file.stages.push(stage);
        return;
    }
    let statement = context.statement(&line);
    diagnostics.truncate(errors_before + MAX_ERRORS_A_LINE);
    match (file.stages.last_mut(), statement) {
        (Some(stage), Some(statement)) => stage.instructions.push(statement),
        (None, Some(Statement { node: Instruction::Arg(arg), span, .. })) => {
            file.global_args.push(Spanned::new(arg, span));
            if matches!(before_from, BeforeFrom::Nothing) {
                *before_from = BeforeFrom::Arguments;
            }
        }
        (None, Some(statement)) => {
            if !matches!(before_from, BeforeFrom::Reported) {
                diagnostics.push(
                    Diagnostic::error(
                        keyword.full_span(),
                        format!("{} stands before the first FROM", statement.node.keyword()),
                    )
                    .with_hint("only ARG may stand there"),
                );
            }
            *before_from = BeforeFrom::Reported;
        }
        (None, None) if diagnostics.len() > errors_before => *before_from = BeforeFrom::Reported,
        (_, None) => {}
    }
}

/// Reads an ONBUILD trigger out of an image's config. Places in the result are those in `text`.
pub fn parse_trigger(source_name: &str, text: &str) -> Result<Statement, Report> {
    let mut diagnostics = Vec::new();
    let mut lexer = Lexer::new(text, 0, Escape::Backslash.char());
    let mut found = None;
    while let Some(joined) = lexer.joined() {
        let line = Args::whole(&joined, Escape::Backslash);
        if found.is_some() {
            diagnostics.push(Diagnostic::error(line.full_span(), "a trigger is one instruction"));
            break;
        }
        let mut context =
            Context { lexer: &mut lexer, escape: Escape::Backslash, diagnostics: &mut diagnostics };
        found = context.trigger(&line);
        if found.is_none() {
            break;
        }
    }
    match found {
        Some(statement) if diagnostics.is_empty() => Ok(statement),
        _ => {
            if diagnostics.is_empty() {
                diagnostics.push(Diagnostic::error(Span::new(0, 0), "the trigger is empty"));
            }
            Err(Report::new(Arc::new(Source::new(source_name, text)), diagnostics))
        }
    }
}

#[cfg(test)]
mod tests;
