//! Values of secrets that steps leave behind: eight places, four ways to write them.

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
    // In the value of an attribute, which takes any bytes, and in its name.
    for form in forms() {
        for (name, value) in [("user.note".to_owned(), form.1.as_str()), (format!("user.{}", form.1), "x")] {
            lab.write("marked", "");
            let path = lab.context().join("marked");
            rustix::fs::setxattr(&path, &name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
            let (_, told) = leak(&lab, "FROM busybox\nCOPY marked /marked\n", &form, Options::default());
            assert!(told.contains("/marked"), "{told}");
            std::fs::remove_file(path).unwrap();
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
        for annotation in [("of-mine", written), (written, "of-mine")] {
            let by_annotation = Options { annotations: vec![annotation], ..Options::default() };
            let (_, told) = leak(&lab, "FROM busybox\nRUN true\n", &form, by_annotation);
            assert!(told.contains("annotation"), "{told}");
        }
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

/// Processor time of this process: on a busy machine it says more than the clock.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What looking costs beside the digest pass; to be run alone, optimised:
/// `cargo test --release -p builder --test it secrets::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn cost() {
    require_root!();
    let lab = Lab::new();
    lab.add_busybox();
    let secrets =
        (0..3).map(|number| (format!("s{number}"), format!("{VALUE}-{number}-of-three").into_bytes()));
    let search = builder::secrets::Search::new(&secrets.collect()).unwrap();
    let random = "i=0; while [ $i -lt 256 ]; do cat /big1; i=$((i+1)); done > /big";
    let text = "find / -xdev -type f | head -1; i=0; while [ $i -lt 400 ]; do cp /bin/busybox /b$i; i=$((i+1)); done";
    let small = "i=0; while [ $i -lt 20000 ]; do echo some text of file $i > /f$i; i=$((i+1)); done";
    let mut noise = Vec::new();
    let mut state = 1u64;
    for _ in 0..(2 << 20) / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    std::fs::write(lab.context().join("big1"), noise).unwrap();
    for (name, script) in [("random 512 MiB", random), ("400 binaries", text), ("20,000 files", small)] {
        let built = lab.build(&format!("FROM busybox\nCOPY big1 /big1\nRUN {script}\n"));
        let layer = lab.store.layers().get(&built.layers.last().unwrap().chain_id).unwrap().unwrap();
        let mut times = [Vec::new(), Vec::new()];
        let mut clock = [Vec::new(), Vec::new()];
        for round in 0..14 {
            let (begin, start) = (processor_seconds(), std::time::Instant::now());
            if round % 2 == 0 {
                storage::diff::diff_id_of(&lab.store, &layer.snapshot).unwrap();
            } else {
                let mut stream = search.stream();
                storage::diff::diff_id_watched(&lab.store, &layer.snapshot, &mut |piece| stream.push(piece))
                    .unwrap();
                assert_eq!(stream.finish(), None);
            }
            times[round % 2].push(processor_seconds() - begin);
            clock[round % 2].push(start.elapsed().as_secs_f64());
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            (times[0], times[times.len() / 2])
        };
        let ((fast, without), (fast_with, with)) = (median(&mut times[0]), median(&mut times[1]));
        let [alone, watched] = clock.map(|mut times| median(&mut times).0);
        println!(
            "{name}: {without:.3} s without, {with:.3} s with: {:+.1} % (best of 7: {:+.1} %); by the clock {:+.1} %",
            (with / without - 1.0) * 100.0,
            (fast_with / fast - 1.0) * 100.0,
            (watched / alone - 1.0) * 100.0
        );
    }
}
