//! The files: appending, beginning anew, reading on.

use super::Event;
use crate::state::files;
use crate::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Size at which the log is begun anew, bytes; the generation before is kept.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// What every line begins with; inside a string its quotes would be escaped.
const START: &[u8] = b"{\"v\":";

pub(super) fn current(directory: &Path) -> PathBuf {
    directory.join("log")
}

pub(super) fn previous(directory: &Path) -> PathBuf {
    directory.join("log.1")
}

/// Appends an event.
pub(super) fn append(directory: &Path, event: &Event, max_bytes: u64) -> Result<()> {
    let path = current(directory);
    let failed = |error| Error::os(format!("write {}", path.display()), error);
    let mut line = serde_json::to_vec(event).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let mut file = match open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            files::create_directory(directory)?;
            open(&path)
        }
        opened => opened,
    }
    .map_err(failed)?;
    if file.metadata().map_err(failed)?.len() >= max_bytes {
        begin_anew(directory, &file).map_err(failed)?;
        file = open(&path).map_err(failed)?;
    }
    // one call: the kernel puts it behind what others write, whole
    file.write(&line).map(drop).map_err(failed)
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Makes the log the generation before. One of several that find it too large does so.
fn begin_anew(directory: &Path, file: &File) -> std::io::Result<()> {
    flock(file, FlockOperation::LockExclusive)?;
    let path = current(directory);
    let is_current = std::fs::metadata(&path).is_ok_and(|now| {
        file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
    });
    if is_current { std::fs::rename(&path, previous(directory)) } else { Ok(()) }
}

/// A generation of the log that is read as it grows.
#[derive(Debug)]
pub(super) struct Generation {
    file: File,
    inode: u64,
    rest: Vec<u8>,
}

impl Generation {
    /// Opens one; `None` when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let failed = |error| Error::os(format!("read {}", path.display()), error);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let inode = file.metadata().map_err(failed)?.ino();
        Ok(Some(Self { file, inode, rest: Vec::new() }))
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.inode == other.inode
    }

    /// The events that came since the last call.
    pub(super) fn read(&mut self) -> Result<Vec<Event>> {
        let failed = |error| Error::os("read the events", error);
        self.file.read_to_end(&mut self.rest).map_err(failed)?;
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let events = self.rest[..whole].split(|byte| *byte == b'\n').filter_map(parse).collect();
        self.rest.drain(..whole);
        Ok(events)
    }
}

/// Reads a line; what a killed writer left before it is skipped.
fn parse(line: &[u8]) -> Option<Event> {
    let start = line.windows(START.len()).rposition(|window| window == START)?;
    serde_json::from_slice(&line[start..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event { version: 1, time: 7, status: "create".into(), id: number.to_string(), ..Event::default() }
    }

    fn read_all(path: &Path) -> Vec<Event> {
        Generation::open(path).unwrap().map_or(Vec::new(), |mut generation| generation.read().unwrap())
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing_and_old_events_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    for number in 0..50 {
                        append(path, &event(writer * 100 + number), 1 << 20).unwrap();
                    }
                });
            }
        });
        let mut ids: Vec<usize> =
            read_all(&current(&path)).iter().map(|event| event.id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids.len(), 200);
        assert!(
            ids.iter().eq((0..4)
                .flat_map(|writer| (0..50).map(move |n| writer * 100 + n))
                .collect::<Vec<_>>()
                .iter())
        );
        for number in 1000..1100 {
            append(&path, &event(number), 1000).unwrap();
        }
        let (old, new) = (read_all(&previous(&path)), read_all(&current(&path)));
        assert!(old.len() + new.len() < 60, "{} {}", old.len(), new.len());
        let last = old.iter().chain(&new).map(|event| event.id.clone()).collect::<Vec<_>>();
        assert_eq!(last.last().unwrap(), "1099");
        assert_eq!(last[last.len() - 5], "1095");
    }

    #[test]
    fn half_a_line_costs_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = current(directory.path());
        append(directory.path(), &event(1), 1 << 20).unwrap();
        let mut file = open(&path).unwrap();
        file.write_all(b"{\"v\":1,\"time\":5,\"type\":\"cont").unwrap();
        append(directory.path(), &event(2), 1 << 20).unwrap();
        file.write_all(b"no JSON at all\n").unwrap();
        append(directory.path(), &event(3), 1 << 20).unwrap();
        let ids: Vec<String> = read_all(&path).into_iter().map(|event| event.id).collect();
        assert_eq!(ids, ["1", "2", "3"]);
    }
}
