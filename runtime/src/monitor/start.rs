//! From a plan to a running process: the monitor's first milliseconds.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::Stage;
use crate::launch::LogConfig;
use crate::monitor::foreign;
use crate::monitor::log::Log;
use crate::plan::{ForeignPlan, InitSource, MonitorPlan, PlanFile, Stream};
use crate::record::{self, ProcessRecord};
use crate::stage::{self, Inherited, Word};
use crate::wire::{self, At, Descriptors, Failure};

/// A started process and the monitor's ends of its streams.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) plan: MonitorPlan,
    pub(super) record: ProcessRecord,
    pub(super) signals: SignalFd,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// The terminal's master and a copy of its other end, without which reading fails while no process has it open.
    pub(super) terminal: Option<(OwnedFd, OwnedFd)>,
    pub(super) client: Option<OwnedFd>,
    pub(super) listener: Option<OwnedFd>,
    pub(super) log: Option<Log>,
    /// Where the program says that it is ready.
    pub(super) notify: Option<OwnedFd>,
}

impl Running {
    pub(super) fn tell_launched(&self, request: &OwnedFd) -> io::Result<()> {
        let mut packet = vec![wire::LAUNCHED];
        packet.extend(self.record.init_pid.to_le_bytes());
        packet.extend(self.record.start_time.to_le_bytes());
        packet.extend(self.record.monitor_pid.to_le_bytes());
        sys::scm::send(request, &packet, &[])
    }
}

/// The process's ends of its streams.
#[derive(Debug, Default)]
struct ChildStreams {
    streams: [Option<OwnedFd>; 3],
}

pub(super) fn start(
    plan: MonitorPlan,
    file: &PlanFile,
    mut descriptors: Descriptors,
    trampoline: &OwnedFd,
) -> Result<Running, Failure> {
    // Processes that lose their parent come to the monitor, not to the host's init.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)
        .at(Stage::Spawn, "block signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let signals = signals.at(Stage::Spawn, "signalfd")?;
    let (child, [stdin, stdout, stderr]) = streams(&plan, &mut descriptors)?;
    let mut take = |index: Option<usize>| index.map(|index| descriptors.take(index)).transpose();
    let client = take(plan.attach).at(Stage::Stdio, "attach")?;
    let listener = take(plan.listener).at(Stage::Stdio, "listen")?;
    let log = match &plan.log {
        Some(log) => {
            let file = take(Some(log.file)).at(Stage::Stdio, "log")?;
            let config = LogConfig { path: log.path.clone(), max_bytes: log.max_bytes };
            file.map(|file| Log::new(file, config.path, config.max_bytes))
        }
        None => None,
    };
    let notify = take(plan.notify.as_ref().map(|(index, _)| *index)).at(Stage::Stdio, "notify")?;
    super::borrowed::take(&plan.birth, &mut descriptors)?;
    super::mapped::make(&plan.birth, &mut descriptors)?;
    let (record, terminal) = match &plan.foreign {
        Some(foreign) => run_foreign(&plan, foreign, descriptors, child)?,
        None => run_own(&plan, file, descriptors, child, trampoline)?,
    };
    for descriptor in [&stdin, &stdout, &stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(descriptor, true).at(Stage::Stdio, "")?;
    }
    let terminal = match terminal {
        Some(master) => {
            rustix::io::ioctl_fionbio(&master, true).at(Stage::Console, "")?;
            let slave = sys::pty::open_slave(&master).at(Stage::Console, "")?;
            Some((master, slave))
        }
        None => None,
    };
    Ok(Running { plan, record, signals, stdin, stdout, stderr, terminal, client, listener, log, notify })
}

/// Clones init and leads it to its program.
fn run_own(
    plan: &MonitorPlan,
    file: &PlanFile,
    descriptors: Descriptors,
    child: ChildStreams,
    trampoline: &OwnedFd,
) -> Result<(ProcessRecord, Option<OwnedFd>), Failure> {
    let started_unix_nanos = super::now_unix_nanos();
    let inherited = Inherited { source: InitSource::File(file), streams: child.streams, trampoline };
    let (starting, descriptors) = stage::clone_init(&plan.birth, inherited, descriptors)?;
    let mut noted = Noted { run_dir: &plan.run_dir, kept: false };
    let status = sys::pidfd::status(starting.pid).at(Stage::Spawn, "read the start time")?;
    let record = note(plan, starting.pid, status.start_time, started_unix_nanos)?;
    stage::prepare(&plan.birth, starting.pid, &descriptors)?;
    drop(descriptors);
    starting.go(b"");
    let mut terminal = None;
    loop {
        match starting.next()? {
            Word::Terminal(master) => terminal = Some(master),
            Word::Executed if terminal.is_none() && plan.terminal => return Err(stage::ended()),
            Word::Executed => break,
            Word::Mounted | Word::Ready | Word::Listener(_) => return Err(stage::unexpected()),
        }
    }
    starting.disarm();
    noted.kept = true;
    Ok((record, terminal))
}

/// Has another runtime create and start the container.
fn run_foreign(
    plan: &MonitorPlan,
    foreign: &ForeignPlan,
    mut descriptors: Descriptors,
    child: ChildStreams,
) -> Result<(ProcessRecord, Option<OwnedFd>), Failure> {
    let started_unix_nanos = super::now_unix_nanos();
    let started = foreign::create(plan, foreign, &mut descriptors, child.streams)?;
    drop(descriptors);
    let status = sys::pidfd::status(started.pid).at(Stage::Spawn, "read the start time")?;
    // Before the program runs: one that is there is known.
    let record = note(plan, started.pid, status.start_time, started_unix_nanos)?;
    if let Err(failure) = foreign::go(plan, foreign) {
        record::remove_process(&plan.run_dir);
        return Err(failure);
    }
    Ok((record, started.terminal))
}

/// Writes down which process the container is.
fn note(
    plan: &MonitorPlan,
    pid: u32,
    start_time: u64,
    started_unix_nanos: i64,
) -> Result<ProcessRecord, Failure> {
    let own = std::process::id();
    let record = ProcessRecord {
        version: 1,
        id: plan.id.clone(),
        init_pid: pid,
        start_time,
        monitor_pid: own,
        monitor_start_time: sys::pidfd::status(own).map(|status| status.start_time).unwrap_or(0),
        started_unix_nanos,
        terminal: plan.terminal,
        cgroup: plan.birth.cgroup.clone(),
    };
    record::write_process(&plan.run_dir, &record).at(Stage::Spawn, "write pid.json")?;
    Ok(record)
}

/// Pipes and /dev/null: the child's ends, then the monitor's.
fn streams(
    plan: &MonitorPlan,
    descriptors: &mut Descriptors,
) -> Result<(ChildStreams, [Option<OwnedFd>; 3]), Failure> {
    let mut child = ChildStreams::default();
    let mut ours = [const { None }; 3];
    if plan.terminal {
        return Ok((child, ours));
    }
    for (index, stream) in [plan.stdin, plan.stdout, plan.stderr].into_iter().enumerate() {
        let theirs = match stream {
            Stream::Null => {
                let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
                rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
                    .at(Stage::Stdio, "/dev/null")?
            }
            Stream::Fd(number) => descriptors.take(number).at(Stage::Stdio, "")?,
            Stream::Attach { .. } | Stream::Captured => {
                let (reader, writer) =
                    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(Stage::Stdio, "pipe")?;
                let (own, other) = if index == 0 { (writer, reader) } else { (reader, writer) };
                ours[index] = Some(own);
                other
            }
        };
        child.streams[index] = Some(theirs);
    }
    Ok((child, ours))
}

/// Takes the record away again where the start fails.
struct Noted<'a> {
    run_dir: &'a std::path::Path,
    kept: bool,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.kept {
            record::remove_process(self.run_dir);
        }
    }
}
