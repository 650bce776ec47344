//! Verbs on containers that exist.

use std::path::PathBuf;

use engine::containers::{Outcome as Done, RemoveRequest, Selection, StopRequest, Streams};
use engine::options::parse_detach_keys;
use engine::{Engine, ErrorKind};

use super::create::{exit_code, read_text};
use crate::args::{
    CleanupArgs, KillArgs, PauseArgs, RenameArgs, RestartArgs, RmArgs, StartArgs, StopArgs, WaitArgs,
};
use crate::error::{FAILED, Failure, Outcome};
use crate::output;

fn selection(
    mut names: Vec<String>,
    all: bool,
    filters: Vec<String>,
    cidfiles: &[PathBuf],
    ignore: bool,
) -> Result<Selection, Failure> {
    for path in cidfiles {
        names.push(read_text(path)?.lines().next().unwrap_or_default().trim().to_owned());
    }
    if all && !names.is_empty() {
        return Err(Failure::new("--all and names of containers exclude each other"));
    }
    Ok(Selection { names, all, filters, running: false, ignore })
}

/// Prints what was done to each container, and says what failed; the exit code is that of the first failure.
fn report(outcomes: Vec<Done>, code: impl Fn(&engine::Error) -> u8) -> Outcome {
    let mut worst = 0;
    for outcome in outcomes {
        match outcome.result {
            Ok(_) => {
                if outcome.id.is_some() {
                    output::line(&outcome.input);
                }
            }
            Err(error) => {
                let this = code(&error);
                if worst == 0 {
                    worst = this;
                }
                Failure::from(error).print();
            }
        }
    }
    Ok(worst)
}

/// `davit start`
pub(crate) fn start(engine: &Engine, args: StartArgs) -> Outcome {
    if args.attach || args.interactive {
        let [name] = args.containers.as_slice() else {
            return Err(Failure::new("--attach and --interactive take one container"));
        };
        let mut streams = Streams::inherit(args.interactive)?;
        streams.detach_keys = parse_detach_keys(&args.detach_keys)?;
        streams.signal_proxy = args.sig_proxy.unwrap_or(true);
        return Ok(exit_code(engine.containers().start_attached(name, streams)?));
    }
    let selection = selection(args.containers, args.all, args.filter, &[], false)?;
    report(engine.containers().start(&selection)?, |error| match error.kind() {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotRunnable => 126,
        _ => FAILED,
    })
}

/// `davit stop`
pub(crate) fn stop(engine: &Engine, args: StopArgs) -> Outcome {
    let selection = selection(args.containers, args.all, args.filter, &args.cidfile, args.ignore)?;
    let request = StopRequest { selection, timeout: args.time, signal: args.signal };
    report(engine.containers().stop(&request)?, |_| FAILED)
}

/// `davit restart`
pub(crate) fn restart(engine: &Engine, args: RestartArgs) -> Outcome {
    let mut selection = selection(args.containers, args.all, args.filter, &args.cidfile, false)?;
    selection.running = args.running;
    let request = StopRequest { selection, timeout: args.time, signal: None };
    report(engine.containers().restart(&request)?, |_| FAILED)
}

/// `davit kill`
pub(crate) fn kill(engine: &Engine, args: KillArgs) -> Outcome {
    let selection = selection(args.containers, args.all, Vec::new(), &args.cidfile, false)?;
    report(engine.containers().kill(&selection, &args.signal)?, |_| FAILED)
}

/// `davit pause`
pub(crate) fn pause(engine: &Engine, args: PauseArgs) -> Outcome {
    let selection = selection(args.containers, args.all, args.filter, &args.cidfile, false)?;
    report(engine.containers().pause(&selection)?, |_| FAILED)
}

/// `davit unpause`
pub(crate) fn unpause(engine: &Engine, args: PauseArgs) -> Outcome {
    let selection = selection(args.containers, args.all, args.filter, &args.cidfile, false)?;
    report(engine.containers().unpause(&selection)?, |_| FAILED)
}

/// `davit rm`: 1 for a missing container, 2 for one that runs.
pub(crate) fn rm(engine: &Engine, args: RmArgs) -> Outcome {
    let ignore = args.ignore || args.force;
    let selection = selection(args.containers, args.all, args.filter, &args.cidfile, ignore)?;
    let request = RemoveRequest { selection, force: args.force, timeout: args.time, volumes: args.volumes };
    report(engine.containers().remove(&request)?, |error| match error.kind() {
        ErrorKind::NotFound => 1,
        ErrorKind::Conflict | ErrorKind::InUse => 2,
        _ => FAILED,
    })
}

/// `davit rename`
pub(crate) fn rename(engine: &Engine, args: &RenameArgs) -> Outcome {
    engine.containers().rename(&args.container, &args.name)?;
    Ok(0)
}

/// `davit wait`
pub(crate) fn wait(engine: &Engine, args: &WaitArgs) -> Outcome {
    let mut code = 0;
    for name in &args.containers {
        match engine.containers().wait(name, &args.condition) {
            Ok(status) => output::line(&status.to_string()),
            Err(error) if args.ignore && error.kind() == ErrorKind::NotFound => output::line("-1"),
            Err(error) => {
                code = FAILED;
                Failure::from(error).print();
            }
        }
    }
    Ok(code)
}

/// `davit container cleanup`
pub(crate) fn cleanup(engine: &Engine, args: &CleanupArgs) -> Outcome {
    let mut code = 0;
    for name in &args.containers {
        if let Err(error) = engine.containers().cleanup(name, args.rm) {
            code = FAILED;
            Failure::from(error).print();
        }
    }
    Ok(code)
}
