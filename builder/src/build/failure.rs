//! What a failed step tells: the instruction with its lines, the stage, the command, how it ended, its last words.

use super::BuildRequest;
use crate::diagnostic::{Diagnostic, Report, with_causes};
use crate::graph::Place;
use crate::ops;
use crate::parse::{self, Source, Span};
use std::fmt::Write as _;
use std::sync::Arc;

/// Longest command line that is repeated, in characters.
const COMMAND: usize = 500;

/// The failure of a step, to be drawn beside its instruction.
pub(super) fn report(request: &BuildRequest<'_>, place: &Place, error: &ops::Error) -> Report {
    let (source, span) = find(&request.containerfile_name, &request.containerfile, place);
    let keyword = place.text.split_whitespace().next().unwrap_or("the step");
    let message = format!("{keyword} failed: {}", with_causes(error));
    let mut diagnostic = Diagnostic::error(span, message).with_all_lines();
    if place.step > 0 {
        let label = format!("stage {}, step {} of {}", place.stage, place.step, place.steps);
        diagnostic = diagnostic.with_label(label);
    }
    if let ops::Error::Exit { argv, last_lines, exit } = error {
        // What the line shows already is not said again.
        let drawn = source.slice(span).split_once(char::is_whitespace).map(|(_, text)| text.trim());
        if argv.last().map(String::as_str) != drawn {
            diagnostic = diagnostic.with_note(format!("the command was: {}", command_line(argv)));
        } else if let Some((_, shell)) = argv.split_last() {
            diagnostic = diagnostic.with_note(format!("run by: {}", command_line(shell)));
        }
        let mut note = match last_lines.len() {
            0 => "it wrote nothing".to_owned(),
            1 => "the last line that it wrote:".to_owned(),
            count => format!("the last {count} lines that it wrote:"),
        };
        for line in last_lines {
            let _ = write!(note, "\n  {line}");
        }
        diagnostic = diagnostic.with_note(note);
        if exit.oom_killed {
            diagnostic = diagnostic.with_hint("give the steps more with --memory");
        }
        if exit.disk_full {
            diagnostic = diagnostic.with_note("the disk is full: no space is left where the layers are kept");
            diagnostic = diagnostic.with_hint("make room, for instance with `davit system prune --build`");
        }
    }
    Report::new(source, vec![diagnostic])
}

/// The warning about a layer that is not what the Containerfile makes.
pub(super) fn changed_by_hand(place: &Place) -> String {
    format!(
        "the layer of `{}` (line {}) was changed by hand: neither it nor what was built after it is in the cache",
        place.text, place.line
    )
}

/// The place of an instruction: found again, because nothing but a failure needs it.
fn find(name: &str, text: &str, place: &Place) -> (Arc<Source>, Span) {
    let nowhere = || (Arc::new(Source::new(name, text)), Span::NOWHERE);
    if place.line == 0 {
        return nowhere();
    }
    let Ok(file) = parse::parse(name, text).into_result() else { return nowhere() };
    let spans = file.stages.iter().flat_map(|stage| {
        std::iter::once(stage.span).chain(stage.instructions.iter().map(|statement| statement.span))
    });
    let mut spans = spans.filter(|span| file.source.line(span.start) == place.line);
    let span = spans.next().unwrap_or(Span::NOWHERE);
    (file.source.clone(), span)
}

/// Words as one would type them.
fn command_line(argv: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.chars().all(|char| char.is_ascii_alphanumeric() || "-_./=:@,+%".contains(char))
    };
    let words: Vec<String> = argv
        .iter()
        .map(|word| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) })
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(COMMAND) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::command_line;

    #[test]
    fn commands_are_quoted() {
        let line = |words: &[&str]| command_line(&words.iter().map(|&word| word.into()).collect::<Vec<_>>());
        assert_eq!(line(&["/bin/sh", "-c", "echo it's"]), "/bin/sh -c 'echo it'\\''s'");
        assert_eq!(line(&["a", "", "b=c"]), "a '' b=c");
        assert_eq!(line(&["é".repeat(600).as_str()]).chars().count(), 503);
    }
}
