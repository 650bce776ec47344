//! Why a step missed: the input that changed is named, also later, also before the step runs.

use crate::harness::{Lab, Options, require_root};
use builder::build::{AssertCached, Error};
use builder::explain::{Outcome, explain_image};

/// The causes that the last build told of, one line a step.
fn causes(lab: &Lab) -> Vec<String> {
    let events = lab.events.0.lock().unwrap();
    let missed = events.iter().filter_map(|event| event.strip_prefix("missed "));
    missed.map(|line| line.split_once(": ").unwrap().1.to_owned()).collect()
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.add_busybox();
    lab.write("dir/f", "content");
    lab.write("g", "other");
    lab
}

/// Builds, changes something, builds again; the causes of the first step that missed.
fn cause(first: (&str, &Options), between: impl FnOnce(&Lab), again: (&str, &Options)) -> String {
    let lab = lab();
    lab.build_with(first.0, first.1);
    between(&lab);
    lab.build_with(again.0, again.1);
    causes(&lab).first().cloned().unwrap_or_default()
}

fn check(text: &str, expected: &str) {
    // Digests are of many values; their form is what counts.
    let mut parts = text.split("sha256:");
    let mut shape = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        assert_eq!(digits, 12, "{text}");
        shape.push('#');
        shape.push_str(&part[digits..]);
    }
    assert_eq!(shape, expected);
}

#[test]
fn files_that_changed_are_named() {
    require_root!();
    let none = Options::default();
    let text = "FROM busybox\nCOPY dir /d\nCOPY *.x g /g/\nRUN --mount=type=bind,source=g,target=/m true\n";
    let cause = |between: fn(&Lab)| cause((text, &none), between, (text, &none));
    check(&cause(|lab| lab.write("dir/f", "changed")), "path dir/f: content # -> #");
    let mode = |lab: &Lab| {
        use std::os::unix::fs::PermissionsExt;
        let path = lab.context().join("dir/f");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    check(&cause(mode), "path dir/f: mode 0644 -> 0755 (#)");
    check(&cause(|lab| lab.write("new.x", "x")), "path new.x: added none -> #");
    check(
        &cause(|lab| std::fs::remove_file(lab.context().join("dir/f")).unwrap()),
        "path dir/f: removed # -> none",
    );
}

#[test]
fn a_mount_source_that_changed_is_named() {
    require_root!();
    let none = Options::default();
    let text = "FROM busybox\nRUN --mount=type=bind,source=dir,target=/m cat /m/f\n";
    let found = cause((text, &none), |lab| lab.write("dir/f", "changed"), (text, &none));
    check(&found, "mount source dir/f: content # -> #");
    let text = "FROM busybox AS a\nCOPY dir /d\nFROM busybox\nRUN --mount=type=bind,from=a,source=/d,target=/m cat /m/f\n";
    let lab = lab();
    lab.build(text);
    // Once more, so that the stage's files are not looked at.
    lab.build(&format!("{text}LABEL a=b\n"));
    lab.write("dir/f", "changed");
    lab.build(text);
    let found = causes(&lab);
    check(&found[0], "path dir/f: content # -> #");
    check(&found[1], "mount source d/f of [a 2/2] COPY dir /d: content # -> #");
}

#[test]
fn arguments_variables_and_instructions_are_named() {
    require_root!();
    let none = Options::default();
    let arg = |value| Options { args: vec![("V", value)], ..Options::default() };
    let text = "FROM busybox\nARG V\nENV E=1\nRUN echo hi\nRUN echo there\n";
    let found = cause((text, &arg("1")), |_| {}, (text, &arg("2")));
    check(&found, "arg V: \"1\" -> \"2\" # -> #");
    let changed = text.replace("E=1", "E=2");
    check(&cause((text, &none), |_| {}, (&changed, &none)), "env E: \"1\" -> \"2\" # -> #");
    let changed = text.replace("echo hi", "echo ho");
    let found = cause((text, &none), |_| {}, (&changed, &none));
    check(&found, "instruction RUN: \"/bin/sh -c echo hi\" -> \"/bin/sh -c echo ho\" # -> #");
    let changed = text.replace("RUN echo hi", "RUN true\nRUN echo hi");
    let found = cause((text, &none), |_| {}, (&changed, &none));
    assert_eq!(found, "the last build had no such step");
    let changed = text.replace("RUN echo hi", "COPY g /g");
    let found = cause((text, &none), |_| {}, (&changed, &none));
    assert_eq!(found, "instruction COPY: \"RUN echo hi\" -> \"COPY g /g\"");
    let changed = text.replace("RUN echo hi", "USER app\nRUN echo hi");
    check(&cause((text, &none), |_| {}, (&changed, &none)), "instruction USER: \"\" -> \"app\" # -> #");
    let again = Options { no_cache: true, ..Options::default() };
    let found = cause((text, &none), |_| {}, (text, &again));
    assert_eq!(found, "the cache was not asked (--no-cache)");
}

#[test]
fn a_new_base_is_named_once_and_what_follows_has_a_parent() {
    require_root!();
    let lab = lab();
    let text = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n";
    lab.build(text);
    let other = lab.build("FROM busybox\nRUN echo changed > /base\n");
    // That was a build of the same line: go back first.
    lab.build(text);
    lab.add_image("busybox", &other);
    lab.build(text);
    let found = causes(&lab);
    check(&found[0], "base busybox # -> #");
    check(&found[1], "parent [2/3] RUN echo one > /one # -> #");
}

#[test]
fn a_lost_result_is_told_from_a_change() {
    require_root!();
    let lab = lab();
    let text = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n";
    let first = lab.build(text);
    lab.store.images().remove(&first.image_id).unwrap();
    for record in lab.store.cache().list().unwrap() {
        if record.data["text"] == "RUN echo two > /two" {
            lab.store.cache().remove(&record.key).unwrap();
        }
    }
    lab.store.sweep(storage::SweepOptions::default()).unwrap();
    lab.build(text);
    assert_eq!(causes(&lab), ["nothing changed, but its result is not in the cache"]);
}

#[test]
fn the_record_beside_the_image_tells_later() {
    require_root!();
    let lab = lab();
    let text = "FROM busybox\nRUN echo one > /one\nCOPY dir /d\n";
    lab.build(text);
    lab.write("dir/f", "changed");
    let built = lab.build(text);
    // A build that runs nothing does not wipe out why the last one did.
    assert_eq!(lab.build(text).ran, 0);
    let steps = explain_image(&lab.store, &built.image_id).unwrap().unwrap();
    let outcomes: Vec<Outcome> = steps.iter().map(|step| step.outcome).collect();
    assert_eq!(outcomes, [Outcome::Source, Outcome::Hit, Outcome::Ran]);
    check(&steps[2].causes[0].to_string(), "path dir/f: content # -> #");
    assert_eq!((steps[2].name.as_str(), steps[2].line), ("[3/3] COPY dir /d", 3));
    // With the image and the results its trace goes too.
    lab.store.images().remove(&built.image_id).unwrap();
    for record in lab.store.cache().list().unwrap() {
        lab.store.cache().remove(&record.key).unwrap();
    }
    lab.store.sweep(storage::SweepOptions::default()).unwrap();
    assert_eq!(explain_image(&lab.store, &built.image_id).unwrap(), None);
}

#[test]
fn a_long_listing_lives_as_long_as_its_trace() {
    require_root!();
    let lab = lab();
    for index in 0..60 {
        lab.write(&format!("many/{index}"), "x");
    }
    let text = "FROM busybox\nCOPY many /m\n";
    lab.build(text);
    lab.store.sweep(storage::SweepOptions::default()).unwrap();
    lab.write("many/33", "y");
    lab.build(text);
    check(&causes(&lab)[0], "path many/33: content # -> #");
}

#[test]
fn an_asserted_build_ends_before_the_step_runs() {
    require_root!();
    let lab = lab();
    let text = "FROM busybox AS a\nRUN echo a > /a\nFROM busybox AS b\nCOPY dir /d\nRUN echo ran > /r\nCOPY --from=a /a /a\n";
    let asserted = |what| Options { assert_cached: Some(what), ..Options::default() };
    lab.build(text);
    assert_eq!(lab.build_with(text, &asserted(AssertCached::All)).ran, 0);
    lab.write("dir/f", "changed");
    let ran = lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst);
    let error = lab.try_build(text, &asserted(AssertCached::All)).unwrap_err();
    assert!(matches!(error, Error::NotCached { .. }));
    let line = error.to_string();
    assert!(
        line.starts_with("Containerfile:4: [b 2/4] COPY dir /d is not cached: path dir/f: content sha256:"),
        "{line}"
    );
    assert_eq!(lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst), ran);
    let stage = |name: &str| asserted(AssertCached::Stage(name.into()));
    assert!(matches!(lab.try_build(text, &stage("1")), Err(Error::NotCached { .. })));
    assert!(matches!(lab.try_build(text, &stage("c")), Err(Error::UnknownStage { .. })));
    lab.build_with(text, &stage("a"));
}
