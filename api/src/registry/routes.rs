//! The routes of the distribution specification 1.1, over what the engine offers.

use super::http::{Body, Payload, Request, Response};
use engine::share::Share;
use engine::{Error, ErrorKind};
use serde_json::json;
use std::io::Read;

/// Largest manifest that is taken, bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// Most names of one page of a list.
const PAGE: usize = 1000;

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    Base,
    Catalog,
    Tags(&'a str),
    Manifest(&'a str, &'a str),
    Blob(&'a str, &'a str),
    Uploads(&'a str),
    Upload(&'a str, &'a str),
    Referrers(&'a str, &'a str),
}

fn route(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix("/v2")?;
    if matches!(rest, "" | "/") {
        return Some(Route::Base);
    }
    let rest = rest.strip_prefix('/')?;
    if rest == "_catalog" {
        return Some(Route::Catalog);
    }
    // the name may hold any of the words: the last one counts
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some(Route::Tags(name));
    }
    for uploads in ["/blobs/uploads/", "/blobs/uploads"] {
        if let Some(name) = rest.strip_suffix(uploads) {
            return Some(Route::Uploads(name));
        }
    }
    let (front, last) = rest.rsplit_once('/')?;
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        return Some(Route::Upload(name, last));
    }
    for (word, make) in [
        ("/manifests", Route::Manifest as fn(_, _) -> _),
        ("/blobs", Route::Blob as fn(_, _) -> _),
        ("/referrers", Route::Referrers as fn(_, _) -> _),
    ] {
        if let Some(name) = front.strip_suffix(word) {
            return Some(make(name, last));
        }
    }
    None
}

/// An error as the specification writes it.
fn refusal(status: u16, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message, "detail": null}]}).to_string();
    Response::new(status).with("Content-Type", "application/json").carrying(Payload::Bytes(body.into_bytes()))
}

/// How an error of the engine is told; `missing` is the code for what is not there.
fn failure(error: &Error, missing: &str, bad: &str) -> Response {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        message += &format!(": {next}");
        cause = next.source();
    }
    match error.kind() {
        ErrorKind::NotFound => refusal(404, missing, &message),
        ErrorKind::Invalid | ErrorKind::Unsupported => refusal(400, bad, &message),
        ErrorKind::Denied => refusal(403, "DENIED", &message),
        _ => refusal(500, "UNKNOWN", &message),
    }
}

/// Answers one request.
pub(super) fn answer(share: &Share, readonly: bool, request: &Request, body: &mut Body<'_>) -> Response {
    let Some(route) = route(&request.path) else {
        return refusal(404, "NAME_INVALID", "there is no such path");
    };
    let writes = !matches!(request.method.as_str(), "GET" | "HEAD");
    if writes && readonly {
        return refusal(405, "UNSUPPORTED", "this registry is read-only");
    }
    let response = match (request.method.as_str(), &route) {
        ("GET" | "HEAD", Route::Base) => Response::new(200)
            .with("Content-Type", "application/json")
            .carrying(Payload::Bytes(b"{}".to_vec())),
        ("GET" | "HEAD", Route::Catalog) => catalog(share, request),
        ("GET" | "HEAD", Route::Tags(name)) => tags(share, request, name),
        ("GET" | "HEAD", Route::Manifest(name, target)) => manifest(share, name, target),
        ("GET" | "HEAD", Route::Blob(_, digest)) => blob(share, request, digest),
        ("GET" | "HEAD", Route::Referrers(name, digest)) => referrers(share, request, name, digest),
        ("GET", Route::Upload(name, id)) => match share.upload_size(id) {
            Ok(size) => progress(204, name, id, size),
            Err(error) => failure(&error, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"),
        },
        ("PUT", Route::Manifest(name, target)) => put_manifest(share, request, body, name, target),
        ("DELETE", Route::Manifest(name, target)) => match share.delete_manifest(name, target) {
            Ok(()) => Response::new(202),
            Err(error) => failure(&error, "MANIFEST_UNKNOWN", "MANIFEST_INVALID"),
        },
        ("POST", Route::Uploads(name)) => begin(share, request, body, name),
        ("PATCH", Route::Upload(name, id)) => append(share, request, body, name, id),
        ("PUT", Route::Upload(name, id)) => finish(share, request, body, name, id),
        ("DELETE", Route::Upload(_, id)) => match share.cancel_upload(id) {
            Ok(()) => Response::new(204),
            Err(error) => failure(&error, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"),
        },
        _ => refusal(405, "UNSUPPORTED", "this is not offered here"),
    };
    if request.method == "HEAD" { response.head() } else { response }
}

fn json_answer(value: &serde_json::Value) -> Response {
    Response::new(200)
        .with("Content-Type", "application/json")
        .carrying(Payload::Bytes(value.to_string().into_bytes()))
}

/// One page of a sorted list, and the header that leads to the next.
fn page(request: &Request, all: Vec<String>) -> (Vec<String>, Option<String>) {
    let last = request.parameter("last").unwrap_or_default();
    let wanted = request.parameter("n").and_then(|text| text.parse::<usize>().ok()).unwrap_or(PAGE);
    let mut rest = all.into_iter().filter(|name| last.is_empty() || name.as_str() > last);
    let names: Vec<String> = rest.by_ref().take(wanted.min(PAGE)).collect();
    let next = rest.next().and(names.last()).map(|last| {
        let number = names.len();
        format!("<{}?n={number}&last={last}>; rel=\"next\"", request.path)
    });
    (names, next)
}

fn listed(
    request: &Request,
    all: Vec<String>,
    make: impl FnOnce(&[String]) -> serde_json::Value,
) -> Response {
    let (names, next) = page(request, all);
    let response = json_answer(&make(&names));
    match next {
        Some(next) => response.with("Link", next),
        None => response,
    }
}

fn catalog(share: &Share, request: &Request) -> Response {
    match share.repositories() {
        Ok(all) => listed(request, all, |names| json!({"repositories": names})),
        Err(error) => failure(&error, "NAME_UNKNOWN", "NAME_INVALID"),
    }
}

fn tags(share: &Share, request: &Request, name: &str) -> Response {
    match share.tags(name) {
        Ok(Some(all)) => listed(request, all, |tags| json!({"name": name, "tags": tags})),
        Ok(None) => refusal(404, "NAME_UNKNOWN", "there is no image of that name"),
        Err(error) => failure(&error, "NAME_UNKNOWN", "NAME_INVALID"),
    }
}

fn manifest(share: &Share, name: &str, target: &str) -> Response {
    match share.manifest(name, target) {
        Ok(Some(found)) => Response::new(200)
            .with("Content-Type", found.media_type)
            .with("Docker-Content-Digest", found.digest)
            .carrying(Payload::Bytes(found.bytes)),
        Ok(None) => refusal(404, "MANIFEST_UNKNOWN", "there is no image of that name"),
        Err(error) => failure(&error, "MANIFEST_UNKNOWN", "DIGEST_INVALID"),
    }
}

/// The part that `Range` asks for: offset and length. `None`: not one that can be given.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from.parse::<u64>(), to) {
        (Ok(from), "") => (from, size.checked_sub(1)?),
        (Ok(from), to) => (from, to.parse::<u64>().ok()?.min(size.checked_sub(1)?)),
        (Err(_), to) if from.is_empty() => (size.saturating_sub(to.parse().ok()?), size.checked_sub(1)?),
        _ => return None,
    };
    (from <= to).then(|| (from, to - from + 1))
}

fn blob(share: &Share, request: &Request, digest: &str) -> Response {
    let found = match share.blob(digest) {
        Ok(Some(found)) => found,
        Ok(None) => return refusal(404, "BLOB_UNKNOWN", "there is no such blob"),
        Err(error) => return failure(&error, "BLOB_UNKNOWN", "DIGEST_INVALID"),
    };
    let size = found.size;
    let make = |status, offset, length| {
        Response::new(status)
            .with("Content-Type", "application/octet-stream")
            .with("Docker-Content-Digest", digest)
            .with("Accept-Ranges", "bytes")
            .carrying(Payload::File(found.file, offset, length))
    };
    match request.header("range").filter(|text| text.starts_with("bytes=") && !text.contains(',')) {
        None => make(200, 0, size),
        Some(text) => match range(text, size) {
            Some((offset, length)) => make(206, offset, length)
                .with("Content-Range", format!("bytes {offset}-{}/{size}", offset + length - 1)),
            None => refusal(416, "RANGE_INVALID", "the blob has no such part")
                .with("Content-Range", format!("bytes */{size}")),
        },
    }
}

fn referrers(share: &Share, request: &Request, name: &str, digest: &str) -> Response {
    let wanted = request.parameter("artifactType");
    match share.referrers(name, digest) {
        Ok(mut found) => {
            found.retain(|one| wanted.is_none() || one.artifact_type.as_deref() == wanted);
            let index = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": found,
            });
            let bytes = index.to_string().into_bytes();
            let response = Response::new(200)
                .with("Content-Type", "application/vnd.oci.image.index.v1+json")
                .carrying(Payload::Bytes(bytes));
            match wanted {
                Some(_) => response.with("OCI-Filters-Applied", "artifactType"),
                None => response,
            }
        }
        Err(error) => failure(&error, "MANIFEST_UNKNOWN", "DIGEST_INVALID"),
    }
}

fn put_manifest(share: &Share, request: &Request, body: &mut Body<'_>, name: &str, target: &str) -> Response {
    let mut bytes = Vec::new();
    if let Err(error) = body.take(MAX_MANIFEST + 1).read_to_end(&mut bytes) {
        return refusal(400, "MANIFEST_INVALID", &error.to_string());
    }
    if bytes.len() as u64 > MAX_MANIFEST {
        return refusal(413, "SIZE_INVALID", "a manifest has at most 4 MiB");
    }
    let media_type = request.header("content-type").map(|text| text.split(';').next().unwrap_or(text).trim());
    match share.put_manifest(name, target, media_type, bytes) {
        Ok(digest) => Response::new(201)
            .with("Location", format!("/v2/{name}/manifests/{digest}"))
            .with("Docker-Content-Digest", digest),
        Err(error) => failure(&error, "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID"),
    }
}

fn progress(status: u16, name: &str, id: &str, size: u64) -> Response {
    Response::new(status)
        .with("Location", format!("/v2/{name}/blobs/uploads/{id}"))
        .with("Range", format!("0-{}", size.saturating_sub(1)))
        .with("Docker-Upload-UUID", id)
}

fn stored(name: &str, digest: &str) -> Response {
    Response::new(201)
        .with("Location", format!("/v2/{name}/blobs/{digest}"))
        .with("Docker-Content-Digest", digest)
}

fn begin(share: &Share, request: &Request, body: &mut Body<'_>, name: &str) -> Response {
    let bad = |error: &Error| failure(error, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID");
    if let Some(digest) = request.parameter("mount") {
        match share.keep(digest) {
            Ok(true) => return stored(name, digest),
            Ok(false) => {}
            Err(error) => return failure(&error, "BLOB_UNKNOWN", "DIGEST_INVALID"),
        }
    }
    let id = match share.begin_upload() {
        Ok(id) => id,
        Err(error) => return bad(&error),
    };
    match request.parameter("digest") {
        None => progress(202, name, &id, 0),
        Some(digest) => complete(share, body, name, &id, digest),
    }
}

/// Takes the rest of an upload and ends it.
fn complete(share: &Share, body: &mut Body<'_>, name: &str, id: &str, digest: &str) -> Response {
    let done = share.append(id, body).and_then(|_| share.finish_upload(id, digest));
    match done {
        Ok(()) => stored(name, digest),
        Err(error) => {
            let _ = share.cancel_upload(id);
            failure(&error, "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID")
        }
    }
}

/// Whether a piece begins where the upload ends; the answer where it does not.
fn in_order(share: &Share, request: &Request, name: &str, id: &str) -> Result<(), Box<Response>> {
    let size = share
        .upload_size(id)
        .map_err(|error| Box::new(failure(&error, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID")))?;
    let Some(text) = request.header("content-range") else { return Ok(()) };
    let start = text.trim_start_matches("bytes ").split('-').next().and_then(|start| start.parse().ok());
    if start == Some(size) { Ok(()) } else { Err(Box::new(progress(416, name, id, size))) }
}

fn append(share: &Share, request: &Request, body: &mut Body<'_>, name: &str, id: &str) -> Response {
    if let Err(refused) = in_order(share, request, name, id) {
        return *refused;
    }
    match share.append(id, body) {
        Ok(size) => progress(202, name, id, size),
        Err(error) => failure(&error, "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"),
    }
}

fn finish(share: &Share, request: &Request, body: &mut Body<'_>, name: &str, id: &str) -> Response {
    if let Err(refused) = in_order(share, request, name, id) {
        return *refused;
    }
    match request.parameter("digest") {
        Some(digest) => complete(share, body, name, id, digest),
        None => refusal(400, "DIGEST_INVALID", "the digest is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_names_of_any_depth() {
        assert_eq!(route("/v2/"), Some(Route::Base));
        assert_eq!(route("/v2/_catalog"), Some(Route::Catalog));
        assert_eq!(route("/v2/a/b/tags/list"), Some(Route::Tags("a/b")));
        assert_eq!(route("/v2/a/manifests/1"), Some(Route::Manifest("a", "1")));
        assert_eq!(route("/v2/manifests/manifests/1"), Some(Route::Manifest("manifests", "1")));
        assert_eq!(route("/v2/a/b/c/blobs/sha256:x"), Some(Route::Blob("a/b/c", "sha256:x")));
        assert_eq!(route("/v2/a/blobs/uploads/"), Some(Route::Uploads("a")));
        assert_eq!(route("/v2/a/blobs/uploads/id"), Some(Route::Upload("a", "id")));
        assert_eq!(route("/v2/a/referrers/d"), Some(Route::Referrers("a", "d")));
        assert_eq!(route("/v1/a"), None);
        assert_eq!(route("/v2/a"), None);
    }

    #[test]
    fn ranges() {
        assert_eq!(range("bytes=0-", 10), Some((0, 10)));
        assert_eq!(range("bytes=3-5", 10), Some((3, 3)));
        assert_eq!(range("bytes=3-99", 10), Some((3, 7)));
        assert_eq!(range("bytes=-4", 10), Some((6, 4)));
        for bad in ["bytes=10-", "bytes=5-3", "bytes=x-", "bytes=", "lines=1-2", "bytes=0-"] {
            let size = if bad == "bytes=0-" { 0 } else { 10 };
            assert_eq!(range(bad, size), None, "{bad}");
        }
    }
}
