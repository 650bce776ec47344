//! What a build shows while it runs.

use serde_json::Value;

use crate::support::{Davit, context};

const TEXT: &str = "FROM busybox AS one\nRUN echo to-stdout; echo to-stderr >&2; echo file > /one\n\
                    FROM busybox\nCOPY --from=one /one /\nRUN cat /one\n";

/// The objects that a build with `--progress=json` writes; each line must be one.
fn objects(stderr: &str) -> Vec<Value> {
    stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn events<'a>(objects: &'a [Value], name: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["event"] == name).collect()
}

#[test]
fn json_lines_tell_a_whole_build() {
    let davit = Davit::with_busybox();
    let dir = context(TEXT, &[]);
    let build = || davit.run(["build", "--progress=json", "-t", "j", dir.path().to_str().unwrap()]);
    let done = build();
    let id = done.ok();
    let all = objects(&done.stderr);
    assert_eq!((&all[0]["event"], &all[0]["version"]), (&"begin".into(), &1.into()));
    let steps = events(&all, "plan")[0]["steps"].as_array().unwrap().clone();
    let step = |text: &str| {
        steps
            .iter()
            .find(|step| step["name"].as_str().unwrap().contains(text))
            .unwrap_or_else(|| panic!("{text}"))
    };
    let (run, copy) = (step("RUN echo"), step("COPY"));
    assert_eq!(
        (&run["stage"], &run["line"], &run["step"], &run["steps"]),
        (&"one".into(), &2.into(), &2.into(), &2.into())
    );
    assert!(copy["inputs"].as_array().unwrap().contains(&run["id"]), "{copy}");
    let output = |stream: &str| {
        let lines = events(&all, "output")
            .into_iter()
            .filter(|line| line["stream"] == stream && line["id"] == run["id"]);
        lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (output("stdout"), output("stderr")),
        (vec!["to-stdout".to_owned()], vec!["to-stderr".to_owned()])
    );
    for step in [run, copy] {
        let own = |name| events(&all, name).into_iter().filter(|event| event["id"] == step["id"]).count();
        assert_eq!((own("started"), own("done"), own("layer"), own("cached")), (1, 1, 1, 0), "{step}");
    }
    let result = all.last().unwrap();
    assert_eq!(result["event"], "result");
    assert_eq!(
        result["image"].as_str().unwrap().trim_start_matches("sha256:"),
        id.trim_start_matches("sha256:")
    );
    assert_eq!(result["names"], serde_json::json!(["localhost/j:latest"]));
    // Times only grow.
    let times: Vec<f64> = all.iter().map(|object| object["time"].as_f64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1] + 0.001), "{times:?}");

    let again = build();
    again.ok();
    let all = objects(&again.stderr);
    assert!(events(&all, "started").is_empty() && events(&all, "cached").len() >= 3, "{all:?}");
}

#[test]
fn json_lines_tell_a_failure() {
    let davit = Davit::with_busybox();
    let dir = context("FROM busybox\nRUN echo last words; exit 6\n", &[]);
    let done = davit.run(["build", "--progress=json", dir.path().to_str().unwrap()]);
    assert_eq!((done.code, done.stdout.as_str()), (6, ""));
    let all = objects(&done.stderr);
    assert_eq!(events(&all, "failed")[0]["message"], "exit status 6");
    let error = all.last().unwrap();
    assert_eq!((&error["event"], &error["code"]), (&"error".into(), &6.into()));
    assert!(error["message"].as_str().unwrap().contains("last words"), "{error}");
}

#[test]
fn plain_lines_name_step_stage_and_time() {
    let davit = Davit::with_busybox();
    let done = davit.build("p", TEXT, &[]);
    done.ok();
    let find = |text: &str| {
        done.stderr
            .lines()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text}: {done:#?}"))
            .to_owned()
    };
    let header = find("[one 2/2] RUN echo to-stdout");
    let number = header.split_once(' ').unwrap().0.to_owned();
    let line = find("to-stderr").lines().last().unwrap().to_owned();
    let line = done.stderr.lines().find(|other| other.ends_with(" to-stderr")).unwrap_or(&line);
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((words[0], words[1], words[3]), (number.as_str(), "[one]", "to-stderr"), "{line}");
    assert!(words[2].parse::<f64>().is_ok(), "{line}");
    assert!(done.stderr.contains(&format!("{number} DONE ")), "{done:#?}");
    // Nothing but the ID with --quiet and with --progress=quiet.
    let dir = context("FROM busybox\nRUN echo noise\nMAINTAINER me\n", &[]);
    for option in ["--quiet", "--progress=quiet"] {
        let done = davit.run(["build", option, dir.path().to_str().unwrap()]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
    }
    // A warning is told once.
    let done = davit.run(["build", "--progress=plain", dir.path().to_str().unwrap()]);
    assert_eq!(done.stderr.matches("MAINTAINER is deprecated").count(), 1, "{done:#?}");
}

#[test]
fn the_live_view_on_a_terminal() {
    let davit = Davit::with_busybox();
    let dir = context(
        "FROM busybox\nRUN printf '\\033[31mcoloured\\r'; sleep 2; echo words; sleep 1\nRUN exit 3\n",
        &[],
    );
    let mut command = davit.command();
    command.args(["build", "--progress=tty", dir.path().to_str().unwrap()]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut script = std::process::Command::new("script");
    script.args(["-qefc", &format!("stty cols 70 rows 20; {}", words.join(" ")), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    let done = crate::support::finish(script.stdin(std::process::Stdio::null()));
    assert_eq!(done.code, 3, "{done:#?}");
    for text in
        // the second while its line is not over
        [
            "[2/3] RUN printf",
            "\u{1b}[2mcoloured",
            "words",
            "of 2 steps",
            "1 running",
            "FAILED",
            "RUN failed: exit status 3",
        ]
    {
        assert!(done.stdout.contains(text), "{text:?} is missing: {}", done.stdout);
    }
    assert!(!done.stdout.contains("\u{1b}[31mcoloured"), "colours of steps are left out");
}

#[test]
fn timings_are_a_page() {
    let davit = Davit::with_busybox();
    let dir = context(TEXT, &[]);
    let page = davit.dir.path().join("page.html");
    let option = format!("--timings={}", page.display());
    davit.run(["build", "-q", &option, dir.path().to_str().unwrap()]).ok();
    let text = std::fs::read_to_string(&page).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "COPY --from=one",
        "Critical path",
        "2 ran, 0 cached".replace("2 ran", "3 ran").as_str(),
    ] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    std::fs::write(dir.path().join("Containerfile"), "FROM busybox\nRUN exit 3\n").unwrap();
    davit.run(["build", "-q", &option, dir.path().to_str().unwrap()]).fails(3, "RUN failed");
    assert!(std::fs::read_to_string(&page).unwrap().contains("Failed build"));
}
