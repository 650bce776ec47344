//! Launches that fail say why and leave nothing.

use crate::lab::{Lab, Test, parse, spec};
use runtime::{CgroupSetup, Error, Stage, Status};
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = &[
    ("failures::commands", commands),
    ("failures::stages", stages),
    ("failures::nothing_is_left", nothing_is_left),
];

fn error_of(lab: &Lab, value: &Value) -> Error {
    let spec = parse(value);
    let mut launch = lab.launch(&spec);
    launch.cgroup = CgroupSetup::Path(format!("davit-test/{}", launch.id).into());
    let (run_dir, id) = (launch.run_dir.clone(), launch.id.clone());
    let error = lab.spawner.launch(launch).expect_err("must fail");
    let left: Vec<_> = std::fs::read_dir(&run_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "attach.sock"), "{left:?}");
    assert_eq!(runtime::state(&run_dir).unwrap().status, Status::Created);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        let group = hierarchy.unwrap().path().join("davit-test").join(&id);
        assert!(!group.exists(), "{} is left", group.display());
    }
    error
}

fn commands(lab: &Lab) {
    use std::os::unix::fs::PermissionsExt;
    let of = |command: &str| error_of(lab, &spec(&[command]));
    assert!(matches!(of("nonexistent"), Error::CommandNotFound { .. }));
    assert!(matches!(of("/bin/nonexistent"), Error::CommandNotFound { .. }));
    assert!(matches!(of(""), Error::CommandNotFound { .. }));
    assert!(matches!(of("/etc"), Error::CommandNotRunnable { .. }));
    assert!(matches!(of("/etc/notexec"), Error::CommandNotRunnable { .. }));
    for (name, content) in [("noformat", "\u{1}\u{2}"), ("nointerpreter", "#!/missing\n")] {
        let path = lab.root().join("bin").join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(
        matches!(of("noformat"), Error::CommandNotRunnable { source, .. } if source.raw_os_error() == Some(8))
    );
    assert!(matches!(of("nointerpreter"), Error::CommandNotFound { .. }));
}

fn stages(lab: &Lab) {
    let stage_of = |value: &Value| match error_of(lab, value) {
        Error::Stage { stage, .. } => stage,
        other => panic!("{other}"),
    };
    let mut value = spec(&["true"]);
    value["process"]["cwd"] = json!("/missing");
    assert_eq!(stage_of(&value), Stage::Directory);
    let mut value = spec(&["true"]);
    value["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/x", "type": "bind", "source": "/nonexistent/source", "options": ["rbind"]
    }));
    let error = error_of(lab, &value);
    assert!(error.to_string().contains("/nonexistent/source"), "{error}");
    let mut value = spec(&["true"]);
    value["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": ["nosuchoption=1"]
    }));
    assert_eq!(stage_of(&value), Stage::Mount);
    let mut value = spec(&["true"]);
    value["linux"]["sysctl"] = json!({ "net.no.such": "1" });
    assert_eq!(stage_of(&value), Stage::Sysctl);
    let mut value = spec(&["true"]);
    value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "pid" }));
    assert!(matches!(error_of(lab, &value), Error::InvalidSpec { .. }));
    let mut value = spec(&["true"]);
    value["linux"]["namespaces"][1] = json!({ "type": "network", "path": "/proc/self/ns/uts" });
    assert_eq!(stage_of(&value), Stage::Namespace);
}

fn nothing_is_left(lab: &Lab) {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let before = mounts();
    for _ in 0..5 {
        error_of(lab, &spec(&["nonexistent"]));
        lab.run(&["true"]);
    }
    assert!(mounts() <= before + 2, "mounts are left");
}
