//! Which stages a build needs, what they are based on, and the global arguments.

use crate::diagnostic::Diagnostic;
use crate::expand::Word;
use crate::instruction::{Containerfile, Instruction, Stage};
use crate::parse::{Span, Spanned};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

/// Bytes that all values of a file may have together once they are expanded; more is no build but an attack. An image
/// config of a fourth of this is refused by registries.
pub(crate) const MAX_EXPANDED: usize = 16 << 20;

/// A file with more errors than this in its FROM lines and references is not looked at further.
const MAX_ERRORS: usize = 20;

/// What the choice of stages depends on besides the file.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `--target`: name or number; `None` = last stage.
    pub target: Option<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// TARGETPLATFORM and its like: known in FROM lines without ARG.
    pub platform_args: BTreeMap<String, String>,
    /// Names of `--build-context`; they win over stages and images.
    pub contexts: BTreeSet<String>,
}

/// The stages of a build.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All stages, in the file's order.
    pub stages: Vec<StagePlan>,
    /// Number of the stage that is the result.
    pub target: usize,
    /// Values of the global ARGs; a stage sees one after a bare `ARG NAME`. Platform arguments are only here where the
    /// file or the command line sets them.
    pub global_args: BTreeMap<String, String>,
    /// Names of build arguments that FROM lines or global ARGs used.
    pub used_build_args: BTreeSet<String>,
}

/// What is known about a stage before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// What it starts from.
    pub base: Base,
    /// `--platform`, expanded.
    pub platform: Option<String>,
    /// Stages that it refers to: FROM, `COPY --from`, `RUN --mount=from`. Not those of the base's ONBUILD triggers.
    pub dependencies: BTreeSet<usize>,
    /// Whether the target needs it.
    pub needed: bool,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// The result of an earlier stage.
    Stage(usize),
    /// A named context.
    Context(String),
    /// An image.
    Image(String),
}

/// Values of the ARGs before the first FROM.
pub(crate) fn global_args(file: &Containerfile, options: &PlanOptions) -> BTreeMap<String, String> {
    Globals::evaluate(file, options, &mut Vec::new()).values
}

/// Evaluates global arguments and FROM lines, and follows references from the target.
pub fn plan(file: &Containerfile, options: &PlanOptions) -> Result<Plan, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let globals = Globals::evaluate(file, options, &mut errors);
    let mut stages = Vec::new();
    for stage in &file.stages {
        let base = globals.base(file, stage, options, &mut errors);
        let platform = globals.platform(stage, &mut errors);
        stages.push(StagePlan { base, platform, dependencies: BTreeSet::new(), needed: false });
        if errors.len() >= MAX_ERRORS {
            return Err(errors);
        }
    }
    for index in 0..stages.len() {
        if errors.len() >= MAX_ERRORS {
            return Err(errors);
        }
        let dependencies = dependencies(file, &stages, index, options, &mut errors);
        stages[index].dependencies = dependencies;
    }
    let target = find_target(file, options.target.as_deref());
    match target {
        Ok(target) if errors.is_empty() => {
            mark_needed(&mut stages, target);
            Ok(Plan { stages, target, global_args: globals.values, used_build_args: globals.used_build_args })
        }
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}

/// Values that FROM lines see.
struct Globals<'a> {
    values: BTreeMap<String, String>,
    used_build_args: BTreeSet<String>,
    options: &'a PlanOptions,
}

impl<'a> Globals<'a> {
    fn evaluate(file: &Containerfile, options: &'a PlanOptions, errors: &mut Vec<Diagnostic>) -> Self {
        let mut globals = Self { values: BTreeMap::new(), used_build_args: BTreeSet::new(), options };
        let mut bytes = 0;
        for name in file.global_args.iter().flat_map(|arg| &arg.node.names) {
            let mut expand = |word: &Word| match word.expand(&|name| globals.lookup(name)) {
                Ok(value) => Some(value),
                Err(error) => {
                    errors.push(error);
                    None
                }
            };
            let Some(key) = expand(&name.name) else { continue };
            let value = match options.build_args.get(&key) {
                Some(value) => Some(value.clone()),
                None => match &name.default {
                    Some(default) => expand(default),
                    None => None,
                },
            };
            if options.build_args.contains_key(&key) {
                globals.used_build_args.insert(key.clone());
            }
            if let Some(value) = value {
                bytes += value.len();
                if bytes > MAX_EXPANDED {
                    errors.push(too_large(name.name.span));
                    break;
                }
                globals.values.insert(key, value);
            }
            if errors.len() >= MAX_ERRORS {
                break;
            }
        }
        // A platform argument needs no ARG to be overridden.
        for name in options.platform_args.keys() {
            if let Some(value) = options.build_args.get(name) {
                globals.used_build_args.insert(name.clone());
                globals.values.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        globals
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let overridden = || {
            let value = self.options.build_args.get(name)?;
            self.options.platform_args.contains_key(name).then_some(value)
        };
        self.values.get(name).or_else(overridden).or_else(|| self.options.platform_args.get(name)).cloned()
    }

    /// Expands a word of a FROM line; an empty result is an error that names the missing argument.
    fn expand(&self, word: &Word, what: &str, errors: &mut Vec<Diagnostic>) -> Option<String> {
        let expanded = match word.expand_all(&|name| self.lookup(name)) {
            Ok(expanded) => expanded,
            Err(error) => {
                errors.push(error);
                return None;
            }
        };
        if !expanded.value.trim().is_empty() {
            return Some(expanded.value);
        }
        let mut error = Diagnostic::error(word.span, format!("the {what} is empty"));
        if let Some(name) = expanded.unset.iter().next() {
            let known: Vec<&str> =
                self.values.keys().chain(self.options.platform_args.keys()).map(String::as_str).collect();
            error = error
                .with_hint(format!(
                    "declare it with `ARG {name}=VALUE` before the first FROM, or pass --build-arg"
                ))
                .with_nearest(name, known)
                .with_label(format!("`{name}` is not set here"));
        }
        errors.push(error);
        None
    }

    fn base(
        &self,
        file: &Containerfile,
        stage: &Stage,
        options: &PlanOptions,
        errors: &mut Vec<Diagnostic>,
    ) -> Base {
        let Some(name) = self.expand(&stage.base, "name of the base image", errors) else {
            return Base::Scratch;
        };
        if options.contexts.contains(&name) {
            return Base::Context(name);
        }
        if name == "scratch" {
            return Base::Scratch;
        }
        match file.stage_named(&name, stage.index) {
            Some(index) => Base::Stage(index),
            None => Base::Image(name),
        }
    }

    fn platform(&self, stage: &Stage, errors: &mut Vec<Diagnostic>) -> Option<String> {
        self.expand(stage.platform.as_ref()?, "platform", errors)
    }
}

/// What a stage takes from others: FROM, `--from`, mounts, and the triggers of its base if that is a stage.
fn dependencies(
    file: &Containerfile,
    stages: &[StagePlan],
    index: usize,
    options: &PlanOptions,
    errors: &mut Vec<Diagnostic>,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut add = |from: Spanned<&str>, errors: &mut Vec<Diagnostic>| match file.resolve_from(
        from,
        index,
        &options.contexts,
    ) {
        Ok(Some(stage)) => {
            found.insert(stage);
        }
        Ok(None) => {}
        Err(error) => errors.push(error),
    };
    for statement in &file.stages[index].instructions {
        for from in froms(&statement.node) {
            add(from, errors);
        }
    }
    if let Base::Stage(base) = stages[index].base {
        for statement in &file.stages[base].instructions {
            if let Instruction::Onbuild(onbuild) = &statement.node {
                for from in froms(&onbuild.trigger.node) {
                    add(from, errors);
                }
            }
        }
        found.insert(base);
    }
    found
}

/// Names behind `--from` and `--mount=from` of an instruction.
pub fn froms(instruction: &Instruction) -> Vec<Spanned<&str>> {
    match instruction {
        Instruction::Copy(copy) => {
            copy.flags.from.iter().map(|from| Spanned::new(from.node.as_str(), from.span)).collect()
        }
        Instruction::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).collect(),
        _ => Vec::new(),
    }
}

fn find_target(file: &Containerfile, target: Option<&str>) -> Result<usize, Diagnostic> {
    let count = file.stages.len();
    let Some(name) = target.filter(|name| !name.is_empty()) else {
        return count
            .checked_sub(1)
            .ok_or_else(|| Diagnostic::error(Span::NOWHERE, "the file has no FROM instruction"));
    };
    let number = || name.parse().ok().filter(|&number: &usize| number < count);
    file.stage_named(name, count).or_else(number).ok_or_else(|| {
        Diagnostic::error(Span::NOWHERE, format!("there is no stage `{name}` in {}", file.source.name()))
            .with_hint(match file.stage_names(count).collect::<Vec<_>>().as_slice() {
                [] => format!("its stages have no names: use a number below {count}"),
                names => format!("its stages are {}", names[..names.len().min(20)].join(", ")),
            })
            .with_nearest(name, file.stage_names(count))
    })
}

fn mark_needed(stages: &mut [StagePlan], target: usize) {
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut stages[index].needed, true) {
            open.extend(stages[index].dependencies.iter().copied());
        }
    }
}

/// That a file's values are more than is built with.
pub(crate) fn too_large(span: Span) -> Diagnostic {
    let message = format!("the values of variables are larger than {} MiB together", MAX_EXPANDED >> 20);
    Diagnostic::error(span, message)
}

/// Numbers of the stages by their names in lower case, made when they are first asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageNames(OnceLock<HashMap<String, Vec<usize>>>);

impl StageNames {
    fn numbers(&self, stages: &[Stage]) -> &HashMap<String, Vec<usize>> {
        self.0.get_or_init(|| {
            let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
            for (name, stage) in stages.iter().filter_map(|stage| Some((stage.name.as_ref()?, stage))) {
                numbers.entry(name.node.to_ascii_lowercase()).or_default().push(stage.index);
            }
            numbers
        })
    }
}

impl Containerfile {
    /// The latest stage of that name above the one with number `before`, whatever the case.
    fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        let numbers = self.names.numbers(&self.stages).get(&name.to_ascii_lowercase())?;
        numbers[..numbers.partition_point(|&number| number < before)].last().copied()
    }

    /// The stage that `--from=NAME` means in the stage with number `before`: the latest of that name above it,
    /// whatever the case, or the one with that number.
    pub fn stage_above(&self, name: &str, before: usize) -> Option<usize> {
        let number = || name.parse().ok().filter(|&number: &usize| number < before.min(self.stages.len()));
        self.stage_named(name, before).or_else(number)
    }

    /// As [`Containerfile::stage_above`], with errors: `Ok(None)` is a named context or an image. A name that only
    /// stands at this stage or below it cannot be meant, and neither can a number that no stage above has.
    pub fn resolve_from(
        &self,
        from: Spanned<&str>,
        before: usize,
        contexts: &BTreeSet<String>,
    ) -> Result<Option<usize>, Diagnostic> {
        let name = from.node;
        if contexts.contains(name) {
            return Ok(None);
        }
        if let Some(stage) = self.stage_above(name, before) {
            return Ok(Some(stage));
        }
        if name.parse::<usize>().is_ok() {
            let error = Diagnostic::error(from.span, format!("there is no stage {name} above this one"));
            return Err(error.with_hint(match before {
                0 => "this is the first stage".to_owned(),
                _ => format!("stages above have the numbers 0 to {}", before - 1),
            }));
        }
        match self.stage_named(name, self.stages.len()) {
            Some(stage) if stage == before => {
                Err(Diagnostic::error(from.span, format!("the stage `{name}` takes files from itself")))
            }
            Some(stage) => {
                let line = self.source.line(self.stages[stage].span.start);
                Err(Diagnostic::error(from.span, format!("the stage `{name}` stands below, at line {line}"))
                    .with_hint("a stage may only use those above it"))
            }
            None => Ok(None),
        }
    }

    /// Advice for a `--from` that is no stage and turned out to be no image either.
    pub fn suggest_stage(&self, name: &str, before: usize) -> Option<&str> {
        crate::diagnostic::nearest(name, self.stage_names(before))
    }

    /// Names of the stages above the one with number `before`, for suggestions.
    pub fn stage_names(&self, before: usize) -> impl Iterator<Item = &str> {
        self.stages.iter().take(before).filter_map(|stage| stage.name.as_ref()).map(|name| name.node.as_str())
    }
}

#[cfg(test)]
mod tests;
