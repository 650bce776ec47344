//! Addresses of git repositories in ADD: `REMOTE[?KEY=VALUE&..][#REFERENCE[:DIRECTORY]]`.

use crate::graph::GitOp;
use crate::ports::GitSource;

/// Reads an address.
pub fn parse(address: &str) -> Result<GitOp, String> {
    let (rest, fragment) = match address.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (address, None),
    };
    let (remote, query) = match rest.split_once('?') {
        Some((remote, query)) => (remote, Some(query)),
        None => (rest, None),
    };
    if remote.starts_with('-') || remote.chars().any(|c| c.is_control() || c == ' ') {
        return Err(format!("`{address}` is no address of a repository"));
    }
    let mut op = GitOp {
        source: GitSource { remote: remote.to_owned(), submodules: true, ..GitSource::default() },
        checksum: None,
    };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value)?;
        match key {
            "ref" => set(&mut op.source.reference, key, value)?,
            "branch" => set(&mut op.source.reference, key, format!("refs/heads/{value}"))?,
            "tag" => set(&mut op.source.reference, key, format!("refs/tags/{value}"))?,
            "subdir" => set(&mut op.source.subdir, key, value)?,
            "checksum" | "commit" => {
                if !is_commit_prefix(&value) {
                    return Err(format!("`{value}` is no commit: it is 7 to 64 hexadecimal digits"));
                }
                op.checksum = Some(value);
            }
            "submodules" => op.source.submodules = switch(key, &value)?,
            "keep-git-dir" => op.source.keep_git_dir = switch(key, &value)?,
            // Commits are always fetched by themselves.
            "fetch-by-commit" => {
                switch(key, &value)?;
            }
            "mtime" => {
                op.source.commit_times = match value.as_str() {
                    "commit" => Some(true),
                    "checkout" => Some(false),
                    _ => return Err("`mtime` is either commit or checkout".to_owned()),
                };
            }
            _ => return Err(format!("git addresses have no key `{key}`")),
        }
    }
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        if !reference.is_empty() {
            set(&mut op.source.reference, "the fragment", reference.to_owned())?;
        }
        if !subdir.is_empty() {
            set(&mut op.source.subdir, "the fragment", subdir.to_owned())?;
        }
    }
    let reference = &op.source.reference;
    if reference.starts_with('-') || reference.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c)) {
        return Err(format!("`{reference}` is no name of a branch, tag or commit"));
    }
    if op.source.subdir.split('/').any(|part| part == "..") {
        return Err(format!("`{}` leaves the repository", op.source.subdir));
    }
    Ok(op)
}

fn set(place: &mut String, key: &str, value: String) -> Result<(), String> {
    if !place.is_empty() && *place != value {
        return Err(format!("{key} contradicts another part of the address"));
    }
    *place = value;
    Ok(())
}

fn switch(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!("`{key}` is either true or false")),
    }
}

/// Whether the text can be the beginning of a commit's digest.
pub(super) fn is_commit_prefix(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Percent signs of a query.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()];
                let value = match digits {
                    [Some(high), Some(low)] => {
                        char::from(high).to_digit(16).zip(char::from(low).to_digit(16))
                    }
                    _ => None,
                };
                let (high, low) = value.ok_or_else(|| format!("`{text}` has a `%` without two digits"))?;
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is no UTF-8 text"))
}

/// An address fit to be shown.
pub fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => match rest[..at].split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:xxxxx{}", &rest[at..]),
            None => address.to_owned(),
        },
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses() {
        let op = parse("https://h/o/r.git?submodules=0&subdir=a%20b&keep-git-dir=1#v1").unwrap();
        assert_eq!(op.source.remote, "https://h/o/r.git");
        assert_eq!((op.source.reference.as_str(), op.source.subdir.as_str()), ("v1", "a b"));
        assert!(op.source.keep_git_dir && !op.source.submodules);
        let op = parse("git@h:o/r#main:sub/dir").unwrap();
        assert_eq!(op.source.remote, "git@h:o/r");
        assert_eq!((op.source.reference.as_str(), op.source.subdir.as_str()), ("main", "sub/dir"));
        assert_eq!(op.source.commit_times, None);
        assert_eq!(parse("https://h/r.git?mtime=commit").unwrap().source.commit_times, Some(true));
        assert_eq!(parse("https://h/r.git?mtime=checkout#v1").unwrap().source.commit_times, Some(false));
        assert_eq!(parse("git://h/r?branch=x").unwrap().source.reference, "refs/heads/x");
        assert_eq!(parse("git://h/r?commit=0123456").unwrap().checksum.unwrap(), "0123456");
        for bad in [
            "https://h/r.git?what=1",
            "https://h/r.git?ref=a#b",
            "https://h/r.git#-upload-pack=x",
            "https://h/r.git#a:../x",
            "https://h/r.git?mtime=now",
            "https://h/r.git?mtime",
            "https://h/r.git?checksum=HEAD",
            "-uroot@h:x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("https://a:b@h/r.git"), "https://a:xxxxx@h/r.git");
        assert_eq!(without_password("https://h/r@2.git"), "https://h/r@2.git");
    }
}
