//! Counters of a group, in one shape for both layouts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, read_optional};

/// Bytes and operations of one block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Device number, major part.
    pub major: u32,
    /// Device number, minor part.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_operations: u64,
    /// Write operations.
    pub write_operations: u64,
}

/// The counters; `None` is "not told here", never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Memory in use, page cache included, bytes.
    pub memory_usage_bytes: Option<u64>,
    /// The part of it that is file cache the kernel can drop at once (`inactive_file`), bytes; `stats` shows usage less this.
    pub memory_inactive_file_bytes: Option<u64>,
    /// Highest use so far, bytes (v2: Linux 5.19).
    pub memory_peak_bytes: Option<u64>,
    /// Limit, bytes; `None` also when there is none.
    pub memory_limit_bytes: Option<u64>,
    /// Swap in use, bytes.
    pub swap_usage_bytes: Option<u64>,
    /// Processor time, nanoseconds.
    pub cpu_nanos: Option<u64>,
    /// User part of it, nanoseconds.
    pub cpu_user_nanos: Option<u64>,
    /// System part of it, nanoseconds.
    pub cpu_system_nanos: Option<u64>,
    /// Periods in which the quota held the group back.
    pub cpu_throttled_periods: Option<u64>,
    /// Time it was held back, nanoseconds.
    pub cpu_throttled_nanos: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Limit of these; `None` also when there is none.
    pub pids_limit: Option<u64>,
    /// Block devices that were used.
    pub block_io: Vec<BlockIo>,
}

fn number(path: &Path) -> Result<Option<u64>> {
    Ok(read_optional(path)?.and_then(|text| text.trim().parse().ok()))
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Reads a group of the unified tree.
pub(super) fn read_v2(directory: &Path) -> Result<Stats> {
    let cpu = read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
    let memory = read_optional(&directory.join("memory.stat"))?.unwrap_or_default();
    let micros = |key: &str| keyed(&cpu, key).map(|micros| micros.saturating_mul(1000));
    Ok(Stats {
        memory_usage_bytes: number(&directory.join("memory.current"))?,
        memory_inactive_file_bytes: keyed(&memory, "inactive_file"),
        memory_peak_bytes: number(&directory.join("memory.peak"))?,
        // "max" is no number, so no limit is None.
        memory_limit_bytes: number(&directory.join("memory.max"))?,
        swap_usage_bytes: number(&directory.join("memory.swap.current"))?,
        cpu_nanos: micros("usage_usec"),
        cpu_user_nanos: micros("user_usec"),
        cpu_system_nanos: micros("system_usec"),
        cpu_throttled_periods: keyed(&cpu, "nr_throttled"),
        cpu_throttled_nanos: micros("throttled_usec"),
        pids: number(&directory.join("pids.current"))?,
        pids_limit: number(&directory.join("pids.max"))?,
        block_io: read_optional(&directory.join("io.stat"))?
            .map(|text| parse_io_stat(&text))
            .unwrap_or_default(),
    })
}

fn parse_io_stat(text: &str) -> Vec<BlockIo> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|word| word.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        let mut device = BlockIo { major, minor, ..BlockIo::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => device.read_bytes = value,
                "wbytes" => device.write_bytes = value,
                "rios" => device.read_operations = value,
                "wios" => device.write_operations = value,
                _ => {}
            }
        }
        devices.push(device);
    }
    devices
}

/// A limit of this size is the old layout's way to say that there is none: the highest multiple of the page size.
const UNLIMITED: u64 = 0x7fff_ffff_ffff_0000;

/// Reads a group of the old layout.
pub(super) fn read_v1(directories: &BTreeMap<String, PathBuf>) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(directory) = directories.get("memory") {
        stats.memory_usage_bytes = number(&directory.join("memory.usage_in_bytes"))?;
        stats.memory_peak_bytes = number(&directory.join("memory.max_usage_in_bytes"))?;
        stats.memory_limit_bytes =
            number(&directory.join("memory.limit_in_bytes"))?.filter(|limit| *limit < UNLIMITED);
        let text = read_optional(&directory.join("memory.stat"))?.unwrap_or_default();
        stats.memory_inactive_file_bytes = keyed(&text, "total_inactive_file");
        stats.swap_usage_bytes = keyed(&text, "total_swap");
    }
    if let Some(directory) = directories.get("cpuacct") {
        stats.cpu_nanos = number(&directory.join("cpuacct.usage"))?;
        stats.cpu_user_nanos = number(&directory.join("cpuacct.usage_user"))?;
        stats.cpu_system_nanos = number(&directory.join("cpuacct.usage_sys"))?;
    }
    if let Some(directory) = directories.get("cpu") {
        let text = read_optional(&directory.join("cpu.stat"))?.unwrap_or_default();
        stats.cpu_throttled_periods = keyed(&text, "nr_throttled");
        stats.cpu_throttled_nanos = keyed(&text, "throttled_time");
    }
    if let Some(directory) = directories.get("pids") {
        stats.pids = number(&directory.join("pids.current"))?;
        stats.pids_limit = number(&directory.join("pids.max"))?;
    }
    if let Some(directory) = directories.get("blkio") {
        let bytes =
            read_optional(&directory.join("blkio.throttle.io_service_bytes_recursive"))?.unwrap_or_default();
        let operations =
            read_optional(&directory.join("blkio.throttle.io_serviced_recursive"))?.unwrap_or_default();
        stats.block_io = parse_blkio(&bytes, &operations);
    }
    Ok(stats)
}

fn parse_blkio(bytes: &str, operations: &str) -> Vec<BlockIo> {
    let mut devices: BTreeMap<(u32, u32), BlockIo> = BTreeMap::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(device), Some(kind), Some(value)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let Some((major, minor)) = device.split_once(':') else { continue };
            let (Ok(major), Ok(minor), Ok(value)) = (major.parse(), minor.parse(), value.parse()) else {
                continue;
            };
            let entry =
                devices.entry((major, minor)).or_insert(BlockIo { major, minor, ..BlockIo::default() });
            match (kind, is_bytes) {
                ("Read", true) => entry.read_bytes = value,
                ("Write", true) => entry.write_bytes = value,
                ("Read", false) => entry.read_operations = value,
                ("Write", false) => entry.write_operations = value,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_are_read_from_both_layouts() {
        let new = parse_io_stat("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n");
        let expected = BlockIo {
            major: 8,
            minor: 0,
            read_bytes: 10,
            write_bytes: 20,
            read_operations: 1,
            write_operations: 2,
        };
        assert_eq!(new[0], expected);
        let old =
            parse_blkio("8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n", "8:0 Read 1\n8:0 Write 2\n");
        assert_eq!(old, [expected]);
    }

    #[test]
    fn keys_are_whole_words() {
        assert_eq!(keyed("usage_usec_x 1\nusage_usec 25\n", "usage_usec"), Some(25));
        assert_eq!(keyed("a 1", "b"), None);
    }
}
