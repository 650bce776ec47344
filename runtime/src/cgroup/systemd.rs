//! Groups that systemd makes: one transient scope a container, with everything below it delegated to us.
//!
//! ```text
//! SLICE/davit-ID.scope            systemd's: it starts the scope, and removes all of it when the last process has ended
//! SLICE/davit-ID.scope/monitor    the monitor, and the monitors of exec sessions
//! SLICE/davit-ID.scope/container  the container's group: limits, freezing, killing
//! ```
//! The monitor is the process that the scope is started with. So it survives the session of the user who started the
//! container, and so the counters (was something killed for memory?) are there until it has read them. Limits are
//! written to `container` by us: systemd never touches what is delegated, not even when it reloads.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::dbus::{BUS, Call, Connection, METHOD_RETURN, SIGNAL};
use super::{Error, Manager, Paths, Result, make_directory, v2, write};

/// How long the scope of the container's former run may take to go away.
const OLD_SCOPE_DEADLINE: Duration = Duration::from_secs(10);
const MONITOR: &str = "monitor";
const CONTAINER: &str = "container";

/// Where systemd is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// The socket of the system's or the user's bus.
    pub socket: PathBuf,
    /// The caller's user ID outside of any user namespace.
    pub uid: u32,
}

/// A scope to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The bus of the systemd that is to start it.
    pub bus: Bus,
    /// The slice it belongs to: `machine.slice`.
    pub slice: String,
    /// Its name: `davit-ID.scope`.
    pub unit: String,
}

impl Bus {
    /// Tells whether anybody listens.
    #[must_use]
    pub fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket, self.uid)
            .map_err(|error| failed(format!("connect to the bus {}", self.socket.display()), &error))
    }
}

fn failed(attempt: impl Into<String>, reason: &dyn std::fmt::Display) -> Error {
    Error::Systemd { attempt: attempt.into(), reason: reason.to_string() }
}

const MANAGER: Call<'static> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
};

impl Scope {
    /// Reads the form that the runtime specification gives to systemd's groups: `SLICE:PREFIX:NAME`.
    #[must_use]
    pub fn parse(bus: Bus, path: &str) -> Option<Self> {
        let mut parts = path.split(':');
        let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || name.is_empty() {
            return None;
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        Some(Self { bus, slice: slice.to_owned(), unit })
    }

    /// Starts the scope with the monitor in it and makes the container's group.
    ///
    /// # Errors
    /// The bus or systemd refuses, or the groups cannot be made below the scope.
    pub(crate) fn start(&self, monitor: u32) -> Result<Manager> {
        let deadline = Instant::now() + OLD_SCOPE_DEADLINE;
        let attempt = || format!("start {}", self.unit);
        loop {
            match self.ask(monitor, &[]) {
                Ok(None) => break,
                // The container's former monitor is still on its way out.
                Ok(Some(error)) if error.contains("UnitExists") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(Some(error)) => return Err(failed(attempt(), &error)),
                Err(error) => return Err(error),
            }
        }
        let scope = group_of(monitor).map_err(|error| failed(attempt(), &error))?;
        if !scope.ends_with(&self.unit) {
            return Err(failed(attempt(), &format!("the process is in {} instead", scope.display())));
        }
        let directories = [scope.join(MONITOR), scope.join(CONTAINER)];
        for directory in &directories {
            make_directory(directory)?;
        }
        // A group with processes of its own cannot give controllers to its children.
        write(&directories[0].join("cgroup.procs"), &monitor.to_string())?;
        v2::enable_controllers(&scope)?;
        let [_, container] = directories;
        Ok(Manager::open(Paths::V2(container)))
    }

    /// Moves a process into a scope that holds nothing else, and ends with it.
    ///
    /// # Errors
    /// The bus cannot be reached, or systemd refuses.
    pub fn adopt(&self, process: u32) -> Result<()> {
        match self.ask(process, &[])? {
            None => Ok(()),
            Some(refusal) => Err(failed(format!("start {}", self.unit), &refusal)),
        }
    }

    /// Starts the scope with a container's first process in it, which lies in a group below the scope: what systemd has
    /// set for the scope it may set again at any time. `properties` are further ones of the unit, as text: integers,
    /// `true` and `false`, and strings in single quotes.
    ///
    /// # Errors
    /// The bus or systemd refuses, or the group cannot be made below the scope.
    pub(crate) fn start_alone(&self, process: u32, properties: &[(String, String)]) -> Result<Manager> {
        let attempt = || format!("start {}", self.unit);
        let properties: Vec<(&str, Property<'_>)> = properties
            .iter()
            .map(|(name, text)| Property::parse(text).map(|value| (name.as_str(), value)).ok_or((name, text)))
            .collect::<std::result::Result<_, _>>()
            .map_err(|(name, text)| {
                failed(attempt(), &format!("property {name}: {text:?} is not understood"))
            })?;
        if let Some(refusal) = self.ask(process, &properties)? {
            return Err(failed(attempt(), &refusal));
        }
        let scope = group_of(process).map_err(|error| failed(attempt(), &error))?;
        if !scope.ends_with(&self.unit) {
            return Err(failed(attempt(), &format!("the process is in {} instead", scope.display())));
        }
        let container = scope.join(CONTAINER);
        make_directory(&container)?;
        write(&container.join("cgroup.procs"), &process.to_string())?;
        v2::enable_controllers(&scope)?;
        Ok(Manager::open(Paths::V2(container)))
    }

    /// Asks for the scope and waits until its job is done. `Some`: systemd's refusal.
    fn ask(&self, process: u32, properties: &[(&str, Property<'_>)]) -> Result<Option<String>> {
        let attempt = || format!("start {}", self.unit);
        let lost = |error: io::Error| failed(attempt(), &error);
        let mut bus = self.bus.connect()?;
        // Without a subscriber systemd keeps its signals to itself, and without a rule the bus does.
        let rule = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        bus.call(BUS.member("AddMatch", "s"), |arguments| arguments.string(rule)).map_err(lost)?;
        bus.call(MANAGER.member("Subscribe", ""), |_| {}).map_err(lost)?;
        let call = MANAGER.member("StartTransientUnit", "ssa(sv)a(sa(sv))");
        let description = format!("davit container {}", self.unit.trim_end_matches(".scope"));
        let serial = bus
            .call(call, |arguments| {
                arguments.string(&self.unit);
                arguments.string("fail");
                arguments.array(8, |all| {
                    all.property("Description", "s", |value| value.string(&description));
                    all.property("Slice", "s", |value| value.string(&self.slice));
                    all.property("PIDs", "au", |value| value.array(4, |pids| pids.u32(process)));
                    all.property("Delegate", "b", |value| value.bool(true));
                    // the default would bind below the limit that was asked for
                    all.property("TasksMax", "t", |value| value.u64(u64::MAX));
                    all.property("CollectMode", "s", |value| value.string("inactive-or-failed"));
                    for (name, property) in properties {
                        match property {
                            Property::Text(text) => all.property(name, "s", |value| value.string(text)),
                            Property::Number(number) => all.property(name, "t", |value| value.u64(*number)),
                            Property::Switch(on) => all.property(name, "b", |value| value.bool(*on)),
                        }
                    }
                });
                arguments.array(8, |_| {});
            })
            .map_err(lost)?;
        let mut job: Option<String> = None;
        let mut ended: Vec<(String, String)> = Vec::new();
        loop {
            let message = bus.receive().map_err(lost)?;
            if message.reply_to == Some(serial) {
                if message.kind != METHOD_RETURN {
                    return Ok(Some(message.error_text()));
                }
                job = Some(message.arguments().string().map_err(lost)?.to_owned());
            } else if message.kind == SIGNAL
                && message.member.as_deref() == Some("JobRemoved")
                && message.signature == "uoss"
            {
                let mut arguments = message.arguments();
                arguments.u32().map_err(lost)?;
                let path = arguments.string().map_err(lost)?.to_owned();
                arguments.string().map_err(lost)?;
                ended.push((path, arguments.string().map_err(lost)?.to_owned()));
            }
            // The signal may overtake the answer.
            let Some(job) = &job else { continue };
            match ended.iter().find(|(path, _)| path == job) {
                Some((_, result)) if result == "done" => return Ok(None),
                Some((_, result)) => return Ok(Some(format!("its job ended as {result}"))),
                None => ended.clear(),
            }
        }
    }
}

/// The value of a unit's property.
#[derive(Debug, PartialEq, Eq)]
enum Property<'a> {
    Text(&'a str),
    Number(u64),
    Switch(bool),
}

impl<'a> Property<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        match text {
            "true" => return Some(Self::Switch(true)),
            "false" => return Some(Self::Switch(false)),
            _ => {}
        }
        if let Some(quoted) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            return (!quoted.contains('\'')).then_some(Self::Text(quoted));
        }
        text.strip_prefix("uint64 ").unwrap_or(text).parse().ok().map(Self::Number)
    }
}

/// Moves the monitor of an exec session beside the container's, where `group` is one of ours below a scope: from there
/// it may put a process into the container's group, which from a user's login session it may not.
pub(crate) fn join_monitors(group: &Paths, bus: Option<&Bus>, monitor: u32) -> Result<()> {
    let Some(scope) = scope_of(group) else { return Ok(()) };
    let procs = scope.join(MONITOR).join("cgroup.procs");
    let refusal = match write(&procs, &monitor.to_string()) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let (Some(bus), Some(unit)) = (bus, scope.file_name().and_then(|name| name.to_str())) else {
        return Err(refusal);
    };
    // Between a session and the user's own part of the tree only the system's systemd moves processes.
    let attempt = || format!("move a process to {unit}");
    let lost = |error: io::Error| failed(attempt(), &error);
    let mut bus = bus.connect()?;
    let call = MANAGER.member("AttachProcessesToUnit", "ssau");
    let serial = bus
        .call(call, |arguments| {
            arguments.string(unit);
            arguments.string(&format!("/{MONITOR}"));
            arguments.array(4, |pids| pids.u32(monitor));
        })
        .map_err(lost)?;
    match bus.answer_to(serial).map_err(lost)? {
        Ok(_) => Ok(()),
        Err(message) => Err(failed(attempt(), &message.error_text())),
    }
}

/// Tells whether `group` is a container's below a scope.
pub(crate) fn in_scope(group: &Paths) -> bool {
    scope_of(group).is_some()
}

/// The scope's directory, where `group` is a container's below one.
fn scope_of(group: &Paths) -> Option<&Path> {
    let Paths::V2(directory) = group else { return None };
    let scope = directory.parent()?;
    let ours = directory.file_name()? == CONTAINER && scope.extension()? == "scope";
    ours.then_some(scope)
}

/// The directory of a process's group in the unified tree.
fn group_of(process: u32) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| io::Error::other("the process is in no group of the unified tree"))?;
    Ok(Path::new("/sys/fs/cgroup").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_form_is_read() {
        let bus = || Bus { socket: "/x".into(), uid: 0 };
        let scope = Scope::parse(bus(), "machine.slice:davit:abc").unwrap();
        assert_eq!((scope.slice.as_str(), scope.unit.as_str()), ("machine.slice", "davit-abc.scope"));
        assert_eq!(Scope::parse(bus(), "a.slice::abc").unwrap().unit, "abc.scope");
        for wrong in ["davit/abc", "a:b", "a:b:c:d", "a:b:"] {
            assert_eq!(Scope::parse(bus(), wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_groups_below_scopes_of_ours_have_monitors() {
        let scope = "/sys/fs/cgroup/machine.slice/davit-1.scope";
        assert_eq!(scope_of(&Paths::V2(format!("{scope}/container").into())), Some(Path::new(scope)));
        for other in ["/sys/fs/cgroup/davit/1", "/sys/fs/cgroup/davit/container"] {
            assert_eq!(scope_of(&Paths::V2(other.into())), None, "{other}");
        }
    }

    #[test]
    fn a_bus_that_is_not_there_is_named() {
        let bus = Bus { socket: "/nonexistent/bus".into(), uid: 0 };
        assert!(!bus.answers());
        let scope = Scope { bus, slice: "a.slice".into(), unit: "b.scope".into() };
        assert!(scope.start(1).unwrap_err().to_string().contains("/nonexistent/bus"));
    }
}
