//! `ps`, `container exists`.

use super::select::{Matcher, network_word};
use super::status::Seen;
use super::{ContainerListRequest, ContainerSize, ContainerSummary, Containers};
use crate::state::ContainerRecord;
use crate::time::Instant;
use crate::{Error, Result};
use std::ffi::OsStr;

impl Containers<'_> {
    /// Lists containers, newest first.
    pub fn list(&self, request: &ContainerListRequest) -> Result<Vec<ContainerSummary>> {
        let matcher = Matcher::new(self.engine, &request.filters)?;
        let all = request.all || request.last.is_some() || matcher.has_status();
        let state = self.engine.state();
        // Listed first: a container that is started meanwhile then reads as not started yet, which it was.
        let started = state.started()?;
        let mut rows = state.read_all(|record| {
            let seen = if started.contains(OsStr::new(&record.id)) {
                self.engine.seen(&record.id)?
            } else {
                self.engine.seen_at_rest(&record.id)?
            };
            if self.reclaim(&record, &seen)?
                || !(all || seen.is_running())
                || !(matcher.is_empty() || matcher.matches(&record, seen.status, seen.exit_code())?)
            {
                return Ok(None);
            }
            // With `last` only some of them are wanted: they are measured below.
            let size = if request.size && request.last.is_none() {
                Some(self.engine.container_size(&record)?)
            } else {
                None
            };
            let health = match seen.is_running() {
                true => self.engine.health(&record)?.map(|health| health.status),
                false => None,
            };
            let restarts = match record.settings.restart {
                crate::options::RestartPolicy::No => 0,
                _ => self.engine.start_record(&record.id)?.restarts,
            };
            Ok(Some((record.created_nanos, summary(record, &seen, size, health, restarts))))
        })?;
        rows.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.id.cmp(&second.id)));
        let mut rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        if let Some(last) = request.last {
            rows.truncate(last);
            for row in rows.iter_mut().filter(|_| request.size) {
                if let Some(record) = state.read(&row.id)? {
                    row.size = Some(self.engine.container_size(&record)?);
                }
            }
        }
        Ok(rows)
    }

    /// Tells whether a container of this name or ID exists.
    pub fn exists(&self, name: &str) -> Result<bool> {
        match self.engine.state().find(name) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn summary(
    record: ContainerRecord,
    seen: &Seen,
    size: Option<ContainerSize>,
    health: Option<super::HealthStatus>,
    restarts: u32,
) -> ContainerSummary {
    let command = record.argv();
    let network = network_word(&record);
    ContainerSummary {
        id: record.id,
        name: record.name,
        image: record.image_name,
        image_id: record.image_id,
        command,
        created: Instant(record.created_nanos).seconds(),
        status: seen.status,
        started: Instant(seen.started_nanos()).seconds(),
        finished: Instant(seen.finished_nanos()).seconds(),
        exit_code: seen.exit_code(),
        pid: seen.pid(),
        mounts: record
            .settings
            .mounts
            .iter()
            .map(|mount| mount.destination.to_string_lossy().into_owned())
            .collect(),
        exposed_ports: record.settings.expose,
        network,
        auto_remove: record.settings.auto_remove,
        restarts,
        labels: record.settings.labels,
        size,
        health,
    }
}
