//! Rules that look at one instruction, or at a stage as a whole.

use super::{Finding, LintOptions, finding};
use crate::instruction::{Command, Containerfile, CopySource, Instruction, Stage, Statement};
use crate::parse::Span;
use std::collections::BTreeMap;

/// Keyword as written, and its place.
struct Keyword<'a> {
    text: &'a str,
    place: Span,
}

pub(super) fn check(file: &Containerfile, options: &LintOptions<'_>, findings: &mut Vec<Finding>) {
    casing(file, findings);
    for &place in &file.empty_continuations {
        let message = "an empty line stands inside of a continued instruction";
        let hint = Some("remove the line, or make it a comment".to_owned());
        finding(findings, "NoEmptyContinuation", place, place, message, hint);
    }
    stage_names(file, findings);
    descriptions(file, findings);
    for (arg, span) in file.global_args.iter().map(|arg| (&arg.node, arg.span)) {
        for name in &arg.names {
            secret(&name.name.raw, "ARG", span, name.name.span, findings);
        }
    }
    for stage in &file.stages {
        from(file, stage, findings);
        repeated(stage, findings);
        relative_workdir(stage, findings);
        let has_shell = stage.instructions.iter().any(|other| matches!(other.node, Instruction::Shell(_)));
        for statement in &stage.instructions {
            instruction(has_shell, statement, options, findings);
        }
    }
}

fn keywords(file: &Containerfile) -> Vec<Keyword<'_>> {
    let first = |text: &str| text.find(char::is_whitespace).unwrap_or(text.len());
    let mut keywords = Vec::new();
    let mut add =
        |text, start: usize| keywords.push(Keyword { text, place: Span::new(start, start + text.len()) });
    for arg in &file.global_args {
        let text = file.source.slice(arg.span);
        add(&text[..first(text)], arg.span.start);
    }
    for stage in &file.stages {
        add(&stage.text[..first(&stage.text)], stage.span.start);
        for statement in &stage.instructions {
            add(&statement.text[..first(&statement.text)], statement.span.start);
        }
    }
    keywords
}

fn is_upper(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn is_lower(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn casing(file: &Containerfile, findings: &mut Vec<Finding>) {
    let keywords = keywords(file);
    let count = |fits: fn(&str) -> bool| keywords.iter().filter(|keyword| fits(keyword.text)).count();
    let (style, fits): (&str, fn(&str) -> bool) =
        if count(is_lower) > count(is_upper) { ("lower", is_lower) } else { ("upper", is_upper) };
    for keyword in keywords.iter().filter(|keyword| !fits(keyword.text)) {
        let message = format!("`{}` is not in {style} case like most instructions here", keyword.text);
        finding(findings, "ConsistentInstructionCasing", keyword.place, keyword.place, message, None);
    }
}

fn stage_names(file: &Containerfile, findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        let lower = name.node.to_lowercase();
        if lower != name.node {
            let message = format!("the stage name `{}` has capitals", name.node);
            let hint = Some(format!("names are compared in lower case: `{lower}`"));
            finding(findings, "StageNameCasing", stage.span, name.span, message, hint);
        }
        if matches!(lower.as_str(), "scratch" | "context") {
            let message = format!("`{lower}` is a reserved name");
            finding(findings, "ReservedStageName", stage.span, name.span, message, None);
        }
        let line = file.source.line(stage.span.start);
        if let Some(first) = seen.insert(lower.clone(), line) {
            let message = format!("the stage name `{lower}` was used before, at line {first}");
            finding(findings, "DuplicateStageName", stage.span, name.span, message, None);
        }
    }
}

/// A comment directly above a stage or an argument that describes something else.
fn descriptions(file: &Containerfile, findings: &mut Vec<Finding>) {
    let stages = file.stages.iter().filter_map(|stage| Some((stage.name.as_ref()?.node.clone(), stage.span)));
    let locals = file.stages.iter().flat_map(|stage| &stage.instructions).filter_map(|statement| {
        match &statement.node {
            Instruction::Arg(arg) if arg.names.len() == 1 => {
                Some((arg.names[0].name.raw.clone(), statement.span))
            }
            _ => None,
        }
    });
    let globals = file.global_args.iter().filter(|arg| arg.node.names.len() == 1);
    let globals = globals.map(|arg| (arg.node.names[0].name.raw.clone(), arg.span));
    // Both are in the order of the file, so those above one instruction stand together.
    for (name, span) in stages.chain(globals).chain(locals) {
        let begin = file.comments.partition_point(|comment| comment.above < span.start);
        let mut comments =
            file.comments[begin..].iter().take_while(|comment| comment.above == span.start).peekable();
        let Some(first) = comments.peek().map(|comment| comment.text.span) else { continue };
        let describes =
            |text: &str| text.strip_prefix(&name).is_some_and(|rest| rest.starts_with([' ', '\t']));
        if !comments.any(|comment| describes(&comment.text.node)) {
            let message = format!("the comment above does not begin with `{name}`");
            let hint = Some(format!("# {name} and what it is for"));
            finding(findings, "InvalidDefinitionDescription", span, first, message, hint);
        }
    }
}

fn from(file: &Containerfile, stage: &Stage, findings: &mut Vec<Finding>) {
    let words: Vec<&str> = stage.text.split_whitespace().collect();
    if let (Some(name), [from, .., keyword, _]) = (&stage.name, words.as_slice())
        && !(is_upper(from) && is_upper(keyword) || is_lower(from) && is_lower(keyword))
    {
        let message = format!("`{keyword}` is not in the same case as `{from}`");
        let before = file.source.slice(Span::new(stage.span.start, name.span.start));
        let start = stage.span.start + before.rfind(keyword).unwrap_or(0);
        let place = Span::new(start, start + keyword.len());
        finding(findings, "FromAsCasing", stage.span, place, message, None);
    }
    let Some(platform) = &stage.platform else { return };
    if matches!(platform.raw.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = "`--platform=$TARGETPLATFORM` is what happens without the flag";
        finding(findings, "RedundantTargetPlatform", stage.span, platform.span, message, None);
    } else if !platform.has_variables() {
        // A stage that names its platform means it.
        let named = stage.name.as_ref().is_some_and(|name| {
            platform
                .raw
                .split('/')
                .any(|part| !part.is_empty() && name.node.to_lowercase().contains(&part.to_lowercase()))
        });
        if !named {
            let message = format!("the platform is fixed to `{}`", platform.raw);
            let hint = Some("use $BUILDPLATFORM, or --platform on the command line".to_owned());
            finding(findings, "FromPlatformFlagConstDisallowed", stage.span, platform.span, message, hint);
        }
    }
}

/// CMD, ENTRYPOINT and HEALTHCHECK count only once.
fn repeated(stage: &Stage, findings: &mut Vec<Finding>) {
    for keyword in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let same: Vec<&Statement> =
            stage.instructions.iter().filter(|statement| statement.node.keyword() == keyword).collect();
        let Some((_, overridden)) = same.split_last() else { continue };
        for statement in overridden {
            let message = format!("this {keyword} is overridden by a later one of the same stage");
            finding(
                findings,
                "MultipleInstructionsDisallowed",
                statement.span,
                Span::new(statement.span.start, statement.span.start + keyword.len()),
                message,
                None,
            );
        }
    }
}

fn relative_workdir(stage: &Stage, findings: &mut Vec<Finding>) {
    for statement in &stage.instructions {
        let Instruction::Workdir(path) = &statement.node else { continue };
        let start = path.raw.trim_start_matches(['"', '\'']);
        if start.starts_with('/') {
            return;
        }
        // What a variable holds is not known here.
        if !start.starts_with('$') {
            let message = format!("the relative WORKDIR `{}` depends on the base image's", path.raw);
            finding(findings, "WorkdirRelativePath", statement.span, path.span, message, None);
        }
    }
}

fn instruction(
    has_shell: bool,
    statement: &Statement,
    options: &LintOptions<'_>,
    findings: &mut Vec<Finding>,
) {
    let span = statement.span;
    let keyword = statement.node.keyword();
    match &statement.node {
        Instruction::Maintainer(author) => {
            let hint = Some(format!("LABEL org.opencontainers.image.authors=\"{}\"", author.node));
            finding(findings, "MaintainerDeprecated", span, span, "MAINTAINER is deprecated", hint);
        }
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            for (key, value) in &pairs.pairs {
                if pairs.legacy {
                    let message = format!("`{keyword} key value` is an old form");
                    let hint = Some(format!("{keyword} {}=\"{}\"", key.raw, value.raw.replace('"', "\\\"")));
                    finding(findings, "LegacyKeyValueFormat", span, key.span.to(value.span), message, hint);
                }
                if keyword == "ENV" {
                    secret(&key.raw, keyword, span, key.span, findings);
                }
            }
        }
        Instruction::Arg(arg) => {
            for name in &arg.names {
                secret(&name.name.raw, keyword, span, name.name.span, findings);
            }
        }
        Instruction::Cmd(Command::Shell(text)) | Instruction::Entrypoint(Command::Shell(text))
            if !has_shell =>
        {
            let message = format!("{keyword} runs in a shell, which does not pass signals on");
            let hint = Some(format!("use a JSON array: {keyword} [\"command\", \"argument\"]"));
            finding(findings, "JSONArgsRecommended", span, text.span, message, hint);
        }
        Instruction::Expose(words) => {
            for word in words.iter().filter(|word| !word.has_variables()) {
                let (ports, protocol) = word.raw.split_once('/').unwrap_or((&word.raw, ""));
                if ports.contains(':') {
                    let message =
                        format!("`{}` has an address or a host port, which EXPOSE ignores", word.raw);
                    finding(findings, "ExposeInvalidFormat", span, word.span, message, None);
                }
                if protocol.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    let message = format!("the protocol `{protocol}` is not in lower case");
                    finding(findings, "ExposeProtoCasing", span, word.span, message, None);
                }
            }
        }
        Instruction::Add(copy) | Instruction::Copy(copy) if copy.flags.from.is_none() => {
            let Some(ignore) = options.ignore else { return };
            for source in &copy.sources {
                let CopySource::Path(word) = source else { continue };
                let plain = !word.raw.contains(['*', '?', '[', '$', '\\']) && !word.raw.contains("://");
                let path: Vec<&str> =
                    word.raw.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
                if plain && !path.is_empty() && ignore.is_ignored(path.join("/").as_bytes()) {
                    let message = format!("`{}` is left out of the context by the ignore file", word.raw);
                    finding(findings, "CopyIgnoredFile", span, word.span, message, None);
                }
            }
        }
        Instruction::Onbuild(onbuild) => {
            instruction(has_shell, &onbuild.trigger, options, findings);
        }
        _ => {}
    }
}

/// A variable that by its name holds what nobody should find in an image.
fn secret(name: &str, keyword: &str, instruction: Span, place: Span, findings: &mut Vec<Finding>) {
    const WORDS: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    if parts.clone().any(|part| WORDS.contains(&part)) && !parts.any(|part| part == "public") {
        let message =
            format!("{keyword} `{name}` looks like a secret, and everybody with the image can read it");
        let hint = Some("use RUN --mount=type=secret".to_owned());
        finding(findings, "SecretsUsedInArgOrEnv", instruction, place, message, hint);
    }
}
