//! The transparency log's word that it holds a signature: a bundle that Rekor signed, kept beside the signature.

use super::encoding::pem;
use super::json::{Parsed, Strict, base64};
use super::keys::PublicKey;
use oci::Digest;

/// What the log must have written down.
pub(super) struct Entry<'a> {
    /// Whose signature: the key or the certificate, DER.
    pub(super) signer: &'a [u8],
    /// The signature's bytes.
    pub(super) signature: &'a [u8],
    /// What was signed.
    pub(super) payload: &'a [u8],
}

/// When the log took the entry in, seconds since 1970, if one of these keys says so.
pub(super) fn verify(keys: &[PublicKey], bundle: &str, entry: &Entry<'_>) -> Parsed<i64> {
    let mut object = Strict::parse(bundle.as_bytes())?.object("Rekor's bundle")?;
    let signature = object.base64("SignedEntryTimestamp")?;
    let mut payload = object.object("Payload")?;
    object.end()?;
    let body = payload.text("body")?;
    let integrated = payload.integer("integratedTime")?;
    let index = payload.integer("logIndex")?;
    let log = payload.text("logID")?;
    payload.end()?;
    // The signature is over the canonical form (RFC 8785): sorted keys, no blanks. These texts need no escapes, and such
    // numbers are written as they are.
    let plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    let exact = |number: i64| (0..=1 << 53).contains(&number);
    if !plain(&body) || !plain(&log) || !exact(integrated) || !exact(index) {
        return Err("Rekor's bundle has values that no log writes".to_owned());
    }
    let canonical = format!(
        "{{\"body\":\"{body}\",\"integratedTime\":{integrated},\"logID\":\"{log}\",\"logIndex\":{index}}}"
    );
    if !keys.iter().any(|key| key.verify(canonical.as_bytes(), &signature)) {
        return Err("Rekor's bundle is not signed with a key of the policy".to_owned());
    }
    let body = base64(&body).ok_or("Rekor's entry is not valid base64")?;
    check(&body, entry)?;
    Ok(integrated)
}

fn check(body: &[u8], entry: &Entry<'_>) -> Parsed<()> {
    let mut object = Strict::parse(body)?.object("Rekor's entry")?;
    if object.text("kind")? != "hashedrekord" || object.text("apiVersion")? != "0.0.1" {
        return Err("Rekor's entry is no hashedrekord 0.0.1".to_owned());
    }
    let mut spec = object.object("spec")?;
    let mut signature = spec.object("signature")?;
    if signature.base64("content")? != entry.signature {
        return Err("Rekor's entry is for another signature".to_owned());
    }
    let signer = signature.object("publicKey")?.base64("content")?;
    let mut blocks = pem(&signer)?.into_iter();
    match (blocks.next(), blocks.next()) {
        (Some(block), None) if block.bytes == entry.signer => {}
        _ => return Err("Rekor's entry is for another signer".to_owned()),
    }
    let mut hash = spec.object("data")?.object("hash")?;
    let digest = format!("{}:{}", hash.text("algorithm")?, hash.text("value")?);
    if digest != Digest::of(entry.payload).as_str() {
        return Err("Rekor's entry is for another payload".to_owned());
    }
    Ok(())
}

/// Whatever the bytes are, without a key no log says so.
pub(crate) fn promises_of_bundle(bytes: &[u8]) {
    let entry = Entry { signer: b"", signature: b"", payload: b"" };
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(verify(&[], text, &entry).is_err());
    }
    let _ = check(bytes, &entry);
}
