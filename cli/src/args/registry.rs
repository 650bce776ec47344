//! Registries.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Deferred, PolicyArgs, SignArgs, parse_go_bool};

/// How a registry is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct RegistryArgs {
    /// File with registry credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Credentials for the registry, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,
    /// Check certificates of registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
}

/// `davit pull`
#[derive(Args, Clone, Debug)]
pub(crate) struct PullArgs {
    /// Every tag of the repositories
    #[arg(long, short = 'a')]
    pub(crate) all_tags: bool,
    /// Architecture of the image
    #[arg(long, value_name = "ARCH", conflicts_with = "platform", alias = "override-arch")]
    pub(crate) arch: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Accepted for Docker: has no effect
    #[arg(long, hide = true)]
    pub(crate) disable_content_trust: bool,
    /// Operating system of the image
    #[arg(long, value_name = "OS", conflicts_with = "platform", alias = "override-os")]
    pub(crate) os: Option<String>,
    /// Platform of the image, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// When the image is pulled (always, missing, never, newer)
    #[arg(long, value_name = "POLICY", default_value = "always")]
    pub(crate) policy: String,
    /// Print nothing but the image's ID
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Further tries after a failure that may pass
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub(crate) retry: u32,
    /// Time between tries, such as 2s (1s, then twice as long each time)
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Variant of the architecture of the image
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform", alias = "override-variant")]
    pub(crate) variant: Option<String>,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `davit search`
#[derive(Args, Clone, Debug)]
pub(crate) struct SearchArgs {
    /// The columns of Docker's
    #[arg(long)]
    pub(crate) compatible: bool,
    /// Only what matches KEY=VALUE: stars, is-official, is-automated (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// At most so many from each registry (25)
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub(crate) limit: usize,
    /// The tags of a repository instead
    #[arg(long)]
    pub(crate) list_tags: bool,
    /// Whole descriptions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// What to look for, [REGISTRY/]TERM
    #[arg(value_name = "TERM")]
    pub(crate) term: String,
}

/// `davit push`
#[derive(Args, Clone, Debug)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Compression of layers that have none yet (gzip, zstd)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) compression_format: Option<String>,
    /// Write the manifest's digest to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// Accepted for Docker: has no effect
    #[arg(long, hide = true)]
    pub(crate) disable_content_trust: bool,
    /// Format of the manifest (oci, v2s2), where it is not to stay as it is
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Further tries after a failure that may pass
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub(crate) retry: u32,
    /// Time between tries, such as 2s (1s, then twice as long each time)
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Name at the registry (the image's own)
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,
}

/// `davit login`
#[derive(Args, Clone, Debug)]
pub(crate) struct LoginArgs {
    /// File that keeps the credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Docker configuration file that keeps the credentials
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Print the user that is logged in
    #[arg(long)]
    pub(crate) get_login: bool,
    /// Password; others on this host can see it: --password-stdin is safer
    #[arg(long, short = 'p', value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Check certificates of registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
    /// User
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Say where the credentials are kept
    #[arg(long, short = 'v')]
    pub(crate) verbose: bool,
    /// Registry, or repository of one
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
}

/// `davit logout`
#[derive(Args, Clone, Debug)]
pub(crate) struct LogoutArgs {
    /// All registries
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File that keeps the credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Docker configuration file that keeps the credentials
    #[arg(long, value_name = "FILE", conflicts_with = "authfile")]
    pub(crate) compat_auth_file: Option<PathBuf>,
    /// Registry, or repository of one
    #[arg(value_name = "REGISTRY", required_unless_present = "all")]
    pub(crate) registry: Option<String>,
}

/// `davit registry …`
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Offer the local store as a registry: other machines and tools pull from it and push to it
    Serve(Deferred<RegistryServeArgs>),
}

/// `davit registry serve`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "An image that is called localhost/app here is HOST:PORT/app there, and docker.io/library/debian is
HOST:PORT/docker.io/library/debian, or HOST:PORT/library/debian for a mirror of Docker's hub. What is pushed to HOST:PORT/app
is localhost/app here. There is neither encryption nor a password: listen on an address that only friends can reach."
)]
pub(crate) struct RegistryServeArgs {
    /// Address and port to listen on; port 0 is a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: String,
    /// Nothing can be pushed or deleted
    #[arg(long, alias = "read-only")]
    pub(crate) readonly: bool,
}
