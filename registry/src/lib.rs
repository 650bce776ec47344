//! References, credentials, the distribution client and the transports.
//!
//! - [`Reference`], [`Name`], [`ShortName`]: image names, their grammar and their normal form.
//! - [`Registries`]: `registries.conf`: mirrors, insecure and blocked registries, short names.
//! - [`auth`]: credential files and helpers, [`Keychain`], [`Secret`].
//! - [`Client`]: the blocking distribution client.
//! - [`transport`]: [`Source`] and [`Destination`] and their forms: registry, OCI layout, OCI archive, Docker
//!   archive, `dir`.
//! - [`copy()`]: an image from any source to any destination; push, pull, save and load are this with other ends.
//! - [`trust`]: which images may be used: policies, signatures of both kinds, and making them.
//! - [`testing`]: a registry in this process, with faults on demand.
//!
//! The crate reads no environment and knows no home directory: paths and settings come from the caller.
#![forbid(unsafe_code)]

pub mod auth;
pub mod client;
pub mod config;
pub mod copy;
mod error;
mod files;
pub mod reference;
pub mod testing;
pub mod transport;
pub mod trust;
mod url;

pub use auth::{Credentials, Keychain, NoKeychain, Secret};
pub use client::{Client, ClientOptions};
pub use config::Registries;
pub use copy::{CopyOptions, Event, Report, Selection, copy};
pub use error::{ApiError, Error, Result};
pub use reference::{Name, Reference, ShortName};
pub use transport::{Blob, BlobRole, Destination, Placement, Source, Which};
