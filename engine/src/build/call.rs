//! Questions about a Containerfile that need no build (`--call`, `--check`).

use super::address::Fetcher;
use super::containerfile::Containerfile;
use super::context::Opened;
use super::resolver::ImageResolver;
use super::{BuildRequest, platforms, ssh};
use crate::{Engine, Error, ErrorKind, Result};
use builder::call::CallRequest;
pub use builder::call::{Lines, Outline, OutlineArg, OutlineMount, Target as BuildTarget};
use builder::diagnostic::{Diagnostic, Report};
use builder::lint::{description, url};
use builder::parse::Source;
use builder::ports::Cancel;

/// What the build checks found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Name of the Containerfile.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Warnings and errors, in the order of the file.
    pub findings: Vec<Finding>,
    /// Whether warnings count as errors (`# check=error=true`).
    pub strict: bool,
}

/// A warning or an error with its place.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule; `None` for what keeps the file from being built.
    pub rule: Option<&'static str>,
    /// What the rule is for.
    pub description: &'static str,
    /// Where more is said about it.
    pub url: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Line and character where it begins, 1 = first line, 0 = first character; `None` where it has no place.
    pub start: Option<(usize, usize)>,
    /// Where it ends.
    pub end: Option<(usize, usize)>,
    /// For people, with the line and a caret.
    pub rendered: String,
}

impl Engine {
    /// Runs the build checks. Nothing is fetched: what an image sets is known where it is here.
    pub fn check_build(&self, request: &BuildRequest) -> Result<Checked> {
        self.call(request, |call| {
            let checked = builder::call::check(call);
            let findings = checked.errors.iter().chain(&checked.warnings);
            Ok(Checked {
                file: call.containerfile_name.to_owned(),
                text: call.containerfile.to_owned(),
                findings: findings.map(|diagnostic| finding(diagnostic, &checked.source)).collect(),
                strict: checked.strict,
            })
        })
    }

    /// What the target takes: build arguments, secrets, agents.
    pub fn outline_build(&self, request: &BuildRequest) -> Result<Outline> {
        self.call(request, |call| builder::call::outline(call).map_err(wrong))
    }

    /// The targets of a Containerfile, and its text.
    pub fn build_targets(&self, request: &BuildRequest) -> Result<(Vec<BuildTarget>, String)> {
        self.call(request, |call| {
            Ok((builder::call::targets(call).map_err(wrong)?, call.containerfile.to_owned()))
        })
    }

    fn call<T>(&self, request: &BuildRequest, ask: impl FnOnce(&CallRequest<'_>) -> Result<T>) -> Result<T> {
        let attempt = "read the Containerfile";
        let lease =
            self.store()?.lease("questions about a Containerfile").map_err(crate::error::storage(attempt))?;
        let agents = ssh::Agents::default();
        let cancel = Cancel::new().map_err(|error| Error::os("make a cancel token", error))?;
        let silent = |_| {};
        let resolver = ImageResolver {
            engine: self,
            request,
            progress: &silent,
            scratch: lease.directory().map_err(crate::error::storage(attempt))?,
        };
        let fetcher = Fetcher { resolver, lease: &lease, agents: &agents.sockets, cancel: &cancel };
        let opened = Opened::new(request, &lease, &fetcher)?;
        let file = Containerfile::find(request, &opened)?;
        let ignore = file.ignore_file(request, &opened)?.map(|(_, text)| text);
        let platforms = platforms(&request.platforms)?;
        let host = oci::Platform::host();
        let environment = |name: &str| {
            let found = self.find_image(name).ok()?;
            let config = self.image_config(&found.image).ok()?;
            let names = config.value().config.env.iter().filter_map(|entry| entry.split('=').next());
            Some((names.map(str::to_owned).collect(), config.value().platform()))
        };
        ask(&CallRequest {
            containerfile_name: &file.name,
            containerfile: &file.text,
            ignore: ignore.as_deref(),
            target: request.target.clone(),
            build_args: request.build_args.iter().cloned().collect(),
            contexts: request.build_contexts.iter().map(|(name, _)| name.clone()).collect(),
            platform: platforms.first().unwrap_or(&host),
            environment: &environment,
        })
    }
}

fn wrong(report: Report) -> Error {
    Error::Containerfile { rendered: report.render(false), kind: ErrorKind::Invalid }
}

fn finding(diagnostic: &Diagnostic, source: &Source) -> Finding {
    let place = |offset: usize| {
        let text = source.text().get(..offset)?;
        let column = text.rsplit('\n').next().map_or(0, |line| line.chars().count());
        Some((source.line(offset), column))
    };
    Finding {
        rule: diagnostic.rule,
        description: diagnostic.rule.map_or("", description),
        url: diagnostic.rule.map_or_else(String::new, url),
        message: diagnostic.message.clone(),
        hint: diagnostic.hint.clone(),
        start: place(diagnostic.span.start),
        end: place(diagnostic.span.end),
        rendered: diagnostic.render(source, false),
    }
}
