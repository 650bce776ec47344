//! The monitor's life after the start: one loop over streams, clients, signals and the caller's lifeline.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::WaitOptions;

use crate::attach::{self, MAX_PAYLOAD};
use crate::cgroup;
use crate::monitor::start::Running;
use crate::monitor::timers::Timers;
use crate::plan::Stream;
use crate::record::{self, ExitRecord};
use crate::wire;

/// How long after the end clients have to take what was said.
const FLUSH_DEADLINE: Duration = Duration::from_secs(10);

struct ClientConnection {
    socket: OwnedFd,
    /// Frames that the socket had no room for.
    pending: VecDeque<Vec<u8>>,
    /// Whether the input ends when it leaves.
    feeds: bool,
}

struct Loop {
    running: Running,
    lifeline: Option<OwnedFd>,
    clients: Vec<ClientConnection>,
    /// Input that the process has not taken yet.
    input: VecDeque<u8>,
    input_ended: bool,
    status: Option<rustix::process::WaitStatus>,
    timers: Timers,
    /// Whether it was killed because its time was over.
    timed_out: bool,
    /// Kind byte, then payload: a frame in place.
    buffer: Vec<u8>,
}

/// What a poll entry stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Signals,
    Lifeline,
    Listener,
    Notify,
    Input,
    Output(u8),
    Client(usize),
}

/// Runs until the process has ended and all is said; returns the monitor's exit code.
pub(super) fn run(mut running: Running, lifeline: Option<OwnedFd>) -> i32 {
    let first = running.client.take();
    let tied = running.plan.tied;
    let feeds = matches!(running.plan.stdin, Stream::Attach { keep_open: false });
    let timers = Timers::new(std::mem::take(&mut running.plan.timers), &running.plan.run_dir);
    let mut state = Loop {
        running,
        timers,
        timed_out: false,
        lifeline,
        clients: Vec::new(),
        input: VecDeque::new(),
        input_ended: false,
        status: None,
        buffer: Vec::new(),
    };
    if let Some(socket) = first {
        state.clients.push(ClientConnection { socket, pending: VecDeque::new(), feeds });
    }
    if !tied {
        sys::process::shrink();
    }
    state.reap();
    if tied && state.lifeline.is_none() {
        state.kill();
    }
    while state.status.is_none() {
        if state.timers.tick() {
            state.timed_out = true;
            state.kill();
        }
        state.turn();
    }
    state.finish()
}

impl Loop {
    fn turn(&mut self) {
        let tokens = self.interests();
        let ready: Vec<(Token, PollFlags)> = {
            let mut entries: Vec<PollFd<'_>> = tokens
                .iter()
                .filter_map(|(token, flags)| Some(PollFd::from_borrowed_fd(self.descriptor(*token)?, *flags)))
                .collect();
            if rustix::event::poll(&mut entries, self.timers.timeout().as_ref()).is_err() {
                return;
            }
            tokens.iter().zip(&entries).map(|((token, _), entry)| (*token, entry.revents())).collect()
        };
        let mut gone = Vec::new();
        for (token, flags) in ready {
            if flags.is_empty() {
                continue;
            }
            match token {
                Token::Signals => self.reap(),
                Token::Lifeline => self.read_lifeline(),
                Token::Listener => self.accept(),
                Token::Notify => self.pass_on_readiness(),
                Token::Input => self.write_input(),
                Token::Output(kind) => {
                    self.read_output(kind);
                }
                Token::Client(index) => {
                    if !self.serve_client(index, flags) {
                        gone.push(index);
                    }
                }
            }
        }
        for index in gone.into_iter().rev() {
            let client = self.clients.remove(index);
            if client.feeds {
                self.end_input();
            }
        }
    }

    fn interests(&self) -> Vec<(Token, PollFlags)> {
        let mut tokens = vec![(Token::Signals, PollFlags::IN)];
        if self.lifeline.is_some() {
            tokens.push((Token::Lifeline, PollFlags::IN));
        }
        if self.running.listener.is_some() {
            tokens.push((Token::Listener, PollFlags::IN));
        }
        if self.running.notify.is_some() {
            tokens.push((Token::Notify, PollFlags::IN));
        }
        let has_input = !self.input.is_empty();
        if has_input && self.descriptor(Token::Input).is_some() {
            tokens.push((Token::Input, PollFlags::OUT));
        }
        // A client that does not read holds the process up, as a terminal would.
        let congested = self.clients.iter().any(|client| !client.pending.is_empty());
        for kind in [attach::STDOUT, attach::STDERR] {
            if !congested && self.descriptor(Token::Output(kind)).is_some() {
                tokens.push((Token::Output(kind), PollFlags::IN));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::OUT, !client.pending.is_empty());
            flags.set(PollFlags::IN, !has_input);
            if !flags.is_empty() {
                tokens.push((Token::Client(index), flags));
            }
        }
        tokens
    }

    fn descriptor(&self, token: Token) -> Option<BorrowedFd<'_>> {
        let master = self.running.terminal.as_ref().map(|(master, _)| master);
        Some(match token {
            Token::Signals => self.running.signals.as_fd(),
            Token::Lifeline => self.lifeline.as_ref()?.as_fd(),
            Token::Listener => self.running.listener.as_ref()?.as_fd(),
            Token::Notify => self.running.notify.as_ref()?.as_fd(),
            Token::Input => master.or(self.running.stdin.as_ref())?.as_fd(),
            Token::Output(attach::STDOUT) => master.or(self.running.stdout.as_ref())?.as_fd(),
            Token::Output(_) => self.running.stderr.as_ref()?.as_fd(),
            Token::Client(index) => self.clients.get(index)?.socket.as_fd(),
        })
    }

    /// Reaps all children that have ended, among them those that lost their parent.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.running.signals.read_signal() {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Ok(pid) = u32::try_from(pid.as_raw_nonzero().get()) else { continue };
            if pid == self.running.record.init_pid {
                self.status = Some(status);
            }
            self.timers.reaped(pid);
        }
    }

    fn read_lifeline(&mut self) {
        let mut packet = [0; 16];
        let Some(lifeline) = &self.lifeline else { return };
        match sys::scm::try_receive(lifeline, &mut packet) {
            Ok(received) if received.length > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => {
                self.lifeline = None;
                if self.running.plan.tied {
                    self.kill();
                }
            }
        }
    }

    fn kill(&self) {
        let pid = self.running.record.init_pid;
        // Not reaped yet, so the number is still its own.
        let _ = sys::pidfd::open(pid).and_then(|init| sys::pidfd::send_signal(&init, 9));
        self.kill_group();
    }

    fn kill_group(&self) {
        if let (true, Some(paths)) = (self.running.plan.owns_cgroup, &self.running.plan.birth.cgroup) {
            let _ = cgroup::Manager::open(paths.clone()).kill_all(9);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.running.listener else { return };
        let flags = rustix::net::SocketFlags::CLOEXEC;
        if let Ok(socket) = rustix::net::accept_with(listener, flags) {
            let feeds = matches!(self.running.plan.stdin, Stream::Attach { keep_open: false });
            self.clients.push(ClientConnection { socket, pending: VecDeque::new(), feeds });
        }
    }

    /// Hands on what the program tells the service manager, but not what only the manager's own processes may say.
    fn pass_on_readiness(&mut self) {
        let (Some(socket), Some((_, manager))) = (&self.running.notify, &self.running.plan.notify) else {
            return;
        };
        let mut packet = [0; 4096];
        match rustix::net::recv(socket, &mut packet, rustix::net::RecvFlags::DONTWAIT) {
            Ok((length, _)) => super::notify::pass_on(&packet[..length], manager),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.running.notify = None,
        }
    }

    /// Returns whether the client is still there.
    fn serve_client(&mut self, index: usize, flags: PollFlags) -> bool {
        let Some(client) = self.clients.get_mut(index) else { return true };
        if !client.flush() {
            return false;
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return true;
        }
        self.buffer.resize(MAX_PAYLOAD + 1, 0);
        let length = match sys::scm::try_receive(&client.socket, &mut self.buffer) {
            Ok(received) if received.length > 0 => received.length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            _ => return false,
        };
        match self.buffer[..length] {
            [attach::STDIN, ref bytes @ ..]
                if !self.input_ended && matches!(self.running.plan.stdin, Stream::Attach { .. }) =>
            {
                self.input.extend(bytes);
                self.write_input();
            }
            [attach::END_OF_INPUT] => {
                if matches!(self.running.plan.stdin, Stream::Attach { keep_open: false }) {
                    self.end_input();
                }
            }
            [attach::RESIZE, a, b, c, d] => {
                if let Some((master, _)) = &self.running.terminal {
                    let _ = sys::pty::resize(master, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                }
            }
            // Of a newer client: ignored.
            _ => {}
        }
        true
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        if self.input.is_empty() {
            self.running.stdin = None;
        }
    }

    fn write_input(&mut self) {
        while !self.input.is_empty() {
            let Some(descriptor) = self.descriptor(Token::Input) else {
                self.input.clear();
                return;
            };
            match rustix::io::write(descriptor, self.input.as_slices().0) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    // The process has closed its input: what is sent from now on is dropped.
                    self.input.clear();
                    self.running.stdin = None;
                }
            }
        }
        if self.input.capacity() > MAX_PAYLOAD * 2 {
            self.input = VecDeque::new();
        }
        if self.input_ended {
            self.running.stdin = None;
        }
    }

    /// Reads one chunk of output, records it and passes it on. Returns whether there may be more at once.
    fn read_output(&mut self, kind: u8) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(MAX_PAYLOAD + 1, 0);
        buffer[0] = kind;
        let result = match self.descriptor(Token::Output(kind)) {
            Some(descriptor) => rustix::io::read(descriptor, &mut buffer[1..]),
            None => Ok(0),
        };
        let more = match result {
            Ok(0) => {
                self.close_output(kind);
                false
            }
            Ok(length) => {
                self.pass_on(&buffer[..=length]);
                true
            }
            Err(rustix::io::Errno::INTR) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            Err(_) => {
                self.close_output(kind);
                false
            }
        };
        self.buffer = buffer;
        more
    }

    fn close_output(&mut self, kind: u8) {
        match kind {
            attach::STDOUT => self.running.stdout = None,
            _ => self.running.stderr = None,
        }
        if kind == attach::STDOUT {
            self.running.terminal = None;
        }
    }

    fn pass_on(&mut self, frame: &[u8]) {
        if let Some(log) = &mut self.running.log {
            log.record(if frame[0] == attach::STDERR { "stderr" } else { "stdout" }, &frame[1..]);
        }
        for client in &mut self.clients {
            client.send(frame);
        }
    }

    /// After the end of the process.
    fn finish(mut self) -> i32 {
        if self.running.plan.kill_rest {
            self.kill_group();
        }
        // What was written before the end lies in pipes and terminal; what still runs elsewhere is not waited for.
        for kind in [attach::STDOUT, attach::STDERR] {
            while self.read_output(kind) {}
        }
        let record = self.exit_record();
        if let Some(foreign) = &self.running.plan.foreign {
            super::foreign::delete(&self.running.plan, foreign);
        }
        let json = serde_json::to_vec(&record).unwrap_or_default();
        let _ = record::write_exit(&self.running.plan.run_dir, &json);
        let mut frame = vec![wire::EXITED];
        frame.extend_from_slice(&json);
        if let Some(lifeline) = &self.lifeline
            && sys::scm::send(lifeline, &frame, &[]).is_err()
        {
            self.lifeline = None;
        }
        frame[0] = attach::EXIT;
        for client in &mut self.clients {
            client.send(&frame);
        }
        self.flush_clients();
        self.clients.clear();
        self.running.listener = None;
        let cleaned = self.wait_for_finish();
        let argv = &self.running.plan.cleanup_argv;
        if !cleaned && !argv.is_empty() {
            return become_command(argv);
        }
        0
    }

    fn exit_record(&self) -> ExitRecord {
        let status = self.status;
        let signal = status.and_then(rustix::process::WaitStatus::terminating_signal);
        let code = status.and_then(rustix::process::WaitStatus::exit_status);
        let mut record = ExitRecord {
            version: 1,
            code: signal.map_or(code.unwrap_or(255), |signal| 128 + signal),
            signal,
            started_unix_nanos: self.running.record.started_unix_nanos,
            finished_unix_nanos: super::now_unix_nanos(),
            ..ExitRecord::default()
        };
        if self.timed_out {
            // as Podman's monitor
            record.code = 255;
        }
        if let (true, Some(paths)) = (self.running.plan.owns_cgroup, &self.running.plan.birth.cgroup)
            && let Ok(event) = cgroup::Manager::open(paths.clone()).oom_event()
        {
            record.oom_killed = event.kills > 0;
            record.memory_limit_bytes = event.limit_bytes.filter(|_| record.oom_killed);
            record.memory_peak_bytes = event.peak_bytes;
        }
        record
    }

    fn flush_clients(&mut self) {
        let end = Instant::now() + FLUSH_DEADLINE;
        loop {
            self.clients.retain_mut(|client| client.flush() && !client.pending.is_empty());
            let left = end.saturating_duration_since(Instant::now());
            if self.clients.is_empty() || left.is_zero() {
                return;
            }
            let mut entries: Vec<PollFd<'_>> =
                self.clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::OUT)).collect();
            let timeout = rustix::time::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let _ = rustix::event::poll(&mut entries, Some(&timeout));
        }
    }

    /// Waits until the caller says that it has cleaned up, or is gone.
    fn wait_for_finish(&self) -> bool {
        let Some(lifeline) = &self.lifeline else { return false };
        let mut packet = [0; 16];
        matches!(sys::scm::receive(lifeline, &mut packet), Ok(received) if received.length > 0 && packet[0] == wire::FINISHED)
    }
}

impl ClientConnection {
    /// Sends or queues a frame.
    fn send(&mut self, frame: &[u8]) {
        if self.pending.is_empty() {
            match sys::scm::try_send(&self.socket, frame) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A closed connection is noticed by the loop.
                _ => return,
            }
        }
        self.pending.push_back(frame.to_vec());
    }

    /// Sends what is queued; returns whether the connection is alive.
    fn flush(&mut self) -> bool {
        while let Some(frame) = self.pending.front() {
            match sys::scm::try_send(&self.socket, frame) {
                Ok(()) => drop(self.pending.pop_front()),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// Becomes another command: the cleanup, a look at the health.
pub(super) fn become_command(argv: &[std::ffi::OsString]) -> i32 {
    use std::os::unix::process::CommandExt;
    let Some((program, arguments)) = argv.split_first() else { return 0 };
    if sys::signal::reset_all().is_err() {
        return 70;
    }
    // Only returns when it fails.
    let _ = std::process::Command::new(program).args(arguments).exec();
    127
}
