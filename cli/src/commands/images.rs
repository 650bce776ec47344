//! Images of the local store: names, archives, removal.

use std::io::{IsTerminal, Write};

use engine::images::{
    ArchiveFormat, ArchiveInput, ImageRemoveRequest, ImageRemoved, ImportRequest, LoadRequest, SaveRequest,
};
use engine::{Engine, ErrorKind};

use super::create::platform;
use crate::args::{ImportArgs, LoadArgs, RmiArgs, SaveArgs, TagArgs, UntagArgs};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output::{self, progress};

/// `davit tag`
pub(crate) fn tag(engine: &Engine, args: &TagArgs) -> Outcome {
    engine.images().tag(&args.image, &args.names)?;
    Ok(0)
}

/// `davit untag`
pub(crate) fn untag(engine: &Engine, args: &UntagArgs) -> Outcome {
    engine.images().untag(&args.image, &args.names)?;
    Ok(0)
}

/// `davit rmi`: 1 for a missing image, 2 for one in use.
pub(crate) fn rmi(engine: &Engine, args: RmiArgs) -> Outcome {
    let request = ImageRemoveRequest {
        images: args.images,
        all: args.all,
        force: args.force,
        ignore: args.ignore || args.force,
        no_prune: false,
    };
    let (removed, failures) = engine.images().remove(&request);
    for removed in removed {
        match removed {
            ImageRemoved::Untagged { name } => output::line(&format!("Untagged: {name}")),
            ImageRemoved::Deleted { id } => output::line(&format!("Deleted: {id}")),
        }
    }
    let mut code = 0;
    for error in failures {
        let this = match error.kind() {
            ErrorKind::NotFound => 1,
            ErrorKind::InUse | ErrorKind::Conflict => 2,
            _ => FAILED,
        };
        code = code.max(this);
        Failure::from(error).print();
    }
    Ok(code)
}

/// `davit save`
pub(crate) fn save(engine: &Engine, args: SaveArgs) -> Outcome {
    let format = args.format.parse::<ArchiveFormat>()?;
    let progress = progress::Transfer::new(args.quiet);
    if let Some(policy) = &args.trust.signature_policy {
        engine.images().check_policy(policy)?;
    }
    if args.compress && format != ArchiveFormat::DockerDirectory {
        return Err(Failure::new(
            "--compress goes with --format=docker-dir: archives say themselves what is compressed",
        ));
    }
    if args.uncompressed && !matches!(format, ArchiveFormat::Oci | ArchiveFormat::OciDirectory) {
        return Err(Failure::new("--uncompressed goes with --format=oci-archive or oci-dir"));
    }
    let request = SaveRequest {
        images: args.images,
        format,
        further_names: !args.multi_image_archive,
        platform: args.platform,
        compress: args.compress,
        uncompressed: args.uncompressed,
    };
    match &args.output {
        None if format.is_directory() => {
            return Err(Failure::new(format!("--format={}: name a directory with -o", args.format)));
        }
        Some(path) if format.is_directory() => {
            engine.images().save_directory(&request, path, &|event| progress.event(&event))?;
        }
        Some(path) => {
            // Nothing half-made under the name that was asked for.
            let attempt = || format!("write {}", path.display());
            let special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
            if special {
                let mut file = std::fs::OpenOptions::new().write(true).open(path).attempt(attempt())?;
                engine.images().save(&request, &mut file, &|event| progress.event(&event))?;
                return Ok(0);
            }
            let mut temporary = path.clone().into_os_string();
            temporary.push(format!(".{}.part", std::process::id()));
            let mut file = std::fs::File::create(&temporary).attempt(attempt())?;
            let done = engine.images().save(&request, &mut file, &|event| progress.event(&event));
            if let Err(error) = done {
                // The failure that is told is the first one.
                let _ = std::fs::remove_file(&temporary);
                return Err(error.into());
            }
            std::fs::rename(&temporary, path).attempt(attempt())?;
        }
        None => {
            let mut out = std::io::stdout();
            if out.is_terminal() {
                return Err(Failure::new(
                    "standard output is a terminal: name a file with -o, or redirect the output",
                ));
            }
            engine.images().save(&request, &mut out, &|event| progress.event(&event))?;
            out.flush().attempt("write standard output")?;
        }
    }
    Ok(0)
}

/// `davit load`
pub(crate) fn load(engine: &Engine, args: LoadArgs) -> Outcome {
    let progress = progress::Transfer::new(args.quiet);
    let input = match args.input {
        Some(path) => ArchiveInput::Path(path),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::new(
                "standard input is a terminal: name a file with -i, or redirect the input",
            ));
        }
        None => ArchiveInput::Stream(Box::new(std::io::stdin())),
    };
    let request =
        LoadRequest { input, signature_policy: args.trust.signature_policy, platform: args.platform };
    let report = engine.images().load(request, &|event| progress.event(&event))?;
    for name in report.names {
        output::line(&format!("Loaded image: {name}"));
    }
    Ok(0)
}

/// `davit import`
pub(crate) fn import(engine: &Engine, args: ImportArgs) -> Outcome {
    if args.path.starts_with("http://") || args.path.starts_with("https://") {
        return Err(Failure::new("import from an address is not built yet")
            .hint("curl ADDRESS | davit import - NAME"));
    }
    let request = ImportRequest {
        reference: args.reference,
        changes: args.change,
        message: args.message,
        signature_policy: args.trust.signature_policy,
        platform: platform(None, args.os.as_ref(), args.arch.as_ref(), args.variant.as_ref()),
    };
    let input: Box<dyn std::io::Read + Send> = if args.path == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(&args.path).attempt(format!("open {}", args.path))?)
    };
    let progress = progress::Transfer::new(args.quiet);
    let id = engine.images().import(&request, input, &|event| progress.event(&event))?;
    output::line(&format!("sha256:{id}"));
    Ok(0)
}
