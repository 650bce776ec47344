//! What happens to the mounts of a container when it starts: volumes get what the image has at their places, are mounted
//! where they stand for a file system, and become binds; images become overlays.

use super::backing::{self, Backing};
use super::record::{VolumeFiles, VolumeRecord};
use super::{Volumes, missing};
use crate::options::{Mount, MountKind};
use crate::sandbox::{View, owners};
use crate::state::{ContainerRecord, files};
use crate::{Engine, Error, Result};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::mount::Filesystem;

/// Mounts as the runtime makes them.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Binds, overlays and file systems in memory.
    pub(crate) mounts: Vec<Mount>,
    /// What some of them name by descriptor: to be kept open until they are made.
    pub(crate) kept: Vec<OwnedFd>,
}

/// The key of the snapshot that an image mount of a container shows.
pub(crate) fn image_snapshot_key(id: &str, number: usize) -> String {
    format!("container-{id}-image-{number}")
}

impl Engine {
    /// The mounts of a container that is about to start; the caller holds its lock. `view` is its file system and `user` the
    /// owner of its process, as they are inside.
    pub(crate) fn ready_mounts(
        &self,
        record: &ContainerRecord,
        view: &View,
        user: (u32, u32),
    ) -> Result<Ready> {
        let mut ready = Ready::default();
        for (number, asked) in record.settings.mounts.iter().enumerate() {
            let mut mount = asked.clone();
            mount.kind = match &asked.kind {
                MountKind::Volume { name, subpath, no_copy, .. } => {
                    let offer = Offer { record, view, user, place: &asked.destination };
                    let copies = !no_copy && subpath.is_none();
                    let content = self.volumes().ready(name, copies, &offer)?;
                    let source = match subpath {
                        Some(subpath) => below(&content, name, subpath, &mut ready.kept)?,
                        None => content,
                    };
                    MountKind::Bind { source }
                }
                MountKind::Image { writable, .. } => self.image_mount(record, number, *writable)?,
                other => other.clone(),
            };
            if asked.has("O") {
                mount.options.retain(|word| word != "O");
                mount.kind = self.covered(record, number, &mount)?;
            }
            if matches!(mount.kind, MountKind::Overlay { .. }) {
                mount.options.retain(|word| !matches!(word.as_str(), "bind" | "rbind" | "rw"));
            }
            ready.mounts.push(mount);
        }
        Ok(ready)
    }

    /// A layer of the container's own over a directory; empty at each start.
    fn covered(&self, record: &ContainerRecord, number: usize, mount: &Mount) -> Result<MountKind> {
        let MountKind::Bind { source } = &mount.kind else {
            return Err(Error::invalid(
                format!("mount {}", mount.destination.display()),
                "O is an option of paths and volumes",
            ));
        };
        let place = self.state().directory(&record.id).join(format!("over-{number}"));
        let (upper, work) = (place.join("upper"), place.join("work"));
        files::remove_tree(&place)?;
        files::create_directory(&upper)?;
        files::create_directory(&work)?;
        // the root of an overlay is what its upper directory is
        let failed = |error: std::io::Error| Error::os(format!("look at {}", source.display()), error);
        let found = std::fs::metadata(source).map_err(failed)?;
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        chown(&upper, Some(found.uid()), Some(found.gid())).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(found.mode() & 0o7777);
        std::fs::set_permissions(&upper, mode).map_err(failed)?;
        Ok(MountKind::Overlay { lower: vec![source.clone()], upper: Some(upper), work: Some(work) })
    }

    /// The file system of an image, which a snapshot keeps.
    fn image_mount(&self, record: &ContainerRecord, number: usize, writable: bool) -> Result<MountKind> {
        let key = image_snapshot_key(&record.id, number);
        let mounts = self
            .store()?
            .snapshots()
            .mounts(&key)
            .map_err(crate::error::storage(format!("find the image mounts of container {}", record.name)))?;
        match mounts.as_slice() {
            [sys::mount::Mount { filesystem: Filesystem::Bind { source, .. }, .. }] => {
                Ok(MountKind::Bind { source: source.clone() })
            }
            [sys::mount::Mount { filesystem: Filesystem::Overlay(overlay), .. }] => {
                let (lower, upper, work) = match (writable, overlay.upper.clone()) {
                    (true, upper) => (overlay.lower.clone(), upper, overlay.work.clone()),
                    // what is only read needs no directory to write to, and an empty one above makes two of one layer
                    (false, upper) => (upper.into_iter().chain(overlay.lower.clone()).collect(), None, None),
                };
                Ok(MountKind::Overlay { lower, upper, work })
            }
            _ => Err(Error::unsupported("image mounts", "the storage driver has no directory for one")),
        }
    }
}

/// What a volume is offered at its first use.
struct Offer<'a> {
    record: &'a ContainerRecord,
    view: &'a View,
    user: (u32, u32),
    place: &'a Path,
}

impl Volumes<'_> {
    /// Makes a volume ready for a container that starts; gives the host path of its content.
    fn ready(&self, name: &str, copies: bool, offer: &Offer<'_>) -> Result<PathBuf> {
        let files = self.files();
        let _lock = files.lock(name, true)?.ok_or_else(|| missing(name))?;
        let mut record = files.read(name)?.ok_or_else(|| missing(name))?;
        let backing = backing::of(&record)?;
        let content = match &backing {
            Backing::Bind(path) => {
                if !path.is_dir() {
                    let error = std::io::Error::from(std::io::ErrorKind::NotFound);
                    return Err(Error::os(format!("use {} as volume {name}", path.display()), error));
                }
                path.clone()
            }
            other => {
                let place = files.data(name);
                backing::mount(&record, other, &place)?;
                place
            }
        };
        let was = (record.needs_copy_up, record.needs_chown);
        let in_directory = backing == Backing::Directory;
        if in_directory {
            arrive(&files, name)?;
        }
        if record.needs_copy_up && copies {
            if in_directory && is_empty(&content)? {
                offer.fill(&files, &record)?;
            }
            record.needs_copy_up = false;
        }
        if record.needs_chown {
            if in_directory && is_empty(&content)? {
                offer.own(&content)?;
            }
            record.needs_chown = false;
        }
        if was != (record.needs_copy_up, record.needs_chown) {
            files.write(&record)?;
        }
        Ok(content)
    }

    /// Takes the file systems of a container's volumes away where no other container that runs uses them.
    pub(crate) fn release(&self, container: &ContainerRecord) -> Result<()> {
        let files = self.files();
        for name in container.settings.mounts.iter().filter_map(Mount::volume) {
            let place = files.data(name);
            if !super::record::is_mounted(&place) {
                continue;
            }
            let Some(_lock) = files.lock(name, true)? else { continue };
            if self.mounts_by_hand(name)? == 0 && !self.is_running_with(name, Some(&container.id))? {
                backing::unmount(&place)?;
            }
        }
        Ok(())
    }
}

impl Offer<'_> {
    /// Copies what the image has at the place. A killed copy leaves a directory that the next one begins anew; a whole one
    /// is moved by whoever finds it.
    fn fill(&self, files: &VolumeFiles, record: &VolumeRecord) -> Result<()> {
        let Some(source) = self.directory()? else { return Ok(()) };
        let what = || format!("copy {} of the image to volume {}", self.place.display(), record.name);
        let directory = files.directory(&record.name);
        let (new, whole) = (directory.join("_new"), directory.join("_copy"));
        files::remove_tree(&new)?;
        files::create_directory(&new)?;
        let target =
            sys::fs::open_dir(&new).map_err(|error| Error::os(what(), std::io::Error::other(error)))?;
        storage::snapshot::copy_directory(&source, &target, self.place)
            .map_err(crate::error::storage(what()))?;
        let settings = &self.record.settings;
        if let Some(maps) = settings.maps.as_ref().filter(|_| !settings.owners_shifted) {
            owners::shift_directory(&target, maps)?;
        }
        rustix::fs::syncfs(&target).map_err(|error| Error::os(what(), error))?;
        sys::fs::rename(&new, &whole).map_err(|error| Error::os(what(), error.source))?;
        arrive(files, &record.name)
    }

    /// The directory of the image at the place, where there is one.
    fn directory(&self) -> Result<Option<OwnedFd>> {
        let below = self.place.strip_prefix("/").unwrap_or(self.place);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match sys::beneath::open_in_root(self.view.root(), below, flags, 0) {
            Ok(found) => {
                let read = storage::snapshot::readable(&found);
                read.map(Some).map_err(crate::error::storage(format!("read {}", self.place.display())))
            }
            // nothing, or no directory
            Err(_) => Ok(None),
        }
    }

    /// Gives an empty volume the owner and the mode of the image's directory, or else the process's owner.
    fn own(&self, content: &Path) -> Result<()> {
        let what = || format!("choose the owner of {}", content.display());
        let settings = &self.record.settings;
        let outside = |owner: (u32, u32)| match &settings.maps {
            Some(maps) => maps.outside(owner.0, owner.1),
            None => owner,
        };
        let (owner, mode) = match self.directory()? {
            Some(found) => {
                let stat = rustix::fs::fstat(&found).map_err(|error| Error::os(what(), error))?;
                let owner = (stat.st_uid, stat.st_gid);
                (if settings.owners_shifted { owner } else { outside(owner) }, Some(stat.st_mode & 0o7777))
            }
            None => (outside(self.user), None),
        };
        let target = sys::fs::open_dir(content).map_err(|error| Error::os(what(), error.source))?;
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::fchown(&target, Some(uid), Some(gid)).map_err(|error| Error::os(what(), error))?;
        if let Some(mode) = mode {
            rustix::fs::fchmod(&target, Mode::from_raw_mode(mode))
                .map_err(|error| Error::os(what(), error))?;
        }
        Ok(())
    }
}

/// Moves a whole copy to its place: at once where nobody has the directory open, else entry by entry.
fn arrive(files: &VolumeFiles, name: &str) -> Result<()> {
    let (whole, place) = (files.directory(name).join("_copy"), files.data(name));
    if !whole.is_dir() {
        return Ok(());
    }
    let failed = |error: sys::fs::Error| Error::os(format!("fill volume {name}"), error.source);
    // Containers that run have the directory itself, which must stay the one that it is.
    for entry in sys::fs::read_names(&whole).map_err(failed)? {
        match sys::fs::rename_noreplace(&whole.join(&entry), &place.join(&entry)) {
            Ok(()) => {}
            // a container was quicker to make something of this name
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let (source, target) =
        (sys::fs::open_dir(&whole).map_err(failed)?, sys::fs::open_dir(&place).map_err(failed)?);
    let attributes = || -> std::io::Result<()> {
        let stat = rustix::fs::fstat(&source)?;
        rustix::fs::fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        rustix::fs::fsync(&target)?;
        Ok(())
    };
    attributes().map_err(|error| Error::os(format!("fill volume {name}"), error))?;
    files::remove_tree(&whole)
}

fn is_empty(directory: &Path) -> Result<bool> {
    let names = sys::fs::read_names(directory)
        .map_err(|error| Error::os(format!("list {}", directory.display()), error.source))?;
    Ok(names.is_empty())
}

/// A path below a volume, held open: whoever changes the volume meanwhile cannot make it lead out.
fn below(content: &Path, name: &str, subpath: &Path, kept: &mut Vec<OwnedFd>) -> Result<PathBuf> {
    let what = || format!("subpath {} of volume {name}", subpath.display());
    let root = sys::beneath::open_root(content).map_err(|error| Error::os(what(), error))?;
    let found = sys::beneath::open_beneath(&root, subpath, OFlags::PATH | OFlags::CLOEXEC, 0)
        .map_err(|error| Error::os(what(), error))?;
    let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), found.as_raw_fd()));
    kept.push(found);
    Ok(path)
}
