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
    use super::*;

    fn explained(words: &[&str]) -> Option<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let error = super::super::command().try_get_matches_from(&words).unwrap_err();
        explain(&error, &words)
    }

    #[test]
    fn flags_that_are_not_built_are_named() {
        let text = explained(&["davit", "run", "--gpus", "all", "img"]).unwrap();
        assert!(text.contains("--gpus of davit run is not built yet"), "{text}");
        let text = explained(&["davit", "--log-level=debug", "build", "--squash", "."]).unwrap();
        assert!(text.contains("--squash of davit build"), "{text}");
    }

    #[test]
    fn commands_that_are_not_built_are_named() {
        let text = explained(&["davit", "kube", "play", "x.yaml"]).unwrap();
        assert!(text.contains("davit kube"), "{text}");
        let text = explained(&["davit", "image", "tree", "x"]).unwrap();
        assert!(text.contains("davit image tree"), "{text}");
    }

    #[test]
    fn nonsense_is_left_to_clap() {
        assert!(explained(&["davit", "run", "--nonsense", "img"]).is_none());
        assert!(explained(&["davit", "nonsense"]).is_none());
    }
}
