//! The old layout: one hierarchy a controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{
    Error, Result, V1Mount, components, file_error, make_directory, read, read_optional, write, write_limit,
};

type Directories = BTreeMap<String, PathBuf>;

/// Makes the group in every hierarchy.
pub(super) fn create(mounts: &BTreeMap<String, V1Mount>, path: &Path) -> Result<Directories> {
    let names = components(path)?;
    let mut directories = Directories::new();
    for (controller, mount) in mounts {
        let mut directory = if path.is_absolute() { mount.mount.clone() } else { mount.parent.clone() };
        for name in &names {
            let parent = directory.clone();
            directory.push(name);
            make_directory(&directory)?;
            if controller == "cpuset" {
                inherit_cpuset(&parent, &directory)?;
            }
        }
        directories.insert(controller.clone(), directory);
    }
    Ok(directories)
}

/// A new cpuset is empty and takes no process until it has processors and memory nodes.
fn inherit_cpuset(parent: &Path, directory: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = directory.join(file);
        if read(&path)?.trim().is_empty() {
            let value = read(&parent.join(file))?;
            write(&path, value.trim())?;
        }
    }
    Ok(())
}

fn directory<'a>(
    directories: &'a Directories,
    limit: &'static str,
    controller: &'static str,
) -> Result<&'a Path> {
    directories.get(controller).map(PathBuf::as_path).ok_or_else(|| Error::NoController {
        limit,
        controller,
        reason: "no such cgroup v1 hierarchy is mounted".into(),
    })
}

pub(super) fn freezer(directories: &Directories) -> Result<&Path> {
    directory(directories, "pause", "freezer")
}

/// Applies what `resources` holds.
pub(super) fn apply(directories: &Directories, resources: &LinuxResources) -> Result<()> {
    if let Some(memory) = resources.memory().filter(|memory| *memory != LinuxMemory::default()) {
        apply_memory(directory(directories, "memory", "memory")?, &memory)?;
    }
    if let Some(cpu) = resources.cpu().as_ref().filter(|cpu| **cpu != LinuxCpu::default()) {
        apply_cpu(directories, cpu)?;
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        let directory = directory(directories, "pids", "pids")?;
        let text = if pids.limit() < 0 { "max".into() } else { pids.limit().to_string() };
        write_limit(directory, "pids.max", &text, "pids", "pids")?;
    }
    if let Some(block) = resources.block_io().as_ref().filter(|block| **block != LinuxBlockIo::default()) {
        apply_block_io(directory(directories, "block I/O", "blkio")?, block)?;
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let directory = directory(directories, "huge page", "hugetlb")?;
        let size = huge.page_size();
        let limit = huge.limit().to_string();
        // The reservation limit fails the mapping, the older one kills at the first touch; absent before Linux 5.7.
        let reserved = directory.join(format!("hugetlb.{size}.rsvd.limit_in_bytes"));
        if read_optional(&reserved)?.is_some() {
            write(&reserved, &limit)?;
        }
        write_limit(directory, &format!("hugetlb.{size}.limit_in_bytes"), &limit, "huge page", "hugetlb")?;
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            let directory = directory(directories, "network class", "net_cls")?;
            write(&directory.join("net_cls.classid"), &class.to_string())?;
        }
        for priority in network.priorities().iter().flatten() {
            let directory = directory(directories, "network priority", "net_prio")?;
            write(
                &directory.join("net_prio.ifpriomap"),
                &format!("{} {}", priority.name(), priority.priority()),
            )?;
        }
    }
    for (name, limits) in resources.rdma().iter().flatten() {
        let directory = directory(directories, "rdma", "rdma")?;
        write_limit(directory, "rdma.max", &super::rdma_line(name, limits), "rdma", "rdma")?;
    }
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(Error::Unsupported { setting: "unified resources".into(), layout: "v1" });
    }
    if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty())
        && let Some(directory) = directories.get("devices")
    {
        apply_devices(directory, rules)?;
    }
    Ok(())
}

fn apply_devices(directory: &Path, rules: &[oci_spec::runtime::LinuxDeviceCgroup]) -> Result<()> {
    for rule in rules {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        // `a` alone is the kernel's word for everything; it ignores numbers and access that follow.
        let text = match rule.typ() {
            None | Some(oci_spec::runtime::LinuxDeviceType::A) => "a".to_owned(),
            Some(_) => {
                let number = |number: Option<i64>| match number {
                    Some(number) if number >= 0 => number.to_string(),
                    _ => "*".into(),
                };
                let typ = match rule.typ() {
                    Some(oci_spec::runtime::LinuxDeviceType::B) => "b",
                    _ => "c",
                };
                let access = rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
                format!("{typ} {}:{} {access}", number(rule.major()), number(rule.minor()))
            }
        };
        write(&directory.join(file), &text)?;
    }
    Ok(())
}

fn apply_memory(directory: &Path, memory: &LinuxMemory) -> Result<()> {
    #[allow(deprecated)] // reading it is how an old bundle's wish is refused by name
    let kernel = memory.kernel().filter(|limit| *limit != 0);
    if kernel.is_some() {
        return Err(Error::Unsupported {
            setting: "kernel memory limit".into(),
            layout: "v1 of this kernel",
        });
    }
    if let (Some(limit), Some(swap)) = (memory.limit(), memory.swap())
        && limit > 0
        && swap > 0
        && swap < limit
    {
        let reason =
            format!("memory and swap together ({swap}) must not be below the memory limit ({limit})");
        return Err(Error::Invalid { setting: "memory swap", reason });
    }
    if memory.use_hierarchy() == Some(false) {
        // Linux 5.11 and later have nothing else.
        return Err(Error::Unsupported {
            setting: "memory without hierarchy".into(),
            layout: "v1 of this kernel",
        });
    }
    set_limits(
        directory,
        memory.limit().filter(|limit| *limit != 0),
        memory.swap().filter(|swap| *swap != 0),
    )?;
    if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
        write(&directory.join("memory.soft_limit_in_bytes"), &reservation.to_string())?;
    }
    if let Some(limit) = memory.kernel_tcp().filter(|bytes| *bytes != 0) {
        write(&directory.join("memory.kmem.tcp.limit_in_bytes"), &limit.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        if swappiness > 100 {
            return Err(Error::Invalid {
                setting: "memory swappiness",
                reason: format!("{swappiness} is above 100"),
            });
        }
        write(&directory.join("memory.swappiness"), &swappiness.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        write(&directory.join("memory.oom_control"), "1")?;
    }
    Ok(())
}

/// The kernel keeps limit <= limit with swap at each step, so raising starts with the sum and lowering with the limit.
fn set_limits(directory: &Path, limit: Option<i64>, swap: Option<i64>) -> Result<()> {
    let limit_file = "memory.limit_in_bytes";
    let sum_file = "memory.memsw.limit_in_bytes";
    let set = |file: &str, value: i64| {
        let result = write(&directory.join(file), &value.to_string());
        // Swap accounting may be off (boot option): then the sum is simply not limited, as in the peers.
        match result {
            Err(error) if file == sum_file && error.is_not_found() => Ok(()),
            Err(error) if file == limit_file && error.errno() == Some(nix::libc::EBUSY) => {
                let usage = read(&directory.join("memory.usage_in_bytes")).unwrap_or_default();
                let usage = usage.trim();
                Err(Error::Invalid {
                    setting: "memory limit",
                    reason: format!("{value} bytes is below what the container uses now ({usage} bytes)"),
                })
            }
            other => other,
        }
    };
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            let current =
                read_optional(&directory.join(sum_file))?.and_then(|text| text.trim().parse::<i64>().ok());
            if swap < 0 || current.is_some_and(|current| swap >= current) {
                set(sum_file, swap)?;
                set(limit_file, limit)
            } else {
                set(limit_file, limit)?;
                set(sum_file, swap)
            }
        }
        (Some(limit), None) => set(limit_file, limit),
        (None, Some(swap)) => set(sum_file, swap),
        (None, None) => Ok(()),
    }
}

fn apply_cpu(directories: &Directories, cpu: &LinuxCpu) -> Result<()> {
    let own = || directory(directories, "cpu", "cpu");
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write(&own()?.join("cpu.shares"), &shares.to_string())?;
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        write(&own()?.join("cpu.cfs_period_us"), &period.to_string())?;
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        write(&own()?.join("cpu.cfs_quota_us"), &quota.to_string())?;
    }
    if let Some(burst) = cpu.burst() {
        write_limit(own()?, "cpu.cfs_burst_us", &burst.to_string(), "cpu burst", "cpu")?;
    }
    if let Some(idle) = cpu.idle() {
        write_limit(own()?, "cpu.idle", &idle.to_string(), "cpu idle", "cpu")?;
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        write_limit(own()?, "cpu.rt_period_us", &period.to_string(), "real-time cpu", "cpu")?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        write_limit(own()?, "cpu.rt_runtime_us", &runtime.to_string(), "real-time cpu", "cpu")?;
    }
    for (value, file) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
        if let Some(list) = value.as_ref().filter(|list| !list.is_empty()) {
            write(&directory(directories, "cpuset", "cpuset")?.join(file), list)?;
        }
    }
    Ok(())
}

fn apply_block_io(directory: &Path, block: &LinuxBlockIo) -> Result<()> {
    // The weight belongs to the scheduler: CFQ's file until Linux 5.0, BFQ's since.
    let weight_file = |names: [&'static str; 2]| {
        names.into_iter().find(|name| directory.join(name).try_exists().unwrap_or(false))
    };
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let Some(file) = weight_file(["blkio.weight", "blkio.bfq.weight"]) else {
            return Err(missing_weight(directory));
        };
        write(&directory.join(file), &weight.to_string())?;
    }
    if let Some(weight) = block.leaf_weight().filter(|weight| *weight != 0) {
        write_limit(directory, "blkio.leaf_weight", &weight.to_string(), "leaf weight", "blkio")?;
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let Some(file) = weight_file(["blkio.weight_device", "blkio.bfq.weight_device"]) else {
                return Err(missing_weight(directory));
            };
            let text = format!("{}:{} {weight}", device.major(), device.minor());
            write(&directory.join(file), &text)?;
        }
    }
    let throttles = [
        (block.throttle_read_bps_device(), "blkio.throttle.read_bps_device"),
        (block.throttle_write_bps_device(), "blkio.throttle.write_bps_device"),
        (block.throttle_read_iops_device(), "blkio.throttle.read_iops_device"),
        (block.throttle_write_iops_device(), "blkio.throttle.write_iops_device"),
    ];
    for (devices, file) in throttles {
        for device in devices.iter().flatten() {
            let text = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            write_limit(directory, file, &text, "block I/O throttle", "blkio")?;
        }
    }
    Ok(())
}

fn missing_weight(directory: &Path) -> Error {
    Error::NoController {
        limit: "block I/O weight",
        controller: "blkio",
        reason: format!(
            "no I/O scheduler with weights is in use, {} has no weight file",
            directory.display()
        ),
    }
}

/// Freezes and waits; a group that does not stop is thawed, since a half frozen one answers nobody.
pub(super) fn freeze(directory: &Path, wait: Duration) -> Result<()> {
    let path = directory.join("freezer.state");
    let deadline = Instant::now() + wait;
    let mut pause = Duration::from_micros(50);
    loop {
        // A process may fork while others are frozen; writing again catches those (kernel documentation).
        write(&path, "FROZEN")?;
        match read(&path)?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" | "THAWED" => {}
            other => {
                let source = std::io::Error::other(format!("unknown freezer state {other:?}"));
                return Err(file_error("read", &path, source));
            }
        }
        if Instant::now() >= deadline {
            write(&path, "THAWED")?;
            return Err(Error::Timeout { path: directory.into(), wanted: "frozen", waited: wait });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
