#![allow(clippy::unwrap_used)]
//! Instructions to graph, config and history, as pure data.

use super::*;
use crate::graph::{CopySource, Op};
use crate::parse::parse;
use crate::stages::{PlanOptions, plan};
use oci::ContainerConfig;

fn base() -> ResolvedImage {
    let config = ContainerConfig {
        env: vec!["PATH=/bin".into(), "BASE=1".into()],
        cmd: Some(vec!["sh".into()]),
        on_build: vec!["RUN echo trigger".into()],
        working_dir: "/home".into(),
        ..ContainerConfig::default()
    };
    ResolvedImage {
        name: "base".into(),
        digest: oci::Digest::of(b"base"),
        config: ImageConfig { config, ..ImageConfig::new(&Platform::host()) },
        chain: vec![oci::ChainId(oci::Digest::of(b"chain"))],
    }
}

fn try_lower(text: &str, args: &[(&str, &str)], target: Option<&str>) -> Result<Lowered, Error> {
    let file = parse("Containerfile", text).into_result()?;
    let build_args: BTreeMap<String, String> =
        args.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let platform_args = BTreeMap::from([("TARGETARCH".to_owned(), "amd64".to_owned())]);
    let options = PlanOptions {
        target: target.map(str::to_owned),
        build_args: build_args.clone(),
        platform_args: platform_args.clone(),
        ..PlanOptions::default()
    };
    let plan = plan(&file, &options).map_err(|found| Report::new(file.source.clone(), found))?;
    let proxy = [("http_proxy".to_owned(), "proxy:1".to_owned())];
    lower(
        &file,
        &plan,
        &Options {
            build_args: &build_args,
            platform_args: &platform_args,
            platform: &Platform::host(),
            contexts: &BTreeMap::new(),
            network: NetworkMode::Default,
            step_settings: "",
            proxy: &proxy,
            no_cache: false,
            no_cache_filter: &[],
            image: &crate::build::ImageOptions::default(),
            all_stages: false,
            allow: &BTreeSet::new(),
            is_device: &|_| Ok(false),
            times: crate::graph::FileTimes::Kept,
        },
        &|reference, _| if reference == "base" { Ok(Arc::new(base())) } else { Err("no such image".into()) },
    )
}

fn lower_text(text: &str) -> Lowered {
    try_lower(text, &[], None).unwrap()
}

fn history(lowered: &Lowered) -> Vec<&str> {
    lowered.history.iter().map(|entry| entry.created_by.as_deref().unwrap()).collect()
}

fn exec(lowered: &Lowered) -> &crate::graph::ExecOp {
    match &lowered.graph.vertex(lowered.target).op {
        Op::Exec(op) => op,
        other => panic!("{other:?}"),
    }
}

#[test]
fn metadata_makes_no_vertex_and_history_as_buildkit_writes_it() {
    let lowered = lower_text(
        "FROM scratch\nMAINTAINER me\nENV A=1 B=\"two words\"\nLABEL k=$A\nEXPOSE 80 8000-8001/udp\nVOLUME /v $A\n\
         USER app\nSHELL [\"/bin/ash\", \"-c\"]\nCMD echo \"hi\"\nENTRYPOINT [\"/e\", \"x\"]\nSTOPSIGNAL SIGQUIT\n\
         HEALTHCHECK --interval=90s --retries=3 CMD curl x\nONBUILD RUN true\nARG X=1 Y\nWORKDIR /\n",
    );
    assert_eq!(lowered.graph.len(), 1);
    assert_eq!(
        history(&lowered),
        [
            "MAINTAINER me",
            "ENV A=1 B=two words",
            "LABEL k=1",
            "EXPOSE [80/tcp 8000/udp 8001/udp]",
            "VOLUME [/v 1]",
            "USER app",
            "SHELL [/bin/ash -c]",
            r#"CMD ["/bin/ash" "-c" "echo \"hi\""]"#,
            r#"ENTRYPOINT ["/e" "x"]"#,
            "STOPSIGNAL SIGQUIT",
            r#"HEALTHCHECK &{["CMD-SHELL" "curl x"] "1m30s" "0s" "0s" "0s" '\x03'}"#,
            "ARG X=1 Y",
            "WORKDIR /",
        ]
    );
    assert!(lowered.history.iter().all(|entry| entry.empty_layer));
    let config = &lowered.config.config;
    assert_eq!(config.on_build, ["RUN true"]);
    assert_eq!(config.exposed_ports.len(), 3);
    assert_eq!(config.healthcheck.as_ref().unwrap().interval, 90_000_000_000);
    assert_eq!(lowered.config.author.as_deref(), Some("me"));
}

#[test]
fn the_environment_of_run() {
    let text = "ARG G=global\nFROM base\nARG G\nARG D=default\nARG BASE=arg\nARG TARGETARCH\nARG NONE\nENV E=$D-$BASE\nRUN x\n";
    let lowered = try_lower(text, &[("D", "given")], None).unwrap();
    let op = exec(&lowered);
    // ENV wins over the ARG of the same name; an ARG without value is no variable.
    assert_eq!(*op.env, ["PATH=/bin", "BASE=1", "E=given-1", "G=global", "D=given", "TARGETARCH=amd64"]);
    assert_eq!(op.cwd, "/home");
    assert_eq!(op.proxy, ["http_proxy=proxy:1"]);
    assert_eq!(
        history(&lowered).last(),
        Some(&"RUN |5 G=global D=given BASE=1 TARGETARCH=amd64 NONE= /bin/sh -c x # buildkit")
    );
    // The trigger of the base ran first, and is not handed on.
    assert_eq!(history(&lowered)[0], "RUN /bin/sh -c echo trigger # buildkit");
    assert!(lowered.config.config.on_build.is_empty());
    assert!(lowered.used_args.contains("D"));
}

#[test]
fn stages_inherit_config_and_args_and_only_reached_ones_are_lowered() {
    let text = "FROM scratch AS a\nARG V=1\nENV E=1\nWORKDIR w\nFROM none AS unused\nRUN x\nFROM a\nCOPY --from=A x y\nRUN echo\n";
    let lowered = lower_text(text);
    assert_eq!(
        *exec(&lowered).env,
        [format!("PATH={}", crate::ops::exec::DEFAULT_PATH).as_str(), "E=1", "V=1"]
    );
    assert_eq!(lowered.config.config.working_dir, "/w");
    // scratch, WORKDIR, COPY, RUN
    assert_eq!(lowered.graph.len(), 4);
    let copy = lowered.graph.vertices().find_map(|(_, vertex)| match &vertex.op {
        Op::Copy(op) => Some((op.clone(), vertex.clone())),
        _ => None,
    });
    let (op, vertex) = copy.unwrap();
    assert_eq!(op.destination, "/w/y");
    assert!(matches!(&op.sources[..], [CopySource::Path { input: 1, path }] if path == "x"));
    assert!(vertex.inputs[1].by_content && !vertex.inputs[0].by_content);
    assert_eq!(
        (vertex.place.stage.as_str(), vertex.place.step, vertex.place.steps, vertex.place.line),
        ("2", 2, 3, 8)
    );
}

#[test]
fn what_is_wrong_is_shown_in_its_place() {
    for (text, message) in [
        ("FROM base\nSTOPSIGNAL SIGNOPE\n", "unknown signal"),
        ("FROM base\nCOPY --chmod=rwx a b\n", "Containerfile:2"),
        ("FROM base\nCOPY --from=1 a b\n", "no stage 1"),
        ("FROM base\nRUN --mount=type=tmpfs,target=/ true\n", "cannot be the target"),
        ("FROM base\nADD --checksum=main git@example.com:a/b.git /x\n", "`main` is no commit"),
        ("FROM base\nADD git@example.com:a/b.git?depth=1 /x\n", "no key `depth`"),
        ("FROM base\nADD --checksum=sha256:12 https://x/y /x\n", "digest"),
        ("FROM gone\nRUN x\n", "resolve image gone"),
    ] {
        let error = try_lower(text, &[], None).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}
