//! `artifact extract`.

use super::{Artifacts, TITLE};
use crate::{Error, Result};
use oci::Descriptor;
use registry::transport::Verified;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Write an artifact's files.
#[derive(Debug, Clone, Default)]
pub struct ArtifactExtractRequest {
    /// The artifact.
    pub name: String,
    /// A directory, or the file to write.
    pub path: PathBuf,
    /// Only the file of this title.
    pub title: Option<String>,
    /// Only the file of this digest.
    pub digest: Option<String>,
}

impl Artifacts<'_> {
    /// Writes files of an artifact; what is there is replaced, each file as a whole. Returns what was written.
    pub fn extract(&self, request: &ArtifactExtractRequest) -> Result<Vec<PathBuf>> {
        let record = self.find(&request.name)?;
        let mut layers = self.layers(&record)?;
        if request.title.is_some() && request.digest.is_some() {
            return Err(Error::invalid("--title with --digest", "a file is chosen by one of them"));
        }
        if let Some(title) = &request.title {
            layers.retain(|layer| layer.annotations.get(TITLE) == Some(title));
            if layers.is_empty() {
                return Err(Error::NotFound { what: "title in the artifact", name: title.clone() });
            }
        }
        if let Some(wanted) = &request.digest {
            let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
            layers.retain(|layer| !hex.is_empty() && layer.digest.hex().starts_with(hex));
            if layers.is_empty() {
                return Err(Error::NotFound { what: "digest in the artifact", name: wanted.clone() });
            }
        }
        if layers.is_empty() {
            return Err(Error::invalid(format!("artifact {}", request.name), "it has no files"));
        }
        let files: Vec<(Descriptor, PathBuf)> = if request.path.is_dir() {
            // every name is looked at before the first file is written
            let named = |layer: Descriptor| Ok((layer.clone(), request.path.join(file_name(&layer)?)));
            layers.into_iter().map(named).collect::<Result<_>>()?
        } else {
            if layers.len() > 1 {
                return Err(Error::invalid(
                    format!("artifact {}", request.name),
                    "it has several files: name a directory that exists, or choose one by --title or --digest",
                ));
            }
            layers.into_iter().map(|layer| (layer, request.path.clone())).collect()
        };
        for (at, (_, path)) in files.iter().enumerate() {
            if files[..at].iter().any(|(_, other)| other == path) {
                return Err(Error::invalid(
                    format!("artifact {}", request.name),
                    format!("two files have the name {}: choose one by --digest", path.display()),
                ));
            }
        }
        for (layer, path) in &files {
            self.write(layer, path)?;
        }
        Ok(files.into_iter().map(|(_, path)| path).collect())
    }

    fn write(&self, layer: &Descriptor, path: &Path) -> Result<()> {
        let store = self.engine.store()?;
        let failed = |error| Error::os(format!("write {}", path.display()), error);
        let blob = store
            .content()
            .open(&layer.digest)
            .map_err(crate::error::storage(format!("read {}", layer.digest)))?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let mut out = File::create_new(&temporary).map_err(failed)?;
        let mut reader = Verified::new(blob, layer.clone(), "the local store".to_owned());
        let done = std::io::copy(&mut reader, &mut out).and_then(|_| std::fs::rename(&temporary, path));
        done.map_err(|error| {
            // the failure that is told is the first one
            let _ = std::fs::remove_file(&temporary);
            failed(error)
        })
    }
}

/// The name of a file in a directory: its title, which must not lead out of it, else its digest.
fn file_name(layer: &Descriptor) -> Result<String> {
    let Some(title) = layer.annotations.get(TITLE) else {
        return Ok(layer.digest.to_string().replace(':', "-"));
    };
    let odd = title.is_empty() || title == "." || title == ".." || title.contains(['/', '\0']);
    if odd {
        return Err(Error::invalid(
            format!("title {title:?}"),
            "it is no name of a file in a directory: extract it to a file, with --digest",
        ));
    }
    Ok(title.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn titles_do_not_lead_out_of_the_directory() {
        let layer = |title: Option<&str>| {
            let mut layer = Descriptor::of("text/plain", b"x");
            layer.annotations.extend(title.map(|title| (TITLE.to_owned(), title.to_owned())));
            layer
        };
        assert_eq!(file_name(&layer(Some("a b.txt"))).unwrap(), "a b.txt");
        assert!(file_name(&layer(None)).unwrap().starts_with("sha256-2d711642"));
        for title in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b"] {
            assert!(file_name(&layer(Some(title))).is_err(), "{title:?}");
        }
    }
}
