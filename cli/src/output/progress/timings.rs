//! `--timings`: the build as one page that needs nothing else: its steps on a time axis, what they waited for, which of
//! them the build could not have been faster than.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use engine::build::BuildReport;

use super::record::{Recorded, Row, State};
use crate::error::Failure;
use crate::output::human;

/// Height of a row in pixels.
const ROW: usize = 28;
/// Seconds between a step's inputs and its start that are worth showing as waiting.
const WAIT: f64 = 0.01;

const STYLE: &str = include_str!("timings.css");

/// Writes the page.
pub(super) fn page(recorded: &Recorded, end: Result<&BuildReport, &Failure>) -> String {
    let rows = rows(recorded);
    let critical = critical_path(recorded);
    let title = match end {
        Ok(report) => {
            format!("Build of {}", report.names.first().map_or_else(|| short(&report.id), String::as_str))
        }
        Err(_) => "Failed build".to_owned(),
    };
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n",
        title = escaped(&title)
    );
    summary(&mut page, recorded, &critical, end);
    chart(&mut page, recorded, &rows, &critical);
    page.push_str("</body></html>\n");
    page
}

/// A line of the chart.
enum Line<'a> {
    Stage(&'a str),
    Step(&'a Row),
    /// A fetched blob: label, start, end, bytes.
    Fetched(String, f64, f64, u64),
}

/// The steps that had something to do, stage by stage in the order in which the stages began.
fn rows(recorded: &Recorded) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    if !recorded.fetched.is_empty() {
        lines.push(Line::Stage("base images"));
        for blob in &recorded.fetched {
            let hex = blob.digest.split_once(':').map_or(blob.digest.as_str(), |(_, hex)| hex);
            let label = format!("blob {}", hex.get(..12).unwrap_or(hex));
            lines.push(Line::Fetched(label, blob.start, blob.end, blob.bytes));
        }
    }
    let mut stages: Vec<&str> = Vec::new();
    let mut by_start: Vec<&Row> = recorded.rows.values().filter(|row| shown(row)).collect();
    by_start.sort_by(|a, b| a.start.total_cmp(&b.start));
    for row in by_start {
        if !stages.contains(&row.stage.as_str()) {
            stages.push(&row.stage);
        }
    }
    let several = stages.len() > 1;
    for stage in stages {
        let steps: Vec<&Row> =
            recorded.rows.values().filter(|row| row.stage == stage && shown(row)).collect();
        if steps.is_empty() {
            continue;
        }
        if several || !recorded.fetched.is_empty() {
            lines.push(Line::Stage(stage));
        }
        lines.extend(steps.into_iter().map(Line::Step));
    }
    lines
}

/// A FROM that was there is no row.
fn shown(row: &Row) -> bool {
    row.state != State::Pending
}

/// The chain of steps that ends last, each with the input that it had to wait for longest.
fn critical_path(recorded: &Recorded) -> Vec<&Row> {
    let took = |row: &&Row| matches!(row.state, State::Ran | State::Failed);
    let last = recorded.rows.values().filter(took).max_by(|a, b| a.end.total_cmp(&b.end));
    let mut path: Vec<&Row> = last.into_iter().collect();
    while let Some(row) = path.last() {
        let inputs = row.inputs.iter().filter_map(|id| recorded.rows.get(id)).filter(took);
        let Some(before) = inputs.max_by(|a, b| a.end.total_cmp(&b.end)) else { break };
        path.push(before);
    }
    path.reverse();
    path
}

fn summary(page: &mut String, recorded: &Recorded, critical: &[&Row], end: Result<&BuildReport, &Failure>) {
    let count = |state: State| recorded.rows.values().filter(|row| row.state == state).count();
    let busy: f64 = recorded.rows.values().map(|row| row.end - row.start).sum();
    let bytes: u64 = recorded.rows.values().filter_map(|row| row.bytes).sum();
    let result = match end {
        Ok(report) => format!("<code>{}</code>", escaped(short(&report.id))),
        Err(failure) => {
            let first = failure.message.lines().next().unwrap_or_default();
            format!("<span class=\"failed\">{}</span>", escaped(first.trim_start_matches("error: ")))
        }
    };
    let at_once = busy / recorded.total.max(1e-9);
    let mut facts = vec![
        ("Result", result),
        ("Total", seconds(recorded.total)),
        ("Work", format!("{} ({at_once:.1} steps at once)", seconds(busy))),
    ];
    let mut states = format!("{} ran, {} cached", count(State::Ran), count(State::Cached));
    for (state, word) in [(State::Failed, "failed"), (State::Cancelled, "cancelled")] {
        if count(state) > 0 {
            let _ = write!(states, ", {} {word}", count(state));
        }
    }
    facts.push(("Steps", states));
    if bytes > 0 {
        facts.push(("New layers", human::image_size(bytes)));
    }
    if let (Some(first), Some(last)) = (critical.first(), critical.last()) {
        let sum: f64 = critical.iter().map(|row| row.end - row.start).sum();
        let longest = critical.iter().max_by(|a, b| (a.end - a.start).total_cmp(&(b.end - b.start)));
        let mut text = format!("{} in {}", seconds(sum), counted(critical.len(), "step"));
        if let Some(longest) = longest.filter(|_| critical.len() > 1) {
            let _ = write!(
                text,
                ", longest {} in <span class=\"name\">{}</span>",
                seconds(longest.end - longest.start),
                escaped(&longest.name.chars().take(60).collect::<String>())
            );
        }
        let waited = last.end - first.start - sum;
        if waited > WAIT {
            let _ = write!(text, ", {} waiting between them", seconds(waited));
        }
        facts.push(("Critical path", text));
    }
    page.push_str("<dl>");
    for (name, value) in facts {
        let _ = write!(page, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    page.push_str("</dl>\n");
}

fn chart(page: &mut String, recorded: &Recorded, lines: &[Line<'_>], critical: &[&Row]) {
    let critical: BTreeSet<usize> = critical.iter().map(|row| row.id).collect();
    let total = recorded.total.max(1e-6);
    let percent = |time: f64| (time / total * 100.0).clamp(0.0, 100.0);
    page.push_str(
        "<p class=\"legend\"><i class=\"ran\"></i>ran<i class=\"critical\"></i>critical path<i class=\"wait\"></i>waited for a free slot\
         <i class=\"cached\"></i>cached<i class=\"failed\"></i>failed<i class=\"cancelled\"></i>cancelled</p>\n\
         <div class=\"chart\"><div class=\"head\"><b>Step</b><div class=\"axis\">",
    );
    let ticks = ticks(total);
    for tick in &ticks {
        let _ = write!(page, "<span style=\"left:{:.3}%\">{}</span>", percent(*tick), seconds_short(*tick));
    }
    page.push_str(
        "</div><b class=\"number\">Time</b><b class=\"number\">Layer</b></div>\n<div class=\"rows\">\n",
    );
    edges(page, recorded, lines, &critical, &percent, &ticks);
    for line in lines {
        match line {
            Line::Stage(name) => {
                let _ = writeln!(page, "<div class=\"stage\">{}</div>", escaped(&stage_name(name)));
            }
            Line::Fetched(label, start, end, bytes) => {
                let bar = bar("ran fetched", percent(*start), percent(*end), label);
                line_of(
                    page,
                    "fetched",
                    label,
                    label,
                    &bar,
                    &seconds(end - start),
                    &human::image_size(*bytes),
                );
            }
            Line::Step(row) => step(page, recorded, row, critical.contains(&row.id), &percent),
        }
    }
    page.push_str("</div></div>\n");
}

fn step(page: &mut String, recorded: &Recorded, row: &Row, critical: bool, percent: &impl Fn(f64) -> f64) {
    let class = match row.state {
        State::Ran | State::Pending => "ran",
        State::Cached => "cached",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
    };
    let took = row.end - row.start;
    let hint = format!(
        "{}\nContainerfile line {}\n{class}, {} from {}",
        row.name,
        row.line,
        seconds(took),
        seconds(row.start)
    );
    let mut bars = String::new();
    let inputs = row.inputs.iter().filter_map(|id| recorded.rows.get(id)).filter(|input| shown(input));
    let ready = inputs.map(|input| input.end).fold(f64::NEG_INFINITY, f64::max);
    if row.state == State::Ran && ready.is_finite() && row.start - ready > WAIT {
        bars.push_str(&bar("wait", percent(ready), percent(row.start), "waited for a free slot"));
    }
    let classes = if critical { format!("{class} critical") } else { class.to_owned() };
    bars.push_str(&bar(&classes, percent(row.start), percent(row.end), &hint));
    let time = if row.state == State::Cached { "cached".to_owned() } else { seconds(took) };
    let bytes = row.bytes.map_or_else(String::new, human::image_size);
    line_of(page, &classes, &row.name, &hint, &bars, &time, &bytes);
}

fn line_of(page: &mut String, classes: &str, name: &str, hint: &str, bars: &str, time: &str, bytes: &str) {
    let _ = writeln!(
        page,
        "<div class=\"row {classes}\"><span class=\"name\" title=\"{}\">{}</span><div class=\"track\">{bars}</div>\
         <span class=\"number\">{time}</span><span class=\"number\">{bytes}</span></div>",
        escaped(hint),
        escaped(name),
    );
}

fn bar(classes: &str, from: f64, to: f64, hint: &str) -> String {
    format!(
        "<i class=\"{classes}\" style=\"left:{from:.3}%;width:{:.3}%\" title=\"{}\"></i>",
        (to - from).max(0.0),
        escaped(hint)
    )
}

/// Lines from the end of each step to what began after it, under the bars.
fn edges(
    page: &mut String,
    recorded: &Recorded,
    lines: &[Line<'_>],
    critical: &BTreeSet<usize>,
    percent: &impl Fn(f64) -> f64,
    ticks: &[f64],
) {
    let middle = |id: usize| {
        let at = lines.iter().position(|line| matches!(line, Line::Step(row) if row.id == id))?;
        Some(at * ROW + ROW / 2)
    };
    let _ = write!(page, "<svg class=\"edges\" height=\"{}\">", lines.len() * ROW);
    for tick in ticks {
        let at = percent(*tick);
        let _ = write!(page, "<line class=\"tick\" x1=\"{at:.3}%\" x2=\"{at:.3}%\" y1=\"0\" y2=\"100%\"/>");
    }
    let mut drawn = [String::new(), String::new()];
    for row in recorded.rows.values().filter(|row| shown(row)) {
        let Some(to) = middle(row.id) else { continue };
        for input in row.inputs.iter().filter_map(|id| recorded.rows.get(id)) {
            let Some(from) = middle(input.id) else { continue };
            let on_path = critical.contains(&row.id) && critical.contains(&input.id);
            let class = if on_path { "edge critical" } else { "edge" };
            let (left, right) = (percent(input.end), percent(row.start));
            let _ = write!(
                drawn[usize::from(on_path)],
                "<line class=\"{class}\" x1=\"{left:.3}%\" y1=\"{from}\" x2=\"{right:.3}%\" y2=\"{from}\"/>\
                 <line class=\"{class}\" x1=\"{right:.3}%\" y1=\"{from}\" x2=\"{right:.3}%\" y2=\"{to}\"/>"
            );
        }
    }
    page.push_str(&drawn.concat());
    page.push_str("</svg>\n");
}

/// Round times at most an eighth of the whole apart.
fn ticks(total: f64) -> Vec<f64> {
    let mut step = 0.001;
    let factors = [2.0, 2.5, 2.0];
    for factor in factors.iter().cycle() {
        if total / step <= 8.0 {
            break;
        }
        step *= factor;
    }
    (0..=8u8).map(|number| f64::from(number) * step).take_while(|time| *time <= total).collect()
}

fn seconds(time: f64) -> String {
    match time {
        time if time >= 60.0 => format!("{:.0}m {:02.0}s", (time / 60.0).floor(), time % 60.0),
        time if time >= 1.0 => format!("{time:.1} s"),
        time => format!("{:.0} ms", time * 1000.0),
    }
}

fn seconds_short(time: f64) -> String {
    if time >= 1.0 || time == 0.0 { format!("{} s", (time * 10.0).round() / 10.0) } else { seconds(time) }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn stage_name(name: &str) -> String {
    if name.bytes().all(|byte| byte.is_ascii_digit()) { format!("stage {name}") } else { name.to_owned() }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            char if char.is_control() && char != '\n' => out.push(' '),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: usize, inputs: &[usize], state: State, start: f64, end: f64) -> (usize, Row) {
        let name = format!("[s {id}] RUN <{id}>");
        (
            id,
            Row {
                id,
                name,
                stage: "s".into(),
                line: id,
                inputs: inputs.into(),
                state,
                start,
                end,
                bytes: Some(1),
            },
        )
    }

    fn recorded() -> Recorded {
        let rows = [
            row(1, &[], State::Pending, 0.0, 0.0),
            row(2, &[1], State::Ran, 0.0, 3.0),
            row(3, &[1], State::Ran, 0.0, 1.0),
            row(4, &[2, 3], State::Ran, 3.5, 4.0),
            row(5, &[3], State::Cancelled, 1.0, 4.0),
        ];
        Recorded { rows: rows.into(), fetched: Vec::new(), total: 4.0 }
    }

    #[test]
    fn the_critical_path_is_the_longest_wait() {
        let recorded = recorded();
        let path: Vec<usize> = critical_path(&recorded).iter().map(|row| row.id).collect();
        assert_eq!(path, [2, 4]);
        assert!(critical_path(&Recorded::default()).is_empty());
    }

    #[test]
    fn the_page_needs_nothing_else_and_escapes_names() {
        let page = page(&recorded(), Err(&Failure::new("error: RUN failed: <b>")));
        for text in ["&lt;b&gt;", "RUN &lt;4&gt;", "waited for a free slot", "cancelled", "3.5 s in 2 steps"]
        {
            assert!(page.contains(text), "{text} is missing");
        }
        for text in ["http", "<script", "<link", "@import", "url(", "<b>\n"] {
            assert!(!page.contains(text), "{text}");
        }
    }

    #[test]
    fn the_axis_is_round() {
        assert_eq!(ticks(4.0), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
        assert_eq!(ticks(0.0), [0.0]);
        assert!(ticks(100_000.0).len() <= 9);
    }
}
