//! Volumes: directories that outlive containers. One handle; records and locks are in `record`, what options mean in
//! `backing`, what happens when a container starts in `fill`.

mod archive;
mod backing;
mod fill;
mod glob;
mod record;
mod requests;

pub(crate) use fill::image_snapshot_key;
pub(crate) use glob::expand;
pub(crate) use record::{VolumeFiles, VolumeLock, VolumeRecord};
pub use requests::*;

use crate::containers::{CreateRequest, RemoveRequest, Selection};
use crate::events::{Event, EventType};
use crate::filters::{Filters, name_matches, parse_bool};
use crate::images::PruneReport;
use crate::options::MountKind;
use crate::state::{ContainerRecord, files, names};
use crate::time::Instant;
use crate::{Engine, Error, Result};
use backing::Backing;

/// Keys of the filters of listings.
const FILTERS: [&str; 10] =
    ["name", "driver", "label", "label!", "opt", "scope", "until", "dangling", "after", "since"];

/// The volumes of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Volumes<'a> {
    pub(crate) engine: &'a Engine,
}

impl Engine {
    /// The volumes.
    pub fn volumes(&self) -> Volumes<'_> {
        Volumes { engine: self }
    }

    pub(crate) fn volume_files(&self) -> VolumeFiles {
        VolumeFiles::new(self.config())
    }

    fn tell_volume(&self, name: &str, status: &'static str) {
        let r#type = EventType::Volume;
        self.tell(Event { r#type, status: status.into(), name: name.to_owned(), ..Event::default() });
    }
}

fn missing(name: &str) -> Error {
    Error::NotFound { what: "volume", name: name.to_owned() }
}

impl Volumes<'_> {
    fn files(&self) -> VolumeFiles {
        self.engine.volume_files()
    }

    /// Makes a volume; gives its name.
    pub fn create(&self, request: &VolumeCreateRequest) -> Result<String> {
        match request.driver.as_str() {
            "" | "local" => {}
            other => {
                return Err(Error::unsupported(format!("volume driver {other}"), "local is the only one"));
            }
        }
        let asked = backing::read(&request.options)?;
        let name = match &request.name {
            Some(name) => name.clone(),
            None => names::random_id()?,
        };
        let record = VolumeRecord {
            name: name.clone(),
            created_nanos: Instant::now().0,
            labels: request.labels.clone(),
            options: request.options.clone(),
            uid: asked.uid.unwrap_or(request.uid),
            gid: asked.gid.unwrap_or(request.gid),
            anonymous: request.name.is_none(),
            needs_copy_up: !asked.no_copy,
            needs_chown: asked.uid.is_none() && asked.gid.is_none() && (request.uid, request.gid) == (0, 0),
            ..VolumeRecord::default()
        };
        if self.files().create(record)? {
            self.engine.tell_volume(&name, "create");
        } else if !request.ignore {
            return Err(Error::Taken { what: "volume", name });
        }
        Ok(name)
    }

    /// Whether there is a volume of this name.
    pub fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.files().read(name)?.is_some())
    }

    /// Describes a volume, by its name or a beginning of it.
    pub fn inspect(&self, name: &str) -> Result<VolumeReport> {
        let record = self.files().find(name)?;
        let users = self.users()?;
        self.report(&record, &users)
    }

    /// Describes the volumes that match, by name.
    pub fn list(&self, filters: &[String]) -> Result<Vec<VolumeReport>> {
        let filters = Filters::parse("volumes", filters, &FILTERS)?;
        let users = self.users()?;
        let all = self.files().list()?;
        let mut reports = Vec::new();
        for record in &all {
            if self.matches(record, &filters, &users, &all)? {
                reports.push(self.report(record, &users)?);
            }
        }
        Ok(reports)
    }

    fn matches(
        &self,
        record: &VolumeRecord,
        filters: &Filters,
        users: &[ContainerRecord],
        all: &[VolumeRecord],
    ) -> Result<bool> {
        let is_used = users.iter().any(|user| uses(user, &record.name));
        for text in filters.values("dangling") {
            if parse_bool("dangling", text)? == is_used {
                return Ok(false);
            }
        }
        for key in ["after", "since"] {
            for text in filters.values(key) {
                let other = all.iter().find(|other| other.name == *text).ok_or_else(|| missing(text))?;
                if record.created_nanos <= other.created_nanos {
                    return Ok(false);
                }
            }
        }
        let option = |wanted: &str| {
            let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
            record.options.get(key).is_some_and(|found| value.is_empty() || found == value)
        };
        Ok(filters.labels(&record.labels)
            && filters.any("name", |name| name_matches(name, &record.name))
            && filters.any("driver", |driver| driver == "local")
            && filters.any("scope", |scope| scope == "local")
            && filters.any("opt", option)
            && filters.until(Instant(record.created_nanos))?)
    }

    /// Records of the containers that have volumes.
    fn users(&self) -> Result<Vec<ContainerRecord>> {
        let keep = |record: ContainerRecord| {
            Ok(record.settings.mounts.iter().any(|mount| mount.volume().is_some()).then_some(record))
        };
        self.engine.state().read_all(keep)
    }

    fn report(&self, record: &VolumeRecord, users: &[ContainerRecord]) -> Result<VolumeReport> {
        let mut mount_count = self.mounts_by_hand(&record.name)?;
        for user in users.iter().filter(|user| uses(user, &record.name)) {
            mount_count += u32::from(self.engine.is_running(&user.id)?);
        }
        Ok(VolumeReport {
            name: record.name.clone(),
            driver: "local".to_owned(),
            mountpoint: self.files().data(&record.name).to_string_lossy().into_owned(),
            created_at: Instant(record.created_nanos).rfc3339(),
            labels: record.labels.clone(),
            scope: "local".to_owned(),
            options: record.options.clone(),
            uid: record.uid,
            gid: record.gid,
            anonymous: record.anonymous,
            mount_count,
            needs_copy_up: record.needs_copy_up,
            needs_chown: record.needs_chown,
        })
    }

    /// Removes volumes.
    pub fn remove(&self, request: &VolumeRemoveRequest) -> Result<Vec<VolumeOutcome>> {
        self.reap()?;
        let names = match request.all {
            true => self.files().names()?,
            false => request.names.clone(),
        };
        let remove = |name: String| VolumeOutcome { result: self.remove_named(&name, request), name };
        Ok(names.into_iter().map(remove).collect())
    }

    fn remove_named(&self, name: &str, request: &VolumeRemoveRequest) -> Result<bool> {
        let record = match self.files().find(name) {
            Ok(record) => record,
            Err(Error::NotFound { .. }) if request.force => return Ok(false),
            Err(error) => return Err(error),
        };
        if request.force {
            let users = self.users()?.into_iter().filter(|user| uses(user, &record.name));
            let containers: Vec<String> = users.map(|user| user.id).collect();
            if !containers.is_empty() {
                let selection = Selection { names: containers, ignore: true, ..Selection::default() };
                let remove = RemoveRequest {
                    selection,
                    force: true,
                    timeout: request.timeout,
                    volumes: false,
                    depend: true,
                };
                for outcome in self.engine.containers().remove(&remove)? {
                    outcome.result?;
                }
            }
        }
        self.remove_unused(&record.name)
    }

    /// Removes a volume that no container names; says whether it was there.
    pub(crate) fn remove_unused(&self, name: &str) -> Result<bool> {
        let files = self.files();
        // Who makes a container with it holds the lock until the container's record is written.
        let Some(lock) = files.lock(name, true)? else { return Ok(false) };
        let users: Vec<String> = self
            .users()?
            .iter()
            .filter(|user| uses(user, name))
            .map(|user| format!("container {}", user.name))
            .collect();
        if !users.is_empty() {
            return Err(Error::InUse { what: "volume", name: name.to_owned(), by: users.join(", ") });
        }
        if self.mounts_by_hand(name)? > 0 && record::is_mounted(&files.data(name)) {
            return Err(Error::InUse {
                what: "volume",
                name: name.to_owned(),
                by: format!("`davit volume mount`; `davit volume unmount {name}` ends that"),
            });
        }
        backing::unmount(&files.data(name))?;
        files.remove(name, &lock)?;
        self.engine.tell_volume(name, "remove");
        Ok(true)
    }

    /// Removes the volumes that no container names.
    pub fn prune(&self, filters: &[String]) -> Result<PruneReport> {
        self.reap()?;
        let filters = Filters::parse("volume prunes", filters, &FILTERS)?;
        let (users, all) = (self.users()?, self.files().list()?);
        let mut report = PruneReport::default();
        for record in &all {
            if users.iter().any(|user| uses(user, &record.name))
                || !self.matches(record, &filters, &users, &all)?
            {
                continue;
            }
            let size = self.size(&record.name);
            match self.remove_unused(&record.name) {
                Ok(true) => {
                    report.removed.push(record.name.clone());
                    report.reclaimed += size;
                }
                Ok(false) | Err(Error::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.engine.tell_volume("", "prune");
        Ok(report)
    }

    /// What each volume takes.
    pub(crate) fn usage(&self) -> Result<Vec<VolumeUsage>> {
        let users = self.users()?;
        let usage = |name: String| VolumeUsage {
            links: users.iter().filter(|user| uses(user, &name)).count(),
            size: self.size(&name),
            name,
        };
        Ok(self.files().names()?.into_iter().map(usage).collect())
    }

    fn size(&self, name: &str) -> u64 {
        storage::usage::tree_size(&self.files().data(name)).unwrap_or(0)
    }

    /// Makes what a volume stands for visible at a path of the host, which it gives. Counted: as many calls of
    /// [`Volumes::unmount`] take it away.
    pub fn mount(&self, name: &str) -> Result<String> {
        let files = self.files();
        let record = files.find(name)?;
        let _lock = files.lock(&record.name, true)?.ok_or_else(|| missing(name))?;
        let place = files.data(&record.name);
        let shown = match backing::of(&record)? {
            Backing::Bind(path) => path,
            made => {
                backing::mount(&record, &made, &place)?;
                place
            }
        };
        self.count_by_hand(&record.name, self.mounts_by_hand(&record.name)? + 1)?;
        self.engine.tell_volume(&record.name, "mount");
        Ok(shown.to_string_lossy().into_owned())
    }

    /// Takes one mount by hand back; gives the volume's name.
    pub fn unmount(&self, name: &str) -> Result<String> {
        let files = self.files();
        let record = files.find(name)?;
        let _lock = files.lock(&record.name, true)?.ok_or_else(|| missing(name))?;
        let count = self.mounts_by_hand(&record.name)?.saturating_sub(1);
        self.count_by_hand(&record.name, count)?;
        if count == 0 && !self.is_running_with(&record.name, None)? {
            backing::unmount(&files.data(&record.name))?;
        }
        self.engine.tell_volume(&record.name, "unmount");
        Ok(record.name)
    }

    fn mounts_by_hand(&self, name: &str) -> Result<u32> {
        Ok(files::read_json(&self.files().mounts(name))?.unwrap_or(0))
    }

    fn count_by_hand(&self, name: &str, count: u32) -> Result<()> {
        let path = self.files().mounts(name);
        if count == 0 {
            return files::remove_file(&path);
        }
        files::create_directory(path.parent().unwrap_or(&path))?;
        files::write_json(&path, &count, false)
    }

    /// Whether a container that runs uses a volume; `without` is not looked at.
    fn is_running_with(&self, name: &str, without: Option<&str>) -> Result<bool> {
        for user in self.users()? {
            if uses(&user, name) && Some(user.id.as_str()) != without && self.engine.is_running(&user.id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the volumes that a new container names and that do not exist, and names its anonymous ones. The locks are held
    /// until its record is written: then the record tells who uses them.
    pub(crate) fn for_container(&self, settings: &mut CreateRequest, id: &str) -> Result<Vec<VolumeLock>> {
        let files = self.files();
        let mut locks = Vec::new();
        let goes_with = settings.auto_remove;
        for mount in &mut settings.mounts {
            let MountKind::Volume { name, .. } = &mut mount.kind else { continue };
            let anonymous = name.is_empty();
            if anonymous {
                *name = names::random_id()?;
            }
            let lock = loop {
                if let Some(lock) = files.lock(name, false)? {
                    break lock;
                }
                let record = VolumeRecord {
                    name: name.clone(),
                    created_nanos: Instant::now().0,
                    anonymous,
                    made_for: anonymous.then(|| id.to_owned()),
                    goes_with: anonymous && goes_with,
                    needs_copy_up: true,
                    needs_chown: true,
                    ..VolumeRecord::default()
                };
                if files.create(record)? {
                    self.engine.tell_volume(name, "create");
                }
            };
            locks.push(lock);
        }
        Ok(locks)
    }

    /// Notes that anonymous volumes end with their container, before that is removed: a killed command's successor then
    /// knows.
    pub(crate) fn note_end(&self, container: &ContainerRecord) -> Result<()> {
        let files = self.files();
        for mount in &container.settings.mounts {
            let MountKind::Volume { name, anonymous: true, .. } = &mount.kind else { continue };
            let Some(_lock) = files.lock(name, true)? else { continue };
            if let Some(mut record) = files.read(name)?.filter(|record| !record.goes_with) {
                record.goes_with = true;
                files.write(&record)?;
            }
        }
        Ok(())
    }

    /// As [`Volumes::reap`], where there are volumes.
    pub(crate) fn reap_if_any(&self) -> Result<()> {
        if self.engine.config().volumes().is_dir() { self.reap() } else { Ok(()) }
    }

    /// Clears away what killed processes left: half-made directories, and anonymous volumes that went with a container
    /// which is gone, or were made for one that never came to be.
    pub(crate) fn reap(&self) -> Result<()> {
        let files = self.files();
        files.reap()?;
        for record in files.list()? {
            let Some(id) = &record.made_for else { continue };
            if (record.goes_with || record.needs_chown) && !self.engine.state().directory(id).exists() {
                match self.remove_unused(&record.name) {
                    Ok(_) | Err(Error::InUse { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Whether a container names a volume.
fn uses(container: &ContainerRecord, name: &str) -> bool {
    container.settings.mounts.iter().any(|mount| mount.volume() == Some(name))
}
