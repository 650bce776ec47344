//! A registry as source or destination.

use super::{Blob, Destination, Placement, Source, Which};
use crate::client::Client;
use crate::{Reference, Result};
use oci::{Descriptor, ManifestOrIndex, Raw};
use std::io::Read;

/// An image in a registry, or in one of its mirrors.
#[derive(Debug)]
pub struct RemoteSource {
    client: Client,
    reference: Reference,
}

impl RemoteSource {
    /// The image of a name. Mirrors of the configuration are tried first.
    pub fn new(client: &Client, reference: &Reference) -> Result<Self> {
        Ok(Self { client: client.clone(), reference: reference.clone() })
    }
}

impl Source for RemoteSource {
    fn describe(&self) -> String {
        self.reference.to_string()
    }

    fn manifest(&self, _which: Which<'_>) -> Result<Raw<ManifestOrIndex>> {
        let _ = &self.client;
        todo!()
    }

    fn blob(&self, _descriptor: &Descriptor, _offset: u64) -> Result<Box<dyn Read + Send + '_>> {
        todo!()
    }
}

/// A name in a registry to push to.
#[derive(Debug)]
pub struct RemoteDestination {
    client: Client,
    reference: Reference,
}

impl RemoteDestination {
    /// Pushes to this name.
    pub fn new(client: &Client, reference: &Reference) -> Self {
        Self { client: client.clone(), reference: reference.clone() }
    }
}

impl Destination for RemoteDestination {
    fn describe(&self) -> String {
        self.reference.to_string()
    }

    fn has_blob(&self, _descriptor: &Descriptor) -> Result<bool> {
        let _ = &self.client;
        todo!()
    }

    fn put_blob(&self, _blob: &Blob<'_>) -> Result<()> {
        todo!()
    }

    fn put_manifest(&self, _raw: &Raw<ManifestOrIndex>, _placement: Placement) -> Result<()> {
        todo!()
    }
}
