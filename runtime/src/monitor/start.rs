//! From a plan to a running process: the monitor's first milliseconds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys::process::{Clone, Fork};

use crate::cgroup;
use crate::error::Stage;
use crate::init;
use crate::launch::LogConfig;
use crate::monitor::foreign;
use crate::monitor::log::Log;
use crate::plan::{ForeignPlan, MonitorPlan, PlanFile, Stream};
use crate::record::{self, ProcessRecord};
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
    Ok(Running { plan, record, signals, stdin, stdout, stderr, terminal, client, listener, log })
}

/// Clones init and leads it to its program.
fn run_own(
    plan: &MonitorPlan,
    file: &PlanFile,
    descriptors: Descriptors,
    child: ChildStreams,
    trampoline: &OwnedFd,
) -> Result<(ProcessRecord, Option<OwnedFd>), Failure> {
    let group = plan.cgroup.clone().map(cgroup::Manager::open);
    let directory = match &group {
        Some(group) => group.directory().at(Stage::Cgroup, "")?,
        None => None,
    };
    let (sync, theirs) = sys::scm::packet_pair().at(Stage::Spawn, "socket")?;
    let started_unix_nanos = super::now_unix_nanos();
    let request = Clone { flags: 0, cgroup: directory.as_ref().map(AsFd::as_fd), pidfd: false };
    let stage = match sys::process::clone3(&request).at(Stage::Spawn, "clone")? {
        Fork::Child => {
            // What else the monitor has open ends with the exec; this one must end with the monitor.
            drop(sync);
            let fork = Staged { plan, file, group: group.as_ref(), trampoline };
            fork.run(descriptors, child, &theirs)
        }
        Fork::Parent { child, .. } => child,
    };
    drop((theirs, child, directory));
    let mut starting = Starting { sync, init: None, run_dir: plan.run_dir.clone(), armed: true };
    let pid = starting.expect_pid()?;
    reap(stage);
    let status = sys::pidfd::status(pid).at(Stage::Spawn, "read the start time")?;
    let record = note(plan, pid, status.start_time, started_unix_nanos)?;
    prepare(plan, pid, &descriptors)?;
    drop(descriptors);
    // A failed send means that init has ended, and has said why.
    let _ = sys::scm::send(&starting.sync, &[wire::GO], &[]);
    let terminal = starting.wait_for_exec(plan)?;
    starting.armed = false;
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
        cgroup: plan.cgroup.clone(),
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

/// What must be done from outside before init goes on.
fn prepare(plan: &MonitorPlan, pid: u32, descriptors: &Descriptors) -> Result<(), Failure> {
    if !plan.uid_map.is_empty() && plan.new_namespaces & nix::libc::CLONE_NEWUSER as u64 != 0 {
        use sys::idmap::{Kind, write};
        // The kernel wants the group map first only where setgroups is denied; the order does no harm.
        write(pid, Kind::Group, &plan.gid_map).at(Stage::IdMap, "gid_map")?;
        write(pid, Kind::User, &plan.uid_map).at(Stage::IdMap, "uid_map")?;
        if !plan.id_mapped.is_empty() {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
            let path = format!("/proc/{pid}/ns/user");
            let namespace = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).at(Stage::IdMap, "")?;
            for index in &plan.id_mapped {
                let mount = descriptors.get(*index).at(Stage::IdMap, "")?;
                sys::mount::set_id_map(mount, &namespace, true).at(Stage::IdMap, "")?;
            }
        }
    }
    if let Some(value) = plan.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        let written = rustix::fs::open(path, rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())
            .and_then(|file| rustix::io::write(&file, value.to_string().as_bytes()));
        written.at(Stage::Limit, "oom_score_adj")?;
    }
    Ok(())
}

fn reap(pid: u32) {
    if let Ok(raw) = i32::try_from(pid) {
        let pid = rustix::process::Pid::from_raw(raw);
        // ECHILD would mean that it is gone already.
        let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    }
}

/// The time between clone and exec. If it ends early, init is killed and its record removed.
struct Starting {
    sync: OwnedFd,
    init: Option<u32>,
    run_dir: std::path::PathBuf,
    armed: bool,
}

impl Starting {
    fn expect_pid(&mut self) -> Result<u32, Failure> {
        let mut packet = vec![0; wire::MAX_PACKET];
        let length = sys::scm::receive(&self.sync, &mut packet).at(Stage::Spawn, "wait for init")?.length;
        match packet[..length] {
            [wire::PID, a, b, c, d] => {
                let pid = u32::from_le_bytes([a, b, c, d]);
                self.init = Some(pid);
                Ok(pid)
            }
            _ => Err(Failure::decode(&packet[..length]).unwrap_or_else(ended)),
        }
    }

    /// Waits until the socket closes, which the exec does; returns the terminal's master.
    fn wait_for_exec(&self, plan: &MonitorPlan) -> Result<Option<OwnedFd>, Failure> {
        let mut terminal = None;
        let mut packet = vec![0; wire::MAX_PACKET];
        loop {
            let mut received =
                sys::scm::receive(&self.sync, &mut packet).at(Stage::Spawn, "wait for init")?;
            match packet[..received.length] {
                [] if terminal.is_none() && plan.terminal => return Err(ended()),
                [] => return Ok(terminal),
                [wire::TERMINAL] => terminal = received.descriptors.pop(),
                [a, b, c, d] => {
                    let error = io::Error::from_raw_os_error(i32::from_le_bytes([a, b, c, d]));
                    return Err(Failure::new(Stage::Exec, "", &error));
                }
                _ => return Err(Failure::decode(&packet[..received.length]).unwrap_or_else(ended)),
            }
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(pid) = self.init {
            // Not yet reaped, so the number is still its own.
            let _ = sys::pidfd::open(pid).and_then(|init| sys::pidfd::send_signal(&init, 9));
            reap(pid);
        }
        record::remove_process(&self.run_dir);
    }
}

fn ended() -> Failure {
    Failure::new(Stage::Spawn, "", &io::Error::other("the process ended before it was executed"))
}

/// The process between monitor and init: joins what init must be born into.
struct Staged<'a> {
    plan: &'a MonitorPlan,
    file: &'a PlanFile,
    group: Option<&'a cgroup::Manager>,
    trampoline: &'a OwnedFd,
}

impl Staged<'_> {
    fn run(&self, mut descriptors: Descriptors, child: ChildStreams, sync: &OwnedFd) -> ! {
        match self.clone_init(&descriptors) {
            Ok(Fork::Child) => {
                let exec = init::Context { file: self.file, sync, trampoline: self.trampoline };
                let failure = exec.run(&mut descriptors, child.streams);
                let _ = sys::scm::send(sync, &failure.encode(), &[]);
                sys::process::exit(127);
            }
            Ok(Fork::Parent { child: pid, .. }) => {
                let mut packet = vec![wire::PID];
                packet.extend(pid.to_le_bytes());
                let _ = sys::scm::send(sync, &packet, &[]);
                sys::process::exit(0);
            }
            Err(failure) => {
                let _ = sys::scm::send(sync, &failure.encode(), &[]);
                sys::process::exit(1);
            }
        }
    }

    fn clone_init(&self, descriptors: &Descriptors) -> Result<Fork, Failure> {
        if let (Some(group), Some(cgroup::Paths::V1(_))) = (self.group, &self.plan.cgroup) {
            let joiner = group.joiner().at(Stage::Cgroup, "")?;
            joiner.join().at(Stage::Cgroup, "join")?;
        }
        for (index, flags) in &self.plan.join {
            let descriptor = descriptors.get(*index).at(Stage::Namespace, "")?;
            let flags = nix::sched::CloneFlags::from_bits_retain(*flags);
            nix::sched::setns(descriptor, flags).at(Stage::Namespace, format!("join {flags:?}"))?;
        }
        let mut new = self.plan.new_namespaces;
        if new & 0x80 != 0 {
            // A time namespace takes its offsets before the first process enters it: from here its children do.
            nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(0x80))
                .at(Stage::Namespace, "time")?;
            if let Some(text) = &self.plan.time_offsets {
                let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
                rustix::fs::open("/proc/self/timens_offsets", flags, rustix::fs::Mode::empty())
                    .and_then(|file| rustix::io::write(&file, text.as_bytes()))
                    .at(Stage::Namespace, "timens_offsets")?;
            }
            new &= !0x80;
        }
        let request = Clone { flags: new | sys::process::CLONE_PARENT, cgroup: None, pidfd: false };
        sys::process::clone3(&request).at(Stage::Namespace, "clone into new namespaces")
    }
}
