//! `davit runtime …`: from arguments to the verbs of the runtime, and their words.

mod log;
mod report;
mod update;

use std::path::PathBuf;

use engine::oci_runtime::{
    self as oci, Bus, CgroupManager, CreateOptions, ExecOptions, ExecProcess, ProcessChanges,
};

use crate::args::{
    Deferred, RuntimeArgs, RuntimeCgroupManager, RuntimeCreateArgs, RuntimeExecArgs, RuntimeVerb,
};
use crate::error::{Attempt, Failure, Outcome};
use crate::output;
use log::Log;

/// Exit code of the runtime's own failures, as crun's and runc's.
pub(crate) const RUNTIME_FAILED: u8 = 1;

/// What the verbs share.
struct Context {
    root: PathBuf,
    manager: CgroupManager,
    log: Log,
}

/// `davit runtime …`
pub(crate) fn runtime(args: RuntimeArgs) -> Outcome {
    let log = Log::new(&args);
    carry_out(args, log.clone()).map_err(|failure| {
        log.error(&failure.message);
        failure.code(RUNTIME_FAILED)
    })
}

/// What `--version` prints; engines show it.
pub(crate) fn version() -> Outcome {
    output::line(&format!(
        "davit-runtime version {}\nspec: {}",
        engine::version().version,
        oci::SPEC_VERSION
    ));
    Ok(0)
}

fn carry_out(args: RuntimeArgs, log: Log) -> Outcome {
    let Some(verb) = args.verb.clone() else {
        return Err(Failure::new("no verb is named").hint("`davit runtime --help` lists the verbs"));
    };
    let context = Context { root: root(&args), manager: manager(&args)?, log };
    let root = &context.root;
    match verb {
        RuntimeVerb::Create(Deferred(args)) => {
            let options = create_options(&args, &context, false)?;
            context.warn(oci::create(&options)?);
            Ok(0)
        }
        RuntimeVerb::Run(Deferred(args)) => {
            let mut options = create_options(&args.create, &context, args.detach)?;
            options.keep = args.keep;
            let (code, warnings) = oci::run(&options)?;
            context.warn(warnings);
            Ok(u8::try_from(code).unwrap_or(u8::MAX))
        }
        RuntimeVerb::Start(Deferred(args)) => {
            oci::start(root, &args.id, environment_path("NOTIFY_SOCKET").as_deref())?;
            Ok(0)
        }
        RuntimeVerb::State(Deferred(args)) => report::state(root, &args.id),
        RuntimeVerb::Kill(Deferred(args)) => {
            let signal = sys::signal::parse(&args.signal)
                .ok_or_else(|| Failure::new(format!("no signal is called {:?}", args.signal)))?;
            oci::kill(root, &args.id, signal, args.all)?;
            Ok(0)
        }
        RuntimeVerb::Delete(Deferred(args)) => {
            context.warn(oci::delete(root, &args.id, args.force)?);
            Ok(0)
        }
        RuntimeVerb::Exec(Deferred(args)) => {
            let code = oci::exec(&exec_options(args, &context)?)?;
            Ok(u8::try_from(code).unwrap_or(u8::MAX))
        }
        RuntimeVerb::Pause(Deferred(args)) => Ok(oci::pause(root, &args.id).map(|()| 0)?),
        RuntimeVerb::Resume(Deferred(args)) => Ok(oci::resume(root, &args.id).map(|()| 0)?),
        RuntimeVerb::Ps(Deferred(args)) => report::ps(root, &args),
        RuntimeVerb::List(Deferred(args)) => report::list(root, &args),
        RuntimeVerb::Update(Deferred(args)) => update::update(root, &args),
        RuntimeVerb::Events(Deferred(args)) => report::events(root, &args),
        RuntimeVerb::Features => {
            output::line(&output::json::pretty(&oci::features()).attempt("describe the runtime")?);
            Ok(0)
        }
        RuntimeVerb::Spec(Deferred(args)) => report::spec(&args),
    }
}

impl Context {
    fn warn(&self, warnings: Vec<String>) {
        for warning in warnings {
            self.log.warning(&warning);
        }
    }
}

fn environment_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn root(args: &RuntimeArgs) -> PathBuf {
    let root = args.root.clone().unwrap_or_else(|| {
        oci::default_root(sys::user::effective_uid(), environment_path("XDG_RUNTIME_DIR"))
    });
    std::path::absolute(&root).unwrap_or(root)
}

fn manager(args: &RuntimeArgs) -> Result<CgroupManager, Failure> {
    let asked = match (args.systemd_cgroup, args.cgroup_manager) {
        (true, None) => RuntimeCgroupManager::Systemd,
        (true, Some(manager)) if manager != RuntimeCgroupManager::Systemd => {
            return Err(Failure::new("--systemd-cgroup and --cgroup-manager contradict each other"));
        }
        (_, manager) => manager.unwrap_or(RuntimeCgroupManager::Cgroupfs),
    };
    Ok(match asked {
        RuntimeCgroupManager::Cgroupfs => CgroupManager::Files,
        RuntimeCgroupManager::Disabled => CgroupManager::Disabled,
        RuntimeCgroupManager::Systemd => {
            let uid = sys::user::effective_uid();
            CgroupManager::Systemd(Bus { socket: engine::oci_runtime::bus_socket(uid), uid })
        }
    })
}

fn create_options(
    args: &RuntimeCreateArgs,
    context: &Context,
    detach: bool,
) -> Result<CreateOptions, Failure> {
    let listen_fds = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let preserve_fds = args.preserve_fds;
    sys::process::close_inherited_from(3 + preserve_fds + listen_fds)
        .attempt("close inherited descriptors")?;
    Ok(CreateOptions {
        root: context.root.clone(),
        id: args.id.clone(),
        bundle: args.bundle.clone(),
        config: args.config.clone(),
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        preserve_fds,
        listen_fds,
        notify_socket: environment_path("NOTIFY_SOCKET"),
        cgroup_manager: context.manager.clone(),
        detach,
        keep: false,
        subreaper: !args.no_subreaper,
    })
}

fn exec_options(args: RuntimeExecArgs, context: &Context) -> Result<ExecOptions, Failure> {
    let (id, command) =
        args.id_and_command.split_first().ok_or_else(|| Failure::new("no container is named"))?;
    sys::process::close_inherited_from(3 + args.preserve_fds).attempt("close inherited descriptors")?;
    let process = match (args.process, command.is_empty()) {
        (Some(file), _) => ExecProcess::File(file),
        (None, true) => {
            return Err(Failure::new("no command is named").hint("name one, or a file with --process"));
        }
        (None, false) => ExecProcess::Changed(Box::new(ProcessChanges {
            args: command.to_vec(),
            env: args.env,
            cwd: args.cwd,
            terminal: args.tty,
            user: args.user.as_deref().map(user).transpose()?,
            groups: args.additional_gids,
            capabilities: args.cap,
            label: args.process_label,
            apparmor: args.apparmor,
            no_new_privileges: args.no_new_privs,
        })),
    };
    Ok(ExecOptions {
        root: context.root.clone(),
        id: id.clone(),
        process,
        console_socket: args.console_socket,
        pid_file: args.pid_file,
        detach: args.detach,
        preserve_fds: args.preserve_fds,
        cgroup: args.cgroup,
        ignore_paused: args.ignore_paused,
    })
}

fn user(text: &str) -> Result<(u32, Option<u32>), Failure> {
    let wrong = || Failure::new(format!("--user {text:?}: expected UID[:GID], both numbers"));
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |text: &str| text.parse().map_err(|_| wrong());
    Ok((number(uid)?, gid.map(number).transpose()?))
}

/// Errors of the runtime in the words that engines look for.
impl From<oci::Error> for Failure {
    fn from(error: oci::Error) -> Self {
        use oci::RuntimeError;
        let message = match &error {
            oci::Error::Runtime(RuntimeError::CommandNotFound { command }) if command.contains('/') => {
                format!("exec {command:?}: No such file or directory")
            }
            oci::Error::Runtime(RuntimeError::CommandNotFound { command }) => {
                format!("exec {command:?}: executable file not found in $PATH: No such file or directory")
            }
            oci::Error::Runtime(RuntimeError::CommandNotRunnable { command, source }) => {
                format!("exec {command:?}: {source}")
            }
            error => crate::error::chain(error),
        };
        Self::new(message).code(RUNTIME_FAILED)
    }
}
