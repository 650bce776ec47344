//! `system df`.

use engine::Engine;
use engine::containers::ContainerSummary;
use engine::usage::{DiskUsage, ImageUsage};
use serde_json::{Value, json};

use super::lists::{cut, short, split_name, time};
use crate::args::SystemDfArgs;
use crate::error::Outcome;
use crate::output::table::Table;
use crate::output::template::{self, Format};
use crate::output::{self, human};

const TABLE: &str = "table {{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

/// `davit system df`
pub(crate) fn df(engine: &Engine, args: &SystemDfArgs) -> Outcome {
    let usage = engine.disk_usage()?;
    if args.verbose {
        output::raw(verbose(&usage).as_bytes());
        return Ok(0);
    }
    let rows = rows(&usage);
    let text = args.format.as_deref().unwrap_or(TABLE);
    let format = match Format::parse(text) {
        Format::Table("") => Format::parse(TABLE),
        format => format,
    };
    output::raw(template::rows(&format, &rows, &[], true)?.as_bytes());
    Ok(0)
}

fn own_size(container: &ContainerSummary) -> u64 {
    container.size.map_or(0, |size| size.rw)
}

fn is_active(container: &ContainerSummary) -> bool {
    container.pid != 0
}

fn rows(usage: &DiskUsage) -> Vec<Value> {
    let idle = usage.containers.iter().filter(|container| !is_active(container)).map(own_size).sum();
    let containers = usage.containers.iter().map(own_size).sum();
    let in_use = usage.images.iter().filter(|image| image.image.containers > 0).count();
    let used: Vec<_> = usage.volumes.iter().filter(|volume| volume.links > 0).collect();
    let volumes: u64 = usage.volumes.iter().map(|volume| volume.size).sum();
    let kept: u64 = used.iter().map(|volume| volume.size).sum();
    let running = usage.containers.iter().filter(|container| is_active(container)).count();
    vec![
        row("Images", usage.images.len(), in_use, usage.image_bytes, usage.image_reclaimable),
        row("Containers", usage.containers.len(), running, containers, idle),
        row("Local Volumes", usage.volumes.len(), used.len(), volumes, volumes - kept),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let share = reclaimable.saturating_mul(100).saturating_add(size / 2).checked_div(size).unwrap_or(0);
    json!({
        "Type": kind,
        "Total": total,
        "TotalCount": total,
        "Active": active,
        "RawSize": size,
        "RawReclaimable": reclaimable,
        "Size": human::short_size(size),
        "Reclaimable": format!("{} ({share}%)", human::short_size(reclaimable)),
    })
}

fn verbose(usage: &DiskUsage) -> String {
    let mut images = Table::new();
    images.row([
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    ]);
    for usage in &usage.images {
        image_rows(&mut images, usage);
    }
    let mut containers = Table::new();
    containers.row([
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "LOCAL VOLUMES",
        "SIZE",
        "CREATED",
        "STATUS",
        "NAMES",
    ]);
    for container in &usage.containers {
        containers.row([
            short(&container.id).to_owned(),
            container.image.clone(),
            cut(&container.command.join(" "), 20),
            "0".to_owned(),
            human::short_size(own_size(container)),
            age(container.created),
            container.status.as_str().to_owned(),
            container.name.clone(),
        ]);
    }
    let mut volumes = Table::new();
    volumes.row(["VOLUME NAME", "LINKS", "SIZE"]);
    for volume in &usage.volumes {
        volumes.row([volume.name.clone(), volume.links.to_string(), human::short_size(volume.size)]);
    }
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}",
        images.render(),
        containers.render(),
        volumes.render()
    )
}

fn age(seconds: i64) -> String {
    human::ago(time(seconds)).trim_end_matches(" ago").to_owned()
}

fn image_rows(table: &mut Table, usage: &ImageUsage) {
    let image = &usage.image;
    let names: Vec<(&str, &str)> = match image.names.as_slice() {
        [] => vec![("<none>", "<none>")],
        names => names.iter().map(|name| split_name(name)).collect(),
    };
    for (repository, tag) in names {
        table.row([
            repository.to_owned(),
            tag.to_owned(),
            short(&image.id).to_owned(),
            age(image.created),
            human::short_size(usage.size),
            human::short_size(usage.shared),
            human::short_size(usage.size - usage.shared),
            image.containers.to_string(),
        ]);
    }
}
