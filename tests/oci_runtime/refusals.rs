//! What cannot be done is refused by the field's name, and what is not known is told.

use serde_json::{Value, json};

use super::lab::{Lab, each, mount, namespace};

#[test]
fn fields_that_cannot_be_applied_are_named() {
    let lab = Lab::davit();
    type Edit = fn(&mut Value);
    let cases: &[(&str, Edit)] = &[
        ("ociVersion", |config| config["ociVersion"] = json!("2.0.0")),
        ("root.path", |config| config["root"]["path"] = json!("/etc/passwd")),
        ("process.cwd", |config| config["process"]["cwd"] = json!("relative")),
        ("process.args", |config| config["process"]["args"] = json!([])),
        ("hostname", |config| config["linux"]["namespaces"] = json!([{ "type": "mount" }])),
        ("linux.uidMappings", |config| {
            config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }),
        ("linux.uidMappings", |config| namespace(config, json!({ "type": "user" }))),
        ("linux.intelRdt", |config| config["linux"]["intelRdt"] = json!({ "closID": "x" })),
        ("linux.mountLabel", |config| config["linux"]["mountLabel"] = json!("a:b:c:s0")),
        ("linux.rootfsPropagation", |config| config["linux"]["rootfsPropagation"] = json!("sideways")),
        ("linux.personality.flags", |config| {
            config["linux"]["personality"] = json!({ "domain": "LINUX", "flags": ["X"] });
        }),
        ("linux.memoryPolicy.nodes", |config| {
            config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_BIND", "nodes": "x" });
        }),
        ("process.ioPriority.priority", |config| {
            config["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 });
        }),
        ("process.apparmorProfile", |config| config["process"]["apparmorProfile"] = json!("x")),
        ("process.selinuxLabel", |config| config["process"]["selinuxLabel"] = json!("a:b:c:s0")),
        ("mounts: /a: option \"sync\"", |config| {
            mount(
                config,
                json!({ "destination": "/a", "type": "bind", "source": "/etc", "options": ["bind", "sync"] }),
            );
        }),
        ("mount /a: mount tmpfs", |config| {
            mount(
                config,
                json!({ "destination": "/a", "type": "tmpfs", "source": "t", "options": ["flavour=sweet"] }),
            );
        }),
        ("mounts: /a: uidMappings", |config| {
            mount(
                config,
                json!({ "destination": "/a", "type": "bind", "source": "/etc", "options": ["bind", "idmap"],
                "uidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }] }),
            );
        }),
        ("mounts: /a: an id-mapped mount", |config| {
            mount(
                config,
                json!({ "destination": "/a", "type": "bind", "source": "/etc", "options": ["bind", "idmap"] }),
            );
        }),
    ];
    for (field, edit) in cases {
        let module = match *field {
            "linux.mountLabel" | "process.selinuxLabel" => "/sys/fs/selinux/enforce",
            "process.apparmorProfile" => "/sys/module/apparmor",
            _ => "",
        };
        if !module.is_empty() && std::path::Path::new(module).exists() {
            continue;
        }
        let done = lab.run("true", edit);
        done.fails(1, field);
    }
    assert_eq!(lab.verb(["list", "-q"]).ok(), "");
}

#[test]
fn unknown_properties_have_no_effect_but_are_told() {
    each(|lab| {
        let done = lab.run("echo ran", |config| {
            config["linux"]["future"] = json!({ "a": 1 });
            config["process"]["colour"] = json!("red");
        });
        assert_eq!(done.ok(), "ran", "the specification wants them passed over");
        if lab.ours {
            assert!(
                done.stderr.contains("linux.future") && done.stderr.contains("process.colour"),
                "{done:?}"
            );
        }
    });
}

#[test]
fn failures_go_to_the_log_too() {
    each(|lab| {
        let bundle = lab.bundle("", |config| config["process"]["args"] = json!(["nope"]));
        let log = lab.path("log");
        let args =
            ["--log", log.to_str().unwrap(), "--log-format", "json", "run", "-b", bundle.to_str().unwrap()];
        let done = lab.verb(args.iter().copied().chain([lab.id().as_str()]));
        assert_eq!(done.code, 1);
        if lab.is_crun() {
            // crun 1.28 writes text all the same
            return;
        }
        let text = std::fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        assert!(last["msg"].as_str().unwrap().contains("not found in $PATH"), "{text}");
    });
}

#[test]
fn missing_and_broken_bundles() {
    each(|lab| {
        assert_eq!(lab.verb(["run", "-b", "/none", "x"]).code, 1);
        let bundle = lab.bundle("true", |_| {});
        std::fs::write(bundle.join("config.json"), "{").unwrap();
        assert_eq!(lab.verb(["run", "-b", bundle.to_str().unwrap(), "x"]).code, 1);
        std::fs::write(bundle.join("config.json"), "{}").unwrap();
        assert_eq!(lab.verb(["run", "-b", bundle.to_str().unwrap(), "x"]).code, 1);
    });
}

#[test]
fn features_and_version() {
    let lab = Lab::davit();
    let features: Value = serde_json::from_str(&lab.verb(["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    for list in
        ["/hooks", "/mountOptions", "/linux/namespaces", "/linux/capabilities", "/linux/seccomp/actions"]
    {
        let list = features.pointer(list).and_then(Value::as_array).unwrap_or_else(|| panic!("{list}"));
        assert!(
            !list.is_empty() && list.is_sorted_by_key(|value| value.as_str().unwrap().to_owned())
                || list.len() == 6
        );
    }
    assert!(lab.verb(["--version"]).ok().contains("spec: 1."));
}

#[test]
fn what_spec_writes_runs() {
    each(|lab| {
        let bundle = lab.path("written");
        std::fs::create_dir(&bundle).unwrap();
        lab.verb(["spec", "-b", bundle.to_str().unwrap()]).ok();
        assert_ne!(lab.verb(["spec", "-b", bundle.to_str().unwrap()]).code, 0, "written over");
        let path = bundle.join("config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", "grep NoNewPrivs /proc/self/status"]);
        config["root"]["path"] = json!(super::lab::rootfs());
        std::fs::write(&path, config.to_string()).unwrap();
        let done = lab.verb(["run", "-b", bundle.to_str().unwrap(), &lab.id()]);
        assert_eq!(done.ok(), "NoNewPrivs:\t1");
    });
}
