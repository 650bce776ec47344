#![allow(clippy::unwrap_used)]
use super::*;
use crate::parse::parse;

fn rules_with(text: &str, options: &LintOptions<'_>) -> Vec<(&'static str, usize)> {
    let file = parse("Containerfile", text).into_result().unwrap();
    let settings = settings(&file, None).unwrap();
    check(&file, &settings, options)
        .into_iter()
        .map(|warning| (warning.rule.unwrap_or("unknown"), file.source.line(warning.span.start)))
        .collect()
}

fn rules(text: &str) -> Vec<(&'static str, usize)> {
    rules_with(text, &LintOptions::default())
}

#[test]
fn each_rule() {
    let cases: [(&str, &[(&str, usize)]); 36] = [
        ("FROM a AS b\nRUN x\nCMD [\"x\"]\n", &[]),
        ("FROM a\nrun x\nRUN y\n", &[("ConsistentInstructionCasing", 2)]),
        ("from a\nrun x\nRUN y\n", &[("ConsistentInstructionCasing", 3)]),
        ("FROM a\nRun x\n", &[("ConsistentInstructionCasing", 2)]),
        ("FROM a as b\n", &[("FromAsCasing", 1)]),
        ("from a as b\n", &[]),
        ("FROM a AS Build\n", &[("StageNameCasing", 1)]),
        ("FROM a AS b\nFROM a AS B\n", &[("StageNameCasing", 2), ("DuplicateStageName", 2)]),
        ("FROM a AS scratch\nFROM b AS context\n", &[("ReservedStageName", 1), ("ReservedStageName", 2)]),
        ("FROM --platform=linux/amd64 a\n", &[("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM --platform=linux/amd64 a AS build-amd64\n", &[]),
        ("FROM --platform=$TARGETPLATFORM a\n", &[("RedundantTargetPlatform", 1), ("UndefinedArgInFrom", 1)]),
        ("FROM a\nCMD x\nENTRYPOINT y\n", &[("JSONArgsRecommended", 2), ("JSONArgsRecommended", 3)]),
        ("FROM a\nSHELL [\"bash\", \"-c\"]\nCMD x\n", &[]),
        ("FROM a\nENV A b\nLABEL c d\n", &[("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM a\nMAINTAINER me\n", &[("MaintainerDeprecated", 2)]),
        ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]\nFROM b\nCMD [\"z\"]\n", &[("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nRUN x \\\n\n y\n", &[("NoEmptyContinuation", 2)]),
        (
            "FROM a\nARG API_TOKEN\nENV DB_PASSWORD=x\n",
            &[("SecretsUsedInArgOrEnv", 2), ("SecretsUsedInArgOrEnv", 3)],
        ),
        ("FROM a\nARG PUBLIC_KEY KEYBOARD=x\n", &[]),
        ("FROM a\nWORKDIR b\nWORKDIR /c\nWORKDIR d\n", &[("WorkdirRelativePath", 2)]),
        ("FROM a\nEXPOSE 80/TCP 127.0.0.1:80:80\n", &[("ExposeProtoCasing", 2), ("ExposeInvalidFormat", 2)]),
        ("ARG TAG=1\nFROM a:$TGA\n", &[("UndefinedArgInFrom", 2), ("InvalidDefaultArgInFrom", 2)]),
        ("ARG TAG\nFROM a:$TAG\n", &[("InvalidDefaultArgInFrom", 2)]),
        ("ARG TAG\nFROM a:${TAG:-latest}\n", &[]),
        ("FROM scratch\nENV NAME=x\nWORKDIR /$NMAE\n", &[("UndefinedVar", 3)]),
        ("FROM scratch\nARG A\nENV B=$A$PATH C=${D:-x}\n", &[]),
        ("FROM scratch AS s\nENV A=x\nFROM s\nUSER $A$B\n", &[("UndefinedVar", 4)]),
        ("FROM a\nUSER $UNKNOWN_BASE\n", &[]),
        ("FROM scratch\nCOPY <<E /e\n$X\nE\nRUN <<E\n$Y\nE\n", &[("UndefinedVar", 2)]),
        ("FROM scratch\nENV A=$A\n", &[("UndefinedVar", 2)]),
        ("FROM a\nONBUILD CMD x\n", &[("JSONArgsRecommended", 2)]),
        // Silenced.
        ("# check=skip=JSONArgsRecommended,maintainerdeprecated\nFROM a\nMAINTAINER me\nCMD x\n", &[]),
        ("# check=skip=all\nFROM a\nCMD x\n", &[]),
        ("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nCMD x\n", &[("JSONArgsRecommended", 4)]),
        ("# check=skip=JSONArgRecommended\nFROM a\n", &[("unknown", 1)]),
    ];
    for (text, expected) in cases {
        assert_eq!(rules(text), expected, "{text}");
    }
}

#[test]
fn descriptions_are_experimental() {
    let text = "# something else\nFROM a AS build\n# build is a stage\nFROM b AS build2\nARG X\n";
    assert_eq!(rules(text), []);
    let text = format!("# check=experimental=all\n\n{text}");
    assert_eq!(rules(&text), [("InvalidDefinitionDescription", 3), ("InvalidDefinitionDescription", 5)]);
}

#[test]
fn known_environments_and_ignored_files() {
    let ignore = Ignore::parse("*.log\nsecret\n!ok.log").unwrap();
    let options = LintOptions {
        ignore: Some(&ignore),
        environments: [("a".to_owned(), ["HOME".to_owned()].into())].into(),
        ..LintOptions::default()
    };
    let text =
        "FROM a\nWORKDIR $HOME\nUSER $HOEM\nCOPY x.log ./secret/ ok.log *.log /d/\nCOPY --from=b secret /\n";
    assert_eq!(
        rules_with(text, &options),
        [("UndefinedVar", 3), ("CopyIgnoredFile", 4), ("CopyIgnoredFile", 4)]
    );
}

#[test]
fn base_images_of_other_platforms() {
    let platform = |text: &str| text.parse::<oci::Platform>().unwrap();
    let key = |name: &str, wanted: &str| (name.to_owned(), wanted.to_owned());
    let mut options = LintOptions {
        platforms: [
            (key("a", "linux/arm64"), platform("linux/amd64")),
            (key("b", "linux/arm64"), platform("linux/arm64/v8")),
            (key("b", "linux/s390x"), platform("linux/arm64")),
        ]
        .into(),
        ..LintOptions::default()
    };
    options.plan.platform_args = [("TARGETPLATFORM".to_owned(), "linux/arm64".to_owned())].into();
    let text = "FROM a\nFROM b\nFROM --platform=linux/s390x b AS c\nFROM scratch\nFROM c\n";
    let found: Vec<_> = rules_with(text, &options);
    let found: Vec<_> = found.into_iter().filter(|(rule, _)| *rule == "InvalidBaseImagePlatform").collect();
    assert_eq!(found, [("InvalidBaseImagePlatform", 1), ("InvalidBaseImagePlatform", 3)]);
}

#[test]
fn settings_are_read() {
    let text = |text: &str| parse_settings(&Spanned::new(text.to_owned(), Span::new(0, text.len())));
    let read = text("skip=A, b;error=true;experimental=all").unwrap();
    assert_eq!((read.skip, read.skip_all, read.error), (vec!["a".to_owned(), "b".to_owned()], false, true));
    assert_eq!(read.experimental, ["all"]);
    assert!(text("error=maybe").is_err());
    assert!(text("skp=a").unwrap_err().hint.unwrap().contains("skip"));
    assert!(text("nothing").is_err());
}
