//! `--log`: what goes wrong, for the engine that called the runtime.

use std::io::Write;
use std::path::PathBuf;

use crate::args::{RuntimeArgs, RuntimeLogFormat};
use crate::output;

/// Where messages go, and which.
#[derive(Clone, Debug)]
pub(super) struct Log {
    file: Option<PathBuf>,
    format: RuntimeLogFormat,
    warnings: bool,
}

impl Log {
    pub(super) fn new(args: &RuntimeArgs) -> Self {
        let file = args.log.as_deref().filter(|name| !name.is_empty());
        let file = file.map(|name| PathBuf::from(name.strip_prefix("file:").unwrap_or(name)));
        let quiet = matches!(args.log_level.as_deref(), Some("error" | "fatal" | "panic"));
        Self { file, format: args.log_format, warnings: args.debug || !quiet }
    }

    /// Writes what ends the verb to the file; standard error is told by who ends the program.
    pub(super) fn error(&self, message: &str) {
        self.write("error", message);
    }

    /// Writes what the verb could not do, and went on: to the file, without one to standard error.
    pub(super) fn warning(&self, message: &str) {
        match (self.warnings, &self.file) {
            (false, _) => {}
            (true, Some(_)) => self.write("warning", message),
            (true, None) => output::note(&format!("Warning: {message}")),
        }
    }

    fn write(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let time = jiff::Timestamp::now();
        let line = match self.format {
            RuntimeLogFormat::Json => {
                serde_json::json!({"level": level, "msg": message, "time": time.to_string()}).to_string()
            }
            RuntimeLogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // Where the log cannot be written, standard error still says it.
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
}
