//! Removal of what nothing needs.

use std::io::{BufRead, Write};

use engine::Engine;
use engine::containers::ContainerPruneRequest;
use engine::images::ImagePruneRequest;
use engine::system::SystemPruneRequest;

use crate::args::{BuilderPruneArgs, ContainerPruneArgs, ImagePruneArgs, SystemPruneArgs, SystemResetArgs};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output::{self, human};

/// Asks before anything is removed.
pub(super) fn confirmed(force: bool, what: &str) -> Result<bool, Failure> {
    if force {
        return Ok(true);
    }
    let mut out = std::io::stderr();
    write!(out, "This removes {what}.\nGo on? [y/N] ").and_then(|()| out.flush()).attempt("ask")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).attempt("read the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// `davit container prune`
pub(crate) fn containers(engine: &Engine, args: ContainerPruneArgs) -> Outcome {
    if confirmed(args.force, "all containers that do not run")? {
        let report = engine.containers().prune(&ContainerPruneRequest { filters: args.filter })?;
        report.removed.iter().for_each(|id| output::line(id));
    }
    Ok(0)
}

/// `davit image prune`
pub(crate) fn images(engine: &Engine, args: ImagePruneArgs) -> Outcome {
    let what = if args.all { "all images without a container" } else { "all images without a name" };
    if confirmed(args.force, what)? {
        let report = engine.images().prune(&ImagePruneRequest { all: args.all, filters: args.filter })?;
        report.removed.iter().for_each(|id| output::line(id));
    }
    Ok(0)
}

/// `davit builder prune`
pub(crate) fn builder(engine: &Engine, args: &BuilderPruneArgs) -> Outcome {
    if confirmed(args.force, "the cache of builds, with the contents of cache mounts")? {
        let freed = engine.prune_builds()?;
        output::line(&format!("Total reclaimed space: {}", human::short_size(freed)));
    }
    Ok(0)
}

/// `davit system prune`
pub(crate) fn system(engine: &Engine, args: SystemPruneArgs) -> Outcome {
    let mut what = "all containers that do not run, ".to_owned();
    what += if args.all { "all images without a container" } else { "all images without a name" };
    if args.build {
        what += ", the cache of builds";
    }
    if args.volumes {
        what += ", all volumes that no container has";
    }
    if !confirmed(args.force, &what)? {
        return Ok(0);
    }
    let report = engine.system_prune(&SystemPruneRequest {
        all: args.all,
        build: args.build,
        volumes: args.volumes,
        filters: args.filter,
    })?;
    for (title, ids) in [
        ("Deleted Containers", &report.containers.removed),
        ("Deleted Images", &report.images.removed),
        ("Deleted Volumes", &report.volumes.removed),
    ] {
        if !ids.is_empty() {
            output::line(title);
            ids.iter().for_each(|id| output::line(id));
        }
    }
    output::line(&format!("Total reclaimed space: {}", human::short_size(report.reclaimed)));
    Ok(0)
}

/// `davit system reset`
pub(crate) fn reset(engine: &Engine, args: &SystemResetArgs) -> Outcome {
    if !confirmed(
        args.force,
        "all containers, running ones too, all volumes, all images and the cache of builds",
    )? {
        return Ok(0);
    }
    let mut code = 0;
    for error in engine.reset()? {
        code = FAILED;
        Failure::from(error).print();
    }
    Ok(code)
}
