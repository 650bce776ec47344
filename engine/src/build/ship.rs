//! What becomes of the images that a build made: names, lists, outputs, pushes.

use super::context::scratch;
use super::events::{BuildEvent, BuildProgress};
use super::outputs::{Files, Output, write_directory, write_tar, write_to};
use super::requests::{BuildReport, BuildRequest, ImageFormat};
use crate::images::lookup::local_reference;
use crate::images::{ArchiveFormat, PushRequest, Subject};
use crate::{Engine, Error, Result};
use oci::Platform;
use std::path::Path;
use storage::{Lease, ManifestForm};

/// Finds what is wrong with outputs before anything is built.
pub(super) fn check(request: &BuildRequest) -> Result<()> {
    if request.outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Error::invalid("output -", "standard output takes one output"));
    }
    let own = || request.tags.iter().chain(&request.manifest).cloned().collect::<Vec<String>>();
    let mut pushed = if request.push { vec![own()] } else { Vec::new() };
    for output in &request.outputs {
        let Output::Image { names, push } = output else { continue };
        for name in names {
            local_reference(name)?;
        }
        if *push {
            pushed.push(if names.is_empty() { own() } else { names.clone() });
        }
    }
    for names in pushed {
        if names.is_empty() {
            return Err(Error::invalid(
                "push",
                "the image has no name to be pushed under: give one with --tag",
            ));
        }
        if let Some(name) = names.iter().find(|name| is_local(name)) {
            return Err(Error::invalid(
                format!("push {name}"),
                "the name says no registry: name the image REGISTRY/REPOSITORY:TAG",
            ));
        }
    }
    Ok(())
}

fn is_local(name: &str) -> bool {
    local_reference(name).is_ok_and(|reference| reference.registry() == "localhost")
}

/// Gives the names: to the image, or to a list of the images of several platforms.
pub(super) fn name(
    engine: &Engine,
    request: &BuildRequest,
    platforms: &[Platform],
    report: &mut BuildReport,
) -> Result<()> {
    let images = images(platforms, report);
    let mut tags = request.tags.clone();
    for output in &request.outputs {
        if let Output::Image { names, .. } = output {
            tags.extend(names.iter().cloned());
        }
    }
    let mut add = |name: String| {
        if !report.names.contains(&name) {
            report.names.push(name);
        }
    };
    if images.len() == 1 {
        let found = engine.find_image(&images[0].1)?;
        for tag in &tags {
            add(engine.name_built(tag, &found, form(request))?);
        }
    } else {
        for tag in &tags {
            add(engine.images().add_to_list(tag, &images, true)?);
        }
    }
    if let Some(list) = &request.manifest {
        add(engine.images().add_to_list(list, &images, false)?);
    }
    Ok(())
}

/// What the build asks of its manifests.
fn form(request: &BuildRequest) -> ManifestForm {
    ManifestForm {
        docker: request.format == ImageFormat::Docker,
        annotations: request.annotations.iter().cloned().collect(),
    }
}

fn images(platforms: &[Platform], report: &BuildReport) -> Vec<(Platform, String)> {
    platforms.iter().cloned().zip(report.images.iter().map(|image| image.id.clone())).collect()
}

/// Writes the outputs that are files.
pub(super) fn write_outputs(
    engine: &Engine,
    request: &BuildRequest,
    platforms: &[Platform],
    report: &BuildReport,
    lease: &Lease,
    progress: BuildProgress<'_>,
) -> Result<()> {
    let forward = |event| progress(BuildEvent::Transfer { event });
    let stdout = request.stdout.as_deref();
    for output in &request.outputs {
        match output {
            Output::Local { dest } => {
                for tree in trees(engine, platforms, report, &scratch(lease, "empty")?)? {
                    write_directory(&tree, dest, engine.config().identity.rootless)?;
                }
            }
            Output::Tar { dest } => {
                let trees = trees(engine, platforms, report, &scratch(lease, "empty")?)?;
                write_to(dest, stdout, |sink| write_tar(&trees, sink))?;
            }
            Output::Archive { format, dest, name } => {
                let subject = subject(platforms, report);
                if *format == ArchiveFormat::Docker && platforms.len() > 1 {
                    return Err(Error::unsupported(
                        "a docker archive of several platforms",
                        "it has one image for each name: use type=oci",
                    ));
                }
                let names = archive_names(name.as_ref(), report)?;
                write_to(dest, stdout, |sink| {
                    engine.images().write_archive(&subject, &names, *format, sink, &forward).map(drop)
                })?;
            }
            Output::Layout { dest, name } => {
                let names = archive_names(name.as_ref(), report)?;
                let subject = subject(platforms, report);
                engine.images().write_layout(&subject, &names, dest, &forward)?;
            }
            Output::Image { .. } => {}
        }
    }
    Ok(())
}

fn archive_names(name: Option<&String>, report: &BuildReport) -> Result<Vec<String>> {
    match name {
        Some(name) => Ok(vec![local_reference(name)?.to_string()]),
        None => Ok(report.names.clone()),
    }
}

fn subject(platforms: &[Platform], report: &BuildReport) -> Subject {
    match images(platforms, report).as_slice() {
        [(_, id)] => Subject::Image(id.clone()),
        several => Subject::Several(several.to_vec()),
    }
}

fn trees(engine: &Engine, platforms: &[Platform], report: &BuildReport, empty: &Path) -> Result<Vec<Files>> {
    let several = platforms.len() > 1;
    let prefix = |platform: &Platform| match several {
        true => format!("{}/", platform.to_string().replace('/', "_")),
        false => String::new(),
    };
    images(platforms, report)
        .iter()
        .map(|(platform, id)| Files::open(engine, id, empty, prefix(platform)))
        .collect()
}

/// Sends the image to the registries of its names, and says what its manifest is.
pub(super) fn push(
    engine: &Engine,
    request: &BuildRequest,
    report: &mut BuildReport,
    progress: BuildProgress<'_>,
) -> Result<()> {
    let forward = |event| progress(BuildEvent::Transfer { event });
    let mut names = Vec::new();
    if request.push {
        names.extend(report.names.iter().cloned());
    }
    for output in &request.outputs {
        if let Output::Image { names: more, push: true } = output {
            let more = if more.is_empty() { &report.names } else { more };
            for name in more {
                names.push(local_reference(name)?.to_string());
            }
        }
    }
    names.sort();
    names.dedup();
    for name in names {
        let push = PushRequest {
            image: name.clone(),
            destination: None,
            registry: request.registry.clone(),
            compression: None,
            format: None,
            ..PushRequest::default()
        };
        let pushed = engine.images().push(&push, &forward)?;
        report.warnings.extend(pushed.warnings);
        report.pushed.push(name);
    }
    if request.want_digest || !report.pushed.is_empty() {
        let subject = match (report.images.as_slice(), report.names.first()) {
            ([one], _) => Subject::Image(one.id.clone()),
            (_, Some(name)) => Subject::Named(name.clone()),
            (images, None) => {
                let parsed = images.iter().map(|image| Ok((image.platform.parse()?, image.id.clone())));
                Subject::Several(
                    parsed.collect::<oci::Result<_>>().map_err(crate::error::document("read a platform"))?,
                )
            }
        };
        report.manifest = Some(engine.images().manifest(&subject)?);
    }
    Ok(())
}
