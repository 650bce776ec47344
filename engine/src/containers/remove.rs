//! `rm`, `prune`, `rename`, and the cleanup after an exit.

use super::status::Seen;
use super::{ContainerPruneRequest, Containers, Outcome, RemoveRequest, Status};
use crate::events::{Event, EventType};
use crate::filters::Filters;
use crate::images::{ImageRemoveRequest, PruneReport};
use crate::options::Namespace;
use crate::state::{ContainerRecord, files, names};
use crate::time::Instant;
use crate::{Error, Result};

/// How long the cleanup after an exit may take before somebody else does it, seconds.
const CLEANUP_GRACE: i64 = 10;

/// How long a monitor may take from the end of its process to the exit record.
const MONITOR_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

impl Containers<'_> {
    /// Removes containers.
    pub fn remove(&self, request: &RemoveRequest) -> Result<Vec<Outcome>> {
        let mut selection = request.selection.clone();
        // forced: what is not there is as the caller wants it
        selection.ignore |= request.force;
        self.each(&selection, |record| {
            if request.depend {
                for other in self.dependents(record)? {
                    self.remove_with(&other, request.force, request.timeout, request.volumes)?;
                }
            }
            self.remove_with(record, request.force, request.timeout, request.volumes)
        })
    }

    /// The containers that need a container or use its namespaces, and those that need these, the last ones first.
    fn dependents(&self, record: &ContainerRecord) -> Result<Vec<ContainerRecord>> {
        let all = self.engine.state().list()?;
        let uses = |other: &ContainerRecord, of: &ContainerRecord| {
            let settings = &other.settings;
            let named = [&settings.pid, &settings.ipc, &settings.uts, &settings.cgroupns].into_iter().any(|namespace| {
                matches!(namespace, Namespace::Container(named) if of.name == *named || of.id.starts_with(named))
            });
            named || settings.requires.contains(&of.id)
        };
        let mut found = vec![record.clone()];
        let mut next = 0;
        while let Some(of) = found.get(next).cloned() {
            for other in &all {
                if uses(other, &of) && !found.iter().any(|known| known.id == other.id) {
                    found.push(other.clone());
                }
            }
            next += 1;
        }
        found.remove(0);
        found.reverse();
        Ok(found)
    }

    pub(crate) fn remove_one(
        &self,
        record: &ContainerRecord,
        force: bool,
        timeout: Option<i64>,
    ) -> Result<bool> {
        self.remove_with(record, force, timeout, record.settings.auto_remove)
    }

    /// Removes a container, with `volumes` its anonymous volumes too.
    fn remove_with(
        &self,
        record: &ContainerRecord,
        force: bool,
        timeout: Option<i64>,
        volumes: bool,
    ) -> Result<bool> {
        let state = self.engine.state();
        for _ in 0..10 {
            if self.engine.is_running(&record.id)? {
                if !force {
                    let seen = self.engine.seen(&record.id)?;
                    return Err(Error::State {
                        attempt: "remove",
                        what: "container",
                        name: record.name.clone(),
                        state: seen.status.as_str().to_owned(),
                    });
                }
                match self.stop_one(record, timeout, None) {
                    Ok(_) => {}
                    // removed by its own cleanup meanwhile
                    Err(Error::NotFound { .. }) => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            let Some(lock) = state.lock(&record.id)? else { return Ok(true) };
            // between the look and the lock it may have been started, renamed or removed
            let Some(record) = state.read(&record.id)? else { return Ok(true) };
            if self.engine.is_running(&record.id)? {
                drop(lock);
                continue;
            }
            self.check_unneeded(&record)?;
            self.release_run(&record)?;
            self.remove_record(&record, volumes)?;
            return Ok(true);
        }
        Err(Error::InUse {
            what: "container",
            name: record.name.clone(),
            by: "a command that starts it again and again".to_owned(),
        })
    }

    /// Removes a container that does not run and whose lock the caller holds, with `volumes` its anonymous volumes too.
    fn remove_record(&self, record: &ContainerRecord, volumes: bool) -> Result<()> {
        let volumes = volumes && Self::has_anonymous(record);
        if volumes && !record.settings.auto_remove {
            self.engine.volumes().note_end(record)?;
        }
        self.engine.state().remove(record, self.engine)?;
        self.engine.tell_container(record, "remove");
        self.forget(record, volumes)
    }

    /// Refuses to remove what other containers need.
    fn check_unneeded(&self, record: &ContainerRecord) -> Result<()> {
        let others = self.engine.state().list()?;
        match others.into_iter().find(|other| other.settings.requires.contains(&record.id)) {
            None => Ok(()),
            Some(other) => Err(Error::InUse {
                what: "container",
                name: record.name.clone(),
                by: format!("container {}, which needs it; remove that one first", other.name),
            }),
        }
    }

    /// Removes all containers that do not run.
    pub fn prune(&self, request: &ContainerPruneRequest) -> Result<PruneReport> {
        let filters = Filters::parse("container prunes", &request.filters, &["label", "label!", "until"])?;
        let mut report = PruneReport::default();
        for record in self.engine.state().list()? {
            if self.engine.is_running(&record.id)?
                || !filters.labels(&record.settings.labels)
                || !filters.until(Instant(record.created_nanos))?
            {
                continue;
            }
            let size = self.engine.snapshot_size(&record).unwrap_or(0);
            match self.remove_one(&record, false, None) {
                Ok(_) => {
                    report.removed.push(record.id);
                    report.reclaimed += size;
                }
                // started meanwhile
                Err(Error::State { .. } | Error::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.engine.state().reap(self.engine)?;
        self.engine.tell(Event { status: "prune".into(), r#type: EventType::Container, ..Event::default() });
        Ok(report)
    }

    /// Gives a container another name.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        names::check(new)?;
        let state = self.engine.state();
        let found = state.find(name)?;
        let missing = || Error::NotFound { what: "container", name: name.to_owned() };
        let _lock = state.lock(&found.id)?.ok_or_else(missing)?;
        let mut record = state.read(&found.id)?.ok_or_else(missing)?;
        if record.name == new {
            return Ok(());
        }
        // the new name first, the old one last: a kill in between leaves a claim that the record does not back,
        // which is a free name
        state.claim_name(new, &record.id)?;
        let old = std::mem::replace(&mut record.name, new.to_owned());
        state.write(&record)?;
        state.release_name(&old, &record.id)?;
        self.engine.tell_container(&record, "rename");
        Ok(())
    }

    /// Releases what an exited container holds; the monitor runs `container cleanup ID`, which calls this.
    pub fn cleanup(&self, name: &str, remove: bool, remove_image: bool) -> Result<()> {
        let state = self.engine.state();
        let record = match state.find(name) {
            Ok(record) => record,
            // somebody was quicker, and removed it too
            Err(Error::NotFound { .. }) if names::is_id(name) => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(_lock) = state.lock(&record.id)? else { return Ok(()) };
        let Some(record) = state.read(&record.id)? else { return Ok(()) };
        if self.engine.is_running(&record.id)? {
            return Ok(());
        }
        let ever_started = self.engine.seen(&record.id)?.status == Status::Exited;
        self.release_run(&record)?;
        if remove || (record.settings.auto_remove && ever_started) {
            self.remove_record(&record, true)?;
            if record.settings.remove_image || remove_image {
                let request =
                    ImageRemoveRequest { images: vec![record.image_id], ..ImageRemoveRequest::default() };
                // another container or another name keeps it
                let _ = self.engine.images().remove(&request);
            }
        }
        Ok(())
    }

    /// Removes a container with `--rm` whose command or monitor was killed before it could; tells whether it did.
    pub(super) fn reclaim(&self, record: &ContainerRecord, seen: &Seen) -> Result<bool> {
        let overdue = |seen: &Seen| match seen.status {
            Status::Created => self.engine.state().is_marked_starting(&record.id),
            // nobody who could say how it ended is left
            Status::Exited if seen.exit.is_none() => true,
            Status::Exited => {
                Instant(seen.finished_nanos()).seconds() + CLEANUP_GRACE < Instant::now().seconds()
            }
            _ => false,
        };
        if !record.settings.auto_remove || !overdue(seen) {
            return Ok(false);
        }
        let Some(_lock) = self.engine.state().try_lock(&record.id)? else { return Ok(false) };
        let Some(record) = self.engine.state().read(&record.id)? else { return Ok(true) };
        if !overdue(&self.engine.seen(&record.id)?) {
            return Ok(false);
        }
        self.release_run(&record)?;
        self.remove_record(&record, true)?;
        Ok(true)
    }

    /// The same for a container that is known by its ID alone.
    pub(super) fn reclaim_by_id(&self, id: &str) -> Result<bool> {
        match self.engine.state().read(id)? {
            Some(record) => self.reclaim(&record, &self.engine.seen(id)?),
            None => Ok(false),
        }
    }

    /// Keeps the exit record, then gives control group and run directory back. The caller holds the lock.
    pub(super) fn release_run(&self, record: &ContainerRecord) -> Result<()> {
        let id = record.id.as_str();
        let state = self.engine.state();
        let run_dir = state.run_directory(id);
        let look = || {
            runtime::state(&run_dir)
                .map_err(|error| crate::error::runtime(format!("read the state of container {id}"), error))
        };
        let mut run = look()?;
        if run.exit.is_none() && run.process.is_some() {
            // its process is gone, but a monitor that lives has yet to say how, and writes to the directory
            let _ = runtime::wait(&run_dir, Some(std::time::Instant::now() + MONITOR_GRACE));
            run = look()?;
        }
        if let Some(exit) = &run.exit {
            let kept = state.directory(id).join("exit.json");
            let known: Option<runtime::ExitRecord> = files::read_json(&kept)?;
            // before the run directory goes, so that every moment knows how it ended
            files::write_json(&kept, exit, false)?;
            // somebody who was killed on the way may have told it already
            if known.is_none_or(|known| known.finished_unix_nanos != exit.finished_unix_nanos) {
                self.tell_end(record, exit);
            }
        }
        crate::sandbox::release(&run_dir)?;
        files::remove_tree(&run_dir)?;
        self.engine.volumes().release(record)?;
        if run.exit.is_some() || run.process.is_some() {
            self.engine.tell_container(record, "cleanup");
        }
        Ok(())
    }

    fn tell_end(&self, record: &ContainerRecord, exit: &runtime::ExitRecord) {
        let event = |status| Event { time: exit.finished_unix_nanos, ..Event::container(record, status) };
        if exit.oom_killed {
            self.engine.tell(event("oom"));
        }
        self.engine.tell(Event { exit_code: Some(exit.code), ..event("died") });
    }
}
