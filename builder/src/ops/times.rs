//! Times of the files in a new layer, where the build says what they shall be.

use super::Error;
use super::beneath;
use super::tree::{Tree, Visit};
use crate::graph::FileTimes;
use rustix::fs::{AtFlags, Stat, Timespec, Timestamps};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Rewrites the times of all files of a tree but those that stand in `below` as they are.
pub(super) fn rewrite(tree: Tree, below: Option<OwnedFd>, times: FileTimes) -> Result<(), Error> {
    let (seconds, later_only) = match times {
        FileTimes::Kept => return Ok(()),
        FileTimes::AtMost(seconds) => (seconds, true),
        FileTimes::Exactly(seconds) => (seconds, false),
    };
    let wanted = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let start = beneath::canonical(tree.root(), Path::new(""), true)
        .map_err(super::io_error("stat", Path::new("/")))?;
    tree.walk(&start, &mut |entry, visit| {
        let is_directory = beneath::is_directory(entry.stat);
        let has = (entry.stat.st_mtime, entry.stat.st_mtime_nsec);
        let stays = if later_only { has <= (seconds, 0) } else { has == (seconds, 0) };
        if (is_directory && visit == Visit::Enter) || stays {
            return Ok(());
        }
        if let Some(below) = &below
            && is_same(below.as_fd(), entry.path, entry.stat)
        {
            return Ok(());
        }
        let times = Timestamps { last_access: wanted, last_modification: wanted };
        rustix::fs::utimensat(entry.directory, entry.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| super::io_error("set times of", entry.path)(error.into()))
    })
}

/// Whether a file is in the tree below with all that a layer would say of it. A copy of a tree keeps everything, so
/// that only what the step changed differs.
fn is_same(below: BorrowedFd<'_>, path: &Path, stat: &Stat) -> bool {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let Ok(old) = rustix::fs::statat(below, path, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let facts = |stat: &Stat| {
        let owner = (stat.st_uid, stat.st_gid, stat.st_mode);
        (owner, stat.st_mtime, stat.st_mtime_nsec, stat.st_size, stat.st_rdev)
    };
    facts(&old) == facts(stat)
}
