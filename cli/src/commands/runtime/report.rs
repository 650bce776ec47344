//! The verbs that print: `state`, `list`, `ps`, `events`, `spec`.

use std::path::Path;
use std::process::Command;

use engine::oci_runtime::{self as oci, Stats, Status};
use serde_json::{Value, json};

use crate::args::{RuntimeEventsArgs, RuntimeListArgs, RuntimeListFormat, RuntimePsArgs, RuntimeSpecArgs};
use crate::error::{Attempt, Failure, Outcome};
use crate::output;
use crate::output::table::Table;

fn print(value: &Value) -> Outcome {
    output::line(&output::json::pretty(value).attempt("describe the container")?);
    Ok(0)
}

/// `state`
pub(super) fn state(root: &Path, id: &str) -> Outcome {
    let container = oci::open(root, id)?;
    print(&container.state(container.status()))
}

/// `list`
pub(super) fn list(root: &Path, args: &RuntimeListArgs) -> Outcome {
    let all: Vec<(oci::Container, Status)> = oci::list(root)?
        .into_iter()
        .map(|container| {
            let status = container.status();
            (container, status)
        })
        .collect();
    if args.quiet {
        for (container, _) in &all {
            output::line(&container.record.id);
        }
        return Ok(0);
    }
    if args.format == RuntimeListFormat::Json {
        let states: Vec<Value> = all.iter().map(|(container, status)| container.state(*status)).collect();
        return print(&states.into());
    }
    let mut table = Table::new();
    table.row(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for (container, status) in &all {
        let record = &container.record;
        let pid = if *status == Status::Stopped { 0 } else { record.pid };
        table.row([
            record.id.clone(),
            pid.to_string(),
            status.to_string(),
            record.bundle.display().to_string(),
            record.created.clone(),
            format!("#{}", record.owner),
        ]);
    }
    output::raw(table.render().as_bytes());
    Ok(0)
}

/// `ps`: the host's ps(1), and of its lines those of the container.
pub(super) fn ps(root: &Path, args: &RuntimePsArgs) -> Outcome {
    let processes = oci::processes(root, &args.id)?;
    if args.format == RuntimeListFormat::Json {
        output::line(&json!(processes).to_string());
        return Ok(0);
    }
    let options = if args.options.is_empty() { vec!["-ef".to_owned()] } else { args.options.clone() };
    let listed = Command::new("ps").args(&options).output().attempt("run ps")?;
    if !listed.status.success() {
        let text = String::from_utf8_lossy(&listed.stderr).trim().to_owned();
        return Err(Failure::new(format!("ps {}: {text}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let Some(column) = heading.split_whitespace().position(|word| word == "PID") else {
        return Err(Failure::new("what ps prints has no column PID").hint("add pid to the options of ps"));
    };
    output::line(heading);
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        if pid.is_some_and(|pid| processes.contains(&pid)) {
            output::line(line);
        }
    }
    Ok(0)
}

/// `events`
pub(super) fn events(root: &Path, args: &RuntimeEventsArgs) -> Outcome {
    let interval = duration(&args.interval)
        .ok_or_else(|| Failure::new(format!("--interval {:?}: expected a time such as 5s", args.interval)))?;
    loop {
        let stats = match oci::events(root, &args.id) {
            Ok(stats) => stats,
            // A container that has ended in the meantime has told all.
            Err(oci::Error::State { .. } | oci::Error::NotFound { .. }) if !args.stats => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        output::line(&json!({ "type": "stats", "id": args.id, "data": data(&stats) }).to_string());
        if args.stats {
            return Ok(0);
        }
        std::thread::sleep(interval);
    }
}

fn duration(text: &str) -> Option<std::time::Duration> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    std::time::Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// The counters in the form of runc's, which engines read.
fn data(stats: &Stats) -> Value {
    let mut data = json!({});
    if let Some(total) = stats.cpu_nanos {
        data["cpu"] = json!({
            "usage": { "total": total, "kernel": stats.cpu_system_nanos, "user": stats.cpu_user_nanos },
            "throttling": {
                "throttledPeriods": stats.cpu_throttled_periods, "throttledTime": stats.cpu_throttled_nanos,
            },
        });
    }
    if let Some(usage) = stats.memory_usage_bytes {
        let limit = stats.memory_limit_bytes.unwrap_or(u64::MAX);
        data["memory"] = json!({
            "usage": { "usage": usage, "max": stats.memory_peak_bytes, "limit": limit, "failcnt": 0 },
            "swap": { "usage": stats.swap_usage_bytes },
            "raw": { "inactive_file": stats.memory_inactive_file_bytes },
        });
    }
    if let Some(current) = stats.pids {
        data["pids"] = json!({ "current": current, "limit": stats.pids_limit });
    }
    let mut bytes = Vec::new();
    let mut operations = Vec::new();
    for device in &stats.block_io {
        let entry = |op: &str, value: u64| json!({ "major": device.major, "minor": device.minor, "op": op, "value": value });
        bytes.extend([entry("Read", device.read_bytes), entry("Write", device.write_bytes)]);
        operations.extend([entry("Read", device.read_operations), entry("Write", device.write_operations)]);
    }
    data["blkio"] = json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations });
    data
}

/// `spec`
pub(super) fn spec(args: &RuntimeSpecArgs) -> Outcome {
    let path = args.bundle.join("config.json");
    let ids = args.rootless.then(|| (sys::user::effective_uid(), sys::user::effective_gid()));
    let text = output::json::pretty(&oci::spec(ids)).attempt("describe a container")?;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written =
        file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes()));
    written.attempt(format!("write {}", path.display()))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read() {
        assert_eq!(duration("5s"), Some(std::time::Duration::from_secs(5)));
        assert_eq!(duration("1.5ms"), Some(std::time::Duration::from_micros(1500)));
        for wrong in ["", "s", "0s", "-1s", "5y"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
