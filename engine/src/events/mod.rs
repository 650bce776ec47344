//! What happened: an append-only log that every verb writes and `events` reads.
//!
//! ```text
//! ROOT/events/log     one JSON object a line, in the order in which they were written
//! ROOT/events/log.1   the generation before, which is replaced when `log` has grown too large
//! ```
//! A line is one write(2) on a file opened for appending, so lines of several processes never mix. A writer that was
//! killed or met a full disk may leave half a line; the reader finds the next one behind it. That an event cannot be
//! written never fails what it tells of.

mod log;
mod read;

pub use read::EventsRequest;

use crate::Engine;
use crate::state::ContainerRecord;
use crate::time::Instant;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Version of the lines' format.
const VERSION: u32 = 1;

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventType {
    /// A container.
    #[default]
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A pod.
    Pod,
    /// A secret.
    Secret,
    /// davit itself.
    System,
    /// A volume.
    Volume,
}

impl EventType {
    /// The word as Podman writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Container => "container",
            EventType::Image => "image",
            EventType::Network => "network",
            EventType::Pod => "pod",
            EventType::Secret => "secret",
            EventType::System => "system",
            EventType::Volume => "volume",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Version of the format; set when it is written.
    #[serde(rename = "v")]
    pub version: u32,
    /// Nanoseconds since 1970; set when it is written, unless it is known better.
    pub time: i64,
    /// Kind of the object.
    pub r#type: EventType,
    /// What happened to it: `create`, `died`, ...
    pub status: Cow<'static, str>,
    /// ID of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Image of a container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// How a container or an exec session ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// `starting`, `healthy`, `unhealthy`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub health_status: String,
    /// ID of a container's pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_id: String,
    /// Network that was joined or left.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// Why something failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Labels of the object, and what else is worth telling.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event about a container.
    pub(crate) fn container(record: &ContainerRecord, status: &'static str) -> Self {
        Self {
            status: status.into(),
            id: record.id.clone(),
            name: record.name.clone(),
            image: record.image_name.clone(),
            attributes: record.settings.labels.clone(),
            ..Self::default()
        }
    }

    /// An event about an image: its ID, 64 hex digits or nothing, and its name, whole or as the user gave it.
    pub(crate) fn image(status: &'static str, id: &str, name: &str) -> Self {
        Self {
            r#type: EventType::Image,
            status: status.into(),
            id: id.strip_prefix("sha256:").unwrap_or(id).to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// An event about davit itself.
    pub(crate) fn system(status: &'static str) -> Self {
        Self { r#type: EventType::System, status: status.into(), ..Self::default() }
    }
}

impl Engine {
    /// Writes an event down. What it tells of has happened, so a failure to write has nobody to report to.
    pub(crate) fn tell(&self, event: Event) {
        let mut event = event;
        event.version = VERSION;
        if event.time == 0 {
            event.time = Instant::now().0;
        }
        if self.config().keeps_events {
            let _ = log::append(&self.config().events(), &event, log::MAX_BYTES);
        }
    }

    /// Writes down what happened to a container.
    pub(crate) fn tell_container(&self, record: &ContainerRecord, status: &'static str) {
        self.tell(Event::container(record, status));
    }
}
