//! How init comes into being: a stage, forked from whoever starts a container, joins what init must be born into and
//! clones it as that process's own child. Serves the monitor and the OCI verbs alike.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::DumpableBehavior;
use sys::process::{Clone, Fork};

use crate::cgroup;
use crate::error::Stage;
use crate::init;
use crate::plan::{BirthPlan, InitSource};
use crate::wire::{self, At, Descriptors, Failure};

/// What init takes over from the process that it is forked from.
pub(crate) struct Inherited<'a> {
    pub(crate) source: InitSource<'a>,
    /// Its standard streams; absent = as they are.
    pub(crate) streams: [Option<OwnedFd>; 3],
    /// See [`sys::trampoline`].
    pub(crate) trampoline: &'a OwnedFd,
}

/// What init says on its way.
#[derive(Debug)]
pub(crate) enum Word {
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// Everything is mounted, and it waits for [`wire::GO`] while hooks run.
    Mounted,
    /// All but the start is done; from here on it listens for that word alone.
    Ready,
    /// The descriptor of its filter's notifications.
    Listener(OwnedFd),
    /// The program runs.
    Executed,
}

/// A process between its birth and its program. Dropped while armed, it is killed.
#[derive(Debug)]
pub(crate) struct Starting {
    sync: OwnedFd,
    pub(crate) pid: u32,
    armed: bool,
}

/// Clones init; gives back the descriptors, which it holds copies of.
pub(crate) fn clone_init(
    plan: &BirthPlan,
    inherited: Inherited<'_>,
    descriptors: Descriptors,
) -> Result<(Starting, Descriptors), Failure> {
    let group = plan.cgroup.clone().map(cgroup::Manager::open);
    let directory = match &group {
        Some(group) => group.directory().at(Stage::Cgroup, "")?,
        None => None,
    };
    let (sync, theirs) = sys::scm::packet_pair().at(Stage::Spawn, "socket")?;
    let request = Clone { flags: 0, cgroup: directory.as_ref().map(AsFd::as_fd), pidfd: false };
    let stage = match sys::process::clone3(&request).at(Stage::Spawn, "clone")? {
        Fork::Child => {
            // What else the starter has open ends with the exec; this one must end with the starter.
            drop(sync);
            Staged { plan, group: group.as_ref() }.run(inherited, descriptors, theirs)
        }
        Fork::Parent { child, .. } => child,
    };
    drop((theirs, inherited, directory));
    let mut packet = vec![0; wire::MAX_PACKET];
    let length = sys::scm::receive(&sync, &mut packet).at(Stage::Spawn, "wait for init")?.length;
    let pid = match packet[..length] {
        [wire::PID, a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => {
            reap(stage);
            return Err(Failure::decode(&packet[..length]).unwrap_or_else(ended));
        }
    };
    reap(stage);
    Ok((Starting { sync, pid, armed: true }, descriptors))
}

/// What must be done from outside before init goes on.
pub(crate) fn prepare(plan: &BirthPlan, pid: u32, descriptors: &Descriptors) -> Result<(), Failure> {
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

impl Starting {
    /// Lets init go on; `state` is what its hooks are told of the container.
    pub(crate) fn go(&self, state: &[u8]) {
        let mut packet = vec![wire::GO];
        packet.extend_from_slice(state);
        // A failed send means that init has ended, and has said why.
        let _ = sys::scm::send(&self.sync, &packet, &[]);
    }

    /// Waits for init's next word.
    pub(crate) fn next(&self) -> Result<Word, Failure> {
        read_word(&self.sync)
    }

    /// Lets it live on.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if self.armed {
            // Not yet reaped, so the number is still its own.
            let _ = sys::pidfd::open(self.pid).and_then(|init| sys::pidfd::send_signal(&init, 9));
            reap(self.pid);
        }
    }
}

/// Waits for what a process on its way to its program says next.
pub(crate) fn read_word(socket: &OwnedFd) -> Result<Word, Failure> {
    let mut packet = vec![0; wire::MAX_PACKET];
    let mut received = sys::scm::receive(socket, &mut packet).at(Stage::Spawn, "wait for init")?;
    let packet = &packet[..received.length];
    match (packet, received.descriptors.pop()) {
        ([], _) => Ok(Word::Executed),
        ([wire::TERMINAL], Some(master)) => Ok(Word::Terminal(master)),
        ([wire::LISTENER], Some(listener)) => Ok(Word::Listener(listener)),
        ([wire::MOUNTED], _) => Ok(Word::Mounted),
        ([wire::READY], _) => Ok(Word::Ready),
        ([a, b, c, d], _) => {
            let code = i32::from_ne_bytes([*a, *b, *c, *d]);
            let error = io::Error::from_raw_os_error(code & !sys::trampoline::LABEL_FAILED);
            if code & sys::trampoline::LABEL_FAILED != 0 {
                return Err(Failure::new(Stage::Credentials, "AppArmor profile or SELinux label", &error));
            }
            Err(Failure::new(Stage::Exec, "", &error))
        }
        _ => Err(Failure::decode(packet).unwrap_or_else(ended)),
    }
}

pub(crate) fn ended() -> Failure {
    Failure::new(Stage::Spawn, "", &io::Error::other("the process ended before it was executed"))
}

pub(crate) fn unexpected() -> Failure {
    Failure::new(Stage::Spawn, "", &io::Error::other("the process said what it was not asked"))
}

/// Reaps a child.
pub(crate) fn reap(pid: u32) {
    if let Ok(raw) = i32::try_from(pid) {
        let pid = rustix::process::Pid::from_raw(raw);
        // ECHILD would mean that it is gone already.
        let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    }
}

/// The process between starter and init.
struct Staged<'a> {
    plan: &'a BirthPlan,
    group: Option<&'a cgroup::Manager>,
}

impl Staged<'_> {
    fn run(&self, inherited: Inherited<'_>, mut descriptors: Descriptors, sync: OwnedFd) -> ! {
        match self.clone_init(&descriptors) {
            Ok(Fork::Child) => {
                let Inherited { source, streams, trampoline } = inherited;
                let mut context = init::Context { sync, trampoline };
                let failure = context.run(source, &mut descriptors, streams);
                let _ = sys::scm::send(&context.sync, &failure.encode(), &[]);
                sys::process::exit(127);
            }
            Ok(Fork::Parent { child: pid, .. }) => {
                let mut packet = vec![wire::PID];
                packet.extend(pid.to_le_bytes());
                let _ = sys::scm::send(&sync, &packet, &[]);
                sys::process::exit(0);
            }
            Err(failure) => {
                let _ = sys::scm::send(&sync, &failure.encode(), &[]);
                sys::process::exit(1);
            }
        }
    }

    fn clone_init(&self, descriptors: &Descriptors) -> Result<Fork, Failure> {
        if let (Some(group), Some(cgroup::Paths::V1(_))) = (self.group, &self.plan.cgroup) {
            let joiner = group.joiner().at(Stage::Cgroup, "")?;
            joiner.join().at(Stage::Cgroup, "join")?;
        }
        if !self.plan.join.is_empty() && self.plan.new_namespaces & nix::libc::CLONE_NEWUSER as u64 == 0 {
            // The processes of a container that is joined see this one from its first moment, and must not reach the
            // program that it still is.
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .at(Stage::Credentials, "dumpable")?;
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
