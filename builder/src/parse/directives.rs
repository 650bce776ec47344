//! `# key=value` lines at the top of a file.

use super::source::{Span, Spanned};
use crate::diagnostic::Diagnostic;
use crate::expand::Escape;
use crate::instruction::Directives;

/// The directives, and the offset of the file's first line (behind a byte order mark).
pub(super) fn read(text: &str, diagnostics: &mut Vec<Diagnostic>) -> (Directives, usize) {
    let mut directives = Directives::default();
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut position = start;
    let mut escape_seen = false;
    for (number, line) in text[start..].split_inclusive('\n').enumerate() {
        let line_start = position;
        position += line.len();
        if number == 0 && line.starts_with("#!") {
            continue;
        }
        let Some((key, value)) = directive(line, line_start) else { break };
        let repeated = match key.node.as_str() {
            "syntax" => directives.syntax.replace(value).is_some(),
            "check" => directives.check.replace(value).is_some(),
            "escape" => {
                match value.node.as_str() {
                    "\\" => directives.escape = Escape::Backslash,
                    "`" => directives.escape = Escape::Backtick,
                    other => diagnostics.push(
                        Diagnostic::error(value.span, format!("`{other}` cannot be the escape character"))
                            .with_hint("it is either `\\` or `` ` ``"),
                    ),
                }
                std::mem::replace(&mut escape_seen, true)
            }
            // An unknown one is a comment, and comments end the directives.
            _ => break,
        };
        if repeated {
            diagnostics.push(Diagnostic::error(
                key.span,
                format!("the directive `{}` is given more than once", key.node),
            ));
        }
    }
    (directives, start)
}

fn directive(line: &str, start: usize) -> Option<(Spanned<String>, Spanned<String>)> {
    let offset = |part: &str| start + (part.as_ptr() as usize - line.as_ptr() as usize);
    let spanned = |part: &str| Span::new(offset(part), offset(part) + part.len());
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let first = key.chars().next()?;
    if !first.is_ascii_alphabetic()
        || !key.chars().all(|char| char.is_ascii_alphanumeric())
        || value.is_empty()
    {
        return None;
    }
    Some((Spanned::new(key.to_lowercase(), spanned(key)), Spanned::new(value.to_owned(), spanned(value))))
}
