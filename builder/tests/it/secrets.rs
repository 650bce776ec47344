//! Values of secrets that steps leave behind: six places, four ways to write them.

use crate::harness::{Lab, Options, require_root};
use base64::Engine as _;
use builder::build::Error;
use builder::secrets::Form;

/// Its base64 has no slash, so that all forms can be file names.
const VALUE: &str = "Tr0ub4dor&3 horse~";

fn forms() -> [(Form, String); 4] {
    [
        (Form::Raw, VALUE.to_owned()),
        (Form::Base64, base64::engine::general_purpose::STANDARD.encode(format!("user:{VALUE}"))),
        (Form::Hex, VALUE.bytes().map(|byte| format!("{byte:02x}")).collect()),
        (Form::Url, "Tr0ub4dor%263%20horse~".to_owned()),
    ]
}

/// The error's text with its causes, and all that was told.
fn told(lab: &Lab, error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if let Error::Step { report, .. } = error {
        text.push_str(&report.render(false));
    }
    format!("{text}\n{}", lab.events.output())
}

/// Builds with the form as the content of another secret, too short for nothing, so that the file has no value in it.
fn leak(lab: &Lab, text: &str, form: &(Form, String), options: Options) -> (Error, String) {
    // What the context has is what a careless step would have made of the secret.
    lab.write("written", &form.1);
    let options = Options { secrets: vec![("token", VALUE)], ..options };
    let error = lab.try_build(text, &options).expect_err(&format!("{form:?} in {text}"));
    let told = told(lab, &error);
    assert!(!told.contains(VALUE) && !told.contains(&form.1), "the value is told: {told}");
    assert!(told.contains("token") && told.contains(form.0.as_str()), "{told}");
    (error, told)
}

#[test]
fn in_layers() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let mount = "--mount=type=bind,source=written,target=/w";
    for form in forms() {
        let cases = [
            (format!("RUN {mount} mkdir /d && cat /w > /d/file"), "/d/file"),
            (format!("RUN {mount} mkdir /d && touch \"/d/a-$(cat /w)-z\""), "/d/a-***-z"),
            (format!("RUN {mount} ln -s \"to/$(cat /w)\" /link"), "/link"),
            ("COPY written /copied".to_owned(), "/copied"),
        ];
        for (instruction, path) in cases {
            let (error, told) =
                leak(&lab, &format!("FROM busybox\nENV A=1\n{instruction}\n"), &form, Options::default());
            let Error::Step { place, .. } = &error else { panic!("{error:?}") };
            assert_eq!(place.line, 3);
            assert!(told.contains(path), "{path} is missing: {told}");
        }
    }
    // The step is not in the cache, and the same without a leak is built.
    lab.build_with(
        "FROM busybox\nRUN --mount=type=secret,id=token test -s /run/secrets/token && date > /f\n",
        &Options { secrets: vec![("token", VALUE)], ..Options::default() },
    );
}

#[test]
fn across_the_pieces_of_the_stream() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let text = "FROM busybox\nCOPY big /big\n";
    for form in forms() {
        // Where in the stream does the file's content begin?
        lab.write("big", "MARKER");
        let built = lab.build(text);
        let mut stream = Vec::new();
        let top = &built.layers.last().unwrap().chain_id;
        storage::diff::export_layer(&lab.store, top, oci::Compression::None, &mut stream).unwrap();
        let begin = stream.windows(6).position(|window| window == b"MARKER").unwrap();
        for boundary in [128 << 10, 256 << 10] {
            let before = boundary - begin - form.1.len() / 2;
            lab.write("big", &format!("{}{}{}", ".".repeat(before), form.1, ".".repeat(1000)));
            let (_, told) = leak(&lab, text, &form, Options::default());
            assert!(told.contains("/big"), "{told}");
        }
    }
}

#[test]
fn in_history_and_config() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let ran = || lab.executor.ran.load(std::sync::atomic::Ordering::SeqCst);
    let before = ran();
    for form in forms() {
        let written: &'static str = Box::leak(form.1.clone().into_boxed_str());
        let by_label = Options { labels: vec![("of-mine", written)], ..Options::default() };
        let (_, told) = leak(&lab, "FROM busybox\nRUN true\n", &form, by_label);
        assert!(told.contains("config.config.Labels.of-mine"), "{told}");
        let by_arg = || Options { args: vec![("V", written)], ..Options::default() };
        let (_, told) = leak(&lab, "FROM busybox\nARG V\nRUN true\n", &form, by_arg());
        assert!(told.contains("history, `ARG V=***`"), "{told}");
        // Written out in the file, its line is told.
        let (_, told) = leak(
            &lab,
            &format!("FROM busybox\nENV A=1\nENV NAME=\"{written}\"\n"),
            &form,
            Options::default(),
        );
        assert!(told.contains("Containerfile:3"), "{told}");
    }
    assert_eq!(ran(), before, "nothing runs");
}

#[test]
fn short_values_are_told() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let options = Options { secrets: vec![("pin", "1234")], ..Options::default() };
    let built = lab.build_with("FROM busybox\nRUN echo 1234 > /pin\n", &options);
    assert!(built.warnings.iter().any(|text| text.contains("\"pin\"") && text.contains("too short")));
}
