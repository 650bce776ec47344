//! What must hold for any bytes: the bodies of the fuzz targets in `builder/fuzz`, which the tests of this crate run
//! again over the inputs that were kept. Each panics where a promise is broken.

use crate::build::NamedContext;
use crate::diagnostic::{Diagnostic, Report};
use crate::expand::{Escape, Word};
use crate::ignore::Ignore;
use crate::instruction::{Containerfile, Instruction, Statement};
use crate::lint::{self, LintOptions};
use crate::parse::{Source, Span, parse, parse_trigger};
use crate::ports::{NetworkMode, PortError, ResolvedImage};
use crate::stages::{PlanOptions, plan};
use crate::{cache, lower};
use oci::{ContainerConfig, ImageConfig, Platform};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("containerfile", containerfile),
    ("expand", expand),
    ("heredoc", heredoc),
    ("ignore", ignore),
    ("lower", lower_stages),
];

/// Bytes that a drawn diagnostic may have, whatever the file.
const MAX_DRAWN: usize = 16 << 10;

/// The parser, the checks, and how what they say is drawn.
pub fn containerfile(bytes: &[u8]) {
    let text = text(bytes);
    let parsed = parse("Containerfile", &text);
    let source = &parsed.file.source;
    draw(source, &parsed.diagnostics);
    every_place(&parsed.file, &mut |span| {
        assert!(span.end <= text.len(), "{span:?} lies outside of the text");
        assert!(text.get(span.start..span.end).is_some(), "{span:?} cuts a character");
    });
    let options = LintOptions::default();
    match lint::settings(&parsed.file, None) {
        Ok(settings) => draw(source, &lint::check(&parsed.file, &settings, &options)),
        Err(error) => draw(source, &[error]),
    }
}

/// The reader of here-documents: the first line is what stands behind RUN, COPY or ONBUILD RUN, the rest follows.
pub fn heredoc(bytes: &[u8]) {
    let input = text(bytes);
    for keyword in ["RUN", "COPY", "ONBUILD RUN", "ADD"] {
        let text = format!("FROM scratch\n{keyword} {input}\n");
        let parsed = parse("Containerfile", &text);
        draw(&parsed.file.source, &parsed.diagnostics);
        for statement in parsed.file.stages.iter().flat_map(|stage| &stage.instructions) {
            for heredoc in statement.node.heredocs() {
                let body = parsed.file.source.slice(heredoc.content_span);
                assert_eq!(heredoc.raw, body, "the body is not what stands in its place");
                let tabs = |line: &str| heredoc.strip_tabs && line.starts_with('\t');
                assert!(!heredoc.content.lines().any(tabs), "tabs were left");
                let end = text[heredoc.content_span.end..].lines().next().unwrap_or_default();
                let end = end.trim_start_matches('\t').trim_end_matches('\r');
                assert_eq!(end, heredoc.name.trim_start_matches('\t').trim_end_matches('\r'));
                if let Err(error) = heredoc.expand(&|name| Some(name.to_lowercase())) {
                    draw(&parsed.file.source, &[error]);
                }
            }
            reread_trigger(statement);
        }
    }
}

/// The expander: a first byte for escape character and quotes, `NAME=value` lines up to an empty one, the word.
pub fn expand(bytes: &[u8]) {
    let Some((&settings, rest)) = bytes.split_first() else { return };
    let input = text(rest);
    let (lines, word) = input.split_once("\n\n").unwrap_or(("", &input));
    let variables: BTreeMap<&str, &str> = lines.lines().filter_map(|line| line.split_once('=')).collect();
    let escape = if settings & 1 == 0 { Escape::Backslash } else { Escape::Backtick };
    let source = Arc::new(Source::new("Containerfile", word));
    let word = Word::new(word, Span::new(0, word.len()), escape);
    let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    match word.expand_all(&lookup) {
        Ok(expanded) => {
            if !word.raw.contains(['$', '\'', '"', escape.char()]) {
                assert_eq!(expanded.value, word.raw, "a word without anything special is itself");
            }
            let known = |name: &String| variables.contains_key(name.as_str());
            assert!(expanded.used.iter().all(known) && !expanded.unset.iter().any(known));
            assert!(expanded.words.iter().all(|word| !word.is_empty()));
            let again = word.expand(&lookup);
            assert_eq!(again.as_deref(), Ok(expanded.value.as_str()), "two expansions differ");
        }
        Err(error) => {
            assert!(error.span.start <= error.span.end && error.span.end <= word.raw.len(), "{error:?}");
            draw(&source, &[error]);
        }
    }
}

/// The ignore matcher: patterns, a NUL, paths in lines. What a walk finds is what a look at all patterns finds.
pub fn ignore(bytes: &[u8]) {
    let split = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let (patterns, paths) = (&bytes[..split], bytes.get(split + 1..).unwrap_or_default());
    let ignore = match Ignore::parse(&text(patterns)) {
        Ok(ignore) => ignore,
        Err(error) => {
            assert!(error.to_string().len() <= MAX_DRAWN);
            return;
        }
    };
    for path in paths.split(|&byte| byte == b'\n') {
        let usual = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
        if !path.split(|&byte| byte == b'/').all(usual) {
            continue;
        }
        let ends = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        let mut verdict = ignore.root();
        // Ignored directories that a walk would not enter.
        let mut closed = false;
        for end in ends.chain([path.len()]) {
            verdict = ignore.child(&verdict, &path[..end]);
            assert_eq!(verdict.ignored(), ignore.is_ignored(&path[..end]), "{:?}", &path[..end]);
            assert_eq!(verdict.ignored(), ignore.is_ignored_slowly(&path[..end]), "{:?}", &path[..end]);
            assert!(!closed || verdict.ignored(), "a walk would have missed {:?}", &path[..end]);
            closed |= verdict.ignored() && !ignore.may_reinclude(&verdict, &path[..end]);
        }
    }
}

/// Stages and lowering, with images that exist, have triggers, or do not exist.
pub fn lower_stages(bytes: &[u8]) {
    let text = text(bytes);
    let Ok(file) = parse("Containerfile", &text).into_result() else { return };
    let build_args = BTreeMap::from([("GIVEN".to_owned(), "given value".to_owned())]);
    let platform_args = BTreeMap::from([("TARGETARCH".to_owned(), "amd64".to_owned())]);
    let options = PlanOptions {
        target: None,
        build_args: build_args.clone(),
        platform_args: platform_args.clone(),
        contexts: ["files".to_owned(), "other".to_owned()].into(),
    };
    let plan = match plan(&file, &options) {
        Ok(plan) => plan,
        Err(errors) => return draw(&file.source, &errors),
    };
    let lint = LintOptions { plan: options, ..LintOptions::default() };
    if let Ok(settings) = lint::settings(&file, None) {
        draw(&file.source, &lint::check(&file, &settings, &lint));
    }
    let contexts = BTreeMap::from([
        ("files".to_owned(), NamedContext::Directory("/nowhere".into())),
        ("other".to_owned(), NamedContext::Image("base".into())),
    ]);
    let result = lower::lower(
        &file,
        &plan,
        &lower::Options {
            build_args: &build_args,
            platform_args: &platform_args,
            platform: &Platform::host(),
            contexts: &contexts,
            network: NetworkMode::Default,
            step_settings: "",
            proxy: &[],
            no_cache: false,
            no_cache_filter: &[],
            image: &crate::build::ImageOptions::default(),
            all_stages: false,
            allow: &std::collections::BTreeSet::new(),
            is_device: &|_| Ok(false),
            times: crate::graph::FileTimes::Kept,
        },
        &|reference, _| image(reference),
    );
    let lowered = match result {
        Ok(lowered) => lowered,
        Err(lower::Error::Report(report) | lower::Error::Image { place: report, .. }) => {
            return draw(&report.source, &report.diagnostics);
        }
    };
    for (id, vertex) in lowered.graph.vertices() {
        assert!(vertex.inputs.iter().all(|edge| edge.from < id), "inputs come first");
        let _ = cache::key::definition(&vertex.op);
    }
    assert!(lowered.target.0 < lowered.graph.len());
    for trigger in &lowered.config.config.on_build {
        assert!(parse_trigger("ONBUILD", trigger).is_ok(), "a trigger cannot be read back: {trigger:?}");
    }
}

/// An image by its name: `gone*` is none, `trigger*` has triggers.
fn image(reference: &str) -> Result<Arc<ResolvedImage>, PortError> {
    if reference.starts_with("gone") {
        return Err("no such image".into());
    }
    let triggers = ["COPY --from=a x y", "RUN <<EOF\necho $GIVEN\nEOF", "ARG GIVEN", "ENV N=$GIVEN"];
    let on_build =
        if reference.starts_with("trigger") { triggers.map(str::to_owned).to_vec() } else { Vec::new() };
    let config = ContainerConfig {
        env: vec!["PATH=/bin".to_owned(), "BASE=1".to_owned()],
        on_build,
        working_dir: "/home".to_owned(),
        ..ContainerConfig::default()
    };
    Ok(Arc::new(ResolvedImage {
        name: reference.to_owned(),
        digest: oci::Digest::of(reference.as_bytes()),
        config: ImageConfig { config, ..ImageConfig::new(&Platform::host()) },
        chain: vec![oci::ChainId(oci::Digest::of(reference.as_bytes()))],
    }))
}

/// A trigger is read again when an image is built on: it must come out the same.
fn reread_trigger(statement: &Statement) {
    let Instruction::Onbuild(onbuild) = &statement.node else { return };
    match parse_trigger("ONBUILD", &onbuild.text) {
        Ok(again) => {
            assert_eq!(again.node.keyword(), onbuild.trigger.node.keyword());
            assert_eq!(again.node.heredocs().len(), onbuild.trigger.node.heredocs().len());
        }
        Err(report) => panic!("a trigger cannot be read back: {:?}\n{report}", onbuild.text),
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn draw(source: &Arc<Source>, diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        let drawn = diagnostic.render(source, false);
        assert!(!drawn.is_empty() && drawn.len() <= MAX_DRAWN, "{} bytes are drawn", drawn.len());
        // Colours need room, but not much.
        assert!(diagnostic.render(source, true).len() <= 4 * MAX_DRAWN);
    }
    if let Some(first) = diagnostics.first() {
        let report = Report::new(source.clone(), vec![first.clone()]);
        assert_eq!(report.to_string(), first.render(source, false));
    }
}

fn every_place(file: &Containerfile, check: &mut dyn FnMut(Span)) {
    for comment in &file.comments {
        check(comment.text.span);
    }
    for stage in &file.stages {
        check(stage.span);
        check(stage.base.span);
        for statement in &stage.instructions {
            check(statement.span);
            for heredoc in statement.node.heredocs() {
                check(heredoc.span);
                check(heredoc.content_span);
            }
            if let Instruction::Env(pairs) | Instruction::Label(pairs) = &statement.node {
                for (key, value) in &pairs.pairs {
                    check(key.span);
                    check(value.span);
                }
            }
        }
    }
}
