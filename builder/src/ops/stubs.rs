//! Mount points that a runtime had to create are no part of the layer.

use super::beneath::{self, file_type, is_directory};
use super::tree::Tree;
use super::{Error, io_error};
use rustix::fs::{AtFlags, FileType, OFlags, Timestamps, symlinkat, unlinkat, utimensat};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// A path that will be mounted over and does not exist, and the directories on the way that do not either.
#[derive(Debug)]
pub(crate) struct Missing {
    /// From the path itself upwards.
    paths: Vec<PathBuf>,
    /// The nearest directory that exists, and its times, which the cleaning gives back.
    parent: PathBuf,
    times: Timestamps,
    /// The link that stands there instead of a mount.
    link: Option<PathBuf>,
}

/// Finds which mount points do not exist in a root file system.
pub(crate) fn find_missing(tree: &Tree, points: &[String]) -> Result<Vec<Missing>, Error> {
    let mut missing = Vec::new();
    for point in points {
        let found =
            beneath::canonical(tree.root(), Path::new(point), true).map_err(io_error("resolve", point))?;
        if found.stat.is_some() {
            continue;
        }
        let mut paths = vec![found.path.clone()];
        let mut parent = found.path;
        let stat = loop {
            parent.pop();
            if let Some(stat) =
                beneath::stat_beneath(tree.root(), &parent).map_err(io_error("stat", &parent))?
            {
                break stat;
            }
            paths.push(parent.clone());
        };
        let time = super::write::mtime(&stat);
        missing.push(Missing {
            paths,
            parent,
            times: Timestamps { last_access: time, last_modification: time },
            link: None,
        });
    }
    // Of /run/secrets/a and /run/secrets, the longer one first.
    missing.sort_by_key(|missing| std::cmp::Reverse(missing.paths.first().map(|path| path.iter().count())));
    Ok(missing)
}

/// Finds where links that a step asks for have to be made; what is there already must be the same link.
pub(crate) fn find_links(tree: &Tree, links: &[(String, PathBuf)]) -> Result<Vec<Missing>, Error> {
    let mut all = Vec::new();
    for (point, target) in links {
        let failed = || io_error("make the link", point);
        let found = beneath::canonical(tree.root(), Path::new(point), false).map_err(failed())?;
        let Some(stat) = found.stat else {
            let mut missing = find_missing(tree, std::slice::from_ref(point))?;
            missing.iter_mut().for_each(|missing| missing.link = Some(target.clone()));
            all.append(&mut missing);
            continue;
        };
        let (parent, name) = beneath::split(&found.path);
        let directory = beneath::open_directory(tree.root(), parent).map_err(failed())?;
        let is_same = file_type(&stat) == FileType::Symlink
            && beneath::read_link_at(directory.as_fd(), name).map_err(failed())? == *target;
        if !is_same {
            return Err(failed()(std::io::ErrorKind::AlreadyExists.into()));
        }
    }
    Ok(all)
}

/// Makes links, and the directories that they lie in.
pub(crate) fn make_links(root: BorrowedFd<'_>, links: &[Missing]) -> Result<(), Error> {
    for missing in links {
        let Some(target) = &missing.link else { continue };
        for path in missing.paths.iter().rev() {
            let failed = || io_error("make", path);
            let (parent, name) = beneath::split(path);
            let directory = beneath::open_directory(root, parent).map_err(failed())?;
            if missing.paths.first() == Some(path) {
                symlinkat(target, &directory, name).map_err(|error| failed()(error.into()))?;
            } else {
                super::write::make_directory(directory.as_fd(), name).map_err(failed())?;
            }
        }
    }
    Ok(())
}

/// Removes, from a layer's directory, those that exist now and are empty, or the link that was made there, and gives their parents their times back.
pub(crate) fn clean(layer: &Path, missing: &[Missing]) -> Result<(), Error> {
    let root = sys::fs::open_dir(layer).map_err(storage::Error::from)?;
    for point in missing {
        let mut removed = false;
        for path in &point.paths {
            let Some(stat) = beneath::stat_beneath(root.as_fd(), path).map_err(io_error("stat", path))?
            else {
                continue;
            };
            let flags = if is_directory(&stat) {
                AtFlags::REMOVEDIR
            } else if file_type(&stat) == FileType::RegularFile && stat.st_size == 0 {
                AtFlags::empty()
            } else if file_type(&stat) != FileType::Symlink || point.link.is_none() {
                break;
            } else {
                AtFlags::empty()
            };
            let (parent, name) = beneath::split(path);
            let directory = beneath::open_beneath(root.as_fd(), parent, OFlags::PATH)
                .map_err(io_error("open", parent))?;
            if file_type(&stat) == FileType::Symlink
                && beneath::read_link_at(directory.as_fd(), name).ok() != point.link
            {
                break;
            }
            if unlinkat(&directory, name, flags).is_err() {
                // The step put something there: it stays.
                break;
            }
            removed = true;
        }
        if removed && let Ok(parent) = beneath::open_beneath(root.as_fd(), &point.parent, OFlags::PATH) {
            let (above, name) = (parent.as_fd(), ".");
            let _ = utimensat(above, name, &point.times, AtFlags::empty());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_empty_new_mount_points_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        std::fs::create_dir_all(path.join("etc")).unwrap();
        std::fs::write(path.join("etc/hosts"), "").unwrap();
        let tree = Tree::new(sys::fs::open_dir(path).unwrap(), None);
        let points = ["/etc/hosts", "/etc/resolv.conf", "/run/secrets/a", "/data", "/full"].map(String::from);
        let missing = find_missing(&tree, &points).unwrap();
        assert_eq!(missing.len(), 4);
        std::fs::create_dir_all(path.join("run/secrets")).unwrap();
        for file in ["etc/resolv.conf", "run/secrets/a"] {
            std::fs::write(path.join(file), "").unwrap();
        }
        std::fs::create_dir(path.join("data")).unwrap();
        std::fs::create_dir(path.join("full")).unwrap();
        std::fs::write(path.join("full/kept"), "").unwrap();
        clean(path, &missing).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["etc", "full"]);
        assert!(path.join("etc/hosts").exists());
        assert!(!path.join("etc/resolv.conf").exists());
    }
}
