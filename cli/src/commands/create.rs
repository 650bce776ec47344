//! `run` and `create`.

pub(super) mod further;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use engine::Engine;
use engine::containers::{CreateRequest, RunRequest, SessionEnd, Streams};
use engine::images::{PullPolicy, RegistryOptions};
use engine::options::{
    Device, Limits, Mount, Namespace, Network, Security, Ulimit, parse_detach_keys, parse_size,
};

use crate::args::{ContainerOptions, CreateArgs, RunArgs};
use crate::error::{Attempt, Failure, Outcome};
use crate::output::{self, progress};

/// Most bytes of an environment or label file.
const FILE_LIMIT: u64 = 1 << 20;
/// How long a FIFO may have no writer. Docker and Podman wait for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// `davit create`
pub(crate) fn create(engine: &Engine, args: CreateArgs) -> Outcome {
    let mut request = request(&args.create)?;
    request.auto_remove = args.rm;
    attached(&args.attach)?;
    let progress = progress::Transfer::new(args.create.quiet);
    let created = engine.containers().create(&request, &|event| progress.event(&event))?;
    warn(&created.warnings);
    output::line(&created.id);
    Ok(0)
}

/// `davit run`
pub(crate) fn run(engine: &Engine, args: RunArgs) -> Outcome {
    let mut request = request(&args.create)?;
    request.auto_remove = args.rm || args.rmi;
    request.remove_image = args.rmi;
    let preserved = preserved(&args.preserve_fd, args.preserve_fds)?;
    request.env.extend(further::activation());
    if request.tty && !args.detach && args.create.interactive && !is_terminal(std::io::stdin().as_fd()) {
        output::note("Warning: the input device is not a terminal");
    }
    let attach = if args.detach { None } else { Some(streams(&args)?) };
    let quiet = args.create.quiet;
    let progress = progress::Transfer::new(quiet);
    let ran = engine
        .containers()
        .run(RunRequest { create: request, attach, preserved }, &|event| progress.event(&event))?;
    warn(&ran.container.warnings);
    match ran.end {
        None => {
            output::line(&ran.container.id);
            Ok(0)
        }
        Some(end) => Ok(exit_code(end)),
    }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        output::note(&format!("Warning: {warning}"));
    }
}

/// The exit code for the end of a session: the process's own, 0 after detaching. Says it when memory ran out.
pub(crate) fn exit_code(end: SessionEnd) -> u8 {
    let low = |code: i32| u8::try_from(code & 0xff).unwrap_or(u8::MAX);
    match end {
        SessionEnd::Exited(code) => low(code),
        SessionEnd::OutOfMemory { code, memory } => {
            output::note(&format!(
                "Error: a process of the container was {memory} (--memory sets the limit)"
            ));
            low(code)
        }
        SessionEnd::Detached => 0,
    }
}

pub(crate) fn is_terminal(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

fn streams(args: &RunArgs) -> Result<Streams, Failure> {
    let mut streams = Streams::inherit(args.create.interactive)?;
    streams.detach_keys = parse_detach_keys(&args.create.detach_keys)?;
    streams.signal_proxy = args.sig_proxy && !args.create.tty;
    if !args.attach.is_empty() {
        let named = attached(&args.attach)?;
        streams.stdin = streams.stdin.filter(|_| named[0]);
        streams.stdout = streams.stdout.filter(|_| named[1]);
        streams.stderr = streams.stderr.filter(|_| named[2]);
    }
    Ok(streams)
}

/// Which of the streams are named.
fn attached(names: &[String]) -> Result<[bool; 3], Failure> {
    let mut named = [false; 3];
    for name in names {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => named[0] = true,
            "stdout" => named[1] = true,
            "stderr" => named[2] = true,
            other => {
                return Err(Failure::new(format!("--attach={other}: expected stdin, stdout or stderr")));
            }
        }
    }
    Ok(named)
}

/// The descriptors that the program gets from 3 on.
pub(super) fn preserved(numbers: &[u32], count: u32) -> Result<Vec<OwnedFd>, Failure> {
    if numbers.is_empty() {
        return further::preserved(count);
    }
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let last = 2 + u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    if numbers.first() != Some(&3) || numbers.last() != Some(&last) {
        return Err(Failure::new("--preserve-fd: the numbers begin at 3 and have no gap so far"));
    }
    further::preserved(last - 2)
}

/// Reads `NAME=VALUE` words, where a bare `NAME` takes the caller's value and `PREFIX*` all that begin so.
pub(crate) fn environment(
    words: &[String],
    files: &[std::path::PathBuf],
) -> Result<Vec<(String, String)>, Failure> {
    let mut out = Vec::new();
    for file in files {
        for line in lines(file)? {
            add_variable(&mut out, &line)?;
        }
    }
    for word in words {
        add_variable(&mut out, word)?;
    }
    Ok(out)
}

fn add_variable(out: &mut Vec<(String, String)>, word: &str) -> Result<(), Failure> {
    if let Some((name, value)) = word.split_once('=') {
        if name.is_empty() {
            return Err(Failure::new(format!("environment variable {word:?} has no name")));
        }
        out.push((name.to_owned(), value.to_owned()));
    } else if let Some(prefix) = word.strip_suffix('*') {
        let matching = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(prefix));
        out.extend(matching);
    } else if let Some(value) = std::env::var_os(word).and_then(|value| value.into_string().ok()) {
        out.push((word.to_owned(), value));
    }
    Ok(())
}

/// The lines of a file without comments and empty ones.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let text = read_text(path)?;
    Ok(text
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// A small text file, or what a shell passes in its place.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let attempt = || format!("read {}", path.display());
    let bytes = sys::named_file::read(path, FILE_LIMIT, PATIENCE).attempt(attempt())?;
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{}: it is not UTF-8 text", attempt())))
}

/// Reads `KEY[=VALUE]` words.
pub(crate) fn pairs(words: &[String]) -> Vec<(String, String)> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// Reads `KEY=VALUE` words that need their value.
pub(crate) fn full_pairs(option: &str, words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Failure::new(format!("{option} {word}: expected KEY=VALUE"))),
        })
        .collect()
}

/// `--platform`, or what `--os`, `--arch` and `--variant` say.
pub(crate) fn platform(
    platform: Option<&String>,
    os: Option<&String>,
    arch: Option<&String>,
    variant: Option<&String>,
) -> Option<String> {
    if platform.is_some() {
        return platform.cloned();
    }
    if os.is_none() && arch.is_none() && variant.is_none() {
        return None;
    }
    let host = oci::Platform::host();
    let mut text = format!("{}/{}", os.unwrap_or(&host.os), arch.unwrap_or(&host.architecture));
    if let Some(variant) = variant {
        text.push('/');
        text.push_str(variant);
    }
    Some(text)
}

/// The caller's proxy variables.
pub(crate) fn proxies() -> Vec<(String, String)> {
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_uppercase()])
        .filter_map(|name| std::env::var(&name).ok().map(|value| (name, value)))
        .collect()
}

/// A string of one word, or a JSON array of words; the empty string clears.
fn entrypoint(text: &str) -> Vec<String> {
    if let Ok(words) = serde_json::from_str::<Vec<String>>(text) {
        return words;
    }
    if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
}

fn limits(args: &ContainerOptions) -> Result<Limits, Failure> {
    let size = |option: &str, text: Option<&String>| text.map(|text| parse_size(option, text)).transpose();
    if args.cpus.is_some() && (args.cpu_period.is_some() || args.cpu_quota.is_some()) {
        return Err(Failure::new("--cpus and --cpu-period or --cpu-quota exclude each other"));
    }
    Ok(Limits {
        memory: size("--memory", args.memory.as_ref())?,
        memory_reservation: size("--memory-reservation", args.memory_reservation.as_ref())?,
        memory_swap: size("--memory-swap", args.memory_swap.as_ref())?,
        memory_swappiness: args.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        oom_kill_disable: args.oom_kill_disable,
        milli_cpus: args.cpus.map(milli_cpus).transpose()?,
        cpu_period: args.cpu_period.filter(|period| *period != 0),
        cpu_quota: args.cpu_quota.filter(|quota| *quota != 0),
        cpu_shares: args.cpu_shares.filter(|shares| *shares != 0),
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        pids: args.pids_limit,
        blkio_weight: args.blkio_weight,
        unified: full_pairs("--cgroup-conf", &args.cgroup_conf)?,
        ..Limits::default()
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the range is checked
pub(super) fn milli_cpus(cpus: f64) -> Result<u64, Failure> {
    if !(0.0..1e6).contains(&cpus) {
        return Err(Failure::new(format!("--cpus={cpus}: expected a number of processors")));
    }
    Ok((cpus * 1000.0).round() as u64)
}

fn mounts(args: &ContainerOptions) -> Result<Vec<Mount>, Failure> {
    let here = std::env::current_dir().attempt("find the current directory")?;
    let mut out = Vec::new();
    for text in &args.volume {
        out.push(Mount::parse_volume(text, &here)?);
    }
    for text in &args.mount {
        out.push(Mount::parse_mount(text, &here)?);
    }
    for text in &args.tmpfs {
        out.push(Mount::parse_tmpfs(text)?);
    }
    Ok(out)
}

pub(crate) fn security(words: &[String]) -> Result<Security, Failure> {
    let mut security = Security::default();
    for word in words {
        security.apply(word)?;
    }
    Ok(security)
}

pub(crate) fn ulimits(words: &[String]) -> Result<Vec<Ulimit>, Failure> {
    // `host` keeps the caller's limits, which is what davit does where nothing is said.
    words.iter().filter(|word| *word != "host").map(|word| Ok(Ulimit::parse(word)?)).collect()
}

fn request(args: &ContainerOptions) -> Result<CreateRequest, Failure> {
    let (image, command) =
        args.image_and_command.split_first().ok_or_else(|| Failure::new("no image is named"))?;
    let mut env = if args.http_proxy { proxies() } else { Vec::new() };
    if args.env_host {
        env.extend(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
    }
    env.extend(environment(&args.env, &args.env_file)?);
    let mut labels = Vec::new();
    for file in &args.label_file {
        labels.extend(lines(file)?);
    }
    labels.extend(args.label.iter().cloned());
    if args.network.len() > 1 {
        return Err(Failure::new("several networks for one container are not built yet"));
    }
    let network = args.network.first().map(|text| Network::parse(text)).transpose()?.unwrap_or_default();
    let namespace = |option: &str, text: &Option<String>| {
        text.as_ref().map(|text| Namespace::parse(option, text)).transpose().map(Option::unwrap_or_default)
    };
    let mut request = CreateRequest {
        image: image.clone(),
        pull: args.pull.parse::<PullPolicy>()?,
        registry: RegistryOptions {
            tls_verify: args.tls_verify,
            credentials: args.creds.clone(),
            authfile: args.authfile.clone(),
            cert_dir: args.cert_dir.clone(),
            signature_policy: args.trust.signature_policy.clone(),
            ..RegistryOptions::default()
        },
        platform: platform(
            args.platform.as_ref(),
            args.os.as_ref(),
            args.arch.as_ref(),
            args.variant.as_ref(),
        ),
        name: args.name.clone(),
        replace: args.replace,
        command: command.to_vec(),
        entrypoint: args.entrypoint.as_ref().map(|text| entrypoint(text)),
        env,
        unset_env: args.unsetenv.clone(),
        unset_env_all: args.unsetenv_all,
        user: args.user.clone(),
        groups: args.group_add.clone(),
        workdir: args.workdir.clone(),
        hostname: args.hostname.clone(),
        labels: pairs(&labels).into_iter().collect(),
        annotations: full_pairs("--annotation", &args.annotation)?,
        mounts: mounts(args)?,
        network,
        pid: namespace("--pid", &args.pid)?,
        ipc: namespace("--ipc", &args.ipc)?,
        uts: namespace("--uts", &args.uts)?,
        cgroupns: namespace("--cgroupns", &args.cgroupns)?,
        add_hosts: args.add_host.clone(),
        dns: args.dns.clone(),
        dns_search: args.dns_search.clone(),
        dns_options: args.dns_option.clone(),
        no_hosts: args.no_hosts,
        no_hostname: args.no_hostname,
        tty: args.tty,
        interactive: args.interactive,
        auto_remove: false,
        read_only: args.read_only,
        read_only_tmpfs: args.read_only_tmpfs,
        privileged: args.privileged,
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        security: security(&args.security_opt)?,
        limits: limits(args)?,
        ulimits: ulimits(&args.ulimit)?,
        devices: args
            .device
            .iter()
            .filter(|text| !engine::cdi::is_name(text))
            .map(|text| Device::parse(text))
            .collect::<Result<_, _>>()?,
        sysctls: full_pairs("--sysctl", &args.sysctl)?,
        shm_size: args.shm_size.as_ref().map(|text| parse_size("--shm-size", text)).transpose()?,
        umask: args.umask.as_ref().map(|text| umask(text)).transpose()?,
        oom_score_adj: args.oom_score_adj,
        cgroup_parent: args.cgroup_parent.clone(),
        stop_signal: args.stop_signal.clone(),
        stop_timeout: args.stop_timeout,
        expose: args.expose.clone(),
        log_driver: args.log_driver.clone(),
        log_options: full_pairs("--log-opt", &args.log_opt)?,
        cidfile: args.cidfile.clone(),
        pidfile: args.pidfile.clone(),
        create_command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        ..CreateRequest::default()
    };
    further::apply(&mut request, &args.further, &args.health)?;
    let described = args.device.iter().filter(|text| engine::cdi::is_name(text)).cloned();
    request.cdi_devices.extend(described);
    Ok(request)
}

fn umask(text: &str) -> Result<u32, Failure> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| Failure::new(format!("--umask={text}: expected an octal mask such as 0022")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_are_words_or_json() {
        assert_eq!(entrypoint("/bin/sh -c"), ["/bin/sh -c"]);
        assert_eq!(entrypoint("[\"a\", \"b c\"]"), ["a", "b c"]);
        assert!(entrypoint("").is_empty());
    }

    #[test]
    fn platforms_are_put_together() {
        let arch = "arm64".to_owned();
        assert_eq!(platform(None, None, Some(&arch), None).unwrap(), "linux/arm64");
        assert_eq!(platform(None, None, None, None), None);
    }

    #[test]
    fn masks_are_octal() {
        assert_eq!(umask("0027").unwrap(), 0o27);
        assert!(umask("9").is_err() && umask("7777").is_err());
    }
}
