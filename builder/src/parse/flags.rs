//! `--name=value` words before an instruction's arguments.

use super::MAX_ERRORS_A_LINE;
use super::source::{Span, Spanned};
use super::words::Args;
use crate::diagnostic::{Diagnostic, nearest};
use crate::expand::Word;

/// One flag, quotes and escapes removed.
#[derive(Debug)]
struct Flag {
    name: Spanned<String>,
    value: Option<Word>,
    span: Span,
}

/// The flags of an instruction. Those that nobody takes are unknown.
#[derive(Debug, Default)]
pub(super) struct Flags {
    flags: Vec<Flag>,
    known: Vec<&'static str>,
}

impl Flags {
    /// Cuts the flags off; returns them and the arguments.
    pub(super) fn read<'a>(args: &Args<'a>) -> (Self, Args<'a>) {
        let text = args.text();
        let mut flags = Flags::default();
        let mut position = 0;
        loop {
            position += text[position..].len() - text[position..].trim_start().len();
            if !text[position..].starts_with("--") {
                return (flags, args.part(position..text.len()));
            }
            let start = position;
            let (bytes, map, end) = flag_word(text, start);
            position = end;
            if bytes == "--" {
                return (flags, args.part(position..text.len()));
            }
            flags.flags.push(Flag::new(args, &bytes, &map, start, end));
        }
    }

    /// A flag that takes a value and stands at most once.
    pub(super) fn value(&mut self, name: &'static str, errors: &mut Vec<Diagnostic>) -> Option<Word> {
        let mut found = self.take(name).into_iter();
        let first = found.next()?;
        for again in found {
            errors
                .push(Diagnostic::error(again.span, format!("the flag `--{name}` is given more than once")));
        }
        first.required_value(errors)
    }

    /// A flag that takes a value and may be repeated.
    pub(super) fn values(&mut self, name: &'static str, errors: &mut Vec<Diagnostic>) -> Vec<Word> {
        self.take(name).into_iter().filter_map(|flag| flag.required_value(errors)).collect()
    }

    /// A flag that is on or off.
    pub(super) fn switch(
        &mut self,
        name: &'static str,
        errors: &mut Vec<Diagnostic>,
    ) -> Option<Spanned<bool>> {
        let mut found = self.take(name).into_iter();
        let first = found.next()?;
        for again in found {
            errors
                .push(Diagnostic::error(again.span, format!("the flag `--{name}` is given more than once")));
        }
        let on = match &first.value {
            None => true,
            Some(value) => match value.raw.to_lowercase().as_str() {
                "true" => true,
                "false" => false,
                other => {
                    let message = format!("`--{name}` is either `true` or `false`, not `{other}`");
                    errors.push(Diagnostic::error(value.span, message));
                    return None;
                }
            },
        };
        Some(Spanned::new(on, first.span))
    }

    /// Reports all flags that were not taken.
    pub(super) fn finish(self, keyword: &str, errors: &mut Vec<Diagnostic>) {
        for flag in self.flags.into_iter().take(MAX_ERRORS_A_LINE) {
            let error =
                Diagnostic::error(flag.name.span, format!("{keyword} has no flag `--{}`", flag.name.node));
            let error = match nearest(&flag.name.node, self.known.iter().copied()) {
                Some(name) => error.with_hint(format!("did you mean `--{name}`?")),
                None if self.known.is_empty() => {
                    error.with_hint("a word `--` before the arguments ends the flags")
                }
                None => error,
            };
            errors.push(error);
        }
    }

    fn take(&mut self, name: &'static str) -> Vec<Flag> {
        self.known.push(name);
        let (taken, rest) =
            std::mem::take(&mut self.flags).into_iter().partition(|flag: &Flag| flag.name.node == name);
        self.flags = rest;
        taken
    }
}

impl Flag {
    fn new(args: &Args<'_>, text: &str, map: &[usize], start: usize, end: usize) -> Self {
        let place = |from: usize, to: usize| match (
            map.get(from),
            to.checked_sub(1).and_then(|last| map.get(last)),
        ) {
            (Some(&first), Some(&last)) if from < to => args.span(first, last + 1),
            _ => args.span(end, end),
        };
        let name_end = text.find('=').unwrap_or(text.len());
        let name = Spanned::new(text[2..name_end].to_owned(), place(0, name_end));
        let value = (name_end < text.len()).then(|| {
            let from = name_end + 1;
            Word::new(&text[from..], place(from, text.len()), args.escape())
        });
        Self { name, value, span: args.span(start, end) }
    }

    fn required_value(self, errors: &mut Vec<Diagnostic>) -> Option<Word> {
        match self.value {
            Some(value) if !value.raw.is_empty() => Some(value),
            _ => {
                errors.push(Diagnostic::error(self.span, format!("`--{}` needs a value", self.name.node)));
                None
            }
        }
    }
}

/// The word at `start` without quotes and escapes, the offset of each of its bytes, and its end.
fn flag_word(text: &str, start: usize) -> (String, Vec<usize>, usize) {
    let mut word = String::new();
    let mut map = Vec::new();
    let mut quote = None;
    let mut chars = text[start..].char_indices();
    let mut end = text.len();
    while let Some((at, char)) = chars.next() {
        let mut kept = (start + at, char);
        match quote {
            None if char.is_whitespace() => {
                end = start + at;
                break;
            }
            None if char == '\'' || char == '"' => {
                quote = Some(char);
                continue;
            }
            Some(open) if char == open => {
                quote = None;
                continue;
            }
            // Always a backslash here, whatever the file's escape character: observed in BuildKit 0.26.
            _ if char == '\\' => match chars.next() {
                Some((at, char)) => kept = (start + at, char),
                None => continue,
            },
            _ => {}
        }
        map.extend((0..kept.1.len_utf8()).map(|byte| kept.0 + byte));
        word.push(kept.1);
    }
    (word, map, end)
}
