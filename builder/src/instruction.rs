//! The typed tree of a Containerfile: what was written, nothing expanded, every word with its place.

mod copy;
mod run;

pub use copy::{Copy, CopyFlags, CopySource, Permissions, SymbolicClause, parse_chmod};
pub(crate) use run::MOUNT_KEYS;
pub use run::{
    CacheSharing, Command, Mount, MountField, MountFlag, MountKind, Network, Run, Script, Security,
};

use crate::diagnostic::Diagnostic;
use crate::expand::{Escape, Expanded, Lookup, Quotes, Word, expand};
use crate::parse::{Source, Span, Spanned};
use crate::stages::StageNames;
use std::sync::Arc;
use std::time::Duration;

/// A whole file.
#[derive(Debug, Clone)]
pub struct Containerfile {
    /// The text.
    pub source: Arc<Source>,
    /// The parser directives at the top.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub global_args: Vec<Spanned<Arg>>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Continued instructions with an empty line inside: their keywords.
    pub empty_continuations: Vec<Span>,
    /// Comments directly above an instruction: place of the instruction, text behind the `#`.
    pub comments: Vec<Comment>,
    /// Where the stages are by their names.
    pub(crate) names: StageNames,
}

/// A comment line directly above an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Text behind the `#`, trimmed, and its place.
    pub text: Spanned<String>,
    /// The instruction below: offset of its first byte.
    pub above: usize,
}

/// `# key=value` lines at the top of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: an image reference.
    pub syntax: Option<Spanned<String>>,
    /// `# escape=`
    pub escape: Escape,
    /// `# check=`
    pub check: Option<Spanned<String>>,
}

/// FROM and the instructions below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name behind AS, as written; names are compared without case.
    pub name: Option<Spanned<String>>,
    /// Number, 0 = first FROM.
    pub index: usize,
    /// Image, earlier stage or `scratch`.
    pub base: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// Place of the FROM instruction.
    pub span: Span,
    /// The FROM instruction on one line.
    pub text: String,
    /// What follows.
    pub instructions: Vec<Statement>,
}

impl Stage {
    /// Puts another image in place of the one that FROM names.
    pub(crate) fn replace_base(&mut self, reference: &str) {
        // A reference has no quotes or variables of its own; what has is an invalid one either way.
        self.base = Word::new(reference, self.base.span, self.base.escape);
        self.text = match &self.name {
            Some(name) => format!("FROM {reference} AS {}", name.node),
            None => format!("FROM {reference}"),
        };
    }

    /// The name in lower case, or the number, as users refer to it.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.index.to_string(), |name| name.node.to_lowercase())
    }
}

/// An instruction in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The instruction.
    pub node: Instruction,
    /// Its place, from the keyword to the last argument, without the bodies of here-documents.
    pub span: Span,
    /// As written, continued lines joined, without the bodies of here-documents.
    pub text: String,
}

/// An instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// ADD
    Add(Copy),
    /// ARG
    Arg(Arg),
    /// CMD
    Cmd(Command),
    /// COPY
    Copy(Copy),
    /// ENTRYPOINT
    Entrypoint(Command),
    /// ENV
    Env(Pairs),
    /// EXPOSE: expanded with [`Word::expand_words`], then read by [`parse_ports`].
    Expose(Vec<Word>),
    /// HEALTHCHECK
    Healthcheck(Healthcheck),
    /// LABEL
    Label(Pairs),
    /// MAINTAINER: the author.
    Maintainer(Spanned<String>),
    /// ONBUILD
    Onbuild(Onbuild),
    /// RUN
    Run(Box<Run>),
    /// SHELL: command and arguments, never empty.
    Shell(Vec<Spanned<String>>),
    /// STOPSIGNAL
    Stopsignal(Word),
    /// USER
    User(Word),
    /// VOLUME
    Volume(Vec<Word>),
    /// WORKDIR
    Workdir(Word),
}

impl Instruction {
    /// The here-documents of the instruction itself, in order.
    pub fn heredocs(&self) -> Vec<&Heredoc> {
        match self {
            Instruction::Run(run) => run.heredocs.iter().collect(),
            Instruction::Add(copy) | Instruction::Copy(copy) => copy
                .sources
                .iter()
                .filter_map(|source| match source {
                    CopySource::Heredoc(heredoc) => Some(heredoc),
                    CopySource::Path(_) => None,
                })
                .collect(),
            Instruction::Onbuild(onbuild) => onbuild.trigger.node.heredocs(),
            _ => Vec::new(),
        }
    }

    /// The keyword in capitals.
    pub fn keyword(&self) -> &'static str {
        match self {
            Instruction::Add(_) => "ADD",
            Instruction::Arg(_) => "ARG",
            Instruction::Cmd(_) => "CMD",
            Instruction::Copy(_) => "COPY",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Env(_) => "ENV",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Label(_) => "LABEL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Run(_) => "RUN",
            Instruction::Shell(_) => "SHELL",
            Instruction::Stopsignal(_) => "STOPSIGNAL",
            Instruction::User(_) => "USER",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Workdir(_) => "WORKDIR",
        }
    }
}

/// ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The declared names.
    pub names: Vec<ArgName>,
}

/// One name of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgName {
    /// The name, which is expanded too.
    pub name: Word,
    /// What stands behind the `=`.
    pub default: Option<Word>,
}

/// Keys and values of ENV and LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairs {
    /// Key and value; both are expanded.
    pub pairs: Vec<(Word, Word)>,
    /// Whether it was the old form `KEY the rest of the line`.
    pub legacy: bool,
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK CMD`
    Test {
        /// What is run.
        command: Command,
        /// `--interval`; `None` = the engine's default, as for the others.
        interval: Option<Duration>,
        /// `--timeout`
        timeout: Option<Duration>,
        /// `--start-period`
        start_period: Option<Duration>,
        /// `--start-interval`
        start_interval: Option<Duration>,
        /// `--retries`
        retries: Option<u32>,
    },
}

/// ONBUILD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger's text as it is kept in the image's config, with bodies of here-documents;
    /// [`crate::parse::parse_trigger`] reads it back.
    pub text: String,
    /// The trigger.
    pub trigger: Box<Statement>,
}

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The end marker without quotes; for COPY and ADD the name of the file.
    pub name: String,
    /// Place of the `<<NAME` word.
    pub span: Span,
    /// The file descriptor before `<<`, 0 = not given.
    pub fd: u32,
    /// Whether variables in the body are expanded (no quote in the marker).
    pub expand: bool,
    /// `<<-`
    pub strip_tabs: bool,
    /// The lines as written, with their ends.
    pub raw: String,
    /// The lines; without leading tabs if [`Heredoc::strip_tabs`].
    pub content: String,
    /// Place of the body, without the end line.
    pub content_span: Span,
}

impl Heredoc {
    /// The body for COPY and ADD: with variables replaced where the marker has no quotes. Quotes in the body are kept.
    pub fn expand(&self, lookup: Lookup<'_>) -> Result<Expanded, Diagnostic> {
        if !self.expand {
            return Ok(Expanded { value: self.content.clone(), ..Expanded::default() });
        }
        // The escape character is always a backslash in bodies: observed in BuildKit 0.26.
        expand(&self.content, Escape::Backslash, Quotes::Kept, self.content_span, lookup)
    }
}

/// Reads one expanded word of EXPOSE, `PORT[-PORT][/PROTOCOL]`, into single `PORT/PROTOCOL`s.
///
/// As in BuildKit an address and a host port before the port are accepted and dropped.
pub fn parse_ports(word: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("`{word}` has an unknown protocol: it is one of tcp, udp, sctp"));
    }
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let parse = |text: &str| -> Result<u16, String> {
        text.parse().map_err(|_| format!("`{word}` is no port: it is PORT[-PORT][/PROTOCOL]"))
    };
    let (first, last) = (parse(first)?, parse(last)?);
    if first > last {
        return Err(format!("`{word}` is no range of ports: it ends before it begins"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}
