//! Which images may be used, and signing those that leave.
//!
//! ```text
//! policy.json ──> Policy ─┐                          ┌─ gpgv             (simple signing)
//! Source ──> Origin ──────┼─> Gate::may_be_used ─────┤
//!        ──> Signatures ──┘                          └─ keys, Rekor, certificates (sigstore)
//! ```
//!
//! - [`Policy`]: what must hold of an image, by its [`Origin`]: transport and scopes.
//! - [`Gate`]: the one question, asked before the first blob of a manifest moves.
//! - [`Signature`]: what is kept: beside an image in its registry (an *attachment*), in a lookaside place
//!   ([`SignatureConfig`]), or in a directory with the image.
//! - [`ImageSigner`]: makes signatures for what is pushed.
//!
//! Two rules: what was signed is parsed only after the signature was found good, and strictly; and whatever is not
//! understood is refused.

mod certificate;
mod encoding;
mod gate;
mod gpg;
mod identity;
mod json;
mod keys;
mod lookaside;
mod parameters;
mod payload;
mod policy;
mod private_key;
mod registries_d;
mod rekor;
mod scope;
mod signature;
mod signer;
mod sigstore;

pub use gate::Gate;
pub use gpg::owners;
pub use identity::SignedIdentity;
pub use keys::PublicKey;
pub use parameters::SigningParameters;
pub use payload::{Kind, Payload};
pub use policy::{Keyless, Material, Policy, Requirement, Signer};
pub use private_key::{KeyError, PrivateKey};
pub use registries_d::{Namespace, Place, SignatureConfig, SignaturePaths};
pub use scope::Origin;
pub(crate) use signature::Budget;
pub use signature::{MAX_SIGNATURE, MAX_SIGNATURES, SIGSTORE_TYPE, Signature, Signatures};
pub use signer::ImageSigner;

pub(crate) use certificate::promises_of_certificate;
pub(crate) use rekor::promises_of_bundle;

pub(crate) use lookaside::{add as add_signature, read_place, write_place};
