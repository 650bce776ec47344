//! Which control group layout this machine has, and where this caller may make groups.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The mount of one hierarchy of the old layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Mount {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The directory below which relative groups are made.
    pub parent: PathBuf,
}

/// The control group layout, as far as this caller can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Nothing can be used.
    None {
        /// Why, for people: `/sys/fs/cgroup is mounted read-only`.
        reason: String,
    },
    /// The unified tree.
    V2 {
        /// Its mount point.
        mount: PathBuf,
        /// The directory below which relative groups are made.
        parent: PathBuf,
        /// Controllers that groups below `parent` can have.
        controllers: Vec<String>,
    },
    /// One hierarchy a controller, or several controllers sharing one; also the hybrid layout.
    V1 {
        /// Controller (`memory`, `name=systemd`) to mount.
        mounts: BTreeMap<String, V1Mount>,
    },
}

impl Layout {
    /// Tells whether groups can have `controller`, in the old layout's names (`blkio` is `io` in the unified tree;
    /// freezing and device rules need no controller there).
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        match self {
            Self::None { .. } => false,
            Self::V1 { mounts } => mounts.contains_key(controller),
            Self::V2 { controllers, .. } => match controller {
                "freezer" | "devices" | "cpuacct" => true,
                "blkio" => controllers.iter().any(|name| name == "io"),
                name => controllers.iter().any(|candidate| candidate == name),
            },
        }
    }

    /// Tells whether this is the unified tree.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        matches!(self, Self::V2 { .. })
    }

    /// Why no group can be used, if so.
    #[must_use]
    pub fn unavailable(&self) -> Option<&str> {
        match self {
            Self::None { reason } => Some(reason),
            _ => None,
        }
    }
}

/// The layout of this process, looked at once.
pub fn layout() -> &'static Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    LAYOUT.get_or_init(detect)
}

/// Looks at the mounts and at the caller's own groups.
#[must_use]
pub fn detect() -> Layout {
    let mounts = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(mounts) => mounts,
        Err(error) => return Layout::None { reason: format!("read /proc/self/mountinfo: {error}") },
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    from_tables(&mounts, &own, &writable)
}

/// Where the unified tree is mounted, if it is the one that limits come from.
#[must_use]
pub fn unified_mount() -> Option<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
    unified_only(&mountinfo).map(|mount| mount.mount)
}

fn unified_only(mountinfo: &str) -> Option<GroupMount> {
    let mounts = group_mounts(mountinfo);
    let old = |mount: &GroupMount| {
        !mount.unified && mount.options.split(',').any(|option| CONTROLLERS.contains(&option))
    };
    if mounts.iter().any(old) {
        return None;
    }
    mounts.into_iter().find(|mount| mount.unified)
}

/// The part of the unified tree that systemd hands on: all of it to root (`user` is `None`), to a user what the manager
/// of that user has.
#[must_use]
pub fn delegated_by_systemd(user: Option<u32>) -> Layout {
    let Some(mount) = unified_mount() else {
        return Layout::None { reason: "there is no unified cgroup tree (v2)".into() };
    };
    let parent = match user {
        None => mount.clone(),
        Some(uid) => mount.join(format!("user.slice/user-{uid}.slice/user@{uid}.service")),
    };
    match fs::read_to_string(parent.join("cgroup.controllers")) {
        Ok(list) => {
            let controllers = list.split_whitespace().map(Into::into).collect();
            Layout::V2 { mount, parent, controllers }
        }
        Err(error) => Layout::None { reason: format!("read {}: {error}", parent.display()) },
    }
}

fn writable(path: &Path) -> bool {
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::WRITE_OK, rustix::fs::AtFlags::EACCESS)
        .is_ok()
}

/// One line of mountinfo that is a control group mount.
struct GroupMount {
    root: String,
    mount: PathBuf,
    unified: bool,
    options: String,
}

fn group_mounts(mountinfo: &str) -> Vec<GroupMount> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
        let mut right = right.split(' ');
        let (Some(kind), _, options) = (right.next(), right.next(), right.next().unwrap_or("")) else {
            continue;
        };
        if matches!(kind, "cgroup" | "cgroup2") {
            found.push(GroupMount {
                root: unescape(root),
                mount: unescape(mount).into(),
                unified: kind == "cgroup2",
                options: options.into(),
            });
        }
    }
    found
}

/// Undoes the octal escapes of blanks in `/proc` tables.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The pure part of [`detect`]: mountinfo, `/proc/self/cgroup`, and a question whether a path can be written.
pub(super) fn from_tables(mountinfo: &str, own: &str, writable: &dyn Fn(&Path) -> bool) -> Layout {
    let mounts = group_mounts(mountinfo);
    // A later mount at the same place covers an earlier one; a second place for the same hierarchy is as good.
    let mut old: BTreeMap<String, V1Mount> = BTreeMap::new();
    let mut refused = None;
    for mount in mounts.iter().filter(|mount| !mount.unified) {
        let names = mount
            .options
            .split(',')
            .filter(|option| option.starts_with("name=") || CONTROLLERS.contains(option));
        for name in names {
            if writable(&mount.mount) {
                let mount = mount.mount.clone();
                old.entry(name.into()).or_insert_with(|| V1Mount { parent: mount.clone(), mount });
            } else {
                refused = Some(mount.mount.clone());
            }
        }
    }
    if old.keys().any(|name| !name.starts_with("name=")) {
        return Layout::V1 { mounts: old };
    }
    if let Some(path) = refused {
        return Layout::None {
            reason: format!("{} cannot be written by this user (cgroup v1)", path.display()),
        };
    }
    match mounts.iter().find(|mount| mount.unified) {
        Some(mount) => unified(mount, own, writable),
        None => Layout::None { reason: "no cgroup file system is mounted".into() },
    }
}

const CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

fn unified(mount: &GroupMount, own: &str, writable: &dyn Fn(&Path) -> bool) -> Layout {
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    // The mount may show a part of the tree only; `/proc/self/cgroup` is relative to the namespace's root.
    let own = own.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(own);
    let usable =
        |directory: &Path| writable(directory) && writable(&directory.join("cgroup.subtree_control"));
    if usable(&mount.mount) {
        return describe(mount, mount.mount.clone());
    }
    // Without power over the root: the group around ours, because ours has processes and so can have no children with
    // controllers (the rule of no inner processes).
    let mut directory = mount.mount.clone();
    directory
        .extend(Path::new(own).components().filter(|part| matches!(part, std::path::Component::Normal(_))));
    let parent = directory.parent().filter(|parent| directory != mount.mount && usable(parent));
    match parent {
        Some(parent) => describe(mount, parent.into()),
        None => {
            Layout::None { reason: format!("cgroup {} is not delegated to this user", directory.display()) }
        }
    }
}

fn describe(mount: &GroupMount, parent: PathBuf) -> Layout {
    let list = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(parent.join(file)).unwrap_or_default();
        text.split_whitespace().map(Into::into).collect()
    };
    let enabled = list("cgroup.subtree_control");
    // Only the real root, which has no cgroup.type, may have both processes and children with controllers.
    let inner = parent.join("cgroup.type").try_exists().unwrap_or(false)
        && fs::read_to_string(parent.join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
    let controllers = if inner { enabled } else { list("cgroup.controllers") };
    Layout::V2 { mount: mount.mount.clone(), parent, controllers }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "34 25 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hybrid_is_not_unified() {
        assert!(unified_only(HYBRID).is_none());
        assert_eq!(unified_only(UNIFIED).unwrap().mount, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn hybrid_is_the_old_layout() {
        let layout = from_tables(HYBRID, "0::/\n", &|_| true);
        let Layout::V1 { mounts } = &layout else { panic!("{layout:?}") };
        assert_eq!(mounts.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory", "name=systemd"]);
        assert_eq!(mounts["cpu"].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(layout.has("memory") && !layout.has("pids"));
    }

    #[test]
    fn rootless_on_the_old_layout_has_none_and_says_why() {
        let layout = from_tables(HYBRID, "0::/\n", &|_| false);
        assert!(layout.unavailable().unwrap().contains("cannot be written"), "{layout:?}");
        let none = from_tables("", "", &|_| true);
        assert_eq!(none.unavailable(), Some("no cgroup file system is mounted"));
    }

    #[test]
    fn unified_root_and_delegation() {
        let own = "0::/user.slice/user-7.slice/user@7.service/app.slice/run.scope\n";
        let Layout::V2 { parent, .. } = from_tables(UNIFIED, own, &|_| true) else { panic!() };
        assert_eq!(parent, Path::new("/sys/fs/cgroup"));
        let delegated = |path: &Path| path.to_string_lossy().contains("user@7.service/app.slice");
        let Layout::V2 { parent, .. } = from_tables(UNIFIED, own, &delegated) else { panic!() };
        assert_eq!(parent, Path::new("/sys/fs/cgroup/user.slice/user-7.slice/user@7.service/app.slice"));
        let session = from_tables(UNIFIED, "0::/user.slice/user-7.slice/session-1.scope\n", &delegated);
        assert!(session.unavailable().unwrap().contains("session-1.scope is not delegated"), "{session:?}");
    }
}
