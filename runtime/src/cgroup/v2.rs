//! The unified tree.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{
    Error, Result, components, devices, file_error, make_directory, read, read_optional, write, write_limit,
};

/// Makes the group and enables every available controller down to it.
pub(super) fn create(mount: &Path, parent: &Path, path: &Path) -> Result<PathBuf> {
    let names = components(path)?;
    let mut directory = if path.is_absolute() { mount.to_path_buf() } else { parent.to_path_buf() };
    for name in names {
        enable_controllers(&directory)?;
        directory.push(name);
        make_directory(&directory)?;
    }
    Ok(directory)
}

/// Lets children of `directory` have its controllers. One that cannot be enabled is left out: only a limit that needs
/// it makes that an error, in [`apply`].
pub(super) fn enable_controllers(directory: &Path) -> Result<()> {
    let available = read(&directory.join("cgroup.controllers"))?;
    let control = directory.join("cgroup.subtree_control");
    let enabled = read(&control)?;
    let missing: Vec<&str> = available
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|on| on == *name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
    // All or nothing, so try each when together they are refused.
    if write(&control, &all.join(" ")).is_err() {
        for one in all {
            // cpu is refused while real-time processes exist outside the root, and all while the group has processes.
            let _ = write(&control, &one);
        }
    }
    Ok(())
}

/// Applies what `resources` holds.
pub(super) fn apply(directory: &Path, resources: &LinuxResources) -> Result<()> {
    if let Some(memory) = resources.memory().filter(|memory| *memory != LinuxMemory::default()) {
        apply_memory(directory, &memory)?;
    }
    if let Some(cpu) = resources.cpu().as_ref().filter(|cpu| **cpu != LinuxCpu::default()) {
        apply_cpu(directory, cpu)?;
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        let text = if pids.limit() < 0 { "max".into() } else { pids.limit().to_string() };
        write_limit(directory, "pids.max", &text, "pids", "pids")?;
    }
    if let Some(block) = resources.block_io().as_ref().filter(|block| **block != LinuxBlockIo::default()) {
        apply_block_io(directory, block)?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let size = huge.page_size();
        let limit = huge.limit().to_string();
        let reserved = directory.join(format!("hugetlb.{size}.rsvd.max"));
        if read_optional(&reserved)?.is_some() {
            write(&reserved, &limit)?;
        }
        write_limit(directory, &format!("hugetlb.{size}.max"), &limit, "huge page", "hugetlb")?;
    }
    if resources
        .network()
        .as_ref()
        .is_some_and(|network| network.class_id().is_some() || network.priorities().is_some())
    {
        return Err(Error::Unsupported { setting: "network class and priorities".into(), layout: "v2" });
    }
    for (name, limits) in resources.rdma().iter().flatten() {
        write_limit(directory, "rdma.max", &super::rdma_line(name, limits), "rdma", "rdma")?;
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort_unstable();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') {
            return Err(Error::Invalid {
                setting: "unified",
                reason: format!("{file:?} is not a file of a cgroup"),
            });
        }
        write_limit(directory, file, value, "unified", "of that file")?;
    }
    match resources.devices().as_ref().filter(|rules| !rules.is_empty()) {
        Some(rules) => apply_devices(directory, rules),
        None => Ok(()),
    }
}

fn apply_devices(directory: &Path, rules: &[oci_spec::runtime::LinuxDeviceCgroup]) -> Result<()> {
    let error = |action| move |source| Error::DeviceProgram { action, path: directory.into(), source };
    let program = match sys::bpf::load_cgroup_device(&devices::compile(rules)) {
        Ok(program) => program,
        // Only the initial user namespace may load programs; rootless containers have no device nodes of their own.
        Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(source) => return Err(error("load")(source)),
    };
    let group = fs::File::open(directory).map_err(|source| file_error("open", directory, source))?;
    match sys::bpf::set_cgroup_device(group.as_fd(), program.as_fd()) {
        Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(error("attach")),
    }
}

fn bytes(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn apply_memory(directory: &Path, memory: &LinuxMemory) -> Result<()> {
    #[allow(deprecated)] // reading it is how an old bundle's wish is refused by name
    let kernel = memory.kernel().filter(|limit| *limit != 0);
    let unsupported = [
        (memory.swappiness().is_some(), "memory swappiness"),
        (kernel.is_some() || memory.kernel_tcp().is_some_and(|limit| limit != 0), "kernel memory limit"),
        (memory.disable_oom_killer() == Some(true), "disabling the OOM killer"),
        (memory.use_hierarchy() == Some(false), "memory without hierarchy"),
    ];
    if let Some((_, setting)) = unsupported.into_iter().find(|(asked, _)| *asked) {
        return Err(Error::Unsupported { setting: setting.into(), layout: "v2" });
    }
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        // The spec's swap is memory and swap together; the file's is swap alone.
        let own = match (swap, limit) {
            (..0, _) => -1,
            (_, Some(limit @ 1..)) if swap >= limit => swap - limit,
            (_, Some(1..)) => {
                let reason = format!("memory and swap together ({swap}) must not be below the memory limit");
                return Err(Error::Invalid { setting: "memory swap", reason });
            }
            _ => {
                let reason = "a limit of memory and swap needs a memory limit".into();
                return Err(Error::Invalid { setting: "memory swap", reason });
            }
        };
        match write(&directory.join("memory.swap.max"), &bytes(own)) {
            // No swap accounting in this kernel: nothing to limit.
            Err(error) if error.is_not_found() && read_optional(&directory.join("memory.max"))?.is_some() => {
            }
            other => other?,
        }
    }
    if let Some(limit) = limit {
        if memory.check_before_update() == Some(true) {
            let usage = read(&directory.join("memory.current"))?;
            if usage.trim().parse::<i64>().is_ok_and(|usage| limit > 0 && usage > limit) {
                let reason =
                    format!("{limit} bytes is below what the container uses now ({} bytes)", usage.trim());
                return Err(Error::Invalid { setting: "memory limit", reason });
            }
        }
        write_limit(directory, "memory.max", &bytes(limit), "memory", "memory")?;
    }
    if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
        write_limit(directory, "memory.low", &bytes(reservation), "memory reservation", "memory")?;
    }
    Ok(())
}

/// `cpu.shares` (2 to 262144, 1024 usual) as `cpu.weight` (1 to 10000, 100 usual), by the curve that the runtimes agreed
/// on in 2025: it maps both ends and the usual value exactly, which the older straight line did not.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            // Below 2^18, so exact as a float; the result lies within 1..=10000.
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let weight = {
                let log = (shares as f64).log2();
                let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
                10_f64.powf(exponent).ceil() as u64
            };
            weight
        }
    }
}

fn apply_cpu(directory: &Path, cpu: &LinuxCpu) -> Result<()> {
    if cpu.realtime_period().is_some_and(|period| period != 0)
        || cpu.realtime_runtime().is_some_and(|runtime| runtime != 0)
    {
        return Err(Error::Unsupported { setting: "real-time cpu limits".into(), layout: "v2" });
    }
    if let Some(idle) = cpu.idle() {
        write_limit(directory, "cpu.idle", &idle.to_string(), "cpu idle", "cpu")?;
    }
    // The kernel refuses a weight for an idle group.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0)
        && cpu.idle() != Some(1)
    {
        write_limit(directory, "cpu.weight", &weight_of_shares(shares).to_string(), "cpu shares", "cpu")?;
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        // One number alone keeps the period; a period alone keeps the quota, which must be read for it.
        let quota = match quota {
            Some(quota) => bytes(quota),
            None => {
                let current = read_optional(&directory.join("cpu.max"))?.unwrap_or_default();
                current.split_whitespace().next().unwrap_or("max").to_owned()
            }
        };
        let text = period.map_or_else(|| quota.clone(), |period| format!("{quota} {period}"));
        write_limit(directory, "cpu.max", &text, "cpu", "cpu")?;
    }
    if let Some(burst) = cpu.burst() {
        write_limit(directory, "cpu.max.burst", &burst.to_string(), "cpu burst", "cpu")?;
    }
    for (value, file) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
        if let Some(list) = value.as_ref().filter(|list| !list.is_empty()) {
            write_limit(directory, file, list, "cpuset", "cpuset")?;
        }
    }
    Ok(())
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

fn apply_block_io(directory: &Path, block: &LinuxBlockIo) -> Result<()> {
    let bfq = directory.join("io.bfq.weight");
    let has_bfq = bfq.try_exists().unwrap_or(false);
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        if has_bfq {
            // BFQ takes the old range as it is.
            write(&bfq, &weight.to_string())?;
        }
        match write(&directory.join("io.weight"), &io_weight(weight).to_string()) {
            Err(error) if error.is_not_found() && has_bfq => {}
            Err(error) if error.is_not_found() => {
                return Err(Error::NoController {
                    limit: "block I/O weight",
                    controller: "io",
                    reason: format!("{} has no io.weight", directory.display()),
                });
            }
            other => other?,
        }
    }
    if block.leaf_weight().is_some_and(|weight| weight != 0) {
        return Err(Error::Unsupported { setting: "leaf weight".into(), layout: "v2" });
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let (major, minor) = (device.major(), device.minor());
            if has_bfq {
                write(&bfq, &format!("{major}:{minor} {weight}"))?;
            } else {
                let text = format!("{major}:{minor} {}", io_weight(weight));
                write_limit(directory, "io.weight", &text, "block I/O weight", "io")?;
            }
        }
    }
    let throttles = [
        (block.throttle_read_bps_device(), "rbps"),
        (block.throttle_write_bps_device(), "wbps"),
        (block.throttle_read_iops_device(), "riops"),
        (block.throttle_write_iops_device(), "wiops"),
    ];
    for (devices, key) in throttles {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let text = format!("{}:{} {key}={rate}", device.major(), device.minor());
            write_limit(directory, "io.max", &text, "block I/O throttle", "io")?;
        }
    }
    Ok(())
}

/// Freezes and waits for the kernel's word in `cgroup.events`, which `poll` reports as an exceptional condition.
pub(super) fn freeze(directory: &Path, wait: Duration) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let events = directory.join("cgroup.events");
    let file = fs::File::open(&events).map_err(|source| file_error("open", &events, source))?;
    write(&directory.join("cgroup.freeze"), "1")?;
    let deadline = Instant::now() + wait;
    loop {
        if read(&events)?.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            write(&directory.join("cgroup.freeze"), "0")?;
            return Err(Error::Timeout { path: directory.into(), wanted: "frozen", waited: wait });
        }
        // Woken early or late changes nothing: the file is read again, at least every 100 ms.
        let left = left.min(Duration::from_millis(100));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&file, PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(file_error("poll", &events, errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ends_and_middles() {
        assert_eq!([0, 2, 1024, 262_144, 300_000].map(weight_of_shares), [1, 1, 100, 10_000, 10_000]);
        assert!(weight_of_shares(512) < 100 && weight_of_shares(2048) > 100);
        assert_eq!([10, 1000, 0, 500].map(io_weight), [1, 10_000, 1, 4950]);
    }
}
