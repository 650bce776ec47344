//! `build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{PolicyArgs, parse_go_bool};

/// How the progress of a build is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, `plain` elsewhere.
    Auto,
    /// A line for each event.
    Plain,
    /// A live view.
    Tty,
    /// Nothing but errors.
    Quiet,
    /// An object a line, for programs.
    Json,
}

/// What happens when a RUN fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFail {
    /// The build fails.
    Fail,
    /// A shell opens.
    Shell,
}

/// `davit build`
#[derive(Args, Clone, Debug)]
pub(crate) struct BuildArgs {
    /// Line HOST:IP for /etc/hosts of the steps (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// What steps may do beyond the usual (security.insecure, network.host, device)
    #[arg(long, value_delimiter = ',', value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Annotation KEY=VALUE of the image's manifest (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Architecture of the image
    #[arg(long, value_name = "ARCH", conflicts_with = "platform", alias = "override-arch")]
    pub(crate) arch: Option<String>,
    /// Fail before the first step that is not cached, and say what changed; with =STAGE only steps of that stage
    #[arg(long, value_name = "STAGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) assert_cached: Option<String>,
    /// File with registry credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Value of an ARG, NAME=VALUE or NAME from the caller (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// File with a NAME=VALUE on each line (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) build_arg_file: Vec<PathBuf>,
    /// Further context NAME=PATH|URL|docker-image://IMAGE|oci-layout://PATH; goes before a stage or an image of that name (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,
    /// Take results from a cache: REPOSITORY, type=registry,ref=NAME or type=local,src=DIR (repeatable)
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<String>,
    /// Hand results on: REPOSITORY, type=registry,ref=NAME, type=local,dest=DIR or type=inline, with mode=min|max and
    /// mounts=ID:ID for cache mounts that travel too (repeatable)
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<String>,
    /// Look at the Containerfile instead of building it (check, outline, targets), METHOD[,format=json]
    #[arg(long, value_name = "METHOD", default_value = "build", conflicts_with = "check")]
    pub(crate) call: String,
    /// Look for mistakes and bad habits in the Containerfile, and do not build it (as --call=check)
    #[arg(long)]
    pub(crate) check: bool,
    /// Add a capability to the steps
    #[arg(long, value_delimiter = ',', value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability from the steps
    #[arg(long, value_delimiter = ',', value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Control group above those of the steps
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Accepted for Docker: the context is read where it lies
    #[arg(long, hide = true)]
    pub(crate) compress: bool,
    /// CPU period of a step in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// CPU quota of a step in microseconds a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<i64>,
    /// Relative CPU weight of a step
    #[arg(long, short = 'c', value_name = "SHARES")]
    pub(crate) cpu_shares: Option<u64>,
    /// CPUs that a step may use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that a step may use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Credentials for the registry, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,
    /// Device of the host in the steps, SOURCE[:DESTINATION][:rwm] (repeatable)
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<String>,
    /// Accepted for Docker: has no effect
    #[arg(long, hide = true)]
    pub(crate) disable_content_trust: bool,
    /// Name server of the steps, or none for the image's own resolv.conf (the host's)
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    pub(crate) dns: Vec<String>,
    /// Resolver option of the steps
    #[arg(long, value_delimiter = ',', value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Search domain of the steps
    #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Variable NAME=VALUE of the image, or NAME from the caller; its steps see it, too (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Say of each step whether it was cached, and if not, which input changed since the last build of the same name;
    /// `davit image explain` says it again later
    #[arg(long)]
    pub(crate) explain: bool,
    /// Containerfile, or - for standard input (Containerfile, else Dockerfile, in the context)
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Vec<String>,
    /// Media types of the image's manifest and config (oci, docker); both keep health check, shell and triggers
    #[arg(
        long,
        value_name = "FORMAT",
        env = "BUILDAH_FORMAT",
        hide_env = true,
        default_value = "oci",
        hide_default_value = true
    )]
    pub(crate) format: String,
    /// Accepted for Docker: steps never outlive a build
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Image that the first FROM names instead of what is written there
    #[arg(long, value_name = "IMAGE")]
    pub(crate) from: Option<String>,
    /// Further group of the steps' users (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Hand on the caller's proxy variables to the steps
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) http_proxy: bool,
    /// File with the patterns of what the context leaves out
    #[arg(long, value_name = "FILE")]
    pub(crate) ignorefile: Option<PathBuf>,
    /// Write the image's ID to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Keep the labels of the base image
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) inherit_labels: bool,
    /// How steps are kept apart: oci and rootless are what davit does anyway, chroot asks for less
    #[arg(long, value_name = "KIND", env = "BUILDAH_ISOLATION", hide_env = true)]
    pub(crate) isolation: Option<String>,
    /// Steps that may run at once (0: as many as there are)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) jobs: Option<usize>,
    /// Label KEY=VALUE of the image (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Keep a layer for each step, and take known ones from the cache; =false: each stage runs anew and makes one layer
    #[arg(long, value_name = "BOOL", env = "BUILDAH_LAYERS", hide_env = true, default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) layers: bool,
    /// Accepted for Docker: the image is always in the local store
    #[arg(long, hide = true)]
    pub(crate) load: bool,
    /// Write what the build prints to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) logfile: Option<PathBuf>,
    /// List of images that the image is added to, one for each platform
    #[arg(long, value_name = "NAME")]
    pub(crate) manifest: Option<String>,
    /// Memory limit of a step, NUMBER[b|k|m|g]
    #[arg(long, short = 'm', value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Limit of memory and swap together of a step
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Write names and digests of the image to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Network of the steps (host, none)
    #[arg(long, alias = "net", value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Stage whose steps all run again (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "STAGE")]
    pub(crate) no_cache_filter: Vec<String>,
    /// Steps see the image's own /etc/hostname
    #[arg(long)]
    pub(crate) no_hostname: bool,
    /// Steps see the image's own /etc/hosts
    #[arg(long, conflicts_with = "add_host")]
    pub(crate) no_hosts: bool,
    /// Leave the history out of the image's config
    #[arg(long)]
    pub(crate) omit_history: bool,
    /// Operating system of the image
    #[arg(long, value_name = "OS", conflicts_with = "platform", alias = "override-os")]
    pub(crate) os: Option<String>,
    /// Also make of the image: DIR, - (a tar), or type=local|tar|oci|docker|image|registry[,dest=PATH][,name=NAME][,push=true] (repeatable)
    #[arg(long, short = 'o', value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Platform of the image, OS/ARCH[/VARIANT]; several make a list of images (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "PLATFORM")]
    pub(crate) platform: Vec<String>,
    /// How progress is shown (auto, plain, tty, quiet, json)
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE", hide_possible_values = true)]
    pub(crate) progress: ProgressMode,
    /// When base images are pulled (always, missing, never, newer)
    #[arg(long, value_name = "POLICY", num_args = 0..=1, require_equals = true, default_value = "missing", default_missing_value = "always")]
    pub(crate) pull: String,
    /// Same as --pull=always
    #[arg(long, hide = true)]
    pub(crate) pull_always: bool,
    /// Same as --pull=never
    #[arg(long, hide = true)]
    pub(crate) pull_never: bool,
    /// Send the image to the registries of its names
    #[arg(long)]
    pub(crate) push: bool,
    /// Print nothing but the image's ID
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Further tries after a failure of a registry that may pass
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub(crate) retry: u32,
    /// Time between tries, such as 2s (1s, then twice as long each time)
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
    /// Also limit the times of new files to the time of the image
    #[arg(long)]
    pub(crate) rewrite_timestamp: bool,
    /// Accepted for Docker: steps never outlive a build
    #[arg(long, hide = true, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) rm: bool,
    /// Secret for RUN --mount=type=secret, id=ID[,src=FILE|env=NAME][,type=file|env] (repeatable)
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Security option of the steps
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm of the steps
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Leave out stages that the image does not need
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) skip_unused_stages: bool,
    /// Time of the image in seconds since 1970, or `context` for that of the context's commit or archive
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH", hide_env_values = true)]
    pub(crate) source_date_epoch: Option<String>,
    /// What happens when a RUN fails: fail, or open a shell where it failed and go on if that ends with 0
    #[arg(long, value_enum, default_value = "fail", value_name = "fail|shell", hide_possible_values = true)]
    pub(crate) on_fail: OnFail,
    /// Make one layer of those above the base image
    #[arg(long, conflicts_with = "squash_all")]
    pub(crate) squash: bool,
    /// Make one layer of all, the base image's too
    #[arg(long)]
    pub(crate) squash_all: bool,
    /// Agent or keys for RUN --mount=type=ssh, default|ID[=SOCKET|KEY[,KEY]] (repeatable)
    #[arg(long, value_name = "ID[=PATH]")]
    pub(crate) ssh: Vec<String>,
    /// Name of the image; the first one names it, the rest are further tags (repeatable)
    #[arg(long, short = 't', value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Stage to build (the last one)
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Time of the image and all its new files in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timestamp: Option<i64>,
    /// Write a page with the build's steps on a time axis (davit-timings.html)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "davit-timings.html")]
    pub(crate) timings: Option<PathBuf>,
    /// Check certificates of registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
    /// Resource limit of the steps, NAME=SOFT[:HARD]
    #[arg(long, value_delimiter = ',', value_name = "LIMIT")]
    pub(crate) ulimit: Vec<String>,
    /// Variable that the image and its steps lose
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) unsetenv: Vec<String>,
    /// Label of the base image that the image loses
    #[arg(long, value_delimiter = ',', value_name = "KEY")]
    pub(crate) unsetlabel: Vec<String>,
    /// Variant of the architecture of the image
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform", alias = "override-variant")]
    pub(crate) variant: Option<String>,
    /// Host path inside the steps, SRC:DST[:OPTIONS] (repeatable)
    #[arg(long, short = 'v', value_name = "VOLUME")]
    pub(crate) volume: Vec<String>,
    /// Where COPY and ADD take files from: a directory, a git or http(s) address, or - for an archive on standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: String,
}

/// `davit image explain`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageExplainArgs {
    /// An image that was built here
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `davit builder prune`
#[derive(Args, Clone, Debug)]
pub(crate) struct BuilderPruneArgs {
    /// Accepted for Docker: there is no part of the cache that stays otherwise
    #[arg(long, short = 'a', hide = true)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
}
