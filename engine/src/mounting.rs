//! `mount`, `unmount`: the file systems of containers and images at a path of this host.
//!
//! A container's layer can be mounted for writing once. So a container that runs is shown by a copy of its own mount, and
//! one that starts while it is shown runs on what is mounted: both are the same file system. The places are in
//! `RUNROOT/mounts/`, beside a file that counts how often each was asked for; a reboot takes both.

use crate::sandbox::View;
use crate::state::{ContainerRecord, files};
use crate::{Engine, Error, Result};
use std::path::{Path, PathBuf};
use sys::mount::Mount;

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// ID of the container or the image, 64 hex digits.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Where.
    pub path: PathBuf,
}

fn failed(what: String) -> impl FnOnce(sys::mount::Error) -> Error {
    move |error| Error::os(what, error.source)
}

/// Whether something is mounted at a directory.
pub(crate) fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

impl Engine {
    fn mount_place(&self, id: &str) -> PathBuf {
        self.config().run_mounts().join(id)
    }

    /// Where a container or an image is shown, if it is.
    pub(crate) fn shown_at(&self, id: &str) -> Option<PathBuf> {
        Some(self.mount_place(id)).filter(|place| is_mounted(place))
    }

    fn check_mounts(&self, what: &str) -> Result<()> {
        // elsewhere the path that is printed would show nothing
        if self.config().identity.rootless && crate::config::unshared_uid().is_none() {
            return Err(Error::unsupported(
                format!("{what} by an ordinary user"),
                "the mount is seen in the user's own namespaces alone; run `davit unshare` first and this command in it",
            ));
        }
        Ok(())
    }

    /// Shows a container's file system; gives the path.
    pub fn mount_container(&self, name: &str) -> Result<PathBuf> {
        self.check_mounts("mount")?;
        let state = self.state();
        let found = state.find(name)?;
        let missing = || Error::NotFound { what: "container", name: name.to_owned() };
        let _lock = state.lock(&found.id)?.ok_or_else(missing)?;
        let record = state.read(&found.id)?.ok_or_else(missing)?;
        self.show(&record.id, &record.name, || {
            let seen = self.seen(&record.id)?;
            if seen.is_running() {
                let path = format!("/proc/{}/ns/mnt", seen.pid());
                let namespace = std::fs::File::open(&path)
                    .map_err(|error| Error::os(format!("open {path}"), error))?
                    .into();
                return sys::mount::root_of(&namespace).map_err(failed(format!("mount {}", record.name)));
            }
            crate::sandbox::open_lasting(&self.own_mounts(&record)?)
        })
    }

    /// Shows an image's file system, for reading; gives the path.
    pub fn mount_image(&self, name: &str) -> Result<PathBuf> {
        self.check_mounts("image mount")?;
        let found = self.find_image(name)?;
        let id = found.id().hex().to_owned();
        self.show(&id, &found.shown(), || {
            let Some(chain) = found.image.record.layers.last() else {
                return Err(Error::unsupported(format!("mounting image {name}"), "it has no layers"));
            };
            let store = self.store()?;
            let layer = store
                .layers()
                .get(chain)
                .map_err(crate::error::storage("find the layers"))?
                .ok_or_else(|| Error::NotFound { what: "layer", name: chain.to_string() })?;
            let mounts =
                store.snapshots().view(&layer.snapshot).map_err(crate::error::storage("find the layers"))?;
            let root = View::of_mounts(&mounts)?;
            // a directory of the store's own is shown read-only, as an overlay of several is by itself
            match mounts.as_slice() {
                [Mount { filesystem: sys::mount::Filesystem::Bind { source, .. }, .. }] => {
                    let mut bind = Mount::bind(source);
                    bind.apply_option("ro");
                    sys::mount::detached(&bind).map_err(failed(format!("mount image {name}")))
                }
                _ => root.into_root(),
            }
        })
    }

    fn show(
        &self,
        id: &str,
        name: &str,
        make: impl FnOnce() -> Result<std::os::fd::OwnedFd>,
    ) -> Result<PathBuf> {
        let place = self.mount_place(id);
        files::create_directory(&place)?;
        let _count_lock = self.lock_mounts()?;
        if !is_mounted(&place) {
            let mount = make()?;
            sys::mount::attach(&mount, rustix::fs::CWD, &place).map_err(failed(format!("mount {name}")))?;
            files::write_json(&count_file(&place), &0_u32, false)?;
        }
        let count: u32 = files::read_json(&count_file(&place))?.unwrap_or(0);
        files::write_json(&count_file(&place), &(count + 1), false)?;
        Ok(place)
    }

    fn lock_mounts(&self) -> Result<sys::lock::FileLock> {
        let path = self.config().run_mounts().join("lock");
        sys::lock::exclusive(&path)
            .map_err(|error| Error::os(format!("lock {}", path.display()), error.source))
    }

    /// Takes one mount of a container or an image back, with `all` each of them. Says whether it was shown.
    pub fn unmount(&self, id: &str, all: bool) -> Result<bool> {
        let place = self.mount_place(id);
        if !is_mounted(&place) {
            return Ok(false);
        }
        let _count_lock = self.lock_mounts()?;
        let count: u32 = files::read_json(&count_file(&place))?.unwrap_or(1);
        if count > 1 && !all {
            files::write_json(&count_file(&place), &(count - 1), false)?;
            return Ok(true);
        }
        if is_mounted(&place) {
            sys::mount::umount_detach(&place).map_err(failed(format!("unmount {}", place.display())))?;
        }
        files::remove_file(&count_file(&place))?;
        // never with what is in it: something may have been mounted over it
        let _ = std::fs::remove_dir(&place);
        Ok(true)
    }

    /// The containers that are shown.
    pub fn mounted_containers(&self) -> Result<Vec<Shown>> {
        let mut shown = Vec::new();
        for record in self.state().list()? {
            if let Some(path) = self.shown_at(&record.id) {
                shown.push(Shown { names: vec![record.name], id: record.id, path });
            }
        }
        Ok(shown)
    }

    /// The images that are shown.
    pub fn mounted_images(&self) -> Result<Vec<Shown>> {
        let images = self.store()?.images().list().map_err(crate::error::storage("list images"))?;
        let shown = images.into_iter().filter_map(|image| {
            let id = image.record.id.hex().to_owned();
            let names = image.tags.into_iter().map(|tag| tag.reference).collect();
            self.shown_at(&id).map(|path| Shown { id, names, path })
        });
        Ok(shown.collect())
    }

    /// The ID of a container, whole.
    pub fn container_id(&self, name: &str) -> Result<String> {
        Ok(self.state().find(name)?.id)
    }

    /// The ID of an image, whole.
    pub fn image_id(&self, name: &str) -> Result<String> {
        Ok(self.find_image(name)?.id().hex().to_owned())
    }

    /// The mounts of a container's own file system: what its layers are, or, where it is shown, what is mounted.
    pub(crate) fn own_mounts(&self, record: &ContainerRecord) -> Result<Vec<Mount>> {
        if let Some(place) = self.shown_at(&record.id) {
            return Ok(vec![Mount::bind(&place)]);
        }
        self.store()?
            .snapshots()
            .mounts(&record.snapshot)
            .map_err(crate::error::storage(format!("find the file system of container {}", record.name)))
    }
}

fn count_file(place: &Path) -> PathBuf {
    place.with_extension("count")
}
