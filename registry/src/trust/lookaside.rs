//! Lookaside places: `BASE/REPOSITORY@ALGORITHM=HEX/signature-N`, N from 1 until one is missing.

use super::registries_d::Place;
use super::signature::{Budget, MAX_SIGNATURE, MAX_SIGNATURES, Signature};
use crate::client::{ClientOptions, Download, download};
use crate::{Error, Result, files};
use oci::Digest;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// What the name of a signature that is being written begins with.
const TEMPORARY: &str = ".signature.";
/// A signature that was not finished for so long never will be.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What follows the address of a repository.
fn suffix(digest: &Digest) -> String {
    format!("@{}={}", digest.algorithm().as_str(), digest.hex())
}

fn parse(bytes: &[u8], what: &str) -> Result<Signature> {
    Signature::parse(bytes).map_err(|message| Error::Signing { what: what.to_owned(), message })
}

/// Reads the signatures of a manifest.
pub(crate) fn read_place(place: &Place, digest: &Digest, options: &ClientOptions) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    let mut budget = Budget::default();
    for number in 1..=MAX_SIGNATURES {
        let (bytes, what) = match place {
            Place::Directory(path) => {
                let path = Path::new(&format!("{}{}", path.display(), suffix(digest)))
                    .join(format!("signature-{number}"));
                (files::read_optional(&path, MAX_SIGNATURE)?, path.display().to_string())
            }
            Place::Server(url) => {
                let url = format!("{url}{}/signature-{number}", suffix(digest));
                (fetch(&url, options)?, url)
            }
        };
        let Some(bytes) = bytes else { break };
        budget.take(bytes.len() as u64, &what)?;
        found.push(parse(&bytes, &what)?);
    }
    Ok(found)
}

fn fetch(url: &str, options: &ClientOptions) -> Result<Option<Vec<u8>>> {
    let failed = || Error::stream(format!("read {url}"));
    let mut file = sys::memfd::scratch("davit-signature").map_err(failed())?;
    let seen = file.try_clone().map_err(failed())?;
    let too_large = || seen.metadata().is_ok_and(|metadata| metadata.len() > MAX_SIGNATURE);
    let request =
        Download { url, etag: None, last_modified: None, authorization: None, cancelled: &too_large };
    match download(options, &request, &mut file) {
        Ok(_) => {}
        Err(Error::Status { status: 404 | 410, .. }) => return Ok(None),
        Err(_) if too_large() => {
            return Err(Error::TooLarge { what: url.to_owned(), limit: MAX_SIGNATURE });
        }
        Err(error) => return Err(error),
    }
    file.rewind().map_err(failed())?;
    let mut bytes = Vec::new();
    file.take(MAX_SIGNATURE).read_to_end(&mut bytes).map_err(failed())?;
    Ok(Some(bytes))
}

impl Place {
    /// Adds signatures of a manifest behind those that are there; equal ones stay single.
    pub fn write(&self, digest: &Digest, signatures: &[Signature]) -> Result<()> {
        write_place(self, digest, signatures)
    }
}

/// Adds signatures of a manifest behind those that are there; equal ones stay single.
pub(crate) fn write_place(place: &Place, digest: &Digest, signatures: &[Signature]) -> Result<()> {
    let path = match place {
        Place::Directory(path) => path,
        Place::Server(url) => {
            return Err(Error::Signing {
                what: format!("write signatures to {url}"),
                message: "servers are only read: set lookaside-staging to a file:/// address in registries.d"
                    .to_owned(),
            });
        }
    };
    let directory = Path::new(&format!("{}{}", path.display(), suffix(digest))).to_owned();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&directory)
        .map_err(Error::file("create directory", &directory))?;
    for signature in signatures {
        add(&directory, "", &signature.to_bytes())?;
    }
    Ok(())
}

/// Removes what a killed writer left. Nothing depends on it, so that a failure is no matter.
fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let own = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if own && age().is_some_and(|age| age > ABANDONED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes `PREFIXsignature-N` with the first N that is free, unless one has the same bytes.
pub(crate) fn add(directory: &Path, prefix: &str, bytes: &[u8]) -> Result<()> {
    sweep(directory);
    // Whole before it has its name: a reader takes what it finds.
    let temporary = directory.join(format!("{TEMPORARY}{}.tmp", files::random_hex()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)
            .map_err(Error::file("create", &temporary))?;
        file.write_all(bytes).map_err(Error::file("write", &temporary))?;
        file.sync_data().map_err(Error::file("sync", &temporary))?;
        for number in 1..=MAX_SIGNATURES {
            let path = directory.join(format!("{prefix}signature-{number}"));
            match std::fs::hard_link(&temporary, &path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if files::read_optional(&path, MAX_SIGNATURE)?.as_deref() == Some(bytes) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(Error::file("link", &path)(error)),
            }
        }
        Err(Error::Signing {
            what: format!("write a signature to {}", directory.display()),
            message: format!("it has {MAX_SIGNATURES} signatures already: remove some"),
        })
    })();
    // a name that nothing reads; the next writer chooses another
    let _ = std::fs::remove_file(&temporary);
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn signatures_are_added_and_read_until_one_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::Directory(dir.path().join("ns/repo"));
        let digest = Digest::of(b"m");
        let options = ClientOptions::default();
        assert_eq!(read_place(&place, &digest, &options).unwrap(), []);
        let [one, two] = [1, 2].map(|byte| Signature::Simple(vec![0x90, byte]));
        for signature in [&one, &two, &one] {
            write_place(&place, &digest, std::slice::from_ref(signature)).unwrap();
        }
        assert_eq!(read_place(&place, &digest, &options).unwrap(), [one, two]);
        let directory = dir.path().join(format!("ns/repo@sha256={}", digest.hex()));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2);
        let old = std::time::SystemTime::now() - 2 * ABANDONED;
        for (name, time) in [(".signature.old.tmp", Some(old)), (".signature.new.tmp", None)] {
            let file = std::fs::File::create(directory.join(name)).unwrap();
            if let Some(time) = time {
                file.set_modified(time).unwrap();
            }
        }
        write_place(&place, &digest, &[Signature::Simple(vec![0x90, 3])]).unwrap();
        assert!(
            !directory.join(".signature.old.tmp").exists() && directory.join(".signature.new.tmp").exists()
        );
        std::fs::write(directory.join("signature-1"), "text").unwrap();
        assert!(read_place(&place, &digest, &options).is_err());
    }
}
