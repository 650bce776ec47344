//! `manifest`.

use engine::build::ImageFormat;
use engine::images::{EntryChange, ListAddRequest, ListCreateRequest, PushRequest};
use engine::{Engine, Error};

use super::create::{pairs, platform};
use super::registry;
use crate::args::{
    ManifestAddArgs, ManifestAnnotateArgs, ManifestCommand, ManifestCreateArgs, ManifestInspectArgs,
    ManifestPushArgs,
};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output::{self, progress};

/// `davit manifest …`
pub(crate) fn manifest(engine: &Engine, command: ManifestCommand) -> Outcome {
    match command {
        ManifestCommand::Add(args) => add(engine, args),
        ManifestCommand::Create(args) => create(engine, args),
        ManifestCommand::Exists(args) => Ok(u8::from(!engine.images().list_exists(&args.list)?)),
        ManifestCommand::Annotate(args) => annotate(engine, args),
        ManifestCommand::Inspect(args) => inspect(engine, args),
        ManifestCommand::Remove(args) => {
            output::line(&engine.images().list_take(&args.list, &args.image)?);
            Ok(0)
        }
        ManifestCommand::Push(args) => push(engine, args),
        ManifestCommand::Rm(args) => {
            let mut code = 0;
            for list in &args.lists {
                match engine.images().list_remove(list) {
                    Ok(name) => output::line(&format!("Untagged: {name}")),
                    Err(Error::NotFound { .. }) if args.ignore => {}
                    Err(error) => {
                        code = FAILED;
                        Failure::from(error).print();
                    }
                }
            }
            Ok(code)
        }
    }
}

fn create(engine: &Engine, args: ManifestCreateArgs) -> Outcome {
    let request = ListCreateRequest {
        name: args.list,
        images: args.images,
        all: args.all,
        annotations: pairs(&args.annotation).into_iter().collect(),
        amend: args.amend,
        registry: registry::options(args.registry)?,
    };
    let progress = progress::Transfer::new(false);
    let created = engine.images().list_create(&request, &|event| progress.event(&event));
    progress.finish();
    output::line(&created?);
    Ok(0)
}

fn add(engine: &Engine, args: ManifestAddArgs) -> Outcome {
    let registry = registry::options(args.registry)?;
    let platform = platform(None, args.os.as_ref(), args.arch.as_ref(), args.variant.as_ref());
    let mut name = String::new();
    for image in args.images {
        let request = ListAddRequest {
            list: args.list.clone(),
            image,
            all: args.all,
            platform: platform.clone(),
            change: EntryChange {
                os_version: args.os_version.clone(),
                annotations: pairs(&args.annotation).into_iter().collect(),
                ..EntryChange::default()
            },
            registry: registry.clone(),
        };
        let progress = progress::Transfer::new(false);
        let added = engine.images().list_add(&request, &|event| progress.event(&event));
        progress.finish();
        name = added?;
    }
    output::line(&name);
    Ok(0)
}

fn annotate(engine: &Engine, args: ManifestAnnotateArgs) -> Outcome {
    let annotations = pairs(&args.annotation).into_iter().collect();
    let name = match args.image {
        Some(image) if !args.index => {
            let change = EntryChange {
                os: args.os,
                architecture: args.arch,
                variant: args.variant,
                os_version: args.os_version,
                os_features: args.os_features,
                annotations,
            };
            engine.images().list_annotate(&args.list, &image, &change)?
        }
        _ => engine.images().list_annotate_index(&args.list, &annotations)?,
    };
    output::line(&name);
    Ok(0)
}

fn inspect(engine: &Engine, args: ManifestInspectArgs) -> Outcome {
    let text = engine.images().list_inspect(&args.list, &registry::options(args.registry)?)?;
    let value: serde_json::Value = serde_json::from_str(&text).attempt("read the index")?;
    output::line(&serde_json::to_string_pretty(&value).attempt("print the index")?);
    Ok(0)
}

fn push(engine: &Engine, args: ManifestPushArgs) -> Outcome {
    debug_assert!(args.all, "the parser accepts nothing else");
    if !engine.images().list_exists(&args.list)? {
        return Err(Failure::new(format!("no such manifest list: {}", args.list)));
    }
    let format = match args.format.as_deref() {
        None | Some("") => None,
        Some(format) => Some(image_format(format)?),
    };
    let request = PushRequest {
        image: args.list.clone(),
        destination: args.destination,
        registry: registry::options(args.registry)?,
        compression: args.compression_format,
        format,
        sign: super::trust::signers(args.sign),
    };
    let code = registry::send(engine, &request, args.quiet, args.digestfile.as_deref())?;
    if args.rm || args.purge {
        engine.images().list_remove(&args.list)?;
    }
    Ok(code)
}

/// Reads the `--format` of manifests and lists.
pub(super) fn image_format(text: &str) -> Result<ImageFormat, Failure> {
    match text {
        "oci" => Ok(ImageFormat::Oci),
        "v2s2" | "docker" => Ok(ImageFormat::Docker),
        other => Err(Failure::new(format!("--format={other}: expected oci or v2s2"))),
    }
}
