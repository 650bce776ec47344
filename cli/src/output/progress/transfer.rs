//! Pulls, pushes, saves and loads: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;

use engine::images::{BlobDone, BlobKind, TransferEvent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::lock;
use crate::output::note;

/// Digits of a digest that are shown.
const SHORT: usize = 12;

pub(super) fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..SHORT).unwrap_or(hex)
}

pub(super) fn kind(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Config => "config",
        BlobKind::Layer => "layer",
        BlobKind::Other => "blob",
    }
}

pub(super) fn done(how: BlobDone) -> &'static str {
    match how {
        BlobDone::Copied => "done",
        BlobDone::Existed => "already there",
        BlobDone::Mounted => "mounted from another repository",
    }
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

    /// Shows bars among others, or lines where there are none.
    pub(super) fn among(bars: Option<MultiProgress>) -> Self {
        Self { quiet: false, bars, blobs: Mutex::default() }
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
