//! Deletions: `.wh.NAME` and `.wh..wh..opq` in a layer's stream, and what overlayfs keeps in an upper directory.
//!
//! On disk a deleted name is a character device 0/0, which any user namespace may make since Linux 5.8; newer
//! kernels also know an empty file with an attribute `overlay.whiteout`, which is recognised when read. A
//! directory that hides what lies below it carries `overlay.opaque` = `y`. As root the attributes belong to
//! `trusted.`, in a user namespace to `user.`.
//!
//! In a stream that is no layer (`import`, an archive given to ADD) such names are ordinary.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, RawMode, Stat, XattrFlags};
use rustix::io::Errno;

/// Prefix of a name that deletes the rest of the name.
pub const PREFIX: &[u8] = b".wh.";
/// Name that makes its directory hide everything below.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of names that an old layered file system kept for itself; readers of layers ignore them.
pub const META_PREFIX: &[u8] = b".wh..wh.";

/// True for an attribute in which overlayfs keeps state; neither written to a layer nor taken from one.
pub fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// True for a character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes `name` in `parent` a whiteout; an existing one is left.
pub fn make_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::from_raw_mode(0 as RawMode), 0) {
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            if is_whiteout(&stat) { Ok(()) } else { Err(Errno::EXIST) }
        }
        other => other,
    }
}

/// Marks an open directory as hiding everything below.
pub fn set_opaque(directory: BorrowedFd<'_>, user_namespace: bool) -> Result<(), Errno> {
    let name: &[u8] = if user_namespace { b"user.overlay.opaque" } else { b"trusted.overlay.opaque" };
    rustix::fs::fsetxattr(directory, name, b"y", XattrFlags::empty())
}

/// True when an open directory hides everything below, in either form.
pub fn is_opaque(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    for name in [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque"] {
        let mut value = [0; 4];
        match rustix::fs::fgetxattr(directory, name, &mut value) {
            Ok(length) if value.get(..length) == Some(b"y") => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}
