//! The corpus through two other parsers, on the part of the language that each knows.
//!
//! Where one of them is known to differ, the file is named here with the reason; a file that no longer differs must
//! leave the list.

use crate::corpus;
use crate::tree::{Entry, statements};
use builder::instruction::{Arg, Command, Copy, CopySource, Instruction, Pairs};
use builder::parse::parse;

/// A keyword and what follows, as far as all three can tell.
type Line = (String, Vec<String>);

/// White space and continued lines are drawn differently by each: one blank stands for all of it.
fn flat(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined: Vec<String> = lines
        .map(|line| {
            let line = line.trim_end_matches([' ', '\t', '\r']);
            line.strip_suffix(['\\', '`']).unwrap_or(line).to_owned()
        })
        .collect();
    joined.concat().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn compare(ours: &[Line], theirs: Result<Vec<Line>, String>) -> Result<(), String> {
    match theirs {
        Err(error) => Err(format!("refused: {error}")),
        Ok(theirs) if theirs == ours => Ok(()),
        Ok(theirs) => Err(format!("\n  ours   {ours:?}\n  theirs {theirs:?}")),
    }
}

/// Runs the corpus through one peer.
fn differential(
    known: &[(&str, &str)],
    ours: fn(&str) -> Vec<Line>,
    theirs: fn(&str) -> Result<Vec<Line>, String>,
) {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (name, text) in corpus::files("valid") {
        let result = compare(&ours(&text), theirs(&text));
        let reason = known.iter().find(|(file, _)| *file == name);
        match (result, reason) {
            (Ok(()), None) => compared += 1,
            (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{name}: no longer differs")),
            (Err(difference), None) => wrong.push(format!("{name}: {difference}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 30, "only {compared} files were compared");
}

fn command(form: &Command) -> Vec<String> {
    match form {
        Command::Shell(text) => vec!["shell".to_owned(), flat(&text.node)],
        Command::Exec(words) => {
            std::iter::once("exec".to_owned()).chain(words.iter().map(|word| word.node.clone())).collect()
        }
    }
}

fn copy_words(copy: &Copy) -> Vec<String> {
    let sources = copy.sources.iter().map(|source| match source {
        CopySource::Path(word) => word.raw.clone(),
        CopySource::Heredoc(heredoc) => heredoc.content.clone(),
    });
    sources.chain([copy.destination.raw.clone()]).collect()
}

fn expanded_pairs(pairs: &Pairs) -> Vec<String> {
    let plain = |word: &builder::expand::Word| word.expand(&|name| Some(format!("${name}"))).unwrap();
    pairs.pairs.iter().map(|(key, value)| format!("{}={}", plain(key), plain(value))).collect()
}

fn arg_words(arg: &Arg) -> Vec<String> {
    arg.names
        .iter()
        .map(|name| match &name.default {
            Some(default) => format!("{}={}", name.name.raw, default.raw),
            None => name.name.raw.clone(),
        })
        .collect()
}

/// Our list; `pairs` says how ENV, LABEL and the like look to the peer.
fn ours(text: &str, rest: fn(&Instruction) -> Vec<String>) -> Vec<Line> {
    let file = parse("Containerfile", text).into_result().unwrap();
    statements(&file)
        .into_iter()
        .map(|entry| match entry {
            Entry::Global(arg) => ("ARG".to_owned(), rest(&Instruction::Arg(arg.clone()))),
            Entry::From(stage) => {
                let mut words = vec![stage.base.raw.clone()];
                words.extend(stage.name.as_ref().map(|name| name.node.clone()));
                ("FROM".to_owned(), words)
            }
            Entry::Statement(statement) => {
                let words = match &statement.node {
                    Instruction::Cmd(form) | Instruction::Entrypoint(form) => command(form),
                    Instruction::Run(run) => command(&run.command),
                    Instruction::Copy(copy) => copy_words(copy),
                    other => rest(other),
                };
                (statement.node.keyword().to_owned(), words)
            }
        })
        .collect()
}

mod first {
    //! parse-dockerfile.

    use super::*;
    use parse_dockerfile::{Command, Instruction as Theirs, JsonOrStringArray, Source};

    fn command(form: &Command<'_>) -> Vec<String> {
        match form {
            Command::Shell(text) => vec!["shell".to_owned(), flat(text.value)],
            Command::Exec(words) => std::iter::once("exec".to_owned())
                .chain(words.value.iter().map(|word| word.value.to_string()))
                .collect(),
            _ => vec!["unknown".to_owned()],
        }
    }

    fn sources(sources: &[Source<'_>], destination: &str) -> Vec<String> {
        let sources = sources.iter().map(|source| match source {
            Source::Path(path) => path.value.to_string(),
            Source::HereDoc(heredoc) => heredoc.value.to_string(),
            _ => "unknown".to_owned(),
        });
        sources.chain([destination.to_owned()]).collect()
    }

    fn line(instruction: &Theirs<'_>) -> Line {
        let (keyword, words) = match instruction {
            Theirs::Add(add) => ("ADD", sources(&add.src, &add.dest.value)),
            Theirs::Arg(arg) => ("ARG", vec![flat(&arg.arguments.value)]),
            Theirs::Cmd(cmd) => ("CMD", command(&cmd.arguments)),
            Theirs::Copy(copy) => ("COPY", sources(&copy.src, &copy.dest.value)),
            Theirs::Entrypoint(entrypoint) => ("ENTRYPOINT", command(&entrypoint.arguments)),
            Theirs::Env(_) => ("ENV", Vec::new()),
            Theirs::Expose(expose) => {
                ("EXPOSE", expose.arguments.iter().map(|word| word.value.to_string()).collect())
            }
            Theirs::From(from) => {
                let mut words = vec![from.image.value.to_string()];
                words.extend(from.as_.as_ref().map(|(_, name)| name.value.to_string()));
                ("FROM", words)
            }
            Theirs::Healthcheck(_) => ("HEALTHCHECK", Vec::new()),
            Theirs::Label(_) => ("LABEL", Vec::new()),
            Theirs::Maintainer(author) => ("MAINTAINER", vec![author.name.value.to_string()]),
            Theirs::Onbuild(_) => ("ONBUILD", Vec::new()),
            Theirs::Run(run) if !run.here_docs.is_empty() => {
                let mut words = vec!["heredoc".to_owned()];
                words.extend(run.here_docs.iter().map(|heredoc| heredoc.value.to_string()));
                ("RUN", words)
            }
            Theirs::Run(run) => ("RUN", command(&run.arguments)),
            Theirs::Shell(shell) => {
                ("SHELL", shell.arguments.iter().map(|word| word.value.to_string()).collect())
            }
            Theirs::Stopsignal(signal) => ("STOPSIGNAL", vec![signal.arguments.value.to_string()]),
            Theirs::User(user) => ("USER", vec![user.arguments.value.to_string()]),
            Theirs::Volume(volume) => {
                let words = match &volume.arguments {
                    JsonOrStringArray::Json(words) => &words.value[..],
                    JsonOrStringArray::String(words) => &words[..],
                };
                ("VOLUME", words.iter().map(|word| word.value.to_string()).collect())
            }
            Theirs::Workdir(workdir) => ("WORKDIR", vec![workdir.arguments.value.to_string()]),
            _ => ("UNKNOWN", Vec::new()),
        };
        (keyword.to_owned(), words)
    }

    fn rest(instruction: &Instruction) -> Vec<String> {
        match instruction {
            Instruction::Add(copy) => copy_words(copy),
            Instruction::Arg(arg) => vec![arg_words(arg).join(" ")],
            Instruction::Expose(words) | Instruction::Volume(words) => {
                words.iter().map(|word| word.raw.clone()).collect()
            }
            Instruction::Maintainer(author) => vec![author.node.clone()],
            Instruction::Shell(words) => words.iter().map(|word| word.node.clone()).collect(),
            Instruction::Stopsignal(word) | Instruction::User(word) | Instruction::Workdir(word) => {
                vec![word.raw.clone()]
            }
            _ => Vec::new(),
        }
    }

    fn ours(text: &str) -> Vec<Line> {
        let mut lines = super::ours(text, rest);
        // It keeps bodies beside the command where we keep the command: bodies are compared.
        let file = parse("Containerfile", text).into_result().unwrap();
        for (line, entry) in lines.iter_mut().zip(statements(&file)) {
            if let Entry::Statement(statement) = entry
                && let Instruction::Run(run) = &statement.node
                && !run.heredocs.is_empty()
            {
                line.1 = vec!["heredoc".to_owned()];
                line.1.extend(run.heredocs.iter().map(|heredoc| heredoc.content.clone()));
            }
        }
        lines
    }

    fn theirs(text: &str) -> Result<Vec<Line>, String> {
        let file = parse_dockerfile::parse(text).map_err(|error| error.to_string())?;
        Ok(file.instructions.iter().map(line).collect())
    }

    const KNOWN: [(&str, &str); 9] = [
        ("cmd-bare", "refuses an empty ENTRYPOINT"),
        ("continuation-double-escape", "two escape characters continue a line"),
        ("directive-shebang", "knows no `#!` line"),
        ("entrypoint-cmd", "refuses `ENTRYPOINT []`"),
        ("from-same-name-twice", "refuses a repeated stage name"),
        ("heredoc-run-fd", "knows no file descriptor before `<<`"),
        ("heredoc-run-text", "knows here-documents only as the first word of RUN"),
        ("run-flags-end", "knows no `--`"),
        ("run-mount-quoted", "knows no quotes in flags"),
    ];

    #[test]
    fn parse_dockerfile_reads_the_same() {
        differential(&KNOWN, ours, theirs);
    }
}

mod second {
    //! dockerfile-parser.

    use super::*;
    use dockerfile_parser::{Dockerfile, Instruction as Theirs, ShellOrExecExpr};

    fn command(form: &ShellOrExecExpr) -> Vec<String> {
        match form {
            ShellOrExecExpr::Shell(text) => vec!["shell".to_owned(), flat(&text.to_string())],
            ShellOrExecExpr::Exec(words) => std::iter::once("exec".to_owned())
                .chain(words.as_str_vec().into_iter().map(str::to_owned))
                .collect(),
        }
    }

    fn line(instruction: &Theirs) -> Line {
        let (keyword, words) = match instruction {
            Theirs::From(from) => {
                let mut words = vec![from.image.content.clone()];
                words.extend(from.alias.as_ref().map(|name| name.content.clone()));
                ("FROM", words)
            }
            Theirs::Arg(arg) => {
                let name = arg.name.content.clone();
                let word = match &arg.value {
                    Some(value) => format!("{name}={}", value.content),
                    None => name,
                };
                ("ARG", vec![word])
            }
            Theirs::Label(label) => (
                "LABEL",
                label
                    .labels
                    .iter()
                    .map(|label| format!("{}={}", label.name.content, label.value.content))
                    .collect(),
            ),
            Theirs::Run(run) => ("RUN", command(&run.expr)),
            Theirs::Entrypoint(entrypoint) => ("ENTRYPOINT", command(&entrypoint.expr)),
            Theirs::Cmd(cmd) => ("CMD", command(&cmd.expr)),
            Theirs::Copy(copy) => {
                let mut words: Vec<String> =
                    copy.sources.iter().map(|source| source.content.clone()).collect();
                words.push(copy.destination.content.clone());
                ("COPY", words)
            }
            Theirs::Env(env) => {
                ("ENV", env.vars.iter().map(|pair| format!("{}={}", pair.key.content, pair.value)).collect())
            }
            Theirs::Misc(misc) => {
                return (misc.instruction.content.to_uppercase(), vec![flat(&misc.arguments.to_string())]);
            }
        };
        (keyword.to_owned(), words)
    }

    fn rest(instruction: &Instruction) -> Vec<String> {
        match instruction {
            Instruction::Arg(arg) => arg_words(arg),
            Instruction::Env(pairs) | Instruction::Label(pairs) => expanded_pairs(pairs),
            _ => Vec::new(),
        }
    }

    fn ours(text: &str) -> Vec<Line> {
        let mut lines = super::ours(text, rest);
        let file = parse("Containerfile", text).into_result().unwrap();
        for (line, entry) in lines.iter_mut().zip(statements(&file)) {
            // What it does not know comes back as the text behind the keyword.
            if let Entry::Statement(statement) = entry
                && line.1.is_empty()
            {
                let rest = statement.text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
                line.1 = vec![flat(rest)];
            }
        }
        lines
    }

    fn theirs(text: &str) -> Result<Vec<Line>, String> {
        let file = Dockerfile::parse(text).map_err(|error| error.to_string())?;
        Ok(file.instructions.iter().map(line).collect())
    }

    const KNOWN: [(&str, &str); 44] = [
        ("arg-many", "takes one ARG a line"),
        ("bom", "knows no byte order mark"),
        ("bom-directive", "knows no byte order mark"),
        ("cmd-bare", "refuses an empty CMD"),
        ("continuation-blank-line", "an empty line ends the instruction"),
        ("continuation-double-escape", "two escape characters continue a line"),
        ("continuation-escape-alone", "wants a keyword first"),
        ("continuation-in-keyword", "wants keywords in one piece"),
        ("continuation-in-word", "a continued line ends a word"),
        ("copy-flags", "takes a flag without a value, and what follows it, for paths"),
        ("copy-json", "knows no JSON form of COPY"),
        ("copy-variables", "wants quotes around whole words"),
        ("directive-escape", "knows no directives"),
        ("directive-shebang", "knows no directives"),
        ("env-equals-in-value", "knows no quoted names"),
        ("env-pairs", "knows no escaped blank and no single quotes"),
        ("env-quotes-inside", "wants quotes around whole values"),
        ("expand-operators", "expands nothing here"),
        ("expand-required", "takes one ARG a line"),
        ("from-global-arg", "takes one ARG a line"),
        ("heredoc-add", "knows no here-documents"),
        ("heredoc-copy", "knows no here-documents"),
        ("heredoc-copy-quoted", "knows no here-documents"),
        ("heredoc-copy-several", "knows no here-documents"),
        ("heredoc-empty", "knows no here-documents"),
        ("heredoc-keeps-comments", "knows no here-documents"),
        ("heredoc-no-newline-at-end", "knows no here-documents"),
        ("heredoc-onbuild", "knows no here-documents"),
        ("heredoc-run", "knows no here-documents"),
        ("heredoc-run-fd", "knows no here-documents"),
        ("heredoc-run-flags", "knows no here-documents"),
        ("heredoc-run-shebang", "knows no here-documents"),
        ("heredoc-run-text", "knows no here-documents"),
        ("label-pairs", "knows no old form of LABEL"),
        ("run-flags", "leaves flags in the text"),
        ("run-flags-end", "leaves flags in the text"),
        ("run-json-fallback", "JSON that goes on is an error"),
        ("run-mount-bind", "leaves flags in the text"),
        ("run-mount-cache", "leaves flags in the text"),
        ("run-mount-quoted", "leaves flags in the text"),
        ("run-mount-secret", "leaves flags in the text"),
        ("run-mount-ssh", "leaves flags in the text"),
        ("run-mount-tmpfs", "leaves flags in the text"),
        ("run-mount-variable", "leaves flags in the text"),
    ];

    #[test]
    fn dockerfile_parser_reads_the_same() {
        differential(&KNOWN, ours, theirs);
    }
}
