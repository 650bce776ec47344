//! `mount`, `unmount`, `image mount`, `image unmount`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use engine::containers::ContainerListRequest;
use engine::images::ImageListRequest;
use engine::{Engine, Shown};
use serde_json::json;

use super::lists::short;
use crate::args::{ImageMountArgs, ImageUnmountArgs, MountArgs, UnmountArgs, UnshareArgs};
use crate::error::{FAILED, Failure, Outcome};
use crate::output::table::Table;
use crate::output::{self, json as pretty, template};

/// `davit mount`
pub(crate) fn mount(engine: &Engine, args: &MountArgs) -> Outcome {
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    if args.all {
        let all = ContainerListRequest { all: true, ..ContainerListRequest::default() };
        names.extend(engine.containers().list(&all)?.into_iter().map(|container| container.id));
    }
    if names.is_empty() && !args.all {
        return list(engine.mounted_containers()?, args.format.is_some(), args.no_trunc);
    }
    each(&names, |name| engine.mount_container(name).map(shown))
}

/// `davit unmount`
pub(crate) fn unmount(engine: &Engine, args: &UnmountArgs) -> Outcome {
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    if args.all {
        names.extend(engine.mounted_containers()?.into_iter().map(|shown| shown.id));
    }
    each(&names, |name| taken(engine, name, engine.container_id(name)?, args.force || args.all))
}

/// `davit unshare`: becomes the program.
pub(crate) fn unshare(args: UnshareArgs) -> Outcome {
    let unshared = engine::entry::unshare()?;
    for warning in &unshared.warnings {
        output::note(&format!("Warning: {warning}"));
    }
    let mut words = args.command.into_iter();
    let shell = || std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let program = words.next().or_else(shell).unwrap_or_else(|| "/bin/sh".into());
    let (name, value) = unshared.variable;
    let error = std::process::Command::new(&program).args(words).env(name, value).exec();
    Err(Failure::new(format!("run {}: {error}", program.to_string_lossy())))
}

/// `davit image mount`
pub(crate) fn mount_images(engine: &Engine, args: &ImageMountArgs) -> Outcome {
    let mut names = args.images.clone();
    if args.all {
        names.extend(engine.images().list(&ImageListRequest::default())?.into_iter().map(|image| image.id));
    }
    if names.is_empty() && !args.all {
        return list(engine.mounted_images()?, args.format.is_some(), false);
    }
    each(&names, |name| engine.mount_image(name).map(shown))
}

/// `davit image unmount`
pub(crate) fn unmount_images(engine: &Engine, args: &ImageUnmountArgs) -> Outcome {
    let mut names = args.images.clone();
    if args.all {
        names.extend(engine.mounted_images()?.into_iter().map(|shown| shown.id));
    }
    each(&names, |name| taken(engine, name, engine.image_id(name)?, args.force || args.all))
}

fn shown(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

fn taken(engine: &Engine, name: &str, id: String, all: bool) -> engine::Result<String> {
    if engine.unmount(&id, all)? {
        return Ok(id);
    }
    Err(engine::Error::State {
        attempt: "unmount",
        what: "file system of",
        name: name.to_owned(),
        state: "not mounted".to_owned(),
    })
}

/// Does the same to each, printing what it gives; one that fails ends none of the others.
pub(super) fn each(names: &[String], act: impl Fn(&str) -> engine::Result<String>) -> Outcome {
    let mut code = 0;
    for name in names {
        match act(name) {
            Ok(text) => output::line(&text),
            Err(error) => {
                code = FAILED;
                Failure::from(error).print();
            }
        }
    }
    Ok(code)
}

fn list(mounts: Vec<Shown>, as_json: bool, whole: bool) -> Outcome {
    if as_json {
        let rows: Vec<_> = mounts
            .iter()
            .map(|shown| json!({"id": shown.id, "Names": shown.names, "mountpoint": shown.path}))
            .collect();
        output::line(&pretty::pretty(&rows).map_err(template::Error::from)?);
        return Ok(0);
    }
    let mut table = Table::new();
    for shown in &mounts {
        let id = if whole { shown.id.as_str() } else { short(&shown.id) };
        table.row([id, &shown.path.to_string_lossy()]);
    }
    output::raw(table.render().as_bytes());
    Ok(0)
}
