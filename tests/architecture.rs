//! The import table of `docs/architecture.md`: a new edge between our crates fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate and the crates of ours that it may import (development dependencies are free).
const ALLOWED: [(&str, &[&str]); 9] = [
    ("oci", &[]),
    ("sys", &[]),
    ("registry", &["oci", "sys"]),
    ("storage", &["oci", "sys"]),
    ("builder", &["oci", "sys", "storage"]),
    ("runtime", &["sys"]),
    ("engine", &["oci", "sys", "registry", "storage", "builder", "runtime"]),
    ("api", &["engine", "oci", "sys"]),
    ("davit", &["api", "engine", "oci", "sys"]),
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "every crate of the workspace stands in the table");
    for package in packages {
        let name = package["name"].as_str().expect("name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let target = dependency["name"].as_str().expect("name");
            if dependency["kind"].is_null() && ours.contains(target) {
                assert!(allowed[name].contains(&target), "{name} must not import {target}");
            }
        }
    }
}

#[test]
fn only_sys_contains_unsafe_code() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned();
    for name in ["registry/oci", "registry", "storage", "builder", "runtime", "engine", "api"] {
        let path = root.join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&path).expect("lib.rs");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{} does not forbid unsafe code", path.display());
    }
    let main = std::fs::read_to_string(root.join("cli/src/main.rs")).expect("main.rs");
    assert!(main.contains("#![forbid(unsafe_code)]"), "cli/src/main.rs does not forbid unsafe code");
}
