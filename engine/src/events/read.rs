//! `events`: what the log holds, and what comes.

use super::Event;
use super::EventType;
use super::log::{self, Generation};
use crate::filters::Filters;
use crate::state::files;
use crate::state::watch::Watch;
use crate::time::Instant;
use crate::{Engine, Error, Result};

const KEYS: [&str; 8] = ["container", "event", "image", "label", "network", "pod", "type", "volume"];

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct EventsRequest {
    /// `KEY=VALUE`: container, event, image, label, network, pod, type, volume.
    pub filters: Vec<String>,
    /// From this time on: RFC 3339, Unix seconds, or a duration before now.
    pub since: Option<String>,
    /// Up to this time: RFC 3339, Unix seconds, or a duration from now on.
    pub until: Option<String>,
    /// Go on with what comes; without `since` and `until` that alone.
    pub follow: bool,
}

/// A request that was understood.
struct Wanted {
    filters: Filters,
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Wanted {
    fn new(request: &EventsRequest, now: Instant) -> Result<Self> {
        let filters = Filters::parse("events", &request.filters, &KEYS)?;
        let since = request.since.as_ref().map(|text| Instant::parse("since", text, now)).transpose()?;
        let until = request.until.as_ref().map(|text| Instant::parse_end("until", text, now)).transpose()?;
        Ok(Self { filters, since, until })
    }

    fn matches(&self, event: &Event) -> bool {
        let filters = &self.filters;
        let object = |kind: EventType| {
            move |wanted: &str| event.r#type == kind && (event.name == wanted || is_id(&event.id, wanted))
        };
        self.since.is_none_or(|since| event.time >= since.0)
            && self.until.is_none_or(|until| event.time <= until.0)
            && filters.any("type", |kind| kind == event.r#type.as_str())
            && filters.any("event", |status| podman_word(status) == event.status)
            && filters.any("container", object(EventType::Container))
            && filters.any("volume", object(EventType::Volume))
            && filters.any("network", |wanted| object(EventType::Network)(wanted) || event.network == wanted)
            && filters.any("pod", |wanted| object(EventType::Pod)(wanted) || is_id(&event.pod_id, wanted))
            && filters.any("image", |wanted| {
                let is = |name: &str| name == wanted || names(name, wanted);
                match event.r#type {
                    EventType::Image => is(&event.name) || is_id(&event.id, wanted),
                    _ => is(&event.image),
                }
            })
            && filters.labels(&event.attributes)
    }
}

/// The word that Podman has for an event that Docker words otherwise.
fn podman_word(status: &str) -> &str {
    match status {
        "die" => "died",
        "rm" | "delete" | "destroy" => "remove",
        "exec_start" | "exec_create" => "exec",
        other => other,
    }
}

fn is_id(id: &str, wanted: &str) -> bool {
    !wanted.is_empty() && id.starts_with(wanted)
}

/// Whether `wanted` is a full name's end: without host and path before it, without `latest`.
fn names(full: &str, wanted: &str) -> bool {
    let full_end = |name: &str| name.strip_suffix(wanted).is_some_and(|before| before.ends_with('/'));
    full_end(full) || full.strip_suffix(":latest").is_some_and(|name| name == wanted || full_end(name))
}

impl Engine {
    /// Hands events to `sink`, oldest first, until it returns false, the time is over, or, when nothing is to be
    /// waited for, there are no more.
    pub fn events(&self, request: &EventsRequest, sink: &mut dyn FnMut(Event) -> bool) -> Result<()> {
        let directory = self.config().events();
        if !self.config().keeps_events {
            return Err(Error::unsupported("reading events", "none are kept: --events-backend=none"));
        }
        let wanted = Wanted::new(request, Instant::now())?;
        let watch = match request.follow {
            true => {
                files::create_directory(&directory)?;
                let watch = Watch::new()?;
                watch.directory(&directory);
                watch.file(&log::current(&directory));
                Some(watch)
            }
            false => None,
        };
        let mut old = Generation::open(&log::previous(&directory))?;
        let mut new = Generation::open(&log::current(&directory))?;
        let mut skip = request.follow && request.since.is_none() && request.until.is_none();
        loop {
            let now = Instant::now();
            for generation in [&mut old, &mut new].into_iter().flatten() {
                for event in generation.read()? {
                    if !skip && wanted.matches(&event) && !sink(event) {
                        return Ok(());
                    }
                }
            }
            let Some(watch) = &watch else { return Ok(()) };
            skip = false;
            if wanted.until.is_some_and(|until| now > until) {
                return Ok(());
            }
            let latest = Generation::open(&log::current(&directory))?;
            let changed = match (&new, &latest) {
                (Some(new), Some(latest)) => !new.is(latest),
                (None, Some(_)) => true,
                _ => false,
            };
            if changed {
                watch.file(&log::current(&directory));
                // whoever had the old one open may still append to it
                old = new.take().or(old);
                new = latest;
                continue;
            }
            // a second also for what no watch tells of
            watch.wait(Some(1))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(status: &'static str) -> Event {
        Event {
            time: 10_000_000_000,
            status: status.into(),
            id: "abcdef".into(),
            name: "c1".into(),
            image: "localhost/busybox:latest".into(),
            attributes: [("a".to_owned(), "b".to_owned())].into(),
            ..Event::default()
        }
    }

    fn matches(filters: &[&str], event: &Event) -> bool {
        let filters = filters.iter().map(|text| (*text).to_owned()).collect();
        let request = EventsRequest { filters, ..EventsRequest::default() };
        Wanted::new(&request, Instant(0)).unwrap().matches(event)
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_keys_are_conditions() {
        let died = event("died");
        for yes in [
            &["container=c1"][..],
            &["container=abc"],
            &["event=create", "event=died"],
            &["event=die"],
            &["image=busybox"],
            &["image=localhost/busybox"],
            &["label=a=b", "type=container"],
        ] {
            assert!(matches(yes, &died), "{yes:?}");
        }
        for no in [
            &["container=c2"][..],
            &["event=create"],
            &["image=box"],
            &["label=a=c"],
            &["type=image"],
            &["container=c1", "event=start"],
            &["volume=c1"],
        ] {
            assert!(!matches(no, &died), "{no:?}");
        }
        let image = Event::image("pull", &format!("sha256:{}", "1".repeat(64)), "localhost/x:2");
        assert!(matches(&["image=x:2"], &image) && matches(&["image=1111"], &image));
        assert!(!matches(&["container=1111"], &image));
    }

    #[test]
    fn durations_of_until_lie_ahead() {
        let of = |text: &str| {
            let request = EventsRequest { until: Some(text.into()), ..EventsRequest::default() };
            Wanted::new(&request, Instant(100_000_000_000)).unwrap().until.unwrap().0
        };
        assert_eq!(of("10s"), 110_000_000_000);
        assert_eq!(of("-10s"), 90_000_000_000);
        assert_eq!(of("50"), 50_000_000_000);
    }
}
