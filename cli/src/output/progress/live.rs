//! The live view: what is done scrolls away in single lines, what runs has a line with its last words, and the line at
//! the bottom counts.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use engine::build::{BuildEvent, BuildReport};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::echo::Echo;
use super::{Transfer, View, lock, one_line};
use crate::error::Failure;
use crate::output::note;

/// Redrawn so often.
const TICK: Duration = Duration::from_millis(100);
/// Width of a terminal that does not tell.
const WIDTH: usize = 80;

const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";
const DIM: &str = "2";

pub(super) struct Live {
    bars: MultiProgress,
    /// The counts at the bottom.
    status: ProgressBar,
    transfer: Transfer,
    color: bool,
    echo: Echo,
    state: Mutex<State>,
}

struct State {
    start: Instant,
    running: HashMap<usize, Running>,
    total: usize,
    done: usize,
    cached: usize,
}

struct Running {
    name: String,
    bar: ProgressBar,
}

impl Live {
    pub(super) fn new() -> Self {
        let bars = MultiProgress::new();
        let status = bars.add(ProgressBar::new_spinner());
        status.set_style(style("{wide_msg}"));
        let transfer = Transfer::among(Some(bars.clone()));
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let state = State { start: Instant::now(), running: HashMap::new(), total: 0, done: 0, cached: 0 };
        let live = Self { bars, status, transfer, color, echo: Echo::default(), state: Mutex::new(state) };
        live.echo.hide();
        live.status.enable_steady_tick(TICK);
        live
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Writes a line above what is drawn.
    fn say(&self, text: &str) {
        // With --progress=tty there need not be a terminal.
        if !std::io::stderr().is_terminal() || self.bars.println(text).is_err() {
            note(text);
        }
    }

    /// A step that is over, in one line.
    fn over(&self, mark: &str, color: &str, name: &str) {
        let name = shortened(name, width().saturating_sub(10));
        self.say(&format!("{} {name}", self.paint(color, &format!("{mark:>9}"))));
    }

    fn started(&self, vertex: usize, name: &str) {
        // Above the status line, below the other steps.
        let bar = self.bars.insert_before(&self.status, ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {elapsed:>7} {wide_msg}"));
        bar.set_message(shortened(name, width().saturating_sub(11)));
        bar.enable_steady_tick(TICK);
        lock(&self.state).running.insert(vertex, Running { name: name.to_owned(), bar });
        self.count();
    }

    fn output(&self, vertex: usize, line: &str) {
        let line = one_line(line);
        if line.trim().is_empty() {
            return;
        }
        let state = lock(&self.state);
        let Some(step) = state.running.get(&vertex) else { return };
        let room = width().saturating_sub(11);
        let name = shortened(&step.name, room / 2);
        let rest = room.saturating_sub(name.chars().count() + 3);
        step.bar.set_message(format!(
            "{name} {} {}",
            self.paint(DIM, "|"),
            self.paint(DIM, &shortened(&line, rest))
        ));
    }

    /// Takes a step's line away; its name.
    fn take(&self, vertex: usize) -> String {
        let step = lock(&self.state).running.remove(&vertex);
        match step {
            Some(step) => {
                step.bar.finish_and_clear();
                self.bars.remove(&step.bar);
                step.name
            }
            None => format!("step {vertex}"),
        }
    }

    fn count(&self) {
        let state = lock(&self.state);
        let mut text = format!("{} of {} steps", state.done + state.cached, state.total);
        if state.cached > 0 {
            text.push_str(&format!(", {} cached", state.cached));
        }
        if !state.running.is_empty() {
            text.push_str(&format!(", {} running", state.running.len()));
        }
        self.status.set_message(self.paint(DIM, &text));
    }
}

impl View for Live {
    fn event(&self, event: &BuildEvent) {
        match event {
            BuildEvent::Planned { steps } => {
                // A FROM is done when its image is there, which is before.
                let froms = steps.iter().filter(|step| step.step == 1).count();
                lock(&self.state).total = steps.len() - froms;
                self.count();
            }
            BuildEvent::Started { vertex, name } => self.started(*vertex, name),
            BuildEvent::Cached { vertex: _, name } => {
                self.over("cached", CYAN, name);
                lock(&self.state).cached += 1;
                self.count();
            }
            BuildEvent::Output { vertex, line, .. } | BuildEvent::Partial { vertex, line } => {
                self.output(*vertex, line);
            }
            BuildEvent::Done { vertex, elapsed } => {
                let name = self.take(*vertex);
                self.over(&format!("{:.1}s", elapsed.as_secs_f64()), GREEN, &name);
                lock(&self.state).done += 1;
                self.count();
            }
            BuildEvent::Failed { vertex, .. } => {
                let name = self.take(*vertex);
                self.over("FAILED", RED, &name);
                self.count();
            }
            BuildEvent::Cancelled { vertex } => {
                let name = self.take(*vertex);
                self.over("cancelled", DIM, &name);
                self.count();
            }
            BuildEvent::Transfer { event } => self.transfer.event(event),
            BuildEvent::Warning { text } => self.warning(text.trim_end()),
            _ => {}
        }
    }

    fn warning(&self, text: &str) {
        self.say(&super::warning(text));
    }

    fn tell(&self, text: &str) {
        self.say(text);
    }

    fn suspend(&self, text: &str) {
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
        self.echo.show();
        note(text);
    }

    fn resume(&self) {
        self.echo.hide();
        self.bars.set_draw_target(ProgressDrawTarget::stderr());
    }

    fn finish(&self, end: Result<&BuildReport, &Failure>) -> bool {
        let steps: Vec<usize> = lock(&self.state).running.keys().copied().collect();
        for vertex in steps {
            self.take(vertex);
        }
        self.transfer.finish();
        self.status.finish_and_clear();
        self.echo.show();
        if let Ok(report) = end {
            let seconds = lock(&self.state).start.elapsed().as_secs_f64();
            note(&format!("Built in {seconds:.1}s: {} steps ran, {} cached", report.ran, report.cached));
        }
        false
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(WIDTH, |size| match usize::from(size.ws_col) {
        0 => WIDTH,
        columns => columns,
    })
}

/// At most so many characters of a text, in one line.
fn shortened(text: &str, length: usize) -> String {
    let text = one_line(text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(length) {
        Some(_) => {
            let mut cut: String = text.chars().take(length.saturating_sub(1)).collect();
            cut.push('…');
            cut
        }
        None => text,
    }
}
