//! `cp`: files between this host and containers.
//!
//! Paths of a container are resolved by the kernel with the container's root as root directory: of a running one that of
//! its first process, with all that is mounted there, else the snapshot. Nothing of a container runs meanwhile in this
//! process's name, and no link that it planted, also while the copy is on its way, leads out of it. On the host nothing
//! is written outside of the directory that the user named.

use super::Containers;
use super::files::piped;
use crate::sandbox::{View, user_in};
use crate::state::{ContainerLock, ContainerRecord};
use crate::{Engine, Error, Result};
use rustix::fs::{AtFlags, FileType, OFlags, Stat, fstat, statat};
use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use storage::compress::decoder;
use storage::tar::{ExtractOptions, Ownership, Reader, TreeWriter, WriteOptions, extract_into};

/// Links that are followed in a row.
const MAX_LINKS: usize = 40;

/// Where a copy begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEnd {
    /// A path in a container.
    Container {
        /// Name or ID.
        name: String,
        /// Absolute, or from the container's working directory.
        path: PathBuf,
    },
    /// A path of this host.
    Host(PathBuf),
    /// A tar archive on the stream that the caller gives.
    Stream,
}

/// Copy files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRequest {
    /// What is copied. A path that ends in `/.` means what is in the directory.
    pub from: CopyEnd,
    /// Where to.
    pub to: CopyEnd,
    /// What comes into a container belongs to its user; else it keeps its owner.
    pub archive: bool,
    /// A directory may take the place of a file, and a file that of a directory.
    pub overwrite: bool,
}

/// A tree with a path in it.
struct Side {
    view: View,
    path: PathBuf,
    /// As errors name it.
    shown: String,
    /// Whose files are made there.
    owner: Ownership,
    record: Option<ContainerRecord>,
}

/// What lies at a path.
enum There {
    Directory(OwnedFd),
    Other { parent: OwnedFd, name: OsString, stat: Box<Stat> },
    Missing { name: OsString },
}

impl Containers<'_> {
    /// Copies files. `input` and `output` serve [`CopyEnd::Stream`].
    pub fn copy(
        &self,
        request: &CopyRequest,
        input: Option<Box<dyn Read + Send>>,
        output: &mut (dyn Write + Send),
    ) -> Result<()> {
        let _locks = self.hold_stopped([&request.from, &request.to])?;
        let from = self.side(&request.from, false, request.archive)?;
        let to = self.side(&request.to, true, request.archive)?;
        match (&from, &to) {
            (None, None) => {
                return Err(Error::invalid("copy from a stream to a stream", "one end must be a path"));
            }
            (None, Some(to)) => {
                let input = input.ok_or_else(|| Error::invalid("copy from a stream", "there is none"))?;
                self.unpack(to, input)?;
            }
            (Some(from), None) => {
                let source = Source::find(from)?;
                let name = source.name.clone().unwrap_or_else(|| OsString::from("."));
                source.write(&name, output)?;
            }
            (Some(from), Some(to)) => transfer(from, to, request.overwrite)?,
        }
        for side in [from, to].into_iter().flatten() {
            if let Some(record) = &side.record {
                self.engine.tell_container(record, "copy");
            }
        }
        Ok(())
    }

    /// Containers that do not run must not start while their files are in use. Whoever takes several locks takes them in
    /// the order of the IDs.
    fn hold_stopped(&self, ends: [&CopyEnd; 2]) -> Result<Vec<ContainerLock>> {
        let mut ids = std::collections::BTreeSet::new();
        for end in ends {
            if let CopyEnd::Container { name, .. } = end {
                let id = self.engine.state().find(name)?.id;
                if !self.engine.is_running(&id)? {
                    ids.insert(id);
                }
            }
        }
        let mut locks = Vec::new();
        for id in ids {
            locks.extend(self.engine.state().lock(&id)?);
        }
        Ok(locks)
    }

    fn side(&self, end: &CopyEnd, writes: bool, archive: bool) -> Result<Option<Side>> {
        let (name, path) = match end {
            CopyEnd::Stream => return Ok(None),
            CopyEnd::Host(path) => {
                let shown = path.display().to_string();
                let dotted = shown.ends_with("/.");
                let mut path = std::path::absolute(path)
                    .map_err(|error| Error::os(format!("find {shown}"), error))?
                    .into_os_string();
                if dotted && !path.as_bytes().ends_with(b"/.") {
                    path.push("/.");
                }
                return Ok(Some(Side {
                    view: View::of_directory(Path::new("/"))?,
                    path: path.into(),
                    shown,
                    owner: Ownership::Caller,
                    record: None,
                }));
            }
            CopyEnd::Container { name, path } => (name, path),
        };
        let engine = self.engine;
        let record = engine.state().find(name)?;
        let shown = format!("{name}:{}", path.display());
        // a relative path starts where the container's commands do, as in Podman
        let workdir = record.settings.workdir.as_deref().unwrap_or("/");
        let mut path = Path::new("/").join(workdir).join(path);
        let seen = engine.seen(&record.id)?;
        let view = if seen.is_running() {
            View::of_process(seen.pid())?
        } else {
            if let Some((source, rest)) = mounted(engine, &record, &path)? {
                path = rest;
                View::of_directory(&source)?
            } else {
                let mounts = engine.own_mounts(&record)?;
                if writes { View::writable(&mounts)? } else { View::of_mounts(&mounts)? }
            }
        };
        let owner = match archive {
            true if writes => {
                let user = record.settings.user.as_deref().unwrap_or_default();
                let user = match seen.is_running() {
                    true => user_in(&view, user, &[])?,
                    false => user_in(&engine.container_view(&record)?, user, &[])?,
                };
                Ownership::Fixed(user.uid, user.gid)
            }
            _ => Ownership::Stream,
        };
        Ok(Some(Side { view, path, shown, owner, record: Some(record) }))
    }

    fn unpack(&self, to: &Side, input: Box<dyn Read + Send>) -> Result<()> {
        let There::Directory(directory) = look(to.view.root(), &to.path, &to.shown)? else {
            return Err(Error::invalid(
                format!("copy to {}", to.shown),
                "an archive is unpacked into a directory that exists",
            ));
        };
        let failed = |error| Error::os("read the archive", error);
        let plain = decoder(BufReader::new(input)).map_err(failed)?.1;
        drop(directory);
        to.extract(&to.path, BufReader::new(plain))
    }
}

/// The source of the innermost bind mount that a path lies in, and the rest of the path.
fn mounted(engine: &Engine, record: &ContainerRecord, path: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    use crate::options::MountKind;
    let found = record
        .settings
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source } if source.is_dir() => Some((mount, Ok(source.clone()))),
            MountKind::Volume { name, subpath: None, .. } => {
                Some((mount, engine.volumes().content_path(name)))
            }
            _ => None,
        })
        .filter_map(|(mount, source)| {
            let rest = path.strip_prefix(&mount.destination).ok()?;
            Some((mount.destination.components().count(), source, Path::new("/").join(rest)))
        })
        .max_by_key(|(depth, ..)| *depth);
    found.map(|(_, source, rest)| Ok((source?, rest))).transpose()
}

/// Whether a path names what is in a directory.
fn means_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"/" || bytes.ends_with(b"/.") || bytes == b"." || path.file_name().is_none()
}

fn missing(shown: &str) -> Error {
    Error::NotFound { what: "file or directory", name: shown.to_owned() }
}

/// Looks at a path, through links, all within the root.
fn look(root: &OwnedFd, path: &Path, shown: &str) -> Result<There> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(shown),
        _ => Error::os(format!("open {shown}"), error),
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match sys::beneath::open_in_root(root, &path, directory, 0) {
            Ok(fd) => return Ok(There::Directory(fd)),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(failed(error)),
        }
        let Some((parent, name)) = sys::beneath::open_parent_in_root(root, &path).map_err(failed)? else {
            return Err(missing(shown));
        };
        let stat = match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(There::Missing { name }),
            Err(error) => return Err(failed(error.into())),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(There::Other { parent, name, stat: Box::new(stat) });
        }
        let target = sys::beneath::read_link(&parent, &name).map_err(failed)?;
        // the parent as it was written, so that `..` behind it means what the kernel makes of it
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    Err(Error::os(format!("open {shown}"), rustix::io::Errno::LOOP))
}

/// What is copied.
struct Source<'a> {
    there: There,
    /// Its own name; `None` when what is in it is meant.
    name: Option<OsString>,
    side: &'a Side,
}

impl<'a> Source<'a> {
    fn find(side: &'a Side) -> Result<Self> {
        let there = look(side.view.root(), &side.path, &side.shown)?;
        let own = || side.path.file_name().map(OsStr::to_owned);
        let name = match &there {
            There::Missing { .. } => return Err(missing(&side.shown)),
            There::Directory(_) => own().filter(|_| !means_contents(&side.path)),
            // what a container's link leads to is copied under its own name, as in Podman
            There::Other { name, .. } if side.record.is_some() => Some(name.clone()),
            There::Other { .. } => own(),
        };
        Ok(Self { there, name, side })
    }

    fn is_directory(&self) -> bool {
        matches!(self.there, There::Directory(_))
    }

    /// Writes it as an archive in which it is called `name`; `.` leaves the directory itself out.
    fn write(&self, name: &OsStr, output: impl Write) -> Result<()> {
        let failed = |error| Error::os(format!("copy {}", self.side.shown), std::io::Error::other(error));
        let prefix = name.as_bytes().to_vec();
        let mut output = match &self.there {
            There::Directory(directory) => {
                let directory = sys::beneath::reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|error| Error::os(format!("read {}", self.side.shown), error))?;
                if name == "." {
                    let options = WriteOptions::default();
                    storage::tar::write_tree(directory.as_fd(), &options, output).map_err(failed)?.0
                } else {
                    let options =
                        WriteOptions { prefix: [&prefix[..], b"/"].concat(), ..WriteOptions::default() };
                    let mut writer = TreeWriter::new(output, &options);
                    let stat = fstat(&directory)
                        .map_err(|error| Error::os(format!("read {}", self.side.shown), error))?;
                    writer.file(directory.as_fd(), b".", b"", &stat).map_err(failed)?;
                    writer.tree(directory.as_fd()).map_err(failed)?;
                    writer.finish().map_err(failed)?.0
                }
            }
            There::Other { parent, name, stat } => {
                let options = WriteOptions { prefix, ..WriteOptions::default() };
                let parent = sys::beneath::reopen(parent, OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|error| Error::os(format!("read {}", self.side.shown), error))?;
                let mut writer = TreeWriter::new(output, &options);
                writer.file(parent.as_fd(), name.as_bytes(), b"", stat).map_err(failed)?;
                writer.finish().map_err(failed)?.0
            }
            There::Missing { .. } => return Err(missing(&self.side.shown)),
        };
        output.flush().map_err(|error| Error::os("write the archive", error))
    }
}

impl Side {
    /// Unpacks an archive into a directory of this side: links in a container's tree are resolved in its root, those of
    /// the host's directory are not left.
    fn extract(&self, directory: &Path, stream: impl std::io::BufRead) -> Result<()> {
        let failed = |error| Error::os(format!("copy to {}", self.shown), std::io::Error::other(error));
        let options =
            |destination| ExtractOptions { ownership: self.owner, destination, ..ExtractOptions::default() };
        let mut reader = Reader::new(stream);
        if self.record.is_some() {
            let destination = directory.strip_prefix("/").unwrap_or(directory).to_owned();
            extract_into(self.view.root().as_fd(), &mut reader, options(destination)).map_err(failed)?;
        } else {
            let root = sys::beneath::open_root(directory)
                .map_err(|error| Error::os(format!("open {}", directory.display()), error))?;
            extract_into(root.as_fd(), &mut reader, options(PathBuf::new())).map_err(failed)?;
        }
        // what padding is left must not break the writer's pipe
        std::io::copy(&mut reader.into_inner(), &mut std::io::sink())
            .map_err(|error| Error::os("read the archive", error))?;
        Ok(())
    }
}

fn transfer(from: &Side, to: &Side, overwrite: bool) -> Result<()> {
    let source = Source::find(from)?;
    let there = look(to.view.root(), &to.path, &to.shown)?;
    let ends_in_slash = to.shown.ends_with('/');
    let refuse = |reason: &str| Err(Error::invalid(format!("copy to {}", to.shown), reason));
    let parent_path = || to.path.parent().unwrap_or(Path::new("/")).to_owned();
    // the directory, and the name that what is copied gets there
    let (directory, name) = match (&there, &source.name) {
        (There::Directory(_), Some(name)) => (to.path.clone(), name.clone()),
        (There::Directory(_), None) => (to.path.clone(), OsString::from(".")),
        (There::Missing { .. }, _) if ends_in_slash && !source.is_directory() => {
            return refuse("there is no such directory");
        }
        (There::Missing { name } | There::Other { name, .. }, _) => {
            if matches!(there, There::Other { .. }) {
                if source.is_directory() && !overwrite {
                    return refuse("a directory cannot be copied to what is none");
                }
                if ends_in_slash {
                    return refuse("it is no directory");
                }
            }
            (parent_path(), name.clone())
        }
    };
    if overwrite {
        let target = match &there {
            There::Directory(fd) if name != "." => Some((fd.as_fd(), name.as_os_str())),
            There::Other { parent, name, .. } => Some((parent.as_fd(), name.as_os_str())),
            _ => None,
        };
        if let Some((parent, name)) = target {
            make_room(parent, name, source.is_directory())
                .map_err(|error| Error::os(format!("copy to {}", to.shown), error))?;
        }
    }
    piped(|sink| source.write(&name, sink), |stream| to.extract(&directory, stream))
}

/// Removes what is not of the kind that comes.
fn make_room(parent: BorrowedFd<'_>, name: &OsStr, directory_comes: bool) -> std::io::Result<()> {
    let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (is_directory, directory_comes) {
        (true, false) => {
            use std::os::fd::AsRawFd;
            // the descriptor leads to the very directory; below it no link is followed
            std::fs::remove_dir_all(
                Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name),
            )
        }
        (false, true) => sys::beneath::remove_file(parent, name),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_mean_what_is_inside() {
        for (path, contents) in [("/", true), ("/a/.", true), ("/a", false), ("/a/", false), ("/a/..", true)]
        {
            assert_eq!(means_contents(Path::new(path)), contents, "{path}");
        }
    }
}
