//! `update`.

use std::io::Read;
use std::path::Path;

use engine::oci_runtime as oci;
use serde_json::{Map, Value, json};

use crate::args::RuntimeUpdateArgs;
use crate::error::{Attempt, Failure, Outcome};

/// Changes limits to what a file says, or the flags.
pub(super) fn update(root: &Path, args: &RuntimeUpdateArgs) -> Outcome {
    let value = match &args.resources {
        Some(path) => {
            let mut text = String::new();
            if path.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text).attempt("read standard input")?;
            } else {
                text = std::fs::read_to_string(path).attempt(format!("read {}", path.display()))?;
            }
            serde_json::from_str(&text).attempt(format!("parse {}", path.display()))?
        }
        None => from_flags(args),
    };
    if value.as_object().is_none_or(Map::is_empty) {
        return Err(Failure::new("no limit is named").hint("`davit runtime update --help` lists them"));
    }
    oci::update_from_json(root, &args.id, value)?;
    Ok(0)
}

/// The flags in the form of the specification.
fn from_flags(args: &RuntimeUpdateArgs) -> Value {
    let mut all = Map::new();
    let mut set = |part: &str, key: &str, value: Option<Value>| {
        if let Some(value) = value {
            all.entry(part).or_insert_with(|| json!({}))[key] = value;
        }
    };
    set("blockIO", "weight", args.blkio_weight.map(Value::from));
    set("cpu", "burst", args.cpu_burst.map(Value::from));
    set("cpu", "idle", args.cpu_idle.map(Value::from));
    set("cpu", "period", args.cpu_period.map(Value::from));
    set("cpu", "quota", args.cpu_quota.map(Value::from));
    set("cpu", "realtimePeriod", args.cpu_rt_period.map(Value::from));
    set("cpu", "realtimeRuntime", args.cpu_rt_runtime.map(Value::from));
    set("cpu", "shares", args.cpu_share.map(Value::from));
    set("cpu", "cpus", args.cpuset_cpus.clone().map(Value::from));
    set("cpu", "mems", args.cpuset_mems.clone().map(Value::from));
    set("memory", "limit", args.memory.map(Value::from));
    set("memory", "reservation", args.memory_reservation.map(Value::from));
    set("memory", "swap", args.memory_swap.map(Value::from));
    set("pids", "limit", args.pids_limit.map(Value::from));
    Value::Object(all)
}
