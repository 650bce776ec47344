//! Images of the local store.

use std::path::PathBuf;

use clap::Args;

use super::PolicyArgs;

/// `davit images`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImagesArgs {
    /// Show intermediate images too
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Only images that match KEY=VALUE (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Whole IDs
    #[arg(long, alias = "notruncate")]
    pub(crate) no_trunc: bool,
    /// No line of headings
    #[arg(long, short = 'n')]
    pub(crate) noheading: bool,
    /// IDs alone
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Order (created, id, repository, size, tag)
    #[arg(long, value_name = "KEY", default_value = "created", value_parser = ["created", "id", "repository", "size", "tag"], hide_possible_values = true)]
    pub(crate) sort: String,
    /// Only this image's names
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// `davit history`
#[derive(Args, Clone, Debug)]
pub(crate) struct HistoryArgs {
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Sizes and times for people
    #[arg(long, short = 'H', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = super::parse_go_bool, action = clap::ArgAction::Set, hide_possible_values = true)]
    pub(crate) human: bool,
    /// Whole IDs and commands
    #[arg(long, alias = "notruncate")]
    pub(crate) no_trunc: bool,
    /// Platform of the image of a list, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// IDs alone
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `davit image inspect`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageInspectArgs {
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "json")]
    pub(crate) format: String,
    /// Platform of the image of a list, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `davit image exists`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageExistsArgs {
    /// Image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `davit image prune`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImagePruneArgs {
    /// Also images that have a name and no container
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Only images that match KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
}

/// `davit rmi`
#[derive(Args, Clone, Debug)]
pub(crate) struct RmiArgs {
    /// All images
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Also images with several names or with containers, which are removed
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// A missing image is no error
    #[arg(long, short = 'i')]
    pub(crate) ignore: bool,
    /// Images
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    pub(crate) images: Vec<String>,
}

/// `davit tag`
#[derive(Args, Clone, Debug)]
pub(crate) struct TagArgs {
    /// Image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Further names
    #[arg(value_name = "TARGET_NAME", required = true)]
    pub(crate) names: Vec<String>,
}

/// `davit untag`
#[derive(Args, Clone, Debug)]
pub(crate) struct UntagArgs {
    /// Image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Names to take away (all)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `davit save`
#[derive(Args, Clone, Debug)]
pub(crate) struct SaveArgs {
    /// Compress layers that are plain; with docker-dir
    #[arg(long)]
    pub(crate) compress: bool,
    /// Format (docker-archive, oci-archive, oci-dir, docker-dir)
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    pub(crate) format: String,
    /// Every argument is an image of the archive; else one that no image has is a further name of the first
    #[arg(long, short = 'm')]
    pub(crate) multi_image_archive: bool,
    /// File or directory to write (standard output)
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Platform of images that are lists, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Layers without compression; with oci-archive and oci-dir
    #[arg(long, conflicts_with = "compress")]
    pub(crate) uncompressed: bool,
    /// Images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `davit load`
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// File or directory to read (standard input)
    #[arg(long, short = 'i', value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Platform of images, OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
}

/// `davit import`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImportArgs {
    /// Architecture of the image
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Instruction that changes the image's configuration (repeatable)
    #[arg(long, short = 'c', value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Comment in the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Operating system of the image
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// No progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) trust: PolicyArgs,
    /// Variant of the architecture of the image
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,
    /// Tar archive, or - for standard input
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Name of the image
    #[arg(value_name = "REFERENCE")]
    pub(crate) reference: Option<String>,
}

/// `davit image tree`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageTreeArgs {
    /// The layers and images that are made on it instead
    #[arg(long)]
    pub(crate) whatrequires: bool,
    /// Image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}
