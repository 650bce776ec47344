//! COPY and ADD.

use super::flags::Flags;
use super::source::{Span, Spanned};
use super::statement::Context;
use super::words::Args;
use crate::diagnostic::Diagnostic;
use crate::expand::Word;
use crate::instruction::{Copy, CopyFlags, CopySource, Heredoc, parse_chmod};
use std::ops::Range;

impl Context<'_, '_> {
    pub(super) fn files(
        &mut self,
        add: bool,
        flags: &mut Flags,
        args: &Args<'_>,
        keyword: Span,
    ) -> Option<Copy> {
        let flags = self.copy_flags(add, flags);
        let (sources, destination) = match self.array(args)? {
            Some(strings) => self.listed(strings, keyword)?,
            None => self.separated(args, keyword)?,
        };
        let paths = sources.iter().filter_map(|source| match source {
            CopySource::Path(word) => Some(word),
            CopySource::Heredoc(_) => None,
        });
        self.check_words(paths.chain([&destination]));
        if !add {
            for source in &sources {
                self.refuse_remote(source);
            }
        }
        for source in &sources {
            if let CopySource::Heredoc(heredoc) = source
                && (heredoc.name.contains('/') || matches!(heredoc.name.as_str(), "." | ".."))
            {
                let message = format!("`{}` cannot be the name of a file", heredoc.name);
                self.diagnostics.push(Diagnostic::error(heredoc.span, message));
            }
        }
        if let Some(from) = flags.from.as_ref()
            && let Some(heredoc) = sources.iter().find_map(|source| match source {
                CopySource::Heredoc(heredoc) => Some(heredoc),
                CopySource::Path(_) => None,
            })
        {
            let error = Diagnostic::error(heredoc.span, "a here-document cannot be copied from elsewhere")
                .with_hint(format!("leave out `--from={}`", from.node));
            self.diagnostics.push(error);
        }
        Some(Copy { flags, sources, destination })
    }

    fn copy_flags(&mut self, add: bool, flags: &mut Flags) -> CopyFlags {
        let errors = &mut *self.diagnostics;
        let mut result = CopyFlags {
            chown: flags.value("chown", errors),
            chmod: flags.value("chmod", errors),
            link: flags.switch("link", errors),
            exclude: flags.values("exclude", errors),
            ..CopyFlags::default()
        };
        if add {
            result.checksum = flags.value("checksum", errors);
            result.keep_git_dir = flags.switch("keep-git-dir", errors);
            result.unpack = flags.switch("unpack", errors);
        } else {
            result.from = flags.value("from", errors).map(|from| Spanned::new(from.raw, from.span));
            result.parents = flags.switch("parents", errors);
        }
        if let Some(from) = &result.from
            && has_variable(&from.node)
        {
            errors.push(no_variables_in_from(from.span));
        }
        if let Some(chmod) = result.chmod.as_ref().filter(|chmod| !chmod.has_variables())
            && let Ok(value) = chmod.expand(&|_| None)
            && let Err(reason) = parse_chmod(&value)
        {
            errors.push(Diagnostic::error(chmod.span, reason));
        }
        self.check_words(
            result.chown.iter().chain(&result.chmod).chain(&result.checksum).chain(&result.exclude),
        );
        result
    }

    /// The JSON form.
    fn listed(&mut self, strings: Vec<Spanned<String>>, keyword: Span) -> Option<(Vec<CopySource>, Word)> {
        let mut words = self.decoded(strings);
        let destination = words.pop();
        match destination {
            Some(destination) if !words.is_empty() => {
                Some((words.into_iter().map(CopySource::Path).collect(), destination))
            }
            _ => self.too_few(keyword),
        }
    }

    /// Words between blanks; some may announce here-documents.
    fn separated(&mut self, args: &Args<'_>, keyword: Span) -> Option<(Vec<CopySource>, Word)> {
        let heredocs = self.heredocs(args)?;
        let fields = args.fields();
        let Some((last, first)) = fields.split_last().filter(|(_, first)| !first.is_empty()) else {
            return self.too_few(keyword);
        };
        let place = |range: &Range<usize>| args.span(range.start, range.end);
        if let Some(heredoc) = covering(&heredocs, place(last)) {
            return self.fail(heredoc.span, "a here-document cannot be the destination");
        }
        let mut sources = Vec::new();
        for range in first {
            match covering(&heredocs, place(range)) {
                // A marker with a quoted blank is several fields: only the first of them stands for it.
                Some(heredoc) if heredoc.span.start == place(range).start => {
                    sources.push(CopySource::Heredoc(heredoc.clone()));
                }
                Some(_) => {}
                None => sources.push(CopySource::Path(args.word(range.clone()))),
            }
        }
        Some((sources, args.word(last.clone())))
    }

    fn too_few<T>(&mut self, keyword: Span) -> Option<T> {
        self.diagnostics.push(
            Diagnostic::error(keyword, "a source and a destination are needed")
                .with_hint("the last argument is the destination"),
        );
        None
    }

    fn refuse_remote(&mut self, source: &CopySource) {
        let CopySource::Path(word) = source else { return };
        let raw = word.raw.as_str();
        if ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|scheme| raw.starts_with(scheme)) {
            let error = Diagnostic::error(word.span, "COPY does not download").with_hint("use ADD");
            self.diagnostics.push(error);
        }
    }
}

fn covering(heredocs: &[Heredoc], place: Span) -> Option<&Heredoc> {
    // They stand in the order of the line.
    let before = heredocs.partition_point(|heredoc| heredoc.span.start <= place.start);
    heredocs[..before].last().filter(|heredoc| place.end <= heredoc.span.end)
}

/// A `$` with something behind it.
pub(super) fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

pub(super) fn no_variables_in_from(span: Span) -> Diagnostic {
    Diagnostic::error(span, "variables are not expanded here").with_hint(
        "give the image a name with `FROM IMAGE AS NAME`, where global ARGs count, and use that name",
    )
}
