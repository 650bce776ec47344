//! Errors of the command line: what Podman or Docker has and davit has not built yet is refused by that name.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands and flags of Podman 5.8 and Docker 28: command, long flag or `-`, short flag or `-`.
const KNOWN: &str = include_str!("known.tsv");

/// What to print for a command line that cannot be read, and the hint below it.
pub(crate) fn explain(error: &clap::Error, words: &[String]) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let ContextValue::String(flag) = error.get(ContextKind::InvalidArg)? else { return None };
            let command = command_path(words);
            let name = flag.split('=').next().unwrap_or(flag);
            is_known_flag(&command, name)
                .then(|| format!("the flag {name} of davit {command} is not built yet, so it is refused rather than ignored"))
        }
        ErrorKind::InvalidSubcommand => {
            let ContextValue::String(last) = error.get(ContextKind::InvalidSubcommand)? else { return None };
            let path = command_path(words);
            let name = if path.split(' ').any(|word| word == last) {
                path
            } else {
                format!("{path} {last}").trim().to_owned()
            };
            is_known_command(&name).then(|| format!("the command davit {name} is not built yet"))
        }
        _ => None,
    }
}

fn lines() -> impl Iterator<Item = [&'static str; 3]> {
    KNOWN.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut cells = line.split('\t');
        Some([cells.next()?, cells.next()?, cells.next()?])
    })
}

fn is_known_command(name: &str) -> bool {
    lines().any(|[command, ..]| command == name)
}

fn is_known_flag(command: &str, flag: &str) -> bool {
    // `container run` is listed as `run`, and `image build` as `build`.
    let last = command.rsplit(' ').next().unwrap_or(command);
    lines()
        .any(|[listed, long, short]| (listed == command || listed == last) && (long == flag || short == flag))
}

/// The words of a command line that name the command: the leading ones that a known command starts with.
fn command_path(words: &[String]) -> String {
    let mut path = String::new();
    for word in words.iter().skip(1) {
        if word.starts_with('-') {
            if path.is_empty() {
                continue;
            }
            break;
        }
        let longer = if path.is_empty() { word.clone() } else { format!("{path} {word}") };
        if is_known_command(&longer) {
            path = longer;
        } else if !path.is_empty() {
            break;
        }
    }
    if path.is_empty() { "davit".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use super::*;

    /// `docs/coverage.md`, from the table of what is known and the commands as they are.
    fn coverage() -> String {
        let tree = super::super::whole_command();
        let mut commands = Vec::new();
        let mut flags: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for [command, long, _] in lines() {
            let path = if command == "davit" { "" } else { command };
            let found =
                path.split_whitespace().try_fold(&tree, |command, name| command.find_subcommand(name));
            match (found, long) {
                (None, "-") => commands.push(command),
                (Some(found), name) if name != "-" => {
                    let name = name.trim_start_matches("--");
                    let has = found.get_arguments().any(|arg| {
                        arg.get_long() == Some(name)
                            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
                    });
                    if !has {
                        flags.entry(command).or_default().push(name);
                    }
                }
                _ => {}
            }
        }
        let mut text = "# Coverage\n\nWhat Podman 5.8 and Docker 28 have and davit refuses by name, because it is not built \
                        yet. This page is\nwritten by a test of the command line (`DAVIT_WRITE_DOCS=1 cargo test -p davit`).\n\n## Commands\n\n"
            .to_owned();
        for command in commands {
            writeln!(text, "- `davit {command}`").unwrap();
        }
        text.push_str("\n## Flags\n\n");
        for (command, names) in flags {
            let name = if command == "davit" { "davit".to_owned() } else { format!("davit {command}") };
            let names: Vec<String> = names.into_iter().map(|name| format!("`--{name}`")).collect();
            writeln!(text, "- `{name}`: {}", names.join(" ")).unwrap();
        }
        text
    }

    #[test]
    fn the_coverage_page_is_true() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/coverage.md");
        let text = coverage();
        if std::env::var_os("DAVIT_WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap_or_default() == text,
            "docs/coverage.md is out of date: DAVIT_WRITE_DOCS=1 cargo test -p davit writes it"
        );
    }

    fn explained(words: &[&str]) -> Option<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let error = super::super::command().try_get_matches_from(&words).unwrap_err();
        explain(&error, &words)
    }

    #[test]
    fn flags_that_are_not_built_are_named() {
        let text = explained(&["davit", "run", "--pod", "all", "img"]).unwrap();
        assert!(text.contains("--pod of davit run is not built yet"), "{text}");
        let text = explained(&["davit", "--log-level=debug", "build", "--sbom=x", "."]).unwrap();
        assert!(text.contains("--sbom of davit build"), "{text}");
    }

    #[test]
    fn commands_that_are_not_built_are_named() {
        let text = explained(&["davit", "kube", "play", "x.yaml"]).unwrap();
        assert!(text.contains("davit kube"), "{text}");
        let text = explained(&["davit", "image", "scp", "x"]).unwrap();
        assert!(text.contains("davit image scp"), "{text}");
    }

    #[test]
    fn nonsense_is_left_to_clap() {
        assert!(explained(&["davit", "run", "--nonsense", "img"]).is_none());
        assert!(explained(&["davit", "nonsense"]).is_none());
    }
}
