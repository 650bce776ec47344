//! `logs`: reading, following and cutting a container's log file.
//!
//! The file has the k8s-file format: `TIME stdout|stderr F|P TEXT`; P = the line goes on in the next record of the
//! same stream. The monitor begins the file anew by rename when it grows too large, which a follower sees.

use super::{Containers, LogLine, LogsRequest};
use crate::state::watch::Watch;
use crate::time::Instant;
use crate::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest line that is handed on in one piece, bytes.
const MAX_LINE: usize = 1 << 20;

impl Containers<'_> {
    /// Hands the lines of a container's log to `sink` until it returns false.
    pub fn logs(&self, request: &LogsRequest, sink: &mut dyn FnMut(LogLine) -> bool) -> Result<()> {
        let record = self.engine.state().find(&request.container)?;
        let now = Instant::now();
        let since = request.since.as_ref().map(|text| Instant::parse("since", text, now)).transpose()?;
        let until = request.until.as_ref().map(|text| Instant::parse_end("until", text, now)).transpose()?;
        if let Some(driver @ ("none" | "passthrough")) = record.settings.log_driver.as_deref() {
            return Err(Error::unsupported(
                "reading logs",
                format!("the container was made with log driver {driver}"),
            ));
        }
        let path = self.engine.log_path(&record);
        let run_dir = self.engine.state().run_directory(&record.id);
        let wanted = |line: &LogLine| -> Verdict {
            let time = Instant::parse_rfc3339(&line.time);
            match (time, since, until) {
                (Some(time), _, Some(until)) if time > until => Verdict::Past,
                (Some(time), Some(since), _) if time < since => Verdict::Skip,
                _ => Verdict::Take,
            }
        };
        let mut follower = if request.follow { Some(Follower::new(&path, &run_dir)?) } else { None };
        let mut reader = match File::open(&path) {
            Ok(file) => Some(BufReader::with_capacity(64 * 1024, file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::os(format!("open {}", path.display()), error)),
        };
        if let (Some(reader), Some(tail)) = (&mut reader, request.tail) {
            skip_to_tail(reader, tail)
                .map_err(|error| Error::os(format!("read {}", path.display()), error))?;
        }
        loop {
            // whether it had ended is asked before the last read, so that nothing written before the end is missed
            let ended = match &follower {
                Some(_) => !self.engine.is_running(&record.id)?,
                None => true,
            };
            if reader.is_none() {
                reader = File::open(&path).ok().map(BufReader::new);
            }
            if let Some(reader) = &mut reader {
                let mut raw = Vec::new();
                loop {
                    let start = reader.stream_position().map_err(|error| Error::os("read the log", error))?;
                    raw.clear();
                    let count = reader
                        .read_until(b'\n', &mut raw)
                        .map_err(|error| Error::os(format!("read {}", path.display()), error))?;
                    if count == 0 {
                        break;
                    }
                    if raw.last() != Some(&b'\n') {
                        // the monitor is in the middle of this record
                        reader
                            .seek(SeekFrom::Start(start))
                            .map_err(|error| Error::os(format!("read {}", path.display()), error))?;
                        break;
                    }
                    let Some(line) = parse(&raw) else { continue };
                    match wanted(&line) {
                        Verdict::Take if !sink(line) => return Ok(()),
                        Verdict::Take | Verdict::Skip => {}
                        Verdict::Past => return Ok(()),
                    }
                }
            }
            if ended {
                return Ok(());
            }
            let Some(follower) = &mut follower else { return Ok(()) };
            if follower.wait()? {
                // begun anew: what the old file still held was read above
                reader = None;
            }
        }
    }
}

enum Verdict {
    Take,
    Skip,
    Past,
}

/// Reads one record. `F` gives the newline back that the format took.
fn parse(raw: &[u8]) -> Option<LogLine> {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    let mut fields = raw.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = fields.next()?;
    let kind = fields.next()?;
    let mut bytes = fields.next().unwrap_or_default().to_vec();
    if bytes.len() > MAX_LINE {
        bytes.truncate(MAX_LINE);
    }
    if kind.first() == Some(&b'F') {
        bytes.push(b'\n');
    }
    Some(LogLine { time: time.to_owned(), stderr: stream == b"stderr", bytes })
}

/// Moves to the beginning of the last `lines` lines, reading backwards. Partial records belong to the line they
/// begin, so they are not counted.
fn skip_to_tail(reader: &mut BufReader<File>, lines: usize) -> std::io::Result<()> {
    use std::io::Read;
    const BLOCK: u64 = 64 * 1024;
    let length = reader.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(());
    }
    // offsets at which a record begins, found backwards
    let mut position = length;
    let mut carried: Vec<u8> = Vec::new();
    let mut seen = 0;
    let mut best = length;
    while position > 0 {
        let start = position.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(position - start).unwrap_or(0)];
        reader.seek(SeekFrom::Start(start))?;
        reader.read_exact(&mut block)?;
        block.extend_from_slice(&carried);
        // whole records in this block begin after a newline (or at the start of the file)
        let mut end = block.len();
        while end > 0 {
            let from = block[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if from == 0 && start > 0 {
                break;
            }
            let record = &block[from..end];
            // a full record ends a line: one more line begins behind it
            if is_full(record) {
                if seen == lines {
                    reader.seek(SeekFrom::Start(best))?;
                    return Ok(());
                }
                seen += 1;
            }
            best = start + from as u64;
            end = from;
        }
        carried = block[..end].to_vec();
        position = start;
    }
    reader.seek(SeekFrom::Start(best))?;
    Ok(())
}

fn is_full(record: &[u8]) -> bool {
    record.split(|byte| *byte == b' ').nth(2).is_some_and(|kind| kind.first() == Some(&b'F'))
}

/// Wakes when the log grows, is begun anew, or the container exits.
struct Follower {
    watch: Watch,
    path: PathBuf,
    has_log: bool,
}

impl Follower {
    fn new(path: &Path, run_dir: &Path) -> Result<Self> {
        let watch = Watch::new()?;
        if let Some(parent) = path.parent() {
            watch.directory(parent);
        }
        // the run directory is made by a start; without it the container's directory tells enough
        watch.directory(run_dir);
        let has_log = watch.file(path);
        Ok(Self { watch, path: path.to_owned(), has_log })
    }

    /// True when the file was begun anew.
    fn wait(&mut self) -> Result<bool> {
        let names = self.watch.wait(None)?;
        let anew = names.iter().any(|name| Some(name.as_os_str()) == self.path.file_name());
        if anew || !self.has_log {
            self.has_log = self.watch.file(&self.path);
        }
        Ok(anew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn records_become_lines() {
        let line = parse(b"2024-01-01T00:00:00.000000001+00:00 stderr F a b\n").unwrap();
        assert!(line.stderr);
        assert_eq!(line.bytes, b"a b\n");
        assert_eq!(parse(b"t stdout P part\n").unwrap().bytes, b"part");
        assert_eq!(parse(b"t stdout F \n").unwrap().bytes, b"\n");
        assert!(parse(b"broken\n").is_none());
    }

    fn tail(text: &str, lines: usize) -> String {
        use std::io::Read;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut reader = BufReader::new(file);
        skip_to_tail(&mut reader, lines).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        rest
    }

    #[test]
    fn tails() {
        let text = "t stdout F 1\nt stdout P 2a\nt stdout F 2b\nt stdout F 3\n";
        assert_eq!(tail(text, 0), "");
        assert_eq!(tail(text, 1), "t stdout F 3\n");
        assert_eq!(tail(text, 2), "t stdout P 2a\nt stdout F 2b\nt stdout F 3\n");
        assert_eq!(tail(text, 3), text);
        assert_eq!(tail(text, 30), text);
        let long: String = (0..20_000).map(|n| format!("t stdout F line {n}\n")).collect();
        assert_eq!(tail(&long, 1), "t stdout F line 19999\n");
        assert_eq!(tail(&long, 10_000).lines().count(), 10_000);
    }
}
