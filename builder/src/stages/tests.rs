#![allow(clippy::unwrap_used)]
use super::*;
use crate::parse::parse;

fn file(text: &str) -> Containerfile {
    parse("Containerfile", text).into_result().unwrap()
}

fn options(pairs: &[(&str, &str)]) -> PlanOptions {
    PlanOptions {
        build_args: pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        platform_args: [("BUILDPLATFORM", "linux/amd64"), ("TARGETARCH", "amd64")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..PlanOptions::default()
    }
}

fn target(name: &str) -> PlanOptions {
    PlanOptions { target: Some(name.to_owned()), ..PlanOptions::default() }
}

fn image(name: &str) -> Base {
    Base::Image(name.to_owned())
}

fn needed(plan: &Plan) -> Vec<usize> {
    plan.stages.iter().enumerate().filter(|(_, stage)| stage.needed).map(|(index, _)| index).collect()
}

fn error(text: &str, options: &PlanOptions) -> Diagnostic {
    plan(&file(text), options).unwrap_err().remove(0)
}

#[test]
fn global_arguments() {
    let text = "ARG A=1\nARG B=${A}2 C\nFROM x:$B-${C:-none}\n";
    let planned = plan(&file(text), &options(&[])).unwrap();
    assert_eq!(planned.stages[0].base, image("x:12-none"));
    assert_eq!(planned.global_args["B"], "12");
    assert!(!planned.global_args.contains_key("C"));
    let planned = plan(&file(text), &options(&[("A", "9"), ("C", "c"), ("UNUSED", "x")])).unwrap();
    assert_eq!(planned.stages[0].base, image("x:92-c"));
    assert_eq!(planned.used_build_args.into_iter().collect::<Vec<_>>(), ["A", "C"]);
}

#[test]
fn platform_arguments_need_no_arg() {
    let text = "FROM --platform=$BUILDPLATFORM x:$TARGETARCH\n";
    let planned = plan(&file(text), &options(&[])).unwrap();
    assert_eq!(planned.stages[0].base, image("x:amd64"));
    assert_eq!(planned.stages[0].platform.as_deref(), Some("linux/amd64"));
    let planned = plan(&file(text), &options(&[("TARGETARCH", "arm64")])).unwrap();
    assert_eq!(planned.stages[0].base, image("x:arm64"));
}

#[test]
fn other_build_arguments_need_one() {
    let error = error("FROM $BASE\n", &options(&[("BASE", "x")]));
    assert_eq!(error.message, "the name of the base image is empty");
    assert!(error.hint.unwrap().contains("ARG BASE"));
}

#[test]
fn only_what_the_target_needs() {
    let text = "FROM a AS one\nFROM b AS two\nCOPY --from=ONE /x /x\nFROM c AS three\nRUN --mount=from=0,target=/m true\nFROM scratch\nCOPY --from=two /x /\n";
    let file = file(text);
    assert_eq!(needed(&plan(&file, &PlanOptions::default()).unwrap()), [0, 1, 3]);
    assert_eq!(needed(&plan(&file, &target("THREE")).unwrap()), [0, 2]);
    assert_eq!(needed(&plan(&file, &target("1")).unwrap()), [0, 1]);
    assert_eq!(needed(&plan(&file, &target("one")).unwrap()), [0]);
}

#[test]
fn a_missing_target_is_suggested() {
    let missing = error("FROM a AS build\nFROM b AS final\n", &target("biuld"));
    assert_eq!(missing.hint.as_deref(), Some("did you mean `build`?"));
    assert_eq!(missing.span, Span::NOWHERE);
    let number = error("FROM a\n", &target("1"));
    assert!(number.message.contains("no stage `1`"), "{}", number.message);
}

#[test]
fn the_latest_of_a_name_above() {
    let file = file("FROM a AS x\nFROM x AS x\nFROM x AS y\nCOPY --from=x /a /a\nFROM debian AS debian\n");
    let planned = plan(&file, &PlanOptions::default()).unwrap();
    let bases: Vec<&Base> = planned.stages.iter().map(|stage| &stage.base).collect();
    assert_eq!(bases, [&image("a"), &Base::Stage(0), &Base::Stage(1), &image("debian")]);
    assert_eq!(planned.stages[2].dependencies.iter().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn references_below_and_to_itself() {
    let below = error("FROM a\nCOPY --from=later /x /x\nFROM b AS later\n", &PlanOptions::default());
    assert!(below.message.contains("stands below, at line 3"), "{}", below.message);
    let itself = error("FROM a AS me\nCOPY --from=me /x /x\n", &PlanOptions::default());
    assert!(itself.message.contains("from itself"), "{}", itself.message);
    let number = error("FROM a\nFROM b\nCOPY --from=1 /x /x\n", &PlanOptions::default());
    assert!(number.message.contains("no stage 1 above"), "{}", number.message);
}

#[test]
fn an_image_is_no_stage() {
    let file = file(
        "FROM a AS build\nFROM b\nCOPY --from=docker.io/library/busybox /x /x\nCOPY --from=biuld /y /y\n",
    );
    let planned = plan(&file, &PlanOptions::default()).unwrap();
    assert!(planned.stages[1].dependencies.is_empty());
    assert_eq!(file.suggest_stage("biuld", 1), Some("build"));
    assert_eq!(file.suggest_stage("busybox", 1), None);
}

#[test]
fn contexts_win() {
    let options =
        PlanOptions { contexts: ["base".to_owned(), "files".to_owned()].into(), ..PlanOptions::default() };
    let planned = plan(&file("FROM a AS base\nFROM base\nCOPY --from=files /x /x\n"), &options).unwrap();
    assert_eq!(planned.stages[1].base, Base::Context("base".to_owned()));
    assert!(planned.stages[1].dependencies.is_empty());
}

#[test]
fn triggers_of_a_stage_that_is_a_base() {
    let text = "FROM a AS tools\nFROM b AS base\nONBUILD COPY --from=tools /x /x\nFROM base\n";
    assert_eq!(needed(&plan(&file(text), &PlanOptions::default()).unwrap()), [0, 1, 2]);
}

#[test]
fn all_errors_are_told() {
    let errors = plan(&file("FROM $A\nFROM $B\nCOPY --from=5 /x /x\n"), &target("nothing")).unwrap_err();
    assert_eq!(errors.len(), 4, "{errors:?}");
}
