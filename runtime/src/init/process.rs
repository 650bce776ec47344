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
) -> Result<(InitPlan, PathBuf), Failure> {
    let process = &plan.process;
    install_streams(process, streams, terminal)?;
    set_limits(process)?;
    set_labels(process)?;
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
    Ok((plan, path))
}

/// What is executed.
pub(super) struct Executable {
    pub(super) path: PathBuf,
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

/// Labels take effect at the exec.
fn set_labels(plan: &ProcessPlan) -> Result<(), Failure> {
    let write = |text: &str| -> rustix::io::Result<()> {
        let file =
            rustix::fs::open("/proc/thread-self/attr/exec", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        if !super::mask::is_procfs(&file) {
            return Err(rustix::io::Errno::XDEV);
        }
        rustix::io::write(&file, text.as_bytes())?;
        Ok(())
    };
    if let Some(label) = &plan.selinux {
        write(label).at(Stage::Credentials, format!("SELinux label {label}"))?;
    }
    if let Some(profile) = &plan.apparmor {
        write(&format!("exec {profile}")).at(Stage::Credentials, format!("AppArmor profile {profile}"))?;
    }
    Ok(())
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
    let copies =
        handed_on.iter().map(|(number, fd)| Ok((*number, above(fd)?))).collect::<io::Result<Vec<_>>>()?;
    sys::process::close_on_exec_from(inherited)?;
    for (number, descriptor) in &copies {
        sys::process::install_descriptor(descriptor.as_fd(), *number)?;
    }
    let path = string(OsStr::as_bytes(executable.path.as_os_str()))?;
    if !plan.init && (plan.apparmor.is_some() || plan.selinux.is_some()) {
        // The label belongs to the program itself, not to the trampoline.
        return Err(failed(nix::unistd::execve(&path, &strings(&plan.args)?, &env)));
    }
    let number = u8::try_from(sync.as_raw_fd() + 1).map_err(|_| rustix::io::Errno::MFILE)?;
    let (program, mut arguments) = if plan.init {
        let init = sys::tiny_init::program(&path, number - 1)?;
        (init, vec![string(INIT_NAME.as_bytes())?, string(b"--")?])
    } else {
        (trampoline, vec![path, string(&[number])?])
    };
    arguments.extend(strings(&plan.args)?);
    sys::process::install_descriptor(sync.as_fd(), u32::from(number) - 1)?;
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    Err(failed(nix::unistd::execveat(&program, c"", &arguments, &env, flags)))
}
