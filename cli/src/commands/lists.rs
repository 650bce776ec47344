//! `ps`, `images`, `history`.

use std::io::IsTerminal;

use engine::Engine;
use engine::containers::{ContainerListRequest, ContainerSummary, Status};
use engine::images::{HistoryEntry, ImageListRequest, ImageSummary};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::{HistoryArgs, ImagesArgs, PsArgs};
use crate::error::Outcome;
use crate::output::template::{self, Format};
use crate::output::{self, human};

/// Digits of an ID in a list.
const SHORT: usize = 12;

/// What stands where nothing is known.
const NONE: &str = "<none>";

pub(super) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

pub(super) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Cuts a text to `length` characters, of which the last three say so.
pub(super) fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 3).chain("...".chars()).collect()
}

/// Prints a list: the default table, or what `--format` asks for.
pub(super) fn print(
    format: Option<&str>,
    default: &str,
    rows: &[Value],
    json: impl FnOnce() -> Vec<Value>,
    headings: &[(&str, &str)],
    with_headings: bool,
) -> Outcome {
    let text = format.unwrap_or(default);
    match Format::parse(text) {
        Format::Json => output::line(&output::json::pretty(&json()).map_err(template::Error::from)?),
        // `table` alone is the default table.
        Format::Table("") => {
            output::raw(template::rows(&Format::parse(default), rows, headings, with_headings)?.as_bytes());
        }
        format => output::raw(template::rows(&format, rows, headings, with_headings)?.as_bytes()),
    }
    Ok(0)
}

// --- containers -----------------------------------------------------------------------------------------------

const PS_TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const PS_HEADINGS: [(&str, &str); 21] = [
    ("Pod", "POD ID"),
    ("PodName", "PODNAME"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("ImageID", "IMAGE ID"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Created", "CREATED"),
    ("CreatedHuman", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Pid", "PID"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("ExitCode", "EXIT CODE"),
    ("ExposedPorts", "EXPOSED PORTS"),
];

fn status(container: &ContainerSummary) -> String {
    match container.status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let up = format!("Up {}", human::duration(Timestamp::now().as_second() - container.started));
            match container.health {
                Some(health) => format!("{up} ({})", health.as_str()),
                None => up,
            }
        }
        Status::Paused => "Paused".to_owned(),
        Status::Stopped | Status::Exited => {
            format!("Exited ({}) {}", container.exit_code, human::ago(time(container.finished)))
        }
        Status::Removing => "Removing".to_owned(),
    }
}

fn size(container: &ContainerSummary) -> String {
    container.size.map_or_else(String::new, |size| {
        format!("{} (virtual {})", human::short_size(size.rw), human::short_size(size.root_fs))
    })
}

fn container_row(container: &ContainerSummary, whole: bool) -> Value {
    let command = container.command.join(" ");
    let labels: Vec<String> = container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "ID": if whole { &container.id } else { short(&container.id) },
        "Image": container.image,
        "ImageID": if whole { &container.image_id } else { short(&container.image_id) },
        "Command": if whole { command } else { cut(&command, 20) },
        "RunningFor": human::ago(time(container.created)),
        "Created": human::ago(time(container.created)),
        "CreatedHuman": human::ago(time(container.created)),
        "CreatedAt": human::go_time(time(container.created)),
        "Status": status(container),
        "State": container.status.as_str(),
        "Ports": container.exposed_ports.join(", "),
        "Names": container.name,
        "Size": size(container),
        "Pid": container.pid,
        "Labels": labels.join(","),
        "LabelMap": container.labels,
        "Mounts": if whole { container.mounts.join(",") } else { cut(&container.mounts.join(","), 20) },
        "Networks": if container.network == "none" { "" } else { &container.network },
        "ExitCode": container.exit_code,
        "Exited": matches!(container.status, Status::Exited | Status::Stopped),
        "ExitedAt": container.finished,
        "StartedAt": container.started,
        "ExposedPorts": container.exposed_ports.join(","),
        "AutoRemove": container.auto_remove,
        "Restarts": container.restarts,
        "IsInfra": false,
        "Pod": "",
        "PodName": "",
        "CIDFile": "",
    })
}

fn container_json(container: &ContainerSummary) -> Value {
    json!({
        "AutoRemove": container.auto_remove,
        "Command": container.command,
        "CreatedAt": human::ago(time(container.created)),
        "CIDFile": "",
        "Exited": matches!(container.status, Status::Exited | Status::Stopped),
        "ExitedAt": container.finished,
        "ExitCode": container.exit_code,
        "ExposedPorts": container.exposed_ports,
        "Id": container.id,
        "Image": container.image,
        "ImageID": container.image_id,
        "IsInfra": false,
        "Labels": container.labels,
        "Mounts": container.mounts,
        "Names": [container.name],
        "Namespaces": {},
        "Networks": if container.network == "none" { Vec::new() } else { vec![&container.network] },
        "Pid": container.pid,
        "Pod": "",
        "PodName": "",
        "Ports": null,
        "Restarts": container.restarts,
        "Size": container.size,
        "StartedAt": container.started,
        "State": container.status.as_str(),
        "Status": status(container),
        "Created": container.created,
    })
}

/// `davit ps`
pub(crate) fn ps(engine: &Engine, args: PsArgs) -> Outcome {
    let Some(seconds) = args.watch else { return list_containers(engine, args) };
    loop {
        if std::io::stdout().is_terminal() {
            output::raw(b"\x1b[H\x1b[2J");
        }
        list_containers(engine, args.clone())?;
        std::thread::sleep(std::time::Duration::from_secs(seconds.max(1)));
    }
}

const NAMESPACES_TABLE: &str = "table {{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.CGROUPNS}}\t{{.IPC}}\t{{.MNT}}\t{{.NET}}\t{{.PIDNS}}\t{{.USERNS}}\t{{.UTS}}";

/// `.Label "KEY"` is a method of the originals' rows; here it is a look into a map.
fn with_labels(format: &str) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(start) = rest.find(".Label ") {
        let (before, after) = rest.split_at(start);
        let argument = after[".Label ".len()..].trim_start();
        let end = argument.strip_prefix('"').and_then(|inner| inner.find('"')).map(|at| at + 2);
        let Some(end) = end else { break };
        out.push_str(before);
        out.push_str(&format!("(or (index .LabelMap {}) \"\")", &argument[..end]));
        rest = &argument[end..];
    }
    out + rest
}

/// The number of a process's namespace, as `lsns` shows it; empty where it does not run.
fn namespace(pid: u32, name: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap_or_default();
    let link = link.to_string_lossy();
    link.split(['[', ']']).nth(1).unwrap_or_default().to_owned()
}

fn list_containers(engine: &Engine, args: PsArgs) -> Outcome {
    let last = if args.latest { Some(1) } else { args.last.and_then(|last| usize::try_from(last).ok()) };
    let request = ContainerListRequest {
        all: args.all,
        last,
        filters: args.filter,
        size: args.size || args.sort == "size",
    };
    let mut containers = engine.containers().list(&request)?;
    match args.sort.as_str() {
        "command" => containers.sort_by(|a, b| a.command.cmp(&b.command)),
        "id" => containers.sort_by(|a, b| a.id.cmp(&b.id)),
        "image" => containers.sort_by(|a, b| a.image.cmp(&b.image)),
        "names" => containers.sort_by(|a, b| a.name.cmp(&b.name)),
        "runningfor" => containers.sort_by_key(|container| container.created),
        "size" => containers.sort_by_key(|container| container.size.map_or(0, |size| size.root_fs)),
        "status" => containers.sort_by_key(|container| container.status.as_str()),
        _ => {}
    }
    if args.quiet && args.format.is_none() {
        let ids = containers
            .iter()
            .map(|container| if args.no_trunc { container.id.as_str() } else { short(&container.id) });
        output::lines(ids);
        return Ok(0);
    }
    let asks = |field: &str| args.format.as_deref().is_some_and(|format| format.contains(field));
    let namespaces =
        args.ns || ["CGROUPNS", "IPC", "MNT", "NET", "PIDNS", "USERNS", "UTS"].into_iter().any(asks);
    let rows: Vec<Value> = containers
        .iter()
        .map(|container| {
            let mut row = container_row(container, args.no_trunc);
            if let (true, Some(fields)) = (namespaces, row.as_object_mut()) {
                for (field, name) in [
                    ("CGROUPNS", "cgroup"),
                    ("IPC", "ipc"),
                    ("MNT", "mnt"),
                    ("NET", "net"),
                    ("PIDNS", "pid"),
                    ("USERNS", "user"),
                    ("UTS", "uts"),
                ] {
                    fields.insert(field.to_owned(), namespace(container.pid, name).into());
                }
            }
            row
        })
        .collect();
    let mut default = if args.ns { NAMESPACES_TABLE.to_owned() } else { PS_TABLE.to_owned() };
    if args.pod && !args.ns {
        default += "\t{{.Pod}}\t{{.PodName}}";
    }
    if args.size {
        default += "\t{{.Size}}";
    }
    let json = || containers.iter().map(container_json).collect();
    let format = args.format.as_deref().map(with_labels);
    print(format.as_deref(), &default, &rows, json, &PS_HEADINGS, !args.noheading)
}

// --- images ---------------------------------------------------------------------------------------------------

const IMAGES_HEADINGS: [(&str, &str); 9] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("Id", "IMAGE ID"),
    ("Digest", "DIGEST"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
];

/// The repository and the tag of a full name.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    let after_host = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[after_host..].rfind(':') {
        Some(colon) => (&name[..after_host + colon], &name[after_host + colon + 1..]),
        None => (name, NONE),
    }
}

fn image_row(image: &ImageSummary, name: Option<&str>, whole: bool) -> Value {
    let (repository, tag) = name.map_or((NONE, NONE), split_name);
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": if whole { format!("sha256:{}", image.id) } else { short(&image.id).to_owned() },
        "Id": image.id,
        "Digest": name.and_then(|name| image.digests.get(name)).or(image.digest.as_ref()).map_or(NONE, String::as_str),
        "Created": human::ago(time(image.created)),
        "CreatedSince": human::ago(time(image.created)),
        "CreatedAt": human::go_time(time(image.created)),
        "CreatedTime": human::go_time(time(image.created)),
        "Size": human::image_size(image.size),
        "VirtualSize": image.size,
        "SharedSize": 0,
        "Containers": image.containers,
        "Labels": image.labels,
        "Names": image.names,
        "RepoTags": image.names,
        "RepoDigests": image.repo_digests,
        "Dangling": image.dangling,
        "IsDangling": image.dangling,
        "ReadOnly": false,
        "IsReadOnly": false,
        "ParentId": "",
        "History": image.names,
        "Platform": image.platform,
    })
}

fn image_json(image: &ImageSummary) -> Value {
    json!({
        "Id": image.id,
        "ParentId": "",
        "RepoTags": if image.names.is_empty() { Value::Null } else { json!(image.names) },
        "RepoDigests": image.repo_digests,
        "Size": image.size,
        "SharedSize": 0,
        "VirtualSize": image.size,
        "Labels": image.labels,
        "Containers": image.containers,
        "Names": image.names,
        "Digest": image.digest,
        "History": image.names,
        "Dangling": image.dangling,
        "Created": image.created,
        "CreatedAt": time(image.created).to_string(),
    })
}

/// `davit images`: a row for each name.
pub(crate) fn images(engine: &Engine, args: ImagesArgs) -> Outcome {
    let request = ImageListRequest { filters: args.filter, name: args.image };
    let mut images = engine.images().list(&request)?;
    if args.sort == "size" {
        images.sort_by_key(|image| image.size);
    } else if args.sort == "id" {
        images.sort_by(|a, b| a.id.cmp(&b.id));
    }
    if args.quiet && args.format.is_none() {
        for image in &images {
            output::line(&if args.no_trunc {
                format!("sha256:{}", image.id)
            } else {
                short(&image.id).to_owned()
            });
        }
        return Ok(0);
    }
    let mut rows: Vec<Value> = Vec::new();
    for image in &images {
        if image.names.is_empty() {
            rows.push(image_row(image, None, args.no_trunc));
        }
        rows.extend(image.names.iter().map(|name| image_row(image, Some(name), args.no_trunc)));
    }
    let column = match args.sort.as_str() {
        "repository" => Some("Repository"),
        "tag" => Some("Tag"),
        _ => None,
    };
    if let Some(column) = column {
        rows.sort_by(|a, b| a[column].as_str().cmp(&b[column].as_str()));
    }
    let default = format!(
        "table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}",
        if args.digests { "{{.Digest}}\t" } else { "" }
    );
    let json = || images.iter().map(image_json).collect();
    print(args.format.as_deref(), &default, &rows, json, &IMAGES_HEADINGS, !args.noheading)
}

// --- history --------------------------------------------------------------------------------------------------

const HISTORY_TABLE: &str = "table {{.ID}}\t{{.Created}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

const HISTORY_HEADINGS: [(&str, &str); 6] = [
    ("ID", "ID"),
    ("Created", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

fn history_row(entry: &HistoryEntry, args: &HistoryArgs) -> Value {
    let id = if args.no_trunc { entry.id.as_str() } else { short(&entry.id) };
    let created = entry.created.map(time);
    json!({
        "ID": if entry.id == "<missing>" { "<missing>" } else { id },
        "Created": match created {
            None => NONE.to_owned(),
            Some(created) if args.human => human::ago(created),
            Some(created) => created.to_string(),
        },
        "CreatedSince": created.map_or_else(|| NONE.to_owned(), human::ago),
        "CreatedAt": created.map_or_else(|| NONE.to_owned(), |created| created.to_string()),
        "CreatedBy": if args.no_trunc { entry.created_by.clone() } else { cut(&entry.created_by, 45) },
        "Size": if args.human { json!(human::image_size(entry.size)) } else { json!(entry.size) },
        "Comment": entry.comment,
        "Tags": entry.tags,
    })
}

fn history_json(entry: &HistoryEntry) -> Value {
    json!({
        "id": entry.id,
        "created": entry.created.map(|seconds| time(seconds).to_string()),
        "CreatedBy": entry.created_by,
        "size": entry.size,
        "comment": entry.comment,
        "tags": entry.tags,
    })
}

/// `davit history`
pub(crate) fn history(engine: &Engine, args: &HistoryArgs) -> Outcome {
    let entries = engine.images().history(&args.image, args.platform.as_deref())?;
    if args.quiet && args.format.is_none() {
        for entry in &entries {
            output::line(if args.no_trunc || entry.id == "<missing>" { &entry.id } else { short(&entry.id) });
        }
        return Ok(0);
    }
    let rows: Vec<Value> = entries.iter().map(|entry| history_row(entry, args)).collect();
    let json = || entries.iter().map(history_json).collect();
    print(args.format.as_deref(), HISTORY_TABLE, &rows, json, &HISTORY_HEADINGS, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_behind_the_host() {
        assert_eq!(split_name("localhost:5000/a/b:1"), ("localhost:5000/a/b", "1"));
        assert_eq!(split_name("localhost:5000/a/b"), ("localhost:5000/a/b", NONE));
        assert_eq!(split_name("localhost/a:latest"), ("localhost/a", "latest"));
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(cut("0123456789abcdefghijk", 20), "0123456789abcdefg...");
        assert_eq!(cut("short", 20), "short");
    }
}
