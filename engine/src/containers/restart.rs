//! Restart policies: what follows the end of a container.
//!
//! Nobody watches containers but their monitors. The one of a container with a policy runs the cleanup with a task that
//! says so; an attached `run` or `start` does the same by itself, and so keeps its streams. Both wait before they start
//! the container again, longer each time it ends soon after its start.

use super::Containers;
use super::status::Seen;
use crate::options::{RestartPolicy, restart_delay};
use crate::state::{ContainerLock, ContainerRecord, StartRecord, files};
use crate::{Engine, Result};
use std::time::{Duration, Instant};

/// A container that ran for so long has started well, and its restarts are counted anew; nanoseconds.
const SETTLED: i64 = 10_000_000_000;

impl Engine {
    pub(crate) fn start_record(&self, id: &str) -> Result<StartRecord> {
        let path = self.state().directory(id).join("start.json");
        files::read_json(&path).map(Option::unwrap_or_default)
    }
}

impl Containers<'_> {
    /// Starts a container again if its policy says so; called after its cleanup.
    pub(crate) fn restart_by_policy(&self, id: &str) -> Result<()> {
        let Some((record, lock)) = self.next_start(id)? else { return Ok(()) };
        self.start_locked(&record, lock, None, Vec::new(), &mut Vec::new()).map(drop)
    }

    /// Whether an ended container is to be started again.
    pub(crate) fn is_restart_due(&self, id: &str) -> Result<bool> {
        self.due(id).map(|due| due.is_some())
    }

    /// Stops a container and starts it again.
    pub(crate) fn restart_now(&self, id: &str) -> Result<()> {
        let mut request = super::StopRequest::default();
        request.selection.names.push(id.to_owned());
        self.restart(&request).map(drop)
    }

    /// Waits until an ended container is to be started again, and gives its lock; `None` when it is not.
    pub(super) fn next_start(&self, id: &str) -> Result<Option<(ContainerRecord, ContainerLock)>> {
        let engine = self.engine;
        let Some(delay) = self.due(id)? else { return Ok(None) };
        let deadline = Instant::now() + delay;
        let watch = crate::state::watch::Watch::new()?;
        watch.directory(&engine.state().directory(id));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if left < Duration::from_secs(1) {
                std::thread::sleep(left);
            } else {
                watch.wait(Some(1))?;
            }
            // stopped, removed or started by somebody meanwhile
            if self.due(id)?.is_none() {
                return Ok(None);
            }
        }
        let Some(lock) = engine.state().lock(id)? else { return Ok(None) };
        let Some(record) = engine.state().read(id)? else { return Ok(None) };
        if self.due(id)?.is_none() {
            return Ok(None);
        }
        let settled = self.has_settled(id)?;
        engine.note_start(id, |start| {
            start.restarts += 1;
            start.since_start += 1;
            start.in_a_row = if settled { 1 } else { start.in_a_row + 1 };
        })?;
        engine.tell_container(&record, "restart");
        Ok(Some((record, lock)))
    }

    /// How long to wait before the next start; `None` = there is none.
    fn due(&self, id: &str) -> Result<Option<Duration>> {
        let Some(record) = self.engine.state().read(id)? else { return Ok(None) };
        let policy = record.settings.restart;
        if policy == RestartPolicy::No {
            return Ok(None);
        }
        let seen = self.engine.seen(id)?;
        let start = self.engine.start_record(id)?;
        if seen.status != super::Status::Exited
            || start.stopped_by_user
            || !policy.restarts_after(seen.exit_code(), start.since_start)
        {
            return Ok(None);
        }
        Ok(Some(restart_delay(if self.has_settled(id)? { 0 } else { start.in_a_row })))
    }

    fn has_settled(&self, id: &str) -> Result<bool> {
        let seen = self.engine.seen(id)?;
        Ok(seen.finished_nanos().saturating_sub(seen.started_nanos()) >= SETTLED)
    }

    /// Notes that a container which waits for its restart is not to be started again. A restart that has begun cannot be
    /// held up: gives what the container is doing after it.
    pub(super) fn give_up_restart(&self, record: &ContainerRecord, seen: Seen) -> Result<Seen> {
        if record.settings.restart == RestartPolicy::No {
            return Ok(seen);
        }
        let Some(_lock) = self.engine.state().lock(&record.id)? else { return Ok(seen) };
        self.engine.note_start(&record.id, |start| start.stopped_by_user = true)?;
        self.engine.seen(&record.id)
    }
}
