//! Signatures and the policy for images.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Deferred;

/// Which images may be used.
#[derive(Args, Clone, Debug)]
pub(crate) struct PolicyArgs {
    /// Policy for images, instead of the user's or the system's policy.json
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) signature_policy: Option<PathBuf>,
}

/// Who signs what is pushed.
#[derive(Args, Clone, Debug)]
pub(crate) struct SignArgs {
    /// Accepted for Podman: the store keeps no signatures that a push could take along
    #[arg(long, hide = true)]
    pub(crate) remove_signatures: bool,
    /// Sign with this key of the GPG keyring
    #[arg(long, value_name = "KEY")]
    pub(crate) sign_by: Option<String>,
    /// Sign as this file of parameters says (privateKeyFile, privateKeyPassphraseFile)
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_by_sigstore: Option<PathBuf>,
    /// Sign with this private key for sigstore
    #[arg(long, value_name = "FILE", conflicts_with = "sign_by_sigstore")]
    pub(crate) sign_by_sigstore_private_key: Option<PathBuf>,
    /// File whose first line unlocks the signing key
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_passphrase_file: Option<PathBuf>,
}

/// `davit image sign`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageSignArgs {
    /// Every image of a list, instead of the list
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// File with registry credentials
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,
    /// Directory for the signatures (as registries.d says)
    #[arg(long, short = 'd', value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Key of the GPG keyring
    #[arg(long, value_name = "KEY")]
    pub(crate) sign_by: Option<String>,
    /// Images in registries
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `davit image trust …`
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Say which images may be used
    Set(Deferred<TrustSetArgs>),
    /// Show which images may be used
    Show(Deferred<TrustShowArgs>),
}

/// `davit image trust set`
#[derive(Args, Clone, Debug)]
pub(crate) struct TrustSetArgs {
    /// Policy to change (the user's or the system's policy.json)
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) policypath: Option<PathBuf>,
    /// File with public keys: an image needs a signature of each file (repeatable)
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) pubkeysfile: Vec<PathBuf>,
    /// What must hold (signedBy, sigstoreSigned, accept, reject)
    #[arg(long, short = 't', value_name = "TYPE", default_value = "signedBy")]
    pub(crate) r#type: String,
    /// Registry, namespace, repository or name; default for what counts where nothing else does
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: String,
}

/// `davit image trust show`
#[derive(Args, Clone, Debug)]
pub(crate) struct TrustShowArgs {
    /// As JSON
    #[arg(long, short = 'j')]
    pub(crate) json: bool,
    /// No line of headings
    #[arg(long, short = 'n')]
    pub(crate) noheading: bool,
    /// Policy to show (the one that counts)
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) policypath: Option<PathBuf>,
    /// The policy file as it is
    #[arg(long)]
    pub(crate) raw: bool,
    /// Directory that says where signatures lie (registries.d)
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) registrypath: Option<PathBuf>,
    /// Only what is said of this registry, and the default
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
}
