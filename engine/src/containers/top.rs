//! `top`: the processes of a container, read from /proc.

use super::Containers;
use crate::sandbox::View;
use crate::{Error, Result};
use runtime::capabilities::CapabilitySet;
use std::collections::BTreeMap;
use std::path::Path;

/// What can be asked of a process: name, ps's format code, heading.
const DESCRIPTORS: [(&str, &str, &str); 30] = [
    ("args", "%a", "COMMAND"),
    ("capamb", "", "AMBIENT CAPS"),
    ("capbnd", "", "BOUNDING CAPS"),
    ("capeff", "", "EFFECTIVE CAPS"),
    ("capinh", "", "INHERITED CAPS"),
    ("capprm", "", "PERMITTED CAPS"),
    ("comm", "%c", "COMMAND"),
    ("etime", "%t", "ELAPSED"),
    ("group", "%G", "GROUP"),
    ("groups", "", "GROUPS"),
    ("hgroup", "", "HGROUP"),
    ("hgroups", "", "HGROUPS"),
    ("hpid", "", "HPID"),
    ("huser", "", "HUSER"),
    ("label", "", "LABEL"),
    ("nice", "%n", "NI"),
    ("pcpu", "%C", "%CPU"),
    ("pgid", "%r", "PGID"),
    ("pid", "%p", "PID"),
    ("ppid", "%P", "PPID"),
    ("rgroup", "%g", "RGROUP"),
    ("rss", "", "RSS"),
    ("ruser", "%u", "RUSER"),
    ("seccomp", "", "SECCOMP"),
    ("state", "", "STATE"),
    ("stime", "", "STIME"),
    ("time", "%x", "TIME"),
    ("tty", "%y", "TTY"),
    ("user", "%U", "USER"),
    ("vsz", "%z", "VSZ"),
];

/// What is shown when nothing is asked for.
const DEFAULT: [&str; 8] = ["user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"];

/// A table of processes.
#[derive(Debug, Clone, Default)]
pub struct ProcessTable {
    /// Headings.
    pub titles: Vec<String>,
    /// A row a process.
    pub rows: Vec<Vec<String>>,
}

/// The names of all descriptors.
pub fn process_descriptors() -> Vec<&'static str> {
    DESCRIPTORS.iter().map(|(name, ..)| *name).collect()
}

/// The descriptors that words name, each several between commas; `None` if one is none, so that it means an option
/// of ps.
pub fn read_descriptors(words: &[String]) -> Option<Vec<&'static str>> {
    let names = || words.iter().flat_map(|word| word.split(',')).map(str::trim);
    if names().next().is_none() {
        return Some(DEFAULT.to_vec());
    }
    names()
        .map(|word| {
            DESCRIPTORS
                .iter()
                .find(|(name, code, _)| *name == word || (!code.is_empty() && *code == word))
                .map(|(name, ..)| *name)
        })
        .collect()
}

impl Containers<'_> {
    /// The processes of a running container.
    pub fn top(&self, name: &str, descriptors: &[&str]) -> Result<ProcessTable> {
        let record = self.engine.state().find(name)?;
        let seen = self.engine.seen(&record.id)?;
        let process = match seen.process.as_ref().filter(|_| seen.is_running()) {
            Some(process) => process,
            None => return Err(super::stop::not(&record, "list the processes of", seen.status)),
        };
        let mut pids = match process.cgroup.clone() {
            Some(paths) => runtime::cgroup::Manager::open(paths)
                .processes()
                .map_err(|error| Error::os("list the container's processes", std::io::Error::other(error)))?,
            None => of_namespace(process.init_pid),
        };
        pids.sort_unstable();
        let accounts = Accounts {
            inner: Names::of(&View::of_process(process.init_pid)?),
            host: Names::of(&View::of_directory(Path::new("/"))?),
        };
        let processes: Vec<Process> = pids.into_iter().filter_map(Process::read).collect();
        let now = Uptime::now();
        let mut table = ProcessTable::default();
        for descriptor in descriptors {
            let title = DESCRIPTORS.iter().find(|(name, ..)| name == descriptor).map(|(.., title)| *title);
            table.titles.push(title.unwrap_or_default().to_owned());
        }
        for process in &processes {
            table.rows.push(
                descriptors.iter().map(|word| process.value(word, &processes, &accounts, &now)).collect(),
            );
        }
        Ok(table)
    }
}

/// Processes in the PID namespace of one, where no control group lists them.
fn of_namespace(pid: u32) -> Vec<i32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(&pid.to_string()) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()))
        .filter(|pid| namespace(&pid.to_string()).as_ref() == Some(&wanted))
        .collect()
}

/// Ticks a second in /proc, whatever the kernel's own clock (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Names of users and groups by number.
#[derive(Debug, Default)]
struct Names {
    users: BTreeMap<String, String>,
    groups: BTreeMap<String, String>,
}

impl Names {
    fn of(view: &View) -> Self {
        let read = |path: &str| {
            let bytes = view.read(Path::new(path), 4 << 20).ok().flatten().unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut names = BTreeMap::new();
            for line in text.lines() {
                let mut fields = line.split(':');
                if let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) {
                    names.entry(number.to_owned()).or_insert_with(|| name.to_owned());
                }
            }
            names
        };
        Self { users: read("etc/passwd"), groups: read("etc/group") }
    }

    fn user(&self, number: &str) -> String {
        self.users.get(number).cloned().unwrap_or_else(|| number.to_owned())
    }

    fn group(&self, number: &str) -> String {
        self.groups.get(number).cloned().unwrap_or_else(|| number.to_owned())
    }
}

struct Accounts {
    inner: Names,
    host: Names,
}

/// Now, on the clock that process start times are on, and on the wall.
struct Uptime {
    seconds: f64,
    unix_seconds: i64,
}

impl Uptime {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        Self { seconds, unix_seconds: crate::time::Instant::now().seconds() }
    }
}

/// What /proc says of a process.
struct Process {
    pid: i32,
    status: String,
    /// Fields of `stat` behind the name: state is the first.
    stat: Vec<String>,
    comm: String,
    args: String,
    label: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let stat = read("stat").ok()?;
        let (before, behind) = stat.rsplit_once(')')?;
        let comm = before.split_once('(')?.1.to_owned();
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
        Some(Self {
            pid,
            status: read("status").ok()?,
            stat: behind.split_whitespace().map(str::to_owned).collect(),
            args: if args.is_empty() { format!("[{comm}]") } else { args },
            comm,
            label: read("attr/current").unwrap_or_default().trim_end_matches(['\0', '\n']).to_owned(),
        })
    }

    fn line(&self, field: &str) -> &str {
        let found = |line: &'_ str| line.strip_prefix(field).is_some_and(|rest| rest.starts_with(':'));
        self.status.lines().find(|line| found(line)).map_or("", |line| line[field.len() + 1..].trim())
    }

    /// Number in the innermost PID namespace.
    fn inner_pid(&self, field: &str) -> String {
        self.line(field).split_whitespace().last().unwrap_or("?").to_owned()
    }

    fn field(&self, index: usize) -> f64 {
        self.stat.get(index).and_then(|word| word.parse().ok()).unwrap_or(0.0)
    }

    fn capabilities(&self, field: &str) -> String {
        let set = CapabilitySet(u64::from_str_radix(self.line(field), 16).unwrap_or(0));
        if set == CapabilitySet::EMPTY {
            return "none".to_owned();
        }
        // a kernel that is newer than this program may have more
        if set.intersection(CapabilitySet::ALL) == CapabilitySet::ALL {
            return "full".to_owned();
        }
        let names = set.intersection(CapabilitySet::ALL).names();
        names.iter().map(|name| name.trim_start_matches("CAP_")).collect::<Vec<_>>().join(",")
    }

    fn value(&self, descriptor: &str, all: &[Process], accounts: &Accounts, now: &Uptime) -> String {
        let ids = |field: &str, index: usize| {
            self.line(field).split_whitespace().nth(index).unwrap_or("?").to_owned()
        };
        let groups = |names: &Names| {
            self.line("Groups")
                .split_whitespace()
                .map(|group| names.group(group))
                .collect::<Vec<_>>()
                .join(",")
        };
        let used = (self.field(11) + self.field(12)) / TICKS;
        let elapsed = (now.seconds - self.field(19) / TICKS).max(0.0);
        match descriptor {
            "args" => self.args.clone(),
            "capamb" => self.capabilities("CapAmb"),
            "capbnd" => self.capabilities("CapBnd"),
            "capeff" => self.capabilities("CapEff"),
            "capinh" => self.capabilities("CapInh"),
            "capprm" => self.capabilities("CapPrm"),
            "comm" => self.comm.clone(),
            "etime" => seconds(elapsed),
            "group" => accounts.inner.group(&ids("Gid", 1)),
            "groups" => groups(&accounts.inner),
            "hgroup" => accounts.host.group(&ids("Gid", 1)),
            "hgroups" => groups(&accounts.host),
            "hpid" => self.pid.to_string(),
            "huser" => accounts.host.user(&ids("Uid", 1)),
            "label" => {
                if self.label.is_empty() {
                    "?".to_owned()
                } else {
                    self.label.clone()
                }
            }
            "nice" => self.stat.get(16).cloned().unwrap_or_default(),
            "pcpu" => format!("{:.3}", if elapsed > 0.0 { 100.0 * used / elapsed } else { 0.0 }),
            "pgid" => self.inner_pid("NSpgid"),
            "pid" => self.inner_pid("NSpid"),
            "ppid" => all
                .iter()
                .find(|parent| parent.pid.to_string() == self.line("PPid"))
                .map_or_else(|| "0".to_owned(), |parent| parent.inner_pid("NSpid")),
            "rgroup" => accounts.inner.group(&ids("Gid", 0)),
            "rss" => self.line("VmRSS").split_whitespace().next().unwrap_or("0").to_owned(),
            "ruser" => accounts.inner.user(&ids("Uid", 0)),
            "seccomp" => match self.line("Seccomp") {
                "0" => "disabled",
                "1" => "strict",
                "2" => "filter",
                _ => "?",
            }
            .to_owned(),
            "state" => self.stat.first().cloned().unwrap_or_default(),
            "stime" => {
                #[allow(clippy::cast_possible_truncation, reason = "seconds of an uptime")]
                let started = now.unix_seconds - elapsed as i64;
                let time = jiff::Timestamp::from_second(started).unwrap_or_default();
                format!(
                    "{} +0000 UTC",
                    time.to_zoned_datetime(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S")
                )
            }
            "time" => seconds(used.floor()),
            "tty" => terminal(self.stat.get(4).and_then(|word| word.parse().ok()).unwrap_or(0)),
            "user" => accounts.inner.user(&ids("Uid", 1)),
            "vsz" => self.line("VmSize").split_whitespace().next().unwrap_or("0").to_owned(),
            _ => String::new(),
        }
    }
}

/// Seconds as Go writes durations: `1h2m3.5s`.
fn seconds(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an uptime in seconds")]
    let whole = seconds.max(0.0) as u64;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rest = seconds - (whole - whole % 60) as f64;
    let text = format!("{rest:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match (whole / 3600, whole / 60 % 60) {
        (0, 0) => format!("{text}s"),
        (0, minutes) => format!("{minutes}m{text}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{text}s"),
    }
}

/// A terminal by its device number, as ps names it.
fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        _ => format!("{major}/{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_words_or_codes() {
        let read = |words: &[&str]| {
            read_descriptors(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]).unwrap(), DEFAULT);
        assert_eq!(read(&["pid,%a", "huser"]).unwrap(), ["pid", "args", "huser"]);
        assert_eq!(read(&["pid", "aux"]), None);
        assert_eq!(read(&["-eo", "pid"]), None);
    }

    #[test]
    fn times_read_as_gos() {
        for (value, text) in [(0.0, "0s"), (1.25, "1.25s"), (61.0, "1m1s"), (3600.5, "1h0m0.5s")] {
            assert_eq!(seconds(value), text);
        }
        assert_eq!(terminal(0x8803), "pts/3");
        assert_eq!(terminal(0), "?");
    }
}
