//! `davit build --check` and `--call`: a Containerfile is looked at and not built.

use serde_json::{Value, json};

use crate::support::{Davit, Done, context};

const TEXT: &str = "# VERSION is what is built\nARG VERSION=3\n# tools are for work\nFROM busybox AS Tools\n\
    RUN --mount=type=secret,id=token,required=true echo ran\nMAINTAINER me\nFROM scratch\nARG VERSION\nCOPY skip.log /\n";

fn call(davit: &Davit, text: &str, options: &[&str]) -> Done {
    let dir = context(text, &[(".dockerignore", "*.log\n")]);
    let mut args = vec!["build"];
    args.extend(options);
    let place = dir.path().to_str().unwrap().to_owned();
    args.push(&place);
    davit.run(args)
}

#[test]
fn checks_name_rules_and_places() {
    let davit = Davit::with_busybox();
    let done = call(&davit, TEXT, &["--check"]);
    // As Docker: warnings are a failure of the check, unless the caller says otherwise.
    assert_eq!(done.code, 1, "{done:#?}");
    let text = call(&davit, TEXT, &["--call=check,ignorestatus=true"]).ok();
    for part in [
        "warning[StageNameCasing]: the stage name `Tools` has capitals",
        "Containerfile:4:17",
        "4 | FROM busybox AS Tools",
        "warning[MaintainerDeprecated]",
        "warning[CopyIgnoredFile]",
        "Check complete, 3 warnings have been found!",
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    assert!(!text.contains("ran\n"), "nothing runs");
    let clean = call(&davit, "FROM busybox\nRUN true\n", &["--check"]);
    assert_eq!(clean.ok(), "Check complete, no warnings found.");
    // Warnings that count as errors, and errors.
    let strict = call(&davit, &format!("# check=error=true\n{TEXT}"), &["--call=check,ignorestatus=true"]);
    assert_eq!(strict.code, 1, "{strict:#?}");
    let wrong = call(&davit, "FROM busybox\nCOPPY a b\n", &["--call=check"]);
    assert_eq!(wrong.code, 1, "{wrong:#?}");
    assert!(wrong.stdout.contains("Containerfile:2") && wrong.stdout.contains("COPY"), "{wrong:#?}");
    // Warnings where a base image is for another machine: of one here, that is known without asking a registry.
    let foreign = if davit.inspect("busybox", "{{.Architecture}}") == "s390x" { "arm64" } else { "s390x" };
    let platform = format!("--platform=linux/{foreign}");
    let found = call(&davit, "FROM busybox\nRUN true\n", &["--check", &platform]).stdout;
    assert!(found.contains("warning[InvalidBaseImagePlatform]") && found.contains(foreign), "{found}");
    // What a local image sets is known.
    davit.build("with-env", "FROM busybox\nENV KNOWN=1\n", &[]).ok();
    let known = call(&davit, "FROM with-env\nLABEL a=$KNOWN b=$OTHER\n", &["--check"]).stdout;
    assert!(known.contains("nothing sets `OTHER`") && !known.contains("`KNOWN`"), "{known}");
}

#[test]
fn checks_as_json() {
    let davit = Davit::with_busybox();
    let done = call(&davit, TEXT, &["--call=check,format=json"]);
    assert_eq!(done.code, 1, "{done:#?}");
    let value: Value = serde_json::from_str(&done.stdout).unwrap();
    let warnings = value["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 3, "{value}");
    assert_eq!(warnings[0]["ruleName"], "StageNameCasing");
    assert_eq!(warnings[0]["location"]["ranges"][0]["start"], json!({"line": 4, "character": 16}));
    assert_eq!(warnings[0]["location"]["ranges"][0]["end"], json!({"line": 4, "character": 21}));
    assert!(warnings.iter().all(|warning| !warning["description"].as_str().unwrap().is_empty()), "{value}");
    let source = &value["sources"][0];
    assert!(source["fileName"].as_str().unwrap().ends_with("/Containerfile"), "{source}");
    assert_eq!(source["language"], "Dockerfile");
    // RFC 4648 of the file's beginning.
    assert!(
        value["sources"][0]["data"].as_str().unwrap().starts_with("IyBWRVJTSU9OIGlzIHdoYXQgaXMgYnVpbHQK"),
        "{value}"
    );
    let wrong = call(&davit, "FROM busybox\nCOPPY a b\n", &["--call=check,format=json"]);
    let value: Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!((wrong.code, &value["buildError"]["location"]["ranges"][0]["start"]["line"]), (1, &json!(2)));
}

#[test]
fn outlines_and_targets() {
    let davit = Davit::with_busybox();
    assert_eq!(
        call(&davit, TEXT, &["--call=outline", "--target=tools", "--build-arg=VERSION=4"]).ok(),
        "TARGET:        tools\nDESCRIPTION:   are for work\n\nBUILD ARG   VALUE   DESCRIPTION\nVERSION     4       is what is built\n\nSECRET   REQUIRED\ntoken    true"
    );
    let outline: Value =
        serde_json::from_str(&call(&davit, TEXT, &["--call=outline,format=json"]).ok()).unwrap();
    assert_eq!(
        outline,
        json!({
            "args": [{
                "name": "VERSION", "value": "3", "description": "is what is built",
                "location": {"sourceIndex": 0, "ranges": [
                    {"start": {"line": 2, "character": 0}, "end": {"line": 2, "character": 13}}
                ]},
            }],
            "sources": [outline["sources"][0]],
        })
    );
    assert_eq!(
        call(&davit, TEXT, &["--call=targets"]).ok(),
        "TARGET      DESCRIPTION\ntools       are for work\n(default)"
    );
    let targets: Value =
        serde_json::from_str(&call(&davit, TEXT, &["--call=targets,format=json"]).ok()).unwrap();
    assert_eq!(targets["sources"], outline["sources"]);
    assert!(targets["sources"][0].as_str().unwrap().starts_with("IyBWRVJTSU9OIGlzIHdoYXQgaXMgYnVpbHQK"));
    let last = &targets["targets"][1];
    assert_eq!(
        (&last["base"], &last["default"], &last["name"]),
        (&json!("scratch"), &json!(true), &Value::Null)
    );
    assert!(last["location"]["ranges"][0]["start"]["line"].as_u64() > Some(4), "{targets}");
    let text = "FROM busybox AS a\nRUN --mount=type=cache,target=/c --mount=type=ssh,required true\n";
    let outline: Value =
        serde_json::from_str(&call(&davit, text, &["--call=outline,format=json"]).ok()).unwrap();
    assert_eq!((&outline["name"], &outline["cache"][0]["ID"]), (&json!("a"), &json!("/c")));
    assert_eq!((&outline["ssh"][0]["required"], &outline["args"]), (&json!(true), &Value::Null));
    call(&davit, TEXT, &["--call=check,format=xml"]).fails(125, "format=json");
    call(&davit, TEXT, &["--call=nonsense"]).fails(125, "--call=nonsense is not supported");
    call(&davit, TEXT, &["--call=outline", "--target=none"]).fails(1, "none");
    assert_eq!(davit.run(["images", "-q"]).ok().lines().count(), 1, "nothing is built");
}
