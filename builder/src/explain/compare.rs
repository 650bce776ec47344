//! Two selections of files, or two lists of parts, side by side.

use super::parts::{Part, short, side_by_side};
use super::{Cause, CauseKind};
use crate::cache::listing::{Entry, Listing};
use std::collections::BTreeMap;

/// Most paths that are named for one input.
const MOST_PATHS: usize = 5;

/// Parts that differ.
pub(super) fn parts(old: &[Part], new: &[Part]) -> Vec<Cause> {
    let mut causes = Vec::new();
    let before: BTreeMap<&str, &Part> = old.iter().map(|part| (part.name.as_str(), part)).collect();
    for part in new {
        let known = before.get(part.name.as_str());
        if known.is_some_and(|known| known.digest == part.digest) {
            continue;
        }
        causes.push(Cause {
            kind: part.kind,
            name: part.name.clone(),
            how: known.map(|known| side_by_side(&known.shown, &part.shown)).unwrap_or_default(),
            old: known.map(|known| known.digest.clone()),
            new: Some(part.digest.clone()),
        });
    }
    for part in old {
        if !new.iter().any(|other| other.name == part.name) {
            let old = Some(part.digest.clone());
            causes.push(Cause { old, ..Cause::note(part.kind, &part.name) });
        }
    }
    causes
}

/// Paths that differ; `of` says whose they are, where that is not the build context.
pub(super) fn paths(kind: CauseKind, of: &str, old: &Listing, new: &Listing) -> Vec<Cause> {
    let mut found = Vec::new();
    let (mut left, mut right) = (old.0.iter().peekable(), new.0.iter().peekable());
    let mut count = 0usize;
    let mut note = |cause: Cause| {
        count += 1;
        if found.len() < MOST_PATHS {
            found.push(cause);
        }
    };
    let name = |entry: &Entry| format!("{}{of}", String::from_utf8_lossy(&entry.path));
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(one), Some(other)) => one.path.cmp(&other.path),
        };
        match order {
            std::cmp::Ordering::Less => {
                if let Some(gone) = left.next() {
                    let cause = Cause::note(kind, &name(gone));
                    note(Cause { how: "removed".into(), old: Some(short(&gone.digest)), ..cause });
                }
            }
            std::cmp::Ordering::Greater => {
                if let Some(added) = right.next() {
                    let cause = Cause::note(kind, &name(added));
                    note(Cause { how: "added".into(), new: Some(short(&added.digest)), ..cause });
                }
            }
            std::cmp::Ordering::Equal => {
                if let (Some(one), Some(other)) = (left.next(), right.next())
                    && (one.mode, &one.digest) != (other.mode, &other.digest)
                {
                    note(Cause {
                        kind,
                        name: name(other),
                        how: how(one, other),
                        old: Some(short(&one.digest)),
                        new: Some(short(&other.digest)),
                    });
                }
            }
        }
    }
    if count > found.len() {
        let more = count - found.len();
        let s = if more == 1 { "" } else { "s" };
        found.push(Cause::note(CauseKind::New, &format!("and {more} more path{s}")));
    }
    found
}

fn how(old: &Entry, new: &Entry) -> String {
    const TYPE: u32 = 0o170_000;
    let kind = |mode: u32| match mode & TYPE {
        0o100_000 => "file",
        0o040_000 => "directory",
        0o120_000 => "link",
        _ => "special file",
    };
    if old.mode & TYPE != new.mode & TYPE {
        return format!("{} -> {}", kind(old.mode), kind(new.mode));
    }
    let content = if old.digest == new.digest { "" } else { " content" };
    if old.mode == new.mode {
        return content.trim_start().to_owned();
    }
    format!(
        "mode {:04o} -> {:04o}{}{content}",
        old.mode & 0o7777,
        new.mode & 0o7777,
        match content {
            "" => "",
            _ => ",",
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Digest;

    fn listing(entries: &[(&str, u32, &str)]) -> Listing {
        let entry = |(path, mode, content): &(&str, u32, &str)| Entry {
            path: (*path).into(),
            mode: *mode,
            digest: Digest::of(content.as_bytes()),
        };
        Listing::new(entries.iter().map(entry).collect(), 1000)
    }

    #[test]
    fn each_kind_of_change_is_told() {
        let old = listing(&[
            ("a", 0o100_644, "1"),
            ("b", 0o100_644, "1"),
            ("c", 0o100_644, "1"),
            ("d", 0o120_000, "1"),
        ]);
        let new = listing(&[
            ("a", 0o100_644, "2"),
            ("b", 0o100_755, "1"),
            ("d", 0o100_644, "1"),
            ("e", 0o100_644, "1"),
        ]);
        let text: Vec<String> =
            paths(CauseKind::Path, "", &old, &new).iter().map(ToString::to_string).collect();
        let (one, two) = (short(&Digest::of(b"1")), short(&Digest::of(b"2")));
        assert_eq!(
            text,
            [
                format!("path a: content {one} -> {two}"),
                format!("path b: mode 0644 -> 0755 ({one})"),
                format!("path c: removed {one} -> none"),
                format!("path d: link -> file ({one})"),
                format!("path e: added none -> {one}"),
            ]
        );
        assert!(paths(CauseKind::Path, "", &new, &new).is_empty());
    }

    #[test]
    fn many_paths_are_counted() {
        let many: Vec<String> = (0..20).map(|index| format!("f{index:02}")).collect();
        let entries: Vec<(&str, u32, &str)> =
            many.iter().map(|name| (name.as_str(), 0o100_644, "x")).collect();
        let found = paths(CauseKind::Path, "", &Listing::default(), &listing(&entries));
        assert_eq!(found.len(), MOST_PATHS + 1);
        assert_eq!(found[MOST_PATHS].to_string(), "and 15 more paths");
    }
}
