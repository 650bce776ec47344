//! `--progress=json`: an object a line. docs/progress.md describes them; what is there stays as it is.

use std::io::Write;
use std::time::Instant;

use engine::build::{BuildEvent, BuildReport};
use engine::images::TransferEvent;
use serde_json::{Value, json};

use super::View;
use super::transfer::{done, kind};
use crate::error::Failure;

/// Version of the format.
const VERSION: u32 = 1;

pub(super) struct Json {
    start: Instant,
}

impl Json {
    pub(super) fn new() -> Self {
        let json = Self { start: Instant::now() };
        json.write("begin", json!({"version": VERSION, "at": jiff::Timestamp::now().to_string()}));
        json
    }

    /// Writes one object: event and time first, so that people can read it as well.
    fn write(&self, event: &str, fields: Value) {
        let seconds = (self.start.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        let mut line = format!("{{\"event\":\"{event}\",\"time\":{seconds}");
        let fields = fields.to_string();
        if fields.len() > 2 {
            line.push(',');
            line.push_str(&fields[1..]);
        } else {
            line.push('}');
        }
        line.push('\n');
        // One write for a line, so that lines of several threads stay whole; there is nowhere to report a failure to.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn transfer(&self, event: &TransferEvent) {
        let fields = match event {
            TransferEvent::Resolving { reference } => json!({"what": "resolving", "reference": reference}),
            TransferEvent::Started { digest, what, size } => {
                json!({"what": "started", "digest": digest, "kind": kind(*what), "bytes": size})
            }
            TransferEvent::Advanced { digest, done } => {
                json!({"what": "advanced", "digest": digest, "done": done})
            }
            TransferEvent::Finished { digest, how } => {
                json!({"what": "finished", "digest": digest, "how": done(*how)})
            }
            TransferEvent::Manifest { digest } => json!({"what": "manifest", "digest": digest}),
            TransferEvent::Warning { text } => return self.warning(text),
            _ => return,
        };
        self.write("transfer", fields);
    }
}

impl View for Json {
    fn event(&self, event: &BuildEvent) {
        let (name, fields) = match event {
            BuildEvent::Planned { steps } => {
                let steps: Vec<Value> = steps
                    .iter()
                    .map(|step| {
                        json!({
                            "id": step.vertex, "name": step.name, "stage": step.stage, "step": step.step,
                            "steps": step.steps, "line": step.line, "inputs": step.inputs,
                        })
                    })
                    .collect();
                ("plan", json!({"steps": steps}))
            }
            BuildEvent::Started { vertex, .. } => ("started", json!({"id": vertex})),
            BuildEvent::Cached { vertex, .. } => ("cached", json!({"id": vertex})),
            BuildEvent::Missed { vertex, causes, .. } => ("missed", json!({"id": vertex, "causes": causes})),
            BuildEvent::Output { vertex, stderr, line } => {
                let stream = if *stderr { "stderr" } else { "stdout" };
                ("output", json!({"id": vertex, "stream": stream, "text": line}))
            }
            BuildEvent::Done { vertex, elapsed } => {
                ("done", json!({"id": vertex, "seconds": elapsed.as_secs_f64()}))
            }
            BuildEvent::Failed { vertex, message } => ("failed", json!({"id": vertex, "message": message})),
            BuildEvent::Cancelled { vertex } => ("cancelled", json!({"id": vertex})),
            BuildEvent::ShellOpened { vertex, message } => {
                ("shell", json!({"id": vertex, "open": true, "message": message}))
            }
            BuildEvent::ShellClosed { vertex } => ("shell", json!({"id": vertex, "open": false})),
            BuildEvent::Layer { vertex, bytes, tar_bytes } => {
                ("layer", json!({"id": vertex, "bytes": bytes, "tarBytes": tar_bytes}))
            }
            BuildEvent::Transfer { event } => return self.transfer(event),
            BuildEvent::Warning { text } => return self.warning(text),
            _ => return,
        };
        self.write(name, fields);
    }

    fn warning(&self, text: &str) {
        self.write("warning", json!({"text": text}));
    }

    // The events themselves say it.
    fn tell(&self, _text: &str) {}

    fn suspend(&self, _text: &str) {}

    fn finish(&self, end: Result<&BuildReport, &Failure>) -> bool {
        match end {
            Ok(report) => {
                let fields = json!({
                    "image": format!("sha256:{}", report.id), "names": report.names, "ran": report.ran,
                    "cached": report.cached,
                });
                self.write("result", fields);
            }
            Err(failure) => {
                self.write(
                    "error",
                    json!({"message": failure.message, "hint": failure.hint, "code": failure.code}),
                );
            }
        }
        true
    }
}
