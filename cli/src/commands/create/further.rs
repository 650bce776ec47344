//! The options of `run` and `create` that are seldom typed, as parts of a request.

use engine::containers::CreateRequest;
use engine::options::{
    BlockLimit, BlockLimitKind, CgroupsMode, DeviceRule, HealthChange, HealthLog, HealthRequest,
    ImageVolumes, Limits, OnFailure, RestartPolicy, RootfsDirectory, SdNotify, SystemdMode,
    UserNamespaceMode, parse_health_duration, parse_size,
};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::args::{BlockOptions, FurtherOptions, HealthOptions};
use crate::error::{Attempt, Failure};

/// Puts them into a request.
pub(super) fn apply(
    request: &mut CreateRequest,
    args: &FurtherOptions,
    health: &HealthOptions,
) -> Result<(), Failure> {
    request.health = self::health(health)?;
    request.restart = args.restart.as_deref().map(RestartPolicy::parse).transpose()?.unwrap_or_default();
    request.sdnotify = SdNotify::parse(&args.sdnotify)?;
    request.init = args.init;
    request.init_path = match &args.init_path {
        Some(path) => Some(std::path::absolute(path).attempt(format!("find {}", path.display()))?),
        None => None,
    };
    request.systemd = SystemdMode::parse(&args.systemd)?;
    request.timeout = args.timeout;
    request.timezone = args.tz.clone().filter(|zone| !zone.is_empty());
    request.requires = args.requires.clone();
    if args.rootfs {
        let here = std::env::current_dir().attempt("find the current directory")?;
        request.rootfs = Some(RootfsDirectory::parse(&request.image, &here)?);
    }
    request.volumes_from.clone_from(&args.volumes_from);
    request.image_volumes =
        args.image_volume.as_deref().map(ImageVolumes::parse).transpose()?.unwrap_or(ImageVolumes::Anonymous);
    request.hosts_file = args.hosts_file.clone().filter(|path| !path.is_empty());
    request.no_passwd = !args.passwd;
    request.passwd_entry = args.passwd_entry.clone();
    request.group_entry = args.group_entry.clone();
    request.host_users = args.hostuser.clone();
    request.env_merge = super::full_pairs("--env-merge", &args.env_merge)?.into_iter().collect();
    request.linux32 = match args.personality.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None | Some("" | "LINUX") => false,
        Some("LINUX32") => true,
        Some(other) => {
            return Err(Failure::new(format!("--personality={other}: expected LINUX or LINUX32")));
        }
    };
    request.cgroups = CgroupsMode::parse(&args.cgroups)?;
    let rules = args.device_cgroup_rule.iter().map(|text| DeviceRule::parse(text));
    request.device_rules = rules.collect::<Result<_, _>>()?;
    request.chrootdirs = args.chrootdirs.clone();
    if let Some(relative) = request.chrootdirs.iter().find(|directory| !directory.is_absolute()) {
        return Err(Failure::new(format!("--chrootdirs={}: expected an absolute path", relative.display())));
    }
    request.domainname = args.domainname.clone().filter(|name| !name.is_empty());
    request.conmon_pidfile = args.conmon_pidfile.clone();
    request.seccomp_of_image = match args.seccomp_policy.as_str() {
        "" | "default" => false,
        "image" => true,
        other => return Err(Failure::new(format!("--seccomp-policy={other}: expected default or image"))),
    };
    request.shm_size_systemd =
        args.shm_size_systemd.as_ref().map(|text| parse_size("--shm-size-systemd", text)).transpose()?;
    request.cdi_devices = args.gpus.iter().map(|gpu| gpu_name(gpu)).collect();
    let userns = args.userns.as_deref().map(UserNamespaceMode::parse).transpose()?.unwrap_or_default();
    let names = (args.subuidname.clone(), args.subgidname.clone());
    request.userns = userns.with_maps(args.uidmap.clone(), args.gidmap.clone(), names.0, names.1)?;
    request.registry.retry = args.retry;
    request.registry.retry_delay =
        args.retry_delay.as_deref().map(|text| parse_health_duration("--retry-delay", text)).transpose()?;
    further_limits(&args.block, &mut request.limits)
}

/// Limits of block devices and of real-time processes.
pub(crate) fn further_limits(args: &BlockOptions, limits: &mut Limits) -> Result<(), Failure> {
    limits.cpu_rt_period = args.cpu_rt_period;
    limits.cpu_rt_runtime = args.cpu_rt_runtime;
    for (kind, texts) in [
        (BlockLimitKind::Weight, &args.blkio_weight_device),
        (BlockLimitKind::ReadBps, &args.device_read_bps),
        (BlockLimitKind::ReadIops, &args.device_read_iops),
        (BlockLimitKind::WriteBps, &args.device_write_bps),
        (BlockLimitKind::WriteIops, &args.device_write_iops),
    ] {
        for text in texts {
            limits.block_devices.push(BlockLimit::parse(kind, text)?);
        }
    }
    Ok(())
}

/// A graphics processor as its maker's description names it.
fn gpu_name(text: &str) -> String {
    format!("nvidia.com/gpu={}", text.strip_prefix("device=").unwrap_or(text))
}

fn health(args: &HealthOptions) -> Result<HealthRequest, Failure> {
    let time = |option: &str, text: &Option<String>| -> Result<Option<Duration>, Failure> {
        let text = text.as_deref().map(|text| if text == "disable" { "0" } else { text });
        Ok(text.map(|text| parse_health_duration(option, text)).transpose()?)
    };
    let log = HealthLog::default();
    Ok(HealthRequest {
        off: args.no_healthcheck,
        command: args.health_cmd.clone(),
        interval: time("--health-interval", &args.health_interval)?,
        timeout: time("--health-timeout", &args.health_timeout)?,
        retries: args.health_retries,
        start_period: time("--health-start-period", &args.health_start_period)?,
        start_interval: time("--health-start-interval", &args.health_start_interval)?,
        startup_command: args.health_startup_cmd.clone(),
        startup_interval: time("--health-startup-interval", &args.health_startup_interval)?,
        startup_timeout: time("--health-startup-timeout", &args.health_startup_timeout)?,
        startup_retries: args.health_startup_retries.unwrap_or_default(),
        startup_successes: args.health_startup_success.unwrap_or_default(),
        on_failure: on_failure(args)?.unwrap_or_default(),
        log: HealthLog {
            destination: args.health_log_destination.clone().unwrap_or(log.destination),
            count: args.health_max_log_count.unwrap_or(log.count),
            size: args.health_max_log_size.unwrap_or(log.size),
        },
    })
}

fn on_failure(args: &HealthOptions) -> Result<Option<OnFailure>, Failure> {
    Ok(args.health_on_failure.as_deref().map(OnFailure::parse).transpose()?)
}

/// What `update` changes of a health check.
pub(crate) fn health_change(args: &HealthOptions) -> Result<HealthChange, Failure> {
    Ok(HealthChange {
        request: health(args)?,
        startup_retries: args.health_startup_retries,
        startup_successes: args.health_startup_success,
        on_failure: on_failure(args)?,
        log_destination: args.health_log_destination.clone(),
        log_count: args.health_max_log_count,
        log_size: args.health_max_log_size,
    })
}

/// The descriptors of `--preserve-fds` and of socket activation: those from 3 on.
pub(super) fn preserved(count: u32) -> Result<Vec<OwnedFd>, Failure> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let activated = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    };
    (3..3 + count + activated)
        .map(|number| sys::process::inherited(number).attempt(format!("hand on descriptor {number}")))
        .collect()
}

/// What a program must hear of the sockets that it gets.
pub(super) fn activation() -> Vec<(String, String)> {
    let own = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !own {
        return Vec::new();
    }
    let mut words = vec![("LISTEN_PID".to_owned(), "1".to_owned())];
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
        words.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    words
}
