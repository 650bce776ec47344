#![allow(clippy::unwrap_used)]
use super::*;
use crate::instruction::{CopySource, MountKind, parse_ports};

fn first(text: &str) -> (Arc<Source>, Statement) {
    let mut file = parse("Containerfile", text).into_result().unwrap();
    (file.source.clone(), file.stages[0].instructions.remove(0))
}

#[test]
fn places_are_those_of_the_words() {
    let (source, statement) =
        first("FROM a\nCOPY --chown=me:us \\\n  # comment\n  first \\\n  \"second\" /dst/\n");
    let Instruction::Copy(copy) = &statement.node else { panic!("{statement:?}") };
    assert_eq!(source.slice(copy.flags.chown.as_ref().unwrap().span), "me:us");
    let CopySource::Path(second) = &copy.sources[1] else { panic!("{copy:?}") };
    assert_eq!(source.slice(second.span), "\"second\"");
    assert_eq!(source.line(second.span.start), 5);
    assert_eq!(source.slice(copy.destination.span), "/dst/");
    assert_eq!(statement.text, "COPY --chown=me:us   first   \"second\" /dst/");
    assert_eq!(source.line(statement.span.start), 2);
}

#[test]
fn places_in_json_and_mounts() {
    let (source, statement) = first("FROM a\nRUN --mount=type=cache,target=/x [\"a\", \"b\\n\"]\n");
    let Instruction::Run(run) = &statement.node else { panic!("{statement:?}") };
    let crate::instruction::Command::Exec(words) = &run.command else { panic!("{run:?}") };
    assert_eq!(source.slice(words[1].span), "\"b\\n\"");
    assert_eq!(source.slice(run.mounts[0].fields[1].value.as_ref().unwrap().span), "/x");
    assert_eq!(source.slice(run.mounts[0].fields[1].key.span), "target");
}

#[test]
fn a_word_over_two_lines_has_one_place() {
    let (source, statement) = first("FROM a\nENV A=one\\\ntwo B=c\n");
    let Instruction::Env(pairs) = &statement.node else { panic!("{statement:?}") };
    assert_eq!(pairs.pairs[0].1.raw, "onetwo");
    assert_eq!(source.slice(pairs.pairs[0].1.span), "one\\\ntwo");
    assert_eq!(source.slice(pairs.pairs[1].0.span), "B");
}

#[test]
fn mounts_are_evaluated_with_variables() {
    let (_, statement) = first("FROM a\nRUN --mount=type=cache,target=$T,uid=$U true\n");
    let Instruction::Run(run) = &statement.node else { panic!("{statement:?}") };
    let evaluate = |uid: &'static str| {
        run.mounts[0].evaluate(&move |name| Some(if name == "U" { uid } else { "/t" }.to_owned()))
    };
    let mount = evaluate("12").unwrap();
    assert_eq!(mount.target, "/t");
    assert!(matches!(mount.kind, MountKind::Cache { uid: 12, .. }));
    assert!(evaluate("me").unwrap_err().message.contains("no user ID"));
}

#[test]
fn options_that_only_buildah_has_are_kept() {
    let (_, statement) = first("FROM a\nRUN --mount=type=bind,target=/x,Z,bind-propagation=rslave true\n");
    let Instruction::Run(run) = &statement.node else { panic!("{statement:?}") };
    let mount = run.mounts[0].evaluate(&|_| None).unwrap();
    let extra: Vec<&str> = mount.extra.iter().map(|extra| extra.node.as_str()).collect();
    assert_eq!(extra, ["z", "bind-propagation=rslave"]);
}

#[test]
fn triggers_come_back() {
    let text = "FROM a\nONBUILD COPY --chmod=755 <<ONE <<-\"TWO\" /d/\n1 $X\nONE\n\t2\n\tTWO\n";
    let (_, statement) = first(text);
    let Instruction::Onbuild(onbuild) = &statement.node else { panic!("{statement:?}") };
    let again = parse_trigger("trigger", &onbuild.text).unwrap();
    let (Instruction::Copy(before), Instruction::Copy(after)) = (&onbuild.trigger.node, &again.node) else {
        panic!("{again:?}")
    };
    let contents = |copy: &crate::instruction::Copy| -> Vec<String> {
        let bodies = copy.sources.iter().filter_map(|source| match source {
            CopySource::Heredoc(heredoc) => Some(heredoc.content.clone()),
            CopySource::Path(_) => None,
        });
        bodies.collect()
    };
    assert_eq!(contents(before), contents(after));
    assert_eq!(contents(after), ["1 $X\n", "2\n"]);
    for bad in ["", "FROM a", "ONBUILD RUN x", "RUN x\nRUN y", "RNU x", "RUN <<E\n"] {
        assert!(parse_trigger("trigger", bad).is_err(), "{bad:?}");
    }
}

#[test]
fn bodies_are_expanded_only_without_quotes() {
    let (_, statement) = first("FROM a\nCOPY <<ONE <<'TWO' /d/\n$X '\nONE\n$X\nTWO\n");
    let bodies: Vec<String> = statement
        .node
        .heredocs()
        .iter()
        .map(|heredoc| heredoc.expand(&|_| Some("value".to_owned())).unwrap().value)
        .collect();
    assert_eq!(bodies, ["value '\n", "$X\n"]);
}

#[test]
fn ports() {
    assert_eq!(parse_ports("80").unwrap(), ["80/tcp"]);
    assert_eq!(parse_ports("80-82/UDP").unwrap(), ["80/udp", "81/udp", "82/udp"]);
    assert_eq!(parse_ports("127.0.0.1:8080:80").unwrap(), ["80/tcp"]);
    for bad in ["", "x", "80/quic", "82-80", "65536", "80-", "-1"] {
        assert!(parse_ports(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_diagnostic_is_drawn_with_line_and_caret() {
    let parsed = parse("Containerfile", "FROM a\n\tRUN --mount=type=cache,targt=/x y\r\n");
    let report = parsed.into_result().unwrap_err();
    let drawn = report.to_string();
    assert!(drawn.contains("Containerfile:2:"), "{drawn}");
    assert!(drawn.contains("^^^^^"), "{drawn}");
    assert!(drawn.contains("did you mean `target`?"), "{drawn}");
    assert!(report.render(true).contains("\u{1b}["));
    let long = format!("FROM a\nRUN {}--mount=x\nENV {}A\n", "", "B=c ".repeat(5000));
    let drawn = parse("Containerfile", &long).into_result().unwrap_err().to_string();
    assert!(drawn.contains("Containerfile:3:20005"), "{drawn}");
    assert!(drawn.len() < 8000, "{}", drawn.len());
}
