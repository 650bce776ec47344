//! Reading the cases.

use std::collections::BTreeMap;
use std::path::Path;

/// What buildah 1.28 makes of a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Peer {
    /// The same image, or a failure too.
    #[default]
    Same,
    /// Something else.
    Differs,
    /// Nothing: the language of the case is newer.
    Cannot,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) args: Vec<String>,
    pub(super) ignore: Option<String>,
    pub(super) peer: Peer,
    pub(super) fails: Option<String>,
    pub(super) expected: Vec<String>,
    pub(super) text: String,
}

impl Case {
    /// Arguments of a build, for both; files that they need are put into a directory.
    pub(super) fn arguments(&self, files: &Path, context: &Path) -> Vec<String> {
        let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
        std::fs::write(path("Containerfile"), &self.text).unwrap();
        let mut arguments = vec!["-f".to_owned(), path("Containerfile")];
        if let Some(ignore) = &self.ignore {
            std::fs::write(path("ignore"), ignore).unwrap();
            arguments.extend(["--ignorefile".to_owned(), path("ignore")]);
        }
        arguments.extend(self.args.iter().cloned());
        arguments.push(context.to_str().unwrap().to_owned());
        arguments
    }
}

/// All cases of a directory.
pub(super) fn read(directory: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (file, text) in files(directory) {
        for line in text.split_inclusive('\n') {
            if let Some(name) = line.strip_prefix("## ") {
                cases.push(Case { name: name.trim().to_owned(), file: file.clone(), ..Case::default() });
                continue;
            }
            let Some(case) = cases.last_mut() else { continue };
            if let Some(expected) = line.strip_prefix("#= ") {
                case.expected.push(expected.trim_end_matches('\n').to_owned());
            } else if let Some(setting) = line.strip_prefix("#! ") {
                let (key, value) =
                    setting.trim().split_once(": ").unwrap_or_else(|| panic!("{file}: {line}"));
                match key {
                    "args" => case.args = value.split(' ').map(str::to_owned).collect(),
                    "ignore" => case.ignore = Some(value.replace(' ', "\n") + "\n"),
                    "fails" => case.fails = Some(value.to_owned()),
                    "buildah" if value.starts_with("differs: ") => case.peer = Peer::Differs,
                    "buildah" if value.starts_with("cannot: ") => case.peer = Peer::Cannot,
                    _ => panic!("{file}: {line}"),
                }
            } else {
                case.text.push_str(line);
            }
        }
    }
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1], "two cases have the same name");
    }
    cases
}

fn files(directory: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "cases") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// Writes answers into the cases.
pub(super) fn write(directory: &Path, answers: &BTreeMap<String, Vec<String>>) {
    for (name, text) in files(directory) {
        let mut new = String::new();
        let mut answer: Option<&Vec<String>> = None;
        for line in text.split_inclusive('\n') {
            if let Some(case) = line.strip_prefix("## ") {
                answer = answers.get(case.trim());
            }
            if line.starts_with("#= ") && answers.contains_key(current(&new)) {
                continue;
            }
            let header = line.starts_with("## ") || line.starts_with("#! ");
            if !header && let Some(answer) = answer.take() {
                for line in answer {
                    new.push_str(&format!("#= {line}\n"));
                }
            }
            new.push_str(line);
        }
        std::fs::write(directory.join(name), new).unwrap();
    }
}

/// The case that a text ends in.
fn current(text: &str) -> &str {
    let from = text.rfind("## ").map_or(text.len(), |at| at + 3);
    text[from..].lines().next().unwrap_or_default().trim()
}
