//! `volume …`

use std::io::{IsTerminal, Write};

use engine::Engine;
use engine::ErrorKind;
use engine::volumes::{VolumeCreateRequest, VolumeRemoveRequest, VolumeReport};
use serde_json::{Value, json};

use super::create::{full_pairs, pairs};
use super::mounting::each;
use super::prune::confirmed;
use crate::args::{
    VolumeCommand, VolumeCreateArgs, VolumeExportArgs, VolumeImportArgs, VolumeInspectArgs, VolumeLsArgs,
    VolumePruneArgs, VolumeRmArgs,
};
use crate::error::{Attempt, FAILED, Failure, Outcome};
use crate::output;

const TABLE: &str = "table {{.Driver}}\t{{.Name}}";

/// Exit code of a removal of what something uses, and of what is not there, as Podman's.
const IN_USE: u8 = 2;
const MISSING: u8 = 1;

/// Carries `volume …` out.
pub(super) fn volume(engine: &Engine, command: VolumeCommand) -> Outcome {
    match command {
        VolumeCommand::Create(args) => create(engine, args.0),
        VolumeCommand::Exists(args) => Ok(u8::from(!engine.volumes().exists(&args.0.volume)?)),
        VolumeCommand::Export(args) => export(engine, &args.0),
        VolumeCommand::Import(args) => import(engine, args.0),
        VolumeCommand::Inspect(args) => inspect(engine, &args.0),
        VolumeCommand::Ls(args) => list(engine, &args.0),
        VolumeCommand::Mount(args) => each(&args.0.volumes, |name| engine.volumes().mount(name)),
        VolumeCommand::Prune(args) => prune(engine, &args.0),
        VolumeCommand::Reload(_) => Ok(0),
        VolumeCommand::Rm(args) => remove(engine, args.0),
        VolumeCommand::Unmount(args) => each(&args.0.volumes, |name| engine.volumes().unmount(name)),
    }
}

fn create(engine: &Engine, args: VolumeCreateArgs) -> Outcome {
    let name = engine.volumes().create(&VolumeCreateRequest {
        name: args.name,
        driver: args.driver,
        labels: pairs(&args.label).into_iter().collect(),
        options: full_pairs("--opt", &args.opt)?,
        uid: args.uid,
        gid: args.gid,
        ignore: args.ignore,
    })?;
    output::line(&name);
    Ok(0)
}

fn export(engine: &Engine, args: &VolumeExportArgs) -> Outcome {
    let Some(path) = &args.output else {
        if std::io::stdout().is_terminal() {
            return Err(Failure::new("an archive is no text for a terminal: use --output or redirect"));
        }
        let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
        engine.volumes().export(&args.volume, &mut out)?;
        out.flush().attempt("write the archive")?;
        return Ok(0);
    };
    let attempt = || format!("write {}", path.display());
    let mut file = std::fs::File::create(path).attempt(attempt())?;
    let result = engine.volumes().export(&args.volume, &mut file);
    if result.is_err() {
        // half an archive is of no use
        let _ = std::fs::remove_file(path);
    }
    result?;
    file.flush().attempt(attempt())?;
    Ok(0)
}

fn import(engine: &Engine, args: VolumeImportArgs) -> Outcome {
    match args.source.filter(|source| source.as_os_str() != "-") {
        Some(path) => {
            let file = std::fs::File::open(&path).attempt(format!("open {}", path.display()))?;
            engine.volumes().import(&args.volume, file)?;
        }
        None => engine.volumes().import(&args.volume, std::io::stdin())?,
    }
    Ok(0)
}

fn inspect(engine: &Engine, args: &VolumeInspectArgs) -> Outcome {
    let names = match args.all {
        true => engine.volumes().list(&[])?.into_iter().map(|volume| volume.name).collect(),
        false => args.volumes.clone(),
    };
    super::inspect::print(&args.format, &names, |name| described(engine, name))
}

/// A volume as `inspect` shows it.
pub(super) fn described(engine: &Engine, name: &str) -> Result<Value, engine::Error> {
    Ok(serde_json::to_value(engine.volumes().inspect(name)?).expect("reports are plain data"))
}

fn list(engine: &Engine, args: &VolumeLsArgs) -> Outcome {
    let volumes = engine.volumes().list(&args.filter)?;
    if args.quiet && args.format.is_none() {
        output::lines(volumes.iter().map(|volume| volume.name.as_str()));
        return Ok(0);
    }
    let objects = || volumes.iter().map(|volume| json!(volume)).collect::<Vec<_>>();
    let rows: Vec<Value> = volumes.iter().map(row).collect();
    if rows.is_empty() && args.format.is_none() {
        return Ok(0);
    }
    let headings = [("Name", "VOLUME NAME")];
    super::lists::print(args.format.as_deref(), TABLE, &rows, objects, &headings, !args.noheading)
}

fn row(volume: &VolumeReport) -> Value {
    let mut row = json!(volume);
    row["Label"] = json!(volume.labels);
    row["Labels"] = json!(
        volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    );
    row
}

fn remove(engine: &Engine, args: VolumeRmArgs) -> Outcome {
    let request =
        VolumeRemoveRequest { names: args.volumes, all: args.all, force: args.force, timeout: args.time };
    let mut code = 0;
    for outcome in engine.volumes().remove(&request)? {
        match outcome.result {
            Ok(_) => output::line(&outcome.name),
            Err(error) => {
                code = match error.kind() {
                    ErrorKind::InUse => IN_USE,
                    ErrorKind::NotFound if code == 0 => MISSING,
                    _ if code == 0 => FAILED,
                    _ => code,
                };
                Failure::from(error).print();
            }
        }
    }
    Ok(code)
}

fn prune(engine: &Engine, args: &VolumePruneArgs) -> Outcome {
    if confirmed(args.force, "all volumes that no container has, with what is in them")? {
        let report = engine.volumes().prune(&args.filter)?;
        report.removed.iter().for_each(|name| output::line(name));
    }
    Ok(0)
}
