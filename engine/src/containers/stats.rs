//! `stats`: what containers use at one moment.

use super::{Containers, Selection};
use crate::state::ContainerRecord;
use crate::time::Instant;
use crate::{Error, Result};

/// Counters of a container at one moment.
#[derive(Debug, Clone, Default)]
pub struct ContainerStats {
    /// 64 hex digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// Whether it runs; the counters are 0 where not.
    pub running: bool,
    /// When they were read, nanoseconds since 1970.
    pub time: i64,
    /// When it was started, nanoseconds since 1970.
    pub started: i64,
    /// Processor time so far, nanoseconds.
    pub cpu_nanos: u64,
    /// System part of it, nanoseconds.
    pub cpu_system_nanos: u64,
    /// Memory without file cache that can be dropped, bytes.
    pub memory: u64,
    /// Limit of it, or the host's memory, bytes.
    pub memory_limit: u64,
    /// Bytes received.
    pub network_in: u64,
    /// Bytes sent.
    pub network_out: u64,
    /// Bytes read from devices.
    pub block_in: u64,
    /// Bytes written to devices.
    pub block_out: u64,
    /// Processes and threads.
    pub pids: u64,
}

impl Containers<'_> {
    /// Reads the counters of containers: those named, else all, or those that run.
    pub fn stats(&self, selection: &Selection) -> Result<Vec<ContainerStats>> {
        let records = match selection.names.is_empty() {
            true => self.engine.state().list()?,
            false => {
                selection.names.iter().map(|name| self.engine.state().find(name)).collect::<Result<_>>()?
            }
        };
        let host = crate::system::memory_bytes();
        let mut all = Vec::new();
        for record in records {
            let stats = self.stats_of(&record, host)?;
            if stats.running || selection.all || !selection.names.is_empty() {
                all.push(stats);
            }
        }
        Ok(all)
    }

    fn stats_of(&self, record: &ContainerRecord, host: u64) -> Result<ContainerStats> {
        let seen = self.engine.seen(&record.id)?;
        let mut stats = ContainerStats {
            id: record.id.clone(),
            name: record.name.clone(),
            running: seen.is_running(),
            time: Instant::now().0,
            started: seen.started_nanos(),
            ..ContainerStats::default()
        };
        let Some(process) = seen.process.as_ref().filter(|_| stats.running) else { return Ok(stats) };
        let Some(paths) = process.cgroup.clone() else {
            return Err(Error::unsupported(
                format!("counting what container {} uses", record.name),
                "it has no control group, because none could be made here",
            ));
        };
        let failed = |error| {
            Error::os(format!("read the counters of container {}", record.name), std::io::Error::other(error))
        };
        let group = runtime::cgroup::Manager::open(paths).stats().map_err(failed)?;
        stats.cpu_nanos = group.cpu_nanos.unwrap_or(0);
        stats.cpu_system_nanos = group.cpu_system_nanos.unwrap_or(0);
        stats.memory = group
            .memory_usage_bytes
            .unwrap_or(0)
            .saturating_sub(group.memory_inactive_file_bytes.unwrap_or(0));
        stats.memory_limit = group.memory_limit_bytes.filter(|limit| *limit < host).unwrap_or(host);
        stats.pids = group.pids.unwrap_or(0);
        for device in &group.block_io {
            stats.block_in += device.read_bytes;
            stats.block_out += device.write_bytes;
        }
        if super::select::network_word(record) != "host" {
            let table = std::fs::read_to_string(format!("/proc/{}/net/dev", process.init_pid));
            (stats.network_in, stats.network_out) = traffic(&table.unwrap_or_default());
        }
        Ok(stats)
    }
}

/// Bytes received and sent over all interfaces of /proc/net/dev but the loopback one.
fn traffic(table: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in table.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counter = |index| counters.split_whitespace().nth(index)?.parse::<u64>().ok();
        if name.trim() != "lo" {
            sum.0 += counter(0).unwrap_or(0);
            sum.1 += counter(8).unwrap_or(0);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_loopback_interface_does_not_count() {
        let table = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth1:5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n";
        assert_eq!(super::traffic(table), (105, 26));
    }
}
