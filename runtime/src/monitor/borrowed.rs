//! Mounts of another container: only a process inside its mount namespace may copy them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use sys::mount::Mount;
use sys::process::Fork;

use crate::error::Stage;
use crate::plan::BirthPlan;
use crate::wire::{At, Descriptors, Failure};

/// Takes the mounts of the plan and puts them in the places that were kept for them.
pub(super) fn take(plan: &BirthPlan, descriptors: &mut Descriptors) -> Result<(), Failure> {
    for borrowed in &plan.borrowed {
        let subject = || format!("{:?} of another container", borrowed.mount.filesystem);
        let namespace = descriptors.take(borrowed.namespace).at(Stage::Mount, subject())?;
        let mount = copy(&namespace, &borrowed.mount).at(Stage::Mount, subject())?;
        descriptors.replace(borrowed.place, mount);
    }
    Ok(())
}

fn copy(namespace: &OwnedFd, mount: &Mount) -> io::Result<OwnedFd> {
    let (ours, theirs) = sys::scm::packet_pair()?;
    let child = match sys::process::fork()? {
        Fork::Child => {
            drop(ours);
            let copied = nix::sched::setns(namespace, CloneFlags::CLONE_NEWNS)
                .map_err(io::Error::from)
                .and_then(|()| sys::mount::detached(mount).map_err(|error| error.source));
            let _ = match &copied {
                Ok(copied) => sys::scm::send(&theirs, &[0], &[copied.as_fd()]),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
                    sys::scm::send(&theirs, &errno.to_ne_bytes(), &[])
                }
            };
            sys::process::exit(0);
        }
        Fork::Parent { child, .. } => child,
    };
    drop(theirs);
    let mut packet = [0; 4];
    let received = sys::scm::receive(ours.as_fd(), &mut packet);
    crate::stage::reap(child);
    let mut received = received?;
    match received.descriptors.pop() {
        Some(mount) => Ok(mount),
        None if received.length == 4 => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(packet))),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}
