//! `exec` and `attach`.

use engine::Engine;
use engine::containers::{ExecRequest, Streams};
use engine::options::parse_detach_keys;

use super::create::{environment, exit_code, read_text};
use crate::args::{AttachArgs, ExecArgs};
use crate::error::{Failure, Outcome};
use crate::output;

/// Exit code for a container that does not run.
const NOT_RUNNING: u8 = 255;

/// `davit exec`
pub(crate) fn exec(engine: &Engine, args: ExecArgs) -> Outcome {
    let named = match (&args.cidfile, args.latest) {
        (Some(path), _) => Some(read_text(path)?.lines().next().unwrap_or_default().trim().to_owned()),
        (None, true) => Some(engine.containers().latest()?),
        (None, false) => None,
    };
    let (container, command) = match (&named, args.container_and_command.split_first()) {
        (Some(named), _) => (named, args.container_and_command.as_slice()),
        (None, Some((container, command))) => (container, command),
        (None, None) => return Err(Failure::new("no container is named")),
    };
    if command.is_empty() {
        return Err(Failure::new("no command is named: davit exec CONTAINER COMMAND [ARG...]"));
    }
    let attach = if args.detach {
        None
    } else {
        let mut streams = Streams::inherit(args.interactive)?;
        streams.detach_keys = parse_detach_keys(&args.detach_keys)?;
        streams.signal_proxy = !args.tty;
        Some(streams)
    };
    let request = ExecRequest {
        container: container.clone(),
        command: command.to_vec(),
        tty: args.tty,
        env: environment(&args.env, &args.env_file)?,
        user: args.user,
        workdir: args.workdir,
        privileged: args.privileged,
        attach,
        preserved: super::create::preserved(&args.preserve_fd, args.preserve_fds)?,
        wait: args.wait.map(|seconds| std::time::Duration::from_secs(seconds.into())),
    };
    let executed = engine.containers().exec(request).map_err(|error| {
        let stopped = matches!(error, engine::Error::State { .. });
        let failure = Failure::from(error);
        if stopped { failure.code(NOT_RUNNING) } else { failure }
    })?;
    match executed.end {
        None => {
            output::line(&executed.session);
            Ok(0)
        }
        Some(end) => Ok(exit_code(end)),
    }
}

/// `davit attach`
pub(crate) fn attach(engine: &Engine, args: AttachArgs) -> Outcome {
    let mut streams = Streams::inherit(!args.no_stdin)?;
    streams.detach_keys = parse_detach_keys(&args.detach_keys)?;
    streams.signal_proxy = args.sig_proxy;
    let name = match args.container {
        Some(name) => name,
        None => engine.containers().latest()?,
    };
    Ok(exit_code(engine.containers().attach(&name, streams)?))
}
