//! What can be wrong with a tar stream, or with the place it is unpacked to.

use std::io;

/// A failure to read, unpack or write a tar stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source of the stream failed.
    #[error("read tar stream")]
    Read {
        /// What the source said.
        source: io::Error,
    },
    /// The sink of the stream failed.
    #[error("write tar stream")]
    Write {
        /// What the sink said.
        source: io::Error,
    },
    /// The stream ended before what it announced.
    #[error("tar stream ends inside {inside}")]
    Truncated {
        /// The header or entry that was being read.
        inside: String,
    },
    /// A header block cannot be understood.
    #[error("tar header at byte {offset}: {fault}")]
    Header {
        /// Position of the block in the plain stream, in bytes.
        offset: u64,
        /// What is wrong with it.
        fault: HeaderFault,
    },
    /// An entry is well formed but refused.
    #[error("tar entry {path}: {fault}")]
    Entry {
        /// Name as it stands in the stream.
        path: String,
        /// Why it is refused.
        fault: Fault,
    },
    /// A bound of [`Limits`](super::Limits) was passed.
    #[error("tar stream has more than {limit} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A call on a file of the tree failed.
    #[error("{action} {path}")]
    Io {
        /// The verb, for example `create`.
        action: &'static str,
        /// Path beneath the tree.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What is wrong with a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The sum over the block differs from the one that it carries.
    #[error("checksum does not match")]
    Checksum,
    /// A number field is neither octal nor base 256, or exceeds what the field means.
    #[error("field {0} is not a number in range")]
    Number(&'static str),
    /// A PAX record is not `LENGTH KEY=VALUE\n`.
    #[error("malformed pax record")]
    PaxRecord,
    /// A PAX value cannot be understood.
    #[error("malformed pax value of {0}")]
    PaxValue(&'static str),
    /// The sparse map overlaps itself or does not fit its file.
    #[error("sparse map does not fit the file")]
    Sparse,
    /// The entry type is one that a file tree cannot hold.
    #[error("unsupported entry type {0:?}")]
    Type(char),
    /// The end mark is followed by further entries.
    #[error("single zero block inside the stream")]
    LoneZeroBlock,
    /// A GNU long name and a PAX path disagree: tools would read two different names.
    #[error("two different long names for one entry")]
    TwoNames,
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The name contains a `..` component.
    #[error("name leaves the tree by `..`")]
    DotDot,
    /// A name contains a NUL byte, or is empty where it must not be.
    #[error("name is empty or holds a NUL byte")]
    BadName,
    /// A name is longer than the kernel takes, or nested too deep.
    #[error("name is too long or too deep")]
    TooLong,
    /// The target of a hard link leaves the tree.
    #[error("hard link leaves the tree")]
    LinkLeaves,
    /// The target of a hard link does not exist.
    #[error("hard link to a file that does not exist")]
    LinkMissing,
    /// The target of a hard link is a directory.
    #[error("hard link to a directory")]
    LinkToDirectory,
    /// A parent directory is a symbolic link that leads to no directory inside the tree.
    #[error("parent directory is a symbolic link to no directory of the tree")]
    DanglingParent,
    /// A parent is a file of another kind.
    #[error("parent is not a directory")]
    ParentNotDirectory,
    /// What the entry refers to may lie in a lower layer; reported for a layer that is unpacked without its parent.
    #[error("refers to a file outside its layer")]
    NeedsParent,
    /// A whiteout names nothing, or stands as the parent of an entry.
    #[error("malformed whiteout")]
    Whiteout,
    /// A file of the tree bears a name that means a deletion in a layer.
    #[error("name is reserved for whiteouts in a layer")]
    ReservedName,
    /// The file changed its size while it was read.
    #[error("file changed while it was read")]
    Changed,
    /// An owner that `chown` takes for "leave unchanged".
    #[error("owner id out of range")]
    Owner,
}

/// Renders a raw path for a message.
pub(super) fn show(path: &[u8]) -> String {
    const SHOWN: usize = 300;
    let cut = path.len().min(SHOWN);
    let mut text: String = String::from_utf8_lossy(&path[..cut])
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if cut < path.len() {
        text.push_str("...");
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

pub(super) fn entry(path: &[u8], fault: Fault) -> Error {
    Error::Entry { path: show(path), fault }
}

pub(crate) fn io_at(action: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Error {
    let path = show(path);
    move |errno| Error::Io { action, path, source: errno.into() }
}
