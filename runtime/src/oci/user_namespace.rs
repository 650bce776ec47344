//! Without root, the runtime itself enters the user namespace that the container asks for, and makes everything else
//! from there: only in it may it mount at all.

use std::io;

use oci_spec::runtime::{LinuxNamespaceType as Ns, Spec};
use sys::idmap::{Kind, Range};
use sys::process::Fork;

use super::{Error, Result};
use crate::planner;

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Enters the user namespace of a specification where that is needed, and takes it out of the specification.
pub(super) fn enter_if_needed(spec: &mut Spec) -> Result<()> {
    let privileged = sys::caps::current().is_ok_and(|sets| sets.effective & CAP_SYS_ADMIN != 0);
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    let own = namespaces.iter().position(|space| space.typ() == Ns::User && space.path().is_none());
    let (false, Some(index)) = (privileged, own) else { return Ok(()) };
    let users = planner::id_ranges(linux.uid_mappings().as_ref());
    let groups = planner::id_ranges(linux.gid_mappings().as_ref());
    if users.is_empty() || groups.is_empty() {
        return Err(Error::invalid("linux.uidMappings: a new user namespace needs mappings"));
    }
    enter(&users, &groups).map_err(|error| Error::os("enter a user namespace", error))?;
    namespaces.remove(index);
    linux.set_namespaces(Some(namespaces));
    linux.set_uid_mappings(None);
    linux.set_gid_mappings(None);
    Ok(())
}

fn enter(users: &[Range], groups: &[Range]) -> io::Result<()> {
    let own =
        |ranges: &[Range], id: u32| matches!(ranges, [range] if range.count == 1 && range.outside == id);
    let flags = nix::sched::CloneFlags::CLONE_NEWUSER | nix::sched::CloneFlags::CLONE_NEWNS;
    let pid = std::process::id();
    let alone = own(users, sys::user::effective_uid()) && own(groups, sys::user::effective_gid());
    if alone {
        nix::sched::unshare(flags)?;
        sys::idmap::write_setgroups(pid, false)?;
        sys::idmap::write(pid, Kind::User, users)?;
        sys::idmap::write(pid, Kind::Group, groups)?;
    } else {
        // newuidmap and newgidmap have their rights outside only.
        let (ours, theirs) = sys::scm::packet_pair()?;
        let child = match sys::process::fork()? {
            Fork::Child => {
                drop(ours);
                let mut byte = [0];
                let asked = sys::scm::receive(&theirs, &mut byte).is_ok_and(|received| received.length == 1);
                let written = if asked { map(pid, users, groups) } else { Ok(()) };
                let text = written.err().map(|error| error.to_string()).unwrap_or_default();
                let _ = sys::scm::send(&theirs, format!("={text}").as_bytes(), &[]);
                sys::process::exit(0)
            }
            Fork::Parent { child, .. } => child,
        };
        drop(theirs);
        nix::sched::unshare(flags)?;
        sys::scm::send(&ours, b"m", &[])?;
        let mut answer = vec![0; 4096];
        let length = sys::scm::receive(&ours, &mut answer)?.length;
        crate::stage::reap(child);
        match &answer[..length] {
            [b'='] => {}
            [b'=', text @ ..] => return Err(io::Error::other(String::from_utf8_lossy(text).into_owned())),
            _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
    }
    sys::user::become_user(0, 0, None)
}

fn map(pid: u32, users: &[Range], groups: &[Range]) -> io::Result<()> {
    sys::idmap::write_with_helper(pid, Kind::User, users)?;
    sys::idmap::write_with_helper(pid, Kind::Group, groups)
}
