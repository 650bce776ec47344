//! Builds through the engine: real steps, the cache, failures.

use crate::lab::{Lab, Test};
use engine::build::{BuildEvent, BuildReport, BuildRequest, ContainerfileSource};
use engine::options::{Mount, Network};
use engine::{Error, ErrorKind};
use std::path::Path;
use std::sync::Mutex;

pub(crate) const TESTS: &[Test] = &[
    ("builds::stages_steps_and_the_cache", stages_steps_and_the_cache),
    ("builds::a_failing_step", a_failing_step),
    ("builds::mistakes_are_found_before_anything_runs", mistakes_are_found_before_anything_runs),
    ("builds::engine_files_stay_out_of_layers", engine_files_stay_out_of_layers),
    ("builds::mounts_of_the_build", mounts_of_the_build),
    ("builds::containerfile_and_ignore_file_are_found", containerfile_and_ignore_file_are_found),
];

fn build(
    lab: &Lab,
    text: &str,
    change: impl FnOnce(&mut BuildRequest),
) -> (engine::Result<BuildReport>, String) {
    let context = lab.path("context");
    std::fs::create_dir_all(&context).unwrap();
    let mut request = BuildRequest {
        context: engine::build::ContextSource::Directory(context),
        containerfile: ContainerfileSource::Text { name: "Containerfile".into(), text: text.into() },
        tags: vec!["made".into()],
        ..BuildRequest::default()
    };
    change(&mut request);
    let output = Mutex::new(String::new());
    let result = lab.engine.build(&request, &|event| {
        if let BuildEvent::Output { line, .. } = event {
            let mut output = output.lock().unwrap();
            output.push_str(&line);
            output.push('\n');
        }
    });
    (result, output.into_inner().unwrap())
}

fn stages_steps_and_the_cache(lab: &Lab) {
    std::fs::create_dir_all(lab.path("context")).unwrap();
    std::fs::write(lab.path("context/file"), "content\n").unwrap();
    let text = "FROM box AS base\nENV A=1\nRUN echo step $A > /step\nFROM base AS other\nCOPY file /in/\nRUN cat /in/file\n\
                FROM base\nCOPY --from=other /in /out\nUSER app\nWORKDIR /home/app\nCMD [\"sh\", \"-c\", \"cat /step /out/file; id -u; pwd\"]\n";
    let (report, output) = build(lab, text, |request| request.tags = vec!["made".into(), "made:2".into()]);
    let report = report.unwrap();
    assert_eq!(output, "content\n");
    assert_eq!(report.names, ["localhost/made:latest", "localhost/made:2"]);
    assert!(report.ran > 0);
    let request = engine::containers::CreateRequest { image: "made:2".into(), ..lab.create(&[]) };
    assert_eq!(lab.run_with(request, None).unwrap().stdout, "step 1\ncontent\n1000\n/home/app\n");
    let (again, output) = build(lab, text, |_| {});
    let again = again.unwrap();
    assert_eq!((again.id, again.ran, output.as_str()), (report.id, 0, ""));
    std::fs::write(lab.path("context/file"), "changed\n").unwrap();
    let (changed, output) = build(lab, text, |_| {});
    assert!(changed.unwrap().ran > 0);
    assert_eq!(output, "changed\n");
}

fn a_failing_step(lab: &Lab) {
    let (result, output) = build(lab, "FROM box\nRUN echo before; exit 5\n", |_| {});
    let error = result.unwrap_err();
    assert_eq!(error.step_code(), Some(5), "{error}");
    assert_eq!(output, "before\n");
    assert!(!lab.engine.images().exists("made").unwrap());
    assert_eq!(build(lab, "FROM box\nRUN [\"nothing\"]\n", |_| {}).0.unwrap_err().step_code(), Some(127));
    build(lab, "FROM box\nRUN true\n", |_| {}).0.unwrap();
    assert_eq!(lab.leftovers(), [] as [&Path; 0]);
}

fn mistakes_are_found_before_anything_runs(lab: &Lab) {
    let (result, output) = build(lab, "FROM box\nRUN echo ran\nCOPPY a b\n", |_| {});
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::Containerfile { rendered, .. } if rendered.contains("COPY")), "{error}");
    assert_eq!((error.kind(), output.as_str()), (ErrorKind::Invalid, ""));
    let (result, _) =
        build(lab, "FROM localhost/none\n", |request| request.pull = engine::images::PullPolicy::Never);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(build(lab, "FROM box\n", |request| request.tags = vec!["BAD".into()]).0.is_err());
    assert!(
        build(lab, "FROM box\n", |request| request.context =
            engine::build::ContextSource::Directory("/nowhere/at/all".into()))
        .0
        .is_err()
    );
}

fn engine_files_stay_out_of_layers(lab: &Lab) {
    let text = "FROM box\nRUN test -s /etc/hosts && test -s /etc/resolv.conf && touch /made\nRUN ls /sys/class/net | wc -l\n";
    let (report, _) = build(lab, text, |request| request.add_hosts = vec!["there:10.1.2.3".into()]);
    report.unwrap();
    let request = engine::containers::CreateRequest {
        image: "made".into(),
        no_hosts: true,
        ..lab.create(&["sh", "-c", "test -e /etc/hosts || test -e /etc/resolv.conf || ls /made"])
    };
    assert_eq!(lab.run_with(request, None).unwrap().stdout, "/made\n");
    let (report, output) =
        build(lab, "FROM box\nRUN ls /sys/class/net\n", |request| request.network = Network::None);
    report.unwrap();
    assert_eq!(output, "lo\n");
}

fn mounts_of_the_build(lab: &Lab) {
    let host = lab.path("given");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("apt.conf"), "setting\n").unwrap();
    let text = "FROM box AS tools\nRUN mkdir /t && echo tool > /t/x\nFROM box\nRUN cat /given/apt.conf\n\
                RUN --mount=from=tools,source=/t,target=/mnt cat /mnt/x\nRUN test ! -e /mnt/x\n";
    let mount = Mount::parse_volume(&format!("{}:/given:ro", host.display()), Path::new("/")).unwrap();
    let (report, output) = build(lab, text, |request| request.mounts = vec![mount]);
    report.unwrap();
    assert_eq!(output, "setting\ntool\n");
    assert_eq!(lab.leftovers(), [] as [&Path; 0]);
}

fn containerfile_and_ignore_file_are_found(lab: &Lab) {
    let context = lab.path("context");
    std::fs::create_dir_all(&context).unwrap();
    for (name, text) in [
        ("Dockerfile", "FROM box\nCOPY . /all\nRUN ls -1 /all\n"),
        (".dockerignore", "secret\n"),
        ("secret", "x"),
        ("public", "y"),
    ] {
        std::fs::write(context.join(name), text).unwrap();
    }
    let lookup = |request: &mut BuildRequest| request.containerfile = ContainerfileSource::Lookup;
    let (report, output) = build(lab, "", lookup);
    report.unwrap();
    assert!(output.contains("public") && !output.contains("secret"), "{output}");
    std::fs::remove_file(context.join("Dockerfile")).unwrap();
    assert_eq!(build(lab, "", lookup).0.unwrap_err().kind(), ErrorKind::NotFound);
}
