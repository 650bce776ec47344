//! The user namespace that all commands of an ordinary user share.
//!
//! A holder process, one a user, keeps a user and a mount namespace alive: the user's own ID is 0 in it, the
//! subordinate IDs follow from 1. Every command joins both before it does anything else, so that all see the same
//! mounts and IDs. The mount namespace is a slave of the host's: new host mounts appear in it, nothing goes back.
//!
//! ```text
//! RUNTIME_DIR/userns.json   {pid, start_time, single_id} of the holder
//! RUNTIME_DIR/userns.lock   flock while a holder is being made
//! ```

use crate::config::{Identity, runtime_directory};
use crate::state::files;
use crate::{Error, Result};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use sys::idmap::{Kind, Range};
use sys::process::Fork;

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    start_time: u64,
    single_id: bool,
}

/// Joins the user's namespaces, making them first where there are none. Returns warnings, which only the command gets
/// that makes them: others would say the same again.
pub(super) fn enter(identity: Identity) -> Result<Vec<String>> {
    let directory = runtime_directory(identity)?;
    files::create_directory(&directory)?;
    if join(&directory)?.is_some() {
        return Ok(Vec::new());
    }
    let _lock = lock(&directory.join("userns.lock"))?;
    if join(&directory)?.is_some() {
        return Ok(Vec::new());
    }
    create(&directory, identity)?;
    let single_id = join(&directory)?.ok_or_else(|| {
        Error::os("enter the user namespace", std::io::Error::other("its holder ended at once"))
    })?;
    Ok(if single_id {
        vec![
            "no subordinate IDs: only the own ID is mapped, so files of other owners are kept as the own user's. \
             For more, install newuidmap (uidmap) and give this user a line in /etc/subuid and in /etc/subgid"
                .to_owned(),
        ]
    } else {
        Vec::new()
    })
}

fn lock(path: &Path) -> Result<OwnedFd> {
    let attempt = || format!("lock {}", path.display());
    let fd = rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .map_err(|error| Error::os(attempt(), error))?;
    loop {
        match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(fd),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::os(attempt(), error)),
        }
    }
}

/// Joins the namespaces of a living holder; `None` when there is none.
fn join(directory: &Path) -> Result<Option<bool>> {
    let Some(holder) = files::read_json::<Holder>(&directory.join("userns.json")).unwrap_or_default() else {
        return Ok(None);
    };
    let alive = || {
        sys::pidfd::status(holder.pid).is_ok_and(|seen| !seen.ended && seen.start_time == holder.start_time)
    };
    if !alive() {
        return Ok(None);
    }
    let open = |kind: &str| {
        rustix::fs::open(
            format!("/proc/{}/ns/{kind}", holder.pid),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let (Ok(user), Ok(mount)) = (open("user"), open("mnt")) else { return Ok(None) };
    // the number may have gone to another process between the check and the open
    if !alive() {
        return Ok(None);
    }
    let attempt = "enter the user namespace of this user";
    let working = std::env::current_dir();
    setns(&user, CloneFlags::CLONE_NEWUSER).map_err(|error| Error::os(attempt, error))?;
    setns(&mount, CloneFlags::CLONE_NEWNS).map_err(|error| Error::os(attempt, error))?;
    sys::user::become_user(0, 0, None).map_err(|error| Error::os(attempt, error))?;
    // joining a mount namespace moves to its root
    if let Ok(working) = working {
        let _ = std::env::set_current_dir(working);
    }
    Ok(Some(holder.single_id))
}

/// Whether this process is in the namespaces of the user's holder.
pub(super) fn is_inside(identity: Identity) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    if !sys::idmap::in_user_namespace() {
        return Ok(false);
    }
    let file = runtime_directory(identity)?.join("userns.json");
    let Some(holder) = files::read_json::<Holder>(&file).unwrap_or_default() else { return Ok(false) };
    let of = |process: &str, kind: &str| {
        std::fs::metadata(format!("/proc/{process}/ns/{kind}")).map(|seen| (seen.dev(), seen.ino())).ok()
    };
    let holder = holder.pid.to_string();
    Ok(["user", "mnt"].into_iter().all(|kind| {
        let own = of("self", kind);
        own.is_some() && own == of(&holder, kind)
    }))
}

struct Maps {
    users: Vec<Range>,
    groups: Vec<Range>,
    /// Through newuidmap and newgidmap.
    helper: bool,
    single: bool,
}

fn create(directory: &Path, identity: Identity) -> Result<()> {
    let attempt = "make the user namespace of this user";
    let (mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::os(attempt, error))?;
    match sys::process::fork().map_err(|error| Error::os(attempt, error))? {
        Fork::Child => {
            drop(mine);
            // reports by itself; only reached on failure
            sys::process::exit(become_holder(&theirs))
        }
        Fork::Parent { child, .. } => {
            drop(theirs);
            let result = map_and_record(directory, identity, child, &mine);
            if result.is_err() {
                let _ = rustix::process::Pid::from_raw(child.cast_signed())
                    .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            }
            result
        }
    }
}

fn map_and_record(directory: &Path, identity: Identity, child: u32, socket: &OwnedFd) -> Result<()> {
    let attempt = "make the user namespace of this user";
    expect(socket, b"u").map_err(|error| {
        let hint = if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
            "user namespaces are not allowed on this host (sysctl kernel.unprivileged_userns_clone, \
             user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
        } else {
            "unshare"
        };
        Error::os(format!("{attempt}: {hint}"), error)
    })?;
    let maps = write_maps(child, identity)?;
    send(socket, b"m").map_err(|error| Error::os(attempt, error))?;
    expect(socket, b"r").map_err(|error| Error::os(attempt, error))?;
    let start_time = sys::pidfd::status(child).map_err(|error| Error::os(attempt, error))?.start_time;
    let holder = Holder { pid: child, start_time, single_id: maps.single };
    files::write_json(&directory.join("userns.json"), &holder, false)?;
    // the child waits for this before it becomes the holder
    send(socket, b"g").map_err(|error| Error::os(attempt, error))
}

fn write_maps(child: u32, identity: Identity) -> Result<Maps> {
    let attempt = "map user and group IDs";
    let maps = plan_maps(identity);
    if maps.helper {
        let helped = sys::idmap::write_with_helper(child, Kind::User, &maps.users)
            .and_then(|()| sys::idmap::write_with_helper(child, Kind::Group, &maps.groups));
        match helped {
            Ok(()) => return Ok(maps),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let maps = single_maps(identity);
                write_directly(child, &maps, true).map_err(|error| Error::os(attempt, error))?;
                return Ok(maps);
            }
            Err(error) => return Err(Error::os(attempt, error)),
        }
    }
    write_directly(child, &maps, maps.single).map_err(|error| Error::os(attempt, error))?;
    Ok(maps)
}

fn write_directly(child: u32, maps: &Maps, deny_groups: bool) -> std::io::Result<()> {
    if deny_groups {
        sys::idmap::write_setgroups(child, false)?;
    }
    sys::idmap::write(child, Kind::User, &maps.users)?;
    sys::idmap::write(child, Kind::Group, &maps.groups)
}

fn single_maps(identity: Identity) -> Maps {
    let gid = sys::user::effective_gid();
    Maps {
        users: vec![Range { inside: 0, outside: identity.uid, count: 1 }],
        groups: vec![Range { inside: 0, outside: gid, count: 1 }],
        helper: false,
        single: true,
    }
}

fn plan_maps(identity: Identity) -> Maps {
    let gid = sys::user::effective_gid();
    if identity.uid == 0 {
        // root without CAP_SYS_ADMIN (in a container): all that it has itself, if it may set IDs
        let own = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
            let ranges: Vec<Range> = sys::idmap::parse(&text)
                .into_iter()
                .map(|range| Range { inside: range.inside, outside: range.inside, count: range.count })
                .collect();
            ranges
        };
        const SETID: u64 = 1 << 6 | 1 << 7;
        let may = sys::caps::current().is_ok_and(|sets| sets.effective & SETID == SETID);
        let (users, groups) = (own("uid_map"), own("gid_map"));
        if may && !users.is_empty() && !groups.is_empty() {
            return Maps { users, groups, helper: false, single: false };
        }
        return single_maps(identity);
    }
    let name = user_name(identity.uid);
    let users = subordinate(Path::new("/etc/subuid"), identity.uid, name.as_deref());
    let groups = subordinate(Path::new("/etc/subgid"), identity.uid, name.as_deref());
    if users.is_empty() || groups.is_empty() {
        return single_maps(identity);
    }
    Maps { users: stacked(identity.uid, &users), groups: stacked(gid, &groups), helper: true, single: false }
}

/// The own ID as 0, then the subordinate ranges one after the other.
fn stacked(own: u32, ranges: &[(u32, u32)]) -> Vec<Range> {
    let mut maps = vec![Range { inside: 0, outside: own, count: 1 }];
    let mut next: u32 = 1;
    for (start, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        maps.push(Range { inside: next, outside: *start, count });
        next = next.saturating_add(count);
    }
    maps
}

fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == uid).then(|| name.to_owned())
    })
}

fn subordinate(path: &Path, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    parse_subordinate(&text, uid, name)
}

fn parse_subordinate(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let start: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            (count > 0 && (owner == number || Some(owner) == name)).then_some((start, count))
        })
        .collect()
}

/// In the child: makes the namespaces, waits for the maps, then executes itself as the holder, which closes
/// all descriptors. Returns only on failure.
fn become_holder(socket: &OwnedFd) -> i32 {
    let attempt = || -> std::io::Result<()> {
        let _ = rustix::process::setsid();
        if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER) {
            send(socket, format!("e{}", error as i32).as_bytes())?;
            return Err(error.into());
        }
        send(socket, b"u")?;
        expect(socket, b"m")?;
        sys::user::become_user(0, 0, None)?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::REC | rustix::mount::MountPropagationFlags::DOWNSTREAM,
        )?;
        send(socket, b"r")?;
        expect(socket, b"g")?;
        sys::process::close_on_exec_from(3)?;
        let null = || std::process::Stdio::null();
        Err(std::process::Command::new("/proc/self/exe")
            .arg0("davit")
            .arg(super::HOLDER)
            .env_clear()
            .current_dir("/")
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .exec())
    };
    match attempt() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

/// The holder: sleeps until it is killed.
pub(super) fn hold() -> u8 {
    let _ = nix::sys::prctl::set_name(c"davit-holder");
    loop {
        nix::unistd::pause();
    }
}

fn send(socket: impl AsFd, bytes: &[u8]) -> std::io::Result<()> {
    rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)?;
    Ok(())
}

fn expect(socket: impl AsFd, wanted: &[u8]) -> std::io::Result<()> {
    let mut buffer = [0_u8; 32];
    let (count, _) = loop {
        match rustix::net::recv(&socket, &mut buffer, rustix::net::RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    match &buffer[..count] {
        answer if answer == wanted => Ok(()),
        [b'e', number @ ..] => Err(std::io::Error::from_raw_os_error(
            std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(0),
        )),
        _ => Err(std::io::Error::other("the holder ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_by_name_and_number() {
        let text = "root:1:5\nann:100000:65536\n1000:200000:10\nann:x:y\nbob:5:5\n";
        assert_eq!(parse_subordinate(text, 1000, Some("ann")), [(100_000, 65536), (200_000, 10)]);
        assert_eq!(parse_subordinate(text, 1001, None), []);
    }

    #[test]
    fn ranges_are_stacked_behind_the_own_id() {
        let maps = stacked(1000, &[(100_000, 65536), (300_000, 10)]);
        assert_eq!(maps[0], Range { inside: 0, outside: 1000, count: 1 });
        assert_eq!(maps[2], Range { inside: 65537, outside: 300_000, count: 10 });
    }
}
