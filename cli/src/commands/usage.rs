//! `stats` and `top`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use engine::containers::{
    ContainerStats, ExecRequest, Selection, Streams, process_descriptors, read_descriptors,
};
use engine::{Engine, EngineOptions};
use serde_json::{Value, json};

use super::create::exit_code;
use crate::args::{StatsArgs, TopArgs};
use crate::error::{Failure, Outcome};
use crate::output::table::Table;
use crate::output::template::{self, Format};
use crate::output::{self, human};

const STATS_TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}\t{{.UpTime}}\t{{.AVGCPU}}";

const STATS_HEADINGS: [(&str, &str); 12] = [
    ("ID", "ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemUsageBytes", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("PIDS", "PIDS"),
    ("UpTime", "CPU TIME"),
    ("AVGCPU", "AVG CPU %"),
    ("Container", "ID"),
];

/// What is shown of a container: the share of a processor since the last look, or since its start.
struct Shown<'a> {
    now: &'a ContainerStats,
    before: Option<&'a ContainerStats>,
}

impl Shown<'_> {
    #[allow(clippy::cast_precision_loss)] // two digits of a share are shown
    fn share(used: u64, span: i64) -> f64 {
        if span > 0 { used as f64 / span as f64 * 100.0 } else { 0.0 }
    }

    fn average(&self) -> f64 {
        Self::share(self.now.cpu_nanos, self.now.time - self.now.started)
    }

    fn cpu(&self) -> f64 {
        match self.before {
            Some(before) if before.started == self.now.started => {
                let used = self.now.cpu_nanos.saturating_sub(before.cpu_nanos);
                Self::share(used, self.now.time - before.time)
            }
            _ => self.average(),
        }
    }

    #[allow(clippy::cast_precision_loss)] // two digits of a share are shown
    fn memory(&self) -> f64 {
        match self.now.memory_limit {
            0 => 0.0,
            limit => self.now.memory as f64 / limit as f64 * 100.0,
        }
    }

    fn row(&self, whole: bool) -> Value {
        let now = self.now;
        let pair = |one, other| format!("{} / {}", human::short_size(one), human::short_size(other));
        let percent = |value: f64| format!("{value:.2}%");
        let id = if whole { now.id.as_str() } else { now.id.get(..12).unwrap_or(&now.id) };
        json!({
            "ID": id,
            "Container": id,
            "ContainerID": now.id,
            "Name": now.name,
            "CPUPerc": percent(self.cpu()),
            "CPU": self.cpu(),
            "AVGCPU": percent(self.average()),
            "AvgCPU": self.average(),
            "MemUsage": pair(now.memory, now.memory_limit),
            "MemUsageBytes": format!("{} / {}", binary_size(now.memory), binary_size(now.memory_limit)),
            "MemPerc": percent(self.memory()),
            "MemLimit": now.memory_limit,
            "NetIO": pair(now.network_in, now.network_out),
            "NetInput": now.network_in,
            "NetOutput": now.network_out,
            "BlockIO": pair(now.block_in, now.block_out),
            "BlockInput": now.block_in,
            "BlockOutput": now.block_out,
            "PIDS": now.pids.to_string(),
            "PIDs": now.pids,
            "UpTime": go_duration(now.cpu_nanos),
            "CPUNano": now.cpu_nanos,
            "CPUSystemNano": now.cpu_system_nanos,
            "SystemNano": now.time,
            "Duration": now.cpu_nanos,
        })
    }

    fn object(&self, whole: bool) -> Value {
        let row = self.row(whole);
        json!({
            "id": row["ID"],
            "name": row["Name"],
            "cpu_time": row["UpTime"],
            "cpu_percent": row["CPUPerc"],
            "avg_cpu": row["AVGCPU"],
            "mem_usage": row["MemUsage"],
            "mem_percent": row["MemPerc"],
            "net_io": row["NetIO"],
            "block_io": row["BlockIO"],
            "pids": row["PIDS"],
        })
    }
}

/// A length of time as Go writes it: `33.36ms`, `1m2.5s`.
fn go_duration(nanos: u64) -> String {
    let trimmed = |whole: u64, rest: u64, digits: usize| {
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", trimmed(nanos / 1_000, nanos % 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", trimmed(nanos / 1_000_000, nanos % 1_000_000, 6)),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let rest = trimmed(seconds % 60, nanos % 1_000_000_000, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

/// Bytes in units of 1024.
fn binary_size(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // four digits are shown
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            let text = format!("{value:.3}");
            return format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'));
        }
        value /= 1024.0;
    }
    format!("{value:.3}PiB")
}

/// `davit stats`
pub(crate) fn stats(engine: &Engine, args: &StatsArgs) -> Outcome {
    let mut names = args.containers.clone();
    if args.latest {
        names.push(engine.containers().latest()?);
    }
    let selection = Selection { names, all: args.all, ..Selection::default() };
    let text = args.format.as_deref().unwrap_or(STATS_TABLE);
    let format = match Format::parse(text) {
        Format::Table("") => Format::parse(STATS_TABLE),
        format => format,
    };
    let streams = !args.no_stream;
    let clears = streams && !args.no_reset && std::io::stdout().is_terminal();
    let mut before: Vec<ContainerStats> = Vec::new();
    loop {
        let now = engine.containers().stats(&selection)?;
        let shown: Vec<Shown<'_>> = now
            .iter()
            .map(|now| Shown { now, before: before.iter().find(|before| before.id == now.id) })
            .collect();
        let mut text = if clears { "\x1b[H\x1b[2J".to_owned() } else { String::new() };
        match &format {
            Format::Json => {
                let objects: Vec<Value> = shown.iter().map(|shown| shown.object(args.no_trunc)).collect();
                text += &output::json::pretty(&objects).map_err(template::Error::from)?;
                text.push('\n');
            }
            format => {
                let rows: Vec<Value> = shown.iter().map(|shown| shown.row(args.no_trunc)).collect();
                text += &template::rows(format, &rows, &STATS_HEADINGS, true)?;
            }
        }
        let mut out = std::io::stdout().lock();
        // whoever read may have gone
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() || !streams {
            return Ok(0);
        }
        drop(out);
        before = now;
        std::thread::sleep(Duration::from_secs(args.interval.max(1)));
    }
}

/// `davit top`: descriptors are read from /proc; options of ps are for the ps of the container.
pub(crate) fn top(options: EngineOptions, args: TopArgs) -> Outcome {
    if args.list_descriptors {
        process_descriptors().iter().for_each(|name| output::line(name));
        return Ok(0);
    }
    let mut words = args.container_and_format;
    let missing = || Failure::new("no container is named");
    let split = usize::from(!args.latest);
    if words.len() < split {
        return Err(missing());
    }
    let rest = words.split_off(split);
    let name = |engine: &Engine| match words.first() {
        Some(name) => Ok(name.clone()),
        None => engine.containers().latest(),
    };
    let Some(descriptors) = read_descriptors(&rest) else {
        let engine = super::launch(options)?;
        let command = std::iter::once("ps".to_owned()).chain(rest).collect();
        let request = ExecRequest {
            container: name(&engine)?,
            command,
            attach: Some(Streams::inherit(false)?),
            ..ExecRequest::default()
        };
        let executed = engine.containers().exec(request).map_err(|error| {
            let failure = Failure::from(error);
            failure.hint("`davit top CONTAINER` without options of ps needs no ps in the container")
        })?;
        return Ok(executed.end.map_or(0, exit_code));
    };
    let engine = super::store(options)?;
    let processes = engine.containers().top(&name(&engine)?, &descriptors)?;
    let mut table = Table::new();
    table.row(processes.titles);
    for row in processes.rows {
        table.row(row);
    }
    output::raw(table.render().as_bytes());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "999ns"),
            (33_360_701, "33.360701ms"),
            (1_500, "1.5µs"),
            (2_000_000_000, "2s"),
            (62_500_000_000, "1m2.5s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(nanos), text);
        }
        assert_eq!(binary_size(2_379_776), "2.27MiB");
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let look = |time, cpu_nanos| ContainerStats {
            started: 0,
            time,
            cpu_nanos,
            memory: 1,
            memory_limit: 4,
            ..ContainerStats::default()
        };
        let (first, second) = (look(1000, 500), look(2000, 1500));
        let shown = Shown { now: &second, before: Some(&first) };
        assert!((shown.cpu() - 100.0).abs() < 0.01 && (shown.average() - 75.0).abs() < 0.01);
        assert!((Shown { now: &first, before: None }.cpu() - 50.0).abs() < 0.01);
        assert_eq!(shown.row(false)["MemPerc"], "25.00%");
    }
}
