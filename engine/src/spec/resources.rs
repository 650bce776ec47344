//! Limits of the process and of its group, devices.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPidsBuilder,
    LinuxResources, LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDevice, LinuxWeightDeviceBuilder, PosixRlimit,
};
use runtime::{devices, rlimits};

use super::{Host, SpecOptions, built};
use crate::options::{BlockLimit, BlockLimitKind, Ulimit};
use crate::{Error, Result};

/// Podman's default number of processes.
const PIDS: i64 = 2048;
/// Podman's default of open files and of processes a user.
const FILES_AND_PROCESSES: u64 = 1_048_576;
/// The period, microseconds, that `--cpus` is a part of.
const CPU_PERIOD: u64 = 100_000;

/// Resource limits of the process: Podman's two defaults, lowered where the caller may not raise, and the user's.
pub(super) fn rlimits(asked: &[Ulimit], host: &Host, own_user_namespace: bool) -> Result<Vec<PosixRlimit>> {
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for (name, own_hard) in [("nofile", host.nofile_hard), ("nproc", host.nproc_hard)] {
        if asked.iter().any(|limit| limit.name == name) {
            continue;
        }
        let Some(resource) = rlimits::parse_name(name) else { continue };
        let wish = rlimits::limit(resource, FILES_AND_PROCESSES, FILES_AND_PROCESSES);
        limits.push(if host.may_raise_limits && !own_user_namespace {
            wish
        } else {
            rlimits::lower(wish, own_hard)
        });
    }
    for limit in asked {
        let what = format!("ulimit {}", limit.name);
        let resource = rlimits::parse_name(&limit.name)
            .ok_or_else(|| Error::invalid(&what, "there is no such resource limit"))?;
        if limit.soft > limit.hard {
            return Err(Error::invalid(what, "the soft limit is above the hard one"));
        }
        if limits.iter().any(|known| known.typ() == resource) {
            return Err(Error::invalid(what, "given twice"));
        }
        limits.push(rlimits::limit(resource, limit.soft, limit.hard));
    }
    Ok(limits)
}

/// The score for the out-of-memory killer; without privilege it can only rise.
pub(super) fn oom_score(asked: Option<i32>, host: &Host) -> Result<Option<i32>> {
    match asked {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Error::invalid(format!("oom-score-adj {score}"), "expected -1000 to 1000"))
        }
        Some(score) if host.in_user_namespace => Ok(Some(score.max(host.oom_score_adj))),
        score => Ok(score),
    }
}

/// The nodes a container gets besides the default ones, and the rules that let it use them.
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    rules: Vec<LinuxDeviceCgroup>,
}

/// Resolves the devices. In a user namespace nodes cannot be made: they are mounts there (`mounts.rs`).
pub(super) fn devices(options: &SpecOptions, host: &Host) -> Result<Devices> {
    let any = |allow| devices::rule(allow, LinuxDeviceType::A, None, None, "rwm");
    if options.privileged {
        let nodes = if super::mounts::no_nodes(options, host) {
            Vec::new()
        } else {
            let mut nodes = devices::all_of_host().map_err(device_error)?;
            nodes.extend(asked(options)?.into_iter().map(|(node, _)| node));
            nodes.sort_by(|a, b| a.path().cmp(b.path()));
            nodes.dedup_by(|a, b| a.path() == b.path());
            nodes
        };
        return Ok(Devices { nodes, rules: vec![any(true)] });
    }
    let mut rules = vec![any(false)];
    let asked = asked(options)?;
    for (node, access) in &asked {
        rules.push(devices::rule(true, node.typ(), Some(node.major()), Some(node.minor()), access));
    }
    for rule in &options.device_rules {
        let kind = match rule.kind {
            'b' => LinuxDeviceType::B,
            'c' => LinuxDeviceType::C,
            _ => LinuxDeviceType::A,
        };
        rules.push(devices::rule(true, kind, rule.major, rule.minor, &rule.access));
    }
    let nodes = if super::mounts::no_nodes(options, host) {
        Vec::new()
    } else {
        asked.into_iter().map(|(node, _)| node).collect()
    };
    Ok(Devices { nodes, rules })
}

/// The devices that the user named: where they are on the host, and with which access.
pub(super) fn asked(options: &SpecOptions) -> Result<Vec<(LinuxDevice, String)>> {
    let mut found = Vec::new();
    for device in &options.devices {
        let request = devices::DeviceRequest {
            source: device.source.clone(),
            destination: device.destination.clone(),
            access: device.permissions.clone(),
        };
        let nodes = devices::resolve(&request).map_err(device_error)?;
        found.extend(nodes.into_iter().map(|node| (node, device.permissions.clone())));
    }
    Ok(found)
}

fn device_error(error: devices::Error) -> Error {
    match error {
        devices::Error::Stat { path, source } => {
            Error::Os { attempt: format!("stat device {}", path.display()), source }
        }
        other => Error::invalid("device", other.to_string()),
    }
}

/// Limits of the group.
pub(super) fn group(
    options: &SpecOptions,
    host: &Host,
    devices: &Devices,
    notes: &mut Vec<String>,
) -> Result<LinuxResources> {
    let limits = &options.limits;
    let mut resources = LinuxResourcesBuilder::default().devices(devices.rules.clone());
    if let Some(memory) = memory(options)? {
        resources = resources.memory(memory);
    }
    if let Some(cpu) = cpu(options, host)? {
        resources = resources.cpu(cpu);
    }
    match limits.pids {
        // 0 and -1 are Podman's words for no limit.
        Some(..=0) => {}
        Some(count) => resources = resources.pids(built(LinuxPidsBuilder::default().limit(count).build())?),
        None if host.pids_controller => {
            resources = resources.pids(built(LinuxPidsBuilder::default().limit(PIDS).build())?);
        }
        None => {
            let reason = host.no_cgroup.as_deref().unwrap_or("there is no cgroup controller pids");
            notes.push(format!("the number of processes is not limited to {PIDS}: {reason}"));
        }
    }
    let mut block = block_limits(&limits.block_devices)?;
    if let Some(weight) = limits.blkio_weight {
        if !(10..=1000).contains(&weight) {
            return Err(Error::invalid(format!("blkio-weight {weight}"), "expected 10 to 1000"));
        }
        block.set_weight(Some(weight));
    }
    if block != LinuxBlockIo::default() {
        resources = resources.block_io(block);
    }
    if !limits.unified.is_empty() {
        resources = resources.unified(
            limits.unified.clone().into_iter().collect::<std::collections::HashMap<String, String>>(),
        );
    }
    built(resources.build())
}

/// Limits of single block devices, by the numbers of their nodes.
fn block_limits(limits: &[BlockLimit]) -> Result<LinuxBlockIo> {
    let mut block = LinuxBlockIo::default();
    let mut weights: Vec<LinuxWeightDevice> = Vec::new();
    let mut throttles: [Vec<LinuxThrottleDevice>; 4] = [const { Vec::new() }; 4];
    for limit in limits {
        let what = || format!("limit of device {}", limit.device.display());
        let found = rustix::fs::stat(&limit.device).map_err(|error| Error::os(what(), error))?;
        if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_block_device() {
            return Err(Error::invalid(what(), "it is no block device"));
        }
        let major = i64::from(rustix::fs::major(found.st_rdev));
        let minor = i64::from(rustix::fs::minor(found.st_rdev));
        let place = match limit.kind {
            BlockLimitKind::Weight => {
                let weight = u16::try_from(limit.value).map_err(|_| Error::invalid(what(), "weight"))?;
                let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(weight);
                weights.push(built(device.build())?);
                continue;
            }
            BlockLimitKind::ReadBps => 0,
            BlockLimitKind::WriteBps => 1,
            BlockLimitKind::ReadIops => 2,
            BlockLimitKind::WriteIops => 3,
        };
        let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(limit.value);
        throttles[place].push(built(device.build())?);
    }
    let some = |list: Vec<LinuxThrottleDevice>| (!list.is_empty()).then_some(list);
    let [read_bps, write_bps, read_iops, write_iops] = throttles;
    block.set_weight_device((!weights.is_empty()).then_some(weights));
    block.set_throttle_read_bps_device(some(read_bps));
    block.set_throttle_write_bps_device(some(write_bps));
    block.set_throttle_read_iops_device(some(read_iops));
    block.set_throttle_write_iops_device(some(write_iops));
    Ok(block)
}

fn memory(options: &SpecOptions) -> Result<Option<LinuxMemory>> {
    let limits = &options.limits;
    let mut memory = LinuxMemory::default();
    let limit = limits.memory.filter(|bytes| *bytes != 0);
    memory.set_limit(limit);
    memory.set_reservation(limits.memory_reservation.filter(|bytes| *bytes != 0));
    match (limits.memory_swap.filter(|bytes| *bytes != 0), limit) {
        (Some(swap), Some(limit)) if swap > 0 && limit > 0 && swap < limit => {
            return Err(Error::invalid(
                format!("memory-swap {swap}"),
                "memory and swap together cannot be less than the memory limit",
            ));
        }
        (Some(swap), None) if swap > 0 => {
            return Err(Error::invalid(format!("memory-swap {swap}"), "it needs a memory limit"));
        }
        (Some(swap), _) => {
            memory.set_swap(Some(swap));
        }
        // As much swap again, as the peers.
        (None, Some(limit)) if limit > 0 => {
            memory.set_swap(Some(limit.saturating_mul(2)));
        }
        (None, _) => {}
    }
    if let (Some(reservation), Some(limit)) = (memory.reservation(), limit)
        && limit > 0
        && reservation > limit
    {
        return Err(Error::invalid(
            format!("memory-reservation {reservation}"),
            "it cannot be above the memory limit",
        ));
    }
    if let Some(swappiness) = limits.memory_swappiness {
        if swappiness > 100 {
            return Err(Error::invalid(format!("memory-swappiness {swappiness}"), "expected 0 to 100"));
        }
        memory.set_swappiness(Some(swappiness));
    }
    memory.set_disable_oom_killer(limits.oom_kill_disable.then_some(true));
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

fn cpu(options: &SpecOptions, host: &Host) -> Result<Option<LinuxCpu>> {
    let limits = &options.limits;
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(limits.cpu_shares.filter(|shares| *shares != 0));
    cpu.set_period(limits.cpu_period.filter(|period| *period != 0));
    cpu.set_quota(limits.cpu_quota.filter(|quota| *quota != 0));
    if let Some(thousandths) = limits.milli_cpus.filter(|count| *count != 0) {
        if cpu.quota().is_some() || cpu.period().is_some() {
            return Err(Error::invalid("cpus", "it cannot be given together with cpu-quota or cpu-period"));
        }
        let quota = thousandths.saturating_mul(CPU_PERIOD) / 1000;
        cpu.set_period(Some(CPU_PERIOD));
        // The kernel's least quota is 1 ms a period.
        cpu.set_quota(Some(i64::try_from(quota.max(1000)).unwrap_or(i64::MAX)));
    }
    cpu.set_realtime_period(limits.cpu_rt_period.filter(|period| *period != 0));
    cpu.set_realtime_runtime(limits.cpu_rt_runtime.filter(|runtime| *runtime != 0));
    if host.unified && (cpu.realtime_period().is_some() || cpu.realtime_runtime().is_some()) {
        return Err(Error::unsupported(
            "cpu-rt-period and cpu-rt-runtime",
            "control groups v2 have no such limit",
        ));
    }
    cpu.set_cpus(limits.cpuset_cpus.clone().filter(|list| !list.is_empty()));
    cpu.set_mems(limits.cpuset_mems.clone().filter(|list| !list.is_empty()));
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}
