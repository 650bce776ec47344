//! `manifest`: lists of images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{RegistryArgs, SignArgs, parse_go_bool};

/// `davit manifest …`
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Add images to a list; what is not in the local store is pulled
    Add(ManifestAddArgs),
    /// Say more of an image in a list
    Annotate(ManifestAnnotateArgs),
    /// Make a list of images
    Create(ManifestCreateArgs),
    /// Exit with 0 if a list exists and with 1 if not
    Exists(ManifestNameArgs),
    /// Print the index that a list is sent as, or what a registry has under a name
    Inspect(ManifestInspectArgs),
    /// Send a list with all its images to a registry
    Push(ManifestPushArgs),
    /// Take an image out of a list
    Remove(ManifestRemoveArgs),
    /// Remove lists; their images stay
    Rm(ManifestRmArgs),
}

/// `davit manifest create`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestCreateArgs {
    /// All images of those that are lists themselves
    #[arg(long)]
    pub(crate) all: bool,
    /// Add to the list if it exists
    #[arg(long, short = 'a')]
    pub(crate) amend: bool,
    /// Annotation KEY=VALUE of the index (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Images that it begins with; what is not in the local store is pulled
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `davit manifest add`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestAddArgs {
    /// All images of one that is a list itself
    #[arg(long)]
    pub(crate) all: bool,
    /// Annotation KEY=VALUE of the entry (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Architecture of the entry (the image's)
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Operating system of the entry (the image's)
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// Version of the operating system of the entry
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,
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

/// `davit manifest annotate`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestAnnotateArgs {
    /// Annotation KEY=VALUE of the entry, with --index of the index (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Architecture
    #[arg(long, value_name = "ARCH", conflicts_with = "index")]
    pub(crate) arch: Option<String>,
    /// Annotate the index, not an image in it
    #[arg(long)]
    pub(crate) index: bool,
    /// Operating system
    #[arg(long, value_name = "OS", conflicts_with = "index")]
    pub(crate) os: Option<String>,
    /// Feature of the operating system (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "FEATURE", conflicts_with = "index")]
    pub(crate) os_features: Vec<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION", conflicts_with = "index")]
    pub(crate) os_version: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT", conflicts_with = "index")]
    pub(crate) variant: Option<String>,
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Image, or digest of its manifest
    #[arg(value_name = "IMAGE", required_unless_present = "index")]
    pub(crate) image: Option<String>,
}

/// `davit manifest remove`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestRemoveArgs {
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Digest of the image's manifest, or the image
    #[arg(value_name = "DIGEST")]
    pub(crate) image: String,
}

/// `davit manifest push`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestPushArgs {
    /// Accepted for Podman: all images of a list are sent
    #[arg(long, hide = true, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = always, hide_possible_values = true)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Compression of layers that have none yet (gzip, zstd)
    #[arg(long, value_name = "FORMAT")]
    pub(crate) compression_format: Option<String>,
    /// Write the index's digest to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// Format of the index and its manifests (oci, v2s2); what they have where none is given
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Remove the list once it is sent; its images stay
    #[arg(long)]
    pub(crate) rm: bool,
    /// As --rm, for Docker
    #[arg(long, short = 'p', hide = true)]
    pub(crate) purge: bool,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Name at the registry (the list's own)
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,
}

/// `davit manifest inspect`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestInspectArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// List, or name at a registry
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
}

/// `davit manifest exists`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestNameArgs {
    /// List
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
}

/// `davit manifest rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestRmArgs {
    /// A list that is not there is no failure
    #[arg(long, short = 'i')]
    pub(crate) ignore: bool,
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
