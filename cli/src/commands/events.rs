//! `events`.

use std::fmt::Write as _;
use std::io::Write as _;

use engine::Engine;
use engine::events::{Event, EventType, EventsRequest};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::args::EventsArgs;
use crate::error::{Failure, Outcome};
use crate::output::{human, template};

/// `davit events`
pub(crate) fn events(engine: &Engine, args: EventsArgs) -> Outcome {
    let format = args.format.as_deref().map(str::trim).filter(|format| !format.is_empty());
    let template = match format {
        None | Some("json") => None,
        Some(format) => Some(template::compile(format)?),
    };
    let request =
        EventsRequest { filters: args.filter, since: args.since, until: args.until, follow: args.stream };
    let mut failure = None;
    let mut out = std::io::stdout().lock();
    engine.events(&request, &mut |event| {
        let line = match (&template, format) {
            (Some(template), _) => match template::render(template, &template::value(&fields(&event))) {
                Ok(line) => line,
                Err(error) => {
                    failure = Some(Failure::from(error));
                    return false;
                }
            },
            (None, Some(_)) => object(&event).to_string(),
            (None, None) => text(&event, args.no_trunc),
        };
        // whoever read may have gone
        writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
    })?;
    failure.map_or(Ok(0), Err)
}

fn timestamp(event: &Event) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(event.time)).unwrap_or_default()
}

/// The line for people, as Podman writes it.
fn text(event: &Event, whole: bool) -> String {
    let id = if whole { &event.id } else { event.id.get(..12).unwrap_or(&event.id) };
    let mut line = format!("{} {} {}", human::go_time(timestamp(event)), event.r#type.as_str(), event.status);
    // writing to a string cannot fail
    let _ = match event.r#type {
        EventType::System => Ok(()),
        EventType::Container | EventType::Pod => {
            let mut details = vec![format!("image={}", event.image), format!("name={}", event.name)];
            for (key, value) in [
                ("health_status", &event.health_status),
                ("pod_id", &event.pod_id),
                ("network", &event.network),
                ("error", &event.error),
            ] {
                if !value.is_empty() {
                    details.push(format!("{key}={value}"));
                }
            }
            details.extend(event.attributes.iter().map(|(key, value)| format!("{key}={value}")));
            write!(line, " {id} ({})", details.join(", "))
        }
        _ if event.error.is_empty() => write!(line, " {id} {}", event.name),
        _ => write!(line, " {id} {} {}", event.name, event.error),
    };
    line
}

/// The object of `--format json`: empty fields are left out.
fn object(event: &Event) -> Value {
    let mut fields = Map::new();
    for (key, value) in [
        ("Error", &event.error),
        ("ID", &event.id),
        ("Image", &event.image),
        ("Name", &event.name),
        ("Network", &event.network),
        ("PodID", &event.pod_id),
        ("HealthStatus", &event.health_status),
    ] {
        if !value.is_empty() {
            fields.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(code) = event.exit_code {
        fields.insert("ContainerExitCode".to_owned(), json!(code));
    }
    fields.insert("Status".to_owned(), json!(event.status));
    fields.insert("Type".to_owned(), json!(event.r#type.as_str()));
    fields.insert("time".to_owned(), json!(event.time.div_euclid(1_000_000_000)));
    fields.insert("timeNano".to_owned(), json!(event.time));
    fields.insert(
        "Attributes".to_owned(),
        if event.attributes.is_empty() { Value::Null } else { json!(event.attributes) },
    );
    Value::Object(fields)
}

/// What a template may name.
fn fields(event: &Event) -> Value {
    json!({
        "ID": event.id,
        "Name": event.name,
        "Image": event.image,
        "Status": event.status,
        "Type": event.r#type.as_str(),
        "Time": human::go_time(timestamp(event)),
        "TimeNano": event.time,
        "ContainerExitCode": event.exit_code.unwrap_or(0),
        "HealthStatus": event.health_status,
        "PodID": event.pod_id,
        "Network": event.network,
        "Error": event.error,
        "Attributes": event.attributes,
        // Docker's names
        "Action": event.status,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
    })
}
