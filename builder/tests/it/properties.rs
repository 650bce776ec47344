//! Whatever the input: no panic, and all places lie within the file.

use crate::corpus;
use builder::diagnostic::Diagnostic;
use builder::expand::{Escape, Word};
use builder::ignore::Ignore;
use builder::instruction::{CopySource, Heredoc, Instruction, Statement};
use builder::lint::{CheckSettings, LintOptions};
use builder::parse::{Span, parse, parse_trigger};
use builder::stages::{PlanOptions, plan};
use proptest::prelude::*;

fn check_span(span: Span, text: &str) {
    assert!(span.start <= span.end && span.end <= text.len(), "{span:?} of {} in {text:?}", text.len());
}

fn check_word(word: &Word, text: &str) {
    check_span(word.span, text);
    for value in [None, Some("value"), Some("")] {
        if let Err(error) = word.expand_all(&|_| value.map(str::to_owned)) {
            check_span(error.span, text);
        }
    }
}

fn check_heredoc(heredoc: &Heredoc, text: &str) {
    check_span(heredoc.span, text);
    check_span(heredoc.content_span, text);
    assert_eq!(heredoc.raw, text[heredoc.content_span.start..heredoc.content_span.end]);
    let _ = heredoc.expand(&|_| None);
}

fn check_statement(statement: &Statement, text: &str) {
    check_span(statement.span, text);
    match &statement.node {
        Instruction::Add(copy) | Instruction::Copy(copy) => {
            for source in &copy.sources {
                match source {
                    CopySource::Path(word) => check_word(word, text),
                    CopySource::Heredoc(heredoc) => check_heredoc(heredoc, text),
                }
            }
            check_word(&copy.destination, text);
        }
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            for (key, value) in &pairs.pairs {
                check_word(key, text);
                check_word(value, text);
            }
        }
        Instruction::Run(run) => {
            run.heredocs.iter().for_each(|heredoc| check_heredoc(heredoc, text));
            let _ = run.script();
            for mount in &run.mounts {
                check_span(mount.span, text);
                for field in &mount.fields {
                    check_span(field.key.span, text);
                    field.value.iter().for_each(|value| check_word(value, text));
                }
                if let Err(error) = mount.evaluate(&|_| Some("1".to_owned())) {
                    check_span(error.span, text);
                }
            }
        }
        Instruction::Onbuild(onbuild) => {
            check_statement(&onbuild.trigger, text);
            let _ = parse_trigger("trigger", &onbuild.text);
        }
        Instruction::Expose(words) | Instruction::Volume(words) => {
            words.iter().for_each(|word| check_word(word, text));
        }
        Instruction::Workdir(word) | Instruction::User(word) | Instruction::Stopsignal(word) => {
            check_word(word, text);
        }
        Instruction::Arg(arg) => {
            for name in &arg.names {
                check_word(&name.name, text);
                name.default.iter().for_each(|word| check_word(word, text));
            }
        }
        _ => {}
    }
}

fn check_file(text: &str) {
    let parsed = parse("Containerfile", text);
    let source = parsed.file.source.clone();
    let draw = |diagnostic: &Diagnostic| {
        check_span(diagnostic.span, text);
        assert!(!diagnostic.render(&source, false).is_empty());
    };
    parsed.diagnostics.iter().for_each(draw);
    for stage in &parsed.file.stages {
        check_word(&stage.base, text);
        stage.instructions.iter().for_each(|statement| check_statement(statement, text));
    }
    let lints = builder::lint::check(&parsed.file, &CheckSettings::default(), &LintOptions::default());
    lints.iter().for_each(draw);
    match plan(&parsed.file, &PlanOptions::default()) {
        Ok(plan) => assert!(plan.stages[plan.target].needed),
        Err(errors) => {
            errors
                .iter()
                .filter(|error| error.span != Span::NOWHERE)
                .for_each(|error| check_span(error.span, text));
        }
    }
}

/// Pieces that files are made of, so that random ones come near to valid ones.
fn fragment() -> impl Strategy<Value = String> {
    let pieces = [
        "FROM a",
        "FROM --platform=x a AS b",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "LABEL ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "SHELL ",
        "VOLUME ",
        "EXPOSE ",
        "WORKDIR ",
        "USER ",
        "\n",
        "\r\n",
        " ",
        "\t",
        "\\\n",
        "\\",
        "`",
        "`\n",
        "#",
        "# escape=`\n",
        "# check=skip=all\n",
        "\u{feff}",
        "<<EOF",
        "<<-\"E F\"",
        "3<<X",
        "EOF\n",
        "X\n",
        "--from=0",
        "--mount=type=cache,target=/x",
        "--mount=\"",
        "--",
        "--link",
        "=",
        "\"",
        "'",
        "[",
        "]",
        ",",
        "[\"a\", \"b\"]",
        "$",
        "${",
        "}",
        "${A:-",
        "${A/b/",
        "${A##",
        "${A%",
        ":",
        "?",
        "+",
        "A",
        "b",
        "é",
        "\u{0}",
    ];
    prop_oneof![
        8 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        check_file(&text);
    }

    #[test]
    fn near_valid_text_is_read(pieces in prop::collection::vec(fragment(), 0..60)) {
        check_file(&pieces.concat());
        check_file(&format!("FROM a\n{}", pieces.concat()));
    }

    #[test]
    fn mutated_corpus_is_read(
        file in prop::sample::select(corpus::files("valid")),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, fragment()), 1..6),
    ) {
        let mut chars: Vec<char> = file.1.chars().take(2000).collect();
        for (place, removed, inserted) in edits {
            let at = place.index(chars.len() + 1);
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        check_file(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn any_trigger_is_read(text in any::<String>()) {
        if let Err(report) = parse_trigger("trigger", &text) {
            for diagnostic in &report.diagnostics {
                check_span(diagnostic.span, &text);
            }
        }
    }

    #[test]
    fn words_without_syntax_are_themselves(text in "[a-zA-Z0-9/._ -]{0,40}") {
        let word = Word::new(text.clone(), Span::new(0, text.len()), Escape::Backslash);
        prop_assert_eq!(word.expand(&|_| None).unwrap(), text);
    }

    #[test]
    fn ignore_verdicts_do_not_depend_on_the_way(
        patterns in prop::collection::vec("!?(a|b|\\*|\\*\\*|\\?|[ab]|/){1,6}", 0..8),
        path in prop::collection::vec("[ab]{1,2}", 1..5),
    ) {
        if let Ok(ignore) = Ignore::from_patterns(patterns.iter().map(String::as_str)) {
            let mut verdict = ignore.root();
            let mut reachable = true;
            for length in 1..=path.len() {
                let part = path[..length].join("/");
                verdict = ignore.child(&verdict, part.as_bytes());
                prop_assert_eq!(verdict.ignored(), ignore.is_ignored(part.as_bytes()));
                if !verdict.ignored() {
                    prop_assert!(reachable, "{:?} is seen again below a directory that nobody enters: {:?}", part, patterns);
                }
                reachable &= !verdict.ignored() || ignore.may_reinclude(&verdict, part.as_bytes());
            }
        }
    }
}

#[test]
fn large_input_takes_linear_time() {
    let long = "x".repeat(1 << 20);
    let inputs = [
        format!("FROM a\nRUN {long}\n"),
        format!("FROM a\nENV A={}\n", "${B:-".repeat(100_000)),
        format!("FROM a\nENV A={}\n", "\"".repeat(1 << 20)),
        format!("FROM a\n{}", "RUN x \\\n".repeat(100_000)),
        format!("FROM a\n{}", "COPY <<a /x\na\n".repeat(50_000)),
        format!("FROM a\nRUN {}\n", "<<a ".repeat(100_000)),
        "FROM a\n".repeat(10_000),
        "\n".repeat(1 << 20),
        format!("FROM a\nRUN --mount={} x\n", "a=b,".repeat(100_000)),
        format!("FROM a\nCOPY [{}] x\n", "\"a\",".repeat(100_000)),
        format!("FROM a\nRUN {}\n", "[".repeat(1 << 20)),
    ];
    for input in inputs {
        let started = std::time::Instant::now();
        let parsed = parse("Containerfile", &input);
        for diagnostic in &parsed.diagnostics {
            let _ = diagnostic.render(&parsed.file.source, false);
        }
        if let Ok(file) = parsed.into_result() {
            let _ = plan(&file, &PlanOptions::default());
        }
        let start: String = input.chars().take(40).collect();
        assert!(started.elapsed().as_secs() < 10, "{:?} for {start:?}..", started.elapsed());
    }
}
