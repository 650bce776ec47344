//! What a build is asked for, and what it answers.

use super::CacheRequest;
use crate::images::{PullPolicy, RegistryOptions};
use crate::options::{Limits, Mount, Network, Security, Ulimit};
use std::path::PathBuf;

/// Where the Containerfile comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ContainerfileSource {
    /// `Containerfile`, else `Dockerfile`, in the context directory.
    #[default]
    Lookup,
    /// A file; a relative path is tried at the caller's directory first, then in the context.
    Path(PathBuf),
    /// Its text, read by the caller (`-f -`, or `-` as the context).
    Text {
        /// Name in diagnostics.
        name: String,
        /// The text.
        text: String,
    },
}

/// Build an image.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Context directory; `None` = no context (the Containerfile came from standard input).
    pub context: Option<PathBuf>,
    /// The Containerfile.
    pub containerfile: ContainerfileSource,
    /// Ignore file; `None` = `NAME.containerignore`, `NAME.dockerignore`, `.containerignore`, `.dockerignore`.
    pub ignore_file: Option<PathBuf>,
    /// Names of the image.
    pub tags: Vec<String>,
    /// Stage; `None` = the last one.
    pub target: Option<String>,
    /// `ARG` values; `None` as the value means: not given.
    pub build_args: Vec<(String, String)>,
    /// Labels of the image.
    pub labels: Vec<(String, String)>,
    /// Annotations of the manifest.
    pub annotations: Vec<(String, String)>,
    /// Environment variables of the image (`--env`).
    pub env: Vec<(String, String)>,
    /// Run every step again.
    pub no_cache: bool,
    /// Steps at once; `None` or 0 = the number of CPUs.
    pub jobs: Option<usize>,
    /// `os/arch[/variant]`; `None` = the host's.
    pub platform: Option<String>,
    /// Network of the steps; [`Network::Default`] = the host's.
    pub network: Network,
    /// When base images are pulled.
    pub pull: PullPolicy,
    /// How.
    pub registry: RegistryOptions,
    /// Host paths inside the steps (`-v`), which are never part of the image.
    pub mounts: Vec<Mount>,
    /// Lines `name:ip` for /etc/hosts of the steps.
    pub add_hosts: Vec<String>,
    /// Name servers of the steps; empty = the host's.
    pub dns: Vec<String>,
    /// Search domains of the steps.
    pub dns_search: Vec<String>,
    /// Resolver options of the steps.
    pub dns_options: Vec<String>,
    /// Limits of each step.
    pub limits: Limits,
    /// Process limits of each step.
    pub ulimits: Vec<Ulimit>,
    /// Capabilities to add to steps.
    pub cap_add: Vec<String>,
    /// Capabilities to take from steps.
    pub cap_drop: Vec<String>,
    /// Confinement of steps.
    pub security: Security,
    /// Bytes of /dev/shm of steps.
    pub shm_size: Option<i64>,
    /// Time of the image, seconds since 1970 (`SOURCE_DATE_EPOCH`, `--timestamp`); `None` = now.
    pub source_date_epoch: Option<i64>,
    /// Also clamps the times of new files in layers to `source_date_epoch`.
    pub rewrite_timestamp: bool,
    /// Variables that steps get without becoming part of the image or of a cache key (the caller's proxy settings).
    pub proxy_env: Vec<(String, String)>,
    /// How the cache is used, explained and handed on.
    pub cache: CacheRequest,
    /// Leaves a failed step to a shell on this process's standard streams (`--on-fail=shell`).
    pub on_fail_shell: bool,
    /// Whether SIGINT, SIGTERM and SIGHUP cancel the build; for a process that does nothing else meanwhile.
    pub handle_signals: bool,
}

/// What a build made.
#[derive(Debug, Clone)]
pub struct BuildReport {
    /// Image ID, 64 hex digits.
    pub id: String,
    /// Names that it got, complete.
    pub names: Vec<String>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that came from the cache.
    pub cached: usize,
    /// All warnings, which were told as events as well: lint findings, unused build arguments, ...
    pub warnings: Vec<String>,
}
