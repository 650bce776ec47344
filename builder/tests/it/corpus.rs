//! The Containerfiles of `testdata/containerfiles`: each is named by the rule that it covers. Beside a valid one lies
//! the tree that it means, beside an invalid one what is said about it. `UPDATE_GOLDEN=1` writes them anew.

use crate::tree;
use builder::parse::parse;
use std::path::{Path, PathBuf};

/// The files of a directory, name and text, in order.
pub(crate) fn files(directory: &str) -> Vec<(String, String)> {
    let path = root().join(directory);
    let entries = std::fs::read_dir(&path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let names = names.into_iter().filter_map(|name| Some(name.strip_suffix(".Containerfile")?.to_owned()));
    names
        .map(|name| {
            let text = std::fs::read_to_string(path.join(format!("{name}.Containerfile"))).unwrap();
            (name, text)
        })
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/containerfiles")
}

/// Compares with a file, or writes it; returns what differs.
fn golden(path: &Path, actual: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, actual).unwrap();
        return None;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    (expected != actual)
        .then(|| format!("{}\n--- expected\n{expected}\n--- actual\n{actual}\n", path.display()))
}

#[test]
fn valid_files_mean_what_stands_beside_them() {
    let files = files("valid");
    assert!(files.len() >= 60, "only {} files", files.len());
    let mut wrong = Vec::new();
    for (name, text) in files {
        let parsed = parse("Containerfile", &text);
        let actual = match parsed.into_result() {
            Ok(file) => tree::draw(&file),
            Err(report) => format!("{report}\n"),
        };
        wrong.extend(golden(&root().join(format!("valid/{name}.tree")), &actual));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn invalid_files_are_explained() {
    let mut wrong = Vec::new();
    for (name, text) in files("invalid") {
        let actual = match parse("Containerfile", &text).into_result() {
            Ok(_) => "no error\n".to_owned(),
            Err(report) => format!("{report}\n"),
        };
        assert_ne!(actual, "no error\n", "{name}");
        wrong.extend(golden(&root().join(format!("invalid/{name}.txt")), &actual));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
