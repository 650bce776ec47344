//! `ps`, `container exists`.

use super::select::{Matcher, network_word};
use super::status::Seen;
use super::{ContainerListRequest, ContainerSize, ContainerSummary, Containers};
use crate::state::ContainerRecord;
use crate::time::Instant;
use crate::{Error, Result};

impl Containers<'_> {
    /// Lists containers, newest first.
    pub fn list(&self, request: &ContainerListRequest) -> Result<Vec<ContainerSummary>> {
        let matcher = Matcher::new(self.engine, &request.filters)?;
        let all = request.all || request.last.is_some() || matcher.has_status();
        let mut rows = Vec::new();
        for record in self.engine.state().list()? {
            let seen = self.engine.seen(&record.id)?;
            if self.reclaim(&record, &seen)? {
                continue;
            }
            if !all && !seen.is_running() {
                continue;
            }
            if !matcher.is_empty() && !matcher.matches(&record, seen.status, seen.exit_code())? {
                continue;
            }
            let size = if request.size { Some(self.engine.container_size(&record)?) } else { None };
            rows.push(summary(record, &seen, size));
            if request.last.is_some_and(|last| rows.len() >= last) {
                break;
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

fn summary(record: ContainerRecord, seen: &Seen, size: Option<ContainerSize>) -> ContainerSummary {
    let command = record.argv();
    let network = network_word(&record).to_owned();
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
        restarts: seen.start.restarts,
        labels: record.settings.labels,
        size,
    }
}
