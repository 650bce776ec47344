//! FROM.

use super::flags::Flags;
use super::source::{Span, Spanned};
use super::statement::Context;
use super::words::Args;
use crate::diagnostic::Diagnostic;
use crate::expand::Word;

/// Base, `--platform`, name.
pub(super) type Head = (Word, Option<Word>, Option<Spanned<String>>);

impl Context<'_, '_> {
    /// Reads what follows FROM.
    pub(super) fn from(&mut self, args: &Args<'_>, place: Span) -> Option<Head> {
        let (mut flags, args) = Flags::read(args);
        let platform = flags.value("platform", self.diagnostics);
        flags.finish("FROM", self.diagnostics);
        let words: Vec<Word> = args.fields().into_iter().map(|range| args.word(range)).collect();
        let (base, name) = match words.as_slice() {
            [] => return self.fail(place, "FROM needs an image, an earlier stage or `scratch`"),
            [base] => (base, None),
            [base, keyword, name] if keyword.raw.eq_ignore_ascii_case("AS") => (base, Some(name)),
            [_, keyword] if keyword.raw.eq_ignore_ascii_case("AS") => {
                return self.fail(keyword.span, "the stage's name is missing behind AS");
            }
            [_, wrong, ..] => {
                self.diagnostics.push(
                    Diagnostic::error(
                        wrong.span.to(words[words.len() - 1].span),
                        "FROM has one argument or three",
                    )
                    .with_hint("FROM [--platform=PLATFORM] IMAGE [AS NAME]"),
                );
                return None;
            }
        };
        let name = name.map(|name| Spanned::new(name.raw.clone(), name.span));
        if let Some(name) = name.as_ref().filter(|name| !is_stage_name(&name.node)) {
            self.diagnostics.push(
                Diagnostic::error(name.span, format!("`{}` cannot be the name of a stage", name.node))
                    .with_hint(
                        "a name begins with a letter and goes on with letters, digits, `-`, `_` and `.`",
                    ),
            );
        }
        self.check_words([base].into_iter().chain(&platform));
        Some((base.clone(), platform, name))
    }
}

fn is_stage_name(name: &str) -> bool {
    // Each step carries the name of its stage.
    name.len() <= 255
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.'))
}
