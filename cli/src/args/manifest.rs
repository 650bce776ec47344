//! `manifest`: lists of images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::parse_go_bool;

/// `davit manifest …`
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Add images to a list; what is not in the local store is pulled
    Add(ManifestAddArgs),
    /// Make a list of images
    Create(ManifestCreateArgs),
    /// Exit with 0 if a list exists and with 1 if not
    Exists(ManifestNameArgs),
    /// Print the index that a list is sent as
    Inspect(ManifestNameArgs),
    /// Send a list with all its images to a registry
    Push(ManifestPushArgs),
    /// Remove lists; their images stay
    Rm(ManifestRmArgs),
}

/// `davit manifest create`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestCreateArgs {
    /// Add to the list if it exists
    #[arg(long, short = 'a')]
    pub(crate) amend: bool,
    /// Annotation KEY=VALUE of the index (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Images that it begins with
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `davit manifest add`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestAddArgs {
    /// Annotation KEY=VALUE of the entry (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Architecture of the entry (the image's)
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// File with registry credentials
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE", hide_env_values = true)]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Credentials for the registry, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,
    /// Operating system of the entry (the image's)
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// Check certificates of registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
    /// Variant of the architecture of the entry (the image's)
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `davit manifest push`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestPushArgs {
    /// Accepted for Podman: all images of a list are sent
    #[arg(long, hide = true, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = always, hide_possible_values = true)]
    pub(crate) all: bool,
    /// File with registry credentials
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE", hide_env_values = true)]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Credentials for the registry, USER[:PASSWORD]
    #[arg(long, value_name = "USER[:PASSWORD]")]
    pub(crate) creds: Option<String>,
    /// Write the index's digest to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Remove the list once it is sent; its images stay
    #[arg(long)]
    pub(crate) rm: bool,
    /// Check certificates of registries
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = parse_go_bool, hide_possible_values = true)]
    pub(crate) tls_verify: Option<bool>,
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Name at the registry (the list's own)
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,
}

/// `davit manifest inspect`, `davit manifest exists`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestNameArgs {
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
}

/// `davit manifest rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestRmArgs {
    /// Lists
    #[arg(value_name = "LIST", required = true)]
    pub(crate) lists: Vec<String>,
}

/// An index without its images is not sent.
fn always(text: &str) -> Result<bool, String> {
    match parse_go_bool(text)? {
        true => Ok(true),
        false => Err("an index is only sent with all its images".to_owned()),
    }
}
