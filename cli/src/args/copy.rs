//! `davit copy`

use super::{PolicyArgs, SignArgs, parse_go_bool};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which images of a list are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MultiArch {
    /// That for this host.
    System,
    /// All of them, with the list.
    All,
}

/// `davit copy`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "SOURCE and DESTINATION are docker://NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR,
docker-daemon:NAME (at DOCKER_HOST), or the name of an image of the local store (also containers-storage:NAME). Layers are unpacked only where the local store is
the destination, and nothing moves that is there already."
)]
pub(crate) struct CopyArgs {
    /// Every image of a list, and the list
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with registry credentials, for both ends
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// File with credentials for the registry of the destination
    #[arg(long, value_name = "FILE")]
    pub(crate) dest_authfile: Option<PathBuf>,
    /// Directory with certificates for the registry of the destination
    #[arg(long, value_name = "DIR")]
    pub(crate) dest_cert_dir: Option<PathBuf>,
    /// Compression of layers of the local store that have none yet (gzip, zstd)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) dest_compress_format: Option<String>,
    /// Credentials for the registry of the destination, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) dest_creds: Option<String>,
    /// Socket of docker's daemon that is the destination, unix://PATH
    #[arg(long, value_name = "HOST")]
    pub(crate) dest_daemon_host: Option<String>,
    /// Check certificates of the registry of the destination
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) dest_tls_verify: Option<bool>,
    /// Write the manifest's digest to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// Which images of a list (system, all)
    #[arg(long, value_name = "WHICH", conflicts_with = "all", hide_possible_values = true)]
    pub(crate) multi_arch: Option<MultiArch>,
    /// Platform of the image of a list, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all")]
    pub(crate) platform: Option<String>,
    /// Fail where a manifest could not stay as it is
    #[arg(long)]
    pub(crate) preserve_digests: bool,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Further tries after a failure that may pass
    #[arg(long, alias = "retry-times", value_name = "NUMBER", default_value_t = 3)]
    pub(crate) retry: u32,
    /// Time between tries, such as 2s (1s, then twice as long each time)
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    /// File with credentials for the registry of the source
    #[arg(long, value_name = "FILE")]
    pub(crate) src_authfile: Option<PathBuf>,
    /// Directory with certificates for the registry of the source
    #[arg(long, value_name = "DIR")]
    pub(crate) src_cert_dir: Option<PathBuf>,
    /// Credentials for the registry of the source, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) src_creds: Option<String>,
    /// Socket of docker's daemon that is the source, unix://PATH
    #[arg(long, value_name = "HOST")]
    pub(crate) src_daemon_host: Option<String>,
    /// Check certificates of the registry of the source
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) src_tls_verify: Option<bool>,
    /// Check certificates of both ends' registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Where from
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where to
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
}
