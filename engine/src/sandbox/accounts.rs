//! /etc/passwd and /etc/group of a root file system: who a user is, and what the files lack.

use super::View;
use crate::spec::{ResolvedUser, completed, resolve_user};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Resolves a user against the files of a root file system.
pub(crate) fn user_in(view: &View, user: &str, groups: &[String]) -> Result<ResolvedUser> {
    let (passwd, group) = accounts(view)?;
    resolve_user(user, &passwd, &group, groups)
}

/// The passwd and group files of a root file system; empty where there are none.
pub(crate) fn accounts(view: &View) -> Result<(Vec<u8>, Vec<u8>)> {
    /// Longest file that is read, bytes.
    const MAX: u64 = 4 << 20;
    let read = |path: &str| view.read(Path::new(path), MAX).map(Option::unwrap_or_default);
    Ok((read("etc/passwd")?, read("etc/group")?))
}

/// What the files get besides what they have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AccountEntries<'a> {
    /// Template of the line of a user that the image does not know: `$USERNAME`, `$UID`, `$GID`, `$NAME`, `$HOME`.
    pub(crate) passwd: Option<&'a str>,
    /// Template of the line of such a group: `$GROUPNAME`, `$GID`, `$USERLIST`.
    pub(crate) group: Option<&'a str>,
    /// Names of users of the host.
    pub(crate) host_users: &'a [String],
    /// Leave the files as they are.
    pub(crate) keep: bool,
}

/// Resolves a user, and where passwd or group lack something writes files that have it into `directory`. Gives their
/// sources and destinations.
pub(crate) fn known_user_in(
    view: &View,
    user: &str,
    groups: &[String],
    directory: &Path,
    entries: &AccountEntries<'_>,
) -> Result<(ResolvedUser, Vec<(PathBuf, PathBuf)>)> {
    let (before_passwd, before_group) = accounts(view)?;
    if entries.keep {
        return Ok((resolve_user(user, &before_passwd, &before_group, groups)?, Vec::new()));
    }
    let (mut passwd, mut group) = (before_passwd.clone(), before_group.clone());
    for name in entries.host_users {
        let of_host = HostUser::find(name)?;
        add_line(&mut passwd, &of_host.passwd);
        if let Some(line) = &of_host.group {
            add_line(&mut group, line);
        }
    }
    let user = resolve_user(user, &passwd, &group, groups)?;
    let (own_passwd, own_group) = completed(&user, &passwd, &group);
    if let Some(whole) = own_passwd {
        match entries.passwd {
            Some(template) => add_line(&mut passwd, &filled(template, &user)),
            None => passwd = whole,
        }
    }
    if let Some(whole) = own_group {
        match entries.group {
            Some(template) => add_line(&mut group, &filled(template, &user)),
            None => group = whole,
        }
    }
    let mut made = Vec::new();
    for (name, before, now) in [("passwd", before_passwd, passwd), ("group", before_group, group)] {
        if now != before {
            let path = directory.join(name);
            crate::state::files::write(&path, &now, 0o644, false)?;
            made.push((path, Path::new("/etc").join(name)));
        }
    }
    Ok((user, made))
}

/// Lines of the host's own files.
struct HostUser {
    passwd: String,
    group: Option<String>,
}

impl HostUser {
    fn find(name: &str) -> Result<Self> {
        let line = |path: &str, field: usize, wanted: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().find(|line| line.split(':').nth(field) == Some(wanted)).map(str::to_owned)
        };
        let field = if name.bytes().all(|byte| byte.is_ascii_digit()) { 2 } else { 0 };
        let Some(passwd) = line("/etc/passwd", field, name) else {
            return Err(Error::invalid(format!("hostuser {name}"), "the host has no such user"));
        };
        let gid = passwd.split(':').nth(3).unwrap_or_default().to_owned();
        // home and shell are the host's business, as Podman sees it
        let fields: Vec<&str> = passwd.split(':').collect();
        let [name, _, uid, gid_field, note, ..] = fields.as_slice() else {
            return Err(Error::invalid(format!("hostuser {name}"), "its line in /etc/passwd is not whole"));
        };
        let passwd = format!("{name}:*:{uid}:{gid_field}:{note}:/:/bin/sh");
        Ok(Self { passwd, group: line("/etc/group", 2, &gid) })
    }
}

/// Appends a line whose name the file does not have yet.
fn add_line(file: &mut Vec<u8>, line: &str) {
    let name = |line: &[u8]| line.split(|byte| *byte == b':').next().map(<[u8]>::to_vec);
    let wanted = name(line.as_bytes());
    if file.split(|byte| *byte == b'\n').any(|known| name(known) == wanted) {
        return;
    }
    if file.last().is_some_and(|last| *last != b'\n') {
        file.push(b'\n');
    }
    file.extend_from_slice(line.trim_end().as_bytes());
    file.push(b'\n');
}

/// A template with what is known of a user in it.
fn filled(template: &str, user: &ResolvedUser) -> String {
    let name = user.name.clone().unwrap_or_else(|| user.uid.to_string());
    let home = user.home.to_string_lossy().into_owned();
    let values = [
        ("USERNAME", name.clone()),
        ("USERLIST", name),
        ("GROUPNAME", user.gid.to_string()),
        ("UID", user.uid.to_string()),
        ("GID", user.gid.to_string()),
        ("NAME", "container user".to_owned()),
        ("HOME", home),
    ];
    let mut text = template.to_owned();
    for (key, value) in values {
        text = text.replace(&format!("${{{key}}}"), &value).replace(&format!("${key}"), &value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        let user = ResolvedUser { uid: 7, gid: 8, home: "/h".into(), ..ResolvedUser::default() };
        assert_eq!(
            filled("$USERNAME-x:*:$UID:$GID:${NAME}:$HOME:/bin/sh", &user),
            "7-x:*:7:8:container user:/h:/bin/sh"
        );
        assert_eq!(filled("g$GROUPNAME:*:$GID:$USERLIST", &user), "g8:*:8:7");
    }

    #[test]
    fn a_line_comes_once() {
        let mut file = b"root:x:0:0::/:/bin/sh".to_vec();
        add_line(&mut file, "ann:x:5:5::/:/bin/sh");
        add_line(&mut file, "ann:x:6:6::/:/bin/sh");
        assert_eq!(file, b"root:x:0:0::/:/bin/sh\nann:x:5:5::/:/bin/sh\n");
    }

    #[test]
    fn users_of_the_host_are_found() {
        assert!(HostUser::find("root").unwrap().passwd.starts_with("root:"));
        assert!(HostUser::find("0").unwrap().group.is_some());
        assert!(HostUser::find("nobody-of-that-name").is_err());
    }
}
