//! `--user` and `USER` against the image's own /etc/passwd and /etc/group.
//!
//! The files are the image's, so hostile: they come as bytes (read by the engine beneath the rootfs, with a bound on their
//! size), lines that make no sense are passed over, and nothing here opens anything.

use std::path::PathBuf;

use crate::{Error, ErrorKind, Result};

/// A user as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolvedUser {
    /// User ID in the container.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups; for others than root with its own group the primary one is among them, so that a program that
    /// replaces its groups cannot shed it (as Podman since 4.3).
    pub additional_gids: Vec<u32>,
    /// Home directory; empty or `/` when the image does not tell.
    pub home: PathBuf,
    /// Name, where the image has one.
    pub name: Option<String>,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd(bytes: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(bytes).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn groups(bytes: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(bytes).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Resolves `NAME|UID[:GROUP|GID]`; the empty text is root. `extra_groups` is `--group-add`.
///
/// A numeric user without an entry has group 0 and no home. A group that was named replaces the user's own groups.
///
/// # Errors
/// A name that the image does not know: [`ErrorKind::CommandNotRunnable`], exit code 126 as in Podman. Numbers above the
/// kernel's range.
pub fn resolve_user(
    user: &str,
    passwd_bytes: &[u8],
    group_bytes: &[u8],
    extra_groups: &[String],
) -> Result<ResolvedUser> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let number = id(user_part);
    // A name of digits is a name first, as in runc's resolver.
    let entry = passwd(passwd_bytes)
        .find(|entry| entry.name == user_part)
        .or_else(|| number.and_then(|uid| passwd(passwd_bytes).find(|entry| entry.uid == uid)));
    let mut resolved = match (entry, number) {
        (Some(entry), _) => ResolvedUser {
            uid: entry.uid,
            gid: entry.gid,
            additional_gids: Vec::new(),
            home: entry.home.into(),
            name: Some(entry.name.to_owned()),
        },
        (None, Some(uid)) => ResolvedUser { uid, ..ResolvedUser::default() },
        (None, None) => {
            return Err(unknown(format!("unable to find user {user_part}"), "passwd"));
        }
    };
    if resolved.home.as_os_str().is_empty() {
        resolved.home = "/".into();
    }
    match group_part {
        Some(group) => resolved.gid = find_group(group, group_bytes)?,
        None => {
            if let Some(name) = &resolved.name {
                let member = groups(group_bytes)
                    .filter(|group| group.members.split(',').any(|member| member.trim() == name))
                    .map(|group| group.gid);
                resolved.additional_gids.extend(member);
            }
        }
    }
    if resolved.uid != 0 || resolved.gid != 0 {
        resolved.additional_gids.insert(0, resolved.gid);
    }
    for group in extra_groups {
        resolved.additional_gids.push(find_group(group, group_bytes)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    resolved.additional_gids.retain(|gid| seen.insert(*gid));
    Ok(resolved)
}

/// The image's passwd and group files with lines for a user and a group that were given as numbers and that they lack,
/// so that programs which ask who they are get an answer. `None` = nothing is missing.
#[must_use]
pub fn completed(
    user: &ResolvedUser,
    passwd_bytes: &[u8],
    group_bytes: &[u8],
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let with_line = |bytes: &[u8], line: String| {
        let mut bytes = bytes.to_vec();
        if bytes.last().is_some_and(|last| *last != b'\n') {
            bytes.push(b'\n');
        }
        bytes.extend(line.bytes());
        bytes
    };
    let (uid, gid) = (user.uid, user.gid);
    let no_user = uid != 0 && user.name.is_none();
    let no_group = gid != 0 && !groups(group_bytes).any(|group| group.gid == gid);
    (
        no_user.then(|| with_line(passwd_bytes, format!("{uid}:*:{uid}:{gid}:container user:/:/bin/sh\n"))),
        no_group.then(|| with_line(group_bytes, format!("{gid}:x:{gid}:\n"))),
    )
}

/// A number in the kernel's range; the highest one means "no change" to it.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn find_group(group: &str, bytes: &[u8]) -> Result<u32> {
    if let Some(entry) = groups(bytes).find(|entry| entry.name == group) {
        return Ok(entry.gid);
    }
    id(group).ok_or_else(|| unknown(format!("unable to find group {group}"), "group"))
}

fn unknown(what: String, file: &str) -> Error {
    let reason = format!("no matching entries in {file} file");
    Error::Command { what, reason, kind: ErrorKind::CommandNotRunnable }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note\nbroken\nbad:x:one:2::/:\n\xff\xfe\nbob:x:1000:1001:Bob:/home/bob:/bin/sh\nnohome:x:7:8\n123:x:55:56::/h:\n";
    const GROUP: &[u8] = b"root:x:0:\nbob:x:1001:\nwheel:x:10:bob,alice\nempty\n";

    fn resolve(user: &str) -> ResolvedUser {
        resolve_user(user, PASSWD, GROUP, &[]).unwrap()
    }

    #[test]
    fn names_numbers_and_groups() {
        let root = resolve("");
        assert_eq!((root.uid, root.gid, root.home.to_str()), (0, 0, Some("/root")));
        assert!(root.additional_gids.is_empty());
        let bob = resolve("bob");
        assert_eq!((bob.uid, bob.gid, bob.additional_gids), (1000, 1001, vec![1001, 10]));
        assert_eq!(bob.home, std::path::Path::new("/home/bob"));
        assert_eq!(resolve("1000").gid, 1001);
        let wheel = resolve("bob:wheel");
        assert_eq!((wheel.gid, wheel.additional_gids), (10, vec![10]));
        assert_eq!(resolve("bob:77").gid, 77);
        assert_eq!(resolve(":10").gid, 10);
        let stranger = resolve("1234");
        assert_eq!((stranger.uid, stranger.gid, stranger.home.to_str()), (1234, 0, Some("/")));
        assert_eq!(stranger.additional_gids, [0]);
        assert_eq!((resolve("123").uid, resolve("nohome").home.to_str()), (55, Some("/")));
    }

    #[test]
    fn strangers_get_lines_of_their_own() {
        assert_eq!(completed(&resolve("bob"), PASSWD, GROUP), (None, None));
        assert_eq!(completed(&resolve(""), b"", b""), (None, None));
        let (passwd, group) = completed(&resolve("1234:77"), b"root:x:0:0::/:/bin/sh", b"");
        assert_eq!(passwd.unwrap(), b"root:x:0:0::/:/bin/sh\n1234:*:1234:77:container user:/:/bin/sh\n");
        assert_eq!(group.unwrap(), b"77:x:77:\n");
        let (passwd, group) = completed(&resolve("1234"), PASSWD, GROUP);
        assert!(passwd.unwrap().starts_with(PASSWD) && group.is_none());
    }

    #[test]
    fn unknown_names_and_large_numbers() {
        for user in ["eve", "bob:eves", "4294967295", "99999999999", "-1", "bob:-1"] {
            let error = resolve_user(user, PASSWD, GROUP, &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CommandNotRunnable, "{user}");
        }
        let text = resolve_user("eve", PASSWD, GROUP, &[]).unwrap_err().to_string();
        assert_eq!(text, "unable to find user eve: no matching entries in passwd file");
    }

    #[test]
    fn further_groups_come_once() {
        let user = resolve_user("bob", PASSWD, GROUP, &["wheel".into(), "55".into()]).unwrap();
        assert_eq!(user.additional_gids, [1001, 10, 55]);
    }
}
