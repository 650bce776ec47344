//! Which containers a verb is for.

use super::{Containers, Outcome, Selection, Status};
use crate::filters::{Filters, name_matches};
use crate::options::RestartPolicy;
use crate::state::ContainerRecord;
use crate::time::Instant;
use crate::{Engine, Error, Result};

/// Keys of container filters.
pub(super) const KEYS: [&str; 17] = [
    "id",
    "name",
    "label",
    "label!",
    "exited",
    "status",
    "ancestor",
    "before",
    "since",
    "until",
    "network",
    "volume",
    "command",
    "health",
    "pod",
    "restart-policy",
    "should-start-on-boot",
];

/// Filters with the times of the containers that they name.
pub(super) struct Matcher<'a> {
    engine: &'a Engine,
    filters: Filters,
    before: Option<i64>,
    since: Option<i64>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(engine: &'a Engine, texts: &[String]) -> Result<Self> {
        let filters = Filters::parse("containers", texts, &KEYS)?;
        for key in ["pod"] {
            if filters.has(key) {
                return Err(Error::unsupported(format!("filter {key}"), "containers have none yet"));
            }
        }
        for status in filters.values("status") {
            const WORDS: [&str; 10] = [
                "created",
                "initialized",
                "running",
                "paused",
                "stopped",
                "exited",
                "removing",
                "stopping",
                "configured",
                "unknown",
            ];
            if !WORDS.contains(&status.as_str()) {
                return Err(Error::invalid(
                    format!("filter status={status}"),
                    format!("expected one of {}", WORDS.join(", ")),
                ));
            }
        }
        for value in filters.values("should-start-on-boot") {
            crate::filters::parse_bool("should-start-on-boot", value)?;
        }
        for code in filters.values("exited") {
            if code.parse::<i32>().is_err() {
                return Err(Error::invalid(format!("filter exited={code}"), "expected an exit code"));
            }
        }
        let created = |name: &String| engine.state().find(name).map(|record| record.created_nanos);
        let before = filters.values("before").iter().map(created).collect::<Result<Vec<_>>>()?;
        let since = filters.values("since").iter().map(created).collect::<Result<Vec<_>>>()?;
        Ok(Self { engine, before: before.into_iter().min(), since: since.into_iter().max(), filters })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    pub(super) fn has_status(&self) -> bool {
        self.filters.has("status") || self.filters.has("exited")
    }

    fn matches_health(&self, record: &ContainerRecord) -> Result<bool> {
        if !self.filters.has("health") {
            return Ok(true);
        }
        let health = self.engine.health(record)?;
        let word = health.map_or("none", |health| health.status.as_str());
        Ok(self.filters.any("health", |wanted| wanted == word))
    }

    /// Whether a boot starts it: its policy says so, and nobody stopped it where that counts.
    fn starts_on_boot(&self, record: &ContainerRecord) -> Result<bool> {
        if !self.filters.has("should-start-on-boot") {
            return Ok(true);
        }
        let starts = match record.settings.restart {
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => !self.engine.start_record(&record.id)?.stopped_by_user,
            RestartPolicy::No | RestartPolicy::OnFailure(_) => false,
        };
        Ok(self.filters.any("should-start-on-boot", |wanted| {
            crate::filters::parse_bool("should-start-on-boot", wanted).is_ok_and(|wanted| wanted == starts)
        }))
    }

    pub(super) fn matches(&self, record: &ContainerRecord, status: Status, exit_code: i32) -> Result<bool> {
        let filters = &self.filters;
        Ok(filters.any("id", |id| record.id.starts_with(id))
            && filters.any("name", |name| name_matches(name, &record.name))
            && filters.labels(&record.settings.labels)
            && filters.any("status", |word| {
                word == status.as_str()
                    || (word == "configured" && status == Status::Created)
                    || (word == "stopped" && status == Status::Exited)
            })
            && filters.any("exited", |code| {
                status == Status::Exited && code.parse::<i32>().is_ok_and(|code| code == exit_code)
            })
            && filters.any("ancestor", |image| is_image(record, image))
            && filters.any("network", |network| network_word(record) == network)
            && filters.any("volume", |volume| {
                record.settings.mounts.iter().any(|mount| {
                    mount.destination == std::path::Path::new(volume) || mount.volume() == Some(volume)
                })
            })
            && filters.any("command", |command| record.argv().first().is_some_and(|first| first == command))
            && filters.any("restart-policy", |policy| record.settings.restart.is_named(policy))
            && self.matches_health(record)?
            && self.starts_on_boot(record)?
            && self.before.is_none_or(|before| record.created_nanos < before)
            && self.since.is_none_or(|since| record.created_nanos > since)
            && filters.until(Instant(record.created_nanos))?)
    }
}

fn is_image(record: &ContainerRecord, image: &str) -> bool {
    let image = image.strip_prefix("sha256:").unwrap_or(image);
    if image.len() >= 12 && record.image_id.starts_with(image) {
        return true;
    }
    let name = record.image_name.as_str();
    let untagged =
        name.rsplit_once(':').map_or(name, |(untagged, tag)| if tag.contains('/') { name } else { untagged });
    [name, untagged]
        .into_iter()
        .any(|name| name == image || name.strip_suffix(image).is_some_and(|before| before.ends_with('/')))
}

pub(super) fn network_word(record: &ContainerRecord) -> String {
    use crate::options::Network;
    match &record.settings.network {
        Network::Host => "host".to_owned(),
        Network::Container(id) => format!("container:{id}"),
        Network::Path(path) => format!("ns:{}", path.display()),
        Network::None | Network::Default => "none".to_owned(),
    }
}

impl Containers<'_> {
    /// ID of the container of this name, ID or prefix of one.
    pub fn id(&self, name: &str) -> Result<String> {
        Ok(self.engine.state().find(name)?.id)
    }

    /// ID of the container that was made last.
    pub fn latest(&self) -> Result<String> {
        let newest = self.engine.state().list()?.into_iter().next();
        newest.map(|record| record.id).ok_or_else(|| Error::NotFound {
            what: "container",
            name: "--latest, and no other one".to_owned(),
        })
    }

    /// Runs a verb over a selection. Every container is tried.
    pub(super) fn each(
        &self,
        selection: &Selection,
        verb: impl Fn(&ContainerRecord) -> Result<bool>,
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        if selection.all || !selection.filters.is_empty() || selection.running {
            let matcher = Matcher::new(self.engine, &selection.filters)?;
            for record in self.engine.state().list()? {
                let seen = self.engine.seen(&record.id)?;
                if selection.running && !seen.is_running() {
                    continue;
                }
                if matcher.matches(&record, seen.status, seen.exit_code())? {
                    outcomes.push(Outcome {
                        input: record.id.clone(),
                        id: Some(record.id.clone()),
                        result: verb(&record),
                    });
                }
            }
        }
        for name in &selection.names {
            let outcome = match self.engine.state().find(name) {
                Ok(record) => {
                    Outcome { input: name.clone(), id: Some(record.id.clone()), result: verb(&record) }
                }
                Err(Error::NotFound { .. }) if selection.ignore => {
                    Outcome { input: name.clone(), id: None, result: Ok(false) }
                }
                Err(error) => Outcome { input: name.clone(), id: None, result: Err(error) },
            };
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }
}
