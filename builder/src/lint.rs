//! The build checks that need nothing but the tree (`docker build --check` has the same names).
//!
//! What is known of base images must be passed in: their environment for `UndefinedVar` in stages based on them, their
//! platform for `InvalidBaseImagePlatform`.

mod describe;
mod rules;
mod variables;

pub use describe::{description, url};

use crate::diagnostic::{Diagnostic, nearest};
use crate::ignore::Ignore;
use crate::instruction::Containerfile;
use crate::parse::{Span, Spanned};
use crate::stages::PlanOptions;
use std::collections::{BTreeMap, BTreeSet};

/// Names of all rules.
pub const RULES: [&str; 22] = [
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "InvalidDefinitionDescription",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "WorkdirRelativePath",
];

/// Rules that must be asked for.
const EXPERIMENTAL: [&str; 1] = ["InvalidDefinitionDescription"];

/// Warnings beyond which no more are looked for.
const MAX_FINDINGS: usize = 10_000;

/// Warnings beyond which the rest is only counted.
const MAX_SHOWN: usize = 1_000;

/// The `# check=` directive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckSettings {
    /// Rules to leave out, in lower case.
    pub skip: Vec<String>,
    /// `skip=all`
    pub skip_all: bool,
    /// `error=true`: a warning fails the build.
    pub error: bool,
    /// Experimental rules to use, in lower case; `all` for all.
    pub experimental: Vec<String>,
}

/// What the checks know besides the file.
#[derive(Debug, Clone, Default)]
pub struct LintOptions<'a> {
    /// Build arguments and platforms.
    pub plan: PlanOptions,
    /// The ignore file, for `CopyIgnoredFile`.
    pub ignore: Option<&'a Ignore>,
    /// Names of the variables that base images set, by the image as the FROM line has it, expanded.
    pub environments: BTreeMap<String, BTreeSet<String>>,
    /// Platforms of base images, by the image as the FROM line has it, expanded, and the platform that was asked for.
    pub platforms: BTreeMap<(String, String), oci::Platform>,
}

/// A warning, and the instruction that a `# check=skip=` comment must stand above to silence it.
struct Finding {
    diagnostic: Diagnostic,
    instruction: usize,
}

/// Reads `skip=A,B;error=true;experimental=C`.
pub fn parse_settings(text: &Spanned<String>) -> Result<CheckSettings, Diagnostic> {
    let mut settings = CheckSettings::default();
    for part in text.node.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Diagnostic::error(text.span, format!("`{part}` is no check setting"))
                .with_hint("for example skip=JSONArgsRecommended;error=true"));
        };
        let names =
            || value.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty());
        match key.trim().to_lowercase().as_str() {
            "skip" => {
                settings.skip_all |= names().any(|name| name == "all");
                settings.skip.extend(names());
            }
            "experimental" => settings.experimental.extend(names()),
            "error" => match value.trim().to_lowercase().as_str() {
                "true" | "1" => settings.error = true,
                "false" | "0" => settings.error = false,
                other => {
                    let message = format!("`error` is either true or false, not `{other}`");
                    return Err(Diagnostic::error(text.span, message));
                }
            },
            other => {
                return Err(Diagnostic::error(text.span, format!("there is no check setting `{other}`"))
                    .with_nearest(other, ["skip", "error", "experimental"]));
            }
        }
    }
    Ok(settings)
}

/// The settings of a file, or those given from outside (`BUILDKIT_DOCKERFILE_CHECK`); an error in the directive is one
/// of the file.
pub fn settings(file: &Containerfile, given: Option<&String>) -> Result<CheckSettings, Diagnostic> {
    if let Some(text) = given {
        return parse_settings(&Spanned::new(text.clone(), crate::parse::Span::NOWHERE));
    }
    file.directives.check.as_ref().map_or_else(|| Ok(CheckSettings::default()), parse_settings)
}

/// All warnings, in the order of the file, without those that the settings or the file's comments skip.
pub fn check(file: &Containerfile, settings: &CheckSettings, options: &LintOptions<'_>) -> Vec<Diagnostic> {
    if settings.skip_all {
        return Vec::new();
    }
    let mut findings = Vec::new();
    rules::check(file, options, &mut findings);
    variables::check(file, options, &mut findings);
    let comments = skipped_by_comments(file);
    findings.retain(|finding| {
        let Some(rule) = finding.diagnostic.rule else { return true };
        let lower = rule.to_lowercase();
        let wanted = !EXPERIMENTAL.contains(&rule)
            || settings.experimental.iter().any(|name| *name == lower || name == "all");
        let skipped = settings.skip.contains(&lower)
            || comments
                .get(&finding.instruction)
                .is_some_and(|skip| skip.skip_all || skip.skip.contains(&lower));
        wanted && !skipped
    });
    let mut diagnostics: Vec<Diagnostic> = findings.into_iter().map(|finding| finding.diagnostic).collect();
    diagnostics.extend(unknown_rules(file, settings));
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    if diagnostics.len() > MAX_SHOWN {
        let more = diagnostics.len() - MAX_SHOWN;
        diagnostics.truncate(MAX_SHOWN);
        let mut rest = Diagnostic::error(Span::NOWHERE, format!("{more} more warnings are not shown"));
        rest.severity = crate::diagnostic::Severity::Warning;
        diagnostics.push(rest);
    }
    diagnostics
}

/// Settings in `# check=` comments, by the start of the instruction below.
fn skipped_by_comments(file: &Containerfile) -> BTreeMap<usize, CheckSettings> {
    let mut skipped = BTreeMap::new();
    for comment in &file.comments {
        let Some((key, value)) = comment.text.node.split_once('=') else { continue };
        if !key.trim().eq_ignore_ascii_case("check") {
            continue;
        }
        let value = Spanned::new(value.to_owned(), comment.text.span);
        // A comment that cannot be read is a comment.
        if let Ok(settings) = parse_settings(&value) {
            skipped.insert(comment.above, settings);
        }
    }
    skipped
}

/// Names in the directive that are no rules: most likely misspelt.
fn unknown_rules(file: &Containerfile, settings: &CheckSettings) -> Vec<Diagnostic> {
    let Some(directive) = &file.directives.check else { return Vec::new() };
    let known = |name: &String| name == "all" || RULES.iter().any(|rule| rule.eq_ignore_ascii_case(name));
    let unknown = settings.skip.iter().chain(&settings.experimental).filter(|name| !known(name));
    unknown
        .filter_map(|name| {
            let rule = nearest(name, RULES)?;
            let mut warning = Diagnostic::error(directive.span, format!("there is no check named `{name}`"));
            warning.severity = crate::diagnostic::Severity::Warning;
            Some(warning.with_hint(format!("did you mean `{rule}`?")))
        })
        .collect()
}

fn finding(
    findings: &mut Vec<Finding>,
    rule: &'static str,
    instruction: Span,
    place: Span,
    message: impl Into<String>,
    hint: Option<String>,
) {
    if findings.len() >= MAX_FINDINGS {
        return;
    }
    let mut diagnostic = Diagnostic::warning(rule, place, message);
    diagnostic.hint = hint;
    findings.push(Finding { diagnostic, instruction: instruction.start });
}

#[cfg(test)]
mod tests;
