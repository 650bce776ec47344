//! `--chown` and USER names, looked up in the target's own passwd and group files.

use super::Error;
use super::beneath;
use std::os::fd::BorrowedFd;

/// Owner and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Most bytes that are read of a passwd or group file.
const LIMIT: u64 = 4 << 20;

/// Resolves `user[:group]` in a root file system. Without a group, a number is its own group and a name has its
/// primary group.
///
/// A name that the passwd file does not know is an error, as in buildah; `BuildKit` silently takes 0:0 (observed in
/// 0.26), which hides misspelt names.
pub(crate) fn resolve(root: BorrowedFd<'_>, text: &str) -> Result<Owner, Error> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, primary) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() => (0, 0),
        Err(_) => find_user(root, user)?,
    };
    let gid = match group {
        None | Some("") => primary,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => find_group(root, group)?,
        },
    };
    Ok(Owner { uid, gid })
}

fn find_user(root: BorrowedFd<'_>, name: &str) -> Result<(u32, u32), Error> {
    let text = read_table(root, "etc/passwd")?;
    for line in text.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(name)
            && let (Some(Ok(uid)), Some(Ok(gid))) =
                (fields.nth(1).map(str::parse::<u32>), fields.next().map(str::parse::<u32>))
        {
            return Ok((uid, gid));
        }
    }
    Err(Error::UnknownUser { name: name.to_owned() })
}

fn find_group(root: BorrowedFd<'_>, name: &str) -> Result<u32, Error> {
    let text = read_table(root, "etc/group")?;
    for line in text.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(name)
            && let Some(Ok(gid)) = fields.nth(1).map(str::parse::<u32>)
        {
            return Ok(gid);
        }
    }
    Err(Error::UnknownGroup { name: name.to_owned() })
}

fn read_table(root: BorrowedFd<'_>, path: &str) -> Result<String, Error> {
    match beneath::read_in_root(root, path, LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Io { action: "read", path: format!("/{path}").into(), source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn names_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\napp:x:7:8::/:/bin/sh\n")
            .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nwww:x:33:app\n").unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let resolve = |text: &str| resolve(root.as_fd(), text).map(|owner| (owner.uid, owner.gid));
        assert_eq!(resolve("app").unwrap(), (7, 8));
        assert_eq!(resolve("app:www").unwrap(), (7, 33));
        assert_eq!(resolve("5").unwrap(), (5, 5));
        assert_eq!(resolve("5:www").unwrap(), (5, 33));
        assert_eq!(resolve("5:6").unwrap(), (5, 6));
        assert_eq!(resolve(":www").unwrap(), (0, 33));
        assert!(matches!(resolve("nobody"), Err(Error::UnknownUser { .. })));
        assert!(matches!(resolve("app:none"), Err(Error::UnknownGroup { .. })));
    }

    #[test]
    fn a_passwd_link_does_not_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/hostname", dir.path().join("etc/passwd")).unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        assert!(matches!(resolve(root.as_fd(), "root"), Err(Error::UnknownUser { .. })));
    }
}
