//! A short drawing of a tree.

use builder::expand::Word;
use builder::instruction::{
    Command, Containerfile, Copy, CopySource, Healthcheck, Heredoc, Instruction, Run, Script, Stage,
    Statement,
};
use std::fmt::Write;

/// One line an instruction, with everything that was read.
pub(crate) fn draw(file: &Containerfile) -> String {
    let mut out = String::new();
    let directives = &file.directives;
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            writeln!(out, "{name}: {:?}", value.node).unwrap();
        }
    }
    if directives.escape.char() != '\\' {
        writeln!(out, "escape: {}", directives.escape.char()).unwrap();
    }
    for span in &file.empty_continuations {
        writeln!(out, "empty line inside: {}", file.source.slice(*span)).unwrap();
    }
    for arg in &file.global_args {
        writeln!(out, "{}", instruction(&Instruction::Arg(arg.node.clone()))).unwrap();
    }
    for stage in &file.stages {
        writeln!(out, "{}", from(stage)).unwrap();
        for statement in &stage.instructions {
            let line = file.source.line(statement.span.start);
            writeln!(out, "  {line}: {}", instruction(&statement.node)).unwrap();
        }
    }
    out
}

/// FROM as one line.
pub(crate) fn from(stage: &Stage) -> String {
    let mut out = format!("{} FROM {:?}", stage.index, stage.base.raw);
    if let Some(platform) = &stage.platform {
        write!(out, " platform={:?}", platform.raw).unwrap();
    }
    if let Some(name) = &stage.name {
        write!(out, " name={:?}", name.node).unwrap();
    }
    out
}

fn raw(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.raw.as_str()).collect()
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(text) => format!("shell {:?}", text.node),
        Command::Exec(words) => {
            format!("exec {:?}", words.iter().map(|word| word.node.as_str()).collect::<Vec<_>>())
        }
    }
}

fn heredoc(heredoc: &Heredoc) -> String {
    let expand = if heredoc.expand { "expanded" } else { "literal" };
    let fd = if heredoc.fd > 0 { format!(" fd {}", heredoc.fd) } else { String::new() };
    format!("<<{}{fd} {expand} {:?}", heredoc.name, heredoc.content)
}

fn instruction(node: &Instruction) -> String {
    let rest = match node {
        Instruction::Add(copy) | Instruction::Copy(copy) => files(copy),
        Instruction::Arg(arg) => {
            let names = arg.names.iter().map(|name| match &name.default {
                Some(default) => format!("{:?}={:?}", name.name.raw, default.raw),
                None => format!("{:?}", name.name.raw),
            });
            names.collect::<Vec<_>>().join(" ")
        }
        Instruction::Cmd(form) | Instruction::Entrypoint(form) => command(form),
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            let list: Vec<String> =
                pairs.pairs.iter().map(|(key, value)| format!("{:?}={:?}", key.raw, value.raw)).collect();
            let legacy = if pairs.legacy { "legacy " } else { "" };
            format!("{legacy}{}", list.join(" "))
        }
        Instruction::Expose(words) | Instruction::Volume(words) => format!("{:?}", raw(words)),
        Instruction::Healthcheck(Healthcheck::None) => "none".to_owned(),
        Instruction::Healthcheck(Healthcheck::Test {
            command: test,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        }) => format!(
            "{} interval={interval:?} timeout={timeout:?} start_period={start_period:?} \
             start_interval={start_interval:?} retries={retries:?}",
            command(test)
        ),
        Instruction::Maintainer(author) => format!("{:?}", author.node),
        Instruction::Onbuild(onbuild) => {
            format!("{:?} -> {}", onbuild.text, instruction(&onbuild.trigger.node))
        }
        Instruction::Run(run) => run_line(run),
        Instruction::Shell(words) => {
            format!("{:?}", words.iter().map(|word| word.node.as_str()).collect::<Vec<_>>())
        }
        Instruction::Stopsignal(word) | Instruction::User(word) | Instruction::Workdir(word) => {
            format!("{:?}", word.raw)
        }
    };
    format!("{} {rest}", node.keyword())
}

fn files(copy: &Copy) -> String {
    let mut out = String::new();
    let flags = &copy.flags;
    if let Some(from) = &flags.from {
        write!(out, "from={:?} ", from.node).unwrap();
    }
    for (name, value) in [("chown", &flags.chown), ("chmod", &flags.chmod), ("checksum", &flags.checksum)] {
        if let Some(value) = value {
            write!(out, "{name}={:?} ", value.raw).unwrap();
        }
    }
    let switches = [
        ("link", &flags.link),
        ("parents", &flags.parents),
        ("keep-git-dir", &flags.keep_git_dir),
        ("unpack", &flags.unpack),
    ];
    for (name, value) in switches {
        if let Some(value) = value {
            write!(out, "{name}={} ", value.node).unwrap();
        }
    }
    if !flags.exclude.is_empty() {
        write!(out, "exclude={:?} ", raw(&flags.exclude)).unwrap();
    }
    let sources: Vec<String> = copy
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Path(word) => format!("{:?}", word.raw),
            CopySource::Heredoc(body) => heredoc(body),
        })
        .collect();
    write!(out, "[{}] -> {:?}", sources.join(", "), copy.destination.raw).unwrap();
    out
}

fn run_line(run: &Run) -> String {
    let mut out = command(&run.command);
    for mount in &run.mounts {
        match mount.evaluate(&|name| Some(format!("/{name}"))) {
            Ok(mount) => {
                let read_only = if mount.read_only { " ro" } else { "" };
                write!(out, "\n       mount {:?}{read_only} {}", mount.target, kind(&mount.kind)).unwrap();
            }
            Err(error) => write!(out, "\n       mount error {}", error.message).unwrap(),
        }
    }
    if let Some(network) = &run.network {
        write!(out, "\n       network {:?}", network.node).unwrap();
    }
    if let Some(security) = &run.security {
        write!(out, "\n       security {:?}", security.node).unwrap();
    }
    for body in &run.heredocs {
        write!(out, "\n       {}", heredoc(body)).unwrap();
    }
    if !run.heredocs.is_empty() {
        match run.script() {
            Script::Shell(text) => write!(out, "\n       script {text:?}").unwrap(),
            Script::File { name, content } => write!(out, "\n       file {name} {content:?}").unwrap(),
            Script::Exec(_) => {}
        }
    }
    out
}

/// A mount without the places in it.
fn kind(kind: &builder::instruction::MountKind) -> String {
    use builder::instruction::MountKind;
    match kind {
        MountKind::Bind { from, source } => {
            format!("bind from={:?} source={source:?}", from.as_ref().map(|from| from.node.as_str()))
        }
        MountKind::Cache { id, sharing, from, source, mode, uid, gid } => format!(
            "cache id={id:?} sharing={sharing:?} from={:?} source={source:?} mode={mode:o} uid={uid} gid={gid}",
            from.as_ref().map(|from| from.node.as_str())
        ),
        MountKind::Tmpfs { size } => format!("tmpfs size={size:?}"),
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            format!("secret id={id:?} env={env:?} required={required} mode={mode:o} uid={uid} gid={gid}")
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            format!("ssh id={id:?} required={required} mode={mode:o} uid={uid} gid={gid}")
        }
    }
}

/// All statements of a file in its order, with the stages between them.
pub(crate) fn statements(file: &Containerfile) -> Vec<Entry<'_>> {
    let globals = file.global_args.iter().map(|arg| Entry::Global(&arg.node));
    let stages = file.stages.iter().flat_map(|stage| {
        std::iter::once(Entry::From(stage)).chain(stage.instructions.iter().map(Entry::Statement))
    });
    globals.chain(stages).collect()
}

/// What stands on a line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// An ARG before the first FROM.
    Global(&'a builder::instruction::Arg),
    /// FROM.
    From(&'a Stage),
    /// Any other.
    Statement(&'a Statement),
}
