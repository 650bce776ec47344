//! The last steps: streams, limits, credentials, filter, exec.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};

use crate::error::Stage;
use crate::init::Context;
use crate::plan::{InitPlan, ProcessPlan};
use crate::wire::{At, Failure};

/// Searched where the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the small init calls itself, as Podman's.
const INIT_NAME: &str = "/run/podman-init";

/// Becomes the user, with the file to execute found and all set but what only the program itself may have.
pub(super) fn take_shape(
    plan: InitPlan,
    streams: [Option<OwnedFd>; 3],
    terminal: Option<OwnedFd>,
) -> Result<(InitPlan, PathBuf, Option<Label>), Failure> {
    let process = &plan.process;
    install_streams(process, streams, terminal)?;
    set_limits(process)?;
    let label = prepare_label(process)?;
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022)));
    // As root first: the user may lack the right to pass through a parent, or root through a network file system.
    let entered = enter(&process.cwd).is_ok();
    take_credentials(process)?;
    if !entered {
        enter(&process.cwd).at(Stage::Directory, process.cwd.display().to_string())?;
    }
    if plan.tied {
        super::set_death_signal()?;
    }
    let command = process.args[0].clone();
    let path = find(&command, &process.env).at(Stage::Exec, &*command)?;
    Ok((plan, path, label))
}

/// The label that the program's exec takes on.
pub(super) struct Label {
    /// `/proc/thread-self`, found to be procfs.
    directory: OwnedFd,
    /// What is written to `attr/exec` there.
    text: String,
}

/// What is executed.
pub(super) struct Executable {
    pub(super) path: PathBuf,
    pub(super) label: Option<Label>,
    /// Descriptors that it gets besides its streams, by their numbers.
    pub(super) handed_on: Vec<(u32, OwnedFd)>,
}

/// The last steps.
pub(super) fn execute(
    plan: &InitPlan,
    program: &[sys::seccomp_load::Instruction],
    executable: &Executable,
    context: &Context<'_>,
) -> Result<Infallible, Failure> {
    let process = &plan.process;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at(Stage::Credentials, "no_new_privs")?;
    }
    sys::signal::reset_all().at(Stage::Exec, "reset signals")?;
    // Without no_new_privs a filter needs CAP_SYS_ADMIN, which goes away next.
    if !process.no_new_privileges {
        if process.capabilities.is_some() && !program.is_empty() {
            let permitted = sys::caps::current_permitted().at(Stage::Credentials, "read capabilities")?;
            sys::caps::set(permitted, permitted, 0).at(Stage::Credentials, "raise capabilities")?;
        }
        load_filter(process, program, context)?;
    }
    set_capabilities(process)?;
    if process.no_new_privileges {
        load_filter(process, program, context)?;
    }
    replace(process, executable, context).at(Stage::Exec, &*process.args[0])
}

fn install_streams(
    plan: &ProcessPlan,
    streams: [Option<OwnedFd>; 3],
    terminal: Option<OwnedFd>,
) -> Result<(), Failure> {
    let own = |descriptor: &OwnedFd| {
        let status = rustix::fs::fstat(descriptor);
        let is_pipe_or_terminal = status.is_ok_and(|status| {
            matches!(FileType::from_raw_mode(status.st_mode), FileType::Fifo) || plan.terminal
        });
        if is_pipe_or_terminal {
            // So that /dev/stdout can be opened again; refused in a user namespace without a mapping, which is no loss.
            let gid = (!plan.terminal).then(|| Gid::from_raw(plan.gid));
            let _ = rustix::fs::fchown(descriptor, Some(Uid::from_raw(plan.uid)), gid);
        }
    };
    if let Some(slave) = terminal {
        sys::pty::make_controlling(&slave).at(Stage::Console, "controlling terminal")?;
        own(&slave);
        for number in 0..3 {
            sys::process::install_descriptor(slave.as_fd(), number).at(Stage::Console, "")?;
        }
        return Ok(());
    }
    for (number, stream) in (0..).zip(&streams) {
        if let Some(stream) = stream {
            own(stream);
            sys::process::install_descriptor(stream.as_fd(), number).at(Stage::Stdio, "")?;
        }
    }
    Ok(())
}

fn set_limits(plan: &ProcessPlan) -> Result<(), Failure> {
    for (number, soft, hard) in &plan.rlimits {
        sys::process::set_resource_limit(*number, *soft, *hard)
            .at(Stage::Limit, format!("{} to {soft}:{hard}", crate::rlimits::name_of(*number)))?;
    }
    if let Some(scheduler) = &plan.scheduler {
        sys::process::set_scheduler(scheduler).at(Stage::Limit, "scheduler")?;
    }
    if let Some((class, level)) = plan.io_priority {
        sys::process::set_io_priority(class, level).at(Stage::Limit, "I/O priority")?;
    }
    if plan.personality_32 {
        sys::process::set_personality_linux32().at(Stage::Limit, "personality")?;
    }
    if let Some(policy) = &plan.memory_policy {
        sys::process::set_memory_policy(policy).at(Stage::Limit, "memory policy")?;
    }
    if !plan.affinity.is_empty() {
        sys::process::set_affinity(&plan.affinity).at(Stage::Limit, "CPU affinity")?;
    }
    Ok(())
}

/// Labels take effect at the next exec. The trampoline writes them, so that it is not the one that gets them; the small
/// init gets them itself, and what it starts inherits them.
fn prepare_label(plan: &ProcessPlan) -> Result<Option<Label>, Failure> {
    let (text, subject) = match (&plan.selinux, &plan.apparmor) {
        (None, None) => return Ok(None),
        (Some(label), None) => (label.clone(), format!("SELinux label {label}")),
        (None, Some(profile)) => (format!("exec {profile}"), format!("AppArmor profile {profile}")),
        (Some(_), Some(_)) => {
            let error = io::Error::other(
                "a program takes on one label: give either an AppArmor profile or an SELinux label",
            );
            return Err(error).at(Stage::Credentials, "");
        }
    };
    let open = |init: bool| -> io::Result<Option<Label>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open("/proc/thread-self", flags, Mode::empty())?;
        let file =
            rustix::fs::openat(&directory, "attr/exec", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        if !super::mask::is_procfs(&file) || !super::mask::is_procfs(&directory) {
            return Err(rustix::io::Errno::XDEV.into());
        }
        if init {
            rustix::io::write(&file, text.as_bytes())?;
            return Ok(None);
        }
        Ok(Some(Label { directory, text: text.clone() }))
    };
    open(plan.init).at(Stage::Credentials, subject)
}

/// Changes to the working directory, and refuses one outside of the root (an inherited descriptor could lead there).
fn enter(path: &Path) -> io::Result<()> {
    rustix::process::chdir(path)?;
    let real = rustix::process::getcwd(Vec::new())?;
    if real.to_bytes().first() != Some(&b'/') {
        return Err(rustix::io::Errno::XDEV.into());
    }
    Ok(())
}

/// Takes on user, groups and bounding set; what is permitted stays until [`set_capabilities`], but what is effective
/// is the user's already.
fn take_credentials(plan: &ProcessPlan) -> Result<(), Failure> {
    let stage = Stage::Credentials;
    if let Some(sets) = &plan.capabilities {
        sys::caps::drop_bounding(sets.bounding).at(stage, "bounding set")?;
        rustix::thread::set_keep_capabilities(true).at(stage, "keep capabilities")?;
    }
    let groups = (!plan.keep_groups).then_some(plan.groups.as_slice());
    sys::user::become_user(plan.uid, plan.gid, groups)
        .at(stage, format!("user {}:{}", plan.uid, plan.gid))?;
    if let Some(sets) = &plan.capabilities {
        let permitted = sys::caps::current_permitted().at(stage, "read capabilities")?;
        let effective = sets.effective & sets.permitted & permitted;
        sys::caps::set(effective, permitted, 0).at(stage, "capabilities")?;
    }
    Ok(())
}

fn set_capabilities(plan: &ProcessPlan) -> Result<(), Failure> {
    let stage = Stage::Credentials;
    if let Some(sets) = &plan.capabilities {
        // What the caller itself does not have cannot be given: the spec wants a warning at most.
        let permitted = sys::caps::current_permitted().at(stage, "read capabilities")?;
        let inheritable = sets.inheritable & permitted;
        sys::caps::set(sets.effective & sets.permitted & permitted, sets.permitted & permitted, inheritable)
            .at(stage, "capabilities")?;
        sys::caps::set_ambient(sets.ambient & sets.permitted & inheritable)
            .at(stage, "ambient capabilities")?;
    }
    Ok(())
}

fn load_filter(
    plan: &ProcessPlan,
    program: &[sys::seccomp_load::Instruction],
    context: &Context<'_>,
) -> Result<(), Failure> {
    if program.is_empty() {
        return Ok(());
    }
    if plan.seccomp_flags & sys::seccomp_load::FLAG_NEW_LISTENER != 0 {
        return super::notify::load_filter(program, plan.seccomp_flags, &context.sync);
    }
    sys::seccomp_load::install(program, plan.seccomp_flags).map(drop).at(Stage::Seccomp, "")
}

/// The file to execute, as execvp finds it.
fn find(command: &str, env: &[String]) -> io::Result<PathBuf> {
    if command.is_empty() {
        return Err(rustix::io::Errno::NOENT.into());
    }
    if command.contains('/') {
        check(Path::new(command))?;
        return Ok(PathBuf::from(command));
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(command);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                denied.get_or_insert(error);
            }
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| rustix::io::Errno::NOENT.into()))
}

fn check(path: &Path) -> io::Result<()> {
    let status = rustix::fs::stat(path)?;
    if !FileType::from_raw_mode(status.st_mode).is_file() {
        return Err(rustix::io::Errno::ACCESS.into());
    }
    Ok(rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?)
}

/// Executes the program in the place of this process.
fn replace(plan: &ProcessPlan, executable: &Executable, context: &Context<'_>) -> io::Result<Infallible> {
    let string = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let strings =
        |list: &[String]| list.iter().map(|text| string(text.as_bytes())).collect::<io::Result<Vec<_>>>();
    let failed = |result: nix::Result<Infallible>| {
        result.err().map_or_else(|| io::Error::from(io::ErrorKind::Other), io::Error::from)
    };
    let env = strings(&plan.env)?;
    // All is close-on-exec but the streams, what the program is to inherit, and, as far as the trampoline, the socket.
    let inherited = 3 + plan.preserved;
    // Above the numbers that the program gets, whatever they are.
    let handed_on = &executable.handed_on;
    let first = handed_on.iter().map(|(number, _)| number + 1).max().unwrap_or(3).max(inherited);
    let above = |descriptor: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(descriptor, first.cast_signed());
    let sync = above(&context.sync)?;
    let trampoline = above(context.trampoline)?;
    let label =
        executable.label.as_ref().map(|label| Ok::<_, io::Error>((above(&label.directory)?, &label.text)));
    let label = label.transpose()?;
    let copies =
        handed_on.iter().map(|(number, fd)| Ok((*number, above(fd)?))).collect::<io::Result<Vec<_>>>()?;
    sys::process::close_on_exec_from(inherited)?;
    for (number, descriptor) in &copies {
        sys::process::install_descriptor(descriptor.as_fd(), *number)?;
    }
    let path = string(OsStr::as_bytes(executable.path.as_os_str()))?;
    let byte = |descriptor: &OwnedFd| {
        u8::try_from(descriptor.as_raw_fd() + 1).map_err(|_| io::Error::from(rustix::io::Errno::MFILE))
    };
    let number = byte(&sync)?;
    let mut report = vec![number];
    if let Some((directory, text)) = &label {
        report.push(byte(directory)?);
        report.extend(text.as_bytes());
        // Itself, but open across the exec of the trampoline, which closes it.
        sys::process::install_descriptor(directory.as_fd(), directory.as_raw_fd().cast_unsigned())?;
    }
    let (program, mut arguments) = if plan.init {
        let init = sys::tiny_init::program(&path, number - 1)?;
        (init, vec![string(INIT_NAME.as_bytes())?, string(b"--")?])
    } else {
        (trampoline, vec![path, string(&report)?])
    };
    arguments.extend(strings(&plan.args)?);
    sys::process::install_descriptor(sync.as_fd(), u32::from(number) - 1)?;
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    Err(failed(nix::unistd::execveat(&program, c"", &arguments, &env, flags)))
}
