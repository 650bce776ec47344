//! Variables that nothing sets.

use super::{Finding, LintOptions, finding};
use crate::diagnostic::{Diagnostic, nearest};
use crate::expand::{Expanded, Word};
use crate::instruction::{Containerfile, CopySource, Instruction, Stage};
use crate::parse::Span;
use crate::stages::{Base, MAX_EXPANDED, PlanOptions, plan};
use std::collections::{BTreeMap, BTreeSet};

/// Names that stages may inherit, all together; a file with more is not checked to its end.
const MAX_NAMES: usize = 1_000_000;

/// Findings that get advice, and names that are looked through for it: each name is compared letter by letter.
const MAX_HINTS: usize = 20;
const MAX_CANDIDATES: usize = 2_000;

/// A base image for another machine than the one that is built for. Variants do not count: machines of one kind mostly
/// run the programs of others.
fn base_platform(
    name: &str,
    wanted: Option<&str>,
    stage: &Stage,
    options: &LintOptions<'_>,
    findings: &mut Vec<Finding>,
) {
    let target = options.plan.platform_args.get("TARGETPLATFORM").map(String::as_str);
    let Some(wanted) = wanted.or(target).and_then(|text| text.parse::<oci::Platform>().ok()) else { return };
    let Some(actual) = options.platforms.get(&(name.to_owned(), wanted.to_string())) else { return };
    if (&actual.os, &actual.architecture) == (&wanted.os, &wanted.architecture) {
        return;
    }
    let message = format!("the base image `{name}` is for {actual}, not for {wanted}");
    let hint = Some("name an image that has the platform, or say FROM --platform".to_owned());
    finding(findings, "InvalidBaseImagePlatform", stage.span, stage.span, message, hint);
}

pub(super) fn check(file: &Containerfile, options: &LintOptions<'_>, findings: &mut Vec<Finding>) {
    from_lines(file, options, findings);
    // Where the stages cannot be told, neither can what they know.
    let Ok(plan) = plan(file, &PlanOptions { target: None, ..options.plan.clone() }) else { return };
    let mut scopes: Vec<Option<BTreeSet<String>>> = Vec::new();
    let mut names = 0;
    let mut hints = MAX_HINTS;
    for (stage, planned) in file.stages.iter().zip(&plan.stages) {
        let mut scope = match &planned.base {
            Base::Scratch => Some(BTreeSet::new()),
            Base::Stage(index) => scopes.get(*index).cloned().flatten(),
            Base::Image(name) | Base::Context(name) => options.environments.get(name).cloned(),
        };
        if let Base::Image(name) = &planned.base {
            base_platform(name, planned.platform.as_deref(), stage, options, findings);
        }
        names += scope.as_ref().map_or(0, BTreeSet::len);
        if names > MAX_NAMES {
            return;
        }
        if let Some(scope) = &mut scope {
            // The builder sets it where the base does not.
            scope.insert("PATH".to_owned());
            for statement in &stage.instructions {
                report(&statement.node, statement.span, scope, &mut hints, findings);
                declare(&statement.node, scope);
            }
        }
        scopes.push(scope);
    }
}

/// FROM lines see global arguments only.
fn from_lines(file: &Containerfile, options: &LintOptions<'_>, findings: &mut Vec<Finding>) {
    let declared: BTreeSet<&str> =
        file.global_args.iter().flat_map(|arg| &arg.node.names).map(|name| name.name.raw.as_str()).collect();
    let platform: BTreeSet<&str> = options.plan.platform_args.keys().map(String::as_str).collect();
    let defaults = defaults(file, options);
    let mut hints = MAX_HINTS;
    for stage in &file.stages {
        for word in [&stage.base].into_iter().chain(&stage.platform) {
            let known = |name: &str| declared.contains(name) || platform.contains(name);
            let Ok(expanded) = word.expand_all(&|name| known(name).then(|| "x".to_owned())) else { continue };
            for name in names(&expanded) {
                let message = format!("FROM uses `{name}`, which no ARG before the first FROM declares");
                let hint = advice(name, declared.iter().chain(&platform).copied(), &mut hints);
                let hint = hint.map(|near| format!("did you mean `{near}`?"));
                finding(findings, "UndefinedArgInFrom", stage.span, word.span, message, hint);
            }
        }
        if stage.base.has_variables()
            && let Ok(base) = stage.base.expand(&|name| defaults.get(name).cloned())
            && !could_be_image(&base)
        {
            let message =
                format!("without --build-arg the base image would be `{base}`, which is no reference");
            finding(findings, "InvalidDefaultArgInFrom", stage.span, stage.base.span, message, None);
        }
    }
}

/// The name that was meant, for the first findings.
fn advice<'a>(name: &str, known: impl Iterator<Item = &'a str>, hints: &mut usize) -> Option<&'a str> {
    *hints = hints.checked_sub(1)?;
    nearest(name, known.take(MAX_CANDIDATES))
}

/// Values of the global arguments as if no `--build-arg` were given.
fn defaults(file: &Containerfile, options: &LintOptions<'_>) -> BTreeMap<String, String> {
    let mut values = options.plan.platform_args.clone();
    let mut bytes = 0;
    for name in file.global_args.iter().flat_map(|arg| &arg.node.names) {
        if let Some(default) = &name.default
            && let Ok(value) = default.expand(&|name| values.get(name).cloned())
        {
            bytes += value.len();
            if bytes > MAX_EXPANDED {
                break;
            }
            values.insert(name.name.raw.clone(), value);
        }
    }
    values
}

fn could_be_image(name: &str) -> bool {
    let allowed = |char: char| char.is_ascii_alphanumeric() || "-_./:@+[]".contains(char);
    !name.is_empty()
        && name.chars().all(allowed)
        && !name.ends_with([':', '@', '/', '-', '.'])
        && !name.starts_with([':', '@', '/', '-', '.'])
        && !name.contains("::")
        && !name.contains("//")
        && !name.contains(":@")
}

/// Adds what the instruction sets.
fn declare(instruction: &Instruction, scope: &mut BTreeSet<String>) {
    match instruction {
        Instruction::Arg(arg) => scope.extend(arg.names.iter().map(|name| name.name.raw.clone())),
        Instruction::Env(pairs) => scope.extend(pairs.pairs.iter().map(|(key, _)| key.raw.clone())),
        _ => {}
    }
}

fn report(
    instruction: &Instruction,
    span: Span,
    scope: &BTreeSet<String>,
    hints: &mut usize,
    findings: &mut Vec<Finding>,
) {
    let lookup = |name: &str| scope.contains(name).then(|| "x".to_owned());
    let mut add = |expanded: Result<Expanded, Diagnostic>, place: Span| {
        let Ok(expanded) = expanded else { return };
        for name in names(&expanded) {
            let near = advice(name, scope.iter().map(String::as_str), hints);
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("nothing sets `{name}`");
            finding(findings, "UndefinedVar", span, place, message, hint);
        }
    };
    for word in expanded_words(instruction) {
        add(word.expand_all(&lookup), word.span);
    }
    if !matches!(instruction, Instruction::Run(_) | Instruction::Onbuild(_)) {
        for heredoc in instruction.heredocs() {
            add(heredoc.expand(&lookup), heredoc.span);
        }
    }
}

/// Unset variables, without a shell's own like `$1` and `$@`.
fn names(expanded: &Expanded) -> impl Iterator<Item = &str> {
    let named = |name: &&str| name.starts_with(|first: char| first.is_alphabetic() || first == '_');
    expanded.unset.iter().map(String::as_str).filter(named)
}

/// The words of an instruction in which variables are replaced.
fn expanded_words(instruction: &Instruction) -> Vec<&Word> {
    match instruction {
        Instruction::Add(copy) | Instruction::Copy(copy) => {
            let flags = &copy.flags;
            let paths = copy.sources.iter().filter_map(|source| match source {
                CopySource::Path(word) => Some(word),
                CopySource::Heredoc(_) => None,
            });
            paths
                .chain([&copy.destination])
                .chain(&flags.chown)
                .chain(&flags.chmod)
                .chain(&flags.checksum)
                .chain(&flags.exclude)
                .collect()
        }
        Instruction::Arg(arg) => {
            arg.names.iter().flat_map(|name| [&name.name].into_iter().chain(&name.default)).collect()
        }
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.pairs.iter().flat_map(|(key, value)| [key, value]).collect()
        }
        Instruction::Expose(words) | Instruction::Volume(words) => words.iter().collect(),
        Instruction::Stopsignal(word) | Instruction::User(word) | Instruction::Workdir(word) => vec![word],
        Instruction::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| &mount.fields)
            .filter(|field| field.key.node != "from")
            .filter_map(|field| field.value.as_ref())
            .chain(&run.devices)
            .collect(),
        Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Healthcheck(_)
        | Instruction::Maintainer(_)
        | Instruction::Onbuild(_)
        | Instruction::Shell(_) => Vec::new(),
    }
}
