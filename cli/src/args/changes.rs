//! What containers changed: `commit`, `cp`, `diff`, `export`.

use std::path::PathBuf;

use clap::Args;

use super::parse_go_bool;

/// `davit commit`
#[derive(Args, Clone, Debug)]
pub(crate) struct CommitArgs {
    /// Who made the image
    #[arg(long, short = 'a', value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) author: String,
    /// Containerfile instruction that changes the image's config (repeatable)
    #[arg(long, short = 'c', value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// File with a config as JSON, which counts more than the container's and less than --change
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Media types of the image's manifest (oci, docker)
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "oci", value_parser = ["oci", "docker"], hide_possible_values = true)]
    pub(crate) format: String,
    /// File to write the image's ID to
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// The places of the container's mounts become volumes of the image
    #[arg(long)]
    pub(crate) include_volumes: bool,
    /// What the image's history says about it
    #[arg(long, short = 'm', value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    /// Freeze the container meanwhile
    #[arg(long, short = 'p')]
    pub(crate) pause: bool,
    /// Print nothing but the ID
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// One layer instead of the image's and one more
    #[arg(long, short = 's')]
    pub(crate) squash: bool,
    /// Container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// Name of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// `davit cp`
#[derive(Args, Clone, Debug)]
pub(crate) struct CpArgs {
    /// What comes into a container belongs to its user
    #[arg(long, short = 'a', value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) archive: bool,
    /// A directory may take the place of a file, and a file that of a directory
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Accepted for Podman: an archive is unpacked in any case
    #[arg(long, hide = true)]
    pub(crate) extract: bool,
    /// Accepted for Podman: nothing is frozen in any case
    #[arg(long, hide = true)]
    pub(crate) pause: bool,
    /// Accepted for Docker: a link that is named is always followed
    #[arg(long, short = 'L', hide = true)]
    pub(crate) follow_link: bool,
    /// Accepted for Docker: nothing is printed in any case
    #[arg(long, short = 'q', hide = true)]
    pub(crate) quiet: bool,
    /// What is copied: a path, CONTAINER:PATH, or - for an archive on standard input
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Where to: a path, CONTAINER:PATH, or - for an archive on standard output
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
}

/// `davit diff`, `davit container diff`, `davit image diff`
#[derive(Args, Clone, Debug)]
pub(crate) struct DiffArgs {
    /// json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Container or image
    #[arg(value_name = "NAME", required_unless_present = "latest", conflicts_with = "latest")]
    pub(crate) name: Option<String>,
    /// Container or image that it is compared with
    #[arg(value_name = "OTHER")]
    pub(crate) other: Option<String>,
}

/// `davit export`
#[derive(Args, Clone, Debug)]
pub(crate) struct ExportArgs {
    /// File to write to, instead of standard output
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}
