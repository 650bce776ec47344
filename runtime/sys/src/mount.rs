//! Mounts as values, and the calls of the new mount API that turn them into descriptors.
//!
//! A mount is described by a [`Mount`], made by [`detached`] and put in its place by [`attach`]. A detached mount can
//! be used through its descriptor without being attached anywhere; it disappears with its last descriptor, so a
//! process that is killed leaves nothing behind.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A mount that could not be made, changed or removed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {subject}")]
pub struct Error {
    /// What was attempted: `mount`, `attach mount to`, ..
    pub action: &'static str,
    /// File system type or path.
    pub subject: String,
    /// What the kernel answered, with the text of the file system context's log where there is one.
    pub source: io::Error,
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Per-mount attributes; a set of flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(u32);

impl Attributes {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Nothing can be written.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-user-ID, set-group-ID bits and file capabilities have no effect.
    pub const NO_SUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NO_EXEC: Self = Self(0x8);
    /// Access times are not written.
    pub const NO_ATIME: Self = Self(0x10);
    /// Access times are always written.
    pub const STRICT_ATIME: Self = Self(0x20);
    /// Access times of directories are not written.
    pub const NO_DIR_ATIME: Self = Self(0x80);
    /// Symbolic links are not followed (5.10).
    pub const NO_SYMLINKS: Self = Self(0x0020_0000);

    // A field of two bits, not flags: relatime is 0.
    const ATIME_FIELD: u32 = 0x70;
    /// All values of that field.
    const ATIME: Self = Self(Self::ATIME_FIELD);

    /// Whether there is no flag.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags without those of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The number that `mount_setattr` takes.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for Attributes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Attributes {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// How mount events travel between a mount and its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither sent nor received.
    Private,
    /// Received.
    Slave,
    /// Sent and received.
    Shared,
    /// Private, and cannot be bind mounted.
    Unbindable,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filesystem {
    /// Directories over each other.
    Overlay(Overlay),
    /// A directory or file that is visible elsewhere already.
    Bind {
        /// The directory or file; a symbolic link is followed.
        source: PathBuf,
        /// Whether the mounts below it come with it.
        recursive: bool,
    },
    /// Any file system that is named by a type: tmpfs, proc, sysfs, mqueue, devpts, cgroup2, ..
    Named {
        /// The type as in `/proc/filesystems`.
        fstype: String,
        /// The source, where the type wants one.
        source: Option<String>,
        /// Options of the file system itself, in order; an option without value is a flag.
        options: Vec<(String, Option<String>)>,
    },
}

/// An overlay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Lower directories, the topmost first. At least one, two where there is no upper.
    pub lower: Vec<PathBuf>,
    /// The directory that takes the changes; absent = the mount is read-only.
    pub upper: Option<PathBuf>,
    /// An empty directory on the file system of the upper; present if and only if `upper` is.
    pub work: Option<PathBuf>,
    /// Further options in order: `userxattr`, `volatile`, `index=off`, ..
    pub options: Vec<(String, Option<String>)>,
}

/// A mount, not yet made and without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What is mounted.
    pub filesystem: Filesystem,
    /// Attributes to set on the mount.
    #[serde(default)]
    pub attributes: Attributes,
    /// Attributes to set on the mount and all mounts below it (recursive bind mounts; 5.12).
    #[serde(default)]
    pub recursive: Attributes,
    /// Attributes to take from the mount (`rw`, `suid` on a bind mount).
    #[serde(default)]
    pub cleared: Attributes,
    /// Attributes to take from the mount and all mounts below it (`rrw`, `rsuid`).
    #[serde(default)]
    pub recursive_cleared: Attributes,
    /// Propagation to set; absent = as the kernel chooses.
    #[serde(default)]
    pub propagation: Option<Propagation>,
}

impl Mount {
    /// A mount of `filesystem` with default attributes.
    pub fn new(filesystem: Filesystem) -> Self {
        Self {
            filesystem,
            attributes: Attributes::NONE,
            recursive: Attributes::NONE,
            cleared: Attributes::NONE,
            recursive_cleared: Attributes::NONE,
            propagation: None,
        }
    }

    /// A writable overlay, topmost lower first.
    pub fn overlay(lower: Vec<PathBuf>, upper: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        let (upper, work) = (Some(upper.into()), Some(work.into()));
        Self::new(Filesystem::Overlay(Overlay { lower, upper, work, options: Vec::new() }))
    }

    /// A read-only overlay of two or more lower directories, the topmost first.
    pub fn overlay_view(lower: Vec<PathBuf>) -> Self {
        Self::new(Filesystem::Overlay(Overlay { lower, ..Overlay::default() }))
    }

    /// A bind mount of one directory or file without the mounts below it.
    pub fn bind(source: impl Into<PathBuf>) -> Self {
        Self::new(Filesystem::Bind { source: source.into(), recursive: false })
    }

    /// A bind mount with the mounts below it.
    pub fn bind_recursive(source: impl Into<PathBuf>) -> Self {
        Self::new(Filesystem::Bind { source: source.into(), recursive: true })
    }

    /// A file system of a type, without source.
    pub fn named(fstype: impl Into<String>) -> Self {
        Self::new(Filesystem::Named { fstype: fstype.into(), source: None, options: Vec::new() })
    }

    /// A tmpfs of the mode; `size_bytes` limits it.
    pub fn tmpfs(mode: u32, size_bytes: Option<u64>) -> Self {
        let mount = Self::named("tmpfs").with_option("mode", &format!("{mode:o}"));
        match size_bytes {
            Some(size) => mount.with_option("size", &size.to_string()),
            None => mount,
        }
    }

    /// The process file system of the caller's PID namespace: nosuid, nodev, noexec.
    pub fn proc() -> Self {
        Self::named("proc").with(Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC)
    }

    /// The device tree of the caller's network namespace: nosuid, nodev, noexec.
    pub fn sysfs() -> Self {
        Self::named("sysfs").with(Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC)
    }

    /// The POSIX message queues of the caller's IPC namespace: nosuid, nodev, noexec.
    pub fn mqueue() -> Self {
        Self::named("mqueue").with(Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC)
    }

    /// A new instance of the pseudo terminals: nosuid, noexec, `ptmxmode=0666,mode=0620`, and the group that is
    /// given.
    pub fn devpts(gid: Option<u32>) -> Self {
        let mount = Self::named("devpts")
            .with_flag("newinstance")
            .with_option("ptmxmode", "0666")
            .with_option("mode", "0620")
            .with(Attributes::NO_SUID | Attributes::NO_EXEC);
        match gid {
            Some(gid) => mount.with_option("gid", &gid.to_string()),
            None => mount,
        }
    }

    /// Adds attributes.
    #[must_use]
    pub fn with(mut self, attributes: Attributes) -> Self {
        self.attributes |= attributes;
        self
    }

    /// Sets the propagation.
    #[must_use]
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    /// Sets the source of a named file system; without effect on others.
    #[must_use]
    pub fn with_source(mut self, text: &str) -> Self {
        if let Filesystem::Named { source, .. } = &mut self.filesystem {
            *source = Some(text.to_owned());
        }
        self
    }

    /// Adds an option with a value to a named file system or an overlay.
    #[must_use]
    pub fn with_option(mut self, key: &str, value: &str) -> Self {
        if let Some(options) = self.options_mut() {
            options.push((key.to_owned(), Some(value.to_owned())));
        }
        self
    }

    /// Adds an option without value to a named file system or an overlay.
    #[must_use]
    pub fn with_flag(mut self, key: &str) -> Self {
        if let Some(options) = self.options_mut() {
            options.push((key.to_owned(), None));
        }
        self
    }

    /// Applies one option as `mount(8)` and the runtime spec write it: an attribute (`ro`, `nosuid`, `rro`, ..), a
    /// propagation (`rslave`, ..), `bind`/`rbind`, or an option of the file system.
    ///
    /// `rw`, `suid`, .. clear the attribute on a bind mount, whose source may have it.
    pub fn apply_option(&mut self, option: &str) {
        if self.apply_attribute(option) {
            return;
        }
        match option {
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "unbindable" | "runbindable" => self.propagation = Some(Propagation::Unbindable),
            // What every mount has anyway, and what is about messages of the kernel alone.
            "defaults" | "async" | "nolazytime" | "nomand" | "noiversion" | "loud" | "silent" => {}
            "bind" | "rbind" => {
                if let Filesystem::Bind { recursive, .. } = &mut self.filesystem {
                    *recursive = *recursive || option == "rbind";
                }
            }
            _ => {
                if let Some(options) = self.options_mut() {
                    options.push(match option.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (option.to_owned(), None),
                    });
                }
            }
        }
    }

    /// Whether an option concerns the mount, and so also one that only shows what is mounted elsewhere.
    pub fn is_attribute(option: &str) -> bool {
        let words =
            ["defaults", "async", "nolazytime", "nomand", "noiversion", "loud", "silent", "bind", "rbind"];
        let mut probe = Self::bind("/");
        probe.apply_option(option);
        words.contains(&option) || probe.propagation.is_some() || probe.apply_attribute(option)
    }

    /// Applies an option that is an attribute of the mount, plain or recursive; says whether it is one.
    fn apply_attribute(&mut self, option: &str) -> bool {
        const ATTRIBUTES: [(&str, &str, Attributes); 9] = [
            ("ro", "rw", Attributes::READ_ONLY),
            ("nosuid", "suid", Attributes::NO_SUID),
            ("nodev", "dev", Attributes::NO_DEV),
            ("noexec", "exec", Attributes::NO_EXEC),
            ("noatime", "atime", Attributes::NO_ATIME),
            ("strictatime", "nostrictatime", Attributes::STRICT_ATIME),
            // The access time is one field of three values, and this one is its zero: it is set by clearing the others.
            ("norelatime", "relatime", Attributes::ATIME),
            ("nodiratime", "diratime", Attributes::NO_DIR_ATIME),
            ("nosymfollow", "symfollow", Attributes::NO_SYMLINKS),
        ];
        let is_bind = matches!(self.filesystem, Filesystem::Bind { .. });
        for (set, clear, attribute) in ATTRIBUTES {
            let recursive = option.strip_prefix('r');
            if matches!(option, "norelatime" | "rnorelatime") {
                // What the kernel does without a word, as in mount(8).
                return true;
            }
            let (mine, other) = if attribute.0 & Attributes::ATIME_FIELD == 0 {
                (attribute, attribute)
            } else {
                (attribute, Attributes::ATIME)
            };
            if option == set {
                self.attributes = self.attributes.without(other) | mine;
                self.cleared = self.cleared.without(other);
                return true;
            }
            if option == clear {
                self.attributes = self.attributes.without(mine);
                if is_bind {
                    self.cleared |= mine;
                }
                return true;
            }
            if recursive == Some(set) {
                self.recursive = self.recursive.without(other) | mine;
                self.recursive_cleared = self.recursive_cleared.without(other);
                return true;
            }
            if recursive == Some(clear) {
                self.recursive = self.recursive.without(mine);
                self.attributes = self.attributes.without(mine);
                if is_bind {
                    self.recursive_cleared |= mine;
                }
                return true;
            }
        }
        false
    }

    fn options_mut(&mut self) -> Option<&mut Vec<(String, Option<String>)>> {
        match &mut self.filesystem {
            Filesystem::Overlay(overlay) => Some(&mut overlay.options),
            Filesystem::Named { options, .. } => Some(options),
            Filesystem::Bind { .. } => None,
        }
    }
}

/// Makes a mount that is attached nowhere and lives as long as its descriptor, or until [`attach`] gives it a place.
pub fn detached(mount: &Mount) -> Result<OwnedFd> {
    let fd = match &mount.filesystem {
        Filesystem::Bind { source, recursive } => clone_tree(CWD, source, *recursive)?,
        Filesystem::Overlay(overlay) => detached_overlay(overlay, mount.attributes)?,
        Filesystem::Named { fstype, source, options } => {
            let context = Context::open(fstype)?;
            if let Some(source) = source {
                context.set("source", OsStr::new(source))?;
            }
            context.set_all(options)?;
            context.mount(mount.attributes)?
        }
    };
    let is_bind = matches!(mount.filesystem, Filesystem::Bind { .. });
    if is_bind && !(mount.attributes.is_empty() && mount.cleared.is_empty()) {
        set_attributes(&fd, mount.attributes, mount.cleared, false)?;
    }
    if !(mount.recursive.is_empty() && mount.recursive_cleared.is_empty()) {
        set_attributes(&fd, mount.recursive, mount.recursive_cleared, true)?;
    }
    if let Some(propagation) = mount.propagation {
        set_propagation(&fd, propagation, true)?;
    }
    Ok(fd)
}

/// Makes each mount in order and attaches all to the same directory, the later ones over the earlier.
pub fn mount_all(mounts: &[Mount], directory: &Path) -> Result<()> {
    for mount in mounts {
        attach(&detached(mount)?, CWD, directory)?;
    }
    Ok(())
}

/// A detached copy of the mount that `path`, relative to `directory`, lies in, with `path` as its root.
/// An empty path means `directory` itself, which may be a file.
pub fn clone_tree(directory: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(directory, path, flags).map_err(|errno| failed("bind", path.display(), errno))
}

/// A detached copy of the mount that is the root of another process's mount namespace.
///
/// A thread of its own enters that namespace, so the caller stays where it is.
pub fn root_of(namespace: &OwnedFd) -> Result<OwnedFd> {
    use nix::sched::{CloneFlags, setns, unshare};
    let entered = || -> Result<OwnedFd> {
        // what threads share of the file system keeps them from entering another namespace
        unshare(CloneFlags::CLONE_FS).and_then(|()| setns(namespace, CloneFlags::CLONE_NEWNS)).map_err(
            |errno| {
                failed("enter the mount namespace of", "a container", Errno::from_raw_os_error(errno as i32))
            },
        )?;
        clone_tree(CWD, Path::new("/"), false)
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(entered);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Attaches a detached mount at `path` relative to `directory`; an empty path means `directory` itself. A symbolic
/// link at the end of the path is not followed.
pub fn attach(mount: impl AsFd, directory: impl AsFd, path: &Path) -> Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if path.as_os_str().is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    rustix::mount::move_mount(mount, "", directory, path, flags)
        .map_err(|errno| failed("attach mount to", path.display(), errno))
}

/// Sets and clears attributes of the mount whose root is open as `mount`, with `recursive` also of all below it.
pub fn set_attributes(mount: impl AsFd, set: Attributes, clear: Attributes, recursive: bool) -> Result<()> {
    let mut cleared = clear.0;
    // The access time is a field of three values: the kernel wants it cleared as a whole before one is set.
    if (set.0 | clear.0) & (Attributes::ATIME_FIELD) != 0 {
        cleared |= Attributes::ATIME_FIELD;
    }
    let attributes =
        MountAttr { set: u64::from(set.0), clear: u64::from(cleared), propagation: 0, userns_fd: 0 };
    mount_setattr(mount.as_fd(), &attributes, recursive).map_err(|source| Error {
        action: "change attributes of",
        subject: "mount".to_owned(),
        source,
    })
}

/// Sets the propagation of the mount whose root is open as `mount`, with `recursive` also of all below it.
pub fn set_propagation(mount: impl AsFd, propagation: Propagation, recursive: bool) -> Result<()> {
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    };
    let attributes = MountAttr { set: 0, clear: 0, propagation, userns_fd: 0 };
    mount_setattr(mount.as_fd(), &attributes, recursive).map_err(|source| Error {
        action: "set propagation of",
        subject: "mount".to_owned(),
        source,
    })
}

/// Maps the owners of a detached mount's files through the ID maps of a user namespace (5.12, and 5.19 for overlay
/// layers).
pub fn set_id_map(mount: impl AsFd, user_namespace: impl AsFd, recursive: bool) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let userns_fd =
        u64::try_from(user_namespace.as_fd().as_raw_fd()).expect("open descriptors are not negative");
    let attributes = MountAttr { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, userns_fd };
    mount_setattr(mount.as_fd(), &attributes, recursive).map_err(|source| Error {
        action: "map owners of",
        subject: "mount".to_owned(),
        source,
    })
}

/// Makes all mounts of the caller's mount namespace private or slaves, as a new namespace wants it first.
pub fn set_root_propagation(propagation: Propagation) -> Result<()> {
    let flags = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    rustix::mount::mount_change("/", flags | MountPropagationFlags::REC)
        .map_err(|errno| failed("set propagation of", "/", errno))
}

/// Takes the topmost mount at `path` out of the tree at once; it ends when its last user does. A symbolic link at
/// the end of the path is not followed.
pub fn umount_detach(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|errno| failed("unmount", path.display(), errno))
}

/// Makes `root`, the root of a mount, the root of the caller's mount namespace, drops the old one and changes to `/`.
pub fn pivot_root(root: impl AsFd) -> Result<()> {
    let fail = |errno| failed("pivot root", "", errno);
    rustix::process::fchdir(root).map_err(fail)?;
    // With both arguments ".", the old root ends up over the new one, and is the working directory's mount.
    rustix::process::pivot_root(".", ".").map_err(fail)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(fail)?;
    rustix::process::chdir("/").map_err(fail)
}

/// A file system that is being configured.
struct Context {
    fd: OwnedFd,
    fstype: String,
}

impl Context {
    fn open(fstype: &str) -> Result<Self> {
        let fd = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| failed("mount", fstype, errno))?;
        Ok(Self { fd, fstype: fstype.to_owned() })
    }

    fn set(&self, key: &str, value: &OsStr) -> Result<()> {
        self.try_set(key, value).map_err(|errno| self.failed(errno))
    }

    fn try_set(&self, key: &str, value: &OsStr) -> std::result::Result<(), Errno> {
        rustix::mount::fsconfig_set_string(&self.fd, key, value)
    }

    fn set_all(&self, options: &[(String, Option<String>)]) -> Result<()> {
        for (key, value) in options {
            match value {
                Some(value) => self.set(key, OsStr::new(value))?,
                None => rustix::mount::fsconfig_set_flag(&self.fd, key.as_str())
                    .map_err(|errno| self.failed_on(key, errno))?,
            }
        }
        Ok(())
    }

    fn mount(&self, attributes: Attributes) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(&self.fd).map_err(|errno| self.failed(errno))?;
        rustix::mount::fsmount(
            &self.fd,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::from_bits_retain(attributes.0),
        )
        .map_err(|errno| self.failed(errno))
    }

    fn failed(&self, errno: Errno) -> Error {
        self.failed_on("", errno)
    }

    /// An error with what the kernel wrote into the context's log, which is more than an error number says.
    fn failed_on(&self, option: &str, errno: Errno) -> Error {
        let mut log = String::new();
        let mut message = [0u8; 512];
        while let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut message) {
            let line = String::from_utf8_lossy(&message[..length]);
            let line = line.strip_prefix("e ").or(line.strip_prefix("w ")).unwrap_or(&line).trim_end();
            log.push_str(if log.is_empty() { "" } else { "; " });
            log.push_str(line);
        }
        let source = io::Error::from(errno);
        let source =
            if log.is_empty() { source } else { io::Error::new(source.kind(), LoggedError { errno, log }) };
        let subject =
            if option.is_empty() { self.fstype.clone() } else { format!("{} with {option}", self.fstype) };
        Error { action: "mount", subject, source }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{errno} ({log})")]
struct LoggedError {
    errno: Errno,
    log: String,
}

/// How the lower directories are named to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LowerStyle {
    /// One `lowerdir+` each (6.5), any number of them.
    Each,
    /// One list with colons, of at most 255 bytes.
    List,
    /// One list in a page of options for `mount(2)`.
    Page,
}

fn detached_overlay(overlay: &Overlay, attributes: Attributes) -> Result<OwnedFd> {
    match overlay_in_style(overlay, attributes, LowerStyle::Each)? {
        Some(fd) => Ok(fd),
        None => match overlay_in_style(overlay, attributes, LowerStyle::List)? {
            Some(fd) => Ok(fd),
            None => overlay_in_style(overlay, attributes, LowerStyle::Page)?
                .ok_or_else(|| failed("mount", "overlay", Errno::OPNOTSUPP)),
        },
    }
}

/// Makes the overlay, or returns `None` where the style does not work here.
fn overlay_in_style(overlay: &Overlay, attributes: Attributes, style: LowerStyle) -> Result<Option<OwnedFd>> {
    // Descriptors keep the names short where they must fit into one value.
    let mut held = Vec::new();
    let list = match style {
        LowerStyle::Each => OsString::new(),
        LowerStyle::List | LowerStyle::Page => descriptor_list(&overlay.lower, &mut held)?,
    };
    if style == LowerStyle::Page {
        return overlay_by_page(overlay, attributes, &list).map(Some);
    }
    if list.len() > 255 {
        return Ok(None);
    }
    let context = Context::open("overlay")?;
    context.set("source", OsStr::new("overlay"))?;
    match style {
        LowerStyle::Each => {
            for (index, lower) in overlay.lower.iter().enumerate() {
                match context.try_set("lowerdir+", lower.as_os_str()) {
                    Ok(()) => {}
                    Err(Errno::INVAL) if index == 0 => return Ok(None),
                    Err(errno) => return Err(context.failed_on(&lower.display().to_string(), errno)),
                }
            }
        }
        LowerStyle::List | LowerStyle::Page => context.set("lowerdir", &list)?,
    }
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        if let Some(path) = path {
            context
                .try_set(key, path.as_os_str())
                .map_err(|errno| context.failed_on(&path.display().to_string(), errno))?;
        }
    }
    context.set_all(&overlay.options)?;
    context.mount(attributes).map(Some)
}

/// The directories as `/proc/self/fd/N`, joined by colons.
fn descriptor_list(lower: &[PathBuf], held: &mut Vec<OwnedFd>) -> Result<OsString> {
    let mut list = Vec::new();
    for path in lower {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open", path.display(), errno))?;
        if !list.is_empty() {
            list.push(b':');
        }
        list.extend_from_slice(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes());
        held.push(fd);
    }
    Ok(OsString::from_vec(list))
}

/// Mounts through `mount(2)`, which can only attach: in a mount namespace that one short-lived thread has to itself,
/// out of which a detached copy is taken. Nobody else sees the attached one, and it ends with the thread.
fn overlay_by_page(overlay: &Overlay, attributes: Attributes, list: &OsStr) -> Result<OwnedFd> {
    let mut data = b"lowerdir=".to_vec();
    data.extend_from_slice(list.as_bytes());
    for (key, path) in [("upperdir", &overlay.upper), ("workdir", &overlay.work)] {
        if let Some(path) = path {
            data.extend_from_slice(format!(",{key}=").as_bytes());
            for byte in path.as_os_str().as_bytes() {
                if matches!(byte, b',' | b':' | b'\\') {
                    data.push(b'\\');
                }
                data.push(*byte);
            }
        }
    }
    for (key, value) in &overlay.options {
        data.push(b',');
        data.extend_from_slice(key.as_bytes());
        if let Some(value) = value {
            data.push(b'=');
            data.extend_from_slice(value.as_bytes());
        }
    }
    let data = CString::new(data).map_err(|_| failed("mount", "overlay", Errno::INVAL))?;
    let target = overlay.lower.first().ok_or_else(|| failed("mount", "overlay", Errno::INVAL))?;
    let mount = || -> std::result::Result<OwnedFd, Errno> {
        // Not std::process::exit or fork: the new namespace is this thread's alone and dies with it.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        // The thread's descriptors are the process's, but "self" in /proc is the process: thread-self is not needed.
        rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), Some(data.as_c_str()))?;
        rustix::mount::open_tree(
            CWD,
            target,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
    };
    let fd = std::thread::scope(|scope| scope.spawn(mount).join())
        .map_err(|_| failed("mount", "overlay", Errno::INTR))?
        .map_err(|errno| failed("mount", "overlay", errno))?;
    if !attributes.is_empty() {
        set_attributes(&fd, attributes, Attributes::NONE, false)?;
    }
    Ok(fd)
}

fn failed(action: &'static str, subject: impl ToString, errno: Errno) -> Error {
    Error { action, subject: subject.to_string(), source: errno.into() }
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn mount_setattr(mount: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> io::Result<()> {
    let mut flags = AtFlags::EMPTY_PATH.bits();
    if recursive {
        // AT_RECURSIVE, which rustix has for open_tree only.
        flags |= 0x8000;
    }
    // Neither rustix nor nix wraps mount_setattr.
    // SAFETY: the path is a C string of static life, `attributes` points to a `struct mount_attr` whose size is
    // passed, and the kernel only reads both; the descriptors are borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
