//! Words of a Containerfile and the variables in them.
//!
//! Quotes, escapes and `${..}` operators follow BuildKit's rules for words (not a shell's): a variable's value is
//! never scanned again, `*` and `?` are the only wildcards of patterns, and an unset variable is empty. One thing is
//! a shell's: what stands behind `:-` and its like is only evaluated where it is used.

mod pattern;

use crate::diagnostic::Diagnostic;
use crate::parse::Span;
use pattern::Pattern;
use std::collections::BTreeSet;

/// The escape character of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``
    Backtick,
}

impl Escape {
    /// The character.
    pub fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// A word as written, continuations removed, nothing expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text, with its quotes and escapes. Of a JSON array: the decoded string.
    pub raw: String,
    /// Where it was written.
    pub span: Span,
    /// The file's escape character.
    pub escape: Escape,
}

/// A lookup of variables: `None` for one that is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text without quotes.
    pub value: String,
    /// The value split at blanks that were not quoted, also inside of variables' values.
    pub words: Vec<String>,
    /// Variables that were read and are set.
    pub used: BTreeSet<String>,
    /// Variables that were read without an operator for the case and are not set.
    pub unset: BTreeSet<String>,
}

/// Bytes that an expanded word may have, and that all values it asks for may have together: ENV lines that double a
/// variable over and over end here.
const MAX_VALUE: usize = 1 << 20;

/// Characters of a pattern times those of the value, which is what matching may take.
const MAX_MATCHING: usize = 16 << 20;

/// Levels of `${A:-${B:-..}}`.
const MAX_DEPTH: usize = 64;

impl Word {
    /// A word.
    pub fn new(raw: impl Into<String>, span: Span, escape: Escape) -> Self {
        Self { raw: raw.into(), span, escape }
    }

    /// The text with variables replaced, quotes and escapes removed.
    pub fn expand(&self, lookup: Lookup<'_>) -> Result<String, Diagnostic> {
        self.expand_all(lookup).map(|expanded| expanded.value)
    }

    /// As [`Word::expand`], then split into words (EXPOSE).
    pub fn expand_words(&self, lookup: Lookup<'_>) -> Result<Vec<String>, Diagnostic> {
        self.expand_all(lookup).map(|expanded| expanded.words)
    }

    /// Expansion with all that is known about it.
    pub fn expand_all(&self, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
        expand(&self.raw, self.escape, Quotes::Removed, self.span, lookup)
    }

    /// Whether expansion may change with the variables.
    pub fn has_variables(&self) -> bool {
        self.raw.contains('$')
    }
}

/// What quotes mean in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They protect and are removed.
    Removed,
    /// They are characters like others: bodies of here-documents.
    Kept,
}

/// Expands a text whose bytes stand at `span`.
pub(crate) fn expand(
    text: &str,
    escape: Escape,
    quotes: Quotes,
    span: Span,
    lookup: Lookup<'_>,
) -> Result<Expanded, Diagnostic> {
    let mut expander = Expander {
        text,
        position: 0,
        escape: escape.char(),
        quotes,
        lookup,
        quiet: 0,
        depth: 0,
        written: 0,
        looked_up: 0,
        used: BTreeSet::new(),
        unset: BTreeSet::new(),
    };
    match expander.run(None, false) {
        Ok((value, words)) => {
            Ok(Expanded { value, words: words.finish(), used: expander.used, unset: expander.unset })
        }
        Err(failure) => {
            // Offsets in the text are offsets in the file only where nothing was joined or decoded.
            let place = if span.len() == text.len() {
                Span::new(span.start + failure.start, span.start + failure.end)
            } else {
                span
            };
            Err(Diagnostic::error(place, failure.message))
        }
    }
}

struct Failure {
    message: String,
    start: usize,
    end: usize,
}

/// Splits while a text is built.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn blanks_split(&mut self, text: &str) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(char::is_whitespace) {
            self.current.push_str(before);
            if !self.current.is_empty() {
                self.done.push(std::mem::take(&mut self.current));
            }
            rest = after;
        }
        self.current.push_str(rest);
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Expander<'a> {
    text: &'a str,
    position: usize,
    escape: char,
    quotes: Quotes,
    lookup: Lookup<'a>,
    // Above 0 while text is only skipped: nothing is looked up and nothing fails but syntax.
    quiet: usize,
    depth: usize,
    written: usize,
    looked_up: usize,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.position += char.len_utf8();
        Some(char)
    }

    fn fail<T>(&self, start: usize, message: impl Into<String>) -> Result<T, Failure> {
        Err(Failure { message: message.into(), start, end: self.position.max(start) })
    }

    fn count(&mut self, bytes: usize) -> Result<(), Failure> {
        self.written += bytes;
        if self.written > MAX_VALUE {
            return self.too_large();
        }
        Ok(())
    }

    /// The text up to the next character that may mean something: at least one.
    fn plain(&mut self, stop: Option<char>) -> &'a str {
        let rest = &self.text[self.position..];
        let special = |char: char| {
            char == '$' || char == '\'' || char == '"' || char == self.escape || Some(char) == stop
        };
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let length = rest[first..].find(special).map_or(rest.len(), |at| first + at);
        self.position += length;
        &rest[..length]
    }

    fn too_large<T>(&self) -> Result<T, Failure> {
        self.fail(0, format!("the expanded value is larger than {} MiB", MAX_VALUE >> 20))
    }

    /// Reads up to the stop character, which is taken, or the end.
    fn run(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<(String, Words), Failure> {
        let start = self.position;
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(char) = self.peek() {
            if Some(char) == stop {
                self.next();
                return Ok((result, words));
            }
            match char {
                '$' => {
                    let value = self.dollar()?;
                    self.count(value.len())?;
                    words.blanks_split(&value);
                    result.push_str(&value);
                }
                '\'' | '"' if self.quotes == Quotes::Removed => {
                    let value = self.quoted(char, keep_escapes)?;
                    words.current.push_str(&value);
                    result.push_str(&value);
                }
                _ if char == self.escape => {
                    self.next();
                    if keep_escapes {
                        words.current.push(char);
                        result.push(char);
                    }
                    if let Some(char) = self.next() {
                        words.current.push(char);
                        result.push(char);
                    }
                }
                _ => {
                    let plain = self.plain(stop);
                    words.blanks_split(plain);
                    result.push_str(plain);
                }
            }
        }
        match stop {
            Some('/') => self.fail(start, "missing `/` in the substitution"),
            Some(stop) => self.fail(start, format!("missing `{stop}` at the end of the substitution")),
            None => Ok((result, words)),
        }
    }

    fn quoted(&mut self, quote: char, keep_escapes: bool) -> Result<String, Failure> {
        let start = self.position;
        self.next();
        let mut result = String::new();
        while let Some(char) = self.peek() {
            if char == quote {
                self.next();
                return Ok(result);
            }
            if quote == '"' && char == '$' {
                let value = self.dollar()?;
                self.count(value.len())?;
                result.push_str(&value);
                continue;
            }
            self.next();
            if quote == '"' && char == self.escape {
                if keep_escapes {
                    result.push(char);
                }
                match self.peek() {
                    None => break,
                    // Only these can be escaped between double quotes; before others the escape character is itself.
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        self.next();
                        result.push(next);
                    }
                    Some(_) if keep_escapes => {}
                    Some(_) => result.push(char),
                }
                continue;
            }
            result.push(char);
        }
        let kind = if quote == '"' { "double" } else { "single" };
        self.fail(start, format!("missing {kind} quote at the end"))
    }

    fn dollar(&mut self) -> Result<String, Failure> {
        let start = self.position;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.value(&name, true)?.unwrap_or_default());
        }
        self.next();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(start, format!("substitutions are nested more than {MAX_DEPTH} levels deep"));
        }
        let result = self.braces(start);
        self.depth -= 1;
        result
    }

    fn braces(&mut self, start: usize) -> Result<String, Failure> {
        match self.peek() {
            None => return self.fail(start, "missing `}` at the end of the substitution"),
            Some('{' | '}' | ':') => {
                self.next();
                return self.fail(start, "bad substitution: a variable's name is missing");
            }
            Some(_) => {}
        }
        let name = self.name();
        if name.is_empty() {
            self.next();
            return self.fail(start, "bad substitution: a variable's name is missing");
        }
        let operator = self.position;
        match self.next() {
            None => self.fail(start, "missing `}` at the end of the substitution"),
            Some('}') => Ok(self.value(&name, true)?.unwrap_or_default()),
            Some(':') => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.fallback(start, &name, operator, true),
                Some(operator @ ('#' | '%')) => self.trim(start, &name, operator),
                None => self.fail(start, "missing `}` at the end of the substitution"),
                Some(char) => {
                    self.fail(operator, format!("unsupported operator `:{char}` in the substitution"))
                }
            },
            Some(operator @ ('-' | '+' | '?')) => self.fallback(start, &name, operator, false),
            Some(operator @ ('#' | '%')) => self.trim(start, &name, operator),
            Some('/') => self.replace(start, &name),
            Some(char) => self.fail(operator, format!("unsupported operator `{char}` in the substitution")),
        }
    }

    /// `${V:-word}`, `${V:+word}`, `${V:?word}`, and without the colon, for which an empty value is a value.
    fn fallback(
        &mut self,
        start: usize,
        name: &str,
        operator: char,
        empty_is_unset: bool,
    ) -> Result<String, Failure> {
        let value = self.value(name, false)?;
        let usable = value.clone().filter(|value| !(empty_is_unset && value.is_empty()));
        let word_counts = (operator == '+') == usable.is_some();
        if !word_counts {
            self.quiet += 1;
        }
        let word = self.run(Some('}'), false);
        if !word_counts {
            self.quiet -= 1;
        }
        let word = word?.0;
        match (operator, usable) {
            ('+', None) => Ok(String::new()),
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('?', None) if self.quiet == 0 => {
                let reason = match (word.as_str(), value) {
                    ("", None) => "is not allowed to be unset",
                    ("", Some(_)) => "is not allowed to be empty",
                    (word, _) => word,
                };
                self.fail(start, format!("{name}: {reason}"))
            }
            (_, usable) => Ok(usable.unwrap_or_default()),
        }
    }

    /// `${V#pattern}`, `${V##pattern}`, `${V%pattern}`, `${V%%pattern}`.
    fn trim(&mut self, start: usize, name: &str, operator: char) -> Result<String, Failure> {
        let longest = self.peek() == Some(operator);
        if longest {
            self.next();
        }
        let word = self.run(Some('}'), true)?.0;
        let value = self.value(name, true)?.unwrap_or_default();
        let pattern = self.pattern(start, &word, &value)?;
        Ok(match operator {
            '#' => pattern.without_prefix(&value, longest),
            _ => pattern.without_suffix(&value, longest),
        })
    }

    /// `${V/pattern/replacement}`, `${V//pattern/replacement}`.
    fn replace(&mut self, start: usize, name: &str) -> Result<String, Failure> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let word = self.run(Some('/'), true)?.0;
        let replacement = self.run(Some('}'), true)?.0;
        let value = self.value(name, true)?.unwrap_or_default();
        let pattern = self.pattern(start, &word, &value)?;
        let budget = MAX_VALUE.saturating_sub(self.written);
        match pattern.replace(&value, &replacement, all, budget) {
            Some(value) => Ok(value),
            None => self.too_large(),
        }
    }

    fn pattern(&self, start: usize, word: &str, value: &str) -> Result<Pattern, Failure> {
        if word.len().saturating_mul(value.len()) > MAX_MATCHING {
            return self.fail(start, "pattern and value are too long for a substitution");
        }
        Pattern::parse(word)
            .or_else(|reason| self.fail(start, format!("bad pattern `{word}` in the substitution: {reason}")))
    }

    /// A variable's name, or one of the shell's special parameters, which are never set here.
    fn name(&mut self) -> String {
        let start = self.position;
        match self.peek() {
            Some(first) if first.is_ascii_digit() => {
                while self.peek().is_some_and(|char| char.is_ascii_digit()) {
                    self.next();
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                self.next();
            }
            _ => {
                while self.peek().is_some_and(|char| char.is_alphanumeric() || char == '_') {
                    self.next();
                }
            }
        }
        self.text[start..self.position].to_owned()
    }

    fn value(&mut self, name: &str, report: bool) -> Result<Option<String>, Failure> {
        if self.quiet > 0 {
            return Ok(None);
        }
        let value = (self.lookup)(name);
        if let Some(value) = &value {
            self.used.insert(name.to_owned());
            self.looked_up += value.len();
            if self.looked_up > MAX_VALUE {
                return self.too_large();
            }
        } else if report {
            self.unset.insert(name.to_owned());
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
