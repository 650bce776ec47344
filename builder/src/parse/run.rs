//! RUN and its flags.

use super::MAX_ERRORS_A_LINE;
use super::files::{has_variable, no_variables_in_from};
use super::flags::Flags;
use super::source::{Span, Spanned};
use super::statement::Context;
use super::words::Args;
use crate::diagnostic::Diagnostic;
use crate::expand::Word;
use crate::instruction::{Command, MOUNT_KEYS, MountField, MountFlag, Network, Run, Security};

impl Context<'_, '_> {
    pub(super) fn run(&mut self, flags: &mut Flags, args: &Args<'_>) -> Option<Run> {
        let mounts = flags.values("mount", self.diagnostics);
        let mounts = mounts.iter().map(|value| self.mount(value)).collect();
        let network = flags.value("network", self.diagnostics);
        let network = network.and_then(|word| {
            let choices = [("default", Network::Default), ("none", Network::None), ("host", Network::Host)];
            self.choice("network", &word, &choices)
        });
        let security = flags.value("security", self.diagnostics);
        let security = security.and_then(|word| {
            let choices = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];
            self.choice("security", &word, &choices)
        });
        let devices = flags.values("device", self.diagnostics);
        let command = self.command(args)?;
        let heredocs = match &command {
            Command::Shell(_) => self.heredocs(args)?,
            Command::Exec(words) if words.is_empty() => {
                return self.fail(args.full_span(), "RUN needs a command");
            }
            Command::Exec(_) => Vec::new(),
        };
        Some(Run { mounts, network, security, devices, command, heredocs })
    }

    fn choice<T: std::marker::Copy>(
        &mut self,
        flag: &str,
        word: &Word,
        choices: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        let value = word.raw.to_lowercase();
        if let Some(&(_, choice)) = choices.iter().find(|(name, _)| *name == value) {
            return Some(Spanned::new(choice, word.span));
        }
        let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
        let error = Diagnostic::error(word.span, format!("`--{flag}` cannot be `{}`", word.raw));
        let error = error.with_hint(format!("it is one of {}", names.join(", ")));
        self.diagnostics.push(error.with_nearest(&value, names));
        None
    }

    /// Splits a `--mount` into its fields and checks what does not depend on variables.
    fn mount(&mut self, value: &Word) -> MountFlag {
        let errors_before = self.diagnostics.len();
        let mut flag = MountFlag { span: value.span, fields: Vec::new() };
        for (text, offset) in comma_separated(&value.raw) {
            if self.diagnostics.len() >= errors_before + MAX_ERRORS_A_LINE {
                break;
            }
            // Where quotes or escapes were removed, a place inside of the word cannot be told.
            let place = |from: usize, length: usize| {
                let exact = value.span.len() == value.raw.len();
                let start = value.span.start + offset + from;
                if exact { Span::new(start, (start + length).min(value.span.end)) } else { value.span }
            };
            let (key, field) = match text.split_once('=') {
                Some((key, rest)) => {
                    (key, Some(Word::new(rest, place(key.len() + 1, rest.len()), value.escape)))
                }
                None => (text.as_str(), None),
            };
            let key = Spanned::new(key.trim().to_lowercase(), place(0, key.len()));
            if key.node.is_empty() {
                self.diagnostics.push(Diagnostic::error(key.span, "a mount option is empty"));
                continue;
            }
            if !MOUNT_KEYS.contains(&key.node.as_str()) {
                let error = Diagnostic::error(key.span, format!("unknown mount option `{}`", key.node));
                self.diagnostics.push(error.with_nearest(&key.node, MOUNT_KEYS));
                continue;
            }
            if key.node == "from"
                && let Some(from) = field.as_ref().filter(|from| has_variable(&from.raw))
            {
                self.diagnostics.push(no_variables_in_from(from.span));
            }
            flag.fields.push(MountField { key, value: field });
        }
        let fixed = !flag.fields.iter().filter_map(|field| field.value.as_ref()).any(Word::has_variables);
        if self.diagnostics.len() == errors_before
            && fixed
            && let Err(error) = flag.evaluate(&|_| None)
        {
            self.diagnostics.push(error);
        }
        self.check_words(
            flag.fields.iter().filter_map(|field| field.value.as_ref()).filter(|word| word.has_variables()),
        );
        flag
    }
}

/// Fields of a line of CSV with the offset of each; a field in double quotes may hold commas, `""` is a quote in it.
fn comma_separated(text: &str) -> Vec<(String, usize)> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut start = 0;
    let mut quoted = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' if quoted && chars.peek().is_some_and(|&(_, next)| next == '"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted || at == start => quoted = !quoted,
            ',' if !quoted => {
                fields.push((std::mem::take(&mut field), start));
                start = at + 1;
            }
            char => field.push(char),
        }
    }
    fields.push((field, start));
    fields
}
