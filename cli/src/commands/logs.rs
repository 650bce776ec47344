//! `logs`.

use std::io::Write;
use std::sync::Mutex;

use engine::Engine;
use engine::containers::{LogLine, LogsRequest};

use crate::args::LogsArgs;
use crate::error::{FAILED, Failure, Outcome};

/// `davit logs`: what went to standard error goes there again.
pub(crate) fn logs(engine: &Engine, args: LogsArgs) -> Outcome {
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    let several = names.len() > 1;
    let failed = Mutex::new(0);
    // Several containers are followed at the same time.
    std::thread::scope(|scope| {
        for (position, name) in names.iter().enumerate() {
            let request = LogsRequest {
                container: name.clone(),
                follow: args.follow,
                tail: args.tail.and_then(|tail| usize::try_from(tail).ok()),
                since: args.since.clone(),
                until: args.until.clone(),
            };
            let (args, failed) = (&args, &failed);
            let work = move || {
                let prefix = match (args.names || several, args.color) {
                    (false, _) => String::new(),
                    (true, false) => format!("{} ", shown(engine, args, name)),
                    // the six colours of a terminal that are neither black nor white
                    (true, true) => {
                        let shown = shown(engine, args, name);
                        format!("\x1b[3{}m{shown}\x1b[0m ", 1 + position % 6)
                    }
                };
                let result =
                    engine.containers().logs(&request, &mut |line| print(&prefix, args.timestamps, &line));
                if let Err(error) = result {
                    Failure::from(error).print();
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = FAILED;
                }
            };
            if args.follow && several {
                scope.spawn(work);
            } else {
                work();
            }
        }
    });
    Ok(*failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// What stands before the lines of one of several containers: its short ID, or with --names what it was called.
fn shown(engine: &Engine, args: &LogsArgs, name: &str) -> String {
    match (args.names, engine.containers().id(name)) {
        (false, Ok(id)) => id.get(..12).unwrap_or(&id).to_owned(),
        _ => name.to_owned(),
    }
}

/// Writes a line; false when nobody reads any more.
fn print(prefix: &str, timestamps: bool, line: &LogLine) -> bool {
    let mut bytes = Vec::with_capacity(prefix.len() + line.time.len() + 1 + line.bytes.len());
    bytes.extend_from_slice(prefix.as_bytes());
    if timestamps {
        // the file says +00:00, and the originals show it as Z
        bytes.extend_from_slice(line.time.strip_suffix("+00:00").unwrap_or(&line.time).as_bytes());
        bytes.extend_from_slice(if line.time.ends_with("+00:00") { b"Z " } else { b" " });
    }
    bytes.extend_from_slice(&line.bytes);
    if line.stderr {
        std::io::stderr().lock().write_all(&bytes).is_ok()
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(&bytes).and_then(|()| out.flush()).is_ok()
    }
}
