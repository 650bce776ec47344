//! Verbs on containers that exist.

use std::path::PathBuf;

use engine::containers::{
    ContainerListRequest, HealthStatus, Outcome as Done, RemoveRequest, Selection, StopRequest, Streams,
    UpdateRequest,
};
use engine::options::{Limits, RestartPolicy, Ulimit, parse_detach_keys, parse_size};
use engine::{Engine, ErrorKind};

use super::create::further::{further_limits, health_change};
use super::create::{environment, exit_code, milli_cpus, read_text};
use crate::args::{
    CleanupArgs, HealthcheckRunArgs, KillArgs, PauseArgs, RenameArgs, RestartArgs, RmArgs, StartArgs,
    StopArgs, UpdateArgs, WaitArgs,
};
use crate::error::{FAILED, Failure, Outcome};
use crate::output;

fn selection(
    engine: &Engine,
    latest: bool,
    mut names: Vec<String>,
    all: bool,
    filters: Vec<String>,
    cidfiles: &[PathBuf],
    ignore: bool,
) -> Result<Selection, Failure> {
    if latest {
        if all || !names.is_empty() {
            return Err(Failure::new("--latest stands alone: no names of containers and no --all beside it"));
        }
        names.push(engine.containers().latest()?);
    }
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
        let selection = selection(engine, args.latest, args.containers, args.all, args.filter, &[], false)?;
        let [name] = selection.names.as_slice() else {
            return Err(Failure::new("--attach and --interactive take one container"));
        };
        let mut streams = Streams::inherit(args.interactive)?;
        streams.detach_keys = parse_detach_keys(&args.detach_keys)?;
        streams.signal_proxy = args.sig_proxy.unwrap_or(true);
        return Ok(exit_code(engine.containers().start_attached(name, streams)?));
    }
    let selection = selection(engine, args.latest, args.containers, args.all, args.filter, &[], false)?;
    report(engine.containers().start(&selection)?, |error| match error.kind() {
        ErrorKind::CommandNotFound => 127,
        ErrorKind::CommandNotRunnable => 126,
        _ => FAILED,
    })
}

/// `davit stop`
pub(crate) fn stop(engine: &Engine, args: StopArgs) -> Outcome {
    let selection =
        selection(engine, args.latest, args.containers, args.all, args.filter, &args.cidfile, args.ignore)?;
    let request = StopRequest { selection, timeout: args.time, signal: args.signal };
    report(engine.containers().stop(&request)?, |_| FAILED)
}

/// `davit restart`
pub(crate) fn restart(engine: &Engine, args: RestartArgs) -> Outcome {
    let mut selection =
        selection(engine, args.latest, args.containers, args.all, args.filter, &args.cidfile, false)?;
    selection.running = args.running;
    let request = StopRequest { selection, timeout: args.time, signal: args.signal };
    report(engine.containers().restart(&request)?, |_| FAILED)
}

/// `davit kill`
pub(crate) fn kill(engine: &Engine, args: KillArgs) -> Outcome {
    let selection =
        selection(engine, args.latest, args.containers, args.all, Vec::new(), &args.cidfile, false)?;
    report(engine.containers().kill(&selection, &args.signal)?, |_| FAILED)
}

/// `davit pause`
pub(crate) fn pause(engine: &Engine, args: PauseArgs) -> Outcome {
    let selection =
        selection(engine, args.latest, args.containers, args.all, args.filter, &args.cidfile, false)?;
    report(engine.containers().pause(&selection)?, |_| FAILED)
}

/// `davit unpause`
pub(crate) fn unpause(engine: &Engine, args: PauseArgs) -> Outcome {
    let selection =
        selection(engine, args.latest, args.containers, args.all, args.filter, &args.cidfile, false)?;
    report(engine.containers().unpause(&selection)?, |_| FAILED)
}

/// `davit rm`: 1 for a missing container, 2 for one that runs.
pub(crate) fn rm(engine: &Engine, args: RmArgs) -> Outcome {
    let ignore = args.ignore || args.force;
    let selection =
        selection(engine, args.latest, args.containers, args.all, args.filter, &args.cidfile, ignore)?;
    let request = RemoveRequest {
        selection,
        force: args.force,
        timeout: args.time,
        volumes: args.volumes,
        depend: args.depend,
    };
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
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    let wait = |name: &String| match engine.containers().wait(name, &args.condition) {
        Err(error) if args.ignore && error.kind() == ErrorKind::NotFound => Ok(-1),
        other => other,
    };
    if args.exit_first_match {
        let (sender, receiver) = std::sync::mpsc::channel();
        for name in names {
            let (sender, engine, args) = (sender.clone(), engine.clone(), args.clone());
            // the others end with this process
            std::thread::spawn(move || {
                let result = match engine.containers().wait(&name, &args.condition) {
                    Err(error) if args.ignore && error.kind() == ErrorKind::NotFound => Ok(-1),
                    other => other,
                };
                let _ = sender.send(result);
            });
        }
        drop(sender);
        let first = receiver.recv().map_err(|_| Failure::new("no container is named"))?;
        output::line(&first?.to_string());
        return Ok(0);
    }
    let mut code = 0;
    for name in &names {
        match wait(name) {
            Ok(status) => output::line(&status.to_string()),
            Err(error) => {
                code = FAILED;
                Failure::from(error).print();
            }
        }
    }
    Ok(code)
}

/// `davit update`: prints the ID.
pub(crate) fn update(engine: &Engine, args: &UpdateArgs) -> Outcome {
    let size = |option: &str, text: Option<&String>| text.map(|text| parse_size(option, text)).transpose();
    if args.cpus.is_some() && (args.cpu_period.is_some() || args.cpu_quota.is_some()) {
        return Err(Failure::new("--cpus and --cpu-period or --cpu-quota exclude each other"));
    }
    let mut request = UpdateRequest {
        container: match &args.container {
            Some(name) => name.clone(),
            None => engine.containers().latest()?,
        },
        limits: Limits {
            memory: size("--memory", args.memory.as_ref())?,
            memory_reservation: size("--memory-reservation", args.memory_reservation.as_ref())?,
            memory_swap: size("--memory-swap", args.memory_swap.as_ref())?,
            memory_swappiness: args.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
            milli_cpus: args.cpus.map(milli_cpus).transpose()?,
            cpu_period: args.cpu_period.filter(|period| *period != 0),
            cpu_quota: args.cpu_quota.filter(|quota| *quota != 0),
            cpu_shares: args.cpu_shares.filter(|shares| *shares != 0),
            cpuset_cpus: args.cpuset_cpus.clone(),
            cpuset_mems: args.cpuset_mems.clone(),
            pids: args.pids_limit.filter(|limit| *limit != 0),
            blkio_weight: args.blkio_weight,
            ..Limits::default()
        },
        ulimits: args.ulimit.iter().map(|text| Ulimit::parse(text)).collect::<Result<_, _>>()?,
        env: environment(&args.env, &[])?,
        unset_env: args.unsetenv.clone(),
        restart: args.restart.as_deref().map(RestartPolicy::parse).transpose()?,
        health: health_change(&args.health)?,
    };
    further_limits(&args.block, &mut request.limits)?;
    let (id, warning) = engine.containers().update(&request)?;
    if let Some(warning) = warning {
        output::note(&format!("Warning: {warning}"));
    }
    output::line(&id);
    Ok(0)
}

/// `davit healthcheck run`
pub(crate) fn check_health(engine: &Engine, args: &HealthcheckRunArgs) -> Outcome {
    match engine.containers().check_health(&args.container)? {
        HealthStatus::Healthy => Ok(0),
        _ => {
            output::line("unhealthy");
            Ok(1)
        }
    }
}

/// `davit container cleanup`
pub(crate) fn cleanup(engine: &Engine, args: &CleanupArgs) -> Outcome {
    let mut code = 0;
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    if args.all {
        names.extend(
            engine
                .containers()
                .list(&ContainerListRequest { all: true, ..Default::default() })?
                .into_iter()
                .map(|row| row.id),
        );
    }
    for name in &names {
        let containers = engine.containers();
        let done = match &args.exec {
            Some(session) => containers.end_exec_of(name, session),
            None => containers.cleanup(name, args.rm, args.rmi),
        };
        if let Err(error) = done {
            code = FAILED;
            Failure::from(error).print();
        }
    }
    Ok(code)
}
