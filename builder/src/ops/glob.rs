//! Patterns of COPY and ADD: Go's `filepath.Match`, component by component.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Whether a path component holds an unescaped `*`, `?` or `[`.
pub(crate) fn is_pattern(component: &str) -> bool {
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether a pattern matches a name; neither holds a slash. A malformed pattern (an open `[`, a `\` at the end)
/// matches nothing.
pub(crate) fn matches(pattern: &str, name: &OsStr) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // As in Go, each byte that is not UTF-8 counts as one character.
    let chunks = name.as_bytes().utf8_chunks();
    let name: Vec<char> = chunks
        .flat_map(|chunk| {
            chunk.valid().chars().chain(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER))
        })
        .collect();
    // After a mismatch, the last star takes one more character; earlier stars need never be asked again.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        let step = if n < name.len() { one(&pattern[p..], name[n]) } else { None };
        if let Some(length) = step {
            p += length;
            n += 1;
        } else if p == pattern.len() && n == name.len() {
            return true;
        } else {
            match star {
                Some((after, taken)) if taken < name.len() => {
                    p = after;
                    n = taken + 1;
                    star = Some((after, taken + 1));
                }
                _ => return false,
            }
        }
    }
}

/// Matches one character against the element at the pattern's start: the element's length where it matches.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => class(pattern, c),
        literal => (*literal == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    let mut ranges = 0;
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            return (found != negated).then_some(at + 1);
        }
        let low = class_char(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            class_char(pattern, &mut at)?
        } else {
            low
        };
        found |= low <= c && c <= high;
        ranges += 1;
    }
}

fn class_char(pattern: &[char], at: &mut usize) -> Option<char> {
    let mut c = *pattern.get(*at)?;
    if c == '-' || c == ']' {
        return None;
    }
    if c == '\\' {
        *at += 1;
        c = *pattern.get(*at)?;
    }
    *at += 1;
    Some(c)
}

/// Whether a pattern of components, `**` standing for any number of them, matches a path of components.
pub(crate) fn matches_path(pattern: &[&str], path: &[&OsStr]) -> bool {
    let (mut p, mut n) = (0, 0);
    // As above: only the last `**` may have to take more.
    let mut stars: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&"**") {
            p += 1;
            stars = Some((p, n));
            continue;
        }
        match (pattern.get(p), path.get(n)) {
            (None, None) => return true,
            (Some(part), Some(name)) if matches(part, name) => {
                p += 1;
                n += 1;
            }
            _ => match stars {
                Some((after, taken)) if taken < path.len() => {
                    p = after;
                    n = taken + 1;
                    stars = Some((after, n));
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_matches() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("[]a]", "]", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[a-b-c]", "a", false),
            ("[", "a", false),
            ("[^", "a", false),
            ("[^bc", "a", false),
            ("a[", "ab", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, OsStr::new(name)), expected, "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn double_stars_cross_components() {
        let fits = |pattern: &str, path: &str| {
            let pattern: Vec<&str> = pattern.split('/').collect();
            matches_path(&pattern, &path.split('/').map(OsStr::new).collect::<Vec<_>>())
        };
        assert!(fits("**/*.go", "a/b/c.go"));
        assert!(fits("**/*.go", "c.go"));
        assert!(fits("a/**", "a/b/c"));
        assert!(fits("**/b/**/b", "a/b/b/c/b"));
        assert!(!fits("a/*", "a/b/c"));
        assert!(!fits("**/b/**/x", "a/b/b/c/b"));
        // Not every way to share the path out among the stars is tried.
        assert!(!fits(&format!("{}b", "**/a/".repeat(30)), &"a/".repeat(1000)));
    }
}
