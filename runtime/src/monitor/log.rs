//! The log file: `TIME stdout|stderr F|P TEXT`, one record a line, as `podman logs` and the kubelet read it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Opens or creates a log.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?)
}

/// A log being written.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    max_bytes: u64,
    written: u64,
    buffer: Vec<u8>,
}

impl Log {
    pub(super) fn new(file: OwnedFd, path: PathBuf, max_bytes: u64) -> Self {
        let file = File::from(file);
        let written = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
        Self { file, path, max_bytes, written, buffer: Vec::new() }
    }

    /// Records what was read from one stream in one go. A rest without line end is recorded as partial. A full disk
    /// must not stop the container, so failures to write are dropped.
    pub(super) fn record(&mut self, stream: &str, bytes: &[u8]) {
        self.buffer.clear();
        let time = timestamp(super::now_unix_nanos());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, flag) = match line.strip_suffix(b"\n") {
                Some(text) => (text, b'F'),
                None => (line, b'P'),
            };
            self.buffer.extend_from_slice(time.as_bytes());
            self.buffer.push(b' ');
            self.buffer.extend_from_slice(stream.as_bytes());
            self.buffer.extend_from_slice(&[b' ', flag, b' ']);
            self.buffer.extend_from_slice(text);
            self.buffer.push(b'\n');
        }
        let length = self.buffer.len() as u64;
        if self.max_bytes > 0 && self.written > 0 && self.written + length > self.max_bytes {
            self.begin_anew();
        }
        if self.file.write_all(&self.buffer).is_ok() {
            self.written += length;
        }
        if self.buffer.capacity() > 64 * 1024 {
            self.buffer = Vec::new();
        }
    }

    /// Replaces the log by an empty one. Readers that hold the old file open can read it to its end.
    fn begin_anew(&mut self) {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let replaced = open(&temporary).and_then(|file| {
            rustix::fs::ftruncate(&file, 0)?;
            rustix::fs::rename(&temporary, &self.path)?;
            Ok(file)
        });
        if let Ok(file) = replaced {
            self.file = File::from(file);
            self.written = 0;
        }
    }
}

/// RFC 3339 with nanoseconds, in UTC. Own arithmetic: a time zone library would more than double the monitor's memory.
pub(super) fn timestamp(unix_nanos: i64) -> String {
    let seconds = unix_nanos.div_euclid(1_000_000_000);
    let nanos = unix_nanos.rem_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days are counted from 1 March of year 0, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for text in [
            "1970-01-01T00:00:00.000000000Z",
            "2000-02-29T23:59:59.999999999Z",
            "2026-11-24T00:01:02.000000003Z",
            "2100-03-01T12:00:00.5Z",
            "1969-12-31T23:59:59Z",
        ] {
            let known: jiff::Timestamp = text.parse().unwrap();
            let ours = timestamp(i64::try_from(known.as_nanosecond()).unwrap());
            assert_eq!(ours.parse::<jiff::Timestamp>().unwrap(), known, "{ours}");
            assert_eq!(ours.len(), 35);
        }
    }

    #[test]
    fn lines_parts_and_the_size_limit() {
        let directory = std::env::temp_dir().join(format!("davit-log-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("ctr.log");
        let mut log = Log::new(open(&path).unwrap(), path.clone(), 200);
        log.record("stdout", b"one\n\ntwo");
        log.record("stderr", b" rest\n");
        let text = std::fs::read_to_string(&path).unwrap();
        let records: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(records, ["stdout F one", "stdout F ", "stdout P two", "stderr F  rest"]);
        log.record("stdout", b"new\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
