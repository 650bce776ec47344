//! Patterns of host paths, for `--mount type=glob`.

use crate::filters::glob_matches;
use crate::options::{Mount, MountKind};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Most paths that a pattern may match.
const MOST: usize = 1024;

/// The mounts with a bind for each path that a pattern matches.
pub(crate) fn expand(mounts: Vec<Mount>) -> Result<Vec<Mount>> {
    let mut expanded = Vec::new();
    for mount in mounts {
        let MountKind::Glob { pattern } = &mount.kind else {
            expanded.push(mount);
            continue;
        };
        let found = paths(pattern)?;
        if found.is_empty() {
            return Err(Error::NotFound { what: "file that matches", name: pattern.clone() });
        }
        for source in found {
            let destination = match source.file_name() {
                Some(name) if mount.destination != Path::new("/") => mount.destination.join(name),
                _ => source.clone(),
            };
            let kind = MountKind::Bind { source };
            expanded.push(Mount { destination, kind, options: mount.options.clone() });
        }
    }
    Ok(expanded)
}

/// The paths that match, sorted. Names that begin with a dot match where the pattern's do.
fn paths(pattern: &str) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let mut next = Vec::new();
        for directory in found {
            if part == ".." || !part.contains(['*', '?']) {
                let path = directory.join(part);
                if path.symlink_metadata().is_ok() {
                    next.push(path);
                }
                continue;
            }
            let Ok(names) = sys::fs::read_names(&directory) else { continue };
            let matches = names.into_iter().filter(|name| {
                let name = name.to_string_lossy();
                name.starts_with('.') == part.starts_with('.') && glob_matches(part, &name)
            });
            next.extend(matches.map(|name| directory.join(name)));
            if next.len() > MOST {
                return Err(Error::invalid(
                    format!("mount of {pattern}"),
                    format!("it matches more than {MOST} paths"),
                ));
            }
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_binds() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.sh", "b.sh", "c.txt", ".d.sh"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let base = dir.path();
        let made = |text: &str| expand(vec![Mount::parse_mount(text, base).unwrap()]);
        let shown = |mounts: Vec<Mount>| -> Vec<String> {
            mounts.iter().map(|mount| mount.destination.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(shown(made("type=glob,src=*.sh,dst=/x").unwrap()), ["/x/a.sh", "/x/b.sh"]);
        let alone = base.join("c.txt").to_string_lossy().into_owned();
        assert_eq!(shown(made("type=glob,src=c.*").unwrap()), [alone]);
        assert!(made("type=glob,src=*.rs,dst=/x").is_err());
    }
}
