//! Progress of long work: bars and live lines on a terminal, plain lines elsewhere, nothing when it shall be quiet.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::build::BuildEvent;
use engine::images::{BlobDone, BlobKind, TransferEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::note;
use crate::args::ProgressMode;

/// Digits of a digest that are shown.
const SHORT: usize = 12;

fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..SHORT).unwrap_or(hex)
}

fn kind(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Config => "config",
        BlobKind::Layer => "layer",
        BlobKind::Other => "blob",
    }
}

fn done(how: BlobDone) -> &'static str {
    match how {
        BlobDone::Copied => "done",
        BlobDone::Existed => "already there",
        BlobDone::Mounted => "mounted from another repository",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Progress of a pull, push, save or load, on standard error.
pub(crate) struct Transfer {
    quiet: bool,
    bars: Option<MultiProgress>,
    blobs: Mutex<HashMap<String, (BlobKind, Option<ProgressBar>)>>,
}

impl Transfer {
    /// Shows bars if standard error is a terminal, and lines if not.
    pub(crate) fn new(quiet: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(MultiProgress::new);
        Self { quiet, bars, blobs: Mutex::default() }
    }

    fn say(&self, text: &str) {
        match &self.bars {
            // A failure to draw on the terminal is no failure of the transfer.
            Some(bars) => drop(bars.println(text)),
            None => note(text),
        }
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &TransferEvent) {
        if let TransferEvent::Warning { text } = event {
            self.say(&format!("Warning: {text}"));
            return;
        }
        if self.quiet {
            return;
        }
        match event {
            TransferEvent::Resolving { reference } => self.say(&format!("Trying {reference}")),
            TransferEvent::Started { digest, what, size } => {
                let bar = self.bars.as_ref().map(|bars| {
                    let bar = bars.add(ProgressBar::new(*size));
                    let style = ProgressStyle::with_template(
                        "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
                    );
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_prefix(format!("{} {}", kind(*what), short(digest)));
                    bar
                });
                lock(&self.blobs).insert(digest.clone(), (*what, bar));
            }
            TransferEvent::Advanced { digest, done } => {
                if let Some((_, Some(bar))) = lock(&self.blobs).get(digest) {
                    bar.set_position(*done);
                }
            }
            TransferEvent::Finished { digest, how } => {
                let (what, bar) = lock(&self.blobs).remove(digest).unwrap_or((BlobKind::Other, None));
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                self.say(&format!("{} {} {}", kind(what), short(digest), done(*how)));
            }
            TransferEvent::Manifest { digest } => self.say(&format!("manifest {} done", short(digest))),
            _ => {}
        }
    }

    /// Takes what is still drawn off the terminal.
    pub(crate) fn finish(&self) {
        for (_, bar) in lock(&self.blobs).values() {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
    }
}

/// Progress of a build, on standard error.
pub(crate) struct Build {
    style: Style,
    start: Instant,
    transfer: Transfer,
    steps: Mutex<HashMap<usize, Step>>,
    total: Mutex<usize>,
}

enum Style {
    Quiet,
    Plain,
    Live(MultiProgress),
}

struct Step {
    name: String,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Build {
    /// `auto` is live on a terminal and plain elsewhere.
    pub(crate) fn new(mode: ProgressMode, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let style = match mode {
            _ if quiet => Style::Quiet,
            ProgressMode::Quiet => Style::Quiet,
            ProgressMode::Plain => Style::Plain,
            ProgressMode::Auto if !terminal => Style::Plain,
            ProgressMode::Auto | ProgressMode::Tty => Style::Live(MultiProgress::new()),
        };
        let transfer = Transfer::new(matches!(style, Style::Quiet));
        Self { style, start: Instant::now(), transfer, steps: Mutex::default(), total: Mutex::new(0) }
    }

    fn say(&self, text: &str) {
        match &self.style {
            Style::Quiet => {}
            Style::Plain => note(text),
            Style::Live(bars) => {
                if bars.println(text).is_err() || !std::io::stderr().is_terminal() {
                    note(text);
                }
            }
        }
    }

    /// Says a line that was asked for, also when the rest is quiet.
    pub(crate) fn tell(&self, text: &str) {
        match &self.style {
            Style::Quiet => note(text),
            _ => self.say(text),
        }
    }

    /// Shows a warning even when quiet was not asked for by the warning's kind.
    pub(crate) fn warning(&self, text: &str) {
        self.say(&format!("Warning: {}", text.trim_end()));
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &BuildEvent) {
        if matches!(self.style, Style::Quiet) {
            return;
        }
        match event {
            BuildEvent::Planned { total } => *lock(&self.total) = *total,
            BuildEvent::Started { vertex, name } => self.started(*vertex, name),
            BuildEvent::Cached { vertex, name } => match &self.style {
                Style::Live(_) => self.say(&format!(" CACHED {name}")),
                _ => self.say(&format!("#{vertex} {name}\n#{vertex} CACHED")),
            },
            BuildEvent::Output { vertex, line, .. } => self.output(*vertex, line),
            BuildEvent::Done { vertex, elapsed } => self.done(*vertex, *elapsed),
            BuildEvent::Failed { vertex, message } => {
                let step = self.take(*vertex);
                match &self.style {
                    Style::Live(_) => {
                        self.say(&format!(" FAILED {}", step.map_or_else(String::new, |step| step.name)))
                    }
                    _ => {
                        self.say(&format!("#{vertex} FAILED {}", message.lines().next().unwrap_or_default()))
                    }
                }
            }
            BuildEvent::Cancelled { vertex } => {
                let name = self.take(*vertex).map_or_else(String::new, |step| step.name);
                match &self.style {
                    Style::Live(_) => self.say(&format!(" CANCELLED {name}")),
                    _ => self.say(&format!("#{vertex} CANCELLED")),
                }
            }
            BuildEvent::Transfer { event } => self.transfer.event(event),
            BuildEvent::Warning { text } => self.warning(text),
            _ => {}
        }
    }

    fn started(&self, vertex: usize, name: &str) {
        let bar = match &self.style {
            Style::Live(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix}  {wide_msg:.dim}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            _ => {
                self.say(&format!("#{vertex} {name}"));
                None
            }
        };
        lock(&self.steps).insert(vertex, Step { name: name.to_owned(), start: Instant::now(), bar });
    }

    fn output(&self, vertex: usize, line: &str) {
        let steps = lock(&self.steps);
        let step = steps.get(&vertex);
        if let Some(bar) = step.and_then(|step| step.bar.as_ref()) {
            bar.set_message(line.to_owned());
            return;
        }
        let start = step.map_or(self.start, |step| step.start);
        let text = format!("#{vertex} {:.3} {line}", start.elapsed().as_secs_f64());
        drop(steps);
        self.say(&text);
    }

    fn take(&self, vertex: usize) -> Option<Step> {
        let step = lock(&self.steps).remove(&vertex);
        if let Some(bar) = step.as_ref().and_then(|step| step.bar.as_ref()) {
            bar.finish_and_clear();
        }
        step
    }

    fn done(&self, vertex: usize, elapsed: Duration) {
        let step = self.take(vertex);
        let seconds = elapsed.as_secs_f64();
        match (&self.style, step) {
            (Style::Live(_), Some(step)) => self.say(&format!(" {seconds:.1}s {}", step.name)),
            _ => self.say(&format!("#{vertex} DONE {seconds:.1}s")),
        }
    }

    /// Takes what is still drawn off the terminal.
    pub(crate) fn finish(&self) {
        for step in lock(&self.steps).values() {
            if let Some(bar) = &step.bar {
                bar.finish_and_clear();
            }
        }
        self.transfer.finish();
        // Nothing is owed to a closed standard error.
        let _ = std::io::stderr().flush();
    }
}
