//! History entries in the form that `BuildKit` writes (checked against images made by its 1.26 frontend).

use oci::History;
use std::fmt::Write as _;
use std::time::Duration;

/// Remark of every entry.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// An entry; of those with a layer, COPY, ADD and RUN are marked.
pub(super) fn entry(text: &str, layer: bool, marked: bool) -> History {
    let created_by = if marked { format!("{text} # buildkit") } else { text.to_owned() };
    History {
        created: None,
        created_by: Some(created_by),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer: !layer,
    }
}

/// Strings as Go prints a list of them with `%q`.
pub(super) fn quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A string as Go prints it with `%q`.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list as Go prints it with `%v`.
pub(super) fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// A duration as Go prints it.
pub(super) fn duration(value: Duration) -> String {
    let nanos = value.as_nanos();
    let fraction = |whole: u128, unit: u128, name: &str| {
        let mut text = whole.to_string();
        let rest = nanos % unit;
        if rest > 0 {
            let width = unit.to_string().len() - 1;
            let digits = format!("{rest:0width$}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        text.push_str(name);
        text
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos / 1_000, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos / 1_000_000, 1_000_000, "ms"),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let mut text = String::new();
            if hours > 0 {
                text.push_str(&format!("{hours}h"));
            }
            if hours > 0 || minutes > 0 {
                text.push_str(&format!("{minutes}m"));
            }
            text.push_str(&fraction(seconds % 60, 1_000_000_000, "s"));
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (nanos, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000_000, "1.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn lists_as_go_prints_them() {
        let items = ["sh".to_owned(), "-c".to_owned(), "echo \"a\"\n".to_owned()];
        assert_eq!(quoted_list(&items), r#"["sh" "-c" "echo \"a\"\n"]"#);
        assert_eq!(plain_list(&items[..2]), "[sh -c]");
    }
}
