//! Sigstore signatures beside an image in its registry: a manifest under the tag `ALGORITHM-HEX.sig` whose layers are the
//! signed payloads.

use crate::client::Client;
use crate::config::Endpoint;
use crate::trust::{Budget, MAX_SIGNATURES, Signature};
use crate::{Error, Reference, Result};
use oci::{Descriptor, Digest, Manifest, ManifestOrIndex, Raw, media_type};
use std::io::{Cursor, Read};

/// Most bytes of the config, which lists the payloads once more.
const MAX_CONFIG: u64 = 1 << 20;

/// The name of the signatures of a manifest.
fn tag(reference: &Reference, digest: &Digest) -> Result<Reference> {
    reference.with_tag(&format!("{}-{}.sig", digest.algorithm().as_str(), digest.hex()))
}

/// Reads the signatures of a manifest.
pub(super) fn read(client: &Client, endpoint: &Endpoint, digest: &Digest) -> Result<Vec<Signature>> {
    let name = tag(&endpoint.reference, digest)?;
    let raw = match client.endpoint_manifest(&name, endpoint.insecure) {
        Ok(raw) => raw,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let manifest = own(&raw, &name)?;
    let mut found = Vec::new();
    let mut budget = Budget::default();
    for layer in manifest.layers.iter().take(MAX_SIGNATURES) {
        budget.take(layer.size, &name.to_string())?;
        let reader = client.endpoint_blob(&name, endpoint.insecure, layer, 0)?;
        found.push(Signature::Sigstore {
            media_type: layer.media_type.clone(),
            payload: read_all(reader, layer, &name)?,
            annotations: layer.annotations.clone(),
        });
    }
    Ok(found)
}

/// Reads the signatures that a manifest has in the registry itself.
pub(super) fn stored(client: &Client, reference: &Reference, digest: &Digest) -> Result<Vec<Signature>> {
    let insecure = client.is_insecure(reference);
    read(client, &Endpoint { reference: reference.clone(), insecure, mirror: false }, digest)
}

fn own<'a>(raw: &'a Raw<ManifestOrIndex>, name: &Reference) -> Result<&'a Manifest> {
    raw.value().manifest().ok_or_else(|| Error::Signing {
        what: format!("signatures {name}"),
        message: "they are an index, not a manifest".to_owned(),
    })
}

fn read_all(reader: impl Read, descriptor: &Descriptor, name: &Reference) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    super::Verified::new(reader, descriptor.clone(), name.to_string())
        .read_to_end(&mut bytes)
        .map_err(Error::stream(format!("read {name}")))?;
    Ok(bytes)
}

/// Adds signatures of a manifest to those that are there; equal ones stay single.
pub(super) fn write(
    client: &Client,
    reference: &Reference,
    digest: &Digest,
    signatures: &[Signature],
) -> Result<()> {
    let name = tag(reference, digest)?;
    let mut manifest = match client.manifest(&name) {
        Ok(raw) => own(&raw, &name)?.clone(),
        Err(error) if error.is_not_found() => {
            Manifest::new(Descriptor::of(media_type::OCI_CONFIG, b"{}"), Vec::new())
        }
        Err(error) => return Err(error),
    };
    let before = manifest.layers.len();
    for signature in signatures {
        let Signature::Sigstore { media_type, payload, annotations } = signature else { continue };
        let mut layer = Descriptor::of(media_type.clone(), payload);
        layer.annotations.clone_from(annotations);
        if manifest.layers.contains(&layer) {
            continue;
        }
        upload(client, &name, &layer, payload)?;
        manifest.layers.push(layer);
    }
    if manifest.layers.len() == before {
        return Ok(());
    }
    let config = config(client, &name, &manifest)?;
    manifest.config = Descriptor::of(media_type::OCI_CONFIG, &config);
    upload(client, &name, &manifest.config, &config)?;
    let raw =
        Raw::from_value(ManifestOrIndex::Manifest(manifest)).map_err(Error::document(name.to_string()))?;
    client.put_manifest(&name, &raw)
}

/// The config: that of the earlier signatures, if there is one, with the layers as they are now.
fn config(client: &Client, name: &Reference, manifest: &Manifest) -> Result<Vec<u8>> {
    let diff_ids: Vec<&str> = manifest.layers.iter().map(|layer| layer.digest.as_str()).collect();
    let mut value = serde_json::json!({
        "architecture": "", "config": {}, "history": [], "os": "", "rootfs": { "type": "layers", "diff_ids": [] },
    });
    if manifest.config.size > 2 && manifest.config.size <= MAX_CONFIG {
        let reader = client.blob(name, &manifest.config, 0)?;
        let bytes = read_all(reader, &manifest.config, name)?;
        // one that is no object says nothing that could be kept
        if let Ok(serde_json::Value::Object(old)) = serde_json::from_slice(&bytes) {
            value = serde_json::Value::Object(old);
        }
    }
    value["rootfs"] = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
    Ok(value.to_string().into_bytes())
}

fn upload(client: &Client, name: &Reference, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
    if client.has_blob(name, &descriptor.digest)? {
        return Ok(());
    }
    client.upload_blob(name, descriptor, &|| {
        let reader: Box<dyn Read + Send + '_> = Box::new(Cursor::new(bytes));
        Ok(reader)
    })
}
