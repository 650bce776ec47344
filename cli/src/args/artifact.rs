//! `davit artifact …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Deferred, RegistryArgs, SignArgs};

/// `davit artifact …`
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// Make an artifact of files, or add files to one
    Add(Deferred<ArtifactAddArgs>),
    /// Write the files of an artifact to a directory, or one of them to a file
    Extract(Deferred<ArtifactExtractArgs>),
    /// Describe an artifact as JSON
    Inspect(Deferred<ArtifactInspectArgs>),
    /// List the artifacts of the local store
    #[command(visible_alias = "list")]
    Ls(Deferred<ArtifactLsArgs>),
    /// Fetch an artifact from a registry
    Pull(Deferred<ArtifactPullArgs>),
    /// Send an artifact to a registry
    Push(Deferred<ArtifactPushArgs>),
    /// Remove artifacts from the local store
    #[command(visible_alias = "remove")]
    Rm(Deferred<ArtifactRmArgs>),
}

/// `davit artifact add`
#[derive(Args, Clone, Debug)]
pub(crate) struct ArtifactAddArgs {
    /// Annotation KEY=VALUE of the files (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Add the files to the artifact that is there
    #[arg(long, short = 'a')]
    pub(crate) append: bool,
    /// Media type of the files (told from how each begins)
    #[arg(long, value_name = "TYPE")]
    pub(crate) file_type: Option<String>,
    /// Take the place of the artifact that is there
    #[arg(long)]
    pub(crate) replace: bool,
    /// Type of the artifact
    #[arg(long, value_name = "TYPE")]
    pub(crate) r#type: Option<String>,
    /// Name of the artifact
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: String,
    /// Files
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// `davit artifact extract`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "In a directory, files are called by their titles (org.opencontainers.image.title), those without one by their digests.
What is there is replaced."
)]
pub(crate) struct ArtifactExtractArgs {
    /// Only the file of this digest
    #[arg(long, value_name = "DIGEST", conflicts_with = "title")]
    pub(crate) digest: Option<String>,
    /// Only the file of this title
    #[arg(long, value_name = "TITLE")]
    pub(crate) title: Option<String>,
    /// Artifact
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: String,
    /// A directory, or the file to write
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

/// `davit artifact inspect`
#[derive(Args, Clone, Debug)]
pub(crate) struct ArtifactInspectArgs {
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "json")]
    pub(crate) format: String,
    /// Artifact
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: String,
}

/// `davit artifact ls`
#[derive(Args, Clone, Debug)]
pub(crate) struct ArtifactLsArgs {
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Whole digests
    #[arg(long, alias = "notruncate")]
    pub(crate) no_trunc: bool,
    /// No line of headings
    #[arg(long, short = 'n')]
    pub(crate) noheading: bool,
}

/// `davit artifact pull`
#[derive(Args, Clone, Debug)]
pub(crate) struct ArtifactPullArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Print nothing but the artifact's digest
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Further tries after a failure that may pass
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub(crate) retry: u32,
    /// Time between tries, such as 2s (1s, then twice as long each time)
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_delay: Option<String>,
    /// Artifact
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: String,
}

/// `davit artifact push`
#[derive(Args, Clone, Debug)]
pub(crate) struct ArtifactPushArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Write the manifest's digest to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
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
    /// Artifact
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: String,
    /// Name at the registry (the artifact's own)
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,
}

/// `davit artifact rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct ArtifactRmArgs {
    /// All artifacts
    #[arg(long, short = 'a', conflicts_with = "artifacts")]
    pub(crate) all: bool,
    /// A missing artifact is no failure
    #[arg(long, short = 'i')]
    pub(crate) ignore: bool,
    /// Artifacts
    #[arg(value_name = "ARTIFACT", required_unless_present = "all")]
    pub(crate) artifacts: Vec<String>,
}
