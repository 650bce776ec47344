//! Questions about a Containerfile that need no build: its checks, what its target takes, which targets there are.

use crate::build::platform_args;
use crate::diagnostic::Diagnostic;
use crate::ignore::Ignore;
use crate::instruction::{ArgName, Containerfile, Instruction, MountKind, Stage};
use crate::lint::{self, LintOptions};
use crate::parse::{self, Source, Span};
use crate::stages::{self, Base, Plan, PlanOptions};
use oci::Platform;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is asked about.
pub struct CallRequest<'a> {
    /// Name of the Containerfile in messages.
    pub containerfile_name: &'a str,
    /// Its text.
    pub containerfile: &'a str,
    /// Text of the ignore file.
    pub ignore: Option<&'a str>,
    /// `--target`
    pub target: Option<String>,
    /// `--build-arg`
    pub build_args: BTreeMap<String, String>,
    /// Names of `--build-context`.
    pub contexts: BTreeSet<String>,
    /// The platform that would be built for.
    pub platform: &'a Platform,
    /// Names of the variables that an image sets, and its platform, where they are known without fetching it.
    pub environment: &'a dyn Fn(&str) -> Option<KnownImage>,
}

/// Names of the variables that an image sets, and its platform.
pub type KnownImage = (BTreeSet<String>, Platform);

impl std::fmt::Debug for CallRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallRequest").field("containerfile", &self.containerfile_name).finish_non_exhaustive()
    }
}

/// What the checks found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The file.
    pub source: Arc<Source>,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// Errors: what keeps the file from being built.
    pub errors: Vec<Diagnostic>,
    /// Whether warnings are to count as errors (`# check=error=true`).
    pub strict: bool,
}

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Name or number of the stage.
    pub target: String,
    /// Whether it has a name.
    pub is_named: bool,
    /// The comment above its FROM, if it begins with its name.
    pub description: Option<String>,
    /// Build arguments, in the order of the file.
    pub args: Vec<OutlineArg>,
    /// Secrets.
    pub secrets: Vec<OutlineMount>,
    /// ssh agents.
    pub ssh: Vec<OutlineMount>,
    /// Cache mounts.
    pub caches: Vec<OutlineMount>,
    /// The text of the Containerfile.
    pub text: String,
}

/// Where an instruction stands: the line and character at which it begins, and those at which it ends; 1 = first line,
/// 0 = first character.
pub type Lines = ((usize, usize), (usize, usize));

/// Something that steps mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its ID.
    pub id: String,
    /// Whether the build fails without.
    pub required: bool,
    /// The first RUN that mounts it.
    pub lines: Lines,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value in this call: given, else the default.
    pub value: Option<String>,
    /// The comment above it, if it begins with its name.
    pub description: Option<String>,
    /// The first ARG with its name.
    pub lines: Lines,
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; `None` for a last stage without one.
    pub name: Option<String>,
    /// Whether it is built when no target is named.
    pub default: bool,
    /// The comment above its FROM, if it begins with its name.
    pub description: Option<String>,
    /// What it is based on, expanded.
    pub base: String,
    /// Its platform, where FROM says one.
    pub platform: Option<String>,
    /// Its FROM.
    pub lines: Lines,
}

fn lines(source: &Source, span: Span) -> Lines {
    let place = |offset: usize| {
        let text = source.text().get(..offset).unwrap_or_default();
        let column = text.rsplit('\n').next().map_or(0, |line| line.chars().count());
        (source.line(offset), column)
    };
    (place(span.start), place(span.end))
}

fn options(request: &CallRequest<'_>) -> PlanOptions {
    PlanOptions {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        platform_args: platform_args(request.platform, request.target.as_deref()),
        contexts: request.contexts.clone(),
    }
}

/// The build checks.
pub fn check(request: &CallRequest<'_>) -> Checked {
    let parsed = parse::parse(request.containerfile_name, request.containerfile);
    let source = parsed.file.source.clone();
    let failed = |errors| Checked { source: source.clone(), warnings: Vec::new(), errors, strict: false };
    if parsed.diagnostics.iter().any(Diagnostic::is_error) {
        return failed(parsed.diagnostics);
    }
    let file = parsed.file;
    let settings = match lint::settings(&file, request.build_args.get("BUILDKIT_DOCKERFILE_CHECK")) {
        Ok(settings) => settings,
        Err(error) => return failed(vec![error]),
    };
    let plan = match stages::plan(&file, &options(request)) {
        Ok(plan) => plan,
        Err(errors) => return failed(errors),
    };
    // A pattern that cannot be read fails a build, and is no matter of the Containerfile.
    let ignore = request.ignore.and_then(|text| Ignore::parse(text).ok());
    let mut environments = BTreeMap::new();
    let mut platforms = BTreeMap::new();
    for stage in &plan.stages {
        if let Base::Image(name) = &stage.base
            && let Some((names, actual)) = (request.environment)(name)
        {
            environments.insert(name.clone(), names);
            let wanted = stage.platform.clone().unwrap_or_else(|| request.platform.to_string());
            platforms.insert((name.clone(), wanted), actual);
        }
    }
    let lint_options =
        LintOptions { plan: options(request), ignore: ignore.as_ref(), environments, platforms };
    let warnings = lint::check(&file, &settings, &lint_options);
    Checked { source, warnings, errors: Vec::new(), strict: settings.error }
}

fn planned(request: &CallRequest<'_>) -> Result<(Containerfile, Plan), crate::diagnostic::Report> {
    let file = parse::parse(request.containerfile_name, request.containerfile).into_result()?;
    let plan = stages::plan(&file, &options(request))
        .map_err(|errors| crate::diagnostic::Report::new(file.source.clone(), errors))?;
    Ok((file, plan))
}

/// What the target takes: build arguments, secrets, agents of all stages that it needs.
pub fn outline(request: &CallRequest<'_>) -> Result<Outline, crate::diagnostic::Report> {
    let (file, plan) = planned(request)?;
    let stage = &file.stages[plan.target];
    let mut outline = Outline {
        target: stage.label(),
        is_named: stage.name.is_some(),
        text: request.containerfile.to_owned(),
        description: description(&file, stage.span.start, &stage.label()),
        ..Outline::default()
    };
    let given = |name: &str| request.build_args.get(name).cloned();
    for arg in &file.global_args {
        for name in &arg.node.names {
            let value = plan.global_args.get(&name.name.raw).cloned();
            add_arg(&mut outline, &file, arg.span, name, given(&name.name.raw).or(value));
        }
    }
    for (stage, planned) in file.stages.iter().zip(&plan.stages) {
        if planned.needed {
            stage_takes(&mut outline, &file, &plan, stage, &given);
        }
    }
    Ok(outline)
}

fn stage_takes(
    outline: &mut Outline,
    file: &Containerfile,
    plan: &Plan,
    stage: &Stage,
    given: &dyn Fn(&str) -> Option<String>,
) {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for statement in &stage.instructions {
        match &statement.node {
            Instruction::Arg(arg) => {
                for name in &arg.names {
                    let key = &name.name.raw;
                    let default = name.default.as_ref().map(|default| {
                        default
                            .expand(&|name| values.get(name).cloned())
                            .unwrap_or_else(|_| default.raw.clone())
                    });
                    let value = given(key).or(default).or_else(|| plan.global_args.get(key).cloned());
                    values.extend(value.clone().map(|value| (key.clone(), value)));
                    add_arg(outline, file, statement.span, name, value);
                }
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    let Ok(mount) = mount.evaluate(&|name| values.get(name).cloned()) else { continue };
                    let (list, id, required) = match &mount.kind {
                        MountKind::Secret { id, required, .. } => (&mut outline.secrets, id, *required),
                        MountKind::Ssh { id, required, .. } => (&mut outline.ssh, id, *required),
                        MountKind::Cache { id, .. } => {
                            (&mut outline.caches, id.as_ref().unwrap_or(&mount.target), false)
                        }
                        _ => continue,
                    };
                    match list.iter_mut().find(|known| known.id == *id) {
                        Some(known) => known.required |= required,
                        None => {
                            let lines = lines(&file.source, statement.span);
                            list.push(OutlineMount { id: id.clone(), required, lines });
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn add_arg(outline: &mut Outline, file: &Containerfile, span: Span, name: &ArgName, value: Option<String>) {
    let description = description(file, span.start, &name.name.raw);
    match outline.args.iter_mut().find(|arg| arg.name == name.name.raw) {
        Some(known) => {
            known.value = known.value.take().or(value);
            known.description = known.description.take().or(description);
        }
        None => {
            let lines = lines(&file.source, span);
            outline.args.push(OutlineArg { name: name.name.raw.clone(), value, description, lines });
        }
    }
}

/// The stages that can be named as a target, and the last one.
pub fn targets(request: &CallRequest<'_>) -> Result<Vec<Target>, crate::diagnostic::Report> {
    let request = CallRequest {
        target: None,
        build_args: request.build_args.clone(),
        contexts: request.contexts.clone(),
        ..*request
    };
    let (file, plan) = planned(&request)?;
    let base = |base: &Base| match base {
        Base::Scratch => "scratch".to_owned(),
        Base::Stage(index) => file.stages[*index].label(),
        Base::Context(name) | Base::Image(name) => name.clone(),
    };
    let stages = file.stages.iter().zip(&plan.stages);
    let targets = stages.map(|(stage, planned)| Target {
        name: stage.name.as_ref().map(|_| stage.label()),
        default: stage.index == plan.target,
        description: description(&file, stage.span.start, &stage.label()),
        base: base(&planned.base),
        platform: planned.platform.clone(),
        lines: lines(&file.source, stage.span),
    });
    Ok(targets.filter(|target| target.name.is_some() || target.default).collect())
}

/// The comment above an instruction that begins with a name, without the name.
fn description(file: &Containerfile, place: usize, name: &str) -> Option<String> {
    let comments = file.comments.iter().filter(|comment| comment.above == place);
    let mut found = comments.filter_map(|comment| {
        let (first, rest) = comment.text.node.split_once(char::is_whitespace)?;
        first.eq_ignore_ascii_case(name).then(|| rest.trim().to_owned())
    });
    found.next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with<T>(text: &str, target: Option<&str>, call: impl FnOnce(&CallRequest<'_>) -> T) -> T {
        call(&CallRequest {
            containerfile_name: "Containerfile",
            containerfile: text,
            ignore: Some("*.log"),
            target: target.map(str::to_owned),
            build_args: [("GIVEN".to_owned(), "here".to_owned())].into(),
            contexts: BTreeSet::new(),
            platform: &Platform::host(),
            environment: &|name| (name == "known").then(|| (["HOME".to_owned()].into(), Platform::host())),
        })
    }

    const TEXT: &str = "# VERSION is what is built\nARG VERSION=3\nARG GIVEN\n# tools is for work\nFROM base:$VERSION AS tools\n\
        ARG VERSION\nARG EXTRA=${VERSION}x\nRUN --mount=type=secret,id=token,required=true true\n\
        RUN --mount=type=secret,id=token --mount=type=ssh true\nFROM scratch AS Other\nARG UNUSED\nFROM tools\n";

    #[test]
    fn outlines() {
        let outline = with(TEXT, None, outline).unwrap();
        let args: Vec<_> = outline
            .args
            .iter()
            .map(|arg| (arg.name.as_str(), arg.value.as_deref(), arg.description.as_deref()))
            .collect();
        assert_eq!(
            args,
            [
                ("VERSION", Some("3"), Some("is what is built")),
                ("GIVEN", Some("here"), None),
                ("EXTRA", Some("3x"), None)
            ]
        );
        let mounts = |list: &[OutlineMount]| -> Vec<_> {
            list.iter().map(|mount| (mount.id.clone(), mount.required, mount.lines.0.0)).collect()
        };
        assert_eq!(mounts(&outline.secrets), [("token".to_owned(), true, 8)]);
        assert_eq!(mounts(&outline.ssh), [("default".to_owned(), false, 9)]);
        assert_eq!(outline.args[0].lines, ((2, 0), (2, 13)));
        assert_eq!((outline.target.as_str(), outline.description), ("2", None));
        assert_eq!(with(TEXT, Some("tools"), super::outline).unwrap().description.unwrap(), "is for work");
        assert!(with(TEXT, Some("none"), super::outline).is_err());
    }

    #[test]
    fn all_targets() {
        let targets = with(TEXT, Some("tools"), targets).unwrap();
        let shown: Vec<_> = targets
            .iter()
            .map(|target| (target.name.as_deref(), target.default, target.base.as_str()))
            .collect();
        assert_eq!(
            shown,
            [(Some("tools"), false, "base:3"), (Some("other"), false, "scratch"), (None, true, "tools")]
        );
    }

    #[test]
    fn checks() {
        let rules = |text: &str| {
            let checked = with(text, None, check);
            let rules: Vec<_> = checked.warnings.iter().filter_map(|warning| warning.rule).collect();
            (rules, checked.errors.len(), checked.strict)
        };
        assert_eq!(
            rules("FROM known\nUSER $HOME$NONE\nCOPY a.log /\n"),
            (vec!["UndefinedVar", "CopyIgnoredFile"], 0, false)
        );
        assert_eq!(rules("FROM unknown\nUSER $HOME$NONE\n"), (vec![], 0, false));
        assert_eq!(rules("# check=error=true\nFROM a as b\n"), (vec!["FromAsCasing"], 0, true));
        assert_eq!(rules("FROM a\nCOPPY\n").1, 1);
        assert_eq!(rules("# check=errr=true\nFROM a\n").1, 1);
        assert_eq!(rules("FROM a AS b\nCOPY --from=5 a b\n").1, 1);
    }
}
