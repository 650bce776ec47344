//! What a build is asked for, and what it answers.

use super::outputs::Output;
use super::{CacheRequest, RewriteTimes};
use crate::images::{ManifestSummary, PullPolicy, RegistryOptions};
use crate::options::{Device, Limits, Mount, Network, Security, Ulimit};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the files that COPY and ADD take come from.
#[derive(Debug, Clone, Default)]
pub enum ContextSource {
    /// Nowhere: the Containerfile came alone.
    #[default]
    None,
    /// A directory.
    Directory(PathBuf),
    /// What standard input brings: a tar archive (plain, gzip, bzip2, xz or zstd), or a Containerfile.
    Stream(Arc<OwnedFd>),
    /// A git repository (`URL#REFERENCE:DIRECTORY`), or an archive or a Containerfile behind an http(s) URL.
    Address(String),
}

/// Values of secrets by ID. They are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What becomes of the layers that the steps make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Squash {
    /// They stay.
    #[default]
    No,
    /// Those above the base image become one.
    New,
    /// All become one.
    All,
}

/// Format of the image's manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ImageFormat {
    /// The OCI's media types.
    #[default]
    Oci,
    /// Docker's media types.
    Docker,
}

impl std::str::FromStr for ImageFormat {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "oci" => Ok(ImageFormat::Oci),
            "docker" => Ok(ImageFormat::Docker),
            other => Err(crate::Error::invalid(format!("format {other}"), "expected oci or docker")),
        }
    }
}

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
    /// The context.
    pub context: ContextSource,
    /// Further contexts (`--build-context NAME=VALUE`): a directory, `docker-image://REF`, `container-image://REF`,
    /// `docker://REF`, `oci-layout://PATH[:TAG][@DIGEST]`, a git or http(s) address.
    pub build_contexts: Vec<(String, String)>,
    /// The Containerfile.
    pub containerfile: ContainerfileSource,
    /// Ignore file; `None` = `NAME.containerignore`, `NAME.dockerignore`, `.containerignore`, `.dockerignore`.
    pub ignore_file: Option<PathBuf>,
    /// Names of the image; with several platforms, of the list of images.
    pub tags: Vec<String>,
    /// List that the images are added to (`--manifest`); made when missing.
    pub manifest: Option<String>,
    /// What the first FROM names instead of what is written there.
    pub from: Option<String>,
    /// Stages that the target does not need are built, too (`--skip-unused-stages=false`).
    pub all_stages: bool,
    /// Stage; `None` = the last one.
    pub target: Option<String>,
    /// `ARG` values; `None` as the value means: not given.
    pub build_args: Vec<(String, String)>,
    /// Labels of the image.
    pub labels: Vec<(String, String)>,
    /// Labels of the base image that the image loses.
    pub unset_labels: Vec<String>,
    /// The image gets no label of its base (`--inherit-labels=false`).
    pub drop_base_labels: bool,
    /// Annotations of the manifest, which is made when the image is sent or saved.
    pub annotations: Vec<(String, String)>,
    /// Environment variables of the image, seen by its steps (`--env`).
    pub env: Vec<(String, String)>,
    /// Environment variables that the image and its steps lose.
    pub unset_env: Vec<String>,
    /// Files and values for `RUN --mount=type=secret`.
    pub secrets: Secrets,
    /// For `RUN --mount=type=ssh`: by ID the socket of an agent, or private keys.
    pub ssh: Vec<(String, Vec<PathBuf>)>,
    /// What steps may do beyond the usual: `security.insecure`, `network.host`, `device`.
    pub allow: Vec<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Stages whose steps all run again.
    pub no_cache_filter: Vec<String>,
    /// What becomes of the steps' layers.
    pub squash: Squash,
    /// The config has no history.
    pub omit_history: bool,
    /// Media types of manifest and config.
    pub format: ImageFormat,
    /// What is made of the image besides its record in the store.
    pub outputs: Vec<Output>,
    /// Where outputs to `-` go.
    pub stdout: Option<Arc<OwnedFd>>,
    /// Send the image under all its names.
    pub push: bool,
    /// Make the manifest, which costs compressing the layers, to report its digest.
    pub want_digest: bool,
    /// Steps at once; `None` or 0 = the number of CPUs.
    pub jobs: Option<usize>,
    /// `os/arch[/variant]`, `local` = the host's; none = the host's. Several make a list of images.
    pub platforms: Vec<String>,
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
    /// Steps see the image's own /etc/hosts.
    pub no_hosts: bool,
    /// Steps see the image's own /etc/hostname.
    pub no_hostname: bool,
    /// Host devices in the steps.
    pub devices: Vec<Device>,
    /// Further groups of the steps' users.
    pub groups: Vec<String>,
    /// Control group above those of the steps.
    pub cgroup_parent: Option<String>,
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
    /// What `source_date_epoch` does to the times of new files in layers.
    pub rewrite_times: RewriteTimes,
    /// Variables that steps get without becoming part of the image or of a cache key (the caller's proxy settings).
    pub proxy_env: Vec<(String, String)>,
    /// How the cache is used, explained and handed on.
    pub cache: CacheRequest,
    /// Leaves a failed step to a shell on this process's standard streams (`--on-fail=shell`).
    pub on_fail_shell: bool,
    /// Whether SIGINT, SIGTERM and SIGHUP cancel the build; for a process that does nothing else meanwhile.
    pub handle_signals: bool,
}

/// An image that a build made.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// `os/arch[/variant]`.
    pub platform: String,
    /// Image ID, 64 hex digits.
    pub id: String,
}

/// What a build made.
#[derive(Debug, Clone, Default)]
pub struct BuildReport {
    /// ID of the image, 64 hex digits; of several, that of the first.
    pub id: String,
    /// All images, in the order of their platforms.
    pub images: Vec<BuiltImage>,
    /// Names that were given, complete.
    pub names: Vec<String>,
    /// Digest and size of the manifest or index, and its media type, where one was made: by a push, an output or because
    /// the request wants to know ([`BuildRequest::want_digest`]).
    pub manifest: Option<ManifestSummary>,
    /// Names under which the image was sent.
    pub pushed: Vec<String>,
    /// Steps that ran.
    pub ran: usize,
    /// Steps that came from the cache.
    pub cached: usize,
    /// All warnings, which were told as events as well: lint findings, unused build arguments, ...
    pub warnings: Vec<String>,
}
