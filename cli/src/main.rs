//! The `davit` command: arguments, output and exit codes over the engine.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod error;
mod output;

use std::process::ExitCode;

use args::{Davit, GlobalArgs, LogLevel};
use engine::EngineOptions;
use error::{FAILED, Failure};

fn main() -> ExitCode {
    // Before anything else, and before any thread: a process that was started as a part of davit is that part.
    if let Some(code) = engine::entry::hidden() {
        return ExitCode::from(code);
    }
    if is_called("davit-runtime") {
        return runtime();
    }
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut tree = args::command();
    let davit = match tree.try_get_matches_from_mut(std::env::args_os()).and_then(args::from_matches) {
        Ok(davit) => davit,
        Err(error) => return refuse(&error, &words),
    };
    // A process this short gives its memory back by ending.
    std::mem::forget(tree);
    match run(davit) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}

/// Tells whether this program was started under a name.
fn is_called(name: &str) -> bool {
    let own = std::env::args_os().next().map(std::path::PathBuf::from);
    own.is_some_and(|own| own.file_name().is_some_and(|file| file == name))
}

/// As `davit runtime`, for engines that want one program.
fn runtime() -> ExitCode {
    let outcome = match args::runtime_from(std::env::args_os()) {
        Ok(davit) if davit.version => commands::runtime::version(),
        Ok(davit) => commands::runtime::runtime(davit.args),
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { commands::runtime::RUNTIME_FAILED } else { 0 });
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}

fn run(davit: Davit) -> error::Outcome {
    let options = options(&davit.global)?;
    commands::dispatch(davit.command, options)
}

/// Prints help as it is, and what is wrong with a command line; what is known but not built is named.
fn refuse(error: &clap::Error, words: &[String]) -> ExitCode {
    if let Some(text) = args::unbuilt::explain(error, words) {
        Failure::new(text).print();
        return ExitCode::from(FAILED);
    }
    // A closed pipe is no reason to complain.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { FAILED } else { 0 })
}

fn options(global: &GlobalArgs) -> Result<EngineOptions, Failure> {
    let level = if global.debug { LogLevel::Debug } else { global.log_level };
    Ok(EngineOptions {
        root: global.root.clone(),
        runroot: global.runroot.clone(),
        storage_driver: global.storage_driver.clone().filter(|driver| !driver.is_empty()),
        cgroup_manager: global.cgroup_manager.clone(),
        runtime: global.runtime.clone(),
        events_backend: global.events_backend.clone(),
        tmpdir: global.tmpdir.clone(),
        cdi_dirs: global.cdi_spec_dir.clone(),
        log_level: Some(format!("{level:?}").to_lowercase()),
    })
}
