//! How the host treats a container, as Podman's `inspect` shows it.

use super::with_prefix;
use crate::options::{BlockLimitKind, Limits, MountKind, Namespace, Seccomp};
use crate::state::ContainerRecord;
use crate::{Engine, Result};
use serde_json::json;
use std::collections::BTreeMap;

fn block_limits(limits: &Limits, kind: BlockLimitKind) -> Vec<serde_json::Value> {
    let name = if kind == BlockLimitKind::Weight { "Weight" } else { "Rate" };
    let of_kind = limits.block_devices.iter().filter(|limit| limit.kind == kind);
    of_kind.map(|limit| json!({ "Path": limit.device, name: limit.value })).collect()
}

fn id_mappings(maps: &crate::IdMaps) -> serde_json::Value {
    let lines = |ranges: &[sys::idmap::Range]| -> Vec<String> {
        let line = |range: &sys::idmap::Range| format!("{}:{}:{}", range.inside, range.outside, range.count);
        ranges.iter().map(line).collect()
    };
    json!({ "UidMap": lines(&maps.users), "GidMap": lines(&maps.groups) })
}

pub(super) fn host_config(engine: &Engine, record: &ContainerRecord) -> Result<serde_json::Value> {
    let settings = &record.settings;
    let limits = &settings.limits;
    let mode = |namespace: &Namespace| match namespace {
        Namespace::None => "none".to_owned(),
        Namespace::Path(path) => format!("ns:{}", path.display()),
        Namespace::Private => "private".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Container(id) => format!("container:{id}"),
    };
    let nano_cpus = limits.milli_cpus.map_or(0, |cpus| cpus.saturating_mul(1_000_000));
    let mut security = Vec::new();
    if settings.security.no_new_privileges {
        security.push("no-new-privileges".to_owned());
    }
    match &settings.security.seccomp {
        Seccomp::Default | Seccomp::Text(_) => {}
        Seccomp::Unconfined => security.push("seccomp=unconfined".to_owned()),
        Seccomp::File(path) => security.push(format!("seccomp={}", path.display())),
    }
    let binds: Vec<String> = settings
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source } => Some(format!(
                "{}:{}:{}",
                source.display(),
                mount.destination.display(),
                mount.options.join(",")
            )),
            MountKind::Volume { name, .. } => {
                Some(format!("{name}:{}:{}", mount.destination.display(), mount.options.join(",")))
            }
            _ => None,
        })
        .collect();
    let tmpfs: BTreeMap<String, String> = settings
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::Tmpfs)
        .map(|mount| (mount.destination.to_string_lossy().into_owned(), mount.options.join(",")))
        .collect();
    let mut config = serde_json::Map::new();
    let mut put = |part: serde_json::Value| {
        if let serde_json::Value::Object(part) = part {
            config.extend(part);
        }
    };
    put(json!({
        "Binds": binds,
        "Tmpfs": tmpfs,
        "CgroupManager": engine.groups()?.manager.name(),
        "CgroupMode": mode(&settings.cgroupns),
        "ContainerIDFile": settings.cidfile.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default(),
        "LogConfig": {
            "Type": settings.log_driver.as_deref().unwrap_or("k8s-file"),
            "Config": settings.log_options,
            "Path": engine.log_path(record),
            "Tag": settings.log_options.get("tag").cloned().unwrap_or_default(),
            "Size": settings.log_options.get("max-size").cloned().unwrap_or_else(|| "0B".to_owned()),
        },
        "NetworkMode": crate::containers::select::network_word(record),
        "PortBindings": {},
        "RestartPolicy": { "Name": settings.restart.as_str(), "MaximumRetryCount": settings.restart.limit() },
        "AutoRemove": settings.auto_remove,
        "Annotations": settings.annotations,
    }));
    let with_prefixes = |names: &[String]| names.iter().map(|name| with_prefix(name)).collect::<Vec<_>>();
    put(json!({
        "CapAdd": with_prefixes(&settings.cap_add),
        "CapDrop": with_prefixes(&settings.cap_drop),
        "Dns": settings.dns,
        "DnsOptions": settings.dns_options,
        "DnsSearch": settings.dns_search,
        "ExtraHosts": settings.add_hosts,
        "GroupAdd": settings.groups,
        "IpcMode": mode(&settings.ipc),
        "PidMode": mode(&settings.pid),
        "UTSMode": mode(&settings.uts),
        "UsernsMode": settings.userns.word(),
        "IDMappings": settings.maps.as_ref().map(id_mappings),
        "Cgroups": settings.cgroups.as_str(),
        "OomScoreAdj": settings.oom_score_adj.unwrap_or(0),
        "Privileged": settings.privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": settings.read_only,
        "SecurityOpt": security,
        "ShmSize": settings.shm_size.unwrap_or(64_000 * 1024),
        "Runtime": "oci",
        "Isolation": "",
        "Init": settings.init,
    }));
    let devices: Vec<_> = settings
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.source,
                "PathInContainer": device.destination,
                "CgroupPermissions": device.permissions,
            })
        })
        .collect();
    let ulimits: Vec<_> = settings
        .ulimits
        .iter()
        .map(|limit| {
            json!({
                "Name": format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
                "Soft": limit.soft,
                "Hard": limit.hard,
            })
        })
        .collect();
    put(json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "NanoCpus": nano_cpus,
        "CgroupParent": settings.cgroup_parent.clone().unwrap_or_default(),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": block_limits(limits, BlockLimitKind::Weight),
        "BlkioDeviceReadBps": block_limits(limits, BlockLimitKind::ReadBps),
        "BlkioDeviceWriteBps": block_limits(limits, BlockLimitKind::WriteBps),
        "BlkioDeviceReadIOps": block_limits(limits, BlockLimitKind::ReadIops),
        "BlkioDeviceWriteIOps": block_limits(limits, BlockLimitKind::WriteIops),
        "CpuRealtimePeriod": limits.cpu_rt_period.unwrap_or(0),
        "CpuRealtimeRuntime": limits.cpu_rt_runtime.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices,
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or(0),
        "MemorySwappiness": limits.memory_swappiness.map_or(-1, |value| i64::try_from(value).unwrap_or(-1)),
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids.unwrap_or(2048),
        "Ulimits": ulimits,
    }));
    Ok(serde_json::Value::Object(config))
}
