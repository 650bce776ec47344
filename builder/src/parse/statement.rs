//! All instructions but FROM.

use super::flags::Flags;
use super::heredoc;
use super::json::{self, Array};
use super::lexer::Lexer;
use super::source::{Span, Spanned};
use super::words::{Args, is_blank};
use super::{KEYWORDS, MAX_ERRORS, MAX_ERRORS_A_LINE, parse_trigger};
use crate::diagnostic::Diagnostic;
use crate::expand::{Escape, Word};
use crate::instruction::{Arg, ArgName, Command, Heredoc, Instruction, Onbuild, Pairs, Statement};

/// Where instructions are read from, and where their errors go. A `None` of its methods means that the error is
/// among the diagnostics.
pub(super) struct Context<'a, 'file> {
    pub(super) lexer: &'a mut Lexer<'file>,
    pub(super) escape: Escape,
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

impl Context<'_, '_> {
    pub(super) fn fail<T>(&mut self, span: Span, message: impl Into<String>) -> Option<T> {
        self.diagnostics.push(Diagnostic::error(span, message));
        None
    }

    /// Looks for errors that an expansion will have whatever the variables' values.
    pub(super) fn check_words<'w>(&mut self, words: impl IntoIterator<Item = &'w Word>) {
        for word in words {
            if let Err(error) = word.expand_all(&|_| Some("x".to_owned())) {
                self.diagnostics.push(error);
                if self.diagnostics.len() > MAX_ERRORS + MAX_ERRORS_A_LINE {
                    return;
                }
            }
        }
    }

    /// Reads an instruction other than FROM.
    pub(super) fn statement(&mut self, line: &Args<'_>) -> Option<Statement> {
        let (keyword, rest) = line.first();
        let name = keyword.text().to_ascii_uppercase();
        if !KEYWORDS.contains(&name.as_str()) {
            let error =
                Diagnostic::error(keyword.full_span(), format!("unknown instruction `{}`", keyword.text()))
                    .with_nearest(&name, KEYWORDS);
            self.diagnostics.push(error);
            self.skip_heredocs(&rest);
            return None;
        }
        let (mut flags, args) = Flags::read(&rest);
        let errors_before = self.diagnostics.len();
        let node = self.instruction(&name, &mut flags, &args, keyword.full_span());
        flags.finish(&name, self.diagnostics);
        let node = node.filter(|_| self.diagnostics.len() == errors_before)?;
        Some(Statement { node, span: line.full_span(), text: line.text().to_owned() })
    }

    fn instruction(
        &mut self,
        name: &str,
        flags: &mut Flags,
        args: &Args<'_>,
        keyword: Span,
    ) -> Option<Instruction> {
        if args.is_empty() && !matches!(name, "CMD" | "ENTRYPOINT") {
            return self.fail(keyword, format!("{name} needs an argument"));
        }
        Some(match name {
            "ADD" => Instruction::Add(self.files(true, flags, args, keyword)?),
            "ARG" => Instruction::Arg(self.arg(args)?),
            "CMD" => Instruction::Cmd(self.command(args)?),
            "COPY" => Instruction::Copy(self.files(false, flags, args, keyword)?),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command(args)?),
            "ENV" => Instruction::Env(self.pairs(name, args)?),
            "EXPOSE" => Instruction::Expose(self.fields(args)),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck(flags, args)?),
            "LABEL" => Instruction::Label(self.pairs(name, args)?),
            "MAINTAINER" => Instruction::Maintainer(args.as_string()),
            "ONBUILD" => Instruction::Onbuild(self.onbuild(args)?),
            "RUN" => Instruction::Run(Box::new(self.run(flags, args)?)),
            "SHELL" => Instruction::Shell(self.shell(args)?),
            "STOPSIGNAL" => Instruction::Stopsignal(self.single(args)),
            "USER" => Instruction::User(self.single(args)),
            "VOLUME" => Instruction::Volume(self.volume(args)?),
            "WORKDIR" => Instruction::Workdir(self.single(args)),
            _ => return self.fail(keyword, format!("{name} cannot stand here")),
        })
    }

    fn single(&mut self, args: &Args<'_>) -> Word {
        let word = args.as_word();
        self.check_words([&word]);
        word
    }

    fn fields(&mut self, args: &Args<'_>) -> Vec<Word> {
        let words: Vec<Word> = args.fields().into_iter().map(|range| args.word(range)).collect();
        self.check_words(&words);
        words
    }

    /// A JSON array of strings, or `None` in the inner option for text that is none.
    pub(super) fn array(&mut self, args: &Args<'_>) -> Option<Option<Vec<Spanned<String>>>> {
        match json::read(args) {
            Array::Strings(strings) => Some(Some(strings)),
            Array::No => Some(None),
            Array::Mixed => self.fail(args.full_span(), "a JSON array here must hold nothing but strings"),
        }
    }

    pub(super) fn command(&mut self, args: &Args<'_>) -> Option<Command> {
        if args.is_empty() {
            return Some(Command::Exec(Vec::new()));
        }
        Some(match self.array(args)? {
            Some(strings) => Command::Exec(strings),
            None => Command::Shell(args.as_string()),
        })
    }

    fn shell(&mut self, args: &Args<'_>) -> Option<Vec<Spanned<String>>> {
        match self.array(args)? {
            Some(strings) if !strings.is_empty() => Some(strings),
            Some(_) => self.fail(args.full_span(), "SHELL needs a command"),
            None => {
                let error = Diagnostic::error(args.full_span(), "SHELL needs a JSON array")
                    .with_hint("SHELL [\"/bin/bash\", \"-c\"]");
                self.diagnostics.push(error);
                None
            }
        }
    }

    fn volume(&mut self, args: &Args<'_>) -> Option<Vec<Word>> {
        let words = match self.array(args)? {
            None => return Some(self.fields(args)),
            Some(strings) => self.decoded(strings),
        };
        if let Some(empty) = words.iter().find(|word| word.raw.trim().is_empty()) {
            return self.fail(empty.span, "a volume needs a path");
        }
        if words.is_empty() {
            return self.fail(args.full_span(), "VOLUME needs an argument");
        }
        self.check_words(&words);
        Some(words)
    }

    pub(super) fn decoded(&self, strings: Vec<Spanned<String>>) -> Vec<Word> {
        strings.into_iter().map(|string| Word::new(string.node, string.span, self.escape)).collect()
    }

    fn arg(&mut self, args: &Args<'_>) -> Option<Arg> {
        let mut names = Vec::new();
        for range in args.quoted_fields() {
            let (name, default) = match args.text()[range.clone()].find('=') {
                Some(at) => {
                    let equals = range.start + at;
                    (args.word(range.start..equals), Some(args.word(equals + 1..range.end)))
                }
                None => (args.word(range), None),
            };
            if name.raw.is_empty() {
                return self.fail(args.full_span(), "the name of an argument is empty");
            }
            self.check_words([&name].into_iter().chain(&default));
            names.push(ArgName { name, default });
        }
        if names.is_empty() {
            return self.fail(args.full_span(), "ARG needs an argument");
        }
        Some(Arg { names })
    }

    fn pairs(&mut self, keyword: &str, args: &Args<'_>) -> Option<Pairs> {
        let fields = args.quoted_fields();
        let Some(first) = fields.first() else {
            return self.fail(args.full_span(), format!("{keyword} needs an argument"));
        };
        let mut pairs = Vec::new();
        let legacy = !args.text()[first.clone()].contains('=');
        if legacy {
            let text = args.text();
            let end = text.find(is_blank).unwrap_or(text.len());
            let value = args.part(end..text.len());
            if value.is_empty() {
                let error = Diagnostic::error(args.full_span(), format!("the value of `{text}` is missing"))
                    .with_hint(format!("{keyword} {text}=VALUE"));
                self.diagnostics.push(error);
                return None;
            }
            pairs.push((args.word(0..end), value.as_word()));
        } else {
            for range in fields {
                let Some(at) = args.text()[range.clone()].find('=') else {
                    let place = args.span(range.start, range.end);
                    let text = &args.text()[range];
                    let error = Diagnostic::error(place, format!("`{text}` has no `=`"))
                        .with_hint("a value with blanks needs quotes: NAME=\"some words\"");
                    self.diagnostics.push(error);
                    return None;
                };
                let equals = range.start + at;
                if at == 0 {
                    return self.fail(args.span(range.start, range.end), "the name before `=` is empty");
                }
                pairs.push((args.word(range.start..equals), args.word(equals + 1..range.end)));
            }
        }
        for (key, value) in &pairs {
            self.check_words([key, value]);
        }
        Some(Pairs { pairs, legacy })
    }

    fn onbuild(&mut self, args: &Args<'_>) -> Option<Onbuild> {
        let trigger = self.trigger(args)?;
        let mut text = args.text().to_owned();
        for heredoc in trigger.node.heredocs() {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        // It is read again by each build on the image, without this file's directives.
        if parse_trigger("ONBUILD", &text).is_err() {
            return self
                .fail(args.full_span(), "the trigger could not be read again from the image's config");
        }
        Some(Onbuild { text, trigger: Box::new(trigger) })
    }

    /// Reads an instruction that ONBUILD may hold.
    pub(super) fn trigger(&mut self, line: &Args<'_>) -> Option<Statement> {
        let (keyword, _) = line.first();
        let name = keyword.text().to_ascii_uppercase();
        if matches!(name.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            return self.fail(keyword.full_span(), format!("{name} cannot be a trigger of ONBUILD"));
        }
        self.statement(line)
    }

    /// Reads the bodies of the here-documents that a line announces.
    pub(super) fn heredocs(&mut self, args: &Args<'_>) -> Option<Vec<Heredoc>> {
        let mut result = Vec::new();
        for mark in heredoc::find(args.text()) {
            let span = args.span(mark.range.start, mark.range.end);
            let body = match self.lexer.heredoc(&mark.name, mark.strip_tabs) {
                Ok(body) => body,
                Err(near) => {
                    let mut error = Diagnostic::error(
                        span,
                        format!("the here-document is never ended by a line `{}`", mark.name),
                    );
                    if near.is_some() {
                        let hint = format!(
                            "there is a line `{}` with blanks around it, which is not the end",
                            mark.name
                        );
                        error = error.with_hint(hint);
                    }
                    self.diagnostics.push(error);
                    return None;
                }
            };
            let raw = self.lexer.text(body).to_owned();
            let content = if mark.strip_tabs {
                raw.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
            } else {
                raw.clone()
            };
            result.push(Heredoc {
                name: mark.name,
                span,
                fd: mark.fd,
                expand: !mark.quoted,
                strip_tabs: mark.strip_tabs,
                raw,
                content,
                content_span: body,
            });
        }
        Some(result)
    }

    /// Passes over the bodies of what looks like here-documents of an unknown instruction, so that they do not count
    /// as instructions.
    fn skip_heredocs(&mut self, args: &Args<'_>) {
        for mark in heredoc::find(args.text()) {
            let back = self.lexer.position();
            if self.lexer.heredoc(&mark.name, mark.strip_tabs).is_err() {
                self.lexer.rewind(back);
                // Each further one might be looked for to the end of the file too.
                return;
            }
        }
    }
}
