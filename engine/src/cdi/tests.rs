#![allow(clippy::unwrap_used)]
use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self { dir }
    }

    fn edits(&self, names: &[&str]) -> Result<Edits> {
        let places =
            [self.dir.path().join("low"), self.dir.path().join("missing"), self.dir.path().join("high")];
        edits(&places, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }
}

const JSON: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/net", "annotations": {"a": "b"},
    "devices": [
        {"name": "null", "containerEdits": {"deviceNodes": [{"path": "/dev/mynull", "hostPath": "/dev/null", "type": "c",
            "major": 1, "minor": 3, "permissions": "rw"}], "env": ["ONE=1"]}},
        {"name": "0", "containerEdits": {"mounts": [{"hostPath": "/usr", "containerPath": "/opt/usr",
            "options": ["ro", "nosuid", "bind"]}], "additionalGids": [5, 0, 5]}}],
    "containerEdits": {"env": ["ALL=yes"]}}"#;

const YAML: &str = "cdiVersion: 0.5.0\nkind: vendor.com/net\ndevices:\n- name: \"0\"\n  containerEdits:\n    hooks:\n    - hookName: createContainer\n      path: /bin/true\n      args: [\"true\", x]\ncontainerEdits:\n  env:\n  - HIGH=1\n";

#[test]
fn names() {
    for name in ["nvidia.com/gpu=all", "a/b=0", "v-1.x/c_d=GPU-1:2.3"] {
        assert!(is_name(name), "{name}");
    }
    for text in [
        "/dev/null",
        "/dev/a=b",
        "a/b",
        "a/b=",
        "=x",
        "a=b",
        "1a/b=c",
        "a./b=c",
        "a/b=-c",
        "a/b/c=d",
        "a/b=c d",
    ] {
        assert!(!is_name(text), "{text}");
    }
}

#[test]
fn devices_are_described_once_and_in_order() {
    let place = Place::new(&[("low/a.json", JSON), ("low/broken.json", "{"), ("low/notes.txt", "?")]);
    let found = place.edits(&["vendor.com/net=null", "vendor.com/net=0"]).unwrap();
    assert_eq!(found.env, ["ONE=1", "ALL=yes"]);
    assert_eq!(found.groups, [5]);
    assert_eq!(
        found.devices,
        [Device { source: "/dev/null".into(), destination: "/dev/mynull".into(), permissions: "rw".into() }]
    );
    assert_eq!(
        found.mounts,
        [Mount {
            destination: "/opt/usr".into(),
            kind: MountKind::Bind { source: "/usr".into() },
            options: vec!["ro".into(), "nosuid".into()]
        }]
    );
    let env = found.environment(&["ONE=old".to_owned(), "X=1".to_owned()]);
    assert_eq!(env, ["X=1", "ONE=1", "ALL=yes"]);
    // A later directory comes first, with its own common part; YAML is as good.
    std::fs::create_dir(place.dir.path().join("high")).unwrap();
    std::fs::write(place.dir.path().join("high/x.yaml"), YAML).unwrap();
    let found = place.edits(&["vendor.com/net=null", "vendor.com/net=0"]).unwrap();
    assert_eq!(found.env, ["ONE=1", "ALL=yes", "HIGH=1"]);
    assert_eq!(found.hooks[0].args, ["true", "x"]);
    let error = found.without_hooks("vendor.com/net=0").unwrap_err().to_string();
    assert!(error.contains("/bin/true"), "{error}");
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let with = |edits: &str| {
        let text = format!(
            r#"{{"cdiVersion":"0.5.0","kind":"v/c","devices":[{{"name":"d","containerEdits":{edits}}}]}}"#
        );
        Place::new(&[("low/a.json", &text)]).edits(&["v/c=d"]).unwrap_err().to_string()
    };
    for (edits, want) in [
        (r#"{"intelRdt":{"closID":"x"}}"#, "intelRdt"),
        (r#"{"deviceNodes":[{"path":"/dev/nothing-here"}]}"#, "/dev/nothing-here"),
        (r#"{"deviceNodes":[{"path":"/dev/null","type":"b"}]}"#, "another type"),
        (r#"{"deviceNodes":[{"path":"/dev/null","major":1,"minor":5}]}"#, "another number"),
        (r#"{"deviceNodes":[{"path":"/dev/null","uid":77}]}"#, "another owner"),
        (r#"{"deviceNodes":[{"path":"/etc/passwd"}]}"#, "no device"),
        (r#"{"deviceNodes":[{"path":"/dev/null","permissions":"x"}]}"#, "permissions"),
        (r#"{"mounts":[{"hostPath":"/","containerPath":"x"}]}"#, "no absolute path"),
        (r#"{"mounts":[{"hostPath":"/","containerPath":"/x","type":"ext4"}]}"#, "ext4"),
        (r#"{"env":["x"]}"#, "no variable"),
    ] {
        let error = with(edits);
        assert!(error.contains(want), "{edits}: {error}");
    }
    let twice = Place::new(&[("low/a.json", JSON), ("low/b.json", JSON)]);
    assert!(twice.edits(&["vendor.com/net=0"]).unwrap_err().to_string().contains("both"));
    let none = Place::new(&[]).edits(&["v/c=d"]).unwrap_err().to_string();
    assert!(none.contains("describes it"), "{none}");
    let newer = Place::new(&[("low/a.json", r#"{"cdiVersion":"2.0.0","kind":"v/c","devices":[]}"#)]);
    assert!(newer.edits(&["v/c=d"]).unwrap_err().to_string().contains("2.0.0"));
    assert_eq!(find(&[], "v/c=d").unwrap(), None);
}
